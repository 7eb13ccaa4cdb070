/** How often the API server is asked: pauses after failures, and a bound on what repeats. Thousands of agents lose and find the same server at once. */
import type { ApiError } from "./types.ts";

export interface BackoffOptions {
  /** Milliseconds: the first pause at most, and the longest. */
  first: number;
  longest: number;
  /** 0 up to 1. */
  random(): number;
}

/** Each pause is up to twice the one before, drawn from its second half. */
export class Backoff {
  readonly #options: BackoffOptions;
  #failures = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  get failures(): number {
    return this.#failures;
  }

  /** Milliseconds. */
  next(error: ApiError): number {
    const { first, longest, random } = this.#options;
    const most = Math.min(longest, first * 2 ** Math.min(this.#failures, 16));
    this.#failures++;
    return Math.max(error.retryAfter ?? 0, most / 2) + (random() * most) / 2;
  }

  reset(): void {
    this.#failures = 0;
  }
}

/** So many at once, and one more after each `interval`. */
export class TokenBucket {
  readonly #burst: number;
  readonly #interval: number;
  readonly #now: () => number;
  #tokens: number;
  #at: number;

  /** `interval` in milliseconds, `now`: Clock.monotonic(). */
  constructor(burst: number, interval: number, now: () => number) {
    this.#burst = burst;
    this.#interval = interval;
    this.#now = now;
    this.#tokens = burst;
    this.#at = now();
  }

  /** Milliseconds until there is one; 0: it was taken. */
  take(): number {
    const now = this.#now();
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) / this.#interval);
    this.#at = now;
    // A timer that fires at the very moment must not be late by a rounding error.
    if (this.#tokens < 1 - 1e-9) return Math.ceil((1 - this.#tokens) * this.#interval);
    this.#tokens -= 1;
    return 0;
  }
}
