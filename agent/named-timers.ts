/** Timers by name: what is due at a time, and asked for by many. */
import type { Clock, Timer } from "../platform/clock.ts";

export class NamedTimers {
  readonly #clock: Clock;
  readonly #timers = new Map<string, Timer>();
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** While one of this name runs, others are one with it. Milliseconds. */
  soon(name: string, milliseconds: number, run: () => void): void {
    if (this.#timers.has(name)) return;
    this.later(name, milliseconds, () => {
      this.#timers.delete(name);
      run();
    });
  }

  /** A new one replaces the old of this name, also where that has run. Milliseconds. */
  later(name: string, milliseconds: number, run: () => void): void {
    this.cancel(name);
    if (!this.#closed) this.#timers.set(name, this.#clock.after(milliseconds, run));
  }

  cancel(name: string): void {
    this.#timers.get(name)?.cancel();
  }

  /** None runs any more. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#timers.values()) timer.cancel();
  }
}
