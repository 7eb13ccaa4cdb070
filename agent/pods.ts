/** Pod attachment as the agent drives it: made with the first plan, since the ledger needs to know the ranges. */
import { type CniHandler, createCniHandler } from "../cni/attach/handler.ts";
import type { CniAnswer } from "../cni/http.ts";
import { CniError, ErrorCode, formatError } from "../cni/protocol/error.ts";
import { type RawRequest, versionOf } from "../cni/protocol/request.ts";
import type { AttachmentGuard, AttachmentView, AttachProblem, PodPlan, RangeView } from "../cni/types.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Problem } from "../platform/problem.ts";
import { CniCalls } from "./cni-calls.ts";
import type { Serving } from "./serving.ts";

export interface PodsParts {
  clock: Clock;
  log: Logger;
  /** Told what was put right on the node's side. */
  mended(texts: string[]): void;
  /** Whether the node serves pods, looked at now. */
  serving(): Serving;
  /** Told when held() may have changed other than by apply(). */
  heldChanged(): void;
  /** obstacle(): why pods that it has a say in cannot be attached now. */
  guard: AttachmentGuard & { obstacle(): string | undefined };
}

/** Milliseconds that a call waits for the first plan. */
const FIRST_PLAN = 30_000;

export class Pods {
  readonly #stateDirectory: string;
  readonly #parts: PodsParts;
  #handler: CniHandler | undefined;
  #problems: Problem[] = [];
  #plan: PodPlan | undefined;
  readonly calls: CniCalls;
  /** Resolves with the first plan, or the end. */
  readonly #planned = Promise.withResolvers<void>();

  constructor(stateDirectory: string, parts: PodsParts) {
    this.calls = new CniCalls(() => parts.clock.monotonic());
    this.#stateDirectory = stateDirectory;
    this.#parts = parts;
  }

  /** Never throws: a node whose pods cannot be attached still routes. */
  apply(pods: PodPlan): void {
    this.#plan = pods;
    this.#planned.resolve();
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

  handle(request: RawRequest): Promise<CniAnswer> {
    return this.calls.count(request.env.CNI_COMMAND, () => this.#handle(request));
  }

  async #handle(request: RawRequest): Promise<CniAnswer> {
    const asksStatus = request.env.CNI_COMMAND === "STATUS";
    // An agent that starts answers before it has read its objects: no reason to fail a call.
    if (!asksStatus && !this.#plan) await this.#firstPlan();
    this.retry();
    if (this.#handler) {
      const answer = await this.#handler.handle(request);
      return asksStatus && answer.status === 200 ? this.#statusOf(answer, request) : answer;
    }
    return unavailable(asksStatus ? ErrorCode.notAvailable : ErrorCode.tryAgainLater, this.obstacle()!, request);
  }

  /** Pods can be attached. ADD is not refused for want of routes: the runtime decides by STATUS, and a pod may need no route. */
  #statusOf(good: CniAnswer, request: RawRequest): CniAnswer {
    const closed = this.#parts.guard?.obstacle();
    if (closed !== undefined) return unavailable(ErrorCode.notAvailable, closed, request);
    const { ready, limited, reason } = this.#parts.serving();
    return ready ? good : unavailable(limited ? ErrorCode.limitedConnectivity : ErrorCode.notAvailable, reason, request);
  }

  async #firstPlan(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#parts.clock.after(FIRST_PLAN, resolve);
    await Promise.race([promise, this.#planned.promise]);
    timer.cancel();
  }

  /** Why no pod can be attached; undefined: pods can be. */
  obstacle(): string | undefined {
    if (this.#handler) return this.#handler.obstacle()?.message;
    return this.#problems[0]?.message ?? "the agent has no plan for this node yet";
  }

  attachments(): AttachmentView[] {
    return this.#handler?.attachments() ?? [];
  }

  /** As attachments(); undefined: the ledger cannot be read. */
  knownAttachments(): AttachmentView[] | undefined {
    return this.#handler?.attachments();
  }

  ranges(): RangeView[] {
    return this.#handler?.ranges() ?? [];
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
    this.#planned.resolve();
    this.#handler?.close();
    this.#handler = undefined;
  }

  #create(plan: PodPlan): void {
    const { clock, log, mended, heldChanged, guard } = this.#parts;
    const told = { clock, mended, heldChanged, guard };
    this.#handler = createCniHandler({ stateDir: this.#stateDirectory, plan: () => plan, log: log.child({ part: "cni" }), ...told });
  }
}

function unavailable(code: ErrorCode, reason: string, request: RawRequest): CniAnswer {
  const error = new CniError(code, reason, "podlane problems says more");
  return { status: 503, body: JSON.stringify(formatError(error, versionOf(request.stdin))), code };
}

function toProblem(finding: AttachProblem): Problem {
  return { ...finding, object: "pods" };
}
