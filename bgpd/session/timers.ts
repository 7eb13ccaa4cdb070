/**
 * Named timers over a Clock. Restarting one is cheap: hold timers are re-armed by every message, so a later deadline is only noted and
 * the running clock timer looks at it when it fires.
 */
import type { Clock, Timer } from "../../platform/clock.ts";

/** Milliseconds. A timer that fires later than this after its time tells of a busy event loop, not of a silent neighbour. */
const LATE = 20;
/** Milliseconds that a late timer waits on, so that octets which lie in the socket are read first. */
const GRACE = 20;

export class TimerSet<Name extends string> {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #expired: (name: Name) => void;
  readonly #running = new Map<Name, { deadline: number; armedFor: number; graced: boolean; timer: Timer }>();

  /** `random`: uniform in 0..1, for the jitter. */
  constructor(clock: Clock, random: () => number, expired: (name: Name) => void) {
    this.#clock = clock;
    this.#random = random;
    this.#expired = expired;
  }

  /** Starts or restarts. `jitter`: times a factor of 0.75 to 1.0 (RFC 4271 section 10). */
  start(name: Name, seconds: number, jitter: boolean): void {
    const milliseconds = seconds * 1000 * (jitter ? 0.75 + 0.25 * this.#random() : 1);
    const deadline = this.#clock.monotonic() + milliseconds;
    const running = this.#running.get(name);
    if (running && deadline >= running.armedFor) {
      running.deadline = deadline;
      running.graced = false;
      return;
    }
    running?.timer.cancel();
    const timer = this.#clock.after(milliseconds, () => this.#fired(name));
    this.#running.set(name, { deadline, armedFor: deadline, graced: false, timer });
  }

  stop(name: Name): void {
    this.#running.get(name)?.timer.cancel();
    this.#running.delete(name);
  }

  stopAll(): void {
    for (const name of [...this.#running.keys()]) this.stop(name);
  }

  /** Seconds until it expires; undefined where it does not run. */
  remaining(name: Name): number | undefined {
    const running = this.#running.get(name);
    return running && Math.max(0, (running.deadline - this.#clock.monotonic()) / 1000);
  }

  get running(): Name[] {
    return [...this.#running.keys()];
  }

  #fired(name: Name): void {
    const running = this.#running.get(name);
    if (!running) return;
    const now = this.#clock.monotonic();
    // Clocks round: a timer may come a fraction of a millisecond early.
    const left = running.deadline - now;
    if (left > 1) {
      this.#rearm(name, running, left);
    } else if (-left > LATE && !running.graced) {
      running.graced = true;
      this.#rearm(name, running, GRACE);
    } else {
      this.#running.delete(name);
      this.#expired(name);
    }
  }

  #rearm(name: Name, running: { armedFor: number; timer: Timer }, milliseconds: number): void {
    running.armedFor = this.#clock.monotonic() + milliseconds;
    running.timer = this.#clock.after(milliseconds, () => this.#fired(name));
  }
}
