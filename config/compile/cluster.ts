/** What the objects say of the cluster: who is who, what leads where, and what is wrong with it whichever node asks. Nothing of it depends on a node. */
import type { Resources } from "../resources/kinds.ts";
import { resolveAdvertisements } from "./advertisements.ts";
import { type Cluster, Problems } from "./context.ts";
import { assignFabrics } from "./fabrics.ts";
import type { Memory } from "./memory.ts";
import { viewNodes } from "./nodes.ts";
import { resolvePeers } from "./peers.ts";
import { assignPodNetworks } from "./pods.ts";
import { usablePolicies } from "./policies.ts";
import { withFormerReflectors } from "./reflectors.ts";
import { settleRouterIds } from "./router-ids.ts";

export function viewCluster(given: Resources, memory: Memory): Cluster {
  const resources = withFormerReflectors(given, memory);
  const problems = new Problems();
  const held = new Set<string>();
  const refusing = new Set<string>();
  const nodes = viewNodes(resources, memory, problems);
  const policies = usablePolicies(resources, memory);
  const members = assignFabrics(nodes, { resources, memory, problems, policies, held });
  settleRouterIds(nodes, memory);
  const parts = { resources, nodes, policies, held, refusing, memory, problems };
  const peers = resolvePeers(parts);
  return {
    ...parts,
    members,
    nodeOf: new Map(nodes.map(node => [node.name, node])),
    peers,
    advertisements: resolveAdvertisements({ ...parts, peers }),
    podNetworks: assignPodNetworks(parts),
    origins: new Map(),
    policyProblems: new Map(),
  };
}
