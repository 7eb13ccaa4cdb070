/** CNI calls, counted: how many of each verb ended with which result, and how long they took. Plain numbers, which metrics are made of when somebody asks. */
import type { CniAnswer } from "../cni/http.ts";

/** What is none of these is counted as "other": the word comes from outside. */
const verbs = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"] as const;
type Verb = (typeof verbs)[number] | "other";

/** Seconds. A call of longer than the last is in none of the buckets. */
export const CallBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const;

export interface CniCallsView {
  verb: Verb;
  /** By result code; 0 = done. */
  codes: Map<number, number>;
  /** How many took at most so long, and longer than the bucket before: as in CallBuckets. */
  buckets: number[];
  /** Seconds, of all. */
  seconds: number;
  count: number;
}

export class CniCalls {
  readonly #monotonic: () => number;
  readonly #verbs = new Map<Verb, CniCallsView>();
  underway = 0;

  /** `monotonic`: milliseconds. */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  async count(command: string | undefined, call: () => Promise<CniAnswer>): Promise<CniAnswer> {
    const started = this.#monotonic();
    this.underway++;
    try {
      const answer = await call();
      this.#note(verbs.find(verb => verb === command) ?? "other", answer.code, (this.#monotonic() - started) / 1000);
      return answer;
    } finally {
      this.underway--;
    }
  }

  view(): CniCallsView[] {
    return [...this.#verbs.values()];
  }

  #note(verb: Verb, code: number, seconds: number): void {
    const known = this.#verbs.get(verb) ?? { verb, codes: new Map(), buckets: CallBuckets.map(() => 0), seconds: 0, count: 0 };
    this.#verbs.set(verb, known);
    known.codes.set(code, (known.codes.get(code) ?? 0) + 1);
    known.seconds += seconds;
    known.count++;
    const at = CallBuckets.findIndex(limit => seconds <= limit);
    if (at >= 0) known.buckets[at]++;
  }
}
