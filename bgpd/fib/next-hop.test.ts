import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { formatAddress, parseAddress } from "../../net/address.ts";
import { systemClock } from "../../platform/clock.ts";
import { createNextHopTracker } from "./next-hop.ts";
import { eventually, PROTOCOL, silent, TestNamespace } from "./testing.ts";
import type { NextHopTracker } from "./types.ts";

let ns: TestNamespace;
let tracker: NextHopTracker;
let changes: number[][];

beforeEach(() => {
  ns = new TestNamespace();
  tracker = createNextHopTracker({ kernel: ns.kernel(), protocols: [PROTOCOL], table: 254, metric: 0, clock: systemClock, log: silent });
  changes = [];
  tracker.onChange(ids => changes.push(ids));
});

afterEach(() => {
  tracker.close();
  ns.remove();
});

const track = (address: string, ifindex = 0) => tracker.track(parseAddress(address), ifindex);

/** "10.0.0.2%v0", or why it is unreachable. */
function way(id: number): string {
  const { reachable, hops, reason } = tracker.resolution(id);
  const name = (ifindex: number) => (ifindex === ns.ifindex("v0") ? "v0" : "v1");
  return reachable ? hops.map(hop => `${formatAddress(hop.gateway!)}%${name(hop.ifindex)}`).join(" ") : reason;
}

const becomes = (id: number, expected: string) => eventually(() => expect(way(id)).toBe(expected));

describe("next hops against a real kernel", () => {
  it("follow routes that come, change and go", async () => {
    const id = track("192.0.2.1");
    const connected = track("10.0.0.2");
    expect([way(id), way(connected), tracker.resolution(connected).metric]).toEqual(["no route", "10.0.0.2%v0", 0]);
    ns.ip("route add default via 10.0.1.2 metric 100");
    await becomes(id, "10.0.1.2%v1");
    expect(tracker.resolution(id)).toMatchObject({ metric: 100, connected: false });
    ns.ip("route add 192.0.2.0/24 via 10.0.0.7 metric 5");
    await becomes(id, "10.0.0.7%v0");
    ns.ip("route replace 192.0.2.0/24 metric 5 nexthop via 10.0.0.7 nexthop via 10.0.1.7");
    await becomes(id, "10.0.0.7%v0 10.0.1.7%v1");
    ns.ip("route del 192.0.2.0/24");
    await becomes(id, "10.0.1.2%v1");
    ns.ip("route del default");
    await becomes(id, "no route");
    expect(changes.flat().filter(changed => changed !== id)).toEqual([]);
    expect(changes).toHaveLength(5);
  });

  it("are never resolved through our own routes", async () => {
    const id = track("192.0.2.1");
    ns.ip(`route add 192.0.2.0/24 via 10.0.0.7 proto ${PROTOCOL}`);
    ns.ip("route add 198.51.100.0/24 via 10.0.0.7 proto static");
    await becomes(track("198.51.100.1"), "10.0.0.7%v0");
    expect(way(id)).toBe("no route");
  });

  it("are lost with their link, and found when it is back", async () => {
    const [v4, v6, far] = [track("10.0.0.2"), track("2001:db8::2"), track("192.0.2.1")];
    ns.ip("route add 192.0.2.0/24 via 10.0.0.7");
    await becomes(far, "10.0.0.7%v0");
    ns.ip("link set v0 down");
    await eventually(() => expect([v4, v6, far].map(way)).toEqual(["no route", "no route", "no route"]));
    ns.ip("link set v0 up");
    ns.ip("addr replace 2001:db8::1/64 dev v0 nodad");
    await eventually(() => expect([v4, v6].map(way)).toEqual(["10.0.0.2%v0", "2001:db8::2%v0"]));
    // The kernel dropped this one for good, and told nobody.
    await becomes(far, "no route");
  });

  it("are lost with the carrier", async () => {
    const [id, linkLocal] = [track("10.0.0.2"), track("fe80::2", ns.ifindex("v0"))];
    expect(way(linkLocal)).toBe("fe80::2%v0");
    ns.ip("link set p0 down");
    await becomes(id, "route 10.0.0.0/24: v0 has no carrier");
    await becomes(linkLocal, "v0 has no carrier");
    ns.ip("link set p0 up");
    await eventually(() => expect([id, linkLocal].map(way)).toEqual(["10.0.0.2%v0", "fe80::2%v0"]));
  });

  it("are found when an address is added later, and lost with it", async () => {
    const id = track("203.0.113.9");
    expect(way(id)).toBe("no route");
    expect(tracker.sharesSubnet(parseAddress("203.0.113.9"), parseAddress("203.0.113.8"))).toBe(false);
    ns.ip("addr add 203.0.113.1/24 dev v1");
    await becomes(id, "203.0.113.9%v1");
    expect(tracker.isLocal(parseAddress("203.0.113.1"))).toBe(true);
    expect(tracker.sharesSubnet(parseAddress("203.0.113.9"), parseAddress("203.0.113.8"))).toBe(true);
    ns.ip("addr del 203.0.113.1/24 dev v1");
    await becomes(id, "no route");
    expect(tracker.isLocal(parseAddress("203.0.113.1"))).toBe(false);
  });

  it("become unreachable when the address is our own", async () => {
    const id = track("10.0.0.2");
    ns.ip("addr add 10.0.0.2/32 dev v1");
    await becomes(id, "it is one of our own addresses");
  });

  it("on one link are not ours because we have the same link-local address on another", async () => {
    ns.ip("addr add fe80::1/64 dev v1 nodad");
    const [router, own] = [track("fe80::1", ns.ifindex("v0")), track("fe80::1", ns.ifindex("v1"))];
    await becomes(own, "it is one of our own addresses");
    expect(way(router)).toBe("fe80::1%v0");
    // The kernel thinks so, too.
    ns.ip("-6 route add 2001:db8:77::/48 via fe80::1 dev v0");
  });

  it("are forgotten with a link that is deleted", async () => {
    const [id, linkLocal] = [track("10.0.0.2"), track("fe80::2", ns.ifindex("v0"))];
    ns.ip("link del v0");
    await eventually(() => expect(tracker.resolution(id).reason).toBe("no route"));
    expect(tracker.resolution(linkLocal).reason).toMatch(/is gone$/);
  });

  it("count references: one id for one next hop, free after the last release", () => {
    const id = track("10.0.0.2");
    expect(track("10.0.0.2")).toBe(id);
    expect(track("10.0.0.3")).not.toBe(id);
    tracker.release(id);
    expect(way(id)).toBe("10.0.0.2%v0");
    tracker.release(id);
    expect(() => tracker.resolution(id)).toThrow("is not tracked");
    expect(track("10.0.0.9")).toBe(id);
  });

  it.each([
    ["append", "192.0.2.0/24", "192.0.2.1", ["10.0.0.7", "10.0.1.7", "10.0.0.8"]],
    ["prepend", "192.0.2.0/24", "192.0.2.1", ["10.0.0.7", "10.0.1.7", "10.0.0.8"]],
    ["append", "2001:db8:9::/48", "2001:db8:9::1", ["2001:db8::7", "2001:db8:0:1::7", "2001:db8::8"]],
    ["prepend", "2001:db8:9::/48", "2001:db8:9::1", ["2001:db8::7", "2001:db8:0:1::7", "2001:db8::8"]],
  ])("go where the kernel goes with several routes of one prefix and metric: %s %s", async (verb, prefix, address, gateways) => {
    const ip = `-${address.includes(":") ? 6 : 4} route`;
    const kernel = ns.kernel();
    /** What the kernel itself does with a packet; of several ways one, that it chooses by the packet. */
    const agrees = async (id: number) =>
      eventually(() => {
        const found = kernel.netlink.lookup(parseAddress(address));
        const now = found === undefined ? ["no route"] : found.nextHops.map(hop => formatAddress(hop.gateway!));
        const told = way(id);
        expect(now.every(gateway => told.includes(gateway))).toBe(true);
        const later = createNextHopTracker({
          kernel: ns.kernel(),
          protocols: [PROTOCOL],
          table: 254,
          metric: 0,
          clock: systemClock,
          log: silent,
        });
        const read = later.resolution(later.track(parseAddress(address), 0));
        later.close();
        expect(read.hops).toEqual(tracker.resolution(id).hops);
      });
    const id = track(address);
    ns.ip(`${ip} add ${prefix} via ${gateways[0]} metric 50`);
    for (const gateway of gateways.slice(1)) {
      ns.ip(`${ip} ${verb} ${prefix} via ${gateway} metric 50`);
      await eventually(() => expect(ns.routes(prefix).join(" ")).toContain(`via ${gateway} `));
      await agrees(id);
    }
    for (const gateway of [gateways[1], gateways[0], gateways[2]]) {
      ns.ip(`${ip} del ${prefix} via ${gateway} metric 50`);
      await agrees(id);
    }
    await becomes(id, "no route");
  });

  it("are not led astray by a replaced first of several, nor by a route for some packets only", async () => {
    const id = track("192.0.2.1");
    const far = track("2001:db8:9::1");
    ns.ip("route add 192.0.2.0/24 via 10.0.0.7 metric 50");
    ns.ip("route append 192.0.2.0/24 via 10.0.1.7 metric 50");
    ns.ip("route replace 192.0.2.0/24 via 10.0.0.8 metric 50");
    await becomes(id, "10.0.0.8%v0");
    ns.ip("route add 192.0.2.0/24 tos 0x10 via 10.0.1.9 metric 50");
    ns.ip("-6 route add 2001:db8:9::/48 from 2001:db8::1 via 2001:db8::9");
    ns.ip("route del 192.0.2.0/24 tos 0 via 10.0.0.8 metric 50");
    await becomes(id, "10.0.1.7%v1");
    expect(way(far)).toBe("no route");
    ns.ip("route del 192.0.2.0/24 tos 0x10 via 10.0.1.9 metric 50");
    ns.ip("route add 192.0.2.0/25 via 10.0.0.3");
    await becomes(id, "10.0.0.3%v0");
    ns.ip("route del 192.0.2.0/25");
    await becomes(id, "10.0.1.7%v1");
  });

  it("are read at start, IPv4 and IPv6", () => {
    ns.ip("route add 192.0.2.0/24 via 10.0.0.7");
    ns.ip("-6 route add 2001:db8:9::/48 via 2001:db8:0:1::9 metric 50");
    ns.ip("route add unreachable 198.51.100.0/24");
    const later = createNextHopTracker({
      kernel: ns.kernel(),
      protocols: [PROTOCOL],
      table: 1000,
      metric: 0,
      clock: systemClock,
      log: silent,
    });
    const reasons = ["192.0.2.1", "2001:db8:9::1", "198.51.100.1"].map(text => later.resolution(later.track(parseAddress(text), 0)).reason);
    later.close();
    expect(reasons).toEqual([
      "via 10.0.0.7 dev v0 (route 192.0.2.0/24)",
      "via 2001:db8:0:1::9 dev v1 (route 2001:db8:9::/48)",
      "route 198.51.100.0/24 is of type unreachable",
    ]);
  });
});
