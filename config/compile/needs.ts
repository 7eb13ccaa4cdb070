/**
 * Which Node objects compile() needs besides the node's own, so that an agent watches no more of them: five thousand nodes that watch each other
 * are 25 million events. Rather too many than too few: with a list that is too short sessions would end. And whether a node needs to know Services.
 */

import { selects } from "../../platform/label-selector.ts";
import type { Fabric, PodNetwork, Resources, Selector } from "../resources/kinds.ts";
import { byName } from "./context.ts";

/** `selectors`: those that one of these selects. None at all: its own alone. */
export type NodeNeeds = "all" | { selectors: Selector[] };

/**
 * `resources`: as the source has them, with `partialNodes` where it does not have all nodes. Whoever changes from one list to another tells
 * compile() nothing of the objects that need the new one before it is complete.
 */
export function neededNodes(resources: Resources, self: string): NodeNeeds {
  const node = resources.nodes.get(self);
  const fabrics = byName(resources.fabrics);
  if (!node || fabrics.length === 0) return "all";
  const { labels = {} } = node.metadata;
  const isOwn = (spec: PodNetwork["spec"]) => needsAllNodes(spec) && selects(spec.nodeSelector, labels);
  const isMeant = [...resources.podNetworks.values()].some(({ spec }) => isOwn(spec));
  if (isMeant || hasPeerNodes(resources, labels) || hasLostAllocation(resources, self)) return "all";
  const own = fabrics.filter(({ spec }) => selects(spec.nodeSelector, labels));
  // Where none selects it, one that did before may stay in force.
  const possible = own.length > 0 ? own : fabrics;
  const needs = possible.map(fabric => meshNeeds(resources, fabric, labels, own.length > 0));
  return needs.includes("all") ? "all" : { selectors: needs.flatMap(one => (one === "all" ? [] : one.selectors)) };
}

/** `namespaces`: their labels as well. */
export interface ServiceNeeds {
  namespaces: boolean;
}

/** undefined: no Advertisement of type Service is for this node. One without a Node object may have been selected before. */
export function neededServices({ nodes, advertisements }: Resources, self: string): ServiceNeeds | undefined {
  const node = nodes.get(self);
  const isOwn = (selector: Selector) => !node || selects(selector, node.metadata.labels ?? {});
  const own = [...advertisements.values()].flatMap(({ spec }) => (spec.service && isOwn(spec.nodeSelector) ? [spec.service] : []));
  return own.length > 0 ? { namespaces: own.some(({ namespaceSelector }) => namespaceSelector !== undefined) } : undefined;
}

function meshNeeds({ nodes, partialNodes }: Resources, { spec }: Fabric, labels: Record<string, string>, isMember: boolean): NodeNeeds {
  const { type, routeReflectors } = spec.mesh;
  if (type === "None" && isMember) return { selectors: [] };
  if (type !== "RouteReflectors" || !routeReflectors) return "all";
  const { nodeSelector } = routeReflectors;
  if (selects(nodeSelector, labels)) return "all";
  // One that selects nobody is a mistake, under which those that reflected go on: this node may be one of them.
  if (!partialNodes && ![...nodes.values()].some(({ metadata }) => selects(nodeSelector, metadata.labels ?? {}))) return "all";
  return { selectors: [nodeSelector] };
}

/** A Peer of this node has other nodes as neighbours. */
function hasPeerNodes({ peers }: Resources, labels: Record<string, string>): boolean {
  return [...peers.values()].some(({ spec }) => spec.peerSelector && spec.nodeSelector && selects(spec.nodeSelector, labels));
}

/** Tunnels lead to every other node, and towards all other nodes and their pods masquerade keeps the pods' addresses. */
function needsAllNodes({ overlay, masquerade }: PodNetwork["spec"]): boolean {
  return overlay !== "Never" || masquerade?.mode === "External";
}

/** It has no pod subnet, and an allocation to a node that there is not may be meant for it. */
function hasLostAllocation({ nodes, podNetworks }: Resources, self: string): boolean {
  if ((nodes.get(self)?.spec.podCIDRs ?? []).length > 0) return false;
  const allocations = [...podNetworks.values()].flatMap(({ spec }) => spec.allocations ?? []);
  return allocations.length > 0 && !allocations.some(({ node }) => node === self);
}
