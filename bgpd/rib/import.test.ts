import { describe, expect, it } from "vitest";
import { formatPrefix, parsePrefix } from "../../net/address.ts";
import { forwardingFamily } from "../family.ts";
import { buildAttributes } from "../message/attributes.ts";
import { SegmentType } from "../message/types.ts";
import { UpdateWriter } from "../message/update-writer.ts";
import { Rejected } from "./rejected.ts";
import { attributes, LOCAL_ASN, policyOf, rejectAll, TestRib, TestTracker } from "./testing.ts";

const ipv4Unicast = forwardingFamily(4);

const P = "10.0.0.0/8";
const WRITER = { fourOctetAsn: true, maxMessageLength: 4096 };

/** Flags of the first path of a prefix. */
function flags(test: TestRib, prefix = P): number {
  const table = test.rib.tables[ipv4Unicast];
  return table.pathFlags[table.head[table.prefixes.findPrefix(parsePrefix(prefix))]];
}

describe("loops", () => {
  it.each([
    [0, 1, false],
    [1, 1, true],
    [1, 2, false],
    [3, 3, true],
  ])("allowAsIn %i with our AS %i times in AS_PATH: accepted %s", async (allowAsIn, times, accepted) => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false, imports: { allowAsIn } });
    neighbor.announce(attributes({ path: [65001, ...Array<number>(times).fill(LOCAL_ASN)] }), P);
    await test.settled();
    expect([test.best(P), flags(test)]).toEqual(accepted ? ["n0", 0] : [undefined, Rejected.AsLoop]);
  });

  it.each([
    ["ORIGINATOR_ID", { originatorId: 0x0a000001 }, Rejected.ReflectionLoop],
    ["another ORIGINATOR_ID", { originatorId: 0x0a000002 }, 0],
    ["CLUSTER_LIST", { originatorId: 9, clusterList: [7, 0x0a000001] }, Rejected.ReflectionLoop],
    ["another CLUSTER_LIST", { originatorId: 9, clusterList: [7, 8] }, 0],
  ])("our own %s from inside", async (_, change, expected) => {
    const test = new TestRib();
    test.neighbor({ listens: false, external: false }).announce(attributes(change), P);
    await test.settled();
    expect(flags(test)).toBe(expected);
  });

  it("remove the route that was there before", async () => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false });
    const listener = test.neighbor();
    neighbor.announce(attributes(), P);
    await test.settled();
    expect(listener.table.size).toBe(1);
    neighbor.announce(attributes({ path: [65001, LOCAL_ASN] }), P);
    await test.settled();
    expect([test.best(P), listener.table.size, neighbor.slot.accepted]).toEqual([undefined, 0, [0, 0]]);
  });

  it("are judged again when our CLUSTER_ID changes", async () => {
    const test = new TestRib();
    test.neighbor({ listens: false, external: false }).announce(attributes({ originatorId: 9, clusterList: [77] }), P);
    await test.settled();
    expect(test.best(P)).toBe("n0");
    test.configure({ clusterId: 77 });
    await test.settled();
    expect(test.best(P)).toBeUndefined();
  });
});

describe("one UPDATE", () => {
  it("that withdraws and announces a prefix announces it", async () => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false });
    const octets = buildAttributes(attributes());
    const writer = new UpdateWriter(WRITER);
    writer.announce(ipv4Unicast, octets, 0, octets.length);
    writer.prefix4(0x0a000000, 8);
    const announcement = writer.take();
    // The two octets behind the header are the length of the withdrawn routes: 10/8 in 2 octets.
    const message = Uint8Array.of(...announcement.subarray(0, 19), 0, 2, 8, 10, ...announcement.subarray(21));
    message[16] = message.length >> 8;
    message[17] = message.length & 255;
    neighbor.receive(message);
    await test.settled();
    expect(test.best(P)).toBe("n0");
  });

  it("that is malformed withdraws what it announces (RFC 7606)", async () => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false });
    neighbor.announce(attributes(), P);
    const octets = buildAttributes({ ...attributes() });
    const writer = new UpdateWriter(WRITER);
    writer.announce(ipv4Unicast, octets, 0, octets.length);
    writer.prefix4(0x0a000000, 8);
    const message = writer.take();
    const origin = message.findIndex((octet, at) => at >= 23 && octet === 0x40 && message[at + 1] === 1);
    message[origin + 3] = 9;
    neighbor.receive(message);
    await test.settled();
    expect([test.best(P), neighbor.slot.paths]).toEqual([undefined, [0, 0]]);
  });

  it("may set the bits behind a prefix's length", async () => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false });
    const octets = buildAttributes(attributes());
    const writer = new UpdateWriter(WRITER);
    writer.announce(ipv4Unicast, octets, 0, octets.length);
    writer.prefix4(0x0affffff, 9);
    writer.prefix4(0x0a800000, 9);
    neighbor.receive(writer.take());
    await test.settled();
    expect(test.prefixes()).toEqual(["10.128.0.0/9"]);
  });
});

describe("the prefix limit", () => {
  it("counts what is accepted, not what is announced", () => {
    const test = new TestRib();
    const policy = policyOf([{ match: { prefixes: [{ prefix: "10.0.0.0/8", le: 32 }] }, action: { result: "accept" } }], "reject");
    const neighbor = test.neighbor({ listens: false, imports: { policy, prefixLimit: 2 } });
    expect(neighbor.announce(attributes(), "10.1.0.0/16", "10.2.0.0/16", "11.0.0.0/8", "12.0.0.0/8")).toBeUndefined();
    expect(neighbor.announce(attributes({ med: 1 }), "10.1.0.0/16")).toBeUndefined();
    expect(neighbor.announce(attributes(), "10.3.0.0/16")).toEqual({ limit: "accepted", family: "ipv4-unicast" });
  });

  it("holds per family", () => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false, imports: { prefixLimit: 1 } });
    expect(neighbor.announce(attributes(), P)).toBeUndefined();
    const v6 = attributes({ nextHop: "2001:db8::1" });
    expect(neighbor.announce(v6, "2001:db8:1::/48")).toBeUndefined();
    expect(neighbor.announce(v6, "2001:db8:2::/48")).toEqual({ limit: "accepted", family: "ipv6-unicast" });
  });
});

describe("the limit of what is kept", () => {
  it("counts rejected prefixes, too, and keeps none beyond it; what replaces one is no new one", async () => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false, imports: { policy: rejectAll, receivedLimit: 2 } });
    expect(neighbor.announce(attributes(), "10.1.0.0/16", "10.2.0.0/16")).toBeUndefined();
    expect(neighbor.announce(attributes({ med: 1 }), "10.1.0.0/16", "10.2.0.0/16")).toBeUndefined();
    neighbor.withdraw("10.2.0.0/16");
    expect(neighbor.announce(attributes(), "10.3.0.0/16")).toBeUndefined();
    const excess = { limit: "received", family: "ipv4-unicast" };
    expect(neighbor.announce(attributes(), ...Array.from({ length: 100 }, (_, n) => `11.${n}.0.0/16`), "10.3.0.0/16")).toEqual(excess);
    expect([neighbor.slot.paths, neighbor.slot.refused]).toEqual([[2, 0], 100]);
    expect(test.prefixes()).toEqual(["10.1.0.0/16", "10.3.0.0/16"]);
    await test.settled();
  });

  it("of attribute octets counts a set once, gives it back, and takes no route beyond it", async () => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false, imports: { policy: rejectAll }, attributeOctetsLimit: 10_000 });
    const set = (n: number) => attributes({ communities: Array.from({ length: 1000 }, (_, at) => 65536 * n + at) });
    expect(neighbor.announce(set(1), "10.1.0.0/16", "10.2.0.0/16")).toBeUndefined();
    const one = test.rib.attributes.octetsOf(neighbor.slot.serial);
    expect(one).toBeGreaterThan(4000);
    expect(neighbor.announce(set(1), "10.3.0.0/16")).toBeUndefined();
    expect(test.rib.attributes.octetsOf(neighbor.slot.serial)).toBe(one);
    expect(neighbor.announce(set(2), "10.3.0.0/16")).toBeUndefined();
    expect(neighbor.announce(set(3), "10.4.0.0/16", "10.5.0.0/16")).toEqual({ limit: "octets" });
    expect([neighbor.slot.paths, neighbor.slot.refused, test.rib.attributes.octetsOf(neighbor.slot.serial)]).toEqual([[3, 0], 2, 2 * one]);
    neighbor.withdraw("10.3.0.0/16");
    expect(test.rib.attributes.octetsOf(neighbor.slot.serial)).toBe(one);
    neighbor.withdraw("10.1.0.0/16", "10.2.0.0/16");
    expect(test.rib.attributes.octetsOf(neighbor.slot.serial)).toBe(0);
    await test.settled();
  });
});

describe("protected prefixes", () => {
  const guards = [
    { prefix: parsePrefix("10.244.0.0/16"), orLonger: true, reason: "pods of this node" },
    { prefix: parsePrefix("0.0.0.0/0"), orLonger: false, reason: "the default route" },
  ];
  const routes = ["10.244.0.0/16", "10.244.7.0/24", "10.0.0.0/8", "0.0.0.0/0", "11.0.0.0/8"];

  it("are taken over by nobody: neither they nor, where said so, a part of them", async () => {
    const test = new TestRib();
    test.configure({ protectedPrefixes: guards });
    test.neighbor({ listens: false }).announce(attributes(), ...routes);
    await test.settled();
    expect(routes.filter(prefix => test.best(prefix))).toEqual(["10.0.0.0/8", "11.0.0.0/8"]);
    expect(flags(test, "10.244.7.0/24")).toBe(Rejected.Protected);
  });

  it("unless a policy names them", async () => {
    const test = new TestRib();
    test.configure({ protectedPrefixes: guards });
    const policy = policyOf([{ match: { prefixes: [{ prefix: "0.0.0.0/0" }] }, action: { result: "accept" } }]);
    test.neighbor({ listens: false, imports: { policy } }).announce(attributes(), ...routes);
    await test.settled();
    expect(routes.filter(prefix => test.best(prefix))).toEqual(["10.0.0.0/8", "0.0.0.0/0", "11.0.0.0/8"]);
  });

  it("down to a length where one is given; a policy that rejects them leaves the protection to be seen", async () => {
    const test = new TestRib();
    test.configure({ protectedPrefixes: [{ prefix: parsePrefix("0.0.0.0/1"), orLonger: true, le: 7, reason: "short" }] });
    const policy = policyOf([{ match: { prefixes: [{ prefix: "64.0.0.0/2" }] }, action: { result: "reject" } }]);
    const asked = ["0.0.0.0/0", "0.0.0.0/1", "10.0.0.0/7", "10.0.0.0/8", "128.0.0.0/1", "64.0.0.0/2"];
    test.neighbor({ listens: false, imports: { policy } }).announce(attributes(), ...asked);
    await test.settled();
    expect(asked.map(prefix => flags(test, prefix))).toEqual([
      0,
      Rejected.Protected,
      Rejected.Protected,
      0,
      0,
      Rejected.Policy | Rejected.Protected,
    ]);
  });

  it("are judged again when they change, without the neighbour's help", async () => {
    const test = new TestRib();
    test.neighbor({ listens: false }).announce(attributes(), ...routes);
    await test.settled();
    test.configure({ protectedPrefixes: guards });
    await test.settled();
    expect(test.best("10.244.7.0/24")).toBeUndefined();
    test.configure({ protectedPrefixes: [] });
    await test.settled();
    expect(routes.filter(prefix => !test.best(prefix))).toEqual([]);
  });
});

it("a guard that comes or goes concerns the routes that it covers, and no others", async () => {
  const test = new TestRib();
  test.configure({ protectedPrefixes: [] });
  test.neighbor({ listens: false }).announce(attributes(), "10.1.0.0/16", "10.1.2.0/24", "11.0.0.0/8", "0.0.0.0/0");
  await test.settled();
  const table = test.rib.tables[ipv4Unicast];
  const judged: string[] = [];
  const announce = table.announce.bind(table);
  table.announce = (prefix, ...rest) => {
    judged.push(formatPrefix(table.prefixes.prefix(prefix)));
    return announce(prefix, ...rest);
  };
  const connected = { prefix: parsePrefix("10.1.0.0/16"), orLonger: true, reason: "connected network of eth1" };
  const other = { prefix: parsePrefix("11.0.0.0/8"), orLonger: false, reason: "other" };
  for (const protectedPrefixes of [[connected], [other, connected], [connected, other], [other]]) {
    judged.push("|");
    test.configure({ protectedPrefixes });
    await test.settled();
  }
  expect(judged.join(" ")).toBe("| 10.1.0.0/16 10.1.2.0/24 | 11.0.0.0/8 | | 10.1.0.0/16 10.1.2.0/24");
  expect(["10.1.2.0/24", "11.0.0.0/8"].map(prefix => test.best(prefix) !== undefined)).toEqual([true, false]);
});

describe("prefixes that are no destination of unicast routes (RFC 4271 section 6.3)", () => {
  it.each([
    ["127.0.0.0/8", true],
    ["127.1.2.3/32", true],
    ["126.0.0.0/7", false],
    ["224.0.0.0/4", true],
    ["239.1.0.0/16", true],
    ["224.0.0.0/3", false],
    ["240.0.0.0/4", false],
    ["255.255.255.255/32", true],
    ["255.255.255.254/31", false],
    ["0.0.0.0/0", false],
    ["ff00::/8", true],
    ["ff02::1/128", true],
    ["fe00::/7", false],
    ["fe80::/10", true],
    ["fe80::/64", true],
    ["febf::1/128", true],
    ["fe80::/9", false],
    ["::1/128", true],
    ["::/127", false],
    ["::/0", false],
  ])("%s: ignored %s, whatever policy says, and again when it is judged again", async (prefix, ignored) => {
    const test = new TestRib();
    const family = forwardingFamily(prefix.includes(":") ? 6 : 4);
    const named = policyOf([{ match: { prefixes: [{ prefix }] }, action: { result: "accept" } }]);
    const neighbor = test.neighbor({ listens: false, imports: { policy: named } });
    neighbor.announce(attributes({ nextHop: prefix.includes(":") ? "2001:db8::1" : "192.0.2.1" }), prefix);
    await test.settled();
    expect(neighbor.slot.accepted[family]).toBe(ignored ? 0 : 1);
    test.rib.reimport(neighbor.slot);
    await test.settled();
    expect(neighbor.slot.accepted[family]).toBe(ignored ? 0 : 1);
    const table = test.rib.tables[family];
    expect(table.pathFlags[table.head[table.prefixes.findPrefix(parsePrefix(prefix))]]).toBe(ignored ? Rejected.Protected : 0);
  });
});

describe("the AS path", () => {
  const sequence = (...asns: number[]) => ({ type: SegmentType.AsSequence, asns });
  const set = { type: SegmentType.AsSet, asns: [7, 8] };
  const confedSet = { type: SegmentType.ConfedSet, asns: [7, 8] };
  const outside = { external: true };
  const inside = { external: false };

  it.each([
    ["begins with the neighbour", outside, [sequence(65002, 7)], 0],
    ["begins with another AS", outside, [sequence(65003, 65002)], Rejected.FirstAs],
    ["begins with another AS, from inside", inside, [sequence(65003, 65002)], 0],
    ["is empty", outside, [], Rejected.EmptyPath],
    ["is empty, from inside", inside, [], 0],
    ["ends with an AS_SET", outside, [sequence(65002), set], Rejected.AsSet],
    ["ends with an AS_SET, from inside", inside, [sequence(65002), set], Rejected.AsSet],
    ["begins with an AS_SET", outside, [set, sequence(65002)], Rejected.AsSet | Rejected.FirstAs],
    ["has an AS_CONFED_SET, from inside", inside, [confedSet, sequence(65002)], Rejected.AsSet],
    ["has our AS behind another neighbour", outside, [sequence(65003, LOCAL_ASN)], Rejected.FirstAs | Rejected.AsLoop],
  ])("%s", async (_, { external }, asPath, expected) => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false, external, imports: { allowAsSets: false, firstAs: external ? 65002 : 0 } });
    neighbor.announce({ ...attributes(), asPath }, P);
    await test.settled();
    expect([flags(test), test.best(P)]).toEqual([expected, expected === 0 ? "n0" : undefined]);
  });

  it.each([
    ["an AS_SET", { allowAsSets: true }, [sequence(65002), set]],
    ["another first AS", { firstAs: 0 }, [sequence(65003)]],
  ])("may have %s where that is allowed, and is judged again when the switch turns", async (_, allowed, asPath) => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false, imports: { allowAsSets: false, firstAs: 65002 } });
    neighbor.announce({ ...attributes(), asPath }, P);
    await test.settled();
    expect(test.best(P)).toBeUndefined();
    const rules = neighbor.slot.imports["ipv4-unicast"]!;
    neighbor.slot.imports = { "ipv4-unicast": { ...rules, ...allowed } };
    test.rib.reimport(neighbor.slot);
    await test.settled();
    expect([test.best(P), flags(test)]).toEqual(["n0", 0]);
    neighbor.slot.imports = { "ipv4-unicast": rules };
    test.rib.reimport(neighbor.slot);
    await test.settled();
    expect(test.best(P)).toBeUndefined();
  });

  it("is no path without any AS, whatever is allowed", async () => {
    const test = new TestRib();
    test.neighbor({ listens: false, imports: { allowAsSets: true, firstAs: 0 } }).announce({ ...attributes(), asPath: [] }, P);
    await test.settled();
    expect(flags(test)).toBe(Rejected.EmptyPath);
  });
});

describe("import policy", () => {
  it("may be changed: routes at hand are judged again from what was received", async () => {
    const test = new TestRib();
    const neighbor = test.neighbor({ listens: false, imports: { policy: rejectAll } });
    const listener = test.neighbor();
    neighbor.announce(attributes({ communities: [5] }), P, "11.0.0.0/8");
    await test.settled();
    expect([neighbor.slot.accepted, neighbor.slot.paths, listener.table.size]).toEqual([[0, 0], [2, 0], 0]);
    const rules = { allowAsIn: 0, allowAsSets: false, firstAs: 0, prefixLimit: 0, receivedLimit: 0 };
    neighbor.slot.imports = {
      "ipv4-unicast": { ...rules, policy: policyOf([{ action: { result: "accept", communities: { add: ["1:1"] } } }]) },
    };
    test.rib.reimport(neighbor.slot);
    await test.settled();
    expect(listener.table.get(P)?.communities).toEqual([5, 0x10001]);
    neighbor.slot.imports = {
      "ipv4-unicast": { ...rules, policy: policyOf([{ action: { result: "accept", communities: { set: [] } } }]) },
    };
    test.rib.reimport(neighbor.slot);
    await test.settled();
    expect([listener.table.get(P)?.communities, neighbor.slot.accepted]).toEqual([undefined, [2, 0]]);
    neighbor.down();
    await test.settled();
    expect([test.rib.attributes.size, listener.table.size]).toEqual([0, 0]);
  });
});

it("a link-local next hop is followed on the link of its session", async () => {
  const tracker = new TestTracker();
  const test = new TestRib({ tracker });
  const set = attributes({ nextHop: "fe80::1" });
  for (const ifindex of [3, 4]) test.neighbor({ listens: false, ifindex, address: "fe80::1" }).announce(set, "2001:db8::/32");
  await test.settled();
  expect(tracker.tracked).toEqual(["fe80::1%3", "fe80::1%4"]);
});
