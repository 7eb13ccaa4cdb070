/**
 * Writes the status of many objects: only where it is another one than the server has, and of each object so seldom that all agents, who watch these
 * objects, can bear the events.
 */
import { isDeepStrictEqual } from "node:util";
import { apiVersion } from "../config/resources/common.ts";
import type { ApiClient } from "../kubernetes/client.ts";
import { type Condition, conditionsOf } from "../kubernetes/conditions.ts";
import { Backoff, TokenBucket } from "../kubernetes/pace.ts";
import type { ApiError, ApiObject } from "../kubernetes/types.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { ObjectStatus } from "./object-status.ts";

/** Milliseconds between two writes of one object, at least, and for each node: a write is an event for each of them. */
const LEAST_INTERVAL = 10_000;
const INTERVAL_PER_NODE = 10;
/** Writes of all objects: so many at once, and milliseconds for each further one. */
const BURST = 20;
const REFILL = 100;
/** Milliseconds of pauses after failures. */
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 60_000;

interface Entry {
  kind: string;
  plural: string;
  name: string;
  generation: number | undefined;
  /** As the server has it. */
  has: ObjectStatus & { observedGeneration?: number; conditions?: Condition[] };
  wanted?: ObjectStatus;
  /** Clock.monotonic() of the last write. */
  writtenAt: number;
}

export interface WriterParts {
  client: Pick<ApiClient, "apply">;
  clock: Clock;
  log: Logger;
  random(): number;
}

export class StatusWriter {
  readonly #parts: WriterParts;
  readonly #nodes: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #bucket: TokenBucket;
  readonly #backoff: Backoff;
  #timer: Timer | undefined;
  #working: Promise<void> | undefined;
  #closed = false;

  constructor(parts: WriterParts, nodes: () => number) {
    this.#parts = parts;
    this.#nodes = nodes;
    this.#bucket = new TokenBucket(BURST, REFILL, () => parts.clock.monotonic());
    this.#backoff = new Backoff({ first: FIRST_PAUSE, longest: LONGEST_PAUSE, random: parts.random });
  }

  seen(kind: string, plural: string, { metadata, status }: ApiObject): void {
    const key = `${kind}/${metadata.name}`;
    const before = this.#entries.get(key);
    const has = (status ?? {}) as Entry["has"];
    const { wanted, writtenAt = Number.NEGATIVE_INFINITY } = before ?? {};
    this.#entries.set(key, { kind, plural, name: metadata.name, generation: metadata.generation, has, wanted, writtenAt });
  }

  gone(kind: string, name: string): void {
    this.#entries.delete(`${kind}/${name}`);
  }

  /** What each object's status is to be; undefined: as it is. */
  want(statusOf: (kind: string, name: string) => ObjectStatus | undefined): void {
    for (const entry of this.#entries.values()) entry.wanted = statusOf(entry.kind, entry.name);
    if (this.#backoff.failures === 0) this.#work();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#working;
  }

  #work(): void {
    if (this.#working || this.#closed) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#working = this.#writeAll().then(wait => {
      this.#working = undefined;
      if (wait === undefined || this.#closed) return;
      this.#timer = this.#parts.clock.after(wait, () => this.#work());
    });
  }

  /** Milliseconds until there is more to do; undefined: nothing is left. */
  async #writeAll(): Promise<number | undefined> {
    const { clock, log } = this.#parts;
    let next: number | undefined;
    const later = (wait: number) => {
      next = Math.min(next ?? wait, wait);
    };
    for (const entry of [...this.#entries.values()]) {
      if (this.#closed) return undefined;
      if (!entry.wanted || isAsWanted(entry)) continue;
      const interval = Math.max(LEAST_INTERVAL, this.#nodes() * INTERVAL_PER_NODE);
      const left = entry.writtenAt + interval - clock.monotonic();
      const wait = left > 0 ? left : this.#bucket.take();
      if (wait > 0) {
        later(wait);
        continue;
      }
      try {
        await this.#write(entry);
        this.#backoff.reset();
      } catch (error) {
        const { status, message } = error as ApiError;
        // It was deleted a moment ago.
        if (status === 404) continue;
        if (this.#backoff.failures === 0) log.warn({ status }, `the status of ${entry.kind}/${entry.name} was not written: ${message}`);
        return this.#backoff.next(error as ApiError);
      }
    }
    return next;
  }

  async #write(entry: Entry): Promise<void> {
    const { client, clock } = this.#parts;
    const { kind, plural, name, generation, has, wanted } = entry;
    entry.writtenAt = clock.monotonic();
    const conditions = conditionsOf(wanted?.conditions ?? [], has.conditions, clock.now(), generation);
    const status = { ...wanted, conditions, ...(generation !== undefined && { observedGeneration: generation }) };
    await client.apply(`/apis/${apiVersion}/${plural}/${encodeURIComponent(name)}/status`, {
      apiVersion,
      kind,
      metadata: { name },
      status,
    });
    // The watch says it as well, a moment later.
    const now = this.#entries.get(`${kind}/${name}`);
    if (now) Object.assign(now, { has: status, writtenAt: entry.writtenAt });
  }
}

function isAsWanted({ has, wanted, generation }: Entry): boolean {
  if (!wanted) return true;
  const { conditions, ...rest } = wanted;
  if (has.observedGeneration !== generation) return false;
  if (Object.entries(rest).some(([field, value]) => !isDeepStrictEqual(has[field as keyof typeof rest], value))) return false;
  return conditions.every(one => {
    const there = has.conditions?.find(({ type }) => type === one.type);
    return there?.status === one.status && there.reason === one.reason && there.message === one.message;
  });
}
