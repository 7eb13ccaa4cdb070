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

/** Milliseconds: half of the turns came late by at most the first, all but one in a hundred by the second, all by the last. */
export interface Lateness {
  half: number;
  most: number;
  all: number;
}

export class Turns {
  /** Of the period that ended last. */
  #before: Lateness = { half: 0, most: 0, all: 0 };
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
    this.#before = this.#lateness();
    this.#histogram.reset();
    this.#take(longest, now);
    return longest;
  }

  view(now: number): TurnsView {
    const current = this.#current();
    this.#take(current, now);
    return { longest: this.#longest, at: new Date(this.#at).toISOString(), now: current };
  }

  /** Of this period and the one before, whichever was worse: who asks once in a period misses nothing. */
  lateness(): Lateness {
    const [now, before] = [this.#lateness(), this.#before];
    return { half: Math.max(now.half, before.half), most: Math.max(now.most, before.most), all: Math.max(now.all, before.all) };
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
    return this.#late(this.#histogram.max);
  }

  #lateness(): Lateness {
    const of = (percent: number) => this.#late(this.#histogram.percentile(percent));
    return { half: of(50), most: of(99), all: this.#current() };
  }

  #late(nanoseconds: number): number {
    return this.#histogram.count === 0 ? 0 : Math.max(0, Math.round(nanoseconds / 1e6) - RESOLUTION);
  }
}
