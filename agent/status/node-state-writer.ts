/**
 * Writes this node's NodeState: when something changed, after a moment of quiet, and not more often than a bucket allows. Counters alone are written
 * seldom, and nothing is while nothing changes: it is a heartbeat for nobody. While the server is away the present state waits, and is written once.
 */
import { apiVersion } from "../../config/resources/common.ts";
import type { ApiClient } from "../../kubernetes/client.ts";
import { type Condition, conditionsOf } from "../../kubernetes/conditions.ts";
import { Backoff, TokenBucket } from "../../kubernetes/pace.ts";
import type { ApiError, ApiObject } from "../../kubernetes/types.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import type { Uids } from "./happenings.ts";
import { detailOf, essenceOf, type FoundNodeState, type NodeReport, nodeStateOf } from "./node-state.ts";

export interface StatusParts {
  client: Pick<ApiClient, "apply" | "patch" | "create">;
  clock: Clock;
  log: Logger;
  /** 0 up to 1. */
  random(): number;
  report(): NodeReport;
  /** Of the report, where nothing else is wanted. */
  serving(): NodeReport["status"]["serving"];
}

/** Milliseconds from a change to a write, at least and at most: a rack that dies is news for many nodes at once. */
const QUIET = 1_000;
const SPREAD = 2_000;
/** So many writes at once, and milliseconds for each further one. */
const BURST = 3;
const REFILL = 10_000;
/** Milliseconds between writes for counters alone. */
const DETAIL = 300_000;
/** Milliseconds between looks without an event: what goes away says nothing. */
const LOOK = 30_000;
/** Milliseconds of pauses after failures. */
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 60_000;

interface Written {
  essence: string;
  detail: string;
  at: number;
}

export class NodeStateWriter {
  readonly #node: string;
  readonly #parts: StatusParts;
  readonly #bucket: TokenBucket;
  readonly #backoff: Backoff;
  readonly #path: string;
  /** Of the Node, which owns the object. */
  #uid: string | undefined;
  /** As the server has it; undefined: it must be made, or made ours. */
  #object: { uid: string | undefined; conditions: Condition[]; generation: number | undefined } | undefined;
  #written: Written | undefined;
  #timer: { at: number; timer: Timer } | undefined;
  #writing: Promise<void> | undefined;
  #closed = false;

  constructor(node: string, parts: StatusParts) {
    this.#node = node;
    this.#parts = parts;
    this.#bucket = new TokenBucket(BURST, REFILL, () => parts.clock.monotonic());
    this.#backoff = new Backoff({ first: FIRST_PAUSE, longest: LONGEST_PAUSE, random: parts.random });
    this.#path = `/apis/${apiVersion}/nodestates/${encodeURIComponent(node)}`;
  }

  /** Of the Node and of its NodeState, as far as they are known. */
  get uids(): Uids {
    return { Node: this.#uid, NodeState: this.#object?.uid };
  }

  /** Another uid: the Node was deleted and made again, and with the old one goes what it owned. undefined: it was deleted. */
  nodeSeen(node: ApiObject | undefined): void {
    const uid = node?.metadata.uid;
    if (uid === this.#uid) return;
    this.#uid = uid;
    this.#object = undefined;
    this.changed();
  }

  /** Something may have changed. */
  changed(): void {
    this.#soon(QUIET + this.#parts.random() * SPREAD);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.timer.cancel();
    await this.#writing;
  }

  /** The earliest time counts: changes that go on and on do not put it off. */
  #soon(milliseconds: number): void {
    const { clock } = this.#parts;
    const at = clock.monotonic() + milliseconds;
    if (this.#closed || (this.#timer && this.#timer.at <= at)) return;
    // A failure is not forgotten because of more news.
    if (this.#backoff.failures > 0 && this.#timer) return;
    this.#set(milliseconds);
  }

  #set(milliseconds: number): void {
    const { clock } = this.#parts;
    this.#timer?.timer.cancel();
    if (this.#closed) return;
    const timer = clock.after(milliseconds, () => {
      this.#timer = undefined;
      this.#look();
    });
    this.#timer = { at: clock.monotonic() + milliseconds, timer };
  }

  #look(): void {
    if (this.#writing) return;
    if (this.#uid === undefined) {
      this.#set(LOOK);
      return;
    }
    const { clock, random, report } = this.#parts;
    const found = nodeStateOf(report());
    const next = { essence: essenceOf(found), detail: detailOf(found), at: clock.monotonic() };
    const before = this.#object && this.#written;
    const isNews = before?.essence !== next.essence;
    const isOld = before !== undefined && next.at - before.at >= DETAIL * (1 + random() / 4);
    if (!isNews && (before.detail === next.detail || !isOld)) {
      this.#set(LOOK);
      return;
    }
    const wait = this.#bucket.take();
    if (wait > 0) {
      this.#set(wait);
      return;
    }
    this.#writing = this.#write(found, this.#uid)
      .then(
        () => {
          this.#backoff.reset();
          this.#written = next;
          return LOOK;
        },
        (error: ApiError) => this.#failed(error),
      )
      .then(pause => {
        this.#writing = undefined;
        // What came meanwhile has set a timer, unless this failed.
        if (!this.#timer || this.#backoff.failures > 0) this.#set(pause);
      });
  }

  /** Milliseconds until the next try. */
  #failed(error: ApiError): number {
    const { log } = this.#parts;
    const text = `the NodeState was not written: ${error.message}`;
    if (this.#backoff.failures === 0) log.warn({ status: error.status }, `${text}; it is tried again by itself`);
    else log.debug({ status: error.status }, text);
    // Somebody deleted it, or the definition is gone.
    if (error.status === 404) this.#object = undefined;
    return this.#backoff.next(error);
  }

  async #write({ conditions, ...status }: FoundNodeState, uid: string): Promise<void> {
    const { client, clock } = this.#parts;
    const object = { apiVersion, kind: "NodeState", metadata: { name: this.#node } };
    if (!this.#object) {
      const owner = { apiVersion: "v1", kind: "Node", name: this.#node, uid };
      const made = await client.apply(this.#path, { ...object, metadata: { name: this.#node, ownerReferences: [owner] } });
      const { conditions = [] } = (made.status ?? {}) as { conditions?: Condition[] };
      this.#object = { uid: made.metadata.uid, conditions, generation: made.metadata.generation };
    }
    const known = this.#object;
    const timed = conditionsOf(conditions, known.conditions, clock.now(), known.generation);
    await client.apply(`${this.#path}/status`, { ...object, status: { ...status, conditions: timed } });
    known.conditions = timed;
  }
}
