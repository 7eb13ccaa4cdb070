import { describe, expect, test } from "vitest";
import { compileFrom } from "../compile.ts";
import { type NodePlan, underCauses } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";
import { type LastGood, nothingGood, readLastGood } from "./memory.ts";

type Named = Record<string, object>;
interface World {
  nodes?: Record<string, { address?: string; cidrs?: string[]; annotations?: Record<string, string>; labels?: Record<string, string> }>;
  fabrics?: Named;
  peers?: Named;
  policies?: Named;
  podNetworks?: Named;
  advertisements?: Named;
  secrets?: Record<string, Record<string, string>>;
}

const api = "podlane.io/v1alpha1";
const own = (kind: string, all: Named = {}) =>
  Object.entries(all).map(([name, spec]) => ({ apiVersion: api, kind, metadata: { name }, spec }));

function resourcesOf({ nodes = {}, fabrics, peers, policies, podNetworks, advertisements, secrets = {} }: World) {
  const objects = [
    ...Object.entries(nodes).map(([name, { address, cidrs = [], annotations = {}, labels = {} }]) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name, annotations, labels },
      spec: { podCIDRs: cidrs },
      status: { addresses: address ? [{ type: "InternalIP", address }] : [{ type: "Hostname", address: name }] },
    })),
    ...Object.entries(secrets).map(([name, stringData]) => ({ apiVersion: "v1", kind: "Secret", metadata: { name }, stringData })),
    ...own("Fabric", fabrics),
    ...own("Peer", peers),
    ...own("Policy", policies),
    ...own("PodNetwork", podNetworks),
    ...own("Advertisement", advertisements),
  ];
  const read = readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test.yaml");
  expect(read.problems).toEqual([]);
  return collect(read.objects.map(({ object }) => object)).resources;
}

/** One agent's life: each world after the other, over a restart between any two. */
function live(...worlds: World[]): NodePlan[] {
  let lastGood: LastGood = nothingGood();
  return worlds.map(world => {
    const step = compileFrom(resourcesOf(world), { name: "n1", addresses: [] }, { lastGood, unread: new Set() });
    lastGood = readLastGood(JSON.parse(JSON.stringify(step.lastGood)));
    return step.plan;
  });
}

const neighbors = ({ speaker }: NodePlan) => speaker?.neighbors ?? [];
const errors = ({ problems }: NodePlan) => problems.filter(({ severity }) => severity === "error");

const n1 = { address: "10.0.0.1", cidrs: ["10.244.1.0/24"] };
const n2 = { address: "10.0.0.2", cidrs: ["10.244.2.0/24"] };
const template = { template: true, asn: 65010, multihop: 2, timers: { holdTime: 30 } };
const peer = { from: "base", nodeSelector: {}, address: "192.0.2.1", import: { accept: [{ prefix: "0.0.0.0/0" }] } };
const good: World = { nodes: { n1, n2 }, peers: { base: template, tor: peer } };
const lists = { import: { policies: ["in"] }, export: { policies: ["in"] } };
const filtered: World = {
  ...good,
  peers: { base: template, tor: { ...peer, ...lists } },
  policies: { in: { rules: [{ match: { peers: ["tor"] }, result: "Accept" }] } },
};
const locked: World = {
  ...good,
  fabrics: { main: { nodeSelector: {}, asn: 65001, mesh: { importPolicies: ["in"], passwordSecretRef: { name: "keys", key: "mesh" } } } },
  peers: { base: template, tor: { ...peer, passwordSecretRef: { name: "keys", key: "tor" } } },
  policies: { in: { rules: [{ match: { nodes: ["n2"] }, result: "Accept" }] } },
  secrets: { keys: { tor: "s3cret", mesh: "m3sh" } },
};
const withMesh = (mesh: object) => ({
  ...locked,
  fabrics: {
    main: { nodeSelector: {}, asn: 65001, mesh: { importPolicies: ["in"], passwordSecretRef: { name: "keys", key: "mesh" }, ...mesh } },
  },
});
const announced: World = {
  ...good,
  peers: { base: template, tor: peer, other: { ...peer, address: "192.0.2.2" } },
  advertisements: { pods: { nodeSelector: {}, peers: ["tor", "other"], type: "PodCIDR" } },
};
const bare = { address: "10.0.0.1" };
const allocated: World = {
  ...good,
  nodes: { n1: bare, n2 },
  podNetworks: { pods: { nodeSelector: {}, allocations: [{ node: "n1", podCIDRs: ["10.244.1.0/24"] }] } },
};

describe("a mistake elsewhere leaves what there was", () => {
  test.each<[string, World, World, string[]]>([
    [
      "a template that is renamed",
      good,
      { ...good, peers: { basis: template, tor: peer } },
      ["there is no Peer base: its last good version stays in force"],
    ],
    [
      "a template and a peer that exclude each other",
      good,
      { ...good, peers: { base: { ...template, ttlSecurity: 1, multihop: undefined }, tor: { ...peer, multihop: 2 } } },
      ["its last good version stays in force"],
    ],
    [
      "templates in a circle",
      good,
      { ...good, peers: { base: { ...template, from: "other" }, other: { template: true, from: "base" }, tor: peer } },
      ["nothing can be taken from it", "nothing can be taken from it", "goes round in a circle: its last good version stays in force"],
    ],
    [
      "a policy that is gone",
      {
        ...good,
        peers: { base: template, tor: { ...peer, import: { policies: ["in"] } } },
        policies: { in: { rules: [{ result: "Accept" }] } },
      },
      { ...good, peers: { base: template, tor: { ...peer, import: { policies: ["in"] } } } },
      ["there is no Policy in: its last good version stays in force"],
    ],
    [
      "a policy that has an error",
      {
        ...good,
        peers: { base: template, tor: { ...peer, import: { policies: ["in"] } } },
        policies: { in: { rules: [{ result: "Accept" }] } },
      },
      {
        ...good,
        peers: { base: template, tor: { ...peer, import: { policies: ["in"] } } },
        policies: { in: { rules: [{ match: { asPath: { regex: "(" } }, result: "Accept" }] } },
      },
      ["until then its last good version stays in force"],
    ],
    [
      "a secret that is gone",
      {
        ...good,
        peers: { base: template, tor: { ...peer, passwordSecretRef: { name: "keys", key: "tor" } } },
        secrets: { keys: { tor: "s3cret" } },
      },
      { ...good, peers: { base: template, tor: { ...peer, passwordSecretRef: { name: "keys", key: "tor" } } } },
      ["there is no Secret keys: the password that it had stays in use"],
    ],
    [
      "a key that is gone",
      {
        ...good,
        peers: { base: template, tor: { ...peer, passwordSecretRef: { name: "keys", key: "tor" } } },
        secrets: { keys: { tor: "s3cret" } },
      },
      {
        ...good,
        peers: { base: template, tor: { ...peer, passwordSecretRef: { name: "keys", key: "tor" } } },
        secrets: { keys: { tro: "s3cret" } },
      },
      ["the password that it had stays in use"],
    ],
    [
      "an AS number that is none",
      { ...good, nodes: { n1, n2: { ...n2, annotations: { "podlane.io/asn": "65002" } } } },
      { ...good, nodes: { n1, n2: { ...n2, annotations: { "podlane.io/asn": "abc" } } } },
      ['"abc" is not the AS number of a router; 65002, which was there before, stays in force'],
    ],
    [
      "a router id that is none",
      { ...good, nodes: { n1: { ...n1, annotations: { "podlane.io/router-id": "1.1.1.1" } }, n2 } },
      { ...good, nodes: { n1: { ...n1, annotations: { "podlane.io/router-id": "one" } }, n2 } },
      ['"one" is not a router id; 1.1.1.1, which was there before, stays in force'],
    ],
    [
      "a second node with the range of this one",
      { ...good, nodes: { n1, n2 } },
      { ...good, nodes: { a: { address: "10.0.0.9", cidrs: n1.cidrs }, n1, n2 } },
      ["pod subnet 10.244.1.0/24 of node a overlaps 10.244.1.0/24 of node n1, which keeps it: a does not use it"],
    ],
    [
      "a second node with a part of the range of this one",
      { ...good, nodes: { n1, n2 } },
      { ...good, nodes: { a: { address: "10.0.0.9", cidrs: ["10.244.1.128/25"] }, n1, n2 } },
      ["pod subnet 10.244.1.128/25 of node a overlaps 10.244.1.0/24 of node n1, which keeps it: a does not use it"],
    ],
    [
      "a second peer with the address of another",
      good,
      { ...good, peers: { base: template, a: { ...peer, asn: 65011 }, tor: peer } },
      ["192.0.2.1 is a neighbour of node n1 already, as tor; this one is left out"],
    ],
    [
      "a second fabric that selects the node",
      { ...good, fabrics: { main: { nodeSelector: {}, asn: 65001 } } },
      { ...good, fabrics: { another: { nodeSelector: {}, asn: 65009 }, main: { nodeSelector: {}, asn: 65001 } } },
      ["selects n1, n2, which Fabric/main selects too; Fabric/main is used"],
    ],
    [
      "a second PodNetwork that selects the node",
      { ...good, podNetworks: { main: { nodeSelector: {}, bridgeName: "pods" } } },
      { ...good, podNetworks: { another: { nodeSelector: {}, bridgeName: "other" }, main: { nodeSelector: {}, bridgeName: "pods" } } },
      ["selects n1, n2, which PodNetwork/main selects too; PodNetwork/main is used"],
    ],
    [
      "the name of a Secret that is mistyped",
      locked,
      { ...locked, peers: { base: template, tor: { ...peer, passwordSecretRef: { name: "kees", key: "tor" } } } },
      ["there is no Secret kees: the password that it had stays in use"],
    ],
    [
      "the key of a Secret that is mistyped",
      locked,
      { ...locked, peers: { base: template, tor: { ...peer, passwordSecretRef: { name: "keys", key: "tro" } } } },
      ["Secret keys has no key tro: the password that it had stays in use"],
    ],
    [
      "the key of a fabric's Secret that is mistyped",
      locked,
      withMesh({ passwordSecretRef: { name: "keys", key: "mehs" } }),
      ["Secret keys has no key mehs: the password that it had stays in use"],
    ],
    [
      "a policy of a fabric that is mistyped",
      locked,
      withMesh({ importPolicies: ["inn"] }),
      ["there is no Policy inn: what was there before stays in force"],
    ],
    [
      "a policy of a fabric that is mistyped, while the right one has gone",
      locked,
      { ...withMesh({ importPolicies: ["inn"] }), policies: {} },
      ["there is no Policy inn: what was there before stays in force"],
    ],
    [
      "policies of a peer that are mistyped",
      filtered,
      { ...filtered, peers: { base: template, tor: { ...peer, import: { policies: ["inn"] }, export: { policies: ["in", "out"] } } } },
      ["there is no Policy inn: what was there before stays in force", "there is no Policy out: what was there before stays in force"],
    ],
    [
      "a policy of a family that is mistyped",
      { ...filtered, peers: { base: template, tor: { ...peer, families: [{ name: "ipv4-unicast", ...lists }] } } },
      {
        ...filtered,
        peers: { base: template, tor: { ...peer, families: [{ name: "ipv4-unicast", ...lists, import: { policies: ["inn"] } }] } },
      },
      ["there is no Policy inn: what was there before stays in force"],
    ],
    [
      "a policy of a family, which took those of the peer before, that is mistyped",
      { ...filtered, peers: { base: template, tor: { ...peer, ...lists, families: [{ name: "ipv4-unicast" }] } } },
      {
        ...filtered,
        peers: { base: template, tor: { ...peer, ...lists, families: [{ name: "ipv4-unicast", export: { policies: ["inn"] } }] } },
      },
      ["there is no Policy inn: what was there before stays in force"],
    ],
    [
      "a policy of a template that is mistyped",
      { ...filtered, peers: { base: { ...template, export: lists.export }, tor: peer } },
      { ...filtered, peers: { base: { ...template, export: { policies: ["inn"] } }, tor: peer } },
      ["there is no Policy inn: what was there before stays in force"],
    ],
    [
      "a policy that is named beside accepted prefixes before it is there",
      good,
      { ...good, peers: { base: template, tor: { ...peer, import: { policies: ["in"] } } } },
      ["there is no Policy in: what was there before stays in force"],
    ],
    [
      "a peer in a policy that is mistyped",
      filtered,
      { ...filtered, policies: { in: { rules: [{ match: { peers: ["tro"] }, result: "Accept" }] } } },
      ["there is no Peer tro; until then the policy's last good version stays in force"],
    ],
    [
      "a node in a policy that is mistyped",
      locked,
      { ...locked, policies: { in: { rules: [{ match: { nodes: ["n22"] }, result: "Accept" }] } } },
      ["there is no Node n22; until then the policy's last good version stays in force"],
    ],
    [
      "a peer of an Advertisement that is mistyped",
      announced,
      { ...announced, advertisements: { pods: { nodeSelector: {}, peers: ["tro", "other"], type: "PodCIDR" } } },
      ["there is no Peer tro: tor, named before, goes on hearing it"],
    ],
    [
      "a second PodNetwork, earlier by name, with another subnet for the node",
      allocated,
      {
        ...allocated,
        podNetworks: {
          ...allocated.podNetworks,
          a: { nodeSelector: { matchLabels: { no: "node" } }, allocations: [{ node: "n1", podCIDRs: ["10.244.7.0/24"] }] },
        },
      },
      ["node n1 has two pod subnets of one family, 10.244.1.0/24 and 10.244.7.0/24; only 10.244.1.0/24 is used"],
    ],
    [
      "the node of an allocation that is mistyped",
      allocated,
      { ...allocated, podNetworks: { pods: { nodeSelector: {}, allocations: [{ node: "n11", podCIDRs: ["10.244.1.0/24"] }] } } },
      ["there is no node n11: n1, which had 10.244.1.0/24, keeps it"],
    ],
    [
      "a fabric whose selector selects nobody any more",
      locked,
      { ...locked, fabrics: { main: { ...locked.fabrics?.main, nodeSelector: { matchLabels: { role: "nobody" } } } } },
      ["selects no node: the nodes that it selected before stay"],
    ],
    [
      "a fabric that listens nowhere",
      locked,
      { ...locked, fabrics: { main: { ...locked.fabrics?.main, listen: { port: 0 } } } },
      ["port 0 accepts nothing: 179, which was there before, stays in force"],
    ],
    [
      "a node that has lost its addresses",
      good,
      { ...good, nodes: { n1, n2: { cidrs: n2.cidrs } } },
      ["has no InternalIP: 10.0.0.2, which it had, stays in use"],
    ],
    [
      "this node without its addresses",
      good,
      { ...good, nodes: { n1: { cidrs: n1.cidrs }, n2 } },
      ["has no InternalIP: 10.0.0.1, which it had, stays in use"],
    ],
    [
      "a pod subnet of this node that is mistyped to another's",
      good,
      { ...good, nodes: { n1: { ...n1, cidrs: n2.cidrs }, n2 } },
      ["overlaps 10.244.2.0/24 of node n2, which keeps it"],
    ],
    [
      "an InternalIP that is mistyped to another's",
      good,
      { ...good, nodes: { n1, n2: { ...n2, address: n1.address } } },
      ["InternalIP 10.0.0.1 is another node's: 10.0.0.2, which it had, stays in use"],
    ],
    [
      "an InternalIP of this node that is mistyped to another's",
      good,
      { ...good, nodes: { n1: { ...n1, address: n2.address }, n2 } },
      ["InternalIP 10.0.0.2 is another node's: 10.0.0.1, which it had, stays in use"],
    ],
    [
      "a router id that is mistyped to another's",
      good,
      { ...good, nodes: { n1: { ...n1, annotations: { "podlane.io/router-id": "10.0.0.2" } }, n2 } },
      ["router id 10.0.0.2 is that of node n1 too"],
    ],
    [
      "an address of a peer that is mistyped to another's",
      { ...good, peers: { base: template, tor: peer, other: { ...peer, address: "192.0.2.2" } } },
      { ...good, peers: { base: template, tor: { ...peer, address: "192.0.2.2" }, other: { ...peer, address: "192.0.2.2" } } },
      ["192.0.2.2 is a neighbour of node n1 already, as other"],
    ],
    [
      "reflectors that nobody is any more",
      {
        nodes: { n1, n2: { ...n2, labels: { rr: "yes" } } },
        fabrics: {
          main: {
            nodeSelector: {},
            asn: 65001,
            mesh: { type: "RouteReflectors", routeReflectors: { nodeSelector: { matchLabels: { rr: "yes" } } } },
          },
        },
      },
      {
        nodes: { n1, n2: { ...n2, labels: { rr: "yes" } } },
        fabrics: {
          main: {
            nodeSelector: {},
            asn: 65001,
            mesh: { type: "RouteReflectors", routeReflectors: { nodeSelector: { matchLabels: { rr: "ja" } } } },
          },
        },
      },
      ["selects no node of the fabric: n2 go on reflecting"],
    ],
    [
      "a template in place of a peer",
      announced,
      { ...announced, advertisements: { pods: { nodeSelector: {}, peers: ["base", "other"], type: "PodCIDR" } } },
      ["Peer base is a template and has no session: tor, named before, goes on hearing it"],
    ],
    [
      "the address of another peer",
      announced,
      { ...announced, peers: { ...announced.peers, other: { ...peer, address: "192.0.2.1" } } },
      ["as tor; the session with 192.0.2.2, which was there before, goes on"],
    ],
  ])("%s", (_, before, after, messages) => {
    const [first, second, third] = live(before, after, after);
    expect(errors(first)).toEqual([]);
    expect(neighbors(first).length).toBeGreaterThan(0);
    expect([neighbors(second), second.pods, second.speaker?.policies, second.speaker?.routerId, second.speaker?.networks]).toEqual([
      // A node that came along is a neighbour of its own.
      [...neighbors(first), ...neighbors(second).filter(one => !neighbors(first).some(known => known.name === one.name))].sort(
        (a, b) => neighbors(second).findIndex(({ name }) => name === a.name) - neighbors(second).findIndex(({ name }) => name === b.name),
      ),
      first.pods,
      first.speaker?.policies,
      first.speaker?.routerId,
      first.speaker?.networks,
    ]);
    // Over a restart as well.
    expect(third).toEqual(second);
    const told = errors(second).flatMap(({ message, consequences = [] }) => [message, ...consequences]);
    for (const message of messages) expect(told).toContainEqual(expect.stringContaining(message));
    expect(errors(second).length).toBeGreaterThan(0);
    // It is used again as soon as it is right, and what was wrong leaves nothing behind.
    const [, , fourth] = live(before, after, before);
    expect(fourth).toEqual(first);
  });

  test("what is deleted with all that names it is gone, and not remembered", () => {
    const [, without, again] = live(good, { nodes: good.nodes, peers: { base: template } }, { nodes: good.nodes, peers: { tor: peer } });
    expect(neighbors(without).map(({ name }) => name)).toEqual(["n2/ipv4"]);
    expect(neighbors(again).map(({ name }) => name)).toEqual(["n2/ipv4"]);
    expect(errors(again)).toMatchObject([
      { object: "Peer/tor", cause: "Peer/base", message: "there is no Peer base: there is no session" },
    ]);
  });

  test("what is meant is not held against its will", () => {
    // One peer in place of another that is there as well.
    const toOther = (peers: string[]) => ({ ...announced, advertisements: { pods: { nodeSelector: {}, peers, type: "PodCIDR" } } });
    const exported = (plan: NodePlan) =>
      neighbors(plan)
        .filter(({ families }) => families["ipv4-unicast"]?.exportPolicies.length)
        .map(({ name }) => name);
    // A peer that went, and later another that is taken out of the list.
    const { tor: _, ...without } = announced.peers as Named;
    const [first, second, third] = live(announced, { ...announced, peers: without }, { ...toOther(["tor"]), peers: without });
    expect([first, second, third].map(exported)).toEqual([["other", "tor"], ["other"], []]);
    expect(live(toOther(["tor"]), toOther(["other"]), toOther(["tor", "other"]), toOther(["other"])).map(exported)).toEqual([
      ["tor"],
      ["other"],
      ["other", "tor"],
      ["other"],
    ]);
    // An empty list of policies, and labels that were taken off.
    const [, open] = live(locked, withMesh({ importPolicies: [] }));
    expect(neighbors(open).map(({ families }) => families["ipv4-unicast"]?.importPolicies[0])).toEqual([
      undefined,
      "accept:tor/ipv4-unicast",
    ]);
    const labelled = {
      nodes: { n1: { ...n1, labels: { bgp: "yes" } } },
      fabrics: { main: { nodeSelector: { matchLabels: { bgp: "yes" } }, asn: 65001 } },
    };
    const [before, after] = live(labelled, { ...labelled, nodes: { n1 } });
    expect([before.speaker?.asn, after.speaker]).toEqual([65001, undefined]);
    // Addresses that are exchanged, and a pod subnet that is given up for another's former one.
    const [, exchanged] = live(good, { ...good, nodes: { n1: { ...n1, address: n2.address }, n2: { ...n2, address: n1.address } } });
    expect([errors(exchanged), neighbors(exchanged).find(({ name }) => name === "n2/ipv4")?.address]).toEqual([[], n1.address]);
    // A password that is taken out.
    const [, unlocked] = live(locked, { ...locked, peers: { base: template, tor: peer } });
    expect(neighbors(unlocked).find(({ name }) => name === "tor")?.password).toBeUndefined();
    // An allocation that goes to a node yet to come, with another in its place.
    const allocations = [
      { node: "n9", podCIDRs: ["10.244.1.0/24"] },
      { node: "n1", podCIDRs: ["10.244.5.0/24"] },
    ];
    const [, moved] = live(allocated, { ...allocated, podNetworks: { pods: { nodeSelector: {}, allocations } } });
    expect(moved.pods.podCidrs).toEqual(["10.244.5.0/24"]);
  });

  test("a fabric is retired with the edit that gives its nodes to another", () => {
    const labelled = { n1: { ...n1, labels: { rack: "a" } }, n2: { ...n2, labels: { rack: "b" } } };
    const fabric = (asn: number, ...racks: string[]) => ({
      nodeSelector: { matchExpressions: [{ key: "rack", operator: "In", values: racks }] },
      asn,
    });
    const [, retired] = live(
      { nodes: labelled, fabrics: { old: fabric(65001, "a"), young: fabric(65002, "b") } },
      { nodes: labelled, fabrics: { old: fabric(65001, "none"), young: fabric(65002, "a", "b") } },
    );
    expect([errors(retired), retired.speaker?.asn]).toEqual([[], 65002]);
  });

  test("a fabric whose selector is mistyped keeps its nodes also where another one selects everything", () => {
    const nodes = { n1: { ...n1, labels: { rack: "a" } }, n2: { ...n2, labels: { rack: "a" } } };
    const all = { nodeSelector: {}, asn: 64600 };
    const rack = (value: string) => ({ nodeSelector: { matchLabels: { rack: value } }, asn: 64700 });
    const [before, after] = live({ nodes, fabrics: { arack: rack("a"), zall: all } }, { nodes, fabrics: { arack: rack("aa"), zall: all } });
    expect([before.speaker?.asn, after.speaker?.asn]).toEqual([64700, 64700]);
    expect(errors(after).map(({ message }) => message)).toContain("selects no node: the nodes that it selected before stay");
  });

  test("of a template's policy that is mistyped, the children that had one keep it, and a new one is said to reject", () => {
    const give = (policy: string, more: Named = {}) => ({
      ...filtered,
      peers: {
        base: { ...template, import: { policies: [policy] } },
        tor: { from: "base", nodeSelector: {}, address: "192.0.2.1" },
        ...more,
      },
    });
    const young = { young: { from: "base", nodeSelector: {}, address: "192.0.2.9" } };
    const [before, after] = live(give("in"), give("inn", young));
    const imports = (plan: NodePlan, name: string) =>
      neighbors(plan).find(one => one.name === name)?.families["ipv4-unicast"]?.importPolicies;
    expect([imports(before, "tor"), imports(after, "tor"), imports(after, "young")]).toEqual([["in"], ["in"], ["missing:inn"]]);
    expect(errors(after).map(({ message }) => message)).toEqual([
      "there is no Policy inn: what was there before stays in force, and where nothing was, in its place everything is rejected",
    ]);
  });

  test("router ids are to be unique in an AS: in another one the same is no mistake", () => {
    const own = { "podlane.io/asn": "65099", "podlane.io/router-id": "10.0.0.2" };
    const plans = live(good, { ...good, nodes: { n1: { ...n1, annotations: own }, n2 } });
    expect([plans[1].speaker?.routerId, errors(plans[1])]).toEqual(["10.0.0.2", []]);
  });

  test("a range is free when its node gives it up or goes", () => {
    const moved = { ...good, nodes: { n1: { ...n1, cidrs: ["10.244.7.0/24"] }, n2: { ...n2, cidrs: n1.cidrs } } };
    const [, plan] = live(good, moved);
    expect([errors(plan), plan.pods.podCidrs]).toEqual([[], ["10.244.7.0/24"]]);
  });
});

test("a node that claims the range of another does not use it", () => {
  const [, plan] = live({ nodes: { n2: { ...n2, cidrs: n1.cidrs } } }, { nodes: { n1, n2: { ...n2, cidrs: n1.cidrs } } });
  expect([plan.pods.podCidrs, plan.speaker?.networks]).toEqual([[], []]);
  expect(plan.problems.map(({ message }) => message)).toEqual([expect.stringContaining("n2, which keeps it: n1 does not use it")]);
});

test.each([
  ["podlane.io/asm", "did you mean podlane.io/asn?"],
  ["podlane.io/router_id", "did you mean podlane.io/router-id?"],
  ["podlane.io/colour", "known are podlane.io/asn and podlane.io/router-id"],
])("an annotation that podlane does not know is told: %s", (key, remedy) => {
  const [, plan] = live(
    { nodes: { n1: { ...n1, annotations: { "podlane.io/asn": "65007" } } } },
    { nodes: { n1: { ...n1, annotations: { "podlane.io/asn": "65007", [key]: "7" } } } },
  );
  const told = {
    severity: "error",
    object: "Node/n1",
    field: `metadata.annotations["${key}"]`,
    message: expect.stringContaining("no such annotation"),
  };
  if (key !== "podlane.io/asm") expect(plan.problems).toMatchObject([{ ...told, remedy }]);
  else expect(plan.problems).toMatchObject([told]);
});

test("an annotation that was misspelt keeps what it said", () => {
  const [first, plan] = live(
    { nodes: { n1: { ...n1, annotations: { "podlane.io/asn": "65007" } } } },
    { nodes: { n1: { ...n1, annotations: { "podlane.io/asm": "65007" } } } },
  );
  expect([first.speaker?.asn, plan.speaker?.asn]).toEqual([65007, 65007]);
  expect(plan.problems).toMatchObject([
    {
      severity: "error",
      message: "podlane knows no such annotation: 65007, which podlane.io/asn said before, stays in force",
      remedy: "did you mean podlane.io/asn?",
    },
  ]);
});

describe("words", () => {
  const dangling: World = { ...good, peers: { a: { ...peer, address: "192.0.2.2" }, tor: peer } };

  test("several consequences of one cause are told under it", () => {
    const [plan] = live(dangling);
    expect(errors(plan)).toEqual([
      {
        severity: "error",
        reason: "InheritanceFailed",
        object: "Peer/base",
        field: "",
        cause: "Peer/base",
        message: "there is no Peer base, and 2 fields name it",
        remedy: "correct the name",
        consequences: ["Peer/a spec.from: there is no session", "Peer/tor spec.from: there is no session"],
      },
    ]);
  });

  test("an object that is there and wrong is not said to be missing, and its consequences stand under its own problem", () => {
    const unread = new Set(["Peer/base"]);
    const { plan } = compileFrom(resourcesOf(dangling), { name: "n1", addresses: [] }, { lastGood: nothingGood(), unread });
    const own = {
      severity: "error" as const,
      reason: "InvalidValue" as const,
      object: "Peer/base",
      field: "spec.asn",
      message: "must be a number",
      remedy: "write one",
    };
    const all = underCauses([own], plan.problems).filter(({ severity }) => severity === "error");
    expect(all).toEqual([{ ...own, consequences: ["Peer/a spec.from: there is no session", "Peer/tor spec.from: there is no session"] }]);
    expect(JSON.stringify(plan.problems)).not.toContain("there is no Peer");
  });
});

test("what the disk says is checked: it may be of another version, or no longer what a peer can be", () => {
  const peers = { good: { nodeSelector: {}, address: "192.0.2.1", asn: 65010 }, bad: { address: 7 }, worse: null };
  const value = {
    peers,
    asns: { n1: 65001, n2: "x", n3: -1 },
    ranges: { "10.0.0.0/24": "n1", x: 7 },
    reflectors: { f: ["n1"], g: [1] },
    policies: [],
  };
  expect(readLastGood(value)).toEqual({
    ...nothingGood(),
    peers: { good: peers.good },
    asns: { n1: 65001 },
    ranges: { "10.0.0.0/24": "n1" },
    reflectors: { f: ["n1"] },
  });
  for (const nothing of [undefined, null, [], "x", 7]) expect(readLastGood(nothing)).toEqual(nothingGood());
});

test("a mesh of thousands is compiled in time that grows with it, with a past as without: its square would not end here", () => {
  const nodes = Object.fromEntries(
    Array.from({ length: 3000 }, (_, n) => [`n${n}`, { address: `172.16.${n >> 8}.${n & 255}`, cidrs: [`10.${n >> 8}.${n & 255}.0/24`] }]),
  );
  const [first, second] = live({ nodes }, { nodes });
  expect([neighbors(first).length, neighbors(second).length]).toEqual([2999, 2999]);
  expect(errors(second)).toEqual([]);
});
