/** Peers after inheritance: `from` is followed, the result checked again, and what selects or is used by nobody is reported. */
import type { Peer } from "../resources/kinds.ts";
import { peerSpec } from "../resources/peer.ts";
import type { SchemaNode } from "../resources/schema.ts";
import { formatPath, validate } from "../resources/validate.ts";
import { byName, type Context, type NodeView, selects } from "./context.ts";

export interface ResolvedPeer {
  name: string;
  labels: Record<string, string>;
  spec: Peer["spec"];
  /** The nodes that hold a session, by name. */
  nodes: NodeView[];
  /** The field that says who the neighbour is. */
  whoField: string;
}

/** Longest chain of `from`. */
const maxChain = 8;
const ownFields = ["template", "nodeSelector", "address", "interface", "gateway", "peerSelector", "description", "from"] as const;

/** All peers that are no templates and could be resolved, by name. */
export function resolvePeers(context: Context): ResolvedPeer[] {
  const { resources, problems } = context;
  const used = new Set<string>();
  const result: ResolvedPeer[] = [];
  for (const peer of byName(resources.peers)) {
    const { name, labels = {} } = peer.metadata;
    const spec = inherit(peer, context, used);
    if (!spec || spec.template) continue;
    const { nodeSelector } = spec;
    const nodes = nodeSelector ? context.nodes.filter(node => selects(nodeSelector, node.labels)) : [];
    if (nodes.length === 0)
      problems.warning(
        `Peer/${name}`,
        "spec.nodeSelector",
        "selects no node: there is no session",
        "correct the selector or label the nodes; {} selects all",
      );
    const who = (["address", "interface", "gateway", "peerSelector"] as const).find(field => spec[field] !== undefined);
    result.push({ name, labels, spec, nodes, whoField: `spec.${who}` });
  }
  for (const peer of byName(resources.peers)) {
    if (!peer.spec.template || used.has(peer.metadata.name)) continue;
    problems.warning(
      `Peer/${peer.metadata.name}`,
      "spec.template",
      "no peer takes anything from this template",
      "name it in spec.from of a peer, or delete it",
    );
  }
  return result;
}

/** The spec with inherited fields; undefined where that fails. */
function inherit(peer: Peer, { resources, problems }: Context, used: Set<string>): Peer["spec"] | undefined {
  const object = `Peer/${peer.metadata.name}`;
  let spec = peer.spec;
  const chain = [peer.metadata.name];
  for (let from = peer.spec.from; from !== undefined; ) {
    const base = resources.peers.get(from);
    if (!base) {
      problems.error(object, "spec.from", `there is no Peer ${from}: there is no session`, "correct the name");
      return undefined;
    }
    if (chain.includes(from) || chain.length > maxChain) {
      const what = chain.includes(from) ? "goes round in a circle" : `is longer than ${maxChain}`;
      problems.error(
        object,
        "spec.from",
        `the chain ${[...chain, from].join(" -> ")} ${what}: there is no session`,
        "let one of them stand alone",
      );
      return undefined;
    }
    used.add(from);
    chain.push(from);
    const taken = Object.entries(base.spec).filter(([field]) => !(ownFields as readonly string[]).includes(field));
    spec = { ...Object.fromEntries(taken), ...spec };
    from = base.spec.from;
  }
  if (chain.length === 1) return spec;
  const { from: _, ...merged } = spec;
  const { faults } = validate(peerSpec as unknown as SchemaNode, merged, ["spec"]);
  for (const { path, message, remedy } of faults) {
    problems.error(object, formatPath(path), `with what it takes from ${chain.slice(1).join(", ")}: ${message}`, remedy);
  }
  return faults.length === 0 ? merged : undefined;
}
