/** Of each NodeState, what the status of other objects needs: thousands of nodes are remembered in a few octets each. */
import type { ApiObject } from "../kubernetes/types.ts";

export interface NodeReport {
  ready: boolean;
  /** By the object that they come from: "Peer/tor-a". */
  sessions: ReadonlyMap<string, Count>;
  /** What the node's sessions need and do not get. */
  references: readonly ReferenceProblem[];
}

export interface Count {
  established: number;
  wanted: number;
}

export interface ReferenceProblem {
  object: string;
  reason: string;
  message: string;
}

/** Of these, agents know more than the objects say: they alone read Secrets. */
const AgentReasons = ["PasswordNotAvailable"];
const OBJECT = /\b(?:Fabric|Peer)\/[a-z0-9][-a-z0-9.]*[a-z0-9]|\b(?:Fabric|Peer)\/[a-z0-9]/g;

/** Whatever is not as an agent writes it is passed over: another version may have written it. */
export function reportOf({ status }: ApiObject): NodeReport {
  const { conditions, sessions, problems } = record(status);
  const ready = records(conditions).some(({ type, status: is }) => type === "Ready" && is === "True");
  const counts = new Map<string, Count>();
  for (const { source, state, shutdown } of records(sessions)) {
    if (typeof source !== "string" || shutdown === true) continue;
    const count = counts.get(source) ?? { established: 0, wanted: 0 };
    count.wanted++;
    if (state === "Established") count.established++;
    counts.set(source, count);
  }
  const references = records(problems)
    .filter(({ reason }) => AgentReasons.includes(String(reason)))
    .flatMap(({ reason, object, message }) =>
      // Where several have one cause, the message names them.
      [...new Set(`${object} ${message}`.match(OBJECT) ?? [])].map(one => ({
        object: one,
        reason: String(reason),
        message: String(message),
      })),
    );
  return { ready, sessions: counts, references };
}

/** What the nodes say, taken together. */
export interface Summary {
  /** Nodes that serve pods. */
  ready: ReadonlySet<string>;
  /** By "Peer/tor-a". */
  sessions: ReadonlyMap<string, Count>;
  references: ReadonlyMap<string, { nodes: number; first: string; reason: string; message: string }>;
}

/** `silent`: nodes whose sessions and readiness are of the past. */
export function summaryOf(reports: ReadonlyMap<string, NodeReport>, silent: ReadonlySet<string>): Summary {
  const ready = new Set<string>();
  const sessions = new Map<string, Count>();
  const references = new Map<string, { nodes: number; first: string; reason: string; message: string }>();
  for (const [node, report] of reports) {
    const speaks = !silent.has(node);
    if (speaks && report.ready) ready.add(node);
    for (const [source, { established, wanted }] of report.sessions) {
      const sum = sessions.get(source) ?? { established: 0, wanted: 0 };
      sum.wanted += wanted;
      if (speaks) sum.established += established;
      sessions.set(source, sum);
    }
    for (const { object, reason, message } of report.references) {
      const known = references.get(object) ?? { nodes: 0, first: node, reason, message };
      const first = node < known.first ? { first: node, reason, message } : {};
      references.set(object, { ...known, ...first, nodes: known.nodes + 1 });
    }
  }
  return { ready, sessions, references };
}

/** Its kubelet is silent: what its NodeState says is of the past. */
export function isSilent({ status }: ApiObject): boolean {
  return records(record(status).conditions).some(({ type, status: is }) => type === "Ready" && is === "Unknown");
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.map(record) : [];
}
