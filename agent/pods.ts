/** Pod attachment as the agent drives it: made with the first plan, since the ledger needs to know the ranges. */
import { type CniHandler, createCniHandler } from "../cni/attach/handler.ts";
import type { CniAnswer } from "../cni/http.ts";
import { CniError, ErrorCode, formatError } from "../cni/protocol/error.ts";
import { type RawRequest, versionOf } from "../cni/protocol/request.ts";
import type { AttachmentView, AttachProblem, PodPlan } from "../cni/types.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Problem } from "../platform/problem.ts";

export interface PodsParts {
  clock: Clock;
  log: Logger;
  /** Told what was put right on the node's side. */
  mended(texts: string[]): void;
  /** Told when held() may have changed other than by apply(). */
  heldChanged(): void;
}

export class Pods {
  readonly #stateDirectory: string;
  readonly #parts: PodsParts;
  #handler: CniHandler | undefined;
  #problems: Problem[] = [];
  #plan: PodPlan | undefined;

  constructor(stateDirectory: string, parts: PodsParts) {
    this.#stateDirectory = stateDirectory;
    this.#parts = parts;
  }

  /** Never throws: a node whose pods cannot be attached still routes. */
  apply(pods: PodPlan): void {
    this.#plan = pods;
    try {
      if (this.#handler) this.#handler.applyPlan(pods);
      else this.#create(pods);
      this.#problems = [];
    } catch (error) {
      const message = `pods cannot be attached: ${(error as Error).message}`;
      this.#parts.log.error({ err: error }, message);
      this.#problems = [
        {
          severity: "error",
          reason: "AttachmentFailed",
          object: "pods",
          field: "",
          message,
          remedy: "correct this; it is tried again at each call",
        },
      ];
    }
  }

  /** What stood in the way may be gone. */
  retry(): void {
    if (!this.#handler && this.#plan) this.apply(this.#plan);
  }

  async handle(request: RawRequest): Promise<CniAnswer> {
    this.retry();
    if (this.#handler) return this.#handler.handle(request);
    const code = request.env.CNI_COMMAND === "STATUS" ? ErrorCode.notAvailable : ErrorCode.tryAgainLater;
    const reason = this.#problems[0]?.message ?? "the agent has no plan for this node yet";
    const error = new CniError(code, reason, "podlane problems says more");
    return { status: 503, body: JSON.stringify(formatError(error, versionOf(request.stdin))) };
  }

  attachments(): AttachmentView[] {
    return this.#handler?.attachments() ?? [];
  }

  /** See NodeFacts.held. */
  held(): string[] {
    return this.#handler?.held() ?? [];
  }

  problems(): Problem[] {
    return [...this.#problems, ...(this.#handler?.problems() ?? []).map(toProblem)];
  }

  /** Puts back what somebody undid on the node's side. */
  look(): void {
    this.#handler?.look();
  }

  async sweep(): Promise<void> {
    this.retry();
    try {
      await this.#handler?.sweep();
    } catch (error) {
      this.#parts.log.error({ err: error }, "the sweep for pods that are gone failed");
    }
  }

  /** The node leaves for good. */
  async takeBack(): Promise<void> {
    await this.#handler?.takeBack();
  }

  close(): void {
    this.#handler?.close();
    this.#handler = undefined;
  }

  #create(plan: PodPlan): void {
    const { clock, log, mended, heldChanged } = this.#parts;
    const told = { clock, mended, heldChanged };
    this.#handler = createCniHandler({ stateDir: this.#stateDirectory, plan: () => plan, log: log.child({ part: "cni" }), ...told });
  }
}

function toProblem(finding: AttachProblem): Problem {
  return { ...finding, object: "pods" };
}
