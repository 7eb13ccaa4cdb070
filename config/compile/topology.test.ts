/** Topology without knobs: no object at all, gateways as neighbours, AS numbers and neighbours' addresses from labels and annotations. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { compile, compileFrom } from "../compile.ts";
import type { Gateway, NodeFacts, NodePlan } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect, type Resources } from "../resources/kinds.ts";
import { type LastGood, nothingGood, readLastGood } from "./memory.ts";

interface Said {
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

const node = (number: number, said: Said = {}) => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: `n${number}`, ...said },
  spec: { podCIDRs: [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`] },
  status: { addresses: [`10.0.0.${number}`, `fd00::${number}`].map(address => ({ type: "InternalIP", address })) },
});
const podlane = (kind: string, name: string, spec: object) => ({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec });
const peer = (spec: object) => podlane("Peer", "tor", { nodeSelector: {}, import: { default: "Reject" }, ...spec });

function resourcesOf(...objects: object[]): Resources {
  const { objects: read, problems } = readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test");
  expect(problems).toEqual([]);
  return collect(read.map(({ object }) => object)).resources;
}

/** A moment of the life of node n1's agent. */
type World = { objects: object[]; gateways?: Gateway[] };

/** One world after the other, over a restart between any two. */
function live(...worlds: World[]): NodePlan[] {
  let lastGood: LastGood = nothingGood();
  return worlds.map(({ objects, gateways }) => {
    const facts: NodeFacts = { name: "n1", addresses: [], ...(gateways && { gateways }) };
    const step = compileFrom(resourcesOf(...objects), facts, { lastGood, unread: new Set() });
    lastGood = readLastGood(JSON.parse(JSON.stringify(step.lastGood)));
    return step.plan;
  });
}

const planOf = (...objects: object[]) => live({ objects })[0];
const messages = ({ problems }: NodePlan, severity = "error") =>
  problems.filter(one => one.severity === severity).map(({ object, field, message }) => `${object} ${field}: ${message}`);
const sessions = ({ speaker }: NodePlan) =>
  speaker?.neighbors.map(({ name, address, interface: link, remoteAsn }) => [name, link ? `${address}%${link}` : address, remoteAsn]);

test("with no object but Nodes: all in one mesh in AS 64512, a session per family, and nothing is wrong", () => {
  const plan = planOf(node(1), node(2), node(3));
  expect(plan.problems).toEqual([]);
  expect(plan.speaker?.asn).toBe(64512);
  expect(sessions(plan)).toEqual([
    ["n2/ipv4", "10.0.0.2", 64512],
    ["n2/ipv6", "fd00::2", 64512],
    ["n3/ipv4", "10.0.0.3", 64512],
    ["n3/ipv6", "fd00::3", 64512],
  ]);
  expect(plan.speaker?.neighbors.map(({ families }) => Object.keys(families).join())).toEqual([
    "ipv4-unicast",
    "ipv6-unicast",
    "ipv4-unicast",
    "ipv6-unicast",
  ]);
  expect(plan.speaker?.networks.map(({ prefix }) => prefix)).toEqual(["10.244.1.0/24", "fd00:10:244:1::/64"]);
});

describe("a Peer by the node's gateways", () => {
  const v4 = (address: string): Gateway => ({ family: 4, address, interface: "eth0" });
  const link: Gateway = { family: 6, address: "fe80::1", interface: "eth1" };
  const objects = (family: string) => [node(1), peer({ gateway: family, asn: 65100 })];

  test("each next hop of the default route of that family is a neighbour; a link-local one with its interface", () => {
    const gateways = [v4("10.0.0.254"), v4("10.0.0.253"), link];
    const [four] = live({ objects: objects("IPv4"), gateways });
    expect(sessions(four)).toEqual([
      ["tor/10.0.0.254", "10.0.0.254", 65100],
      ["tor/10.0.0.253", "10.0.0.253", 65100],
    ]);
    expect(messages(four)).toEqual([]);
    const [six] = live({ objects: objects("IPv6"), gateways });
    expect(sessions(six)).toEqual([["tor/fe80::1%eth1", "fe80::1%eth1", 65100]]);
  });

  test("one that goes away stays until another is there, over a restart as well, and a problem says so", () => {
    const [first, gone, still, next] = live(
      { objects: objects("IPv4"), gateways: [v4("10.0.0.254")] },
      { objects: objects("IPv4"), gateways: [link] },
      { objects: objects("IPv4") },
      { objects: objects("IPv4"), gateways: [v4("10.0.0.1")] },
    );
    expect(gone.speaker).toEqual(first.speaker);
    expect(still.speaker).toEqual(first.speaker);
    const text = "Peer/tor spec.gateway: node n1 has no IPv4 default gateway: 10.0.0.254, which it had, stays until there is another";
    expect(messages(gone)).toEqual([text]);
    expect(sessions(next)).toEqual([["tor/10.0.0.1", "10.0.0.1", 65100]]);
    expect(messages(next)).toEqual([]);
  });

  test("none that was ever seen is an error with a remedy; where the kernel is not asked it is a note", () => {
    const [none] = live({ objects: objects("IPv6"), gateways: [v4("10.0.0.254")] });
    expect(sessions(none)).toEqual([]);
    expect(none.problems).toContainEqual(
      expect.objectContaining({ reason: "GatewayUnknown", severity: "error", remedy: expect.stringContaining("IPv6 default route") }),
    );
    const [unknown] = live({ objects: objects("IPv6") });
    expect(messages(unknown)).toEqual([]);
    expect(messages(unknown, "warning")).toContainEqual(expect.stringContaining("known on the node alone"));
  });

  test("no more than eight", () => {
    const gateways = Array.from({ length: 12 }, (_, at) => v4(`10.0.1.${at + 1}`));
    expect(sessions(live({ objects: objects("IPv4"), gateways })[0])?.length).toBe(8);
  });

  test("one that another Peer has by its address is told, and that session stays", () => {
    const other = podlane("Peer", "a", { nodeSelector: {}, address: "10.0.0.254", asn: 65100, import: { default: "Reject" } });
    const [plan] = live({ objects: [...objects("IPv4"), other], gateways: [v4("10.0.0.254"), v4("10.0.0.253")] });
    expect(sessions(plan)?.map(([name]) => name)).toEqual(["a", "tor/10.0.0.253"]);
    expect(messages(plan)).toEqual([expect.stringContaining("Peer/tor spec.gateway: 10.0.0.254 is a neighbour of node n1 already, as a")]);
  });
});

describe("an AS from each node's label or annotation", () => {
  const rack = (as: string) => ({ labels: { rack: as } });
  const fabric = (more: object = {}) => podlane("Fabric", "hall", { nodeSelector: {}, asnFrom: { label: "rack" }, ...more });

  test("nodes of one AS are a mesh; others are told of, and reached through Peers", () => {
    const plan = planOf(node(1, rack("65001")), node(2, rack("65001")), node(3, rack("65002")), fabric());
    expect(plan.problems).toEqual([]);
    expect(plan.speaker?.asn).toBe(65001);
    expect(sessions(plan)?.map(([name, , asn]) => [name, asn])).toEqual([
      ["n2/ipv4", 65001],
      ["n2/ipv6", 65001],
    ]);
    expect(plan.speaker?.origins?.nodes.map(({ name, asn }) => [name, asn])).toEqual([
      ["n1", 65001],
      ["n2", 65001],
      ["n3", 65002],
    ]);
  });

  test("the node annotation podlane.io/asn overrides it, also where the label is missing", () => {
    const annotations = { "podlane.io/asn": "65009" };
    expect(planOf(node(1, { ...rack("65001"), annotations }), fabric()).speaker?.asn).toBe(65009);
    const plan = planOf(node(1, { annotations }), fabric());
    expect([plan.speaker?.asn, plan.problems]).toEqual([65009, []]);
  });

  test("an annotation does as well, and one that podlane would not know otherwise is known by it", () => {
    const annotations = { "podlane.io/rack-as": " 65003 " };
    const plan = planOf(node(1, { annotations }), fabric({ asnFrom: { annotation: "podlane.io/rack-as" } }));
    expect([plan.speaker?.asn, plan.problems]).toEqual([65003, []]);
  });

  test("reflectors reflect for the nodes of their AS", () => {
    const mesh = { type: "RouteReflectors", routeReflectors: { nodeSelector: { matchLabels: { rr: "yes" } } } };
    const reflector = (as: string) => ({ labels: { rack: as, rr: "yes" } });
    const nodes = [node(1, rack("65001")), node(2, reflector("65001")), node(3, reflector("65002")), node(4, rack("65002"))];
    expect(sessions(planOf(...nodes, fabric({ mesh })))?.map(([name]) => name)).toEqual(["n2/ipv4", "n2/ipv6"]);
    const alone = planOf(...nodes, node(5), node(1, rack("65003")), fabric({ mesh })).problems;
    expect(alone.map(({ message }) => message)).not.toContainEqual(expect.stringContaining("selects no node"));
    const none = planOf(node(1, rack("65003")), ...nodes.slice(1), fabric({ mesh }));
    expect(messages(none)).toEqual([expect.stringContaining("selects no node of the fabric with AS 65003: nobody reflects")]);
  });

  test.each([
    [{}, "is missing"],
    [rack("r1"), '"r1" is not the AS number of a router'],
    [rack("23456"), '"23456" is not the AS number of a router'],
  ])("%j: the node has no part in BGP, others do without it, and a problem names node and label", (said, wrong) => {
    const plan = planOf(node(1, said), node(2, rack("65001")), node(3, rack("65001")), fabric());
    expect(plan.speaker).toBeUndefined();
    expect(messages(plan)).toEqual([
      `Node/n1 metadata.labels["rack"]: ${wrong}, and Fabric/hall takes an AS number from it: it takes no part in BGP`,
    ]);
    const [other] = [
      compile(resourcesOf(node(1, rack("65001")), node(2, said), node(3, rack("65001")), fabric()), { name: "n1", addresses: [] }),
    ];
    expect(sessions(other)?.map(([name]) => name)).toEqual(["n3/ipv4", "n3/ipv6"]);
  });

  test("what was good stays: this node's AS, another's, and that of before nodes had one each", () => {
    const good = { objects: [node(1, rack("65001")), node(2, rack("65001")), fabric()] };
    const common = { objects: [node(1), node(2, rack("65001")), podlane("Fabric", "hall", { nodeSelector: {}, asn: 65001 })] };
    for (const [before, after] of [
      [good, { objects: [node(1), node(2, rack("65001")), fabric()] }],
      [good, { objects: [node(1, rack("65001")), node(2, rack("x")), fabric()] }],
      [common, { objects: [node(1), node(2, rack("65001")), fabric()] }],
    ]) {
      const [first, second, third] = live(before, after, after);
      expect(second.speaker).toEqual(first.speaker);
      expect(third).toEqual(second);
      expect(messages(second)).toEqual([expect.stringContaining("65001, which was there before, stays in force")]);
    }
  });
});

describe("a Peer whose neighbours each node names", () => {
  const addressFrom = { annotation: "example.com/tors" };
  const hall = peer({ addressFrom, asnFrom: { label: "tor-as" } });
  const said = (tors: string, as = "65100") => ({ annotations: { "example.com/tors": tors }, labels: { "tor-as": as } });
  const healthy = podlane("Peer", "other", { nodeSelector: {}, address: "10.0.9.9", asn: 65109, import: { default: "Reject" } });
  const world = (own: Said): World => ({ objects: [node(1, own), node(2, said("10.0.0.2")), hall, healthy] });
  const torsOf = (plan: NodePlan) => sessions(plan)?.filter(([name]) => String(name).startsWith("tor"));

  test("several with commas between them, in any spelling, each once", () => {
    const [plan] = live(world(said("10.0.0.254, fd00::0:fe,fd00::fe , fe80::1%eth1")));
    expect(messages(plan)).toEqual([]);
    expect(torsOf(plan)).toEqual([
      ["tor/10.0.0.254", "10.0.0.254", 65100],
      ["tor/fd00::fe", "fd00::fe", 65100],
      ["tor/fe80::1%eth1", "fe80::1%eth1", 65100],
    ]);
  });

  test("a label can hold one IPv4 address", () => {
    const [plan] = live({ objects: [node(1, { labels: { tor: "10.0.0.254" } }), peer({ addressFrom: { label: "tor" }, asn: 65100 })] });
    expect(torsOf(plan)).toEqual([["tor/10.0.0.254", "10.0.0.254", 65100]]);
  });

  test("the AS that the node says tells whether the neighbour is external", () => {
    const [plan] = live({
      objects: [node(1, said("10.0.0.254", "64512")), peer({ addressFrom, asnFrom: { label: "tor-as" }, routeReflectorClient: true })],
    });
    expect(plan.speaker?.neighbors).toMatchObject([
      { remoteAsn: 64512, routeReflectorClient: true, families: { "ipv4-unicast": { prefixLimit: 0 } } },
    ]);
    expect(messages(plan)).toEqual([]);
  });

  const nine = Array.from({ length: 9 }, (_, at) => `10.0.1.${at + 1}`).join();
  const tors = 'Node/n1 metadata.annotations["example.com/tors"]: ';
  test.each<[string, Said, string]>([
    ["no annotation", { labels: { "tor-as": "65100" } }, `${tors}is missing, and Peer/tor takes the neighbours' addresses from it`],
    ["nothing in it", said(""), `${tors}"" is no list of addresses`],
    ["no address", said("10.0.0.254,tor-b"), `${tors}"10.0.0.254,tor-b" is no list of addresses`],
    ["an address too many", said(nine), "has more than 8 addresses"],
    ["text without end", said("1".repeat(100_000)), "has more than 8 addresses"],
    ["a link-local address alone", said("fe80::1"), "has a link-local address without an interface"],
    ["an interface that is none", said("fe80::1%eth/0"), "has an interface that is none"],
    ["an interface where none is needed", said("10.0.0.254%eth0"), "has an interface that is none, or behind an address that needs none"],
    [
      "no AS number",
      { annotations: said("10.0.0.254").annotations },
      'metadata.labels["tor-as"]: is missing, and Peer/tor takes an AS number from it',
    ],
    ["an AS number that is none", said("10.0.0.254", "tor"), '"tor" is not the AS number of a router'],
  ])("%s: no session of this node alone; what was good before stays", (_, own, message) => {
    const [fresh] = live(world(own));
    expect(sessions(fresh)?.map(([name]) => name)).toEqual(["n2/ipv4", "n2/ipv6", "other"]);
    expect(messages(fresh)).toEqual([expect.stringContaining(message)]);
    expect(messages(fresh)[0]).toMatch(/: there is no session$/);
    const [first, second, third] = live(world(said("10.0.0.254")), world(own), world(own));
    expect(torsOf(first)?.length).toBe(1);
    expect(second.speaker?.neighbors).toEqual(first.speaker?.neighbors);
    expect(third).toEqual(second);
    expect(messages(second)).toEqual([expect.stringContaining("stays in force")]);
  });

  test("a local address of one family has sessions of that family", () => {
    const [plan] = live({ objects: [node(1, said("10.0.0.254,fd00::fe")), peer({ addressFrom, asn: 65100, localAddress: "10.0.0.1" })] });
    expect(torsOf(plan)?.map(([name]) => name)).toEqual(["tor/10.0.0.254"]);
    expect(messages(plan)).toEqual([expect.stringContaining("spec.localAddress: is of another family than fd00::fe of node n1")]);
  });

  test("the data hall of docs/topology.md", () => {
    const page = readFileSync(new URL("../../docs/topology.md", import.meta.url), "utf8");
    const [hall] = page
      .split("```yaml\n")
      .slice(1)
      .map(part => part.slice(0, part.indexOf("```")));
    const rack = { labels: { "example.com/rack-as": "65001", "example.com/tor-as": "65100" } };
    const annotations = { "example.com/tors": "10.0.1.253,10.0.1.254" };
    const nodes = [1, 2].map(number => JSON.stringify(node(number, { ...rack, annotations })));
    const { objects, problems } = readDocuments([hall, ...nodes].join("\n---\n"), "hall.yaml");
    const plan = compile(collect(objects.map(({ object }) => object)).resources, { name: "n1", addresses: [] });
    expect([...problems, ...plan.problems].filter(({ severity }) => severity === "error")).toEqual([]);
    expect(sessions(plan)).toEqual([
      ["n2/ipv4", "10.0.0.2", 65001],
      ["n2/ipv6", "fd00::2", 65001],
      ["tor/10.0.1.253", "10.0.1.253", 65100],
      ["tor/10.0.1.254", "10.0.1.254", 65100],
    ]);
  });

  test("what a node may originate follows from the AS that it says", () => {
    const internal = podlane("Peer", "ibgp", {
      nodeSelector: {},
      address: "10.0.9.8",
      asnFrom: { label: "tor-as" },
      import: { default: "Accept" },
    });
    const lists = (as: string) => planOf(node(1), node(2, said("10.0.0.2", as)), internal).speaker?.origins?.nodes[1].lists;
    // Internal peers' routes do not go on to other internal ones.
    expect([lists("65100"), lists("64512")]).toEqual([["Peer/ibgp"], []]);
  });
});
