/** Which node has which addresses and pod subnets. */

import { formatAddress, formatPrefix, parseAddress, parsePrefix } from "../../net/address.ts";
import type { Node } from "../resources/core.ts";
import type { Resources } from "../resources/kinds.ts";
import { readAnnotations } from "./annotations.ts";
import { byName, familyOfText, firstOfEach, type NodeView, type Problems } from "./context.ts";
import type { Memory } from "./memory.ts";
import { namedAnnotations } from "./node-values.ts";
import { settleRanges } from "./ranges.ts";

export function viewNodes(resources: Resources, memory: Memory, problems: Problems): NodeView[] {
  const owners = addressOwners(resources, memory);
  const named = namedAnnotations(resources);
  const nodes = byName(resources.nodes).map(node => viewNode(node, { resources, named, owners, memory, problems }));
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

interface Parts {
  resources: Resources;
  /** Annotations that objects name. */
  named: ReadonlySet<string>;
  owners: ReadonlyMap<string, string>;
  memory: Memory;
  problems: Problems;
}

function viewNode(node: Node, { resources, named, owners, memory, problems }: Parts): NodeView {
  const { name, labels = {}, annotations = {} } = node.metadata;
  const { asn: ownAsn, routerId } = readAnnotations(node, named, memory, problems);
  const podCidrs = podCidrsOf(node, resources, memory, problems);
  const address = addressOf(node, memory, problems, owners);
  const canonical = firstOfEach(Object.values(address).map(text => formatAddress(parseAddress(text))));
  return { name, labels, annotations, ownAsn, routerId, address, canonical, podCidrs, asn: 0, reflects: false };
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
  // Of a node that there is not: most likely a slip of the pen, for the node that had it. Who does not know all nodes cannot tell.
  const isSettled = own.length > 0 || !memory.knowsRangesOf(name) || resources.partialNodes;
  const allocated = isSettled ? own : allocatedTo(node => !resources.nodes.has(node)).filter(had);
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
          "give each node its own address; if one is the former name of the other, delete that Node",
        );
      }
    }
  }
}
