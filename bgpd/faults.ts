/**
 * Faults of podlane itself: an exception where none was expected. What callbacks of the event loop do runs inside a boundary, so that an exception
 * costs the one route, session or piece of work it came from and never the process. Each is counted by place, kept with the octets it was
 * about, and logged at a bounded rate: one that comes with every route must not fill the disk.
 */
import type { KernelAccess } from "../kernel/index.ts";
import { hexOf } from "../net/octets.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";

export interface FaultView {
  /** Since the start. */
  count: number;
  /** Such as "decision", "export", "timer". */
  byPlace: Record<string, number>;
  last: { at: string; place: string; text: string; about?: string; octets?: string };
}

/** What a piece of work was about, for whoever looks for the cause. */
export interface FaultSubject {
  /** In words: a prefix, a neighbour. */
  about?: string;
  octets?: Uint8Array;
}

/** Milliseconds between two log lines about one place. */
const LOG_INTERVAL = 1000;
/** Octets that are kept and logged. */
const MAX_OCTETS = 4096;

export class Faults {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #places = new Map<string, { count: number; loggedAt: number; unlogged: number }>();
  #count = 0;
  #last: FaultView["last"] | undefined;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  note(place: string, error: unknown, { about, octets }: FaultSubject = {}): void {
    this.#count++;
    const known = this.#places.get(place) ?? { count: 0, loggedAt: Number.NEGATIVE_INFINITY, unlogged: 0 };
    this.#places.set(place, known);
    known.count++;
    const text = error instanceof Error ? error.message : String(error);
    const hex = octets && hexOf(octets.subarray(0, MAX_OCTETS));
    const subject = { ...(about !== undefined && { about }), ...(hex !== undefined && { octets: hex }) };
    this.#last = { at: new Date(this.#clock.now()).toISOString(), place, text, ...subject };
    const now = this.#clock.monotonic();
    if (now - known.loggedAt < LOG_INTERVAL) {
      known.unlogged++;
      return;
    }
    const more = known.unlogged > 0 ? ` (${known.unlogged} more there since the last such line)` : "";
    const stack = error instanceof Error ? error.stack : undefined;
    this.#log.error({ place, ...subject, stack }, `fault of podlane: ${place}${about === undefined ? "" : ` of ${about}`}: ${text}${more}`);
    known.loggedAt = now;
    known.unlogged = 0;
  }

  /** Runs `work`; an exception is noted, and `otherwise` is done in its place. */
  guard(place: string, work: () => void, otherwise?: () => void): void {
    try {
      work();
    } catch (error) {
      this.note(place, error);
      if (otherwise) this.guard(place, otherwise);
    }
  }

  snapshot(): FaultView | undefined {
    if (!this.#last) return undefined;
    const byPlace = Object.fromEntries([...this.#places].map(([place, { count }]) => [place, count]));
    return { count: this.#count, byPlace, last: this.#last };
  }
}

/** A clock whose timers cost nothing but themselves. */
export function guardedClock(clock: Clock, faults: Faults): Clock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    slice: clock.slice,
    after: (milliseconds, run) => clock.after(milliseconds, () => faults.guard("timer", run)),
  };
}

/** Kernel events whose listeners cost nothing but themselves: what one has missed, the others still hear. */
export function guardedKernel(kernel: KernelAccess, faults: Faults): KernelAccess {
  return {
    netlink: kernel.netlink,
    watch: (listener, topics) => kernel.watch(events => faults.guard("kernel event", () => listener(events)), topics),
  };
}
