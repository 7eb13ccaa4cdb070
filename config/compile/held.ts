/**
 * Pods that outlived a change of their node's pod subnet. Their addresses are announced one by one until the last is gone; not those that lie in a
 * pod subnet of another node, to which they lead now.
 */
import { contains, type Prefix, parsePrefix } from "../../net/address.ts";
import { type Context, type NodeView, someOf } from "./context.ts";

/** Prefixes, /32 and /128. */
export function announcedHeld(context: Context): string[] {
  return sortOut(context).announced;
}

function sortOut({ facts, nodes, self }: Context): { announced: string[]; lost: Map<NodeView, string[]> } {
  const announced: string[] = [];
  const lost = new Map<NodeView, string[]>();
  if (!facts.held?.length) return { announced, lost };
  const ranges = nodes.flatMap(node => node.podCidrs.map(({ prefix }): [NodeView, Prefix] => [node, parsePrefix(prefix)]));
  for (const text of facts.held) {
    const { address } = parsePrefix(text);
    const owners = ranges.filter(([, range]) => contains(range, address)).map(([node]) => node);
    if (owners.length === 0) announced.push(text);
    // In a range of its own no word is needed.
    else if (!owners.includes(self)) lost.set(owners[0], [...(lost.get(owners[0]) ?? []), text]);
  }
  return { announced, lost };
}

/** `speaks`: the node has a part in BGP. */
export function reportHeld(context: Context, speaks: boolean): void {
  const { self, problems } = context;
  const { announced, lost } = sortOut(context);
  const recreate = "recreate these pods, so that they get addresses of the present one";
  const say = (severity: "warning" | "error", prefixes: readonly string[], message: string) =>
    problems[severity](
      "FormerPodSubnet",
      `Node/${self.name}`,
      "spec.podCIDRs",
      `${count(prefixes)} of a former pod subnet, ${list(prefixes)}: ${message}`,
      recreate,
    );
  for (const [node, prefixes] of lost) {
    const ranges = node.podCidrs.map(({ prefix }) => prefix).join(", ");
    say(
      "error",
      prefixes,
      `node ${node.name} has ${ranges} now, so they are cut off from all other nodes, and this one from pods of that node`,
    );
  }
  if (announced.length === 0) return;
  if (speaks) say("warning", announced, "each is announced by itself until it is gone");
  else say("error", announced, "nothing is announced, since this node takes no part in BGP, so they are cut off from all other nodes");
}

function count({ length }: readonly string[]): string {
  return length === 1 ? "1 pod address" : `${length} pod addresses`;
}

function list(prefixes: readonly string[]): string {
  return someOf(prefixes.map(text => text.slice(0, text.lastIndexOf("/"))));
}
