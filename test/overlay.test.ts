/** Tunnels by next hops: a speaker, an overlay and a kernel, with sessions in memory. Needs root on Linux. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { PROTOCOL, TestNamespace } from "../bgpd/fib/testing.ts";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "../bgpd/testing/memory-speakers.ts";
import { Overlay } from "../overlay/overlay.ts";
import type { OverlayPlan } from "../overlay/types.ts";

const families = { "ipv4-unicast": accepting, "ipv6-unicast": accepting };
const fib = { enabled: true, table: 254, protocol: PROTOCOL, metric: 50 };
const [own, near, far, router] = ["10.0.0.1", "10.0.0.7", "10.9.0.2", "10.0.1.2"];

let world: MemoryWorld;
let ns: TestNamespace;
let overlay: Overlay;
let us: MemorySpeaker;
const plan: OverlayPlan = {
  mode: "CrossSubnet",
  vni: 20179,
  port: 4789,
  checksumOffload: "Auto",
  local: [own],
  sources: ["10.244.1.1"],
  nodes: [
    { name: "near", addresses: [near] },
    { name: "far", addresses: [far] },
  ],
};

/** Three neighbours: a node on a link of ours, one behind a router, and that router, which is no node. */
beforeEach(() => {
  world = new MemoryWorld();
  ns = new TestNamespace();
  ns.ip(`route add 10.9.0.0/16 via ${router}`);
  const kernel = ns.kernel();
  overlay = new Overlay({ kernel, clock: world.clock, log: { info() {}, warn() {} } });
  overlay.apply(plan);
  expect(overlay.problems()).toEqual([]);
  const neighbors = [near, far, router].map(address => neighborAt(address, 65001, { families }));
  const multipath = { ebgp: 8, ibgp: 8, asPathRelax: false };
  const change = { routerId: "192.0.2.1", asn: 65001, neighbors, multipath, fib, startupWait: 20 };
  us = world.speaker(own, change, kernel, undefined, undefined, overlay);
  us.apply();
});
afterEach(async () => {
  overlay.close();
  await world.close();
  ns.remove();
});

let last = 2;
function announce(address: string, ...prefixes: string[]): MemorySpeaker {
  const networks = prefixes.map(prefix => network(prefix));
  const change = { routerId: `192.0.2.${last++}`, asn: 65001, networks, neighbors: [neighborAt(own, 65001, { families })] };
  const speaker = world.speaker(address, change);
  speaker.apply();
  return speaker;
}

const become = (prefix: string, route: string) =>
  expect
    .poll(() => world.later(() => ns.routes(prefix).map(line => line.replace(/ proto.*metric \d+/, ""))), { timeout: 10_000 })
    .toEqual(route === "" ? [] : [route]);

test("a node on a link of ours is reached as it is, one behind a router through the tunnel, and who is no node as ever", async () => {
  announce(near, "10.244.2.0/24");
  announce(far, "10.244.3.0/24");
  announce(router, "192.0.2.0/24");
  await become("10.244.2.0/24", `10.244.2.0/24 via ${near} dev v0`);
  await become("10.244.3.0/24", `10.244.3.0/24 via ${far} dev podlane.vx4 onlink`);
  await become("192.0.2.0/24", `192.0.2.0/24 via ${router} dev v1`);
  // What the node itself sends there is answered through the tunnel.
  expect(ns.ip("route get 10.244.3.9")).toContain("src 10.244.1.1");
  expect(us.speaker.explain("10.244.3.9").kernel).toMatchObject({
    installed: true,
    text: `via ${far} dev podlane.vx4: through the tunnel to node far`,
  });
  expect(us.speaker.explain("10.244.2.9").kernel.text).toBe(`via ${near} dev v0`);
  const reasons = ["10.244.3.9", "10.244.2.9"].map(address => us.speaker.explain(address).candidates[0].reason);
  expect(reasons).toEqual(["only route, through the tunnel to node far", "only route"]);
});

test("follows the mode, and comes back", async () => {
  announce(near, "10.244.2.0/24");
  await become("10.244.2.0/24", `10.244.2.0/24 via ${near} dev v0`);
  overlay.apply({ ...plan, mode: "Always" });
  await become("10.244.2.0/24", `10.244.2.0/24 via ${near} dev podlane.vx4 onlink`);
  overlay.apply(undefined);
  await become("10.244.2.0/24", `10.244.2.0/24 via ${near} dev v0`);
});

test("follows a node that comes onto a link of ours, and leaves it", async () => {
  announce(far, "10.244.3.0/24");
  const tunnelled = `10.244.3.0/24 via ${far} dev podlane.vx4 onlink`;
  await become("10.244.3.0/24", tunnelled);
  ns.ip("addr add 10.9.0.1/24 dev v0");
  await become("10.244.3.0/24", `10.244.3.0/24 via ${far} dev v0`);
  ns.ip("addr del 10.9.0.1/24 dev v0");
  await become("10.244.3.0/24", tunnelled);
});

test("a node that is not reached has no tunnel, and its routes are not used", async () => {
  announce(far, "10.244.3.0/24");
  await become("10.244.3.0/24", `10.244.3.0/24 via ${far} dev podlane.vx4 onlink`);
  ns.ip(`route del 10.9.0.0/16 via ${router}`);
  await become("10.244.3.0/24", "");
  expect(us.speaker.routesNow({ prefix: "10.244.3.0/24" }).routes[0].reason).toBe("next hop unreachable: no route");
});

test("follows a device that somebody removed", async () => {
  announce(far, "10.244.3.0/24");
  const tunnelled = `10.244.3.0/24 via ${far} dev podlane.vx4 onlink`;
  await become("10.244.3.0/24", tunnelled);
  ns.ip("link del podlane.vx4");
  await become("10.244.3.0/24", tunnelled);
});

test("a route that tunnels themselves need goes without one, and goes through one when the node is no end any more", async () => {
  announce(far, "10.9.0.0/24", "10.9.0.2/32", "10.244.3.0/24");
  await become("10.244.3.0/24", `10.244.3.0/24 via ${far} dev podlane.vx4 onlink`);
  await become("10.9.0.2", `10.9.0.2 via ${router} dev v1`);
  const other = { name: "other", addresses: ["10.8.0.5"] };
  const second = announce(near, "10.8.0.0/24");
  overlay.apply({ ...plan, mode: "Always" });
  await become("10.8.0.0/24", `10.8.0.0/24 via ${near} dev podlane.vx4 onlink`);
  overlay.apply({ ...plan, mode: "Always", nodes: [...plan.nodes, other] });
  await become("10.8.0.0/24", `10.8.0.0/24 via ${near} dev v0`);
  overlay.apply({ ...plan, mode: "Always" });
  await become("10.8.0.0/24", `10.8.0.0/24 via ${near} dev podlane.vx4 onlink`);
  second.apply({ networks: [] });
  await become("10.8.0.0/24", "");
});

test("what is behind a pod of another node goes through that node's tunnel", async () => {
  announce(far, "10.244.3.0/24");
  us.apply({ neighbors: [...us.config.neighbors, neighborAt("10.244.3.9", 65002, { families, multihop: 255 })] });
  const change = {
    routerId: "192.0.2.99",
    asn: 65002,
    networks: [network("203.0.113.0/24")],
    neighbors: [neighborAt(own, 65001, { families })],
  };
  world.speaker("10.244.3.9", change).apply();
  await become("203.0.113.0/24", `203.0.113.0/24 via ${far} dev podlane.vx4 onlink`);
});

test("pods of a family that the nodes do not have: a next hop that stands for an end follows the end's way", async () => {
  overlay.apply({ ...plan, nodes: [{ name: "far", addresses: [far], aliases: ["2001:db8:244:3::1"] }] });
  const node = announce(far);
  node.apply({ networks: [network("2001:db8:244:3::/64", { nextHop: "2001:db8:244:3::1" })] });
  const tunnelled = "2001:db8:244:3::/64 via fe80::6c34:aff:fe09:2 dev podlane.vx4";
  await become("2001:db8:244:3::/64", tunnelled);
  expect(us.speaker.explain("2001:db8:244:3::9").kernel.text).toMatch(/: through the tunnel to node far$/);
  ns.ip(`route del 10.9.0.0/16 via ${router}`);
  await become("2001:db8:244:3::/64", "");
  ns.ip(`route add 10.9.0.0/16 via ${router}`);
  await become("2001:db8:244:3::/64", tunnelled);
  // The node has another address by now.
  overlay.apply({ ...plan, nodes: [{ name: "far", addresses: ["10.9.0.3"], aliases: ["2001:db8:244:3::1"] }] });
  await become("2001:db8:244:3::/64", "2001:db8:244:3::/64 via fe80::6c34:aff:fe09:3 dev podlane.vx4");
  overlay.apply({ ...plan, nodes: [{ name: "far", addresses: [far] }] });
  await become("2001:db8:244:3::/64", "");
});

test("ends of IPv6 on a link of ours, which the kernel could reach by that link", async () => {
  const [end, other] = ["2001:db8::1", "2001:db8::7"];
  overlay.apply({ ...plan, mode: "Always", local: [own, end], nodes: [{ name: "six", addresses: [other] }] });
  us.apply({ neighbors: [neighborAt(other, 65001, { families })] });
  const change = {
    routerId: "192.0.2.77",
    asn: 65001,
    networks: [network("2001:db8:244:7::/64")],
    neighbors: [neighborAt(own, 65001, { families })],
  };
  world.speaker(other, change).apply();
  await expect.poll(() => world.later(() => ns.routes("2001:db8:244:7::/64").join())).toMatch(/via fe80::6c\S+ dev podlane\.vx6 /);
  expect(us.speaker.explain("2001:db8:244:7::9").kernel.text).toMatch(/: through the tunnel to node six$/);
  overlay.apply({ ...plan, local: [own, end], nodes: [{ name: "six", addresses: [other] }] });
  await expect.poll(() => world.later(() => ns.routes("2001:db8:244:7::/64").join())).toMatch(/via 2001:db8::7 dev v0 /);
});
