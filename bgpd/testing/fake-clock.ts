/** A clock that stands still until a test moves it: timers fire in the order of their time, each at exactly its time. */
import type { Clock, Timer } from "../../platform/clock.ts";

export class FakeClock implements Clock {
  #time = 0;
  #sequence = 0;
  readonly #epoch: number;
  readonly #timers = new Set<{ at: number; sequence: number; run: () => void }>();

  /** `epoch`: what now() says at the start, milliseconds. */
  constructor(epoch = Date.UTC(2026, 0, 1)) {
    this.#epoch = epoch;
  }

  now(): number {
    return this.#epoch + this.#time;
  }

  monotonic(): number {
    return this.#time;
  }

  after(milliseconds: number, run: () => void): Timer {
    const timer = { at: this.#time + Math.max(0, milliseconds), sequence: this.#sequence++, run };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Milliseconds until the next timer; undefined = none. */
  get next(): number | undefined {
    const timer = this.#first(Infinity);
    return timer && timer.at - this.#time;
  }

  /** Runs all that is due within the next `milliseconds`, timers set meanwhile included. Throws after 1,000,000 timers: an endless loop. */
  advance(milliseconds: number): void {
    const end = this.#time + milliseconds;
    for (let runs = 0; ; runs++) {
      const timer = this.#first(end);
      if (!timer) break;
      if (runs === 1_000_000) throw new Error(`a million timers within ${milliseconds} ms of fake time`);
      this.#timers.delete(timer);
      this.#time = Math.max(this.#time, timer.at);
      timer.run();
    }
    this.#time = end;
  }

  #first(end: number): { at: number; sequence: number; run: () => void } | undefined {
    let first: { at: number; sequence: number; run: () => void } | undefined;
    for (const timer of this.#timers) {
      if (timer.at > end) continue;
      if (!first || timer.at < first.at || (timer.at === first.at && timer.sequence < first.sequence)) first = timer;
    }
    return first;
  }
}
