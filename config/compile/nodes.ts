/** Which node has which pod subnets, fabric, AS number and router id. */

import { compareOctets, formatAddress, formatPrefix, parseAddress, parsePrefix, uint32ToAddress } from "../../net/address.ts";
import type { NodeFacts } from "../plan.ts";
import type { Node } from "../resources/core.ts";
import { fabricSpec } from "../resources/fabric.ts";
import type { Fabric, Resources } from "../resources/kinds.ts";
import { validate } from "../resources/validate.ts";
import { ROUTER_ID_ANNOTATION, readAnnotations } from "./annotations.ts";
import {
  byName,
  type Cluster,
  type Context,
  DEFAULT_ASN,
  familyOfText,
  firstOfEach,
  type NodeView,
  type Problems,
  selects,
  someOf,
} from "./context.ts";
import type { Memory } from "./memory.ts";
import { settleRanges } from "./ranges.ts";
import { withUsableLists } from "./references.ts";

/** The fabric that stands in when no Fabric object exists: all nodes, full mesh. */
function defaultFabric(): Fabric {
  const { value } = validate(fabricSpec, { nodeSelector: {}, asn: DEFAULT_ASN });
  return { apiVersion: "podlane.io/v1alpha1", kind: "Fabric", metadata: { name: "default" }, spec: value };
}

export function viewNodes(resources: Resources, memory: Memory, problems: Problems): NodeView[] {
  const owners = addressOwners(resources, memory);
  const nodes = byName(resources.nodes).map(node => viewNode(node, resources, memory, problems, owners));
  reportDuplicateAddresses(resources, problems);
  settleRanges(nodes, memory, problems);
  return nodes;
}

/** Who had an InternalIP and still names it, by address in one spelling. */
function addressOwners(resources: Resources, memory: Memory): ReadonlyMap<string, string> {
  const owners = new Map<string, string>();
  const spell = (address: string) => formatAddress(parseAddress(address));
  for (const [name, { status }] of resources.nodes) {
    const had = new Set(memory.before("addresses", name)?.map(spell));
    for (const { address } of status.addresses) if (had.has(spell(address))) owners.set(spell(address), name);
  }
  return owners;
}

/**
 * A router id by annotation that is another node's of the same AS (RFC 6286): what was there before is used, or none. That it is there twice is said
 * elsewhere.
 */
export function settleRouterIds(nodes: readonly NodeView[], memory: Memory): void {
  const counts = new Map<string, number>();
  const keyOf = (node: NodeView) => `${node.asn} ${routerIdOf(node, undefined)}`;
  for (const node of nodes) if (node.fabric) counts.set(keyOf(node), (counts.get(keyOf(node)) ?? 0) + 1);
  for (const node of nodes) {
    const former = memory.before("routerIds", node.name);
    if (node.routerId === undefined || node.routerId === former || (counts.get(keyOf(node)) ?? 0) < 2) continue;
    // Without a past nobody knows who was first.
    if (memory.before("addresses", node.name) === undefined) continue;
    node.twiceRouterId = node.routerId;
    node.routerId = former;
    memory.forget("routerIds", node.name, former);
  }
}

function viewNode(node: Node, resources: Resources, memory: Memory, problems: Problems, owners: ReadonlyMap<string, string>): NodeView {
  const { name, labels = {} } = node.metadata;
  const { asn: ownAsn, routerId } = readAnnotations(node, memory, problems);
  const podCidrs = podCidrsOf(node, resources, memory, problems);
  const address = addressOf(node, memory, problems, owners);
  const canonical = firstOfEach(Object.values(address).map(text => formatAddress(parseAddress(text))));
  return { name, labels, ownAsn, routerId, address, canonical, podCidrs, asn: 0, reflects: false };
}

/** First InternalIP of each family. A node that has none any more is where it was: nodes lose that field, and not their address. */
function addressOf(
  { metadata, status }: Node,
  memory: Memory,
  problems: Problems,
  owners: ReadonlyMap<string, string>,
): NodeView["address"] {
  const own = status.addresses.filter(({ type }) => type === "InternalIP").map(({ address }) => address);
  const taken = (address: string) => (owners.get(formatAddress(parseAddress(address))) ?? metadata.name) !== metadata.name;
  const held = memory.hold("addresses", metadata.name, own, all => all.length > 0 && !all.some(taken));
  if (held !== own) {
    const why = own.length === 0 ? "has no InternalIP" : `InternalIP ${own.filter(taken).join(" and ")} is another node's`;
    const message = `${why}: ${held.join(" and ")}, which it had, stays in use`;
    problems.error(
      "NoInternalIP",
      `Node/${metadata.name}`,
      "status.addresses",
      message,
      "give the Node object its InternalIP (kubelet --node-ip)",
    );
  }
  return firstOfEach(held);
}

/** Node.spec.podCIDRs, else an allocation of a PodNetwork. Of several in a family the one that it had, else the first. */
function podCidrsOf(node: Node, resources: Resources, memory: Memory, problems: Problems): NodeView["podCidrs"] {
  const { name } = node.metadata;
  const had = ({ prefix }: { prefix: string }) => memory.before("ranges", prefix) === name;
  const given = node.spec.podCIDRs.map(prefix => ({ prefix: canonical(prefix), source: `Node/${name}` }));
  const allocatedTo = (isMeant: (node: string) => boolean) =>
    byName(resources.podNetworks).flatMap(({ metadata, spec }) =>
      (spec.allocations ?? [])
        .filter(({ node }) => isMeant(node))
        .flatMap(({ podCIDRs }) => podCIDRs.map(prefix => ({ prefix: canonical(prefix), source: `PodNetwork/${metadata.name}` }))),
    );
  const own = allocatedTo(node => node === name);
  // Of a node that there is not: most likely a slip of the pen, for the node that had it.
  const allocated = own.length > 0 || !memory.knowsRangesOf(name) ? own : allocatedTo(node => !resources.nodes.has(node)).filter(had);
  if (given.length > 0) {
    for (const { prefix, source } of allocated) {
      if (given.some(one => one.prefix === prefix)) continue;
      problems.warning(
        "NoEffect",
        source,
        "spec.allocations",
        `${prefix} for node ${name} has no effect: Node.spec.podCIDRs assigns ${given.map(one => one.prefix).join(", ")}`,
        "take the allocation out",
      );
    }
  }
  const all = given.length > 0 ? given : allocated;
  const ordered = [...all.filter(had), ...all.filter(one => !had(one))];
  const result: NodeView["podCidrs"] = [];
  for (const one of ordered) {
    const other = result.find(({ prefix }) => familyOfText(prefix) === familyOfText(one.prefix));
    if (!other) result.push(one);
    else
      problems.error(
        "PodSubnetsOfOneFamily",
        one.source,
        one.source.startsWith("Node/") ? "spec.podCIDRs" : "spec.allocations",
        `node ${name} has two pod subnets of one family, ${other.prefix} and ${one.prefix}; only ${other.prefix} is used`,
        "keep one per address family",
      );
  }
  return result;
}

function canonical(prefix: string): string {
  return formatPrefix(parsePrefix(prefix));
}

function reportDuplicateAddresses(resources: Resources, problems: Problems): void {
  const owner = new Map<string, string>();
  for (const node of byName(resources.nodes)) {
    for (const { type, address } of node.status.addresses) {
      if (type !== "InternalIP") continue;
      const text = formatAddress(parseAddress(address));
      const first = owner.get(text);
      if (first === undefined) owner.set(text, node.metadata.name);
      else if (first !== node.metadata.name) {
        problems.error(
          "DuplicateAddress",
          `Node/${node.metadata.name}`,
          "status.addresses",
          `InternalIP ${text} is that of node ${first} too`,
          "give each node its own address",
        );
      }
    }
  }
}

/**
 * Gives each node its fabric and AS number. Of several fabrics that select a node, the one that it was in before is used, else the first by name.
 */
export function assignFabrics(nodes: NodeView[], parts: FabricParts): Cluster["members"] {
  const { resources, memory, problems } = parts;
  const none = resources.fabrics.size === 0;
  const fabrics = none ? [defaultFabric()] : byName(resources.fabrics).map(fabric => usableFabric(fabric, nodes, parts));
  for (const node of nodes) {
    const willing = fabrics.filter(({ spec }) => selects(spec.nodeSelector, node.labels));
    const former = memory.before("fabrics", node.name);
    node.fabric = willing.find(({ metadata }) => metadata.name === former) ?? willing[0];
    if (!node.fabric) {
      problems.warning(
        "NotSelected",
        `Node/${node.name}`,
        "metadata.labels",
        "no Fabric selects this node: it takes no part in BGP",
        "label it for a fabric, or add a fabric with nodeSelector {}",
      );
      continue;
    }
    memory.remember("fabrics", node.name, node.fabric.metadata.name);
    node.asn = node.ownAsn ?? node.fabric.spec.asn;
  }
  if (!none) for (const fabric of fabrics) reportFabric(fabric, nodes, problems);
  return new Map(
    fabrics.map(fabric => {
      const all = nodes.filter(node => node.fabric === fabric);
      assignReflectors(fabric, all, memory);
      return [fabric, { all, reflectors: all.filter(({ reflects }) => reflects) }];
    }),
  );
}

type FabricParts = Pick<Cluster, "resources" | "memory" | "problems" | "policies"> & { held: Set<string> };

/** With former values in place of those that lead nowhere and would end every session of the fabric. */
function usableFabric(fabric: Fabric, nodes: readonly NodeView[], parts: FabricParts): Fabric {
  const { memory, problems } = parts;
  const { metadata, spec } = fabric;
  const object = `Fabric/${metadata.name}`;
  const others = byName(parts.resources.fabrics).filter(one => one.metadata.name !== metadata.name);
  const isElsewhere = ({ labels }: NodeView) => others.some(one => selects(one.spec.nodeSelector, labels));
  const selectsSome = (selector: Fabric["spec"]["nodeSelector"]) => nodes.some(({ labels }) => selects(selector, labels));
  // One whose nodes other fabrics select is retired, and nothing of it is to be held.
  const isOfUse = (selector: Fabric["spec"]["nodeSelector"]) =>
    selector === spec.nodeSelector ? selectsSome(selector) : nodes.some(node => selects(selector, node.labels) && !isElsewhere(node));
  const nodeSelector = memory.hold("selectors", `${object} spec.nodeSelector`, spec.nodeSelector, isOfUse);
  const label = "correct the selector or label the nodes; {} selects all";
  if (nodeSelector !== spec.nodeSelector)
    problems.error(
      "SelectsNothing",
      object,
      "spec.nodeSelector",
      "selects no node: the nodes that it selected before stay",
      `${label}; or delete the fabric`,
    );
  else if (!selectsSome(nodeSelector)) problems.warning("SelectsNothing", object, "spec.nodeSelector", "selects no node", label);
  const alone = spec.mesh.type === "None" || nodes.filter(({ labels }) => selects(nodeSelector, labels)).length < 2;
  const port = memory.hold("ports", metadata.name, spec.listen.port, value => value !== 0 || alone);
  if (spec.listen.port === 0 && !alone) {
    const effect = port === 0 ? "no mesh session can come up" : `${port}, which was there before, stays in force`;
    problems.error("PortZero", object, "spec.listen.port", `port 0 accepts nothing: ${effect}`, "set a port, or mesh type None");
  }
  return { ...fabric, spec: { ...spec, nodeSelector, listen: { ...spec.listen, port }, mesh: withUsableLists(fabric, parts) } };
}

/** A selector that selects nobody leaves those that reflected before: without any, no session of the fabric would be left. */
function assignReflectors({ metadata, spec }: Fabric, members: readonly NodeView[], memory: Memory): void {
  const { routeReflectors } = spec.mesh;
  if (!routeReflectors) return;
  const selected = members.filter(({ labels }) => selects(routeReflectors.nodeSelector, labels));
  const names = selected.map(({ name }) => name);
  if (names.length > 0) memory.remember("reflectors", metadata.name, names);
  const reflectors = names.length > 0 ? names : (memory.recall("reflectors", metadata.name) ?? []);
  for (const node of members) node.reflects = reflectors.includes(node.name);
}

function reportFabric({ metadata, spec }: Fabric, nodes: NodeView[], problems: Problems): void {
  const object = `Fabric/${metadata.name}`;
  const selected = nodes.filter(({ labels }) => selects(spec.nodeSelector, labels));
  const taken = new Map<string, string[]>();
  for (const { name, fabric } of selected) {
    const other = fabric?.metadata.name;
    if (other !== undefined && other !== metadata.name) taken.set(other, [...(taken.get(other) ?? []), name]);
  }
  for (const [other, names] of taken) {
    const message = `selects ${someOf(names)}, which Fabric/${other} selects too; Fabric/${other} is used`;
    problems.error("SelectedTwice", object, "spec.nodeSelector", message, "let every node be selected by one fabric only");
  }
}

/**
 * BGP Identifier (RFC 6286: any number but 0, unique in the AS). In this order: `facts.routerId`, the annotation podlane.io/router-id, the IPv4
 * InternalIP, an IPv4 address of an interface where the Node object has no InternalIP at all, a hash of the node's name.
 */
export function routerIdOf(node: NodeView, facts: NodeFacts | undefined): string {
  if (facts?.routerId) return facts.routerId;
  if (node.routerId !== undefined) return node.routerId;
  if (node.fabric?.spec.routerIDFrom === "NodeName") return hashedRouterId(node.name);
  if (node.address[4]) return node.address[4];
  const silent = !node.address[6] && facts;
  return (silent && kernelRouterId(facts)) || hashedRouterId(node.name);
}

/** The lowest usable IPv4 address, so that the order of the kernel's list does not matter. */
function kernelRouterId({ addresses }: NodeFacts): string | undefined {
  const usable = addresses
    .map(({ address }) => address)
    .filter(address => familyOfText(address) === 4 && !/^(127|169\.254|0)\./.test(address));
  return usable.sort((a, b) => compareOctets(parseAddress(a), parseAddress(b)))[0];
}

/** FNV-1a over the name, then the finaliser of MurmurHash3, so that node-1 and node-2 come out far apart. */
export function hashedRouterId(name: string): string {
  let hash = 0x811c9dc5;
  for (const octet of new TextEncoder().encode(name)) hash = Math.imul(hash ^ octet, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  const [first, ...rest] = uint32ToAddress((hash ^ (hash >>> 16)) >>> 0);
  // 1..223 in front keeps it in the form of a unicast address, which some routers insist on.
  return formatAddress(Uint8Array.of((first % 223) + 1, ...rest));
}

/** Whether the node's kernel or command line says another router id than its object. */
export function hasOtherRouterId({ self, facts }: Pick<Context, "self" | "facts">): boolean {
  return self.fabric !== undefined && routerIdOf(self, facts) !== routerIdOf(self, undefined);
}

/** Two nodes of one AS with the same router id never peer (RFC 6286 section 2.2). */
export function reportDuplicateRouterIds({ nodes, self, facts, problems }: Pick<Context, "nodes" | "problems"> & Partial<Context>): void {
  const owner = new Map<string, string>();
  for (const node of nodes) {
    if (!node.fabric) continue;
    const id = node.twiceRouterId ?? routerIdOf(node, node === self ? facts : undefined);
    const key = `${node.asn} ${id}`;
    const first = owner.get(key);
    if (first === undefined) owner.set(key, node.name);
    else
      problems.error(
        "DuplicateRouterID",
        `Node/${node.name}`,
        "metadata.annotations",
        `router id ${key.split(" ")[1]} is that of node ${first} too`,
        `set the annotation ${ROUTER_ID_ANNOTATION}`,
      );
  }
}
