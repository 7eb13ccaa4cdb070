/**
 * The leader's word on Services: the condition podlane.io/Announced says whether their addresses are announced by any node, or the first broken link. Off
 * until there is an Advertisement of type Service, or a Service has such a condition from a leader before.
 */
import { isDeepStrictEqual } from "node:util";
import type { Resources } from "../config/resources/kinds.ts";
import { type ClusterRule, type ClusterVerdict, clusterRules, clusterVerdict } from "../config/services/cluster-verdict.ts";
import { keyOf } from "../config/services/read.ts";
import { ServiceIndex } from "../config/services/service-index.ts";
import { ServiceWatches } from "../config/sources/service-watches.ts";
import type { ApiClient } from "../kubernetes/client.ts";
import { metaTime } from "../kubernetes/conditions.ts";
import { Backoff, TokenBucket } from "../kubernetes/pace.ts";
import type { ApiError, ApiList, ApiObject } from "../kubernetes/types.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { WorkQueue } from "./addresses/work-queue.ts";

export interface AnnouncementParts {
  client: ApiClient;
  clock: Clock;
  log: Logger;
  /** 0 up to 1. */
  random(): number;
}

export const ANNOUNCED_CONDITION = "podlane.io/Announced";
/** Milliseconds between two writes for one Service: endpoints may come and go all the time. */
const LEAST_INTERVAL = 10_000;
/** Writes for all of them: so many at once, and milliseconds for each further one. */
const BURST = 50;
const REFILL = 50;
/** Services of a page, and milliseconds of pauses after failures, where conditions of a leader before are looked for. */
const PAGE = 200;
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 60_000;
/** metav1.Condition. */
const MAX_MESSAGE = 1024;

interface Present {
  status: string;
  reason: string;
  message: string;
}

interface Search {
  abort: AbortController;
  pauses: Backoff;
  timer?: Timer;
}

export class Announcements {
  readonly #parts: AnnouncementParts;
  readonly #index = new ServiceIndex(undefined);
  readonly #queue: WorkQueue;
  readonly #bucket: TokenBucket;
  #rules: ClusterRule[] = [];
  #watches: ServiceWatches | undefined;
  /** What Services say now. */
  readonly #present = new Map<string, Present>();
  readonly #writtenAt = new Map<string, number>();
  readonly #timers = new Map<string, Timer>();
  /** Those that wait for their turn, as more are to be written than may be at once. */
  readonly #due = new Set<string>();
  #turn: Timer | undefined;
  /** The search for conditions of a leader before. */
  #search: Search | undefined;
  #closed = false;

  constructor(parts: AnnouncementParts) {
    this.#parts = parts;
    this.#bucket = new TokenBucket(BURST, REFILL, () => parts.clock.monotonic());
    this.#queue = new WorkQueue(
      parts,
      key => this.#settle(key),
      (key, error) => this.#failed(key, error),
    );
  }

  /** The objects are these now. */
  use(resources: Pick<Resources, "advertisements" | "nodes" | "peers">): void {
    if (this.#closed) return;
    const before = this.#rules;
    this.#rules = clusterRules(resources);
    if (this.#watches) {
      // Most of what changes says nothing about Services, of which there may be ten thousand.
      if (isDeepStrictEqual(this.#rules, before)) return;
      this.#watches.setNamespaces(this.#hasNamespaces());
      for (const { key } of this.#index.services()) this.#queue.add(key);
    } else if (this.#rules.length > 0) this.#start();
    else this.#searchOnce();
  }

  #hasNamespaces(): boolean {
    return this.#rules.some(({ rule }) => rule.namespaceSelector !== undefined);
  }

  #start(): void {
    this.#index.listen(changed => {
      this.#queue.start();
      for (const key of changed) this.#queue.add(key);
    });
    const options = { namespaces: this.#hasNamespaces(), seen: (service: ApiObject) => this.#seen(service) };
    this.#watches = new ServiceWatches(this.#index, this.#parts, options);
    this.#watches.start();
  }

  /** What a leader before has said stays for ever where the last Advertisement went while there was none. */
  #searchOnce(): void {
    if (this.#search) return;
    const pauses = new Backoff({ first: FIRST_PAUSE, longest: LONGEST_PAUSE, random: this.#parts.random });
    this.#search = { abort: new AbortController(), pauses };
    void this.#find(this.#search);
  }

  async #find(search: Search): Promise<void> {
    const { clock, client, log } = this.#parts;
    try {
      let next: string | undefined;
      do {
        const list: ApiList = await client.list("/api/v1/services", { limit: PAGE, continue: next }, "objects", search.abort.signal);
        if (this.#closed || this.#watches) return;
        if (list.items.some(service => ownCondition(service) !== undefined)) {
          this.#start();
          return;
        }
        next = list.metadata.continue || undefined;
      } while (next !== undefined);
    } catch (error) {
      if (this.#closed || this.#watches) return;
      log.warn({}, `conditions ${ANNOUNCED_CONDITION} of Services are not looked for: ${(error as Error).message}`);
      search.timer = clock.after(search.pauses.next(error as ApiError), () => void this.#find(search));
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#search?.abort.abort();
    this.#search?.timer?.cancel();
    for (const timer of [...this.#timers.values(), ...(this.#turn ? [this.#turn] : [])]) timer.cancel();
    await Promise.all([this.#watches?.close(), this.#queue.close()]);
  }

  #seen(service: ApiObject): void {
    const key = keyOf(service);
    const own = ownCondition(service);
    // Somebody else may have changed it, or taken it away.
    if (!isSame(own, this.#present.get(key))) this.#index.touch(key);
    if (own) this.#present.set(key, own);
    else this.#present.delete(key);
  }

  async #settle(key: string): Promise<void> {
    const view = this.#index.service(key);
    if (!view) {
      this.#present.delete(key);
      this.#writtenAt.delete(key);
      return;
    }
    // Heard again once they are known.
    if (!this.#index.namespacesKnown && this.#rules.some(({ rule }) => rule.namespaceSelector !== undefined)) return;
    const present = this.#present.get(key);
    const verdict = clusterVerdict(this.#rules, this.#index, view);
    const wanted = verdict && conditionOf(verdict);
    if (isSame(wanted, present)) return;
    const { clock, client } = this.#parts;
    const rest = (this.#writtenAt.get(key) ?? Number.NEGATIVE_INFINITY) + LEAST_INTERVAL - clock.monotonic();
    if (rest > 0) {
      this.#later(key, rest);
      return;
    }
    const wait = this.#bucket.take();
    if (wait > 0) {
      this.#due.add(key);
      this.#nextTurn(wait);
      return;
    }
    this.#writtenAt.set(key, clock.monotonic());
    const time = wanted?.status === present?.status ? {} : { lastTransitionTime: metaTime(clock.now()) };
    const condition = wanted ? { type: ANNOUNCED_CONDITION, ...wanted, ...time } : { type: ANNOUNCED_CONDITION, $patch: "delete" };
    const path = `/api/v1/namespaces/${encodeURIComponent(view.namespace)}/services/${encodeURIComponent(view.name)}/status`;
    const uid = view.uid === undefined ? {} : { metadata: { uid: view.uid } };
    await client.patch(path, "strategic-merge-patch", { ...uid, status: { conditions: [condition] } });
  }

  #later(key: string, milliseconds: number): void {
    if (this.#closed || this.#timers.has(key)) return;
    const timer = this.#parts.clock.after(milliseconds, () => {
      this.#timers.delete(key);
      this.#queue.add(key);
    });
    this.#timers.set(key, timer);
  }

  /** One by one, so that ten thousand that wait cost no more than one. */
  #nextTurn(milliseconds: number): void {
    if (this.#closed || this.#turn) return;
    this.#turn = this.#parts.clock.after(milliseconds, () => {
      this.#turn = undefined;
      const [key] = this.#due;
      if (key === undefined) return;
      this.#due.delete(key);
      this.#queue.add(key);
      if (this.#due.size > 0) this.#nextTurn(REFILL);
    });
  }

  #failed(key: string, error: ApiError): void {
    // It was deleted, or is another one of that name.
    if (error.status === 404 || error.status === 409) return;
    this.#parts.log.warn({ service: key, status: error.status }, `the condition of Service ${key} is not written: ${error.message}`);
  }
}

function ownCondition({ status }: ApiObject): Present | undefined {
  const { conditions } = (status ?? {}) as { conditions?: unknown };
  const all: Record<string, unknown>[] = Array.isArray(conditions) ? conditions : [];
  const own = all.find(one => one?.type === ANNOUNCED_CONDITION);
  return own && { status: String(own.status), reason: String(own.reason), message: String(own.message) };
}

function conditionOf({ announced, reason, message }: ClusterVerdict): Present {
  return { status: announced ? "True" : "False", reason, message: message.slice(0, MAX_MESSAGE).replace(/[\uD800-\uDBFF]$/, "") };
}

function isSame(a: Present | undefined, b: Present | undefined): boolean {
  return a?.status === b?.status && a?.reason === b?.reason && a?.message === b?.message;
}
