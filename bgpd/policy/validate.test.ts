import { describe, expect, it } from "vitest";
import type { PolicyAction, PolicyMatch } from "../config.ts";
import { validatePolicy } from "./index.ts";

describe("validatePolicy", () => {
  it.each<[PolicyMatch, string, string]>([
    [{ prefixes: [{ prefix: "10.0.0.0/8" }, { prefix: "10.0.0.1/8" }] }, "match.prefixes[1]", "did you mean 10.0.0.0/8"],
    [{ prefixes: [{ prefix: "10.0.0.0/8", le: 33 }] }, "match.prefixes[0]", "lengths must rise"],
    [{ prefixes: [{ prefix: "10.0.0.0/8", ge: 4 }] }, "match.prefixes[0]", "lengths must rise"],
    [{ prefixes: [] }, "match.prefixes", "the list is empty"],
    [{ communities: { any: ["65001:100", "banana"] } }, "match.communities.any[1]", "banana"],
    [{ communities: { any: ["65536:*"] } }, "match.communities.any[0]", "65536:*"],
    [{ communities: { none: ["*"] } }, "match.communities.none[0]", '"*" is no pattern of 2 fields'],
    [{ largeCommunities: { all: ["1:2"] } }, "match.largeCommunities.all[0]", "1:2"],
    [{ largeCommunities: { all: ["1:2:*:4"] } }, "match.largeCommunities.all[0]", "is no pattern of 3 fields"],
    [{ asPath: { contains: [0] } }, "match.asPath.contains[0]", "0 is no AS number"],
    [{ asPath: { neighbor: [4294967296] } }, "match.asPath.neighbor[0]", "no AS number"],
    [{ asPath: { origin: [] } }, "match.asPath.origin", "the list is empty"],
    [{ asPath: { minLength: 5, maxLength: 2 } }, "match.asPath length", "5 is more than 2"],
    [{ asPath: { regex: "[0-9" } }, "match.asPath.regex", '"[" is not closed'],
    [{ nextHops: ["10.0.0.1"] }, "match.nextHops[0]", "is not a prefix"],
    [{ origins: ["best" as "igp"] }, "match.origins", '"best" is unknown'],
    [{ kinds: ["pods" as "pod"] }, "match.kinds", '"pods" is unknown'],
    [{ families: ["ipv4" as "ipv4-unicast"] }, "match.families", '"ipv4" is unknown'],
    [{ neighbors: [] }, "match.neighbors", "the list is empty"],
    [{ med: { min: -1 } }, "match.med minimum", "-1 is not a whole number"],
    [{ localPref: { max: 4294967296 } }, "match.localPref maximum", "is not a whole number"],
  ])("match %j", (match, field, message) => {
    expectProblem(
      validatePolicy({ rules: [{ action: { result: "continue" } }, { match, action: { result: "accept" } }] }),
      1,
      field,
      message,
    );
  });

  it.each<[Partial<PolicyAction>, string, string]>([
    [{ result: "allow" as "accept" }, "action.result", '"allow" is unknown'],
    [{ set: { localPref: 4294967296 } }, "action.set.localPref", "is not a whole number"],
    [{ set: { med: 1.5 } }, "action.set.med", "is not a whole number"],
    [{ set: { med: 1 }, removeMed: true }, "action.removeMed", "both set and removed"],
    [{ set: { origin: "IGP" as "igp" } }, "action.set.origin", '"IGP" is unknown'],
    [{ set: { nextHop: "me" } }, "action.set.nextHop", '"me" is not an IPv4 or IPv6 address'],
    [{ set: { nextHop: "224.0.0.1" } }, "action.set.nextHop", "not the address of a host"],
    [{ set: { nextHop: "ff02::1" } }, "action.set.nextHop", "not the address of a host"],
    [{ set: { nextHop: "::" } }, "action.set.nextHop", "not the address of a host"],
    [{ communities: { set: ["65001:*"] } }, "action.communities.set[0]", "65001:*"],
    [{ communities: { add: ["1:1", "x"] } }, "action.communities.add[1]", "x"],
    [{ communities: { remove: ["1:*:2"] } }, "action.communities.remove[0]", "1:*:2"],
    [{ largeCommunities: { add: ["1:2:*"] } }, "action.largeCommunities.add[0]", "1:2:*"],
    [{ prepend: { asn: "self", count: 0 } }, "action.prepend.count", "0 is not a whole number in 1..32"],
    [{ prepend: { asn: "last", count: 33 } }, "action.prepend.count", "33 is not a whole number in 1..32"],
    [{ prepend: { asn: 0, count: 1 } }, "action.prepend.asn", "0 is no AS number"],
  ])("action %j", (action, field, message) => {
    expectProblem(validatePolicy({ rules: [{ action: { result: "accept", ...action } }] }), 0, field, message);
  });

  it("names every problem of every rule", () => {
    const bad = { match: { prefixes: [{ prefix: "x" }], nextHops: ["y"] }, action: { result: "accept" as const, set: { med: -1 } } };
    expect(validatePolicy({ rules: [bad, bad] }).map(({ rule, field }) => `${rule} ${field}`)).toEqual([
      "0 match.prefixes[0]",
      "0 match.nextHops[0]",
      "0 action.set.med",
      "1 match.prefixes[0]",
      "1 match.nextHops[0]",
      "1 action.set.med",
    ]);
  });

  it("has nothing to say of a policy that uses every field well", () => {
    const rules = [
      {
        match: {
          prefixes: [{ prefix: "10.0.0.0/8", ge: 16, le: 24 }, { prefix: "2001:db8::/32" }],
          families: ["ipv4-unicast" as const],
          communities: { any: ["65001:*", "graceful-shutdown"], all: ["*:1"], none: ["no-export"] },
          largeCommunities: { any: ["1:*:3"], none: ["4294967295:0:0"] },
          asPath: { contains: [1], neighbor: [2], origin: [4294967295], minLength: 0, maxLength: 10, regex: "_65001_" },
          nextHops: ["10.0.0.0/8"],
          origins: ["igp" as const],
          neighbors: ["tor-a"],
          kinds: ["learned" as const],
          med: { min: 0, max: 4294967295 },
          localPref: { min: 1 },
        },
        action: {
          result: "accept" as const,
          set: { localPref: 0, med: 4294967295, origin: "egp" as const, nextHop: "self" },
          communities: { set: [], add: ["blackhole"], remove: ["65001:*"] },
          largeCommunities: { add: ["1:2:3"], remove: ["1:*:*"] },
          prepend: { asn: "self" as const, count: 32 },
        },
      },
    ];
    expect(validatePolicy({ rules })).toEqual([]);
  });
});

function expectProblem(problems: ReturnType<typeof validatePolicy>, rule: number, field: string, message: string): void {
  expect(problems).toHaveLength(1);
  expect(problems[0]).toMatchObject({ rule, field });
  expect(problems[0].message).toContain(message);
  expect(problems[0].remedy).not.toBe("");
}
