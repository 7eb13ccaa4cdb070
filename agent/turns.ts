/**
 * How long the event loop was kept from its next turn: while it is, no KEEPALIVE is sent and no question answered. A timer of libuv that is due every
 * RESOLUTION milliseconds notes by how much it came late, whatever the reason: work of ours, the collector, a machine that is short of CPU.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";

/** Milliseconds. What is shorter may pass unseen. */
const RESOLUTION = 20;

export interface TurnsView {
  /** Milliseconds: the longest since the start. */
  longest: number;
  /** RFC 3339: when the period ended in which it was. */
  at: string;
  /** Milliseconds: the longest since the last period ended. */
  now: number;
}

export class Turns {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION });
  #longest = 0;
  #at: number;

  /** `now`: milliseconds since the epoch. */
  constructor(now: number) {
    this.#at = now;
    this.#histogram.enable();
  }

  /** Ends a period; returns the longest turn in it. */
  next(now: number): number {
    const longest = this.#current();
    this.#histogram.reset();
    this.#take(longest, now);
    return longest;
  }

  view(now: number): TurnsView {
    const current = this.#current();
    this.#take(current, now);
    return { longest: this.#longest, at: new Date(this.#at).toISOString(), now: current };
  }

  close(): void {
    this.#histogram.disable();
  }

  #take(longest: number, now: number): void {
    if (longest <= this.#longest) return;
    this.#longest = longest;
    this.#at = now;
  }

  #current(): number {
    const { count, max } = this.#histogram;
    return count === 0 ? 0 : Math.max(0, Math.round(max / 1e6) - RESOLUTION);
  }
}
