/**
 * What the user wants -> what this node must do. A pure function of the objects and of what the node knows of itself; the one place that
 * knows both the objects' vocabulary and the speaker's. The order of the objects never matters.
 */
import type { SpeakerConfig } from "../bgpd/config.ts";
import { compileAdvertisements } from "./compile/advertisements.ts";
import { type Context, compareText, familyName, type NodeView, Problems } from "./compile/context.ts";
import { reportHeld } from "./compile/held.ts";
import { type LastGood, Memory, nothingGood } from "./compile/memory.ts";
import { assignFabrics, reportDuplicateRouterIds, routerIdOf, viewNodes } from "./compile/nodes.ts";
import { compileOrigins, reportUnbelieved, roleAt } from "./compile/origins.ts";
import { resolvePeers } from "./compile/peers.ts";
import { compilePods } from "./compile/pods.ts";
import { compilePolicies, reportPolicies, usablePolicies } from "./compile/policies.ts";
import { compileGuards } from "./compile/protect.ts";
import { compileSessions } from "./compile/sessions.ts";
import type { NodeFacts, NodePlan, PodPlan } from "./plan.ts";
import type { Fabric, Resources } from "./resources/kinds.ts";

export interface Past {
  lastGood: LastGood;
  /** Objects that are there and have errors of their own, as "Peer/tor-a". */
  unread: ReadonlySet<string>;
}

/** Without a past: for who looks at the objects as such. Never throws; whatever is wrong is in `problems`, and the rest of the plan stands. */
export function compile(resources: Resources, facts: NodeFacts): NodePlan {
  return compileFrom(resources, facts, { lastGood: nothingGood(), unread: new Set() }).plan;
}

/** What depends on something unusable is as it was in `past`; what is good now is in the `lastGood` that comes back. Never throws. */
export function compileFrom(resources: Resources, facts: NodeFacts, past: Past): { plan: NodePlan; lastGood: LastGood } {
  const memory = new Memory(past.lastGood, past.unread);
  return { plan: compileWith(resources, facts, memory), lastGood: memory.now };
}

function compileWith(resources: Resources, facts: NodeFacts, memory: Memory): NodePlan {
  const problems = new Problems();
  const nodes = viewNodes(resources, memory, problems);
  const policies = usablePolicies(resources, memory);
  const held = new Set<string>();
  const { defaultFabric } = assignFabrics(nodes, { resources, memory, problems, policies, held });
  const self = nodes.find(({ name }) => name === facts.name) ?? missingNode(facts, problems);
  const context: Context = { resources, facts, nodes, self, defaultFabric, problems, memory, policies, held };
  const pods = compilePods(context);
  reportDuplicateRouterIds(context);
  const speaker = self.fabric ? compileSpeaker(context, self.fabric, pods) : undefined;
  if (!speaker) resolvePeers(context);
  reportPolicies(context);
  reportHeld(context, speaker !== undefined);
  return { node: facts.name, speaker, pods, problems: problems.list() };
}

function missingNode({ name }: NodeFacts, problems: Problems): NodeView {
  problems.error(
    `Node/${name}`,
    "",
    "there is no such Node object: this node takes no part in BGP and attaches no pods",
    "add the Node, or start the agent with the name of an existing one",
  );
  return { name, labels: {}, address: {}, podCidrs: [], asn: 0, reflects: false };
}

function compileSpeaker(context: Context, fabric: Fabric, pods: PodPlan): SpeakerConfig {
  const { self, facts } = context;
  const { spec } = fabric;
  const peers = resolvePeers(context);
  const origins = compileOrigins(context, fabric, peers);
  const sessions = compileSessions(context, fabric, peers);
  if (origins) for (const session of sessions) session.neighbor.origin = roleAt(context, fabric, session, peers);
  const guards = compileGuards(context, fabric, pods);
  const policies = compilePolicies(context, fabric, sessions, guards);
  const networks = compileAdvertisements(context, peers, sessions, policies);
  reportLonelyFamilies(context, fabric);
  if (origins) reportUnbelieved(context, fabric, origins, networks, sessions);
  const { clusterID } = spec.mesh.routeReflectors ?? {};
  return {
    asn: self.asn,
    routerId: routerIdOf(self, facts),
    ...(clusterID && self.reflects ? { clusterId: clusterID } : {}),
    listen: { port: spec.listen.port, ...(spec.listen.addresses === "InternalIP" ? { addresses: Object.values(self.address) } : {}) },
    neighbors: sessions.map(({ neighbor }) => neighbor),
    policies: Object.fromEntries(Object.entries(policies).sort(([a], [b]) => compareText(a, b))),
    networks,
    multipath: { ebgp: spec.multipath.external, ibgp: spec.multipath.internal, asPathRelax: spec.multipath.relaxASPath },
    decision: { alwaysCompareMed: spec.decision.alwaysCompareMED, preferOldest: spec.decision.preferOldest },
    fib: { ...spec.forwarding },
    protectedPrefixes: guards,
    ...(origins ? { origins } : {}),
    startupWait: spec.startupWait,
  };
}

/** A pod subnet whose family the mesh cannot carry: sessions carry the family of their addresses. */
function reportLonelyFamilies({ self, nodes, problems }: Context, fabric: Fabric): void {
  if (fabric.spec.mesh.type === "None" || !nodes.some(node => node !== self && node.fabric === fabric)) return;
  for (const { prefix, source } of self.podCidrs) {
    const family = prefix.includes(":") ? 6 : 4;
    if (self.address[family]) continue;
    const message = `node ${self.name} has no InternalIP of the family of ${prefix}: the mesh does not carry ${familyName(family)} for it`;
    problems.warning(
      `Node/${self.name}`,
      "status.addresses",
      message,
      `give the node an IPv${family} InternalIP, or take the pod subnet of ${source} out`,
    );
  }
}
