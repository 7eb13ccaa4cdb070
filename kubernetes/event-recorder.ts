/**
 * Events (events.k8s.io/v1): what happens at once is told at once as one, what happens again is counted in a series, and a bucket bounds the rest, as
 * client-go does. An Event that cannot be written is lost: status says how things are.
 */
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { ApiClient } from "./client.ts";
import { microTime } from "./conditions.ts";
import { TokenBucket } from "./pace.ts";
import type { ApiError } from "./types.ts";

export interface Happening {
  regarding: ObjectReference;
  type: "Normal" | "Warning";
  /** CamelCase, for programs: "SessionLost". */
  reason: string;
  /** What was done or tried, CamelCase. */
  action: string;
  /** What tells it from others with this reason, such as the neighbour's name. */
  about: string;
  note: string;
}

export interface ObjectReference {
  apiVersion: string;
  kind: string;
  /** Absent: it is in none, and the Event is in "default". */
  namespace?: string;
  name: string;
  uid?: string;
}

export interface RecorderOptions {
  /** Who reports: this program, and which of many it is. */
  controller: string;
  instance: string;
  /** Events at once, and milliseconds for each further one. Absent: as client-go has it for one object. */
  burst?: number;
  refill?: number;
}

export interface RecorderParts {
  client: Pick<ApiClient, "create" | "patch">;
  clock: Clock;
  log: Logger;
}

/** Milliseconds over which what happens is gathered. */
const GATHER = 2_000;
/** Happenings that are gathered at most; more are counted. */
const GATHERED = 1024;
/** So many of one reason are told each by itself; more are one Event. */
const SINGLE = 3;
/** As client-go's: Events at once, and milliseconds for each further one. */
const BURST = 25;
const REFILL = 300_000;
/** Milliseconds without another one after which a series has ended, and how many are kept. */
const SERIES_END = 600_000;
const MAX_SERIES = 256;
/** events.k8s.io/v1: octets of a note, of a name. */
const MAX_NOTE = 1024;
const MAX_PREFIX = 200;
/** Of objects that are in no namespace. */
const NAMESPACE = "default";

interface Series {
  /** Of the Event. */
  path: string;
  count: number;
  at: number;
}

export class EventRecorder {
  readonly #options: RecorderOptions;
  readonly #parts: RecorderParts;
  readonly #bucket: TokenBucket;
  readonly #series = new Map<string, Series>();
  #gathered: Happening[] = [];
  #more = 0;
  #timer: Timer | undefined;
  #closed = false;
  #sequence = 0;
  #lost = 0;

  constructor(options: RecorderOptions, parts: RecorderParts) {
    this.#options = options;
    this.#parts = parts;
    this.#bucket = new TokenBucket(options.burst ?? BURST, options.refill ?? REFILL, () => parts.clock.monotonic());
  }

  /** How many were told to nobody. */
  get lost(): number {
    return this.#lost;
  }

  record(happening: Happening): void {
    if (this.#closed) return;
    if (this.#gathered.length < GATHERED) this.#gathered.push(happening);
    else this.#more++;
    this.#timer ??= this.#parts.clock.after(GATHER, () => void this.#tell());
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  async #tell(): Promise<void> {
    const all = this.#gathered;
    const more = this.#more;
    this.#gathered = [];
    this.#more = 0;
    this.#timer = undefined;
    for (const happening of together(all, more)) await this.#write(happening);
  }

  async #write(happening: Happening & { count: number }): Promise<void> {
    const { regarding, reason, type, about, count } = happening;
    const now = this.#parts.clock.monotonic();
    for (const [key, { at }] of this.#series) if (now - at > SERIES_END) this.#series.delete(key);
    const key = JSON.stringify([regarding.kind, regarding.namespace, regarding.name, reason, type, about]);
    const series = this.#series.get(key);
    if (series) {
      series.count += count;
      series.at = now;
    }
    if (this.#closed || this.#bucket.take() > 0) {
      this.#lost += count;
      return;
    }
    try {
      if (series) await this.#again(series);
      else this.#keep(key, { path: await this.#create(happening), count: 1, at: now });
    } catch (error) {
      this.#lost += count;
      this.#series.delete(key);
      const { status, message } = error as ApiError;
      this.#parts.log.debug({ status, reason }, `an Event was not written: ${message}`);
    }
  }

  #keep(key: string, series: Series): void {
    const oldest = this.#series.keys().next().value;
    if (this.#series.size >= MAX_SERIES && oldest !== undefined) this.#series.delete(oldest);
    this.#series.set(key, series);
  }

  async #create({ regarding, type, reason, action, note }: Happening): Promise<string> {
    const { controller, instance } = this.#options;
    const now = this.#parts.clock.now();
    const { namespace = NAMESPACE } = regarding;
    const path = `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`;
    const name = `${regarding.name.slice(0, MAX_PREFIX)}.${now.toString(16)}${(this.#sequence++).toString(16)}`;
    await this.#parts.client.create(path, {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      metadata: { name, namespace },
      eventTime: microTime(now),
      reportingController: controller,
      reportingInstance: instance.slice(0, 128),
      regarding,
      type,
      reason,
      action,
      note: cut(note, MAX_NOTE),
    });
    return `${path}/${name}`;
  }

  async #again({ path, count }: Series): Promise<void> {
    const series = { count, lastObservedTime: microTime(this.#parts.clock.now()) };
    await this.#parts.client.patch(path, "merge-patch", { series });
  }
}

/** Each by itself where they are few of a reason; else one for all of them. `more`: that were not kept. */
function together(all: readonly Happening[], more: number): (Happening & { count: number })[] {
  const groups = new Map<string, Happening[]>();
  for (const one of all) {
    const key = JSON.stringify([one.regarding.kind, one.regarding.namespace, one.regarding.name, one.reason, one.type]);
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()].flatMap(group => {
    if (group.length <= SINGLE) return group.map(one => ({ ...one, count: 1 }));
    const [first] = group;
    const count = group.length + more;
    const notes = group.slice(0, SINGLE).map(({ note }) => note);
    return [{ ...first, about: "", count, note: `${count} × ${first.reason}: ${notes.join("; ")}; and ${count - SINGLE} more` }];
  });
}

/** In octets of UTF-8. */
function cut(text: string, octets: number): string {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length <= octets) return text;
  return `${new TextDecoder().decode(bytes.subarray(0, octets - 6)).replace(/\uFFFD+$/, "")}…`;
}
