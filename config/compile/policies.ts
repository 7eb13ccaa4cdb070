/** Policy objects -> the speaker's policies; and what is never reached, never used or not there. */
import type { PolicyConfig, PolicyMatch, PolicyRule } from "../../bgpd/config.ts";
import { CommunityKinds } from "../../bgpd/message/attribute-table.ts";
import { compilePolicies as evaluatorOf, type PolicyInput, type PolicyProblem, validatePolicy } from "../../bgpd/policy/index.ts";
import { covers, formatPrefix, overlaps, parsePrefix } from "../../net/address.ts";
import type { Problem } from "../plan.ts";
import type { Fabric, Policy, Resources } from "../resources/kinds.ts";
import {
  byName,
  type Cluster,
  type Context,
  familyOfPrefix,
  maxLength,
  Problems,
  type ResolvedPeer,
  type UsablePolicies,
} from "./context.ts";
import { runExamples } from "./examples.ts";
import { astray, type Memory } from "./memory.ts";
import type { Lists } from "./neighbors.ts";
import type { Guard } from "./protect.ts";
import { references } from "./references.ts";
import type { FamilyConfig, Session } from "./sessions.ts";

type Rule = Policy["spec"]["rules"][number];
type Ranges = NonNullable<NonNullable<Rule["match"]>["prefixes"]>;

/** The name of the policy that lets mesh.accept open what is guarded. */
const MESH_ACCEPT = "accept:mesh";

/** The policies that the sessions' families name, and which of them each asks. */
export function compilePolicies(
  context: Context,
  fabric: Fabric,
  sessions: readonly Session[],
  guards: Guard[],
): { policies: Record<string, PolicyConfig>; lists: Lists } {
  const policies: Record<string, PolicyConfig> = {};
  const lists: Lists = new Map();
  // Of the mesh all sessions have the same.
  const mesh = new Map<string, { importPolicies: string[]; exportPolicies: string[] }>();
  const seen = new Set<Session["neighbor"]["families"]>();
  for (const session of sessions) {
    const { families } = session.neighbor;
    // Thousands of a mesh share them.
    if (seen.has(families)) continue;
    seen.add(families);
    for (const [family, config] of Object.entries(families)) {
      const known = session.peer ? undefined : mesh.get(family);
      const own = known ?? listsOf(context, fabric, session, family, config, sessions, guards, policies);
      lists.set(config, own);
      if (!session.peer) mesh.set(family, own);
    }
  }
  return { policies, lists };
}

function listsOf(
  context: Context,
  fabric: Fabric,
  { peer }: Session,
  family: string,
  config: FamilyConfig,
  sessions: readonly Session[],
  guards: Guard[],
  policies: Record<string, PolicyConfig>,
) {
  for (const name of [...config.importPolicies, ...config.exportPolicies]) {
    const policy = context.policies.get(name);
    if (policy) policies[name] ??= compilePolicy(policy, neighborsIn(sessions));
    else if (context.resources.policies.has(name)) policies[name] ??= rejectAll("this policy has an error");
  }
  const accepts = peer ? peerAccept(peer, family, guards) : meshAccept(fabric, family, guards);
  if (accepts) policies[accepts.name] ??= accepts.policy;
  return {
    importPolicies: [...config.importPolicies.map(name => existing(context, name, policies)), ...(accepts ? [accepts.name] : [])],
    exportPolicies: config.exportPolicies.map(name => existing(context, name, policies)),
  };
}

/** The policies that can be used. One that has an error, or is gone and still asked for, is as it was when it last was good. */
export function usablePolicies(resources: Resources, memory: Memory): UsablePolicies {
  const result = new Map<string, Policy | undefined>();
  const recall = (name: string): Policy | undefined => {
    const spec = memory.recall("policies", name);
    return spec && { apiVersion: "podlane.io/v1alpha1", kind: "Policy", metadata: { name }, spec };
  };
  for (const [name, policy] of resources.policies) {
    const good = faultsOf(policy).length === 0 && strayNames(policy, resources, memory).length === 0;
    if (good) memory.remember("policies", name, policy.spec);
    result.set(name, good ? policy : recall(name));
  }
  const get = (name: string) => {
    if (!result.has(name)) result.set(name, recall(name));
    return result.get(name);
  };
  return { get, has: name => get(name) !== undefined };
}

/** Peers and nodes in its rules that there are not, and that were not in them when the policy was good. */
function strayNames({ metadata, spec }: Policy, resources: Resources, memory: Memory): string[] {
  const last = memory.before("policies", metadata.name);
  const all = (of: Policy["spec"] | undefined, field: "peers" | "nodes") => of?.rules.flatMap(({ match }) => match?.[field] ?? []);
  return [
    ...astray(all(spec, "peers") ?? [], all(last, "peers"), name => resources.peers.has(name)),
    ...astray(all(spec, "nodes") ?? [], all(last, "nodes"), name => mayExist(resources, name)),
  ];
}

function mayExist({ nodes, partialNodes = false }: Resources, name: string): boolean {
  return partialNodes || nodes.has(name);
}

/** A policy that is missing rejects everything: it was meant to hold something back. */
function existing({ resources, policies: usable }: Context, name: string, policies: Record<string, PolicyConfig>): string {
  if (resources.policies.has(name) || usable.has(name)) return name;
  const missing = `missing:${name}`;
  policies[missing] ??= rejectAll(`there is no Policy ${name}`);
  return missing;
}

function rejectAll(why: string): PolicyConfig {
  return { rules: [{ name: why, action: { result: "reject" } }] };
}

/** spec.import.accept of a Peer: a policy of its own. */
function peerAccept({ name, spec }: ResolvedPeer, family: string, guards: Guard[]): { name: string; policy: PolicyConfig } | undefined {
  const entry = spec.families?.find(one => one.name === family);
  const settings = entry?.import ?? spec.import;
  const ranges = (settings?.accept ?? []).filter(({ prefix }) => familyOfPrefix(prefix) === family);
  return ranges.length === 0 ? undefined : { name: `accept:${name}/${family}`, policy: acceptPolicy(`Peer/${name}`, ranges, guards) };
}

/** spec.mesh.accept of a Fabric: an entry with exactly the prefix of a guard opens it. The others need no policy, as the mesh accepts by default. */
function meshAccept({ metadata, spec }: Fabric, family: string, guards: Guard[]): { name: string; policy: PolicyConfig } | undefined {
  const named = (spec.mesh.accept ?? []).filter(({ prefix }) => guards.some(guard => guard.prefix === canonical(prefix)));
  if (!named.some(({ prefix }) => familyOfPrefix(prefix) === family)) return undefined;
  const rules: PolicyRule[] = [{ name: "accept", match: { prefixes: named.map(compileRange) }, action: { result: "accept" } }];
  return { name: MESH_ACCEPT, policy: { source: `Fabric/${metadata.name}`, rules } };
}

/** A range that merely covers a protected prefix does not name it: that takes an entry with exactly the prefix. */
function acceptPolicy(source: string, ranges: Ranges, guards: Guard[]): PolicyConfig {
  const held = guards.filter(
    guard => !ranges.some(({ prefix }) => prefix === guard.prefix) && ranges.some(range => reaches(compileRange(range), guard)),
  );
  const rules: PolicyRule[] = [];
  if (held.length > 0) {
    const prefixes = held.map(guard => ({ prefix: guard.prefix, ge: lengthOf(guard.prefix), le: longestOf(guard) }));
    rules.push({ name: "protected", match: { prefixes }, action: { result: "reject" } });
  }
  rules.push({ name: "accept", match: { prefixes: ranges.map(compileRange) }, action: { result: "accept" } });
  return { source, rules };
}

/** Whether a range can match what the guard holds. */
function reaches({ prefix, ge, le }: ReturnType<typeof compileRange>, guard: Guard): boolean {
  const [range, guarded] = [parsePrefix(prefix), parsePrefix(guard.prefix)];
  if (guard.orLonger) return overlaps(range, guarded) && le >= guarded.length && ge <= longestOf(guard);
  return covers(range, guarded) && ge <= guarded.length && guarded.length <= le;
}

function longestOf({ prefix, orLonger, le }: Guard): number {
  return orLonger ? (le ?? maxLength(prefix)) : lengthOf(prefix);
}

function canonical(prefix: string): string {
  return formatPrefix(parsePrefix(prefix));
}

export function lengthOf(prefix: string): number {
  return Number(prefix.slice(prefix.lastIndexOf("/") + 1));
}

/** Both bounds written out, so that nothing hangs on defaults. */
export function compileRange({ prefix, ge, le }: Ranges[number]) {
  const length = lengthOf(prefix);
  return { prefix, ge: ge ?? length, le: le ?? (ge === undefined ? length : maxLength(prefix)) };
}

/** The neighbours that Peers and mesh nodes stand for. */
export type Neighbors = (peers: readonly string[], nodes: readonly string[]) => string[];

function neighborsIn(sessions: readonly Session[]): Neighbors {
  return (peers, nodes) =>
    sessions
      .filter(({ peer, node }) => (peer && peers.includes(peer.name)) || (node !== undefined && nodes.includes(node)))
      .map(({ neighbor }) => neighbor.name);
}

function compilePolicy(policy: Policy, neighbors: Neighbors): PolicyConfig {
  const rules: PolicyRule[] = [];
  for (const [i, rule] of policy.spec.rules.entries()) {
    const compiled = compileRule(rule, i, neighbors);
    if (compiled) rules.push(compiled);
  }
  return { source: `Policy/${policy.metadata.name}`, rules };
}

/** What the schema cannot say, such as a regular expression that is none: the evaluator's own check, rule by rule. */
function faultsOf(policy: Policy): PolicyProblem[] {
  return policy.spec.rules.flatMap((rule, i) => {
    const compiled = compileRule(rule, i, (peers, nodes) => [...peers, ...nodes]);
    return compiled ? validatePolicy({ rules: [compiled] }).map(fault => ({ ...fault, rule: i })) : [];
  });
}

/** undefined: the rule is about peers that this node does not have. */
function compileRule(rule: Rule, index: number, neighbors: Neighbors): PolicyRule | undefined {
  const match = rule.match && compileMatch(rule.match, neighbors);
  if (match?.neighbors?.length === 0) return undefined;
  const { set, prepend, removeMED } = rule;
  return {
    name: rule.name ?? `rule ${index + 1}`,
    ...(match ? { match } : {}),
    action: {
      result: rule.result === "Accept" ? "accept" : rule.result === "Reject" ? "reject" : "continue",
      ...(set ? { set } : {}),
      ...Object.fromEntries(CommunityKinds.flatMap(({ attribute }) => (rule[attribute] ? [[attribute, rule[attribute]]] : []))),
      ...(prepend ? { prepend: { asn: prepend.asn ?? (prepend.as === "Last" ? "last" : "self"), count: prepend.count } } : {}),
      ...(removeMED ? { removeMed: true } : {}),
    },
  };
}

function compileMatch({ prefixes, peers = [], nodes = [], ...rest }: NonNullable<Rule["match"]>, neighbors: Neighbors): PolicyMatch {
  return {
    ...(prefixes?.length ? { prefixes: prefixes.map(compileRange) } : {}),
    ...Object.fromEntries(Object.entries(rest).filter(([, value]) => !(Array.isArray(value) && value.length === 0))),
    ...(peers.length > 0 || nodes.length > 0 ? { neighbors: neighbors(peers, nodes) } : {}),
  };
}

/** Policies that are missing, unused, or partly unreachable: for the objects as such. `asn`: whose examples are run. */
export function reportPolicies(cluster: Cluster, asn: number): Problems {
  const { resources, policies, memory, held, refusing } = cluster;
  const problems = new Problems();
  const used = new Set<string>();
  for (const { object, field, names } of references(resources)) {
    for (const [i, name] of names.entries()) {
      used.add(name);
      if (!resources.policies.has(name)) {
        const { message } = memory.absence("Policy", name);
        const at = `${object} ${field}`;
        const rejects = "in its place everything is rejected";
        const stays = `what was there before stays in force${refusing.has(at) ? `, and where nothing was, ${rejects}` : ""}`;
        const effect = policies.has(name) ? "its last good version stays in force" : held.has(at) ? stays : rejects;
        problems.because(
          "ReferenceNotFound",
          { object: `Policy/${name}`, message },
          object,
          `${field}[${i}]`,
          effect,
          "create the policy, or take the name out",
        );
      }
    }
    const end = names.findIndex(name => terminal(resources.policies.get(name)) !== undefined);
    if (end >= 0 && end < names.length - 1) {
      problems.warning(
        "NeverReached",
        object,
        `${field}[${end + 1}]`,
        `is never asked: Policy ${names[end]} decides about every route`,
        "change the order, or give the policy's last rule a match",
      );
    }
  }
  for (const policy of byName(resources.policies)) reportPolicy(policy, used, cluster, asn, problems);
  return problems;
}

function reportPolicy(policy: Policy, used: Set<string>, { resources, policies, memory }: Cluster, asn: number, problems: Problems): void {
  const { name } = policy.metadata;
  const { spec } = policy;
  const object = `Policy/${name}`;
  if (!used.has(name))
    problems.warning(
      "NotUsed",
      object,
      "",
      "no Peer and no Fabric uses this policy",
      "name it in import.policies or export.policies of a Peer, or in mesh.importPolicies or mesh.exportPolicies of a Fabric",
    );
  const end = spec.rules.findIndex(rule => rule.result !== "Continue" && matchesAll(rule));
  if (end >= 0 && end < spec.rules.length - 1) {
    const first = spec.rules[end].name ?? `rule ${end + 1}`;
    problems.warning(
      "NeverReached",
      object,
      `spec.rules[${end + 1}]`,
      `is never reached: ${JSON.stringify(first)} before it decides about every route`,
      "change the order, or give that rule a match",
    );
  }
  for (const { rule, field, message, remedy } of faultsOf(policy)) {
    problems.error(
      "InvalidRule",
      object,
      `spec.rules[${rule}].${field.replace(/^action\./, "")}`,
      `${message}; until then ${policies.has(name) ? "its last good version stays in force" : "the policy rejects everything"}`,
      remedy,
    );
  }
  problems.add(exampleProblems(policy, asn));
  const stray = strayNames(policy, resources, memory);
  for (const [i, { match }] of spec.rules.entries()) {
    reportAbsent("peers", "Peer", match?.peers);
    reportAbsent("nodes", "Node", match?.nodes);

    function reportAbsent(field: "peers" | "nodes", kind: "Peer" | "Node", names: readonly string[] = []): void {
      for (const [j, one] of names.entries()) {
        if (field === "nodes" ? mayExist(resources, one) : resources.peers.has(one)) continue;
        const at = `spec.rules[${i}].match.${field}[${j}]`;
        const { message, remedy } = memory.absence(kind, one);
        if (stray.includes(one))
          problems.error("ReferenceNotFound", object, at, `${message}; until then the policy's last good version stays in force`, remedy);
        else problems.warning("ReferenceNotFound", object, at, message, remedy);
      }
    }
  }
}

/** The policy on its own, with each neighbour called by the name of its Peer; what no rule decides stays undecided. */
function exampleProblems(policy: Policy, asn: number): Problem[] {
  if (!policy.spec.examples?.length || faultsOf(policy).length > 0) return [];
  const name = policy.metadata.name;
  const undecided = "no rule decides";
  const compiled = evaluatorOf({
    names: [name],
    policies: { [name]: compilePolicy(policy, (peers, nodes) => [...peers, ...nodes]) },
    default: { action: "reject", text: undecided },
  });
  const evaluate = (input: PolicyInput) => {
    const result = compiled.evaluate(input);
    return result.decidedBy === undecided ? undefined : result;
  };
  return runExamples(policy, evaluate, asn);
}

/** The rule that decides about every route, where the policy has one. */
export function terminal(policy: Policy | undefined): Rule | undefined {
  return policy?.spec.rules.find(rule => rule.result !== "Continue" && matchesAll(rule));
}

function matchesAll({ match }: Rule): boolean {
  return !match || Object.values(match).every(value => (Array.isArray(value) ? value.length === 0 : Object.keys(value).length === 0));
}
