/** What each node may originate, by the objects. */
import { describe, expect, test } from "vitest";
import { compile } from "../compile.ts";
import type { NodePlan } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";

const node = (number: number) => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: `node${number}`, labels: { number: String(number) } },
  spec: { podCIDRs: [`10.244.${number}.0/24`] },
  status: { addresses: [{ type: "InternalIP", address: `10.0.0.${number}` }] },
});
const podlane = (kind: string, name: string, spec: object) => ({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec });
const fabric = (mesh: object = {}) => podlane("Fabric", "f", { nodeSelector: {}, asn: 65000, mesh });
const only = (number: number) => ({ matchLabels: { number: String(number) } });

function plan(...objects: object[]): NodePlan {
  const all = [1, 2, 3].map(node).concat(objects as never[]);
  const { objects: read, problems } = readDocuments(all.map(one => JSON.stringify(one)).join("\n---\n"), "test");
  expect(problems).toEqual([]);
  const addresses = [
    { interface: "eth0", address: "10.0.0.1", prefixLength: 24 },
    { interface: "eth1", address: "172.20.0.1", prefixLength: 24 },
  ];
  return compile(collect(read.map(({ object }) => object)).resources, { name: "node1", addresses });
}

const origins = (...objects: object[]) => plan(...objects).speaker?.origins;
const origin = (number: number, ...objects: object[]) => origins(...objects)?.nodes.find(({ name }) => name === `node${number}`);

test("without any object but Nodes: their pod subnets", () => {
  expect(origins()?.lists).toEqual({});
  expect(origin(2)).toEqual({ name: "node2", routerId: "10.0.0.2", asn: 64512, ranges: ["10.244.2.0/24"], prefixes: [], lists: [] });
  const roles = plan().speaker?.neighbors.map(({ origin: role }) => role);
  expect(roles).toEqual([2, 3].map(number => ({ node: `node${number}`, reflects: false })));
});

test("trust: Any, or no mesh: nobody is judged", () => {
  for (const mesh of [{ trust: "Any" }, { type: "None" }]) {
    expect(origins(fabric(mesh))).toBeUndefined();
    expect(plan(fabric(mesh)).speaker?.neighbors.filter(one => one.origin)).toEqual([]);
  }
});

test("reflectors may pass routes on, also one for a Peer", () => {
  const mesh = { type: "RouteReflectors", routeReflectors: { nodeSelector: only(2) } };
  const roles = (...objects: object[]) => plan(...objects).speaker?.neighbors.flatMap(({ origin: role }) => role ?? []);
  expect(roles(fabric(mesh))).toEqual([{ node: "node2", reflects: true }]);
  const client = podlane("Peer", "p", { nodeSelector: only(3), address: "10.0.0.9", asn: 65000, routeReflectorClient: true });
  expect(roles(fabric(), client)).toEqual([
    { node: "node2", reflects: false },
    { node: "node3", reflects: true },
  ]);
});

test("who is no node of the fabric is judged as one outside; a Peer by peerSelector as the node that it is", () => {
  const roles = (...objects: object[]) => plan(...objects).speaker?.neighbors.map(({ name, origin: role }) => [name, role]);
  const mesh = { type: "RouteReflectors", routeReflectors: { nodeSelector: only(2) } };
  const peers = [
    podlane("Peer", "inside", { nodeSelector: only(1), peerSelector: only(3), type: "Internal" }),
    podlane("Peer", "rr", { nodeSelector: only(1), address: "10.0.0.98", type: "Internal" }),
    podlane("Peer", "tor", { nodeSelector: only(1), address: "10.0.0.99", asn: 65100 }),
  ];
  expect(roles(fabric(mesh), ...peers)).toEqual([
    ["node2/ipv4", { node: "node2", reflects: true }],
    ["inside/node3/ipv4", { node: "node3", reflects: false }],
    ["rr", "outside"],
    ["tor", "outside"],
  ]);
});

describe("besides", () => {
  test("what Advertisements give the mesh from it: aggregates, static prefixes, addresses that its Node names", () => {
    const ads = [
      podlane("Advertisement", "a", { nodeSelector: only(2), type: "PodCIDR", mesh: true, aggregation: { ipv4: 20 } }),
      podlane("Advertisement", "b", {
        nodeSelector: only(3),
        type: "Static",
        static: { prefixes: [{ prefix: "192.0.2.0/24" }] },
        mesh: true,
      }),
      podlane("Advertisement", "c", {
        nodeSelector: only(3),
        type: "Static",
        static: { prefixes: [{ prefix: "192.0.3.0/24" }] },
        peers: ["tor"],
      }),
      podlane("Advertisement", "d", {
        nodeSelector: only(3),
        type: "Interface",
        interface: { names: ["lo"], announce: "Address" },
        mesh: true,
      }),
    ];
    const tor = podlane("Peer", "tor", { nodeSelector: only(3), address: "10.0.0.9", asn: 65100, import: { default: "Reject" } });
    expect(origin(2, fabric(), tor, ...ads)).toMatchObject({ prefixes: ["10.244.0.0/20"], lists: [] });
    expect(origin(3, fabric(), tor, ...ads)).toMatchObject({ prefixes: ["10.0.0.3/32"], lists: ["Advertisement/b"] });
    expect(origins(fabric(), tor, ...ads)?.lists).toEqual({ "Advertisement/b": [{ prefix: "192.0.2.0/24", ge: 24, le: 24 }] });
  });

  test("what its external Peers let in, what internal ones do where it reflects, and what the fabric allows", () => {
    const policy = podlane("Policy", "some", {
      rules: [
        { match: { prefixes: [{ prefix: "198.51.100.0/24" }] }, result: "Accept" },
        { match: { prefixes: [{ prefix: "203.0.113.0/24" }] }, result: "Reject" },
      ],
    });
    const peer = (name: string, number: number, spec: object) =>
      podlane("Peer", name, { nodeSelector: only(number), address: `10.9.9.${name.length}`, ...spec });
    const objects = [
      fabric({ accept: [{ prefix: "100.64.0.0/10", le: 24 }], type: "RouteReflectors", routeReflectors: { nodeSelector: only(1) } }),
      policy,
      peer("tor", 2, { asn: 65100, import: { accept: [{ prefix: "0.0.0.0/0" }], policies: ["some"] } }),
      peer("torr", 2, { asn: 65100, import: { default: "Accept" } }),
      peer("intern", 1, { asn: 65000 }),
      peer("internal", 2, { asn: 65000 }),
    ];
    expect(origin(1, ...objects)?.lists).toEqual(["Fabric/f", "Peer/intern"]);
    expect(origin(2, ...objects)?.lists).toEqual(["Fabric/f", "Peer/tor", "Peer/torr"]);
    expect(origin(3, ...objects)?.lists).toEqual(["Fabric/f"]);
    const everything = [
      { prefix: "0.0.0.0/0", ge: 0, le: 32 },
      { prefix: "::/0", ge: 0, le: 128 },
    ];
    expect(origins(...objects)?.lists).toEqual({
      "Fabric/f": [{ prefix: "100.64.0.0/10", ge: 10, le: 24 }],
      "Peer/intern": everything,
      "Peer/tor": [
        { prefix: "198.51.100.0/24", ge: 24, le: 24 },
        { prefix: "0.0.0.0/0", ge: 0, le: 0 },
      ],
      "Peer/torr": everything,
    });
  });
});

test("an entry of mesh.accept with exactly the prefix of a guard opens it, one that covers it does not", () => {
  const importsOf = (accept: object[]) => plan(fabric({ accept })).speaker;
  const opened = importsOf([{ prefix: "0.0.0.0/0" }, { prefix: "9.0.0.0/8" }]);
  expect(opened?.neighbors[0].families["ipv4-unicast"]?.importPolicies).toEqual(["accept:mesh"]);
  expect(opened?.policies["accept:mesh"].rules).toEqual([
    { name: "accept", match: { prefixes: [{ prefix: "0.0.0.0/0", ge: 0, le: 0 }] }, action: { result: "accept" } },
  ]);
  expect(importsOf([{ prefix: "160.0.0.0/4", le: 32 }])?.neighbors[0].families["ipv4-unicast"]?.importPolicies).toEqual([]);
});

test("an interface's prefix that no other node can know of is a problem, until the fabric allows it", () => {
  const advertisement = podlane("Advertisement", "i", { nodeSelector: {}, type: "Interface", interface: { names: ["eth1"] }, mesh: true });
  const messages = (mesh: object) => plan(fabric(mesh), advertisement).problems.map(({ object, message }) => `${object}: ${message}`);
  const told = /Advertisement\/i: no other node accepts 172\.20\.0\.0\/24 of node1/;
  expect(messages({})).toContainEqual(expect.stringMatching(told));
  expect(messages({ trust: "Any" })).not.toContainEqual(expect.stringMatching(told));
  expect(messages({ accept: [{ prefix: "172.20.0.0/16", le: 24 }] })).not.toContainEqual(expect.stringMatching(told));
});
