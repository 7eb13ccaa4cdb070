import { describe, expect, it } from "vitest";
import type { Link, Route } from "../../kernel/types.ts";
import { type Address, formatAddress, formatPrefix, parseAddress, parsePrefix } from "../../net/address.ts";
import { RECURSIVE_COST, resolve, sameResolution } from "./resolve.ts";
import { RoutingTable } from "./routing-table.ts";
import type { OwnWays, Tunnels } from "./types.ts";

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

/** eth1 10.0.1.0/24 and eth2 10.0.2.0/24, connected; more routes as "prefix gateway link metric". */
function kernel(...more: string[]): RoutingTable {
  const table = new RoutingTable();
  const add = (prefix: string, gateway: string | undefined, ifindex: number, metric = 0) => {
    const { family, address: destination, length } = parsePrefix(prefix);
    const hop = gateway === undefined ? { ifindex } : { gateway: parseAddress(gateway), ifindex };
    const base = { family, destination, length, type: "unicast", table: 254, scope: 0 } satisfies Partial<Route>;
    table.setRoute({ ...base, protocol: gateway === undefined ? 2 : 4, metric, nextHops: [hop] });
  };
  for (const index of [1, 2]) {
    table.setLink(link(index));
    add(`10.0.${index}.0/24`, undefined, index);
    add(`2001:db8:${index}::/64`, undefined, index, 256);
  }
  for (const text of more) {
    const [prefix, gateway, ifindex, metric] = text.split(" ");
    add(prefix, gateway, Number(ifindex), Number(metric ?? 0));
  }
  return table;
}

/** Our routes by prefix: their next hops, or "discard". */
function own(routes: Record<string, string[] | "discard">, unicast = 0): OwnWays {
  const prefixes = Object.keys(routes);
  const hops = [...new Set(Object.values(routes).flatMap(list => (list === "discard" ? [] : list)))];
  const metrics = { unicast, discard: 4294967294 };
  return {
    metrics: { 4: metrics, 6: metrics },
    nextHop: id => ({ nextHop: parseAddress(hops[id]), ifindex: 0 }),
    routes: {
      hasLength: (family, length) => prefixes.map(text => parsePrefix(text)).some(one => one.family === family && one.length === length),
      find: prefix => prefixes.indexOf(formatPrefix(prefix)) + 1,
      nextHops: (_family, prefix) => {
        const list = routes[prefixes[prefix - 1]];
        return list === "discard" ? list : list.map(text => hops.indexOf(text));
      },
    },
  };
}

/** "10.0.1.1%1 10.0.2.1%2", or why it is unreachable. */
function way(table: RoutingTable, nextHop: string, ours: OwnWays): string {
  const { reachable, hops, reason } = resolve(table, parseAddress(nextHop), 0, ours);
  return reachable ? hops.map(({ gateway, ifindex }) => `${formatAddress(gateway!)}%${ifindex}`).join(" ") : reason;
}

describe("a next hop behind routes of ours", () => {
  it.each([
    ["IPv4", "0.0.0.0/0", "10.255.0.2", "10.255.0.2/32", ["10.0.1.1", "10.0.2.1"]],
    ["IPv6", "::/0", "2001:db8:ff::2", "2001:db8:ff::2/128", ["2001:db8:1::1", "2001:db8:2::1"]],
  ])("leads over all ways of a default or host route, flat: %s", (_family, all, loopback, host, [a, b]) => {
    const both = `${a}%1 ${b}%2`;
    expect(way(kernel(), loopback, own({ [all]: [a, b] }))).toBe(both);
    expect(way(kernel(), loopback, own({ [all]: [a, b], [host]: [b] }))).toBe(`${b}%2`);
    const { metric, connected, through, reason } = resolve(kernel(), parseAddress(loopback), 0, own({ [all]: [a, b] }));
    expect([metric, connected, through]).toEqual([RECURSIVE_COST, false, [{ family: all === "::/0" ? 6 : 4, prefix: 1 }]]);
    expect(reason).toBe(`via ${a} dev eth1, via ${b} dev eth2 (our route ${all})`);
  });

  it("follows several routes, and loses the ways that are lost", () => {
    const ours = own({ "10.9.0.0/16": ["10.8.0.1"], "10.8.0.0/16": ["10.0.1.1", "10.0.2.1"] });
    expect(way(kernel(), "10.9.0.1", ours)).toBe("10.0.1.1%1 10.0.2.1%2");
    const cut = kernel();
    cut.setLink(link(1, { carrier: false }));
    expect(way(cut, "10.9.0.1", ours)).toBe("10.0.2.1%2");
    expect(resolve(cut, parseAddress("10.9.0.1"), 0, ours).links).toEqual([1, 2]);
  });

  it("prefers the longer prefix, then the lower metric, whoever's route it is", () => {
    const table = kernel("10.9.0.0/16 10.0.1.9 1 5", "10.9.9.0/24 10.0.1.8 1");
    expect(way(table, "10.9.0.1", own({ "10.9.0.0/16": ["10.0.2.1"] }, 0))).toBe("10.0.2.1%2");
    expect(way(table, "10.9.0.1", own({ "10.9.0.0/16": ["10.0.2.1"] }, 5))).toBe("10.0.1.9%1");
    expect(way(table, "10.9.0.1", own({ "10.9.0.0/16": ["10.0.2.1"] }, 6))).toBe("10.0.1.9%1");
    expect(way(table, "10.9.9.1", own({ "10.9.0.0/16": ["10.0.2.1"] }))).toBe("10.0.1.8%1");
    expect(way(table, "10.0.1.7", own({ "0.0.0.0/0": ["10.0.2.1"] }))).toBe("10.0.1.7%1");
  });

  it("is not reached through a range of ours that discards", () => {
    expect(way(kernel("0.0.0.0/0 10.0.1.1 1"), "10.244.1.9", own({ "10.244.1.0/24": "discard" }))).toBe(
      "our route 10.244.1.0/24 discards what no longer prefix takes",
    );
  });
});

describe("a next hop is never resolved through itself", () => {
  it("not by its own host route: a shorter prefix tells", () => {
    const host = { "10.255.0.2/32": ["10.255.0.2"] };
    expect(way(kernel(), "10.255.0.2", own(host))).toBe("no route but those that lead back to it");
    expect(way(kernel(), "10.255.0.2", own({ ...host, "0.0.0.0/0": ["10.0.1.1"] }))).toBe("10.0.1.1%1");
    expect(way(kernel("0.0.0.0/0 10.0.2.9 2"), "10.255.0.2", own(host))).toBe("10.0.2.9%2");
    expect(resolve(kernel(), parseAddress("10.255.0.2"), 0, own(host)).looped).toBe(true);
  });

  it("not by two that lead to each other", () => {
    const circle = { "10.1.0.0/16": ["10.2.0.1"], "10.2.0.0/16": ["10.1.0.1"] };
    for (const nextHop of ["10.1.0.1", "10.2.0.1"]) {
      expect(way(kernel(), nextHop, own(circle))).toBe("no route but those that lead back to it");
      expect(way(kernel(), nextHop, own({ ...circle, "0.0.0.0/0": ["10.0.1.1"] }))).toBe("10.0.1.1%1");
    }
  });

  it("but by the other ways of a route that has it among several", () => {
    const ours = own({ "0.0.0.0/0": ["10.255.0.2", "10.0.1.1"] });
    expect(way(kernel(), "10.255.0.2", ours)).toBe("10.0.1.1%1");
  });

  it("nor without an end: depth and number of ways are bounded", () => {
    const chain = Object.fromEntries([...Array(20).keys()].map(n => [`10.${100 + n}.0.0/16`, [`10.${101 + n}.0.1`]]));
    expect(way(kernel(), "10.100.0.1", own({ ...chain, "10.120.0.0/16": ["10.0.1.1"] }))).toBe("no route but those that lead back to it");
    expect(way(kernel(), "10.115.0.1", own({ ...chain, "10.120.0.0/16": ["10.0.1.1"] }))).toBe("10.0.1.1%1");
    const wide = Object.fromEntries(
      [...Array(7).keys()].map(n => [`10.${100 + n}.0.0/16`, [...Array(8).keys()].map(m => `10.${101 + n}.${m}.1`)]),
    );
    expect(way(kernel(), "10.100.0.1", own({ ...wide, "10.107.0.0/16": ["10.0.1.1"] }))).toBe("10.0.1.1%1");
  });
});

describe("a next hop with a tunnel", () => {
  /** Link 9 leads to these, but for those on a link of ours where `direct`. */
  const tunnels = (ends: string[], direct = false): Tunnels => ({
    around: (nextHop: Address, connected) =>
      ends.includes(formatAddress(nextHop)) && !(direct && connected) ? { gateway: nextHop, ifindex: 9, onlink: true } : undefined,
    needs: () => false,
    endOf: nextHop => (formatAddress(nextHop) === "2001:db8:244::1" ? parseAddress("10.9.0.2") : undefined),
    behind: () => [],
    words: ({ gateway }) => `through the tunnel to ${formatAddress(gateway!)}`,
    onChange: () => () => {},
  });
  const resolved = (nextHop: string, found: Tunnels | undefined, ours?: OwnWays, table = kernel("10.9.0.0/16 10.0.1.1 1 7")) =>
    resolve(table, parseAddress(nextHop), 0, ours, found);
  const hopsOf = (hops: { gateway?: Address; ifindex: number }[] = []) =>
    hops.map(({ gateway, ifindex }) => `${formatAddress(gateway!)}%${ifindex}`);

  it("keeps what its own way is and costs", () => {
    const found = resolved("10.9.0.2", tunnels(["10.9.0.2"]));
    expect(found).toMatchObject({ reachable: true, connected: false, metric: 7 });
    expect([hopsOf(found.hops), hopsOf(found.tunnelled)]).toEqual([["10.0.1.1%1"], ["10.9.0.2%9"]]);
    expect(found.reason).toBe("through the tunnel to 10.9.0.2, which is reached via 10.0.1.1 dev eth1 (route 10.9.0.0/16)");
    expect(resolved("10.9.0.3", tunnels(["10.9.0.2"])).tunnelled).toBeUndefined();
  });

  it("goes without where it is on a link and that is asked for", () => {
    expect(hopsOf(resolved("10.0.1.2", tunnels(["10.0.1.2"])).tunnelled)).toEqual(["10.0.1.2%9"]);
    expect(resolved("10.0.1.2", tunnels(["10.0.1.2"], true)).tunnelled).toBeUndefined();
  });

  it("is not reached by it: without a way of its own it has none", () => {
    const found = resolved("10.7.0.2", tunnels(["10.7.0.2"]));
    expect([found.reachable, found.tunnelled, found.reason]).toEqual([false, undefined, "no route"]);
  });

  it("passes it on to what is behind it, beside ways without", () => {
    const ours = own({ "10.244.2.0/24": ["10.9.0.2", "10.0.2.1"] });
    const found = resolved("10.244.2.5", tunnels(["10.9.0.2"]), ours);
    expect([hopsOf(found.hops), hopsOf(found.tunnelled)]).toEqual([
      ["10.0.1.1%1", "10.0.2.1%2"],
      ["10.9.0.2%9", "10.0.2.1%2"],
    ]);
    expect(found.tunnelled?.map(hop => [hop.onlink, hop.weight])).toEqual([
      [true, 1],
      [undefined, 1],
    ]);
  });

  it("may be of another family than its end: then the end's way counts, and there is none beside the tunnel", () => {
    const found = resolved("2001:db8:244::1", tunnels(["2001:db8:244::1"]));
    expect(found).toMatchObject({ reachable: true, connected: false, metric: 7 });
    expect([hopsOf(found.hops), found.tunnelled, found.links]).toEqual([["2001:db8:244::1%9"], undefined, [1]]);
    expect(found.reason).toMatch(/^through the tunnel to 2001:db8:244::1, whose end 10\.9\.0\.2 is reached via 10\.0\.1\.1 /);
    expect(resolved("2001:db8:244::1", tunnels([])).reason).toBe("there is no tunnel to 10.9.0.2");
    const cut = resolved("2001:db8:244::1", tunnels(["2001:db8:244::1"]), undefined, kernel());
    expect([cut.reachable, cut.reason]).toEqual([false, "the tunnel's end 10.9.0.2 is not reached: no route"]);
  });

  it("is another resolution than without", () => {
    const [a, b, c] = [tunnels(["10.9.0.2"]), tunnels(["10.9.0.2"]), undefined].map(found => resolved("10.9.0.2", found));
    expect([sameResolution(a, b), sameResolution(a, c), sameResolution(c, a)]).toEqual([true, false, false]);
  });
});
