/** Peers after inheritance: `from` is followed, the result checked again, and what selects or is used by nobody is reported. */

import { selects } from "../../platform/label-selector.ts";
import type { Peer } from "../resources/kinds.ts";
import { peerSpec } from "../resources/peer.ts";
import { formatPath, validate } from "../resources/validate.ts";
import { byName, type Cluster, type ResolvedPeer } from "./context.ts";
import { withUsablePolicies } from "./references.ts";

type PeerParts = Pick<Cluster, "resources" | "nodes" | "memory" | "problems" | "policies"> & { held: Set<string>; refusing: Set<string> };

/** Longest chain of `from`. */
const MAX_CHAIN = 8;
const ownFields = [
  "template",
  "nodeSelector",
  "address",
  "addressFrom",
  "interface",
  "gateway",
  "peerSelector",
  "description",
  "from",
  "unset",
] as const;

/** All peers that are no templates and could be resolved, by name. */
export function resolvePeers(context: PeerParts): ResolvedPeer[] {
  const { resources, problems } = context;
  const used = new Set<string>();
  const result: ResolvedPeer[] = [];
  for (const peer of byName(resources.peers)) {
    const { name, labels = {} } = peer.metadata;
    const spec = specOf(peer, context, used);
    if (!spec || spec.template) continue;
    const { nodeSelector } = spec;
    const nodes = new Set(nodeSelector ? context.nodes.filter(node => selects(nodeSelector, node.labels)) : []);
    if (nodes.size === 0 && !resources.partialNodes)
      problems.warning(
        "SelectsNothing",
        `Peer/${name}`,
        "spec.nodeSelector",
        "selects no node: there is no session",
        "correct the selector or label the nodes; {} selects all",
      );
    const who = (["address", "addressFrom", "interface", "gateway", "peerSelector"] as const).find(field => spec[field] !== undefined);
    result.push({ name, labels, spec, nodes, whoField: `spec.${who}` });
  }
  for (const peer of byName(resources.peers)) {
    if (!peer.spec.template || used.has(peer.metadata.name)) continue;
    problems.warning(
      "NotUsed",
      `Peer/${peer.metadata.name}`,
      "spec.template",
      "no peer takes anything from this template",
      "name it in spec.from of a peer, or delete it",
    );
  }
  return result;
}

/** The spec with inherited fields; where that fails the last good one; undefined where there is none. */
function specOf(peer: Peer, context: PeerParts, used: Set<string>): Peer["spec"] | undefined {
  const { memory, problems } = context;
  const { name } = peer.metadata;
  const resolved = inherit(peer, context, used);
  if (!Array.isArray(resolved)) {
    const { spec, givers } = resolved;
    const usable = spec.template ? spec : withUsablePolicies(spec, memory.before("peers", name), givers, context);
    memory.remember("peers", name, usable);
    return usable;
  }
  const last = memory.recall("peers", name);
  const without = peer.spec.template ? "nothing can be taken from it" : "there is no session";
  for (const { field, cause, message, remedy } of resolved) {
    const effect = last && !peer.spec.template ? "its last good version stays in force" : without;
    problems.because("InheritanceFailed", { object: cause, message }, `Peer/${name}`, field, effect, remedy);
  }
  return last;
}

interface Fault {
  field: string;
  /** The object at fault. */
  cause: string;
  message: string;
  remedy: string;
}

/** The spec with inherited fields, and whom they are from, the peer itself first; or why there is none. */
function inherit(peer: Peer, { resources, memory }: PeerParts, used: Set<string>): { spec: Peer["spec"]; givers: Peer[] } | Fault[] {
  const object = `Peer/${peer.metadata.name}`;
  let spec = peer.spec;
  const givers = [peer];
  const chain = [peer.metadata.name];
  const unset = new Set(peer.spec.unset);
  const both = [...unset].find(field => Object.hasOwn(peer.spec, field));
  if (both !== undefined) {
    const message = `spec.${both} is set and in spec.unset`;
    return [{ field: "spec.unset", cause: object, message, remedy: "take it out of one of both" }];
  }
  for (let from = peer.spec.from; from !== undefined; ) {
    const base = resources.peers.get(from);
    if (!base) return [{ field: "spec.from", cause: `Peer/${from}`, ...memory.absence("Peer", from) }];
    if (chain.includes(from) || chain.length > MAX_CHAIN) {
      const what = chain.includes(from) ? "goes round in a circle" : `is longer than ${MAX_CHAIN}`;
      const message = `the chain ${[...chain, from].join(" -> ")} ${what}`;
      return [{ field: "spec.from", cause: object, message, remedy: "let one of them stand alone" }];
    }
    used.add(from);
    chain.push(from);
    givers.push(base);
    // What one of the chain has unset is not taken from any behind it.
    const taken = Object.entries(base.spec).filter(([field]) => !(ownFields as readonly string[]).includes(field) && !unset.has(field));
    spec = { ...Object.fromEntries(taken), ...spec };
    for (const field of base.spec.unset ?? []) unset.add(field);
    from = base.spec.from;
  }
  if (chain.length === 1) return { spec, givers };
  const { from: _, unset: __, ...merged } = spec;
  const { faults } = validate(peerSpec, merged, ["spec"]);
  if (faults.length === 0) return { spec: merged, givers };
  return faults.map(({ path, message, remedy }) => ({
    field: formatPath(path),
    cause: object,
    message: `with what it takes from ${chain.slice(1).join(", ")}: ${message}`,
    remedy,
  }));
}
