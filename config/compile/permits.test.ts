import { expect, test } from "vitest";
import { plannedExports } from "../../bgpd/planned-exports.ts";
import { compile } from "../compile.ts";
import type { NodePlan } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";

const api = "podlane.io/v1alpha1";
const peerOf = (address: string) => ({ nodeSelector: {}, address, asn: 65010, import: { default: "Reject" } });

/** Node n1 with peers tor-a and tor-b, and these Advertisements. */
function plan(advertisements: Record<string, object>): NodePlan {
  const status = { addresses: [{ type: "InternalIP", address: "10.0.0.1" }] };
  const objects = [
    { apiVersion: "v1", kind: "Node", metadata: { name: "n1" }, spec: { podCIDRs: ["10.244.1.0/24", "fd00:1::/64"] }, status },
    {
      apiVersion: api,
      kind: "Peer",
      metadata: { name: "tor-a" },
      spec: { ...peerOf("10.0.0.11"), families: [{ name: "ipv4-unicast" }, { name: "ipv6-unicast" }] },
    },
    { apiVersion: api, kind: "Peer", metadata: { name: "tor-b" }, spec: peerOf("10.0.0.12") },
    ...Object.entries(advertisements).map(([name, spec]) => ({
      apiVersion: api,
      kind: "Advertisement",
      metadata: { name },
      spec: { nodeSelector: {}, ...spec },
    })),
  ];
  const read = readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test.yaml");
  expect(read.problems).toEqual([]);
  return compile(collect(read.objects.map(({ object }) => object)).resources, { name: "n1", addresses: [] });
}

const fixed = (...prefixes: string[]) => ({ type: "Static", static: { prefixes: prefixes.map(prefix => ({ prefix })) } });
const exports = ({ speaker }: NodePlan, name: string, family: "ipv4-unicast" | "ipv6-unicast" = "ipv4-unicast") =>
  speaker?.neighbors.find(one => one.name === name)?.families[family]?.exportPolicies;
/** Communities by prefix. */
const told = ({ speaker }: NodePlan, name: string) =>
  Object.fromEntries(
    plannedExports(speaker!)
      .filter(({ neighbor }) => neighbor === name)
      .flatMap(({ announced }) => announced.map(({ prefix, attributes }) => [prefix, attributes.communities])),
  );
const errors = ({ problems }: NodePlan) => problems.filter(({ severity }) => severity === "error");

test("of one prefix the communities of all are sent, to whom all announce it, and nothing else changes", () => {
  const result = plan({
    one: { ...fixed("198.51.100.0/24", "203.0.113.0/24"), peers: ["tor-a", "tor-b"], attributes: { communities: ["65000:1"], med: 5 } },
    two: {
      ...fixed("198.51.100.0/24"),
      peers: ["tor-a"],
      attributes: { communities: ["65000:2", "65000:1"], largeCommunities: ["65000:1:2"], prepend: 2 },
    },
  });
  expect(errors(result)).toEqual([]);
  expect(exports(result, "tor-a")).toEqual(["advertisement:one+two", "advertisement:one", "advertisement:two"]);
  expect(exports(result, "tor-b")).toEqual(["advertisement:one"]);
  expect(result.speaker?.policies["advertisement:one+two"]).toEqual({
    source: "Advertisement/one, Advertisement/two",
    rules: [
      {
        name: "announce",
        match: { sources: ["Advertisement/one", "Advertisement/two"] },
        action: {
          result: "accept",
          set: { med: 5 },
          communities: { add: ["65000:1", "65000:2"] },
          largeCommunities: { add: ["65000:1:2"] },
          prepend: { asn: "self", count: 2 },
        },
      },
    ],
  });
});

test("the pod subnets of both families, announced twice, are united in each", () => {
  const pods = { type: "PodCIDR", peerSelector: {} };
  const result = plan({
    one: { ...pods, attributes: { communities: ["65000:1"] } },
    two: { ...pods, attributes: { communities: ["65000:2"] } },
  });
  for (const family of ["ipv4-unicast", "ipv6-unicast"] as const)
    expect(exports(result, "tor-a", family)?.[0]).toBe("advertisement:one+two");
  expect(told(result, "tor-a")).toEqual({ "10.244.1.0/24": ["65000:1", "65000:2"], "fd00:1::/64": ["65000:1", "65000:2"] });
});

test("each prefix has the communities of those that announce it to this neighbour, however many do, and of no other", () => {
  const attributes = (n: number) => ({ attributes: { communities: [`65000:${n}`] } });
  const result = plan({
    a: { ...fixed("203.0.113.0/28", "203.0.113.16/28", "203.0.113.32/28"), ...attributes(1), peers: ["tor-a", "tor-b"] },
    b: { ...fixed("203.0.113.0/28", "203.0.113.16/28"), ...attributes(2), peers: ["tor-a"] },
    c: { ...fixed("203.0.113.0/28"), ...attributes(3), peers: ["tor-a", "tor-b"] },
    d: { ...fixed("203.0.113.48/28"), ...attributes(4), mesh: true },
  });
  expect(told(result, "tor-a")).toEqual({
    "203.0.113.0/28": ["65000:1", "65000:2", "65000:3"],
    "203.0.113.16/28": ["65000:1", "65000:2"],
    "203.0.113.32/28": ["65000:1"],
  });
  expect(told(result, "tor-b")).toEqual({
    "203.0.113.0/28": ["65000:1", "65000:3"],
    "203.0.113.16/28": ["65000:1"],
    "203.0.113.32/28": ["65000:1"],
  });
});

const services = (labels: object, attributes: object, service: object = {}) => ({
  type: "Service",
  service: { addresses: ["LoadBalancerIP"], selector: { matchLabels: labels }, ...service },
  peers: ["tor-a"],
  attributes,
});
const about = ({ problems }: NodePlan, reason: string) => problems.filter(one => one.reason === reason);

test("Advertisements of Services that may never meet contradict nothing", () => {
  const gold = services({ team: "gold" }, { med: 10 });
  const contradictions = (other: object) => about(plan({ gold, silver: other }), "AttributesContradict");
  expect(contradictions(services({ team: "silver" }, { med: 20 }))).toEqual([]);
  expect(contradictions(services({ team: "gold" }, { med: 20 }, { loadBalancerClasses: ["a.example/b"] }))).toEqual([]);
  expect(contradictions(services({ team: "gold" }, { med: 20 }, { addresses: ["ClusterIP"] }))).toEqual([]);
  expect(contradictions(services({ team: "gold" }, { med: 20 }))).toMatchObject([
    { severity: "warning", object: "Advertisement/silver", message: expect.stringContaining("both select the same Services") },
  ]);
});

test("of more Advertisements of Services than are merged the later ones are told that they are not", () => {
  const names = ["a", "b", "c", "d", "e", "f", "g"];
  const all = Object.fromEntries(
    names.map((name, i) => [name, services({ [name]: "yes" }, name === "f" ? {} : { communities: [`65000:${i}`] })]),
  );
  const found = about(plan(all), "AttributesNotMerged");
  expect(found.map(({ object }) => object)).toEqual(["Advertisement/g"]);
  expect(found[0].message).toContain("hears 7 Advertisements of type Service, and attributes of the first 5");
  const { g: _, ...six } = all;
  expect(about(plan(six), "AttributesNotMerged")).toEqual([]);
});

test.each([
  ["med", 10, 20],
  ["localPref", 200, 300],
  ["prepend", 1, 3],
])("a %s that differs is a problem that names both, and the first by name is used", (field, used, ignored) => {
  const result = plan({
    a: { ...fixed("198.51.100.0/24"), peers: ["tor-a"], attributes: { [field]: used } },
    b: { ...fixed("198.51.100.0/24"), peers: ["tor-a"], attributes: { [field]: ignored } },
    c: { ...fixed("203.0.113.0/24"), peers: ["tor-a"], attributes: { [field]: ignored } },
    d: { ...fixed("198.51.100.0/24"), peers: ["tor-b"], attributes: { [field]: ignored } },
  });
  expect(errors(result)).toMatchObject([
    {
      object: "Advertisement/b",
      field: `spec.attributes.${field}`,
      message: `198.51.100.0/24 is announced to the same neighbour with ${field} ${used} by Advertisement/a and ${ignored} by this one: ${used} is used`,
    },
  ]);
  const { action } = result.speaker?.policies["advertisement:a+b"].rules[0] ?? {};
  expect(JSON.stringify(action)).toContain(String(used));
  expect(exports(result, "tor-b")).toEqual(["advertisement:d"]);
});
