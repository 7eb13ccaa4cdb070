/** What is to be looked at, each key once, some at a time; one that fails is looked at again after a pause, and all wait while the server is away. */
import { Backoff } from "../../kubernetes/pace.ts";
import { ApiError } from "../../kubernetes/types.ts";
import { type Clock, sliceOf, type Timer } from "../../platform/clock.ts";

export interface QueueParts {
  clock: Clock;
  /** 0 up to 1. */
  random(): number;
}

/** Keys at a time. */
const CONCURRENCY = 8;
/** Milliseconds of pauses after failures. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 60_000;
const LONGEST_PAUSE_OF_ALL = 10_000;

export class WorkQueue {
  readonly #parts: QueueParts;
  readonly #work: (key: string) => Promise<void>;
  readonly #failed: (key: string, error: ApiError) => void;
  readonly #waiting = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  /** Keys that fail, with their pauses. */
  readonly #backoffs = new Map<string, Backoff>();
  readonly #timers = new Map<string, Timer>();
  /** Of the server as such. */
  readonly #pauses: Backoff;
  #pause: Timer | undefined;
  #started = false;
  #closed = false;
  #sliceOver: () => boolean;

  constructor(parts: QueueParts, work: (key: string) => Promise<void>, failed: (key: string, error: ApiError) => void) {
    this.#parts = parts;
    this.#work = work;
    this.#failed = failed;
    this.#pauses = new Backoff({ first: FIRST_PAUSE, longest: LONGEST_PAUSE_OF_ALL, random: parts.random });
    this.#sliceOver = sliceOf(parts.clock);
  }

  /** Nothing is under way or to be looked at. */
  get idle(): boolean {
    return this.#waiting.size + this.#running.size + this.#timers.size === 0;
  }

  start(): void {
    this.#started = true;
    this.#fill();
  }

  /** What is under way ends; what is added waits for start(). */
  stop(): void {
    this.#started = false;
    this.#waiting.clear();
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    this.#backoffs.clear();
  }

  add(key: string): void {
    if (this.#closed) return;
    this.#timers.get(key)?.cancel();
    this.#timers.delete(key);
    this.#waiting.add(key);
    this.#fill();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.stop();
    this.#pause?.cancel();
    await Promise.all(this.#running.values());
  }

  #fill(): void {
    if (!this.#started || this.#closed || this.#pause) return;
    for (const key of this.#waiting) {
      if (this.#running.size >= CONCURRENCY) return;
      // It changed while it is looked at: again after that.
      if (this.#running.has(key)) continue;
      this.#waiting.delete(key);
      const running = this.#run(key).finally(() => {
        this.#running.delete(key);
        this.#fill();
      });
      this.#running.set(key, running);
    }
  }

  async #run(key: string): Promise<void> {
    if (this.#sliceOver()) {
      await new Promise(resolve => setImmediate(resolve));
      this.#sliceOver = sliceOf(this.#parts.clock);
    }
    try {
      await this.#work(key);
      this.#backoffs.delete(key);
      this.#pauses.reset();
    } catch (error) {
      this.#retry(key, error instanceof ApiError ? error : new ApiError(0, "", (error as Error).message));
    }
  }

  #retry(key: string, error: ApiError): void {
    if (this.#closed || !this.#started) return;
    const { clock, random } = this.#parts;
    this.#failed(key, error);
    if (error.status === 0 || error.status === 429 || error.status >= 500) {
      this.#waiting.add(key);
      this.#pause ??= clock.after(this.#pauses.next(error), () => {
        this.#pause = undefined;
        this.#fill();
      });
      return;
    }
    const backoff = this.#backoffs.get(key) ?? new Backoff({ first: FIRST_PAUSE, longest: LONGEST_PAUSE, random });
    this.#backoffs.set(key, backoff);
    const timer = clock.after(backoff.next(error), () => {
      this.#timers.delete(key);
      this.add(key);
    });
    this.#timers.set(key, timer);
  }
}
