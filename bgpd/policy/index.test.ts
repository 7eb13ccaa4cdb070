import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseAddress, parsePrefix } from "../../net/address.ts";
import type { PolicyAction, PolicyConfig, PolicyMatch, PolicyRule } from "../config.ts";
import { parseCommunity } from "../message/format.ts";
import { type AsPathSegment, Origin, type PathAttributes, SegmentType } from "../message/types.ts";
import { compilePolicies, type PolicyInput, type PolicyOptions, type TraceStep } from "./index.ts";

const { AsSequence, AsSet, ConfedSequence } = SegmentType;
const byDefault: PolicyOptions["default"] = { action: "reject", text: "default: reject (RFC 8212)" };

describe("conditions", () => {
  const route: PathAttributes = {
    origin: Origin.Igp,
    asPath: [
      { type: AsSequence, asns: [65001, 65002] },
      { type: AsSet, asns: [65010, 65011] },
      { type: AsSequence, asns: [65003] },
    ],
    nextHop: parseAddress("192.0.2.1"),
    med: 50,
    communities: [community("65001:100"), community("65001:200"), community("no-export")],
    largeCommunities: [
      [65001, 1, 2],
      [4200000000, 0, 4294967295],
    ],
  };

  it.each<[PolicyMatch, true | string]>([
    [{}, true],
    [{ prefixes: [{ prefix: "10.0.0.0/8", le: 24 }] }, true],
    [{ prefixes: [{ prefix: "10.0.0.0/8" }, { prefix: "10.1.0.0/16" }] }, "prefix 10.1.2.0/24 is not in 10.0.0.0/8, 10.1.0.0/16"],
    [{ families: ["ipv4-unicast"] }, true],
    [{ families: ["ipv6-unicast"] }, "the route is IPv4, not ipv6-unicast"],
    [{ communities: { any: ["1:1", "65001:200"] } }, true],
    [{ communities: { any: ["65001:*"] } }, true],
    [{ communities: { any: ["*:200"] } }, true],
    [{ communities: { any: ["65002:*"] } }, "community list 65001:100, 65001:200, no-export has none of 65002:*"],
    [{ communities: { all: ["65001:*", "no-export"] } }, true],
    [{ communities: { all: ["65001:*", "no-advertise"] } }, "has not all of 65001:*, no-advertise"],
    [{ communities: { none: ["65002:*"] } }, true],
    [{ communities: { any: ["65001:100"], none: ["no-export"] } }, "has one of no-export"],
    [{ largeCommunities: { any: ["65001:1:2"] } }, true],
    [{ largeCommunities: { any: ["65001:*:*"] } }, true],
    [{ largeCommunities: { all: ["65001:1:*", "4200000000:*:4294967295"] } }, true],
    [{ largeCommunities: { any: ["65001:2:*"] } }, "large community list 65001:1:2, 4200000000:0:4294967295 has none of 65001:2:*"],
    [{ largeCommunities: { none: ["65001:*:2"] } }, "has one of 65001:*:2"],
    [{ asPath: { contains: [1, 65010] } }, true],
    [{ asPath: { contains: [1, 2] } }, /* the text of the path is format.ts's */ "has none of 1, 2"],
    [{ asPath: { neighbor: [65001] } }, true],
    [{ asPath: { neighbor: [65002] } }, "neighbouring AS 65001 is not 65002"],
    [{ asPath: { origin: [65003] } }, true],
    [{ asPath: { origin: [65010] } }, "originating AS 65003 is not 65010"],
    [{ asPath: { minLength: 4, maxLength: 4 } }, true],
    [{ asPath: { minLength: 5 } }, "AS path length 4 is not in 5.."],
    [{ asPath: { maxLength: 3 } }, "AS path length 4 is not in 0..3"],
    [{ asPath: { regex: "^65001 65002 {65010 65011} 65003$" } }, true],
    [{ asPath: { regex: "_65010_" } }, true],
    [{ asPath: { regex: "^65002_" } }, 'does not match "^65002_"'],
    [{ nextHops: ["198.51.100.0/24", "192.0.2.0/24"] }, true],
    [{ nextHops: ["2001:db8::/32"] }, "next hop 192.0.2.1 is not in 2001:db8::/32"],
    [{ origins: ["egp", "igp"] }, true],
    [{ origins: ["incomplete"] }, "origin igp is not incomplete"],
    [{ neighbors: ["tor-a", "tor-b"] }, true],
    [{ neighbors: ["tor-b"] }, "neighbour tor-a is not tor-b"],
    [{ kinds: ["learned"] }, true],
    [{ kinds: ["pod", "service"] }, "kind learned is not pod, service"],
    [{ med: { min: 50, max: 50 } }, true],
    [{ med: { min: 51 } }, "MED 50 is not in 51.."],
    [{ localPref: { min: 100, max: 100 } }, true],
    [{ localPref: { max: 99 } }, "local preference absent (counts as 100) is not in 0..99"],
    [{ kinds: ["learned"], neighbors: ["tor-a"], med: { max: 1 } }, "MED 50 is not in 0..1"],
  ])("%j: %s", (match, expected) => {
    const trace: TraceStep[] = [];
    const result = compile([{ match, action: { result: "accept" } }]).evaluate(inputOf(route), trace);
    expect(result.accepted).toBe(expected === true);
    expect(trace).toHaveLength(1);
    expect(trace[0]).toMatchObject({ policy: "p", rule: "rule 1", matched: expected === true });
    expect(trace[0].detail).toContain(expected === true ? "accepted" : expected);
  });

  it.each<[string, AsPathSegment[], PolicyMatch["asPath"], boolean]>([
    ["an empty path has no neighbour", [], { neighbor: [65001] }, false],
    ["an empty path has no origin", [], { origin: [65001] }, false],
    ["an empty path has length 0", [], { maxLength: 0 }, true],
    ["an empty path matches ^$", [], { regex: "^$" }, true],
    ["an AS_SET in front is no neighbour", [{ type: AsSet, asns: [1] }], { neighbor: [1] }, false],
    [
      "a confederation segment is passed over",
      [
        { type: ConfedSequence, asns: [9] },
        { type: AsSequence, asns: [1] },
      ],
      { neighbor: [1] },
      true,
    ],
    ["a confederation segment has no length", [{ type: ConfedSequence, asns: [9, 8] }], { maxLength: 0 }, true],
  ])("%s", (_, asPath, match, expected) => {
    const policy = compile([{ match: { asPath: match }, action: { result: "accept" } }]);
    expect(policy.evaluate(inputOf({ ...route, asPath })).accepted).toBe(expected);
  });

  it("compares the global address of a pair of next hops", () => {
    const nextHop = Uint8Array.of(...parseAddress("2001:db8::1"), ...parseAddress("fe80::1"));
    const accepts = (prefix: string) =>
      compile([{ match: { nextHops: [prefix] }, action: { result: "accept" } }]).evaluate(inputOf({ ...route, nextHop }, "2001:db8:1::/48"))
        .accepted;
    expect([accepts("2001:db8::/64"), accepts("fe80::/10"), accepts("0.0.0.0/0")]).toEqual([true, false, false]);
  });
});

describe("changes", () => {
  const route: PathAttributes = {
    origin: Origin.Igp,
    asPath: [{ type: AsSequence, asns: [65001, 65002] }],
    nextHop: parseAddress("192.0.2.1"),
    med: 50,
    communities: [community("65001:100"), community("65002:100")],
    largeCommunities: [[65001, 1, 2]],
  };
  const sequence = (...asns: number[]): AsPathSegment[] => [{ type: AsSequence, asns }];

  it.each<[Omit<PolicyAction, "result">, Partial<PathAttributes> | "unchanged", string]>([
    [{}, "unchanged", "accepted"],
    [{ set: { localPref: 200 } }, { localPref: 200 }, "local preference absent -> 200"],
    [{ set: { med: 0 } }, { med: 0 }, "MED 50 -> 0"],
    [{ set: { med: 50 } }, "unchanged", "MED is 50 already"],
    [{ removeMed: true }, { med: undefined }, "MED 50 -> absent"],
    [{ removeMed: false }, "unchanged", "accepted"],
    [{ set: { origin: "incomplete" } }, { origin: Origin.Incomplete }, "origin igp -> incomplete"],
    [{ set: { nextHop: "198.51.100.1" } }, { nextHop: parseAddress("198.51.100.1") }, "next hop 192.0.2.1 -> 198.51.100.1"],
    [{ set: { nextHop: "self" } }, { nextHop: parseAddress("192.0.2.254") }, "next hop 192.0.2.1 -> 192.0.2.254"],
    [{ set: { nextHop: "192.0.2.1" } }, "unchanged", "next hop is 192.0.2.1 already"],
    [{ communities: { set: ["1:1"] } }, { communities: [0x10001] }, "65001:100, 65002:100 -> 1:1"],
    [{ communities: { set: [] } }, { communities: undefined }, "-> (empty)"],
    [{ communities: { add: ["no-export", "1:1", "1:1"] } }, { communities: [0x10001, ...route.communities!, 0xffffff01] }, "no-export"],
    [{ communities: { add: ["65001:100"] } }, "unchanged", "already"],
    [{ communities: { remove: ["*:100"] } }, { communities: undefined }, "-> (empty)"],
    [{ communities: { remove: ["65001:*"], add: ["65001:7"] } }, { communities: [community("65001:7"), route.communities![1]] }, "->"],
    [{ communities: { remove: ["65009:*"] } }, "unchanged", "already"],
    [
      { largeCommunities: { add: ["65001:0:9"] } },
      {
        largeCommunities: [
          [65001, 0, 9],
          [65001, 1, 2],
        ],
      },
      "large community list",
    ],
    [{ largeCommunities: { remove: ["65001:*:*"] } }, { largeCommunities: undefined }, "-> (empty)"],
    [{ largeCommunities: { set: ["1:2:3"] } }, { largeCommunities: [[1, 2, 3]] }, "-> 1:2:3"],
    [{ prepend: { asn: 64999, count: 2 } }, { asPath: sequence(64999, 64999, 65001, 65002) }, "AS path"],
    [{ prepend: { asn: "self", count: 1 } }, { asPath: sequence(64512, 65001, 65002) }, "AS path"],
    [{ prepend: { asn: "last", count: 3 } }, { asPath: sequence(65001, 65001, 65001, 65001, 65002) }, "AS path"],
  ])("%j", (action, expected, detail) => {
    const trace: TraceStep[] = [];
    const input = inputOf(route);
    const before = structuredClone(input);
    const result = compile([{ action: { result: "accept", ...action } }]).evaluate(input, trace);
    expect(input).toEqual(before);
    if (expected === "unchanged") expect(result.attributes).toBe(route);
    else expect(result.attributes).toEqual({ ...route, ...expected });
    for (const [key, value] of Object.entries(result.attributes)) expect([key, value]).not.toEqual([key, undefined]);
    expect(trace[0].detail).toContain(detail);
  });

  it("fills a segment to 255 numbers and then opens another", () => {
    const asns = Array.from({ length: 254 }, (_, i) => i + 1);
    const input = inputOf({ ...route, asPath: sequence(...asns) });
    const result = compile([{ action: { result: "accept", prepend: { asn: 9, count: 3 } } }]).evaluate(input);
    expect(result.attributes.asPath).toEqual([...sequence(9, 9), ...sequence(9, ...asns)]);
  });

  it("puts a new segment before an AS_SET, and cannot repeat a neighbour that is none", () => {
    const set: AsPathSegment = { type: AsSet, asns: [1, 2] };
    const evaluate = (asn: number | "last") =>
      compile([{ action: { result: "accept", prepend: { asn, count: 1 } } }]).evaluate(inputOf({ ...route, asPath: [set] })).attributes
        .asPath;
    expect(evaluate(7)).toEqual([...sequence(7), set]);
    expect(evaluate("last")).toEqual([set]);
  });

  it("never gives an IPv6 route an IPv4 next hop", () => {
    const v6 = { ...route, nextHop: parseAddress("2001:db8::1") };
    const rules: PolicyRule[] = [{ action: { result: "accept", set: { nextHop: "self" } } }];
    for (const family of [undefined, "ipv6-unicast"] as const) {
      const policy = compile(rules, family);
      expect(policy.evaluate(inputOf(v6, "2001:db8:1::/48")).attributes).toBe(v6);
      expect(policy.usesPrefix).toBe(family === undefined);
    }
  });

  it("never mutates its input, and answers a frozen one", () => {
    const uint32 = fc.nat(0xffffffff);
    const communities = fc.uniqueArray(fc.nat(0x3_0003), { maxLength: 5 }).map(list => list.sort((a, b) => a - b));
    const attributes: fc.Arbitrary<PathAttributes> = fc.record(
      {
        origin: fc.constantFrom(Origin.Igp, Origin.Egp, Origin.Incomplete),
        asPath: fc.array(
          fc.record({ type: fc.constantFrom(AsSequence, AsSet, ConfedSequence), asns: fc.array(uint32, { minLength: 1, maxLength: 4 }) }),
          {
            maxLength: 3,
          },
        ),
        nextHop: fc.uint8Array({ minLength: 4, maxLength: 4 }),
        med: uint32,
        localPref: uint32,
        communities,
      },
      { requiredKeys: ["origin", "asPath", "nextHop"] },
    );
    const text = fc.tuple(fc.nat(3), fc.nat(3)).map(([a, b]) => `${a}:${b}`);
    const action: fc.Arbitrary<PolicyAction> = fc.record(
      {
        result: fc.constantFrom("accept", "continue", "reject"),
        set: fc.record(
          { localPref: uint32, origin: fc.constant("egp" as const), nextHop: fc.constantFrom("self", "10.0.0.1") },
          { requiredKeys: [] },
        ),
        removeMed: fc.boolean(),
        communities: fc.record(
          { set: fc.array(text), add: fc.array(text), remove: fc.array(fc.oneof(text, fc.constant("1:*"))) },
          { requiredKeys: [] },
        ),
        prepend: fc.record({
          asn: fc.oneof(fc.constantFrom("self" as const, "last" as const), fc.integer({ min: 1, max: 9 })),
          count: fc.integer({ min: 1, max: 32 }),
        }),
      },
      { requiredKeys: ["result"] },
    );
    const rule: fc.Arbitrary<PolicyRule> = fc.record({
      match: fc.record({ localPref: fc.record({ min: uint32 }) }, { requiredKeys: [] }),
      action,
    });
    fc.assert(
      fc.property(attributes, fc.array(rule, { maxLength: 4 }), (input, rules) => {
        const copy = structuredClone(input);
        const trace: TraceStep[] = [];
        const policy = compile(rules);
        const result = policy.evaluate(inputOf(freeze(input)), trace);
        expect(input).toEqual(copy);
        if (!result.accepted) expect(result.attributes).toBe(input);
        const { communities: list = [] } = result.attributes;
        expect(list).toEqual([...new Set(list)].sort((a, b) => a - b));
        // A trace changes nothing.
        expect(policy.evaluate(inputOf(input))).toEqual(result);
      }),
    );
  });
});

describe("the order of rules", () => {
  const base: PathAttributes = { origin: Origin.Igp, asPath: [], nextHop: parseAddress("192.0.2.1") };
  const policies: Record<string, PolicyConfig> = {
    tag: {
      rules: [
        { name: "raise", action: { result: "continue", set: { localPref: 300 } } },
        { name: "raised", match: { localPref: { min: 300 } }, action: { result: "continue", communities: { add: ["1:1"] } } },
        { name: "never", match: { kinds: ["pod"] }, action: { result: "reject", set: { med: 9 } } },
      ],
    },
    end: {
      rules: [
        { match: { prefixes: [{ prefix: "10.1.0.0/16", le: 24 }] }, action: { result: "accept", set: { med: 7 } } },
        { name: "any", match: { prefixes: [{ prefix: "0.0.0.0/0", le: 32 }] }, action: { result: "accept" } },
        { name: "rest", action: { result: "reject", set: { med: 9 } } },
      ],
    },
  };
  const compileNames = (...names: string[]) => compilePolicies({ names, policies, default: byDefault });

  it("goes through all policies, later rules seeing earlier changes, and says so", () => {
    const trace: TraceStep[] = [];
    const result = compileNames("tag", "end").evaluate(inputOf(base), trace);
    expect(result).toEqual({
      accepted: true,
      attributes: { ...base, localPref: 300, communities: [0x10001], med: 7 },
      decidedBy: 'policy "end", rule "rule 1"',
      rule: { policy: "end", rule: "rule 1" },
      namedPrefix: true,
    });
    expect(trace).toEqual([
      { policy: "tag", rule: "raise", matched: true, detail: "goes on; local preference absent -> 300" },
      { policy: "tag", rule: "raised", matched: true, detail: "goes on; community list (empty) -> 1:1" },
      { policy: "tag", rule: "never", matched: false, detail: "kind learned is not pod" },
      { policy: "end", rule: "rule 1", matched: true, detail: "accepted; MED absent -> 7" },
    ]);
  });

  it("gives a rejected route back as it was", () => {
    const result = compileNames("tag").evaluate({ ...inputOf(base), kind: "pod" });
    expect(result).toEqual({
      accepted: false,
      attributes: base,
      rule: { policy: "tag", rule: "never" },
      decidedBy: 'policy "tag", rule "never"',
      namedPrefix: false,
    });
    expect(result.attributes).toBe(base);
  });

  it("lets the default decide last, with the changes made on the way", () => {
    expect(compileNames("tag").evaluate(inputOf(base))).toEqual({
      accepted: false,
      attributes: base,
      decidedBy: byDefault.text,
      namedPrefix: false,
    });
    const accepting = compilePolicies({ names: ["tag"], policies, default: { action: "accept", text: "default: accept (internal)" } });
    expect(accepting.evaluate(inputOf(base))).toMatchObject({
      accepted: true,
      attributes: { localPref: 300 },
      decidedBy: "default: accept (internal)",
    });
  });

  it("takes a prefix as named only where an entry says more than anything", () => {
    const named = (prefix: string) => compileNames("end").evaluate(inputOf(base, prefix)).namedPrefix;
    expect([named("10.1.2.0/24"), named("10.2.0.0/16"), named("0.0.0.0/0"), named("2001:db8::/32")]).toEqual([true, false, true, false]);
  });

  it("tells what a result depends on, rules never reached left out", () => {
    const flags = (...rules: PolicyRule[]) => {
      const { usesPrefix, usesKind, usesNeighbor, trivial } = compile(rules);
      return { usesPrefix, usesKind, usesNeighbor, trivial };
    };
    const none = { usesPrefix: false, usesKind: false, usesNeighbor: false, trivial: undefined };
    const accept: PolicyAction = { result: "accept" };
    const end: PolicyRule = { action: { result: "reject" } };
    expect(flags()).toEqual({ ...none, trivial: "reject" });
    expect(flags(end)).toEqual(none);
    expect(flags({ match: { communities: { any: ["1:1"] } }, action: accept }, end)).toEqual(none);
    expect(flags({ match: { prefixes: [{ prefix: "10.0.0.0/8" }] }, action: accept })).toEqual({ ...none, usesPrefix: true });
    expect(flags({ match: { families: ["ipv4-unicast"] }, action: accept })).toEqual({ ...none, usesPrefix: true });
    expect(flags({ match: { kinds: ["pod"] }, action: accept })).toEqual({ ...none, usesKind: true });
    expect(flags({ match: { neighbors: ["a"] }, action: accept })).toEqual({ ...none, usesNeighbor: true });
    expect(flags({ action: { result: "accept", prepend: { asn: "self", count: 1 } } })).toEqual({ ...none, usesNeighbor: true });
    expect(flags({ action: { result: "accept", set: { nextHop: "2001:db8::1" } } })).toEqual(none);
    expect(flags(end, { match: { kinds: ["pod"], neighbors: ["a"] }, action: accept })).toEqual(none);
    const known = compile(
      [{ match: { families: ["ipv4-unicast"] }, action: { result: "accept", set: { nextHop: "self" } } }],
      "ipv4-unicast",
    );
    expect(known).toMatchObject({ usesPrefix: false, usesNeighbor: true });
    expect(known.evaluate(inputOf(base)).accepted).toBe(true);
  });

  it("refuses a name that is unknown, also one that every object has", () => {
    expect(() => compileNames("nope")).toThrow('policy "nope" does not exist; define it');
    expect(() => compileNames("constructor")).toThrow('policy "constructor" does not exist');
  });

  it("refuses a bad rule with its place and remedy", () => {
    expect(() =>
      compile([{ action: { result: "accept" } }, { name: "bad", match: { asPath: { regex: "(" } }, action: { result: "accept" } }]),
    ).toThrow(/^policy "p", rule "bad", match\.asPath\.regex: AS path pattern "\(", character 1: "\(" is not closed; write the numbers/);
  });
});

function compile(rules: PolicyRule[], family?: PolicyOptions["family"]) {
  return compilePolicies({ names: ["p"], policies: { p: { rules } }, default: byDefault, family });
}

function inputOf(attributes: PathAttributes, prefix = "10.1.2.0/24"): PolicyInput {
  return {
    prefix: parsePrefix(prefix),
    attributes,
    neighbor: "tor-a",
    kind: "learned",
    self: { asn: 64512, address: parseAddress("192.0.2.254") },
  };
}

function community(text: string): number {
  const value = parseCommunity(text);
  if (value === undefined) throw new Error(`bad community in a test: ${text}`);
  return value;
}

function freeze(attributes: PathAttributes): PathAttributes {
  for (const segment of attributes.asPath) Object.freeze(segment.asns);
  attributes.asPath.forEach(Object.freeze);
  Object.freeze(attributes.asPath);
  Object.freeze(attributes.communities);
  return Object.freeze(attributes);
}
