import { expect, onTestFinished, test } from "vitest";
import { formatAddress, parseAddress, uint32ToAddress } from "../net/address.ts";
import { RTPROT_KERNEL, RTPROT_PODLANE } from "./constants.ts";
import { type WatchOptions, watchKernel } from "./monitor.ts";
import { addVeth, describeKernel, mac, testNetns } from "./testnetns.ts";
import type { KernelEvent, RouteChange } from "./types.ts";

/** Collects events; until() resolves with all of them once one satisfies the condition. */
function watch(options: WatchOptions) {
  const events: KernelEvent[] = [];
  const bursts: number[] = [];
  let check = () => {};
  const { close: stop } = watchKernel(options, batch => {
    bursts.push(batch.length);
    events.push(...batch);
    check();
  });
  onTestFinished(stop);
  const until = (condition: (event: KernelEvent) => boolean) =>
    new Promise<KernelEvent[]>(resolve => {
      check = () => {
        if (events.some(condition)) resolve(events);
      };
      check();
    });
  return { events, bursts, until, stop };
}

/** "new link v0", "delete route 10.2.0.0/16", … */
function line(event: KernelEvent): string {
  if (event.type === "link") return `${event.action} link ${event.link.name} ${event.link.up ? "up" : "down"}`;
  if (event.type === "address") return `${event.action} address ${formatAddress(event.address.address)}`;
  if (event.type === "route")
    return `${event.action} route ${formatAddress(event.route.destination)}/${event.route.length} ${event.route.protocol}`;
  if (event.type === "neighbour") return `${event.action} neighbour ${event.neighbour.address && formatAddress(event.neighbour.address)}`;
  return event.type;
}

describeKernel("events", () => {
  test("links, addresses, routes and neighbours of both families are reported in order", async () => {
    const netns = testNetns();
    const { until } = watch({ netns: netns.path, topics: ["link", "address", "route", "neighbour"] });
    const ifindex = addVeth(netns);
    const hop = (gateway: string) => [{ gateway: parseAddress(gateway), ifindex }];
    const common = { protocol: RTPROT_PODLANE };
    netns.netlink.addRoute({ ...common, family: 4, destination: parseAddress("10.2.0.0"), length: 16, nextHops: hop("10.1.1.1") });
    netns.netlink.addRoute({
      ...common,
      family: 6,
      destination: parseAddress("fd02::"),
      length: 64,
      nextHops: [...hop("fd00:1::7"), ...hop("fd00:1::8")],
    });
    netns.netlink.setNeighbour({
      family: 4,
      ifindex,
      address: parseAddress("10.1.1.9"),
      linkAddress: mac("02:00:00:00:00:09"),
      state: 0x80,
      flags: 0,
    });
    netns.netlink.deleteRoute({ family: 4, destination: parseAddress("10.2.0.0"), length: 16 });
    netns.netlink.deleteAddress({ ifindex, address: parseAddress("10.1.1.2"), prefixLength: 24 });
    netns.netlink.deleteLink(ifindex);
    const events = await until(event => line(event).startsWith("delete link v0"));
    const lines = events.map(line);
    const positions = [
      "new link v0 up",
      "new address 10.1.1.2",
      "new address fd00:1::2",
      "new route 10.2.0.0/16 201",
      "new route fd02::/64 201",
      "new neighbour 10.1.1.9",
      "delete route 10.2.0.0/16 201",
      "delete address 10.1.1.2",
      "delete link v0 down",
    ].map(wanted => lines.indexOf(wanted));
    expect(positions).not.toContain(-1);
    expect(positions).toEqual([...positions].sort((a, b) => a - b));
    const multipath = events.find(event => line(event) === "new route fd02::/64 201");
    expect(multipath?.type === "route" && multipath.route.nextHops.length).toBe(2);
  });

  test("leaving a bridge is a change of the link, not its end", async () => {
    const netns = testNetns();
    const { netlink } = netns;
    const ifindex = addVeth(netns);
    const bridge = netlink.addLink({ kind: "bridge", name: "br0" });
    netlink.setLink(ifindex, { master: bridge.index });
    const { until } = watch({ netns: netns.path, topics: ["link"] });
    netlink.setLink(ifindex, { master: 0 });
    netlink.setLink(ifindex, { alias: "end" });
    const events = await until(event => event.type === "link" && event.link.alias === "end");
    expect(events.filter(event => event.type === "link" && event.action === "delete")).toEqual([]);
  });

  test("a burst comes in few calls; topics and own changes can be left out", async () => {
    const netns = testNetns();
    addVeth(netns);
    const { netlink } = netns;
    const all = watch({ netns: netns.path });
    const foreign = watch({ netns: netns.path, ignore: [netlink.port] });
    const links = watch({ netns: netns.path, topics: ["link"] });
    const changes: RouteChange[] = Array.from({ length: 5000 }, (_, i) => ({
      action: "replace",
      route: {
        family: 4,
        destination: uint32ToAddress(0x14000000 + i),
        length: 32,
        protocol: RTPROT_PODLANE,
        nextHops: [{ gateway: parseAddress("10.1.1.1"), ifindex: 0 }],
      },
    }));
    expect(netlink.batchRoutes(changes)).toEqual([]);
    netns.ip("route add 10.77.0.0/16 via 10.1.1.1");
    netns.ip("link set v0 alias end");
    const isEnd = (event: KernelEvent) => event.type === "link" && event.link.alias === "end";
    const events = await all.until(isEnd);
    expect(events.filter(event => event.type === "route" && event.route.protocol === RTPROT_PODLANE).length).toBe(5000);
    expect(all.bursts.length).toBeLessThan(50);
    // The kernel adds its own routes for link-local addresses in its own time.
    const routes = (await foreign.until(isEnd)).filter(event => event.type === "route" && event.route.protocol !== RTPROT_KERNEL);
    expect(routes.map(line)).toEqual(["new route 10.77.0.0/16 3"]);
    expect((await links.until(isEnd)).map(event => event.type)).toEqual(["link"]);
  });

  test("neighbours, which a pod can make up by the thousand, come only to who asks; settings of IP likewise", async () => {
    const netns = testNetns();
    const usual = watch({ netns: netns.path });
    const settings = watch({ netns: netns.path, topics: ["configuration"] });
    addVeth(netns);
    netns.ip("link set v0 up");
    for (let n = 1; n < 200; n++) netns.ip(`neigh add 10.0.0.${n} lladdr 02:00:00:00:00:01 dev v0`);
    netns.run("sh", ["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    await settings.until(event => event.type === "configuration");
    netns.ip("address add 192.0.2.77/32 dev lo");
    const events = await usual.until(event => line(event) === "new address 192.0.2.77");
    expect(events.filter(event => event.type === "neighbour" || event.type === "configuration")).toEqual([]);
    expect(settings.events.every(event => event.type === "configuration")).toBe(true);
  });

  test("more events than the socket holds are an overrun, and later ones still come", async () => {
    const netns = testNetns();
    addVeth(netns);
    const { until } = watch({ netns: netns.path, bufferSize: 1 << 18 });
    const nextHops = [{ gateway: parseAddress("10.1.1.1"), ifindex: 0 }];
    const change = (i: number, action: "replace" | "delete"): RouteChange => ({
      action,
      route: { family: 4, destination: uint32ToAddress(0x14000000 + i), length: 32, protocol: RTPROT_PODLANE, nextHops },
    });
    // Nothing is read meanwhile: the event loop is busy here.
    const each = Array.from({ length: 2000 }, (_, i) => i);
    netns.netlink.batchRoutes(each.map(i => change(i, "replace")));
    netns.netlink.batchRoutes(each.map(i => change(i, "delete")));
    await until(event => event.type === "overrun");
    netns.netlink.setLink(1, { alias: "after" });
    await until(event => event.type === "link" && event.link.alias === "after");
  });

  test("ignored changes take no room in the socket; a change of another owner to the same route comes", async () => {
    const netns = testNetns();
    addVeth(netns);
    const { events, until } = watch({ netns: netns.path, bufferSize: 1 << 18, ignore: [1, netns.netlink.port, 2 ** 32 - 1] });
    const changes = Array.from({ length: 4000 }, (_, i): RouteChange => {
      const nextHops = [{ gateway: parseAddress("10.1.1.1"), ifindex: 0 }];
      const route = { family: 4, destination: uint32ToAddress(0x14000000 + i), length: 32, protocol: RTPROT_PODLANE, nextHops } as const;
      return { action: "add", route };
    });
    // Nothing is read meanwhile: the event loop is busy here.
    expect(netns.netlink.batchRoutes(changes)).toEqual([]);
    netns.ip(`route delete ${formatAddress(changes[7].route.destination)}`);
    const wanted = `delete route ${formatAddress(changes[7].route.destination)}/32 ${RTPROT_PODLANE}`;
    await until(event => line(event) === wanted);
    expect(events.filter(event => event.type === "overrun" || line(event).startsWith("new route 20."))).toEqual([]);
  });

  test("after stop() nothing is reported, and stop() may be called again", async () => {
    const netns = testNetns();
    const stopped = watch({ netns: netns.path });
    const other = watch({ netns: netns.path });
    stopped.stop();
    stopped.stop();
    netns.netlink.setLink(1, { alias: "x" });
    await other.until(event => event.type === "link");
    expect(stopped.events).toEqual([]);
  });
});
