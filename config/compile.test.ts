/**
 * Golden files: each folder of testdata with a facts.json (node -> its kernel addresses) holds objects and, for each of these nodes, the
 * plan NODE.plan.json. UPDATE_GOLDEN=1 writes them anew; then look at the difference, and run the formatter.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RouteKinds } from "../bgpd/config.ts";
import { originNames } from "../bgpd/policy/conditions.ts";
import { isAddress } from "../net/address.ts";
import { hashedRouterId } from "./compile/router-ids.ts";
import { compile } from "./compile.ts";
import type { NodeFacts, NodePlan } from "./plan.ts";
import { readDocuments } from "./resources/documents.ts";
import { type AnyResource, collect } from "./resources/kinds.ts";
import { OriginNames, RouteKindNames } from "./resources/policy.ts";

const testdata = join(import.meta.dirname, "testdata");
const scenarios = readdirSync(testdata).filter(name => existsSync(join(testdata, name, "facts.json")));

function load(scenario: string): { objects: AnyResource[]; facts: NodeFacts[] } {
  const folder = join(testdata, scenario);
  const texts = readdirSync(folder)
    .filter(file => file.endsWith(".yaml"))
    .map(file => readFileSync(join(folder, file), "utf8"));
  const read = texts.map(text => readDocuments(text, scenario));
  expect(read.flatMap(({ problems }) => problems)).toEqual([]);
  const facts = JSON.parse(readFileSync(join(folder, "facts.json"), "utf8")) as Record<string, NodeFacts["addresses"]>;
  return {
    objects: read.flatMap(({ objects }) => objects.map(({ object }) => object)),
    facts: Object.entries(facts).map(([name, addresses]) => ({ name, addresses })),
  };
}

function plan(text: string, facts: Partial<NodeFacts> = {}): NodePlan {
  const { objects, problems } = readDocuments(text, "test");
  expect(problems).toEqual([]);
  return compile(collect(objects.map(({ object }) => object)).resources, { name: "n", addresses: [], ...facts });
}

const node = (fields: { name?: string; addresses?: string[]; annotations?: Record<string, string>; podCIDRs?: string[] } = {}) => {
  const { name = "n", addresses = [], annotations = {}, podCIDRs = [] } = fields;
  const status = { addresses: addresses.map(address => ({ type: "InternalIP", address })) };
  return `${JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name, annotations }, spec: { podCIDRs }, status }, undefined, 1)}\n---\n`;
};
const object = (kind: string, name: string, spec: object, labels = {}) =>
  `${JSON.stringify({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name, labels }, spec }, undefined, 1)}\n---\n`;

test("the schema's names are those of the speaker", () => {
  expect([...RouteKindNames]).toEqual([...RouteKinds]);
  expect([...OriginNames]).toEqual([...originNames]);
});

describe("golden plans", () => {
  const cases = scenarios.flatMap(scenario => load(scenario).facts.map(facts => ({ scenario, facts, name: facts.name })));
  test.each(cases)("$scenario: $name", ({ scenario, facts }) => {
    const result = compile(collect(load(scenario).objects).resources, facts);
    const file = join(testdata, scenario, `${facts.name}.plan.json`);
    if (process.env.UPDATE_GOLDEN) writeFileSync(file, `${JSON.stringify(result, undefined, 2)}\n`);
    expect(JSON.parse(JSON.stringify(result))).toEqual(JSON.parse(readFileSync(file, "utf8")));
  });

  test("only the folder of problems has errors", () => {
    for (const { scenario, facts } of cases) {
      const { problems } = compile(collect(load(scenario).objects).resources, facts);
      const errors = problems.filter(({ severity }) => severity === "error");
      expect(errors.length > 0, `${scenario} ${JSON.stringify(errors)}`).toBe(scenario === "problems");
    }
  });
});

test.each(scenarios)("%s: the order of the documents does not matter", scenario => {
  const { objects, facts } = load(scenario);
  const expected = facts.map(one => JSON.stringify(compile(collect(objects).resources, one)));
  const order = fc.shuffledSubarray(objects, { minLength: objects.length });
  fc.assert(
    fc.property(order, shuffled => {
      const { resources } = collect(shuffled);
      expect(facts.map(one => JSON.stringify(compile(resources, one)))).toEqual(expected);
    }),
    { numRuns: 20 },
  );
});

describe("router id", () => {
  const facts = {
    addresses: [
      { interface: "lo", address: "127.0.0.1", prefixLength: 8 },
      { interface: "eth0", address: "192.0.2.7", prefixLength: 24 },
    ],
  };
  const routerId = (text: string, extra: Partial<NodeFacts> = {}) => plan(text, { ...facts, ...extra }).speaker?.routerId;

  test("the facts' own goes before everything", () => {
    expect(routerId(node({ addresses: ["10.0.0.1"], annotations: { "podlane.io/router-id": "1.1.1.1" } }), { routerId: "9.9.9.9" })).toBe(
      "9.9.9.9",
    );
  });
  test("then the annotation", () => {
    expect(routerId(node({ addresses: ["10.0.0.1"], annotations: { "podlane.io/router-id": "1.1.1.1" } }))).toBe("1.1.1.1");
  });
  test("then the IPv4 InternalIP", () => {
    expect(routerId(node({ addresses: ["fd00::1", "10.0.0.1"] }))).toBe("10.0.0.1");
  });
  test("then, of a Node that names no address, the kernel's", () => {
    expect(routerId(node())).toBe("192.0.2.7");
  });
  test("else one made from the name, also where the fabric asks for it", () => {
    expect(routerId(node({ addresses: ["fd00::1"] }))).toBe(hashedRouterId("n"));
    const fabric = object("Fabric", "f", { nodeSelector: {}, asn: 65001, routerIDFrom: "NodeName" });
    expect(routerId(node({ addresses: ["10.0.0.1"] }) + fabric)).toBe(hashedRouterId("n"));
  });
  test("one made from a name is a unicast address; 1000 nodes get 1000", () => {
    const ids = Array.from({ length: 1000 }, (_, i) => hashedRouterId(`node-${i}`));
    expect(new Set(ids).size).toBe(1000);
    for (const id of ids) expect(isAddress(id) && Number(id.split(".")[0]) >= 1 && Number(id.split(".")[0]) <= 223).toBe(true);
  });
  test("two nodes with the same one are a problem", () => {
    const annotations = { "podlane.io/router-id": "1.1.1.1" };
    const { problems } = plan(node({ addresses: ["10.0.0.1"], annotations }) + node({ name: "m", addresses: ["10.0.0.2"], annotations }));
    expect(problems).toContainEqual(
      expect.objectContaining({ severity: "error", object: "Node/n", message: "router id 1.1.1.1 is that of node m too" }),
    );
  });
});

describe("safety", () => {
  const tor = (spec: object) => object("Peer", "tor", { nodeSelector: {}, address: "10.0.0.254", asn: 65001, ...spec });
  const one = node({ addresses: ["10.0.0.1"], podCIDRs: ["10.244.1.0/24"] });

  test("how long a session stays down after its prefix limit: a family's own word goes before the peer's", () => {
    const families = [{ name: "ipv4-unicast", prefixLimitRestart: 0 }, { name: "ipv6-unicast" }];
    const [neighbor] = plan(one + tor({ prefixLimitRestart: 60, families })).speaker?.neighbors ?? [];
    expect(neighbor.families).toMatchObject({ "ipv4-unicast": { prefixLimitRestart: 0 }, "ipv6-unicast": { prefixLimitRestart: 60 } });
  });

  test("AS_SETs and a first AS that is not the neighbour's are refused; a fabric, a template and a peer can say otherwise", () => {
    const fabric = (spec: object) => object("Fabric", "f", { nodeSelector: {}, asn: 65000, ...spec });
    const other = node({ name: "m", addresses: ["10.0.0.2"] });
    const switches = (text: string) =>
      plan(one + other + text).speaker?.neighbors.map(({ name, allowAsSets, enforceFirstAs }) => [name, allowAsSets, enforceFirstAs]);
    expect(switches(fabric({}) + tor({}))).toEqual([
      ["m/ipv4", undefined, undefined],
      ["tor", undefined, undefined],
    ]);
    expect(switches(fabric({ allowASSets: true }) + tor({ enforceFirstAS: false }))).toEqual([
      ["m/ipv4", true, undefined],
      ["tor", true, false],
    ]);
    const template = object("Peer", "rs", { template: true, allowASSets: false, enforceFirstAS: false });
    expect(switches(fabric({ allowASSets: true }) + template + tor({ from: "rs" }))).toEqual([
      ["m/ipv4", true, undefined],
      ["tor", undefined, false],
    ]);
    expect(switches(fabric({}) + template + tor({ from: "rs", allowASSets: true, enforceFirstAS: true }))).toEqual([
      ["m/ipv4", undefined, undefined],
      ["tor", true, undefined],
    ]);
  });

  test.each(["23456", "65535", "4294967295", "4294967296", "0"])("the annotation podlane.io/asn: %s is no AS number of a node", asn => {
    const { problems, speaker } = plan(node({ addresses: ["10.0.0.1"], annotations: { "podlane.io/asn": asn } }));
    expect(problems).toContainEqual(
      expect.objectContaining({ severity: "error", object: "Node/n", message: expect.stringContaining(`"${asn}" is not the AS number`) }),
    );
    expect(speaker?.asn).not.toBe(Number(asn));
  });

  test("a missing Secret shuts the session down and never leaves the password empty", () => {
    const [neighbor] = plan(one + tor({ passwordSecretRef: { name: "s" } })).speaker?.neighbors ?? [];
    expect(neighbor).toMatchObject({ name: "tor", shutdown: { message: "password not available" } });
    expect(neighbor).not.toHaveProperty("password");
  });

  test("a password stands in its own field only", () => {
    const secret = `${JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name: "s" }, stringData: { password: "hunter2" } })}\n---\n`;
    const result = plan(one + secret + tor({ passwordSecretRef: { name: "s" } }));
    expect(result.speaker?.neighbors[0].password).toBe("hunter2");
    expect(JSON.stringify(result).split("hunter2").length).toBe(2);
  });

  test("a policy that is missing or wrong rejects everything", () => {
    const wrong = object("Policy", "wrong", { rules: [{ match: { asPath: { regex: "([" } }, result: "Accept" }] });
    const { speaker } = plan(one + wrong + tor({ import: { policies: ["gone", "wrong"], default: "Accept" } }));
    expect(speaker?.neighbors[0].families["ipv4-unicast"]?.importPolicies).toEqual(["missing:gone", "wrong"]);
    for (const name of ["missing:gone", "wrong"]) {
      expect(speaker?.policies[name].rules).toEqual([{ name: expect.any(String), action: { result: "reject" } }]);
    }
  });

  test("an external peer gets nothing unless an Advertisement says so, and a problem says that", () => {
    const { speaker, problems } = plan(one + tor({}));
    expect(speaker?.neighbors[0].families["ipv4-unicast"]).toMatchObject({ importPolicies: [], exportPolicies: [], prefixLimit: 10000 });
    expect(speaker?.neighbors[0].families["ipv4-unicast"]).not.toHaveProperty("exportDefault");
    expect(speaker?.neighbors[0].families["ipv4-unicast"]).not.toHaveProperty("prefixLimitRestart");
    expect(problems.map(({ object: name, message }) => `${name}: ${message}`)).toEqual([
      "Peer/tor: no Advertisement selects this external peer: node n sends it nothing (RFC 8212)",
      "Peer/tor: nothing is accepted from this external peer on node n (RFC 8212)",
    ]);
  });

  test("a range that covers the node's own subnet does not open it; naming it does", () => {
    const rules = (accept: object[]) => plan(one + tor({ import: { accept } })).speaker?.policies["accept:tor/ipv4-unicast"].rules;
    const guard = { prefix: "10.244.1.0/24", ge: 24, le: 32 };
    expect(rules([{ prefix: "10.244.0.0/16", le: 26 }])?.[0]).toEqual({
      name: "protected",
      match: { prefixes: [guard] },
      action: { result: "reject" },
    });
    expect(rules([{ prefix: "10.244.1.0/24" }])?.map(({ name }) => name)).toEqual(["accept"]);
    expect(rules([{ prefix: "0.0.0.0/0" }])?.map(({ name }) => name)).toEqual(["accept"]);
  });

  test("a rule about peers that the node does not have is left out, not taken as one for all", () => {
    const policy = object("Policy", "p", { rules: [{ match: { peers: ["other"] }, result: "Accept" }, { result: "Reject" }] });
    const other = object("Peer", "other", { nodeSelector: { matchLabels: { no: "node" } }, address: "10.0.0.9", asn: 1 });
    const { speaker } = plan(one + policy + other + tor({ import: { policies: ["p"] } }));
    expect(speaker?.policies.p.rules).toEqual([{ name: "rule 2", action: { result: "reject" } }]);
  });
});
