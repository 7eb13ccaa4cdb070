/**
 * What the user wants -> what this node must do. A pure function of the objects and of what the node knows of itself; the one place that
 * knows both the objects' vocabulary and the speaker's. The order of the objects never matters.
 */
import type { SpeakerConfig } from "../bgpd/config.ts";
import type { PodPlan } from "../cni/types.ts";
import { compileAdvertisements } from "./compile/advertisements.ts";
import { viewCluster } from "./compile/cluster.ts";
import { type Cluster, type Context, compareText, DEFAULT_ASN, familyName, type NodeView, Problems } from "./compile/context.ts";
import { compileEgress } from "./compile/egress.ts";
import { meshOf } from "./compile/fabrics.ts";
import { reportHeld } from "./compile/held.ts";
import { type LastGood, Memory, nothingGood } from "./compile/memory.ts";
import { completeNeighbors } from "./compile/neighbors.ts";
import { compileOrigins, reportUnbelieved, roleAt } from "./compile/origins.ts";
import { compilePods } from "./compile/pods.ts";
import { compilePolicies, reportPolicies } from "./compile/policies.ts";
import { compileGuards } from "./compile/protect.ts";
import { hasOtherRouterId, reportDuplicateRouterIds, routerIdOf } from "./compile/router-ids.ts";
import { compileSessions, type Session } from "./compile/sessions.ts";
import { nameTunnelNextHops } from "./compile/tunnel-next-hops.ts";
import type { NodeFacts, NodePlan, Problem } from "./plan.ts";
import type { Fabric, Resources } from "./resources/kinds.ts";
import type { ServicesPlan } from "./services/types.ts";

export interface Past {
  lastGood: LastGood;
  /** Objects that are there and have errors of their own, as "Peer/tor-a". */
  unread: ReadonlySet<string>;
}

/** The objects, looked at once: for compileNode() of each node. */
export interface CompiledCluster {
  readonly cluster: Cluster;
  /** With router ids as the objects say them. */
  readonly routerIds: Problems;
}

/** Without a past: for who looks at the objects as such. Never throws; whatever is wrong is in `problems`, and the rest of the plan stands. */
export function compile(resources: Resources, facts: NodeFacts): NodePlan {
  return compileNode(compileCluster(resources), facts).plan;
}

/** What depends on something unusable is as it was in `past`; what is good now is in the `lastGood` that comes back. Never throws. */
export function compileFrom(resources: Resources, facts: NodeFacts, past: Past): { plan: NodePlan; lastGood: LastGood } {
  const { plan, lastGood } = compileNode(compileCluster(resources, past), facts);
  return { plan, lastGood: lastGood() };
}

export function compileCluster(resources: Resources, past: Past = { lastGood: nothingGood(), unread: new Set() }): CompiledCluster {
  const cluster = viewCluster(resources, new Memory(past.lastGood, past.unread));
  const routerIds = new Problems();
  reportDuplicateRouterIds({ nodes: cluster.nodes, problems: routerIds });
  return { cluster, routerIds };
}

/** What is wrong with the objects, whichever node asks. That of sessions, such as a Secret that is missing, the nodes find that have them. */
export function clusterProblems({ cluster, routerIds }: CompiledCluster): Problem[] {
  const problems = new Problems();
  problems.include(cluster.problems);
  problems.include(routerIds);
  for (const asn of new Set([DEFAULT_ASN, ...cluster.nodes.map(node => node.asn)]))
    problems.include(policyProblems(cluster, asn || DEFAULT_ASN));
  return problems.list();
}

/** The nodes of each Fabric, by name. */
export function fabricMembers({ cluster }: CompiledCluster): Map<string, string[]> {
  return new Map([...cluster.members].map(([{ metadata }, { all }]) => [metadata.name, all.map(({ name }) => name)]));
}

/** Takes time for this node's sessions, and none for the others'. */
export function compileNode({ cluster, routerIds }: CompiledCluster, facts: NodeFacts): { plan: NodePlan; lastGood: () => LastGood } {
  const problems = new Problems();
  const memory = cluster.memory.fork();
  const self = cluster.nodeOf.get(facts.name) ?? missingNode(facts, problems);
  const context: Context = { ...cluster, facts, self, problems, memory };
  problems.include(cluster.problems);
  if (hasOtherRouterId(context)) reportDuplicateRouterIds(context);
  else problems.include(routerIds);
  const pods = compilePods(context);
  const egress = compileEgress(context);
  const { speaker, services } = self.fabric ? compileSpeaker(context, self.fabric, pods, egress.overlay !== undefined) : {};
  problems.include(policyProblems(cluster, self.asn || DEFAULT_ASN));
  reportHeld(context, speaker !== undefined);
  const readiness = self.fabric && { readiness: { ...self.fabric.spec.readiness } };
  return {
    plan: { node: facts.name, speaker, pods, ...egress, ...readiness, ...(services && { services }), problems: problems.list() },
    lastGood: () => cluster.memory.with(memory),
  };
}

/** Examples may depend on the AS number that is prepended. */
function policyProblems(cluster: Cluster, asn: number): Problems {
  const known = cluster.policyProblems.get(asn) ?? reportPolicies(cluster, asn);
  cluster.policyProblems.set(asn, known);
  return known;
}

function missingNode({ name }: NodeFacts, problems: Problems): NodeView {
  problems.error(
    "NodeNotFound",
    `Node/${name}`,
    "",
    "there is no such Node object: this node takes no part in BGP and attaches no pods",
    "add the Node, or start the agent with the name of an existing one",
  );
  return { name, labels: {}, annotations: {}, address: {}, canonical: {}, podCidrs: [], asn: 0, reflects: false };
}

function compileSpeaker(
  context: Context,
  fabric: Fabric,
  pods: PodPlan,
  tunnels: boolean,
): { speaker: SpeakerConfig; services: ServicesPlan | undefined } {
  const { self, facts } = context;
  const { spec } = fabric;
  const origins = compileOrigins(context, fabric);
  const sessions = compileSessions(context, fabric);
  const guards = compileGuards(context, fabric, pods);
  const named = compilePolicies(context, fabric, sessions, guards);
  nameTunnelNextHops(context, sessions, named);
  const { networks, services, lists, hears, policies: permits } = compileAdvertisements(context, fabric, sessions, named.lists);
  const policies = { ...named.policies, ...permits };
  const roleOf = origins && ((session: Session) => roleAt(context, fabric, session));
  if (!tunnels) reportLonelyFamilies(context, fabric);
  if (origins) reportUnbelieved(context, fabric, origins, networks, hears);
  const { clusterID } = spec.mesh.routeReflectors ?? {};
  const speaker = {
    asn: self.asn,
    routerId: routerIdOf(self, facts),
    ...(clusterID && self.reflects ? { clusterId: clusterID } : {}),
    listen: { port: spec.listen.port, ...(spec.listen.addresses === "InternalIP" ? { addresses: Object.values(self.address) } : {}) },
    neighbors: completeNeighbors(sessions, { lists, hears, roleOf }),
    arrangement: arrangementOf(context, fabric),
    policies: Object.fromEntries(Object.entries(policies).sort(([a], [b]) => compareText(a, b))),
    networks,
    multipath: { ebgp: spec.multipath.external, ibgp: spec.multipath.internal, asPathRelax: spec.multipath.relaxASPath },
    decision: { alwaysCompareMed: spec.decision.alwaysCompareMED, preferOldest: spec.decision.preferOldest },
    fib: { ...spec.forwarding },
    protectedPrefixes: guards,
    ...(origins ? { origins } : {}),
    startupWait: spec.startupWait,
  };
  return { speaker, services };
}

/** A node more or less is no other arrangement, a reflector is. */
function arrangementOf(context: Context, fabric: Fabric): string {
  const { reflectors = [] } = meshOf(context, fabric) ?? {};
  return [fabric.spec.mesh.type, ...reflectors.map(({ name }) => name)].join(" ");
}

/** A pod subnet whose family the mesh cannot carry: sessions carry the family of their addresses. */
function reportLonelyFamilies(context: Context, fabric: Fabric): void {
  const { self, problems } = context;
  if (fabric.spec.mesh.type === "None" || (meshOf(context, fabric)?.all.length ?? 0) < 2) return;
  for (const { prefix, source } of self.podCidrs) {
    const family = prefix.includes(":") ? 6 : 4;
    if (self.address[family]) continue;
    const message = `node ${self.name} has no InternalIP of the family of ${prefix}: the mesh does not carry ${familyName(family)} for it`;
    problems.warning(
      "FamilyNotCarried",
      `Node/${self.name}`,
      "status.addresses",
      message,
      `give the node an IPv${family} InternalIP, let an overlay carry it (PodNetwork spec.overlay), or take the pod subnet of ${source} out`,
    );
  }
}
