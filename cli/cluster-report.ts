/** The state of all nodes, from their NodeState objects: pure. Agents of other versions wrote them, so that nothing but metadata is taken for granted. */
import type { ApiObject } from "../kubernetes/types.ts";
import { compareNames } from "./render/table.ts";

export interface NodeRow {
  name: string;
  /** As the agent says; "Unknown" also where it does not say. */
  ready: "True" | "False" | "Unknown";
  /** False: no agent has ever reported for this node. */
  reported: boolean;
  /** The Node object is gone, and the report has stayed. */
  orphaned?: true;
  sessions: { established: number; wanted: number };
  /** In the kernel where the agent says it, else learned. */
  routes?: number;
  problems: { errors: number; warnings: number };
  version?: string;
  /** RFC 3339: the last time when a condition or a session changed. */
  changedAt?: string;
  /** Draining or Drained. */
  drain?: string;
  /** Of the worst thing. */
  reason?: string;
}

export interface ProblemGroup {
  severity: "error" | "warning";
  reason?: string;
  /** As the first of the nodes tells it. */
  object: string;
  field: string;
  message: string;
  remedy: string;
  nodes: string[];
}

export interface ClusterView {
  /** The worst first. */
  nodes: NodeRow[];
  /** Errors first, then those of most nodes. */
  problems: ProblemGroup[];
}

export interface VersionGroup {
  /** Undefined: the agent does not say, or there is none. */
  version?: string;
  nodes: string[];
}

interface Condition {
  type: string;
  status: string;
  message?: string;
  lastTransitionTime?: string;
}

interface Session {
  name: string;
  state: string;
  reason?: string;
  since?: string;
  /** Not wanted at present. */
  shutdown?: boolean;
}

/** Of all sessions and problems, of which the object lists the first ones. */
interface Summary {
  established?: number;
  wanted?: number;
  routes?: number;
  errors?: number;
  warnings?: number;
}

interface Status {
  conditions?: Condition[];
  summary?: Summary;
  sessions?: Session[];
  learned?: { ipv4?: number; ipv6?: number; installed?: number };
  problems?: Omit<ProblemGroup, "nodes">[];
  version?: string;
  drain?: { state?: string };
}

export class ClusterReport {
  readonly #rows = new Map<string, NodeRow>();
  readonly #groups = new Map<string, ProblemGroup>();

  /** A NodeState. */
  add({ metadata, status = {} }: ApiObject & { status?: Status }): void {
    const { name } = metadata;
    this.#rows.set(name, rowOf(name, status));
    for (const problem of status.problems ?? []) {
      const key = groupKey(problem, name);
      const group = this.#groups.get(key);
      if (!group) this.#groups.set(key, { ...problem, nodes: [name] });
      else if (group.nodes.at(-1) !== name) group.nodes.push(name);
    }
  }

  result(nodes: readonly string[]): ClusterView {
    const present = new Set(nodes);
    const reported = [...this.#rows.values()].map((row): NodeRow => (present.has(row.name) ? row : { ...row, orphaned: true }));
    const silent = nodes.filter(name => !this.#rows.has(name)).map(unreported);
    return {
      nodes: [...reported, ...silent].sort((a, b) => rank(a) - rank(b) || compareNames(a.name, b.name)),
      problems: [...this.#groups.values()].sort(
        (a, b) => a.severity.localeCompare(b.severity) || b.nodes.length - a.nodes.length || compareNames(a.object, b.object),
      ),
    };
  }
}

/** For an exit code: a node serves no pods, or not all that is wanted. Warnings alone are none. */
export function isWrong({ nodes }: ClusterView): boolean {
  return nodes.some(row => rank(row) < Ranks.warned);
}

export function versionsOf({ nodes }: ClusterView): VersionGroup[] {
  const groups = Map.groupBy(nodes, row => row.version);
  return [...groups]
    .map(([version, rows]) => ({ version, nodes: rows.map(row => row.name).sort(compareNames) }))
    .sort((a, b) => b.nodes.length - a.nodes.length);
}

function rowOf(name: string, status: Status): NodeRow {
  const { conditions = [], summary = {}, learned, problems = [], version, drain } = status;
  const ready = conditions.find(one => one.type === "Ready");
  const sessions = (status.sessions ?? []).filter(one => !one.shutdown);
  const down = sessions.filter(one => one.state !== "Established");
  const count = (severity: string) => problems.filter(one => one.severity === severity).length;
  const times = [...conditions.map(one => one.lastTransitionTime), ...sessions.map(one => one.since)].filter(time => time !== undefined);
  return {
    name,
    ready: ready?.status === "True" || ready?.status === "False" ? ready.status : "Unknown",
    reported: true,
    sessions: { established: summary.established ?? sessions.length - down.length, wanted: summary.wanted ?? sessions.length },
    routes: learned?.installed ?? summary.routes ?? (learned && (learned.ipv4 ?? 0) + (learned.ipv6 ?? 0)),
    problems: { errors: summary.errors ?? count("error"), warnings: summary.warnings ?? count("warning") },
    version,
    changedAt: latest(times),
    drain: drain?.state === "None" ? undefined : drain?.state,
    reason: reasonOf(ready, down, problems),
  };
}

function reasonOf(ready: Condition | undefined, down: Session[], problems: readonly { severity: string; message: string }[]) {
  if (!ready) return "its agent has not said yet whether it is ready";
  if (ready.status !== "True" && ready.message) return ready.message;
  if (down.length > 0) return `${down[0].name}: ${down[0].reason ?? down[0].state}`;
  return problems.find(one => one.severity === "error")?.message;
}

function latest(times: readonly string[]): string | undefined {
  return times.reduce<string | undefined>(
    (last, time) => (last === undefined || Date.parse(time) > Date.parse(last) ? time : last),
    undefined,
  );
}

function unreported(name: string): NodeRow {
  const reason = "no agent has reported for this node";
  return {
    name,
    ready: "Unknown",
    reported: false,
    sessions: { established: 0, wanted: 0 },
    problems: { errors: 0, warnings: 0 },
    reason,
  };
}

/** From bad to good. */
const Ranks = { notReady: 0, unreported: 1, unknown: 2, errors: 3, sessions: 4, warned: 5, orphaned: 6, good: 7 };

function rank(row: NodeRow): number {
  if (row.orphaned) return Ranks.orphaned;
  if (row.ready === "False") return Ranks.notReady;
  if (!row.reported) return Ranks.unreported;
  if (row.ready === "Unknown") return Ranks.unknown;
  if (row.problems.errors > 0) return Ranks.errors;
  if (row.sessions.established < row.sessions.wanted) return Ranks.sessions;
  return row.problems.warnings > 0 ? Ranks.warned : Ranks.good;
}

/**
 * The same reason at the same object is the same problem, however the words count or measure; about the node itself it is that of other nodes too. An agent that
 * tells no reason is compared by its words.
 */
function groupKey({ severity, reason, object, field, message }: Omit<ProblemGroup, "nodes">, node: string): string {
  return JSON.stringify([
    severity,
    reason ?? message.replaceAll(node, "\0"),
    object.split("/").map(part => (part === node ? "\0" : part)),
    field,
  ]);
}
