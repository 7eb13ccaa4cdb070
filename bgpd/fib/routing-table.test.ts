import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Link, NextHop, Route, RouteOrder } from "../../kernel/types.ts";
import { covers, formatAddress, parseAddress, parsePrefix } from "../../net/address.ts";
import { resolve, sameResolution } from "./resolve.ts";
import { RoutingTable } from "./routing-table.ts";

const link = (index: number, change: Partial<Link> = {}): Link => ({
  index,
  name: `eth${index}`,
  kind: "veth",
  up: true,
  carrier: true,
  loopback: false,
  mtu: 1500,
  address: new Uint8Array(6),
  master: 0,
  peerIndex: 0,
  peerNetnsId: -1,
  alias: "",
  ...change,
});

/** "via 10.0.0.1 dev 1", "dev 1", several with commas. */
function hops(text: string): NextHop[] {
  return text.split(", ").map(hop => {
    const words = hop.split(" ");
    const gateway = words[0] === "via" ? { gateway: parseAddress(words[1]) } : {};
    return { ...gateway, ifindex: Number(words.at(-1)) };
  });
}

function route(prefix: string, to: string, change: Partial<Route> = {}): Route {
  const { family, address: destination, length } = parsePrefix(prefix);
  return {
    family,
    destination,
    length,
    type: "unicast",
    table: 254,
    protocol: 4,
    scope: 0,
    metric: 0,
    nextHops: to === "" ? [] : hops(to),
    ...change,
  };
}

/** eth1 10.0.0.1/24 and 2001:db8::1/64, eth2 10.0.1.1/24; eth3 without carrier 10.0.3.1/24; eth4 down. */
function table(...routes: Route[]): RoutingTable {
  const table = new RoutingTable();
  for (const one of [link(1), link(2), link(3, { carrier: false }), link(4, { up: false, carrier: false })]) table.setLink(one);
  const address = (ifindex: number, text: string) => {
    const [host, length] = text.split("/");
    table.setAddress({ ifindex, address: parseAddress(host), prefixLength: Number(length), scope: 0, flags: 0 });
  };
  address(1, "10.0.0.1/24");
  address(1, "2001:db8::1/64");
  address(2, "10.0.1.1/24");
  address(3, "10.0.3.1/24");
  address(4, "10.0.4.1/24");
  const kernel = { protocol: 2 };
  const connected = [
    route("10.0.0.0/24", "dev 1", kernel),
    route("10.0.1.0/24", "dev 2", kernel),
    route("10.0.3.0/24", "dev 3", kernel),
    route("10.0.4.0/24", "dev 4", kernel),
    route("2001:db8::/64", "dev 1", { ...kernel, metric: 256 }),
    route("10.0.0.255/32", "dev 1", { ...kernel, table: 255, type: "broadcast" }),
  ];
  for (const one of [...connected, ...routes]) table.setRoute(one);
  return table;
}

function octets(...texts: string[]): Uint8Array {
  return Uint8Array.from(texts.flatMap(text => [...parseAddress(text)]));
}

describe("resolve", () => {
  const full = table(
    route("0.0.0.0/0", "via 10.0.1.254 dev 2", { metric: 100 }),
    route("172.16.0.0/12", "via 10.0.0.9 dev 1"),
    route("172.16.1.0/24", "via 10.0.0.8 dev 1, via 10.0.1.8 dev 2", { metric: 20 }),
    route("172.16.2.0/24", "", { type: "blackhole" }),
    route("172.16.3.0/24", "via 10.0.3.9 dev 3", { metric: 5 }),
    route("172.16.4.0/24", "via 10.0.4.9 dev 4", { metric: 5 }),
    route("172.16.5.0/24", "via 10.0.3.9 dev 3, via 10.0.0.9 dev 1", { metric: 5 }),
    route("172.16.6.0/24", "via 10.0.3.9 dev 3", { metric: 5 }),
    route("172.16.6.0/24", "via 10.0.0.9 dev 1", { metric: 50 }),
    route("172.16.7.0/24", "via fe80::7 dev 1", { metric: 7 }),
    route("2001:db8:7::/48", "via fe80::7 dev 1", { metric: 1024 }),
  );

  it.each<[string, string[], number, string, number, string]>([
    ["connected", ["10.0.0.2"], 0, "10.0.0.2%1", 0, "connected via eth1"],
    ["through the default route", ["203.0.113.1"], 0, "10.0.1.254%2", 100, "via 10.0.1.254 dev eth2 (route 0.0.0.0/0)"],
    ["through a gateway, cost at least 1", ["172.16.9.1"], 0, "10.0.0.9%1", 1, "via 10.0.0.9 dev eth1 (route 172.16.0.0/12)"],
    [
      "through the longest prefix, multipath",
      ["172.16.1.1"],
      0,
      "10.0.0.8%1*1 10.0.1.8%2*1",
      20,
      "via 10.0.0.8 dev eth1, via 10.0.1.8 dev eth2",
    ],
    ["through what is alive of a multipath", ["172.16.5.1"], 0, "10.0.0.9%1", 5, "via 10.0.0.9 dev eth1 (route 172.16.5.0/24)"],
    ["through the next metric of the same prefix", ["172.16.6.1"], 0, "10.0.0.9%1", 50, "via 10.0.0.9 dev eth1"],
    ["past a link that is down", ["172.16.4.1"], 0, "10.0.0.9%1", 1, "(route 172.16.0.0/12)"],
    ["through an IPv6 gateway", ["172.16.7.1"], 0, "fe80::7%1", 7, "via fe80::7 dev eth1"],
    ["IPv6 connected", ["2001:db8::2"], 0, "2001:db8::2%1", 0, "connected via eth1"],
    ["IPv6 through a gateway", ["2001:db8:7::2"], 0, "fe80::7%1", 1024, "(route 2001:db8:7::/48)"],
    ["link-local on its link", ["fe80::2"], 2, "fe80::2%2", 0, "connected via eth2"],
    ["a pair on a shared link: the link-local half", ["2001:db8::2", "fe80::2"], 1, "fe80::2%1", 0, "connected via eth1"],
    ["a pair from afar: the global half", ["2001:db8:7::2", "fe80::2"], 0, "fe80::7%1", 1024, "(route 2001:db8:7::/48)"],
    ["a pair whose second half is not link-local", ["2001:db8::2", "::"], 1, "2001:db8::2%1", 0, "connected via eth1"],
  ])("%s", (_, nextHop, ifindex, expected, metric, reason) => {
    const result = resolve(full, octets(...nextHop), ifindex);
    const text = result.hops.map(hop => `${formatAddress(hop.gateway!)}%${hop.ifindex}${hop.weight === undefined ? "" : `*${hop.weight}`}`);
    expect([result.reachable, text.join(" "), result.metric]).toEqual([true, expected, metric]);
    expect(result.reason).toContain(reason);
    expect(result.connected).toBe(reason.startsWith("connected"));
  });

  it.each<[string, string[], number, string]>([
    ["our own address", ["10.0.0.1"], 0, "it is one of our own addresses"],
    ["loopback", ["127.0.0.9"], 0, "it is one of our own addresses"],
    ["the broadcast address of a subnet", ["10.0.0.255"], 0, "route 10.0.0.255/32 is of type broadcast"],
    ["a discard route", ["172.16.2.1"], 0, "route 172.16.2.0/24 is of type blackhole"],
    ["no carrier, although there is a default route", ["172.16.3.1"], 0, "route 172.16.3.0/24: eth3 has no carrier"],
    ["no carrier on the connected link", ["10.0.3.2"], 0, "route 10.0.3.0/24: eth3 has no carrier"],
    ["no route", ["2001:db9::1"], 0, "no route"],
    ["link-local without a link", ["fe80::1"], 0, "a link-local next hop, and no link is named for it"],
    ["link-local twice without a link", ["fe80::1", "fe80::1"], 0, "no link is named"],
    ["link-local on a link that is down", ["fe80::1"], 4, "eth4 is down"],
    ["link-local on a link without carrier", ["fe80::1"], 3, "eth3 has no carrier"],
    ["link-local on a link that is not there", ["fe80::1"], 9, "the link with ifindex 9 is gone"],
    ["IPv4-mapped", ["::ffff:10.0.0.2"], 0, "6PE"],
    ["unspecified", ["0.0.0.0"], 0, "unspecified"],
    ["unspecified", ["::"], 0, "unspecified"],
    ["multicast", ["224.0.0.5"], 0, "multicast"],
    ["multicast", ["ff02::1"], 1, "multicast"],
  ])("unreachable: %s", (_, nextHop, ifindex, reason) => {
    const result = resolve(full, octets(...nextHop), ifindex);
    expect(result).toMatchObject({ reachable: false, hops: [], connected: false, reason: expect.stringContaining(reason) });
  });

  it("has an answer for octets of any length", () => {
    expect(resolve(full, new Uint8Array(0), 0).reason).toContain("not 0");
    expect(resolve(full, new Uint8Array(5), 0).reason).toContain("not 5");
  });
});

describe("the table", () => {
  it("keeps routes of one prefix and metric in the kernel's order: appended, prepended, replaced", () => {
    const t = new RoutingTable();
    t.setLink(link(1));
    const first = () =>
      [...t.routesTo(parseAddress("172.16.0.1"))].map(({ row }) => `${row!.hops[0].gateway![3]}/${row!.metric}`).join(" ");
    const set = (last: number, order: RouteOrder, metric = 5) =>
      t.setRoute(route("172.16.0.0/16", `via 10.0.0.${last} dev 1`, { metric }), order);
    set(1, "prepend");
    set(2, "append");
    set(3, "prepend");
    set(4, "prepend", 4);
    set(5, "append", 6);
    expect(first()).toBe("4/4 3/5 1/5 2/5 5/6");
    set(6, "replace");
    expect(first()).toBe("4/4 6/5 1/5 2/5 5/6");
    set(2, "append");
    expect(first()).toBe("4/4 6/5 1/5 2/5 5/6");
    t.deleteRoute(route("172.16.0.0/16", "via 10.0.0.6 dev 1", { metric: 5 }));
    set(7, "replace", 3);
    expect(first()).toBe("7/3 4/4 1/5 2/5 5/6");
  });

  it("takes a route in the place of another for a replacement, connected ones for neighbours", () => {
    const t = table(route("172.16.0.0/16", "via 10.0.0.9 dev 1"));
    t.setRoute(route("172.16.0.0/16", "via 10.0.1.9 dev 2", { protocol: 12 }), "replace");
    expect([...t.routesTo(parseAddress("172.16.0.1"))]).toHaveLength(1);
    t.deleteRoute(route("172.16.0.0/16", "via 10.0.0.9 dev 1"));
    expect([...t.routesTo(parseAddress("172.16.0.1"))]).toHaveLength(1);
    t.deleteRoute(route("172.16.0.0/16", "via 10.0.1.9 dev 2", { protocol: 12 }));
    expect([...t.routesTo(parseAddress("172.16.0.1"))]).toHaveLength(0);
    t.setRoute(route("10.0.0.0/24", "dev 2", { protocol: 2 }));
    expect([...t.routesTo(parseAddress("10.0.0.2"))]).toHaveLength(2);
    t.deleteRoute(route("10.0.0.0/24", "dev 1", { protocol: 2 }));
    expect(resolve(t, parseAddress("10.0.0.2"), 0).hops).toEqual([{ gateway: parseAddress("10.0.0.2"), ifindex: 2 }]);
  });

  it("loses single members of an IPv6 multipath", () => {
    const t = table(route("2001:db8:9::/48", "via fe80::1 dev 1, via fe80::2 dev 2", { metric: 1024 }));
    t.deleteRoute(route("2001:db8:9::/48", "via fe80::1 dev 1", { metric: 1024 }));
    expect(resolve(t, parseAddress("2001:db8:9::1"), 0).hops).toEqual([{ gateway: parseAddress("fe80::2"), ifindex: 2 }]);
    t.deleteRoute(route("2001:db8:9::/48", "via fe80::2 dev 2", { metric: 1024 }));
    expect(resolve(t, parseAddress("2001:db8:9::1"), 0).reason).toBe("no route");
  });

  it("knows local addresses and shared subnets", () => {
    const t = table();
    expect(["10.0.0.1", "2001:db8::1", "127.1.2.3", "10.0.0.2"].map(text => t.isLocal(parseAddress(text)))).toEqual([
      true,
      true,
      true,
      false,
    ]);
    const shares = (a: string, b: string) => t.sharesSubnet(parseAddress(a), parseAddress(b));
    expect(shares("10.0.0.2", "10.0.0.200")).toBe(true);
    expect(shares("10.0.0.2", "10.0.1.2")).toBe(false);
    expect(shares("10.0.4.2", "10.0.4.3")).toBe(false);
    expect(shares("2001:db8::2", "2001:db8::3")).toBe(true);
    expect(shares("fe80::2", "fe80::3")).toBe(false);
    const again = { ...t.addresses().find(one => formatAddress(one.address) === "10.0.0.1")!, ifindex: 2 };
    t.setAddress(again);
    t.setAddress(again);
    t.deleteLink(1);
    expect([0, 1, 2].map(ifindex => t.isLocal(parseAddress("10.0.0.1"), ifindex))).toEqual([true, false, true]);
    t.deleteAddress(again);
    expect(t.isLocal(parseAddress("10.0.0.1"))).toBe(false);
  });

  it("compares resolutions by everything but the words", () => {
    const t = table();
    const a = resolve(t, parseAddress("10.0.0.2"), 0);
    expect(sameResolution(a, { ...a, reason: "renamed" })).toBe(true);
    expect(sameResolution(a, { ...a, metric: 1 })).toBe(false);
    expect(sameResolution(a, { ...a, hops: [{ ...a.hops[0], ifindex: 2 }] })).toBe(false);
    expect(sameResolution(a, resolve(t, parseAddress("10.0.0.3"), 0))).toBe(false);
  });

  it("finds the longest prefix as a plain scan does, after any sets and deletions", () => {
    const step = fc.record({ add: fc.boolean(), length: fc.nat(32), octet: fc.constantFrom(0, 1, 128, 255), metric: fc.nat(2) });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.array(fc.constantFrom(0, 1, 128, 255), { minLength: 4, maxLength: 4 }),
        (steps, asked) => {
          const t = new RoutingTable();
          const plain = new Map<string, Route>();
          for (const { add, length, octet, metric } of steps) {
            const { address, length: bits } = parsePrefix(`${octet}.${octet}.${octet}.${octet}/${length}`, "clear");
            const one: Route = { ...route("0.0.0.0/0", "dev 1"), destination: address, length: bits, metric };
            const key = `${address.join(".")}/${bits} ${metric}`;
            if (add) {
              t.setRoute(one);
              plain.set(key, one);
            } else {
              t.deleteRoute(one);
              plain.delete(key);
            }
          }
          const address = Uint8Array.from(asked);
          const whole = { family: 4, address, length: 32 } as const;
          const expected = [...plain.values()]
            .filter(one => covers({ family: 4, address: one.destination, length: one.length }, whole))
            .sort((x, y) => y.length - x.length || x.metric - y.metric)
            .map(one => [one.length, one.metric]);
          expect([...t.routesTo(address)].map(({ row, length }) => [length, row!.metric])).toEqual(expected);
        },
      ),
    );
  });
});
