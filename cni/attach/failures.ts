/** ADDs that failed one after another, until one succeeds: what a runtime repeats in silence is a problem of the node. */
import { type CniError, ErrorCode } from "../protocol/error.ts";
import type { AttachProblem } from "../types.ts";

/** Of one call, not of the node. */
const callersOwn: readonly ErrorCode[] = [
  ErrorCode.incompatibleVersion,
  ErrorCode.unsupportedField,
  ErrorCode.decode,
  ErrorCode.invalidConfig,
  ErrorCode.conflict,
];

export class AddFailures {
  #count = 0;
  #last: CniError | undefined;
  /** Milliseconds since the epoch. */
  #at = 0;

  failed(error: CniError, now: number): void {
    if (callersOwn.includes(error.code)) return;
    this.#count++;
    this.#last = error;
    this.#at = now;
  }

  succeeded(): void {
    this.#count = 0;
    this.#last = undefined;
  }

  problem(): AttachProblem | undefined {
    if (!this.#last) return undefined;
    const which = this.#count === 1 ? "the last ADD failed" : `the last ${this.#count} ADDs failed, the latest`;
    return {
      severity: "error",
      reason: "AttachmentFailed",
      field: "ADD",
      message: `${which} at ${new Date(this.#at).toISOString()}: ${this.#last.message}`,
      remedy: this.#last.details || "see the agent's log",
    };
  }
}
