/** Which nodes a node needs to know, and that a plan made of these alone is right. */
import { describe, expect, test } from "vitest";
import { selects } from "../../platform/label-selector.ts";
import { compile, compileFrom } from "../compile.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect, type Resources } from "../resources/kinds.ts";
import { type LastGood, nothingGood, readLastGood } from "./memory.ts";
import { neededNodes, neededServices } from "./needs.ts";

const rr = { matchLabels: { role: "rr" } };
const worker = { matchLabels: { role: "worker" } };
const node = (number: number, role = "worker", cidrs = [`10.244.${number}.0/24`]) => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: `n${number}`, labels: { role, number: String(number) } },
  spec: { podCIDRs: cidrs },
  status: { addresses: [{ type: "InternalIP", address: `10.0.0.${number}` }] },
});
const podlane = (kind: string, name: string, spec: object) => ({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec });
const fabric = (mesh: object, more: object = {}) => podlane("Fabric", "f", { nodeSelector: {}, asn: 65000, mesh, ...more });
const reflectors = (nodeSelector: object = rr) => ({ type: "RouteReflectors", routeReflectors: { nodeSelector } });
const nodes = [node(1), node(2), node(3, "rr"), node(4, "rr"), node(5)];

function resourcesOf(...objects: object[]): Resources {
  const { objects: read, problems } = readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test");
  expect(problems).toEqual([]);
  return collect(read.map(({ object }) => object)).resources;
}

/** As a source has it that asks for no more than is needed. */
function partOf(all: Resources, self: string): Resources {
  const own = { ...all, nodes: new Map([...all.nodes].filter(([name]) => name === self)), partialNodes: true };
  const needs = neededNodes(own, self);
  if (needs === "all") return all;
  const isNeeded = (labels: Record<string, string>) => needs.selectors.some(one => selects(one, labels));
  const nodes = [...all.nodes].filter(([name, { metadata }]) => name === self || isNeeded(metadata.labels ?? {}));
  return { ...own, nodes: new Map(nodes) };
}

describe("needed are", () => {
  const peer = (spec: object) => podlane("Peer", "p", { nodeSelector: worker, type: "Internal", ...spec });
  test.each<[string, object[], "all" | object[]]>([
    ["all without any Fabric", [], "all"],
    ["all in a full mesh", [fabric({})], "all"],
    ["the reflectors for a client", [fabric(reflectors())], [rr]],
    ["all for a reflector", [fabric(reflectors(worker))], "all"],
    ["none where there is no mesh", [fabric({ type: "None" })], []],
    ["all where a Peer of its own has nodes as neighbours", [fabric(reflectors()), peer({ peerSelector: worker })], "all"],
    ["the reflectors where such a Peer is for others", [fabric(reflectors()), peer({ nodeSelector: rr, peerSelector: worker })], [rr]],
    [
      "all where pods are masqueraded towards others than nodes",
      [fabric(reflectors()), podlane("PodNetwork", "p", { nodeSelector: {}, masquerade: { mode: "External" } })],
      "all",
    ],
    ["the reflectors beside a Peer with an address", [fabric(reflectors()), peer({ address: "10.0.0.9" })], [rr]],
    [
      "all where it has an overlay",
      [fabric(reflectors()), podlane("PodNetwork", "p", { nodeSelector: worker, overlay: "CrossSubnet" })],
      "all",
    ],
    [
      "the reflectors where others have an overlay",
      [fabric(reflectors()), podlane("PodNetwork", "p", { nodeSelector: rr, overlay: "Always" })],
      [rr],
    ],
    ["all where no fabric selects it, and a full mesh may have", [fabric({}, { nodeSelector: rr })], "all"],
    ["all where no fabric selects it, and one without a mesh may have", [fabric({ type: "None" }, { nodeSelector: rr })], "all"],
    ["the reflectors that it may have had where no fabric selects it", [fabric(reflectors(), { nodeSelector: rr })], [rr]],
    [
      "what each fabric needs that selects it",
      [
        fabric(reflectors()),
        podlane("Fabric", "g", { nodeSelector: {}, asn: 65001, mesh: reflectors({ matchLabels: { role: "other" } }) }),
      ],
      [rr, { matchLabels: { role: "other" } }],
    ],
  ])("%s", (_, objects, expected) => {
    const resources = { ...resourcesOf(nodes[0], ...objects), partialNodes: true };
    expect(neededNodes(resources, "n1")).toEqual(expected === "all" ? "all" : { selectors: expected });
  });

  test("all while the node's own object is not there", () => {
    expect(neededNodes(resourcesOf(fabric(reflectors())), "n1")).toBe("all");
  });

  test("all, as before, where the selector of the reflectors selects nobody: this node may be one that goes on", () => {
    const all = resourcesOf(...nodes, fabric(reflectors({ matchLabels: { role: "rrr" } })));
    expect(neededNodes(all, "n3")).toBe("all");
    expect(neededNodes({ ...all, partialNodes: true }, "n1")).not.toBe("all");
  });

  test("all where the node has no pod subnet, and an allocation may have its name mistyped", () => {
    const allocations = (name: string) =>
      podlane("PodNetwork", "p", { nodeSelector: {}, allocations: [{ node: name, podCIDRs: ["10.9.0.0/24"] }] });
    expect(neededNodes(resourcesOf(node(1, "worker", []), fabric(reflectors()), nodes[2], allocations("n11")), "n1")).toBe("all");
    expect(neededNodes(resourcesOf(node(1, "worker", []), fabric(reflectors()), nodes[2], allocations("n1")), "n1")).not.toBe("all");
  });
});

describe("with the reflectors alone", () => {
  const others = [
    podlane("Peer", "tor", {
      nodeSelector: { matchLabels: { number: "5" } },
      address: "10.0.0.254",
      asn: 65100,
      import: { default: "Reject" },
    }),
    podlane("Policy", "from-five", { rules: [{ match: { nodes: ["n5"] }, communities: { add: ["65000:5"] } }] }),
    podlane("Advertisement", "a", { nodeSelector: { matchLabels: { number: "5" } }, type: "PodCIDR", peers: ["tor"] }),
    podlane("Fabric", "elsewhere", { nodeSelector: { matchLabels: { number: "2" } }, asn: 65009, mesh: { type: "None" } }),
    podlane("PodNetwork", "five", {
      nodeSelector: { matchLabels: { number: "5" } },
      allocations: [{ node: "n5", podCIDRs: ["10.244.5.0/24"] }],
    }),
  ];
  const all = resourcesOf(...nodes, ...others, fabric({ ...reflectors(), importPolicies: ["from-five"] }));
  const facts = { name: "n1", addresses: [] };

  test("a client's plan is the same but for whom it judges by whom, and nothing is said of nodes that it does not know", () => {
    const part = partOf(all, "n1");
    expect([...part.nodes.keys()]).toEqual(["n1", "n3", "n4"]);
    const [full, partial] = [compile(all, facts), compile(part, facts)];
    const asFull = (plan: typeof partial) => ({
      ...plan,
      problems: [],
      speaker: { ...plan.speaker, origins: undefined, neighbors: plan.speaker?.neighbors.map(one => ({ ...one, origin: undefined })) },
    });
    expect(asFull(partial)).toEqual(asFull(full));
    expect(partial.problems.filter(one => !full.problems.some(other => JSON.stringify(other) === JSON.stringify(one)))).toEqual([]);
    expect(partial.speaker?.neighbors.map(({ origin }) => origin)).toEqual([
      { node: "n3", reflects: true, vouches: true },
      { node: "n4", reflects: true, vouches: true },
    ]);
    expect(partial.speaker?.origins?.nodes.map(({ name }) => name)).toEqual(["n1", "n3", "n4"]);
  });

  test("a reflector has all nodes, and judges them itself", () => {
    expect(partOf(all, "n3")).toBe(all);
    expect(compile(all, { ...facts, name: "n3" }).speaker?.neighbors.some(({ origin }) => origin !== "outside" && origin?.vouches)).toBe(
      false,
    );
  });

  describe("a mistake leaves what there was, over a restart as well", () => {
    const good = [...nodes, ...others.slice(0, 3), fabric({ ...reflectors(), importPolicies: ["from-five"] })];
    const wrong = (mesh: object, more: object = {}) => [...good.slice(0, -1), fabric({ importPolicies: ["from-five"], ...mesh }, more)];
    test.each<[string, object[], string]>([
      ["a selector of reflectors that selects nobody", wrong(reflectors({ matchLabels: { role: "rrr" } })), "n3, n4 go on reflecting"],
      [
        "a fabric that selects nobody",
        wrong(reflectors(), { nodeSelector: { matchLabels: { role: "wroker" } } }),
        "the nodes that it selected before stay",
      ],
    ])("%s", (_, broken, message) => {
      let lastGood: LastGood = nothingGood();
      const [first, second, third] = [good, broken, broken].map(objects => {
        const step = compileFrom(partOf(resourcesOf(...objects), "n1"), facts, { lastGood, unread: new Set() });
        lastGood = readLastGood(JSON.parse(JSON.stringify(step.lastGood)));
        return step.plan;
      });
      expect(first.speaker?.neighbors.length).toBe(2);
      expect(second.speaker).toEqual(first.speaker);
      expect(third).toEqual(second);
      expect(second.problems.map(one => one.message)).toContainEqual(expect.stringContaining(message));
    });
  });

  test("a policy that names a node of which nothing is known is no mistake, also where it named another one before", () => {
    const policy = (name: string) =>
      podlane("Policy", "p", { rules: [{ match: { nodes: [name] }, result: "Reject" }, { result: "Accept" }] });
    const world = (name: string) => partOf(resourcesOf(...nodes, policy(name), fabric({ ...reflectors(), importPolicies: ["p"] })), "n1");
    const { lastGood } = compileFrom(world("n5"), facts, { lastGood: nothingGood(), unread: new Set() });
    const { plan, lastGood: next } = compileFrom(world("n2"), facts, { lastGood, unread: new Set() });
    expect(plan.problems).toEqual([]);
    expect(next.policies.p.rules[0].match?.nodes).toEqual(["n2"]);
  });

  test("an allocation that now goes to a node of which nothing is known is not kept", () => {
    const world = (node1: object, ...allocated: [string, string][]) => {
      const allocations = allocated.map(([name, prefix]) => ({ node: name, podCIDRs: [prefix] }));
      return partOf(
        resourcesOf(node1, ...nodes.slice(1), fabric(reflectors()), podlane("PodNetwork", "p", { nodeSelector: {}, allocations })),
        "n1",
      );
    };
    const bare = node(1, "worker", []);
    const { lastGood } = compileFrom(world(bare, ["n1", "10.9.1.0/24"]), facts, { lastGood: nothingGood(), unread: new Set() });
    const moved = world(bare, ["n1", "10.9.2.0/24"], ["n7", "10.9.1.0/24"]);
    const { plan } = compileFrom(moved, facts, { lastGood, unread: new Set() });
    expect(plan.pods.podCidrs).toEqual(["10.9.2.0/24"]);
    expect(plan.problems).toEqual([]);
  });
});

describe("Services are needed", () => {
  const service = { addresses: ["LoadBalancerIP"], selector: {} };
  const vips = (spec: object = {}, more: object = {}) =>
    podlane("Advertisement", "vips", { nodeSelector: worker, type: "Service", service: { ...service, ...more }, mesh: true, ...spec });
  test.each<[string, object[], ReturnType<typeof neededServices>]>([
    ["by a node that announces some", [vips()], { namespaces: false }],
    ["with labels of namespaces where one looks at them", [vips({}, { namespaceSelector: {} })], { namespaces: true }],
    ["by no node that is not selected", [vips({ nodeSelector: rr })], undefined],
    [
      "by no node with other Advertisements",
      [podlane("Advertisement", "pods", { nodeSelector: {}, type: "PodCIDR", mesh: true })],
      undefined,
    ],
  ])("%s", (_, objects, needs) => {
    expect(neededServices(resourcesOf(...nodes, ...objects), "n1")).toEqual(needs);
  });

  test("by a node without a Node object, that may have been selected", () => {
    expect(neededServices(resourcesOf(node(2), vips({ nodeSelector: rr })), "n1")).toEqual({ namespaces: false });
  });
});
