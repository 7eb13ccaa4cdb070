/** All that one ADD waits for before its pod may have its network, together within a bound. */
import { CniError, ErrorCode } from "../cni/protocol/error.ts";
import type { Clock, Timer } from "../platform/clock.ts";

/** Milliseconds that ADD waits at most. */
const PATIENCE = 10_000;

export class AddBound {
  readonly #late = Promise.withResolvers<never>();
  readonly #timer: Timer;
  readonly #ends: (() => void)[] = [];
  #reason = () => "";

  constructor(clock: Clock) {
    this.#timer = clock.after(PATIENCE, () => this.#late.reject(refusal(`${this.#reason()} (waited ${PATIENCE / 1000} s)`)));
  }

  /** Rejects with CniError when it takes too long, which says why. */
  within(work: Promise<void>, why: () => string): Promise<void> {
    this.#reason = why;
    return Promise.race([work, this.#late.promise]);
  }

  /** What to do at its end. */
  cancelled(then: () => void): void {
    this.#ends.push(then);
  }

  cancel(): void {
    this.#timer.cancel();
    for (const end of this.#ends) end();
  }
}

export function refusal(message: string): CniError {
  return new CniError(ErrorCode.tryAgainLater, message, "the pod stays out rather than open; podlane problems says more");
}
