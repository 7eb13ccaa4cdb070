/** The BGP Identifier of each node (RFC 6286), and what to do where two have the same. */
import { compareOctets, formatAddress, parseAddress, uint32ToAddress } from "../../net/address.ts";
import type { NodeFacts } from "../plan.ts";
import { ROUTER_ID_ANNOTATION } from "./annotations.ts";
import { type Context, familyOfText, type NodeView } from "./context.ts";
import type { Memory } from "./memory.ts";

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
