/**
 * The Node's condition NetworkUnavailable: false while the node serves pods. The scheduler keeps pods away from a node where it is true, so that it never
 * follows a restart of the agent. Whoever changes it is seen in the Node that the source watches anyway, and costs no request.
 */
import { metaTime } from "../../kubernetes/conditions.ts";
import { Backoff, TokenBucket } from "../../kubernetes/pace.ts";
import type { ApiError, ApiObject } from "../../kubernetes/types.ts";
import type { Timer } from "../../platform/clock.ts";
import type { StatusParts } from "./node-state-writer.ts";

const TYPE = "NetworkUnavailable";
/** Milliseconds that a node which served pods must serve none before it is told: an agent that was just started has its routes in less. */
const SETTLE = 10_000;
/** So many writes at once, and milliseconds for each further one: somebody else may want it otherwise. */
const BURST = 5;
const REFILL = 60_000;
/** Milliseconds of pauses after failures. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

interface NodeCondition {
  type: string;
  status: string;
  reason?: string;
}

export class NetworkCondition {
  readonly #node: string;
  readonly #parts: StatusParts;
  readonly #bucket: TokenBucket;
  readonly #backoff: Backoff;
  /** As the server has it; undefined: the Node has not been seen. */
  #now: { status: string | undefined; reason: string | undefined } | undefined;
  /** Clock.monotonic() since when no pod is served. */
  #unreadySince: number | undefined;
  #timer: Timer | undefined;
  #writing: Promise<void> | undefined;
  /** After a failure. */
  #pausing = false;
  #closed = false;

  constructor(node: string, parts: StatusParts) {
    this.#node = node;
    this.#parts = parts;
    this.#bucket = new TokenBucket(BURST, REFILL, () => parts.clock.monotonic());
    this.#backoff = new Backoff({ first: FIRST_PAUSE, longest: LONGEST_PAUSE, random: parts.random });
  }

  /** undefined: it was deleted. */
  nodeSeen(node: ApiObject | undefined): void {
    this.#now = undefined;
    if (!node) return;
    const { conditions = [] } = (node.status ?? {}) as { conditions?: NodeCondition[] };
    const found = conditions.find(({ type }) => type === TYPE);
    this.#now = { status: found?.status, reason: found?.reason };
    this.look();
  }

  /** Whether the node serves pods may have changed. */
  look(): void {
    if (this.#closed || this.#writing || this.#pausing) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    const { clock, serving } = this.#parts;
    const { ready, reason } = serving();
    const now = clock.monotonic();
    this.#unreadySince = ready ? undefined : (this.#unreadySince ?? now);
    if (!this.#now) return;
    const wanted = ready ? { status: "False", reason: "PodlaneIsReady" } : { status: "True", reason: "PodlaneIsNotReady" };
    if (this.#now.status === wanted.status) return;
    const settled = this.#now.status !== "False" || this.#unreadySince === undefined ? 0 : this.#unreadySince + SETTLE - now;
    const wait = settled > 0 ? settled : this.#bucket.take();
    if (wait > 0) {
      this.#again(wait);
      return;
    }
    const message = ready ? `podlane serves pods: ${reason}` : `podlane serves no pods: ${reason}`;
    this.#writing = this.#write({ ...wanted, message }).then(pause => {
      this.#writing = undefined;
      this.#pausing = pause > 0;
      if (this.#pausing) this.#again(pause);
      else this.look();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#writing;
  }

  #again(milliseconds: number): void {
    if (this.#closed) return;
    this.#timer = this.#parts.clock.after(milliseconds, () => {
      this.#pausing = false;
      this.look();
    });
  }

  /** Milliseconds until it is tried again; 0: it is written. */
  async #write(condition: { status: string; reason: string; message: string }): Promise<number> {
    const { client, clock, log } = this.#parts;
    const time = metaTime(clock.now());
    const { status, reason } = condition;
    try {
      const patch = { status: { conditions: [{ type: TYPE, ...condition, lastHeartbeatTime: time, lastTransitionTime: time }] } };
      await client.patch(`/api/v1/nodes/${encodeURIComponent(this.#node)}/status`, "strategic-merge-patch", patch);
      this.#backoff.reset();
      this.#now = { status, reason };
      log.info({ status, reason }, `${TYPE} of the Node is ${status}: ${condition.message}`);
      return 0;
    } catch (error) {
      const { message } = error as ApiError;
      const text = `${TYPE} of the Node was not written: ${message}`;
      if (this.#backoff.failures === 0) log.warn({}, `${text}; it is tried again by itself`);
      return this.#backoff.next(error as ApiError);
    }
  }
}
