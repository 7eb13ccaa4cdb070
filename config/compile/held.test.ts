/** Addresses of pods that outlived a change of their node's pod subnet: who hears of them, and what is said. */
import { expect, test } from "vitest";
import { plannedExports } from "../../bgpd/planned-exports.ts";
import { compile } from "../compile.ts";
import type { NodeFacts, NodePlan } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";
import { rangesOf } from "./origins.ts";

const node = (number: number, ...podCIDRs: string[]) => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: `node${number}` },
  spec: { podCIDRs },
  status: { addresses: [{ type: "InternalIP", address: `10.0.0.${number}` }] },
});
const podlane = (kind: string, name: string, spec: object) => ({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec });

function plan(facts: Partial<NodeFacts>, ...objects: object[]): NodePlan {
  const { objects: read } = readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test");
  return compile(collect(read.map(({ object }) => object)).resources, { name: "node1", addresses: [], ...facts });
}

const prefixes = ({ speaker }: NodePlan) => speaker?.networks.map(({ prefix }) => prefix);
const said = ({ problems }: NodePlan) =>
  problems.filter(({ message }) => message.includes("former")).map(({ severity, message }) => `${severity}: ${message}`);
const held = ["10.244.7.2/32", "10.244.8.2/32", "fd07::2/128"];

test("addresses in no range are announced; in one of its own nothing is said; in another node's not announced", () => {
  const found = plan({ held }, node(1, "10.244.8.0/24"), node(2, "fd07::/64"));
  expect(prefixes(found)).toEqual(["10.244.7.2/32", "10.244.8.0/24"]);
  expect(said(found)).toEqual([
    "error: 1 pod address of a former pod subnet, fd07::2: node node2 has fd07::/64 now, so they are cut off from all other nodes, and this one from pods of that node",
    "warning: 1 pod address of a former pod subnet, 10.244.7.2: each is announced by itself until it is gone",
  ]);
  expect(said(plan({}, node(1, "10.244.8.0/24")))).toEqual([]);
});

test("peers outside hear of them where they hear of the pod subnets, aggregated or not", () => {
  const peer = podlane("Peer", "tor", { nodeSelector: {}, address: "10.0.0.254", asn: 65100 });
  const spec = { nodeSelector: {}, type: "PodCIDR", peers: ["tor"], aggregation: { ipv4: 16 } };
  const found = plan({ held: held.slice(0, 1) }, node(1, "10.244.8.0/24"), peer, podlane("Advertisement", "pods", spec));
  const [{ announced }] = plannedExports(found.speaker!).filter(({ neighbor }) => neighbor === "tor");
  expect(announced.map(({ prefix }) => prefix)).toEqual(["10.244.0.0/16", "10.244.7.2/32"]);
});

test("a node without a part in BGP says that its pods are cut off", () => {
  expect(said(plan({ held: held.slice(0, 1) }, node(2, "10.244.2.0/24")))).toEqual([
    "error: 1 pod address of a former pod subnet, 10.244.7.2: nothing is announced, since this node takes no part in BGP, so they are cut off from all other nodes",
  ]);
});

test("former ranges of others are known by the plan before, until another node has them", () => {
  const former = (found: NodePlan) => found.speaker?.origins?.nodes.find(({ name }) => name === "node2")?.former;
  const first = plan({}, node(1), node(2, "10.244.2.0/24"));
  expect(former(first)).toBeUndefined();
  const second = plan({ rangesBefore: rangesOf(first.speaker?.origins) }, node(1), node(2, "10.244.9.0/24"));
  expect(former(second)).toEqual(["10.244.2.0/24"]);
  const again = plan({ rangesBefore: rangesOf(second.speaker?.origins) }, node(1), node(2, "10.244.9.0/24"));
  expect(again).toEqual(second);
  const taken = plan({ rangesBefore: rangesOf(second.speaker?.origins) }, node(1), node(2, "10.244.9.0/24"), node(3, "10.244.2.0/24"));
  expect(former(taken)).toBeUndefined();
  const back = plan({ rangesBefore: rangesOf(second.speaker?.origins) }, node(1), node(2, "10.244.2.0/24"));
  expect(former(back)).toEqual(["10.244.9.0/24"]);
});
