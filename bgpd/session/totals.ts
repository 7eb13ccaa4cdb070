/**
 * What all sessions of a speaker did since its start, those of removed neighbours included: sums that never fall. Why a session or an attempt ended is
 * counted by the NOTIFICATION, of which there is a bounded number (RFC 4271 section 4.5, RFC 4486), and not by its words.
 */
import { CeaseSubcode, ErrorCode } from "../message/notification.ts";
import type { NotificationMessage } from "../message/types.ts";
import type { DownCause } from "./fsm/types.ts";
import { type SessionCounters, type SessionState, SessionStates } from "./types.ts";

export type EndReason = keyof typeof ErrorCode | keyof typeof CeaseSubcode | "Transport" | "Stop" | "Other";

export interface SessionEnd {
  /** What ended: an Established session, or the attempt at one. */
  what: "session" | "attempt";
  reason: EndReason;
  /** Of the NOTIFICATION; "none": there was none. */
  notification: "sent" | "received" | "none";
  count: number;
}

export class SessionTotals {
  /** Changes into each state. */
  readonly entered = Object.fromEntries(SessionStates.map(state => [state, 0])) as Record<SessionState, number>;
  readonly #ends = new Map<string, SessionEnd>();
  readonly #former = newCounters();

  ended(what: SessionEnd["what"], cause: DownCause, notification?: NotificationMessage & { direction: "sent" | "received" }): void {
    const reason = reasonOf(cause, notification);
    const { direction = "none" } = notification ?? {};
    const key = `${what} ${reason} ${direction}`;
    const known = this.#ends.get(key);
    if (known) known.count++;
    else this.#ends.set(key, { what, reason, notification: direction, count: 1 });
  }

  ends(): SessionEnd[] {
    return [...this.#ends.values()];
  }

  /** The session is given up: what it counted stays. */
  keep(counters: SessionCounters): void {
    add(this.#former, counters);
  }

  /** Of these sessions and of all that were given up. */
  sum(sessions: Iterable<SessionCounters>): SessionCounters {
    const sum = newCounters();
    add(sum, this.#former);
    for (const counters of sessions) add(sum, counters);
    return sum;
  }
}

export function newCounters(): SessionCounters {
  const messages = () => ({ open: 0, update: 0, notification: 0, keepalive: 0, routeRefresh: 0 });
  return { messagesIn: messages(), messagesOut: messages(), octetsIn: 0, octetsOut: 0, connectAttempts: 0, establishedCount: 0 };
}

function add(sum: SessionCounters, counters: SessionCounters): void {
  for (const direction of ["messagesIn", "messagesOut"] as const) {
    for (const type of Object.keys(sum[direction]) as (keyof SessionCounters["messagesIn"])[])
      sum[direction][type] += counters[direction][type];
  }
  for (const name of ["octetsIn", "octetsOut", "connectAttempts", "establishedCount"] as const) sum[name] += counters[name];
}

function reasonOf(cause: DownCause, notification: NotificationMessage | undefined): EndReason {
  if (!notification) return cause === "transport" ? "Transport" : cause === "collision" ? "ConnectionCollision" : "Stop";
  if (notification.code !== ErrorCode.Cease) return nameOf(ErrorCode, notification.code) ?? "Other";
  return nameOf(CeaseSubcode, notification.subcode) ?? "Cease";
}

function nameOf<Name extends string>(table: Record<Name, number>, value: number): Name | undefined {
  return (Object.keys(table) as Name[]).find(name => table[name] === value);
}
