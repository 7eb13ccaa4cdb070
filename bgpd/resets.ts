/**
 * Sessions that a change of configuration ends: never all at once. A mesh whose hold time changes would else lose every route in one moment, on every
 * node. A quarter of them at a time, at least one: the next ones follow when these are back, or have had PATIENCE for it. One that ends by itself, as
 * the other end of a change does it, is begun anew at once.
 */
import type { Clock, Timer } from "../platform/clock.ts";

/** Seconds that one may take to come back before the next one follows. */
const PATIENCE = 10;

export class Resets {
  readonly #clock: Clock;
  readonly #reset: (name: string) => void;
  /** In the order of the configuration. */
  #waiting: string[] = [];
  readonly #underWay = new Map<string, Timer>();
  #limit = 1;

  /** `reset`: ends the session of this neighbour and begins it with the configuration in force. */
  constructor(clock: Clock, reset: (name: string) => void) {
    this.#clock = clock;
    this.#reset = reset;
  }

  /** What is to be reset from now on, in place of what still waits. `sessions`: how many there are. Returns those that are reset at once. */
  start(names: readonly string[], sessions: number): string[] {
    this.#waiting = [...names];
    this.#limit = Math.max(1, Math.floor(sessions / 4));
    const before = new Set(this.#waiting);
    this.#next();
    for (const name of this.#waiting) before.delete(name);
    return [...before];
  }

  /** A session came up. */
  up(name: string): void {
    this.#done(name);
  }

  /** A session ended. */
  down(name: string): void {
    if (!this.#waiting.includes(name)) return;
    this.#waiting = this.#waiting.filter(other => other !== name);
    // Not inside the end of the very session that is replaced.
    this.#clock.after(0, () => this.#reset(name));
  }

  close(): void {
    this.#waiting = [];
    for (const timer of this.#underWay.values()) timer.cancel();
    this.#underWay.clear();
  }

  #next(): void {
    while (this.#underWay.size < this.#limit) {
      const name = this.#waiting.shift();
      if (name === undefined) return;
      this.#underWay.get(name)?.cancel();
      this.#underWay.set(
        name,
        this.#clock.after(PATIENCE * 1000, () => this.#done(name)),
      );
      this.#reset(name);
    }
  }

  #done(name: string): void {
    const timer = this.#underWay.get(name);
    if (!timer) return;
    timer.cancel();
    this.#underWay.delete(name);
    this.#next();
  }
}
