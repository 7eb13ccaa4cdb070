/** What the cluster's objects and the nodes' reports come to -> the status of each Fabric, Peer, Policy, Advertisement and PodNetwork. Pure. */
import { clusterProblems, compileCluster, fabricMembers } from "../config/compile.ts";
import type { Problem } from "../config/plan.ts";
import { kindRows, type Resources } from "../config/resources/kinds.ts";
import { type FamilyUsage, poolProblems } from "../config/services/pools.ts";
import type { FoundCondition } from "../kubernetes/conditions.ts";
import type { Summary } from "./reports.ts";

/** Plain JSON. */
export interface ObjectStatus {
  conditions: FoundCondition[];
  /** Of a Peer. */
  sessions?: string;
  /** Of a Fabric. */
  nodes?: number;
  nodesReady?: number;
  /** Of an AddressPool. */
  ipv4?: FamilyUsage;
  ipv6?: FamilyUsage;
}

/** Of objects alone: what is computed anew only when one of them has changed. */
export interface ObjectFindings {
  /** By "Peer/tor-a". */
  problems: ReadonlyMap<string, readonly Problem[]>;
  /** Nodes by Fabric. */
  members: ReadonlyMap<string, readonly string[]>;
}

/** metav1.Condition. */
const MAX_MESSAGE = 1024;
/** An object names another one that is not there, or that cannot be used. */
const ReferenceReasons = ["ReferenceNotFound", "PasswordNotAvailable"];

/** `unread`: of objects that cannot be used as they are. */
export function findingsOf(resources: Resources, unread: readonly Problem[]): ObjectFindings {
  const compiled = compileCluster(resources);
  const problems = new Map<string, Problem[]>();
  for (const problem of [...unread, ...clusterProblems(compiled), ...poolProblems(resources.addressPools)].flatMap(perObject)) {
    problems.set(problem.object, [...(problems.get(problem.object) ?? []), problem]);
  }
  return { problems, members: fabricMembers(compiled) };
}

/** Of several fields that one cause concerns, each object has its own. */
function perObject(problem: Problem): Problem[] {
  const { consequences = [] } = problem;
  const told = consequences.flatMap(line => {
    const [, object, field, effect] = /^(\w+\/\S+) (\S*): (.*)$/s.exec(line) ?? [];
    return object === undefined ? [] : [{ ...problem, object, field, message: `${problem.message}: ${effect}`, cause: problem.object }];
  });
  return told.length > 0 ? told : [problem];
}

export function statusOf(kind: string, name: string, { problems, members }: ObjectFindings, summary: Summary): ObjectStatus {
  const object = `${kind}/${name}`;
  const own = problems.get(object) ?? [];
  const conditions = [accepted(own), resolved(object, own, summary)];
  if (kind === "Peer") {
    const { established, wanted } = summary.sessions.get(object) ?? { established: 0, wanted: 0 };
    return { conditions, sessions: `${established}/${wanted}` };
  }
  if (kind !== "Fabric") return { conditions };
  const nodes = members.get(name) ?? [];
  return { conditions, nodes: nodes.length, nodesReady: nodes.filter(node => summary.ready.has(node)).length };
}

/** Kinds that have such a status. */
export const statusKinds = kindRows.filter(({ collection }) => collection !== undefined);

function accepted(problems: readonly Problem[]): FoundCondition {
  const fault = problems.find(one => one.severity === "error");
  if (!fault) return { type: "Accepted", status: "True", reason: "Accepted", message: "it is used as it stands" };
  return { type: "Accepted", status: "False", reason: fault.reason, message: textOf(fault) };
}

function resolved(object: string, problems: readonly Problem[], { references }: Summary): FoundCondition {
  const fault = problems.find(one => one.severity === "error" && isReference(one));
  if (fault) return { type: "ResolvedRefs", status: "False", reason: fault.reason, message: textOf(fault) };
  const told = references.get(object);
  if (!told) return { type: "ResolvedRefs", status: "True", reason: "ResolvedRefs", message: "all that it names is there" };
  const message = `${told.nodes > 1 ? `${told.nodes} nodes, ${told.first} first` : told.first}: ${told.message}`;
  return { type: "ResolvedRefs", status: "False", reason: told.reason, message: cut(message) };
}

function isReference({ reason, cause, object }: Problem): boolean {
  return ReferenceReasons.includes(reason) || (reason === "InheritanceFailed" && cause !== undefined && cause !== object);
}

function textOf({ field, message, remedy }: Problem): string {
  return cut(`${field ? `${field}: ` : ""}${message}. ${remedy}`);
}

/** Half a character would come back as another one, and be written again and again. */
function cut(text: string): string {
  return text.slice(0, MAX_MESSAGE).replace(/[\uD800-\uDBFF]$/, "");
}
