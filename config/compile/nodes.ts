/** Which node has which pod subnets, fabric, AS number and router id. */

import { isReservedAsn } from "../../bgpd/message/as-path.ts";
import {
  compareOctets,
  covers,
  formatAddress,
  formatPrefix,
  isAddress,
  type Prefix,
  parseAddress,
  parsePrefix,
  uint32ToAddress,
} from "../../net/address.ts";
import type { NodeFacts } from "../plan.ts";
import { fabricSpec } from "../resources/fabric.ts";
import type { Fabric, Node, Resources } from "../resources/kinds.ts";
import type { SchemaNode } from "../resources/schema.ts";
import { validate } from "../resources/validate.ts";
import {
  byName,
  type Context,
  compareText,
  defaultAsn,
  familyOfText,
  internalAddresses,
  type NodeView,
  type Problems,
  selects,
  someOf,
} from "./context.ts";

export const asnAnnotation = "podlane.io/asn";
export const routerIdAnnotation = "podlane.io/router-id";

/** The fabric that stands in when no Fabric object exists: all nodes, full mesh. */
export function defaultFabric(): Fabric {
  const { value } = validate(fabricSpec as unknown as SchemaNode, { nodeSelector: {}, asn: defaultAsn });
  return { apiVersion: "podlane.io/v1alpha1", kind: "Fabric", metadata: { name: "default" }, spec: value as Fabric["spec"] };
}

export function viewNodes(resources: Resources, problems: Problems): NodeView[] {
  const nodes = byName(resources.nodes).map(node => viewNode(node, resources, problems));
  reportDuplicateAddresses(resources, problems);
  reportOverlaps(nodes, problems);
  return nodes;
}

function viewNode(node: Node, resources: Resources, problems: Problems): NodeView {
  const { name, labels = {}, annotations = {} } = node.metadata;
  return { name, labels, annotations, address: internalAddresses(node), podCidrs: podCidrsOf(node, resources, problems), asn: 0 };
}

/** Node.spec.podCIDRs, else an allocation of a PodNetwork. */
function podCidrsOf(node: Node, resources: Resources, problems: Problems): NodeView["podCidrs"] {
  const { name } = node.metadata;
  const given = node.spec.podCIDRs.map(prefix => ({ prefix: canonical(prefix), source: `Node/${name}` }));
  const allocated = byName(resources.podNetworks).flatMap(({ metadata, spec }) =>
    (spec.allocations ?? [])
      .filter(allocation => allocation.node === name)
      .flatMap(({ podCIDRs }) => podCIDRs.map(prefix => ({ prefix: canonical(prefix), source: `PodNetwork/${metadata.name}` }))),
  );
  if (given.length > 0) {
    for (const { prefix, source } of allocated) {
      if (given.some(one => one.prefix === prefix)) continue;
      problems.warning(
        source,
        "spec.allocations",
        `${prefix} for node ${name} has no effect: Node.spec.podCIDRs assigns ${given.map(one => one.prefix).join(", ")}`,
        "take the allocation out",
      );
    }
  }
  const all = given.length > 0 ? given : allocated;
  const result: NodeView["podCidrs"] = [];
  for (const one of all) {
    const other = result.find(({ prefix }) => familyOfText(prefix) === familyOfText(one.prefix));
    if (!other) result.push(one);
    else
      problems.error(
        one.source,
        one.source.startsWith("Node/") ? "spec.podCIDRs" : "spec.allocations",
        `node ${name} has two pod subnets of one family, ${other.prefix} and ${one.prefix}; only the first is used`,
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
          `Node/${node.metadata.name}`,
          "status.addresses",
          `InternalIP ${text} is that of node ${first} too`,
          "give each node its own address",
        );
      }
    }
  }
}

/** Sorted by address, a prefix that overlaps another comes right inside it. */
function reportOverlaps(nodes: NodeView[], problems: Problems): void {
  const all = nodes.flatMap(({ name, podCidrs }) => podCidrs.map(({ prefix, source }) => ({ name, source, prefix: parsePrefix(prefix) })));
  all.sort((a, b) => comparePrefixes(a.prefix, b.prefix) || compareText(a.name, b.name));
  let outer: (typeof all)[number] | undefined;
  for (const one of all) {
    if (outer && covers(outer.prefix, one.prefix)) {
      if (outer.name === one.name) continue;
      const message = `pod subnet ${formatPrefix(one.prefix)} of node ${one.name} overlaps ${formatPrefix(outer.prefix)} of node ${outer.name}`;
      problems.error(
        one.source,
        one.source.startsWith("Node/") ? "spec.podCIDRs" : "spec.allocations",
        message,
        "give each node a subnet of its own",
      );
    } else outer = one;
  }
}

function comparePrefixes(a: Prefix, b: Prefix): number {
  return compareOctets(a.address, b.address) || a.length - b.length;
}

/** Gives each node its fabric (the first by name that selects it) and AS number. */
export function assignFabrics(nodes: NodeView[], resources: Resources, problems: Problems): { defaultFabric: boolean } {
  const fabrics = byName(resources.fabrics);
  const none = fabrics.length === 0;
  for (const fabric of none ? [defaultFabric()] : fabrics) {
    const selected = nodes.filter(({ labels }) => selects(fabric.spec.nodeSelector, labels));
    const object = `Fabric/${fabric.metadata.name}`;
    if (selected.length === 0 && !none) {
      problems.warning(object, "spec.nodeSelector", "selects no node", "correct the selector or label the nodes; {} selects all");
    }
    const taken = new Map<string, string[]>();
    for (const node of selected) {
      if (!node.fabric) node.fabric = fabric;
      else taken.set(node.fabric.metadata.name, [...(taken.get(node.fabric.metadata.name) ?? []), node.name]);
    }
    for (const [other, names] of taken) {
      const message = `selects ${someOf(names)}, which Fabric/${other} selects too; Fabric/${other} is used`;
      problems.error(object, "spec.nodeSelector", message, "let every node be selected by one fabric only");
    }
  }
  for (const node of nodes) {
    if (node.fabric) node.asn = asnOf(node, node.fabric, problems);
    else
      problems.warning(
        `Node/${node.name}`,
        "metadata.labels",
        "no Fabric selects this node: it takes no part in BGP",
        "label it for a fabric, or add a fabric with nodeSelector {}",
      );
  }
  return { defaultFabric: none };
}

function asnOf(node: NodeView, fabric: Fabric, problems: Problems): number {
  const text = node.annotations[asnAnnotation];
  if (text === undefined) return fabric.spec.asn;
  const asn = /^[1-9]\d{0,9}$/.test(text) ? Number(text) : 0;
  if (asn <= 4294967295 && !isReservedAsn(asn)) return asn;
  const field = `metadata.annotations["${asnAnnotation}"]`;
  problems.error(
    `Node/${node.name}`,
    field,
    `${JSON.stringify(text.slice(0, 40))} is not the AS number of a router; the fabric's ${fabric.spec.asn} is used`,
    "write a number from 1 to 4294967294 that is not reserved, as 23456 and 65535 are",
  );
  return fabric.spec.asn;
}

/**
 * BGP Identifier (RFC 6286: any number but 0, unique in the AS). In this order: `facts.routerId`, the annotation podlane.io/router-id, the IPv4
 * InternalIP, an IPv4 address of an interface where the Node object has no InternalIP at all, a hash of the node's name.
 */
export function routerIdOf(node: NodeView, facts: NodeFacts | undefined, problems: Problems): string {
  if (facts?.routerId) return facts.routerId;
  const annotated = node.annotations[routerIdAnnotation];
  if (annotated !== undefined) {
    if (isAddress(annotated) && familyOfText(annotated) === 4 && annotated !== "0.0.0.0") return annotated;
    const field = `metadata.annotations["${routerIdAnnotation}"]`;
    problems.error(
      `Node/${node.name}`,
      field,
      `${JSON.stringify(annotated.slice(0, 40))} is not a router id`,
      "write a dotted quad other than 0.0.0.0, such as 10.0.0.1",
    );
  }
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

/** Two nodes of one AS with the same router id never peer (RFC 6286 section 2.2). */
export function reportDuplicateRouterIds({ nodes, self, facts, problems }: Context): void {
  const owner = new Map<string, string>();
  for (const node of nodes) {
    if (!node.fabric) continue;
    const key = `${node.asn} ${routerIdOf(node, node === self ? facts : undefined, problems)}`;
    const first = owner.get(key);
    if (first === undefined) owner.set(key, node.name);
    else
      problems.error(
        `Node/${node.name}`,
        "metadata.annotations",
        `router id ${key.split(" ")[1]} is that of node ${first} too`,
        `set the annotation ${routerIdAnnotation}`,
      );
  }
}
