/**
 * Whether the node can serve pods: they can be attached, and enough sessions have brought their routes (spec.readiness of the Fabric). Pure, over a clock's
 * numbers. Once in, the routes count as in until all sessions are gone for long: one dead router takes no node out of service.
 */
import type { SessionCounts } from "../bgpd/snapshot.ts";
import type { ReadinessPlan } from "../config/plan.ts";
import type { Problem } from "../platform/problem.ts";

export interface Serving {
  ready: boolean;
  /** In words, for people. */
  reason: string;
  /** Not ready because the routes are gone: pods that run reach little beyond their node. */
  limited: boolean;
}

export interface Seen {
  /** Clock.monotonic(). */
  now: number;
  /** Absent: the usual. */
  policy: ReadinessPlan | undefined;
  sessions: SessionCounts;
}

/** What became of the routes. Times are those of Clock.monotonic(). */
export interface RoutesState {
  /**
   * "waiting": for the first tables; "in"; "late": they did not come in time, and the node counts as ready without; "lost": all sessions are gone for
   * long; "returning": some session is there again.
   */
  readonly phase: "waiting" | "in" | "late" | "lost" | "returning";
  /** When the phase began. */
  readonly since: number;
  /** Some session was there since sessions are wanted. */
  readonly heard: boolean;
  /** Since when none is. */
  readonly goneSince?: number;
}

/** When no Fabric says otherwise, as in a plan of a former version. */
const usual: ReadinessPlan = { sessions: "Any", timeout: 30, holdDown: 60 };

export function noRoutesYet(now: number): RoutesState {
  return { phase: "waiting", since: now, heard: false };
}

/** How many of the sessions must have brought their tables. */
function quorum({ sessions, percent = 100 }: ReadinessPlan, wanted: number): number {
  const part = { Any: 1, All: wanted, Percent: Math.max(1, Math.ceil((wanted * percent) / 100)) };
  return Math.min(part[sessions], wanted);
}

/** The state after a look: the same again for the same look. */
export function followRoutes(before: RoutesState, { now, policy = usual, sessions }: Seen): RoutesState {
  const { wanted, established, complete, adopted } = sessions;
  const adopts = before.phase === "waiting" && adopted;
  // Whoever never was there is not gone.
  const heard = wanted > 0 && (before.heard || established > 0 || adopts);
  const gone = heard && established === 0;
  const goneSince = gone ? (before.goneSince ?? now) : undefined;
  const isOver = (start: number | undefined, seconds: number) => start !== undefined && now - start >= seconds * 1000;
  const next = (): RoutesState["phase"] => {
    if (complete >= quorum(policy, wanted)) return "in";
    switch (before.phase) {
      case "waiting":
        // Those of the agent before this one are still in the kernel.
        if (adopts) return "in";
        return isOver(before.since, policy.timeout) ? "late" : "waiting";
      case "in":
      case "late":
        return isOver(goneSince, policy.holdDown) ? "lost" : before.phase;
      case "lost":
        return gone ? "lost" : "returning";
      case "returning":
        if (gone) return "lost";
        return isOver(before.since, policy.timeout) ? "late" : "returning";
    }
  };
  const phase = next();
  return { phase, since: phase === before.phase ? before.since : now, heard, ...(gone && { goneSince }) };
}

/** Milliseconds until time alone changes the state; undefined: it does not. */
export function nextChange({ phase, since, goneSince }: RoutesState, { now, policy = usual }: Seen): number | undefined {
  const left = (start: number, seconds: number) => Math.max(0, start + seconds * 1000 - now);
  if (phase === "waiting" || phase === "returning") return left(since, policy.timeout);
  return phase !== "lost" && goneSince !== undefined ? left(goneSince, policy.holdDown) : undefined;
}

/** `obstacle`: why no pod can be attached. */
export function judge(state: RoutesState, { now, policy = usual, sessions }: Seen, obstacle: string | undefined): Serving {
  const { wanted, complete } = sessions;
  const limited = state.phase === "lost" || state.phase === "returning";
  const tables = `${complete} of ${wanted} sessions have sent their tables`;
  const seconds = Math.round((now - (state.goneSince ?? state.since)) / 1000);
  const words: Record<RoutesState["phase"], string> = {
    waiting: `${tables}, ${quorum(policy, wanted)} are needed: waiting for up to ${policy.timeout} s`,
    in:
      wanted === 0
        ? "no session is wanted"
        : state.goneSince === undefined
          ? "the routes are in"
          : `no session for ${seconds} s; routes stay in use`,
    late: `only ${tables} after ${policy.timeout} s: serving without the rest`,
    lost: `all ${wanted} sessions are gone for more than ${policy.holdDown} s`,
    returning: `${tables} since all were gone, ${quorum(policy, wanted)} are needed: waiting for up to ${policy.timeout} s`,
  };
  if (obstacle !== undefined) return { ready: false, reason: obstacle, limited };
  return { ready: state.phase !== "waiting" && !limited, reason: words[state.phase], limited };
}

/** What the operator should see to. */
export function routesProblem(state: RoutesState, { policy = usual, sessions }: Seen): Problem | undefined {
  const about = { object: "sessions", field: "" };
  const { wanted, complete } = sessions;
  if (state.phase === "late") {
    const message = `${complete} of ${wanted} sessions have sent their tables, ${quorum(policy, wanted)} are needed (spec.readiness of the Fabric): after ${policy.timeout} s the node serves pods without`;
    const remedy = "podlane peers says what keeps the others; lower spec.readiness where that is meant";
    return { ...about, severity: "warning", reason: "RoutesLate", message, remedy };
  }
  if (state.phase !== "lost") return undefined;
  const message = `all ${wanted} sessions are gone for more than ${policy.holdDown} s: the node counts as not ready`;
  return { ...about, severity: "error", reason: "SessionsLost", message, remedy: "podlane peers says why they are down" };
}
