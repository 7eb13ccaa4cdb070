import { expect, test } from "vitest";
import { formatAddress, parseAddress, parsePrefix, uint32ToAddress } from "../net/address.ts";
import { RTPROT_KERNEL, RTPROT_PODLANE } from "./constants.ts";
import { NetlinkError } from "./error.ts";
import { addVeth, describeKernel, testNetns } from "./testnetns.ts";
import type { NewRoute, NextHop, Route, RouteChange, RouteKey } from "./types.ts";

interface IpHop {
  gateway?: string;
  via?: { family: string; host: string };
  dev?: string;
  weight?: number;
  flags: string[];
}

interface IpRoute extends IpHop {
  type: string;
  dst: string;
  table?: string;
  protocol?: string;
  scope?: string;
  metric?: number;
  prefsrc?: string;
  metrics?: { mtu?: number }[];
  nexthops?: IpHop[];
}

function route(prefix: string, nextHops: NextHop[] = [], rest: Partial<NewRoute> = {}): NewRoute {
  const { family, address: destination, length } = parsePrefix(prefix);
  return { family, destination, length, protocol: RTPROT_PODLANE, nextHops, ...rest };
}

function via(gateway: string, ifindex = 0, rest: Partial<NextHop> = {}): NextHop {
  return { gateway: parseAddress(gateway), ifindex, ...rest };
}

/** One line per route, from us and from ip-route(8). */
function line(entry: Route, nameOf: (index: number) => string): string {
  const hops = entry.nextHops.map(hop => {
    const weight = entry.nextHops.length > 1 ? ` weight ${hop.weight}` : "";
    return `[${hop.gateway === undefined ? "" : formatAddress(hop.gateway)} ${nameOf(hop.ifindex)}${weight}${hop.onlink ? " onlink" : ""}]`;
  });
  return [
    entry.type,
    `${formatAddress(entry.destination)}/${entry.length}`,
    entry.table,
    entry.protocol,
    entry.metric,
    entry.mtu ?? "",
    ...hops,
    entry.source === undefined ? "" : formatAddress(entry.source),
  ].join(" ");
}

function lineOfIp(entry: IpRoute, six: boolean): string {
  const tables: Record<string, number> = { main: 254, local: 255 };
  const protocols: Record<string, number> = { kernel: 2, boot: 3, static: 4, ra: 9 };
  const discard = ["blackhole", "unreachable", "prohibit", "throw"].includes(entry.type);
  const hopsOfIp = entry.nexthops ?? (discard ? [] : [entry]);
  const hops = hopsOfIp.map(hop => {
    const weight = entry.nexthops === undefined ? "" : ` weight ${hop.weight}`;
    return `[${hop.gateway ?? hop.via?.host ?? ""} ${hop.dev}${weight}${hop.flags.includes("onlink") ? " onlink" : ""}]`;
  });
  const dst =
    entry.dst === "default" ? (six ? "::/0" : "0.0.0.0/0") : entry.dst.includes("/") ? entry.dst : `${entry.dst}/${six ? 128 : 32}`;
  const table = tables[entry.table ?? "main"] ?? Number(entry.table);
  const protocol = protocols[entry.protocol ?? "boot"] ?? Number(entry.protocol);
  return [entry.type, dst, table, protocol, entry.metric ?? 0, entry.metrics?.[0]?.mtu ?? "", ...hops, entry.prefsrc ?? ""].join(" ");
}

function setUp() {
  const netns = testNetns();
  const ifindex = addVeth(netns);
  const { netlink, json } = netns;
  const nameOf = (index: number) => netlink.link(index)?.name ?? "undefined";
  const all = (filter?: Parameters<typeof netlink.routes>[0]) => [...netlink.routes(filter)].flat();
  const settled = (routes: Route[]) => routes.filter(entry => entry.protocol !== RTPROT_KERNEL);
  const ours = () => all({ protocol: RTPROT_PODLANE });
  const lines = (routes: Route[]) => routes.map(entry => line(entry, nameOf)).sort();
  const ipLines = (family: 4 | 6, selector: string) =>
    json<IpRoute>(`-${family} route show ${selector}`)
      .map(entry => lineOfIp(entry, family === 6))
      .sort();
  return { ...netns, ifindex, nameOf, all, settled, ours, lines, ipLines };
}

function failure(run: () => void): NetlinkError {
  try {
    run();
  } catch (error) {
    if (error instanceof NetlinkError) return error;
    throw error;
  }
  throw new Error("no NetlinkError");
}

describeKernel("routes", () => {
  test("every IPv4 kind is installed as asked and listed as ip-route(8) lists it", () => {
    const { netlink, ifindex, all, ours, lines, ipLines } = setUp();
    const wanted = [
      route("10.2.0.0/16", [via("10.1.1.1")]),
      route("10.3.0.0/16", [{ ifindex }]),
      route("10.4.0.0/16", [via("10.1.1.1", ifindex), via("10.1.1.3", 0, { weight: 3 })]),
      route("10.5.0.0/16", [via("fd00:1::9", ifindex)]),
      route("10.6.0.0/16", [via("fe80::1", ifindex), via("10.1.1.4", ifindex, { weight: 256 })]),
      route("10.7.0.0/16", [via("192.0.2.1", ifindex, { onlink: true })]),
      route("10.8.0.0/16", [via("192.0.2.1", ifindex, { onlink: true }), via("10.1.1.5", ifindex)]),
      route("10.9.0.0/16", [], { type: "blackhole" }),
      route("10.10.0.0/16", [], { type: "unreachable", metric: 4294967295 }),
      route("10.11.0.0/16", [], { type: "prohibit" }),
      route("10.12.0.0/16", [], { type: "throw", table: 1000 }),
      route("10.13.0.0/16", [via("10.1.1.1")], { table: 4_000_000_000, metric: 20, source: parseAddress("10.1.1.2"), mtu: 1400 }),
      route("10.14.1.1/32", [{ ifindex: 1 }], { type: "local", table: 255 }),
      route("0.0.0.0/0", [via("10.1.1.1")]),
    ];
    for (const entry of wanted) netlink.addRoute(entry);
    expect(ours().length).toBe(wanted.length);
    expect(lines(all({ family: 4 }))).toEqual(ipLines(4, "table all"));
    for (const table of [254, 255, 1000, 4_000_000_000])
      expect(all({ family: 4, table })).toEqual(all().filter(entry => entry.family === 4 && entry.table === table));

    expect(all({ family: 4, table: 4711 })).toEqual([]);
    const hops = ours().find(entry => formatAddress(entry.destination) === "10.6.0.0")?.nextHops;
    expect(hops).toEqual([via("fe80::1", ifindex, { weight: 1 }), via("10.1.1.4", ifindex, { weight: 256 })]);
    for (const entry of ours()) netlink.deleteRoute(entry);
    expect(ours()).toEqual([]);
  });

  test("every IPv6 kind is installed as asked and listed as ip-route(8) lists it", () => {
    const { netlink, ifindex, all, settled, ours, lines, ipLines } = setUp();
    const wanted = [
      route("fd02::/64", [via("fd00:1::1")]),
      route("fd03::/64", [{ ifindex }]),
      route("fd04::/64", [via("fd00:1::1", ifindex), via("fd00:1::3", 0, { weight: 3 })]),
      route("fd05::/64", [via("fe80::1", ifindex)]),
      route("fd06::/64", [via("fe80::1", ifindex), via("fe80::2", ifindex), via("fe80::3", ifindex)], { metric: 7 }),
      route("fd07::/64", [via("2001:db8::1", ifindex, { onlink: true })]),
      route("fd09::/64", [], { type: "blackhole" }),
      route("fd10::/64", [], { type: "unreachable" }),
      route("fd11::/64", [], { type: "prohibit" }),
      route("fd13::/64", [via("fd00:1::1")], { table: 100_000, metric: 20, source: parseAddress("fd00:1::2"), mtu: 1400 }),
      route("::/0", [via("fd00:1::1")]),
    ];
    for (const entry of wanted) netlink.addRoute(entry);
    expect(ours().length).toBe(wanted.length);
    // The kernel adds its own IPv6 routes when duplicate address detection is over.
    expect(lines(settled(all({ family: 6 })))).toEqual(ipLines(6, "table all").filter(text => text.split(" ")[3] !== "2"));
    for (const table of [254, 100_000]) {
      const expected = settled(all()).filter(entry => entry.family === 6 && entry.table === table);
      expect(settled(all({ family: 6, table }))).toEqual(expected);
    }
    for (const entry of ours()) netlink.deleteRoute(entry);
    expect(ours()).toEqual([]);
  });

  test("replacing takes the place of the whole route, whatever kinds the old and the new are", () => {
    const { netlink, ifindex, ours } = setUp();
    const kinds = (family: 4 | 6): [NewRoute["type"], NextHop[]][] => {
      const net = family === 4 ? "10.1.1." : "fd00:1::";
      return [
        ["unicast", [via(`${net}5`)]],
        ["unicast", [via(`${net}5`), via(`${net}6`), via(`${net}7`)]],
        ["unicast", [via(`${net}8`), via(`${net}9`)]],
        ["unicast", [via(`${net}6`), via(`${net}8`), via(`${net}9`)]],
        ["blackhole", []],
        ["unicast", [{ ifindex }]],
      ];
    };
    const shape = (entry: Pick<NewRoute, "type" | "nextHops">) => [
      entry.type,
      ...entry.nextHops.map(hop => hop.gateway && formatAddress(hop.gateway)).sort(),
    ];
    for (const prefix of ["10.2.0.0/16", "fd02::/64"]) {
      const all = kinds(prefix.includes(":") ? 6 : 4);
      // Every pair of old and new.
      for (const [oldType, oldHops] of all) {
        for (const [type, nextHops] of all) {
          netlink.replaceRoute(route(prefix, oldHops, { type: oldType }));
          netlink.replaceRoute(route(prefix, nextHops, { type }));
          expect(ours().map(shape)).toEqual([shape({ type, nextHops })]);
        }
      }
      netlink.deleteRoute(route(prefix));
      expect(ours()).toEqual([]);
    }
  });

  test("a deletion spares routes of another protocol, table or metric", () => {
    const { netlink, ip, ours, all } = setUp();
    for (const prefix of ["10.2.0.0/16", "fd02::/64"]) {
      const gateway = prefix.includes(":") ? "fd00:1::1" : "10.1.1.1";
      ip(`route add ${prefix} via ${gateway} proto static metric 50`);
      netlink.addRoute(route(prefix, [via(gateway)], { metric: 60 }));
      netlink.addRoute(route(prefix, [via(gateway)], { metric: 70 }));
      netlink.addRoute(route(prefix, [via(gateway)], { metric: 60, table: 100 }));
      const { family, destination, length } = route(prefix);
      const key: RouteKey = { family, destination, length, protocol: RTPROT_PODLANE };
      expect(failure(() => netlink.deleteRoute({ ...key, metric: 50 })).code).toBe("ESRCH");
      netlink.deleteRoute({ ...key, metric: 70 });
      netlink.deleteRoute(key);
      expect(failure(() => netlink.deleteRoute(key)).code).toBe("ESRCH");
      expect(all({ family, protocol: 4 }).map(entry => entry.metric)).toEqual([50]);
      expect(
        ours()
          .filter(entry => entry.family === family)
          .map(entry => entry.table),
      ).toEqual([100]);
    }
  });

  test("lookup says what the kernel would do with a packet", () => {
    const { netlink, ip, ifindex } = setUp();
    netlink.addRoute(route("10.2.0.0/16", [via("10.1.1.1")]));
    netlink.addRoute(route("10.3.0.0/16", [], { type: "blackhole" }));
    netlink.addRoute(route("10.4.0.0/16", [], { type: "unreachable" }));
    netlink.addRoute(route("10.5.0.0/16", [], { type: "prohibit" }));
    netlink.addRoute(route("fd02::/64", [via("fd00:1::1")]));
    netlink.addRoute(route("fd03::/64", [], { type: "blackhole" }));
    netlink.addRoute(route("10.2.0.0/16", [via("10.1.1.7")], { table: 700 }));
    ip("rule add fwmark 7 lookup 700");
    expect(netlink.lookup(parseAddress("10.2.3.4"))).toMatchObject({
      type: "unicast",
      nextHops: [via("10.1.1.1", ifindex)],
      source: parseAddress("10.1.1.2"),
      table: 254,
    });
    expect(netlink.lookup(parseAddress("10.2.3.4"), { mark: 7 })).toMatchObject({ nextHops: [via("10.1.1.7", ifindex)], table: 700 });
    expect(netlink.lookup(parseAddress("10.1.1.77"), { ifindex, source: parseAddress("10.1.1.2") })).toMatchObject({
      nextHops: [{ ifindex }],
    });
    expect(netlink.lookup(parseAddress("10.1.1.2"))).toMatchObject({ type: "local", table: 255 });
    expect(netlink.lookup(parseAddress("fd02::9"))).toMatchObject({ type: "unicast", nextHops: [via("fd00:1::1", ifindex)] });
    for (const nowhere of ["10.3.0.1", "10.4.0.1", "10.5.0.1", "192.0.2.1", "fd03::1", "2001:db8::1"]) {
      expect(netlink.lookup(parseAddress(nowhere)), nowhere).toBeUndefined();
    }
  });

  test.each([
    ["10", "10.1.1.1", "0.0.0.0/0"],
    ["fd", "fd00:1::1", "::/0"],
  ])("match names the route of the table that matched, or how it discards (%s…)", (start, gateway, everything) => {
    const { netlink, ip, ifindex } = setUp();
    const prefix = (n: number) => (start === "10" ? `10.${n}.0.0/16` : `fd0${n}::/64`);
    const inside = (n: number) => parseAddress(start === "10" ? `10.${n}.3.4` : `fd0${n}::9`);
    netlink.addRoute(route(prefix(2), [via(gateway)], { metric: 7 }));
    netlink.addRoute(route(prefix(3), [], { type: "blackhole" }));
    netlink.addRoute(route(prefix(4), [], { type: "unreachable" }));
    netlink.addRoute(route(prefix(5), [], { type: "prohibit" }));
    expect(netlink.match(inside(2)).route).toMatchObject({
      length: parsePrefix(prefix(2)).length,
      destination: parsePrefix(prefix(2)).address,
      metric: 7,
      table: 254,
      nextHops: [via(gateway, ifindex)],
    });
    const discards = [3, 4, 5, 6].map(n => netlink.match(inside(n)));
    expect(discards.map(match => "discard" in match && match.discard)).toEqual(["blackhole", "unreachable", "prohibit", "no route"]);
    netlink.addRoute(route(everything, [via(gateway)], { table: 700 }));
    ip(`${start === "10" ? "" : "-6 "}rule add lookup 700`);
    expect(netlink.match(inside(6)).route).toMatchObject({ length: 0, table: 700 });
  });

  test("failures say what was asked and what the kernel says", () => {
    const { netlink, ifindex } = setUp();
    netlink.addRoute(route("10.2.0.0/16", [via("10.1.1.1")]));
    expect(failure(() => netlink.addRoute(route("10.2.0.0/16", [via("10.1.1.1", ifindex)], { table: 254 })))).toMatchObject({
      code: "EEXIST",
      message: "add route 10.2.0.0/16 via 10.1.1.1 dev v0: file already exists (EEXIST)",
    });
    expect(failure(() => netlink.addRoute(route("10.3.0.0/16", [via("192.0.2.1", ifindex)], { table: 9, metric: 3 })))).toMatchObject({
      code: "ENETUNREACH",
      detail: "Nexthop has invalid gateway",
      message: "add route 10.3.0.0/16 via 192.0.2.1 dev v0 table 9 metric 3: Nexthop has invalid gateway (ENETUNREACH)",
    });
    expect(failure(() => netlink.addRoute(route("fd03::/64", [via("2001:db8::1", ifindex)]))).message).toMatch(
      /^add route fd03::\/64 via 2001:db8::1 dev v0: .+ \(EHOSTUNREACH\)$/,
    );
    expect(failure(() => netlink.replaceRoute(route("10.3.0.0/16", [via("10.1.1.1", 999)]))).request).toContain("dev ifindex 999");
    const crooked = { ...route("10.3.0.0/16", [via("10.1.1.1")]), destination: parseAddress("10.3.0.1") };
    expect(failure(() => netlink.addRoute(crooked)).detail).toBe("Invalid prefix for given prefix length");
    const heavy = route("10.3.0.0/16", [via("10.1.1.1", 0, { weight: 257 }), via("10.1.1.3")]);
    expect(failure(() => netlink.addRoute(heavy))).toMatchObject({
      code: "EINVAL",
      detail: "a next hop has a weight of 1 to 256, not 257",
    });
    const mixed = { ...route("10.3.0.0/16", [via("10.1.1.1")]), destination: parseAddress("fd00::") };
    expect(failure(() => netlink.addRoute(mixed))).toMatchObject({ code: "EINVAL", detail: "an IPv4 destination has 4 octets, not 16" });
  });

  test("a batch carries out all it can and reports each failure by its index", () => {
    const { netlink, ours } = setUp();
    const changes: RouteChange[] = [];
    const failing = new Set([0, 7, 999, 2500, 4999]);
    for (let i = 0; i < 5000; i++) {
      const [length, destination] = [32, uint32ToAddress(0x14000000 + i)];
      if (failing.has(i)) changes.push({ action: "delete", route: { family: 4, destination, length, protocol: RTPROT_PODLANE } });
      else
        changes.push({
          action: "replace",
          route: { family: 4, destination, length, protocol: RTPROT_PODLANE, nextHops: [via("10.1.1.1")] },
        });
    }
    changes.push({ action: "replace", route: route("20.0.0.0/8", [via("10.1.1.1", 0, { weight: 0 }), via("10.1.1.3")]) });
    changes.push({ action: "replace", route: route("20.0.0.0/8", [via("192.0.2.1")]) });
    const errors = netlink.batchRoutes(changes);
    expect(errors.map(entry => entry.index).sort((a, b) => a - b)).toEqual([...failing, 5000, 5001]);
    expect(errors.find(entry => entry.index === 7)?.error).toMatchObject({ code: "ESRCH", request: "delete route 20.0.0.7/32" });
    expect(errors.find(entry => entry.index === 5001)?.error.message).toBe(
      "replace route 20.0.0.0/8 via 192.0.2.1: Nexthop has invalid gateway (ENETUNREACH)",
    );
    expect(ours().length).toBe(5000 - failing.size);
    const removal: RouteChange[] = ours().map(entry => ({ action: "delete", route: entry }));
    expect(netlink.batchRoutes(removal)).toEqual([]);
    expect(ours()).toEqual([]);
    expect(netlink.batchRoutes([])).toEqual([]);
  });

  test("in a batch where all fail, every one is reported", () => {
    const { netlink } = setUp();
    const changes: RouteChange[] = Array.from({ length: 20_000 }, (_, i) => ({
      action: "delete",
      route: { family: 4, destination: uint32ToAddress(0x14000000 + i), length: 32 },
    }));
    const errors = netlink.batchRoutes(changes);
    expect(errors.length).toBe(20_000);
    expect(errors.every((entry, i) => entry.index === i && (entry.error as NetlinkError).code === "ESRCH")).toBe(true);
  });

  test("100,000 routes are listed chunk by chunk, and other requests may be made between chunks", () => {
    const { netlink, run } = setUp();
    const lines = Array.from(
      { length: 100_000 },
      (_, i) => `route add ${formatAddress(uint32ToAddress(0x14000000 + i))} via 10.1.1.1 proto 201`,
    );
    run("ip", ["-batch", "-"], lines.join("\n"));
    const seen = new Set<string>();
    let chunks = 0;
    for (const chunk of netlink.routes({ family: 4, protocol: RTPROT_PODLANE })) {
      chunks++;
      for (const entry of chunk) seen.add(formatAddress(entry.destination));
      if (chunks % 20 === 0) expect(netlink.link("v0")?.name).toBe("v0");
    }
    expect(seen.size).toBe(100_000);
    expect(chunks).toBeGreaterThan(50);
    // A listing that is left early leaves nothing behind.
    for (const chunk of netlink.routes()) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect(netlink.links().length).toBe(3);
  });
});
