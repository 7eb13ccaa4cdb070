/**
 * What was wrong with a neighbour's UPDATEs short of ending the session (RFC 7606 section 8): counts, the last one with its octets, and log
 * lines at a bounded rate, because a neighbour that errs tends to err in every UPDATE.
 */
import { hexOf } from "../net/octets.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { UpdateDecoder } from "./message/update-decoder.ts";
import type { NeighborSnapshot } from "./snapshot.ts";

/** Milliseconds between two log lines about one neighbour. */
const LOG_INTERVAL = 1000;
/** Octets of an offending message that are kept. */
const MAX_OFFENDING = 4096;
/** Octets of it that a log line shows. */
const MAX_LOGGED = 256;

export class MalformedUpdates {
  readonly #clock: Clock;
  readonly #log: Logger;
  /** UPDATEs whose announcements counted as withdrawn. */
  withdrawn = 0;
  /** Attributes that were discarded. */
  discarded = 0;
  #last: { at: number; text: string; message: Uint8Array } | undefined;
  #loggedAt = -Infinity;
  #unlogged = 0;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /** An UPDATE in which the decoder has just found problems. */
  note(message: Uint8Array, { problems, treatAsWithdraw }: UpdateDecoder): void {
    const text = problems.map(({ name, action, text }) => `${name}: ${text} (${action})`).join("; ");
    if (treatAsWithdraw) this.withdrawn++;
    for (const { action } of problems) if (action === "attribute-discard") this.discarded++;
    // What cost routes says more than what cost an attribute.
    if (treatAsWithdraw || this.withdrawn === 0) {
      this.#last = { at: this.#clock.now(), text, message: message.slice(0, MAX_OFFENDING) };
    }
    const now = this.#clock.monotonic();
    if (now - this.#loggedAt < LOG_INTERVAL) {
      this.#unlogged++;
      return;
    }
    const more = this.#unlogged > 0 ? ` (${this.#unlogged} more since the last such line)` : "";
    this.#log.warn({ message: hexOf(message.subarray(0, MAX_LOGGED)) }, `malformed UPDATE: ${text}${more}`);
    this.#loggedAt = now;
    this.#unlogged = 0;
  }

  snapshot(): NeighborSnapshot["malformed"] {
    if (!this.#last) return undefined;
    const { at, text, message } = this.#last;
    const last = { at: new Date(at).toISOString(), text, offending: hexOf(message) };
    return { withdrawn: this.withdrawn, discarded: this.discarded, last };
  }
}
