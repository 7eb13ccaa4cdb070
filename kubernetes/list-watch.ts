/**
 * Follows a collection of the API server, as client-go's reflector does: the objects at one moment, then their changes, for ever. Objects come as a stream
 * (`sendInitialEvents`) where the server has that, else in pages. @kubernetes/client-node's ListWatch has neither pages nor bookmarks, ends at the first
 * failure, and starts anew whenever a quiet collection said nothing for 30 s.
 */
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { ApiClient, Query } from "./client.ts";
import { Backoff } from "./pace.ts";
import { ApiError, type ApiObject, type WatchEvent } from "./types.ts";

export interface Collection {
  /** "/apis/podlane.io/v1alpha1/peers" */
  path: string;
  /** For people: "peers.podlane.io". */
  name: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Objects of a page; large ones want fewer. */
  page?: number;
}

export interface CollectionListener {
  /** An object is there, or is another one now. Its key is "namespace/name", or its name where it has no namespace. */
  set(object: ApiObject): void;
  /** It was deleted. */
  delete(key: string): void;
  /** All that are there have been said, or the state changed. */
  settled(): void;
}

export interface ListWatchParts {
  client: ApiClient;
  clock: Clock;
  log: Logger;
  /** 0 up to 1. */
  random(): number;
}

export interface Failure {
  /** Milliseconds of Clock.now(). */
  since: number;
  error: ApiError;
}

const PAGE = 500;
/** Milliseconds: the first pause after a failure, and the longest. Each is drawn anew, as thousands of agents lose the same server at once. */
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
/** Seconds of one watch, from, and up to twice as much: as long as the server would choose. */
const WATCH_TIME = 1800;
/** Milliseconds without an event: the server sends a bookmark each minute, where it has a watch cache. Without one PING has to do (http2.ts). */
const IDLE_WITH_BOOKMARKS = 180_000;
const INITIAL_EVENTS_END = "k8s.io/initial-events-end";

export class ListWatch {
  readonly collection: Collection;
  readonly #parts: ListWatchParts;
  readonly #listener: CollectionListener;
  /** Resource version by key. */
  readonly #known = new Map<string, string>();
  #resourceVersion: string | undefined;
  /** The newest resource version that the collection had. */
  #newest = -1;
  /** Known, and not there since the server's store went back: nobody deleted them. */
  readonly #missing = new Set<string>();
  #synced = false;
  #lists = 0;
  #failed: Failure | undefined;
  #heardAt: number;
  readonly #backoff: Backoff;
  /** How often it was too old since anything was heard by a watch. */
  #expiries = 0;
  /** The watch did not end by its time: who answers next may have another store. */
  #wasLost = false;
  #hasBookmarks = false;
  /** The server refused `sendInitialEvents`. */
  #pagesOnly = false;
  #abort = new AbortController();
  #pause: { timer: Timer; skip(): void } | undefined;
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(collection: Collection, parts: ListWatchParts, listener: CollectionListener) {
    this.collection = collection;
    this.#parts = parts;
    this.#listener = listener;
    this.#heardAt = parts.clock.monotonic();
    this.#backoff = new Backoff({ first: FIRST_PAUSE, longest: LONGEST_PAUSE, random: parts.random });
  }

  /** All objects have been said once. */
  get synced(): boolean {
    return this.#synced;
  }

  /** How often all objects were said. */
  get lists(): number {
    return this.#lists;
  }

  /** Of all objects that are there. */
  keys(): string[] {
    return [...this.#known.keys()];
  }

  /** Keys of objects that are kept, though they are not there since the server's store was emptied or is an older one. Nobody deleted them. */
  get missing(): ReadonlySet<string> {
    return this.#missing;
  }

  /** One of `missing` is kept no more. */
  forget(key: string): void {
    if (this.#missing.has(key)) this.#delete(key);
  }

  /** Why there is no watch now. */
  get failed(): Failure | undefined {
    return this.#failed;
  }

  /** Milliseconds since the server last said anything. */
  get age(): number {
    return this.#parts.clock.monotonic() - this.#heardAt;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Lists again, and at once if it waits. What is not there then is gone. */
  relist(): void {
    this.#missing.clear();
    this.#newest = -1;
    this.#resourceVersion = undefined;
    this.#abort.abort(new ApiError(0, "Relist", "asked to list again"));
    this.#pause?.skip();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#abort.abort(new ApiError(0, "Closed", "closed"));
    this.#pause?.skip();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      this.#abort = new AbortController();
      try {
        if (this.#resourceVersion !== undefined) await this.#watch();
        else if (this.#pagesOnly) await this.#list();
        else await this.#stream();
      } catch (error) {
        if (this.#closed) return;
        await this.#recover(error instanceof ApiError ? error : new ApiError(0, "", (error as Error).message));
      }
    }
  }

  async #recover(error: ApiError): Promise<void> {
    const { clock, log } = this.#parts;
    if (error.reason === "Relist") return;
    if (this.#resourceVersion === undefined && !this.#pagesOnly && (error.status === 400 || error.status === 422)) {
      this.#pagesOnly = true;
      return;
    }
    // Where the watch was is forgotten by the server, not by us: what is there is compared.
    if (error.expired && this.#resourceVersion !== undefined) {
      log.debug({ collection: this.collection.name }, `listing again: ${error.message}`);
      this.#resourceVersion = undefined;
      // A server that forgets again what it has just said must not be asked without a pause.
      if (this.#expiries++ > 0) await this.#wait(this.#backoff.next(error));
      return;
    }
    // See #hasSameStore().
    if (error.reason === "Silent") this.#resourceVersion = undefined;
    this.#wasLost = true;
    if (!this.#failed || this.#failed.error.message !== error.message) {
      this.#failed = { since: this.#failed?.since ?? clock.now(), error };
      log.debug({ collection: this.collection.name, status: error.status }, `cannot be followed: ${error.message}`);
      this.#listener.settled();
    }
    await this.#wait(this.#backoff.next(error));
  }

  #wait(milliseconds: number): Promise<void> {
    return new Promise(resolve => {
      const skip = () => {
        timer.cancel();
        this.#pause = undefined;
        resolve();
      };
      const timer = this.#parts.clock.after(milliseconds, skip);
      this.#pause = { timer, skip };
    });
  }

  get #query(): Query {
    const { labelSelector, fieldSelector } = this.collection;
    return { labelSelector, fieldSelector };
  }

  /** One page after the other. What is not in any of them is gone. */
  async #list(): Promise<void> {
    const seen = new Set<string>();
    let next: string | undefined;
    let version: string | undefined;
    do {
      const query = { ...this.#query, limit: this.collection.page ?? PAGE, continue: next };
      const list = await this.#parts.client.list(this.collection.path, query, "objects", this.#abort.signal);
      if (this.#closed) return;
      for (const object of list.items) {
        seen.add(keyOf(object));
        this.#set(object);
      }
      next = list.metadata.continue || undefined;
      version = list.metadata.resourceVersion;
      this.#heard();
    } while (next !== undefined);
    this.#complete(seen, version);
  }

  /** All objects as events, and a bookmark behind the last; the watch goes on. */
  async #stream(): Promise<void> {
    const seen = new Set<string>();
    let complete = false;
    await this.#follow({ sendInitialEvents: true, resourceVersionMatch: "NotOlderThan" }, event => {
      if (complete) return this.#event(event);
      if (event.type === "ERROR") throw statusOf(event.object);
      const { metadata } = event.object;
      if (event.type === "BOOKMARK" && metadata.annotations?.[INITIAL_EVENTS_END] === "true") {
        complete = true;
        this.#hasBookmarks = true;
        this.#complete(seen, metadata.resourceVersion);
        // The watch may go on for an hour.
        seen.clear();
      } else if (event.type === "ADDED" || event.type === "MODIFIED") {
        seen.add(keyOf(event.object));
        this.#set(event.object);
      } else if (event.type === "DELETED") {
        seen.delete(keyOf(event.object));
        this.#delete(keyOf(event.object));
      }
    });
  }

  async #watch(): Promise<void> {
    if (this.#wasLost && !(await this.#hasSameStore())) {
      this.#resourceVersion = undefined;
      return;
    }
    await this.#follow({ resourceVersion: this.#resourceVersion }, event => this.#event(event));
  }

  /** A watch would not tell: from a version that the store has not reached yet it hears nothing, not even bookmarks. */
  async #hasSameStore(): Promise<boolean> {
    const { metadata } = await this.#parts.client.list(this.collection.path, { ...this.#query, limit: 1 });
    this.#wasLost = false;
    const version = numberOf(metadata.resourceVersion);
    return version < 0 || version >= this.#newest;
  }

  async #follow(query: Query, event: (event: WatchEvent) => void): Promise<void> {
    const { client, random } = this.#parts;
    const timeoutSeconds = Math.round(WATCH_TIME * (1 + random()));
    const idle = this.#hasBookmarks ? IDLE_WITH_BOOKMARKS : (timeoutSeconds + 60) * 1000;
    const all = { ...this.#query, ...query, allowWatchBookmarks: true, timeoutSeconds };
    const started = this.#parts.clock.monotonic();
    // A watch that was accepted says nothing while nothing changes.
    const opened = () => this.#opened();
    await client.watch(this.collection.path, { query: all, signal: this.#abort.signal, idle, event, opened });
    const lasted = this.#parts.clock.monotonic() - started;
    // A server that is killed ends it like one that ends it.
    if (lasted < timeoutSeconds * 1000) this.#wasLost = true;
    // A server, or something before it, that ends each watch at once must not be asked without a pause.
    if (lasted < 1000) throw new ApiError(0, "EndedEarly", "the watch ended as soon as it began");
  }

  #opened(): void {
    this.#heard();
    if (!this.#synced || !this.#failed || this.#resourceVersion === undefined) return;
    this.#failed = undefined;
    this.#listener.settled();
  }

  #event({ type, object }: WatchEvent): void {
    if (type === "ERROR") throw statusOf(object);
    this.#heard();
    const { resourceVersion } = object.metadata;
    if (numberOf(resourceVersion) < this.#newest) throw new ApiError(410, "Expired", "the server's store is an older one");
    this.#newest = Math.max(this.#newest, numberOf(resourceVersion));
    this.#backoff.reset();
    this.#expiries = 0;
    if (type === "BOOKMARK") this.#hasBookmarks = true;
    else if (type === "DELETED") this.#delete(keyOf(object));
    else this.#set(object);
    if (resourceVersion) this.#resourceVersion = resourceVersion;
    if (type !== "BOOKMARK") this.#listener.settled();
  }

  #set(object: ApiObject): void {
    const key = keyOf(object);
    const { resourceVersion = "" } = object.metadata;
    this.#missing.delete(key);
    if (resourceVersion !== "" && this.#known.get(key) === resourceVersion) return;
    this.#known.set(key, resourceVersion);
    this.#listener.set(object);
  }

  #delete(key: string): void {
    this.#missing.delete(key);
    if (this.#known.delete(key)) this.#listener.delete(key);
  }

  #complete(seen: ReadonlySet<string>, version: string | undefined): void {
    this.#wasLost = false;
    this.#checkStore(seen, version);
    for (const key of [...this.#known.keys()]) if (!seen.has(key) && !this.#missing.has(key)) this.#delete(key);
    this.#resourceVersion = version;
    this.#synced = true;
    this.#lists++;
    this.#failed = undefined;
    this.#backoff.reset();
    this.#heard();
    this.#listener.settled();
  }

  /** A store that went back was emptied, or restored from a backup. What it lacks nobody deleted, and a version may be that of another object now. */
  #checkStore(seen: ReadonlySet<string>, version: string | undefined): void {
    const before = this.#newest;
    this.#newest = numberOf(version);
    if (this.#newest >= before || this.#newest < 0) return;
    for (const key of this.#known.keys()) {
      if (!seen.has(key)) this.#missing.add(key);
      this.#known.set(key, "");
    }
    throw new ApiError(0, "Relist", "the server's store is an older one");
  }

  #heard(): void {
    this.#heardAt = this.#parts.clock.monotonic();
  }
}

/** "namespace/name", or the name alone of what has no namespace. */
function keyOf({ metadata: { namespace, name } }: ApiObject): string {
  return namespace ? `${namespace}/${name}` : name;
}

/** Resource versions are etcd's revisions. -1: none, or none that can be compared. */
function numberOf(version: string | undefined): number {
  return version !== undefined && /^\d{1,15}$/.test(version) ? Number(version) : -1;
}

/** An ERROR event holds a metav1.Status. */
function statusOf(object: ApiObject): ApiError {
  const { code, reason, message } = object as { code?: unknown; reason?: unknown; message?: unknown };
  return new ApiError(
    typeof code === "number" ? code : 500,
    typeof reason === "string" ? reason : "",
    typeof message === "string" ? message : "the watch broke",
  );
}
