import { expect, onTestFinished, test } from "vitest";
import { openKernel, RTPROT_PODLANE } from "../kernel/index.ts";
import { addVeth, describeKernel, type TestNetns, testNetns } from "../kernel/testnetns.ts";
import { systemClock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { Gateways, readGateways } from "./gateways.ts";

const log: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
const ours = () => new Set([RTPROT_PODLANE]);

function world(): { ns: TestNetns; gateways: Gateways; changes: () => number; read: () => Promise<string[]> } {
  const ns = testNetns();
  addVeth(ns);
  const kernel = openKernel({ netns: ns.path });
  let count = 0;
  const common = { kernel, clock: systemClock, log, ours };
  const gateways = new Gateways({ ...common, changed: () => count++ });
  onTestFinished(() => {
    gateways.close();
    kernel.close();
  });
  return { ns, gateways, changes: () => count, read: async () => (await readGateways(common)).map(textOf) };
}

const textOf = ({ family, address, interface: link }: { family: number; address: string; interface: string }) =>
  `${family} ${address} ${link}`;

describeKernel("default gateways", () => {
  test("are all next hops of all default routes in the main table, the best first, and none of ours", async () => {
    const { ns, read } = world();
    ns.ip("addr add 10.2.2.2/24 dev v1");
    expect(await read()).toEqual([]);
    ns.ip("route add default metric 20 nexthop via 10.1.1.9 nexthop via 10.2.2.1");
    ns.ip("route add default via 10.1.1.8 metric 10 proto dhcp");
    ns.ip("route add default via 10.1.1.7 metric 5 proto 201");
    ns.ip("route add default via 10.1.1.6 table 77");
    ns.ip("route add default via 10.1.1.5 tos 0x10");
    ns.ip("route add 0.0.0.0/1 via 10.1.1.4");
    ns.ip("route add unreachable default metric 4000");
    ns.ip("-6 route add default via fe80::1 dev v1 proto ra metric 1024");
    ns.ip("-6 route add default via fd00:1::9 metric 512");
    ns.ip("-4 route add default via inet6 fe80::2 dev v0 metric 30");
    expect(await read()).toEqual(["4 10.1.1.8 v0", "4 10.1.1.9 v0", "4 10.2.2.1 v1", "4 fe80::2 v0", "6 fd00:1::9 v0", "6 fe80::1 v1"]);
  });

  test("are followed: a route that comes, one that goes with its link, and not those that we write", async () => {
    const { ns, gateways, changes } = world();
    expect(gateways.known).toBeUndefined();
    await gateways.follow();
    expect(gateways.known).toEqual([]);
    const within = { timeout: 10_000, interval: 20 };
    const known = () => gateways.known?.map(textOf);
    ns.ip("route add default via 10.1.1.9");
    await expect.poll(known, within).toEqual(["4 10.1.1.9 v0"]);
    for (let at = 0; at < 20; at++) ns.ip(`route add 10.9.${at}.0/24 via 10.1.1.7 proto 201`);
    ns.ip("route add default via 10.1.1.7 proto 201 metric 7");
    ns.ip("link set v0 down");
    await expect.poll(known, within).toEqual([]);
    expect(changes()).toBe(2);
    ns.ip("link set v0 up");
    ns.ip("route add default nexthop via 10.1.1.9 nexthop via 10.1.1.8");
    await expect.poll(known, within).toEqual(["4 10.1.1.8 v0", "4 10.1.1.9 v0"]);
    gateways.close();
    expect(gateways.known).toBeUndefined();
  });
});
