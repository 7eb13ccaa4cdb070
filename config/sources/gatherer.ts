/** Makes one call of changes that come at once. */
import type { Clock, Timer } from "../../platform/clock.ts";

export class Gatherer {
  readonly #clock: Clock;
  readonly #quiet: number;
  readonly #longest: number;
  readonly #run: () => void;
  #timer: Timer | undefined;
  #first: number | undefined;

  /** Milliseconds without a change until it runs, and the longest after the first change. */
  constructor(clock: Clock, { quiet, longest }: { quiet: number; longest: number }, run: () => void) {
    this.#clock = clock;
    this.#quiet = quiet;
    this.#longest = longest;
    this.#run = run;
  }

  changed(): void {
    const now = this.#clock.monotonic();
    this.#first ??= now;
    this.#timer?.cancel();
    this.#timer = this.#clock.after(Math.max(0, Math.min(this.#quiet, this.#first + this.#longest - now)), () => {
      this.cancel();
      this.#run();
    });
  }

  /** What has changed is told by other means, or to nobody. */
  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#first = undefined;
  }
}
