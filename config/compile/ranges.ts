/** Which node has a pod subnet that several claim: the one that had it before, else the first by name. Never two at once. */
import { compareOctets, covers, formatPrefix, type Prefix, parsePrefix } from "../../net/address.ts";
import { compareText, type NodeView, type Problems } from "./context.ts";
import type { Memory } from "./memory.ts";

interface Claim {
  node: NodeView;
  source: string;
  text: string;
  prefix: Prefix;
}

/** Takes the claims that do not hold out of the nodes' `podCidrs`. */
export function settleRanges(nodes: NodeView[], memory: Memory, problems: Problems): void {
  const all = nodes.flatMap(node =>
    node.podCidrs.map(({ prefix, source }) => ({ node, source, text: prefix, prefix: parsePrefix(prefix) })),
  );
  // By address, what is inside another right after it.
  all.sort((a, b) => compareOctets(a.prefix.address, b.prefix.address) || a.prefix.length - b.prefix.length);
  const lost: Claim[] = [];
  for (let start = 0; start < all.length; ) {
    let end = start + 1;
    while (end < all.length && covers(all[start].prefix, all[end].prefix)) end++;
    settle(all.slice(start, end), memory, problems, lost);
    start = end;
  }
  giveBack(lost, nodes, memory);
}

/** All of them inside the first. */
function settle(claims: Claim[], memory: Memory, problems: Problems, lost: Claim[]): void {
  const had = ({ text, node }: Claim) => memory.before("ranges", text) === node.name;
  const ordered = [...claims].sort((a, b) => Number(had(b)) - Number(had(a)) || compareText(a.node.name, b.node.name));
  const held: Claim[] = [];
  for (const claim of ordered) {
    const holder = held.find(
      other => other.node !== claim.node && (covers(other.prefix, claim.prefix) || covers(claim.prefix, other.prefix)),
    );
    if (!holder) {
      held.push(claim);
      memory.remember("ranges", claim.text, claim.node.name);
      continue;
    }
    claim.node.podCidrs = claim.node.podCidrs.filter(({ prefix }) => prefix !== claim.text);
    claim.node.contested = true;
    lost.push(claim);
    problems.error(
      "RangesOverlap",
      claim.source,
      claim.source.startsWith("Node/") ? "spec.podCIDRs" : "spec.allocations",
      `pod subnet ${claim.text} of node ${claim.node.name} overlaps ${formatPrefix(holder.prefix)} of node ${holder.node.name}, which keeps it: ${claim.node.name} does not use it`,
      "give each node a subnet of its own",
    );
  }
}

/** Who is given what is another's keeps what it had, where that is still nobody else's. */
function giveBack(lost: readonly Claim[], nodes: readonly NodeView[], memory: Memory): void {
  if (lost.length === 0) return;
  const held = nodes.flatMap(({ podCidrs }) => podCidrs.map(({ prefix }) => parsePrefix(prefix)));
  for (const { node, source, prefix } of lost) {
    for (const text of memory.rangesOf(node.name)) {
      const former = parsePrefix(text);
      if (former.family !== prefix.family || held.some(other => covers(other, former) || covers(former, other))) continue;
      node.podCidrs.push({ prefix: text, source });
      held.push(former);
      memory.remember("ranges", text, node.name);
      break;
    }
  }
}
