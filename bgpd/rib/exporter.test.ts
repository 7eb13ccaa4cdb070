import { describe, expect, it } from "vitest";
import { formatAddress, parseAddress } from "../../net/address.ts";
import { type PathAttributes, SegmentType } from "../message/types.ts";
import { attributes, type NeighborOptions, policyOf, rejectAll, TestRib } from "./testing.ts";

const P = "10.0.0.0/8";
const V6 = "2001:db8:5::/48";

/** What `to` hears when `from` announces this. */
async function heard(
  from: NeighborOptions,
  to: NeighborOptions,
  set: PathAttributes = attributes(),
  prefix = P,
): Promise<PathAttributes | undefined> {
  const test = new TestRib();
  const source = test.neighbor({ listens: false, routerId: 0x01010101, ...from });
  const listener = test.neighbor({ address: "10.0.0.99", ...to });
  source.announce(set, prefix);
  await test.settled();
  return listener.table.get(prefix);
}

const nextHopOf = (set: PathAttributes | undefined) =>
  set && (set.nextHop.length === 32 ? [set.nextHop.slice(0, 16), set.nextHop.slice(16)] : [set.nextHop]).map(formatAddress).join(" ");

describe("who hears what (RFC 4271 section 9.2, RFC 4456 section 6)", () => {
  const kinds = {
    external: { external: true },
    client: { external: false, client: true },
    "non-client": { external: false, client: false },
  };
  const table: [keyof typeof kinds, keyof typeof kinds, boolean][] = [
    ["external", "external", true],
    ["external", "client", true],
    ["external", "non-client", true],
    ["client", "external", true],
    ["client", "client", true],
    ["client", "non-client", true],
    ["non-client", "external", true],
    ["non-client", "client", true],
    ["non-client", "non-client", false],
  ];
  it.each(table)("from %s to %s: %s", async (from, to, passed) => {
    const got = await heard(kinds[from], kinds[to]);
    expect(got !== undefined).toBe(passed);
    const reflected = passed && from !== "external" && to !== "external";
    expect([got?.originatorId, got?.clusterList]).toEqual(reflected ? [0x01010101, [0x0a000001]] : [undefined, undefined]);
  });

  it.each([
    ["no-export", 0xffffff01, [false, true]],
    ["no-advertise", 0xffffff02, [false, false]],
    ["no-export-subconfed", 0xffffff03, [false, true]],
    ["any other", 0x00010001, [true, true]],
  ])("community %s: external, internal", async (_, community, expected) => {
    const set = attributes({ communities: [community] });
    const results = [await heard({}, {}, set), await heard({}, { external: false }, set)];
    expect(results.map(got => got !== undefined)).toEqual(expected);
  });

  it.each([
    ["AS_SET", SegmentType.AsSet],
    ["AS_CONFED_SET", SegmentType.ConfedSet],
  ])("an %s is told to those only who want it, inside and outside (RFC 9774)", async (_, type) => {
    const set = { ...attributes(), asPath: [...attributes().asPath, { type, asns: [7, 8] }] };
    const from = { external: type === SegmentType.AsSet, client: type !== SegmentType.AsSet };
    for (const external of [true, false]) {
      expect(await heard(from, { external }, set)).toBeUndefined();
      expect(await heard(from, { external, rules: { allowAsSets: true } }, set)).toBeDefined();
    }
  });

  it("AS 0 in the AS path, from an internal neighbour, is not told outside (RFC 7607)", async () => {
    const set = attributes({ path: [65001, 0] });
    expect(await heard({ external: false }, {}, set)).toBeUndefined();
    expect(await heard({ external: false, client: true }, { external: false }, set)).toBeDefined();
  });
});

describe("LOCAL_PREF and MED", () => {
  it("LOCAL_PREF stays inside, MED is not passed on to another AS", async () => {
    const set = attributes({ med: 7, localPref: 300 });
    const [outside, inside] = [
      await heard({ external: false }, {}, set),
      await heard({ external: false, client: true }, { external: false }, set),
    ];
    expect([outside?.med, outside?.localPref]).toEqual([undefined, undefined]);
    expect([inside?.med, inside?.localPref]).toEqual([7, 300]);
  });

  it("inside always has a LOCAL_PREF, and the MED of an external route", async () => {
    const got = await heard({}, { external: false }, attributes({ med: 7 }));
    expect([got?.localPref, got?.med]).toEqual([100, 7]);
  });

  it("a MED that policy or the route's owner sets goes out", async () => {
    const policy = policyOf([{ action: { result: "accept", set: { med: 9 } } }]);
    expect((await heard({}, { rules: { policy } }, attributes({ med: 7 })))?.med).toBe(9);
    const test = new TestRib();
    const listener = test.neighbor();
    test.rib.setNetworks([{ prefix: P, kind: "pod", source: "a", discard: false, attributes: { med: 4 } }]);
    await test.settled();
    expect(listener.table.get(P)?.med).toBe(4);
  });

  it("policy does not see a MED that would not be sent", async () => {
    const policy = policyOf([{ match: { med: { min: 7 } }, action: { result: "reject" } }]);
    expect(await heard({}, { rules: { policy } }, attributes({ med: 7 }))).toBeDefined();
    expect(await heard({}, { external: false, rules: { policy } }, attributes({ med: 7 }))).toBeUndefined();
  });
});

describe("the next hop (RFC 4271 section 5.1.3)", () => {
  const shared = { onSharedSubnet: () => true };

  it.each([
    ["external: our own address", {}, {}, "10.0.0.1"],
    ["external on the same subnet: the third party's", {}, { rules: shared }, "192.0.2.1"],
    ["external on the same subnet, but next-hop-self", {}, { rules: { ...shared, nextHopSelf: true } }, "10.0.0.1"],
    ["external on the same subnet, but the receiver's own", {}, { rules: shared, address: "192.0.2.1" }, "10.0.0.1"],
    ["internal, learned outside: unchanged", {}, { external: false }, "192.0.2.1"],
    ["internal, learned outside, next-hop-self", {}, { external: false, rules: { nextHopSelf: true } }, "10.0.0.1"],
    ["internal, learned outside, but the receiver's own", {}, { external: false, address: "192.0.2.1" }, "10.0.0.1"],
    [
      "reflected: unchanged, also with next-hop-self",
      { external: false },
      { external: false, client: true, rules: { nextHopSelf: true } },
      "192.0.2.1",
    ],
    [
      "chosen by policy",
      {},
      { rules: { policy: policyOf([{ action: { result: "accept", set: { nextHop: "192.0.2.77" } } }]) } },
      "192.0.2.77",
    ],
    [
      "chosen by policy, but the receiver's own",
      {},
      { address: "192.0.2.77", rules: { policy: policyOf([{ action: { result: "accept", set: { nextHop: "192.0.2.77" } } }]) } },
      "10.0.0.1",
    ],
  ] as [string, NeighborOptions, NeighborOptions, string][])("%s", async (_, from, to, expected) => {
    expect(nextHopOf(await heard(from, to))).toBe(expected);
  });

  it("of the source itself goes to the others on the subnet", async () => {
    const test = new TestRib();
    const options = { rules: shared };
    const [source, other] = [test.neighbor({ ...options, address: "192.0.2.1" }), test.neighbor(options)];
    source.announce(attributes(), P);
    await test.settled();
    expect(nextHopOf(other.table.get(P))).toBe("192.0.2.1");
  });

  it("is replaced when the neighbour that has the address joins later", async () => {
    const test = new TestRib();
    const options = { rules: shared };
    const [source, other] = [test.neighbor({ ...options, listens: false }), test.neighbor(options)];
    source.announce(attributes(), P);
    await test.settled();
    expect(nextHopOf(other.table.get(P))).toBe("192.0.2.1");
    const third = test.neighbor({ ...options, address: "192.0.2.1" });
    await test.settled();
    expect([nextHopOf(third.table.get(P)), nextHopOf(other.table.get(P))]).toEqual(["10.0.0.1", "10.0.0.1"]);
  });

  it("is never a link-local address that means another link", async () => {
    const both = Uint8Array.of(...parseAddress("2001:db8::7"), ...parseAddress("fe80::7"));
    const set = (nextHop: Uint8Array) => ({ ...attributes(), nextHop });
    expect(nextHopOf(await heard({}, { external: false }, set(both), V6))).toBe("2001:db8::7");
    expect(nextHopOf(await heard({}, { rules: shared }, set(both), V6))).toBe("2001:db8::7 fe80::7");
    const linkLocal = set(parseAddress("fe80::7"));
    for (const to of [{ external: false }, { rules: shared }, {}])
      expect(nextHopOf(await heard({}, to, linkLocal, V6))).toBe("2001:db8::1");
    expect(nextHopOf(await heard({ external: false }, { external: false, client: true }, linkLocal, V6))).toBe("2001:db8::1");
  });

  it("keeps a route back where we have no address to put there", async () => {
    expect(await heard({}, { rules: { selfNextHop: undefined } })).toBeUndefined();
  });
});

describe("routes of our own", () => {
  const network = { prefix: P, kind: "pod" as const, source: "Advertisement/pods", discard: false };

  it("have our address as next hop unless they name another", async () => {
    const test = new TestRib();
    const listener = test.neighbor({ external: false });
    test.rib.setNetworks([network, { ...network, prefix: "11.0.0.0/8", nextHop: "10.0.0.7" }]);
    await test.settled();
    expect([nextHopOf(listener.table.get(P)), nextHopOf(listener.table.get("11.0.0.0/8"))]).toEqual(["10.0.0.1", "10.0.0.7"]);
  });

  it("go only to the neighbours they name, and follow the list", async () => {
    const test = new TestRib();
    const named = test.neighbor({ group: "named", rules: { mayHear: () => true } });
    let allowed = false;
    const other = test.neighbor({ group: "other", rules: { mayHear: () => allowed } });
    test.rib.setNetworks([{ ...network, restricted: true, sources: ["a"] }]);
    await test.settled();
    expect([named.table.size, other.table.size]).toEqual([1, 0]);
    allowed = true;
    test.rib.setNetworks([{ ...network, restricted: true, sources: ["a", "b"] }]);
    await test.settled();
    expect(other.table.size).toBe(1);
  });

  it("are known to policies by their kind", async () => {
    const test = new TestRib();
    const policy = policyOf([{ match: { kinds: ["pod"] }, action: { result: "accept" } }], "reject");
    const listener = test.neighbor({ rules: { policy } });
    const feeder = test.neighbor({ listens: false });
    feeder.announce(attributes(), "12.0.0.0/8");
    test.rib.setNetworks([network, { ...network, prefix: "11.0.0.0/8", kind: "service" }]);
    await test.settled();
    expect([...listener.table.keys()]).toEqual([P]);
  });

  it("carry the attributes they name", async () => {
    const test = new TestRib();
    const listener = test.neighbor({ external: false });
    const set = { communities: ["65000:1", "no-export"], largeCommunities: ["1:2:3"], localPref: 150, origin: "incomplete" as const };
    test.rib.setNetworks([{ ...network, attributes: set }]);
    await test.settled();
    expect(listener.table.get(P)).toMatchObject({
      communities: [0xfde80001, 0xffffff01],
      largeCommunities: [[1, 2, 3]],
      localPref: 150,
      origin: 2,
      asPath: [],
    });
  });
});

it("nothing leaves where the rules reject by default (RFC 8212)", async () => {
  expect(await heard({}, { rules: { policy: rejectAll } })).toBeUndefined();
});

it("computes once per attribute set, and again when the result is gone", async () => {
  const test = new TestRib();
  const asked: string[] = [];
  const { evaluate, ...rest } = policyOf([{ action: { result: "accept", communities: { add: ["1:1"] } } }]);
  const policy = {
    ...rest,
    evaluate: (...args: Parameters<typeof evaluate>) => {
      asked.push(args[0].attributes.asPath[0].asns.join());
      return evaluate(...args);
    },
  };
  const listener = test.neighbor({ rules: { policy } });
  const feeder = test.neighbor({ listens: false });
  feeder.announce(attributes(), P, "11.0.0.0/8");
  feeder.announce(attributes({ path: [2] }), "12.0.0.0/8");
  await test.settled();
  expect(asked).toEqual(["65001", "2"]);
  feeder.withdraw(P, "11.0.0.0/8", "12.0.0.0/8");
  await test.settled();
  expect([test.rib.attributes.size, listener.table.size]).toEqual([0, 0]);
  feeder.announce(attributes(), P);
  await test.settled();
  expect(listener.table.get(P)?.communities).toEqual([0x10001]);
});
