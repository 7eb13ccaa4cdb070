/** What a node's agent knows of itself -> the status of its NodeState. Pure. Bounded in everything, and without anything secret: what it is made from has none. */
import type { NeighborSnapshot } from "../../bgpd/snapshot.ts";
import type { NodePlan, Problem } from "../../config/plan.ts";
import { NodeStateLimits as Limits, type NodeStateStatus } from "../../config/resources/node-state.ts";
import type { FoundCondition } from "../../kubernetes/conditions.ts";
import type { StatusView } from "../api/views.ts";

/** What the agent gives for it. */
export interface NodeReport {
  status: StatusView;
  neighbors: readonly NeighborSnapshot[];
  problems: readonly Problem[];
  plan: NodePlan | undefined;
}

/** With conditions that have no times yet. */
export type FoundNodeState = Omit<NodeStateStatus, "conditions"> & { conditions: FoundCondition[] };

type Session = NonNullable<NodeStateStatus["sessions"]>[number];
type Announced = NonNullable<NodeStateStatus["announced"]>[number];

/** Names that a message has. */
const NAMED = 3;

export function nodeStateOf(report: NodeReport): FoundNodeState {
  const { status, neighbors, plan } = report;
  const { speaker } = status;
  const wanted = neighbors.filter(({ shutdown }) => !shutdown);
  const established = wanted.filter(({ state }) => state === "Established").length;
  const tables = speaker?.tables;
  const networks = plan?.speaker?.networks ?? [];
  const podCIDRs = plan?.pods.podCidrs.slice(0, Limits.podCIDRs) ?? [];
  return {
    version: cut(status.version, 64),
    conditions: conditionsOf(report, wanted, established),
    summary: {
      sessions: `${established}/${wanted.length}`,
      established,
      wanted: wanted.length,
      routes: Object.values(tables ?? {}).reduce((sum, { best }) => sum + best, 0),
      announced: networks.length,
      services: status.services,
      ...status.problems,
    },
    ...(speaker && { asn: speaker.asn, routerID: speaker.routerId }),
    ...(podCIDRs.length > 0 && { podCIDRs }),
    sessions: byTrouble(neighbors).slice(0, Limits.sessions).map(sessionOf),
    announced: networks.slice(0, Limits.announced).map(({ prefix, kind, source, sources }): Announced => {
      return { prefix, kind, reason: cut(`for ${(sources ?? [source]).slice(0, 8).join(", ")}`, 512) };
    }),
    ...(tables && {
      learned: {
        ipv4: tables["ipv4-unicast"]?.best ?? 0,
        ipv6: tables["ipv6-unicast"]?.best ?? 0,
        installed: speaker?.fib?.installed ?? 0,
      },
    }),
    problems: errorsFirst(report.problems).slice(0, Limits.problems).map(problemOf),
  };
}

function conditionsOf(report: NodeReport, wanted: readonly NeighborSnapshot[], established: number): FoundCondition[] {
  const { ready, reason } = report.status.serving;
  const down = wanted.filter(({ state }) => state !== "Established").map(({ name }) => name);
  const sessions: Omit<FoundCondition, "type"> =
    down.length === 0
      ? {
          status: "True",
          reason: wanted.length === 0 ? "NoneWanted" : "AllEstablished",
          message: wanted.length === 0 ? "no session is wanted" : `all ${wanted.length} sessions are established`,
        }
      : { status: "False", reason: "SessionsDown", message: `${established} of ${wanted.length} are established; not ${some(down)}` };
  const found: FoundCondition[] = [
    { type: "Ready", status: ready ? "True" : "False", reason: ready ? "ServesPods" : "ServesNoPods", message: reason },
    { type: "SessionsEstablished", ...sessions },
    { type: "RoutesProgrammed", ...programmed(report) },
  ];
  return found.map(one => ({ ...one, message: cut(one.message, Limits.message) }));
}

function programmed({ status: { speaker }, problems, plan }: NodeReport): Omit<FoundCondition, "type"> {
  if (!speaker) return { status: "False", reason: "NoSpeaker", message: "this node takes no part in BGP" };
  if (plan?.speaker && !plan.speaker.fib.enabled) {
    return { status: "True", reason: "ForwardingDisabled", message: "routes are not written to the kernel, as spec.forwarding says" };
  }
  const fault = problems.find(({ reason }) => reason === "KernelRoutesMissing" || reason === "KernelUnreadable");
  if (fault) return { status: "False", reason: fault.reason, message: fault.message };
  if (!speaker.converged) return { status: "False", reason: "Converging", message: "not all tables have come since the start" };
  return { status: "True", reason: "Programmed", message: "the kernel has all routes that were chosen" };
}

/** Where not all have room, those that are down are told. */
function byTrouble(neighbors: readonly NeighborSnapshot[]): readonly NeighborSnapshot[] {
  if (neighbors.length <= Limits.sessions) return neighbors;
  const isUp = ({ state }: NeighborSnapshot) => state === "Established";
  return [...neighbors.filter(one => !isUp(one)), ...neighbors.filter(isUp)];
}

function sessionOf(neighbor: NeighborSnapshot): Session {
  const { name, source, address, interface: link, asn, state, reason, since, downSince, lastDown, shutdown } = neighbor;
  const families = Object.values(neighbor.families);
  const sum = (field: "received" | "accepted" | "sent") => families.reduce((total, one) => total + one[field], 0);
  const up = state === "Established";
  return {
    name: cut(name, 600),
    ...(source !== undefined && { source: cut(source, 300) }),
    address: cut(link === undefined ? address : `${address}%${link}`, 64),
    ...(typeof asn === "number" && { asn }),
    state,
    reason: cut(up ? reason : (lastDown?.text ?? reason), Limits.reason),
    since: downSince ?? since,
    ...(lastDown && { lastError: cut(lastDown.text, Limits.reason), lastErrorTime: lastDown.at }),
    ...(shutdown && { shutdown }),
    ...(up && { received: sum("received"), accepted: sum("accepted"), sent: sum("sent") }),
  };
}

function errorsFirst(problems: readonly Problem[]): Problem[] {
  return [...problems.filter(({ severity }) => severity === "error"), ...problems.filter(({ severity }) => severity !== "error")];
}

function problemOf({ severity, reason, object, field, message, remedy, consequences = [] }: Problem) {
  const all = consequences.length > 0 ? `${message}: ${consequences.join("; ")}` : message;
  return {
    severity,
    reason,
    object: cut(object, 320),
    field: cut(field, 512),
    message: cut(all, Limits.message),
    remedy: cut(remedy, Limits.message),
  };
}

/** What is told soon when it changes, and what has time: counters, and words that change by themselves. */
export function essenceOf({
  version,
  conditions,
  summary,
  asn,
  routerID,
  podCIDRs,
  sessions,
  announced,
  problems,
}: FoundNodeState): string {
  return JSON.stringify({
    ...{ version, asn, routerID, podCIDRs, announced, wanted: summary?.wanted },
    conditions: conditions.map(({ type, status, reason }) => [type, status, reason]),
    sessions: sessions?.map(({ name, source, address, asn: remote, state, since, lastError, shutdown }) => {
      const up = state === "Established";
      return [name, source, address, remote, up, since, lastError !== undefined, shutdown];
    }),
    problems: problems?.map(({ severity, reason, object, field }) => [severity, reason, object, field]),
  });
}

/** All but what tells nothing: which step an attempt is at. */
export function detailOf(found: FoundNodeState): string {
  const sessions = found.sessions?.map(({ state, reason, lastErrorTime, ...rest }) => {
    return state === "Established" ? { state, reason, lastErrorTime, ...rest } : rest;
  });
  return JSON.stringify({ ...found, sessions });
}

function some(names: readonly string[]): string {
  const more = names.length - NAMED;
  return more > 0 ? `${names.slice(0, NAMED).join(", ")} and ${more} more` : names.join(", ");
}

/** Never in the middle of a character. */
function cut(text: string, characters: number): string {
  if (text.length <= characters) return text;
  return `${text.slice(0, characters - 1).replace(/[\uD800-\uDBFF]$/, "")}…`;
}
