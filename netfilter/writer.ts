/**
 * The one place that changes our nftables tables: knows what shall be there and what is, and brings the one to the other by transactions, one at a time. What is
 * asked meanwhile goes together into the next. What comes with each pod is written by netlink (encode/), in a millisecond; all else, and what the kernel refused
 * so, by the program nft, after a look at what is there. At the start it takes over what a former agent left; what nobody wants any more goes
 * when its part has said all that it wants. That somebody else changed or flushed a table is told by the kernel's ruleset generation, asked often
 * since that costs nothing; then our tables are listed and put back.
 */
import type { RulesetBatch } from "../kernel/index.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { encodeTransaction } from "./encode/transaction.ts";
import {
  type Command,
  canonical,
  type Difference,
  deleteTable,
  isRemade,
  parseListing,
  refersTo,
  sameObject,
  transaction,
} from "./json.ts";
import { type Nft, NftError } from "./nft.ts";
import { type NamedMap, type NamedSet, objectKey, type RulesetObject, type TableFamily } from "./ruleset.ts";
import { listTables, TABLE } from "./tables.ts";
import type { RulesetChange, RulesetWriter } from "./types.ts";

export interface WriterParts {
  nft: Nft;
  /** Carries out a transaction by netlink: see kernel/ruleset-batch.ts. May reject, with anything. Absent: all is written by nft. */
  commit?(batch: RulesetBatch): Promise<void>;
  clock: Clock;
  log: Pick<Logger, "info" | "warn" | "error">;
  /** See kernel/ruleset-generation.ts. May throw: then our tables are looked at by the clock. */
  generation(): number;
  /** Told what was put back, in words. */
  mended(text: string): void;
}

/** Why not all is as it shall be, in nft's words. */
export interface WriterFailure {
  reason: NftError["reason"];
  message: string;
  /** What is not in force, as "inet podlane chain masq-post"; the first of them. */
  objects: string[];
}

/** Objects by key; undefined: is to be gone. */
type Wanted = ReadonlyMap<string, RulesetObject | undefined>;

/** What one caller waits for. */
interface Request {
  keys: ReadonlySet<string>;
  done: PromiseWithResolvers<void>;
}

/** Milliseconds between questions for the generation. */
const ASK_INTERVAL = 2000;
/** Of the time, what lists of our tables may take, since others may change theirs all the time; and the longest pause between them, in milliseconds. */
const LOOK_SHARE = 0.01;
const LOOK_INTERVAL = 20_000;
/** Where the generation cannot be asked. */
const BLIND_LOOK_INTERVAL = 60_000;
/** Milliseconds after which what nft refused is tried again. */
const RETRY = 30_000;
const NAMED_OBJECTS = 5;

export class Writer implements RulesetWriter {
  readonly #parts: WriterParts;
  readonly #wanted = new Map<string, RulesetObject>();
  /** What the kernel has, as far as we know. undefined: not listed yet, or unsure. */
  #present: Map<string, RulesetObject> | undefined;
  /** Of #present, those that are known as they were listed. */
  readonly #listed = new Set<string>();
  /** Beginnings of names, of parts that have said all they want. */
  readonly #complete = new Set<string>();
  /** What differs from #present, or may. */
  readonly #open = new Set<string>();
  /** What nft did not take, or not in time: only tried with the request that names it, and now and then, since it would spoil the others'. */
  readonly #refused = new Set<string>();
  #requests: Request[] = [];
  #running: Promise<void> | undefined;
  #failure: NftError | undefined;
  /** As after our last run. */
  #generation: number | undefined;
  /** As of the last look for our tables. */
  #glancedAt: number | undefined;
  /** Clock.monotonic() of the last list. */
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** Milliseconds that the last list took; without end where it failed, so that the next look waits for as long as may be. */
  #lookTime = 0;
  #asking: Timer | undefined;
  #retrying: Timer | undefined;
  #closed = false;

  constructor(parts: WriterParts) {
    this.#parts = parts;
  }

  change(changes: readonly RulesetChange[]): Promise<void> {
    if (this.#closed) return Promise.reject(new NftError("refused", "podlane's agent is about to end"));
    for (const { key, object } of changes) {
      if (object) this.#wanted.set(key, object);
      else this.#wanted.delete(key);
    }
    return this.#request(new Set(changes.map(({ key }) => key)));
  }

  complete(prefix: string): Promise<void> {
    if (this.#closed || this.#complete.has(prefix)) return Promise.resolve();
    this.#complete.add(prefix);
    this.#openLeftovers();
    return this.#request(new Set());
  }

  failure(): WriterFailure | undefined {
    if (!this.#failure) return undefined;
    const { reason, message } = this.#failure;
    return { reason, message, objects: [...this.#open].slice(0, NAMED_OBJECTS) };
  }

  /** The rules stay. Resolves when no nft runs any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#asking?.cancel();
    this.#retrying?.cancel();
    // What was asked for during a look is carried out after it.
    while (this.#running) await this.#running;
  }

  #request(keys: ReadonlySet<string>): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#requests.push({ keys, done });
    for (const key of keys) this.#open.add(key);
    this.#start();
    return done.promise;
  }

  #start(): void {
    // A moment later, so that what comes in one turn goes into one run.
    this.#running ??= Promise.resolve()
      .then(() => this.#work())
      .finally(() => {
        this.#running = undefined;
        this.#askLater();
        if (this.#requests.length > 0) this.#start();
      });
  }

  async #work(): Promise<void> {
    while (this.#requests.length > 0) {
      const requests = this.#requests;
      this.#requests = [];
      await this.#carryOut(requests);
    }
  }

  async #carryOut(requests: readonly Request[]): Promise<void> {
    const asked = new Set(requests.flatMap(({ keys }) => [...keys]));
    const together = new Set([...asked, ...this.#untried()]);
    // As it is now: what is asked for while this goes on may refer to what comes with it, and that is not among these.
    const wanted = this.#snapshot(together);
    const failure = await this.#attempt(together, wanted);
    const rest = new Set([...together].filter(key => !asked.has(key)));
    if (failure && failure.reason !== "absent" && (requests.length > 1 || rest.size > 0)) {
      // One of them may have spoilt it for the others.
      for (const request of requests) settle(request, await this.#attempt(request.keys, wanted));
      await this.#attempt(rest, wanted);
    } else for (const request of requests) settle(request, failure);
    // A list meanwhile may have shown what somebody else took away.
    const more = this.#untried();
    if (!failure && more.size > 0) await this.#attempt(more, this.#snapshot(more));
    if (this.#open.size === 0) this.#failure = undefined;
    else this.#retryLater();
  }

  /** Of what is open, what was not refused. */
  #untried(): Set<string> {
    return new Set([...this.#open].filter(key => !this.#refused.has(key)));
  }

  #snapshot(keys: ReadonlySet<string>): Wanted {
    return new Map([...keys].map(key => [key, this.#wanted.get(key)]));
  }

  /** Brings these to the kernel, as they are in `wanted`. */
  async #attempt(keys: ReadonlySet<string>, wanted: Wanted): Promise<NftError | undefined> {
    try {
      const fresh = this.#present === undefined;
      if (fresh) await this.#list();
      try {
        await this.#send(keys, wanted, !fresh);
      } catch (error) {
        // Somebody may have taken away what this builds on.
        if (fresh || (error as NftError).reason !== "refused") throw error;
        await this.#list();
        await this.#send(keys, wanted, false);
      }
      for (const key of keys) this.#refused.delete(key);
      return undefined;
    } catch (error) {
      const failure = error instanceof NftError ? error : new NftError("refused", (error as Error).message);
      // Whether it took effect before it was killed is not known.
      if (failure.reason === "late") this.#present = undefined;
      if (failure.reason !== "absent") for (const key of keys) this.#refused.add(key);
      if (this.#failure?.message !== failure.message) this.#parts.log.error({}, `the packet filter cannot be changed: ${failure.message}`);
      this.#failure = failure;
      return failure;
    }
  }

  /** `fast`: by netlink, where that can be. */
  async #send(keys: ReadonlySet<string>, wanted: Wanted, fast: boolean): Promise<void> {
    const present = this.#present!;
    const differences = this.#withReferring([...keys].flatMap(key => this.#difference(key, wanted.get(key))));
    if (differences.length > 0) {
      const commands = [...transaction(differences), ...this.#emptied(differences)];
      if (!fast || !(await this.#commit(commands))) await this.#parts.nft(commands);
      this.#ours();
    }
    for (const key of keys) {
      const after = wanted.get(key);
      if (after) present.set(key, after);
      else present.delete(key);
      this.#listed.delete(key);
      // What was asked for meanwhile is another matter.
      if (this.#wanted.get(key) === after) this.#open.delete(key);
    }
  }

  /**
   * By netlink. Resolves with false where nft has to do it. It does not ask that the ruleset be of the generation that we know: others change their tables all
   * the time. What builds on something that is gone is refused, and all else that somebody did to ours is found by the generation as it is afterwards.
   */
  async #commit(commands: readonly Command[]): Promise<boolean> {
    const { commit } = this.#parts;
    const batch = commit && encodeTransaction(commands, (family, name) => this.#setOf(family, name));
    if (!batch) return false;
    try {
      await commit(batch);
    } catch (error) {
      // It may be in force all the same, and once more would add its rules again.
      this.#present = undefined;
      this.#parts.log.info({ err: error }, "a change of the packet filter by netlink failed: nft is to look at what is there");
      throw new NftError("refused", (error as Error).message);
    }
    return true;
  }

  /** Of those that are there: what is made first, or anew, is nft's. */
  #setOf(family: TableFamily, name: string): NamedSet | NamedMap | undefined {
    for (const kind of ["set", "map"] as const) {
      const found = this.#present?.get(objectKey({ family, table: TABLE, kind, name }));
      if (found?.kind === kind) return found;
    }
    return undefined;
  }

  /** None where there is nothing to do. */
  #difference(key: string, wanted: RulesetObject | undefined): Difference[] {
    const before = this.#present?.get(key);
    const after = wanted && this.#listed.has(key) ? canonical(wanted) : wanted;
    return before === after || (before && after && sameObject(before, after)) ? [] : [{ before, after }];
  }

  /** Chains that refer to what is made anew have to be written again with it. */
  #withReferring(differences: Difference[]): Difference[] {
    const remade = differences.filter(isRemade).flatMap(({ after }) => (after ? [after] : []));
    if (remade.length === 0) return differences;
    const named = new Set(differences.flatMap(({ after }) => (after ? [objectKey(after)] : [])));
    const referring = [...this.#present!.values()].filter(
      one =>
        one.kind === "chain" && !named.has(objectKey(one)) && remade.some(other => other.family === one.family && refersTo(one, other)),
    );
    return [...differences, ...referring.map(one => ({ before: one, after: one }))];
  }

  /** Tables of which nothing is left go as well. */
  #emptied(differences: readonly Difference[]): ReturnType<typeof deleteTable>[] {
    const gone = differences.flatMap(({ before, after }) => (before && !after ? [before] : []));
    if (gone.length === 0) return [];
    const keys = new Set(gone.map(objectKey));
    const kept = [...this.#present!.values(), ...differences.flatMap(({ after }) => (after ? [after] : []))];
    const used = new Set(kept.filter(one => !keys.has(objectKey(one))).map(({ family }) => family));
    return [...new Set(gone.map(({ family }) => family))].filter(family => !used.has(family)).map(family => deleteTable(family, TABLE));
  }

  /** Of parts that have said what they want, what is there and not wanted, has to go. */
  #openLeftovers(): void {
    for (const key of this.#listed) {
      const name = this.#present?.get(key)?.name ?? "";
      if (!this.#wanted.has(key) && [...this.#complete].some(prefix => name.startsWith(prefix))) this.#open.add(key);
    }
  }

  /** What is there now. Marks what is not as wanted. Returns how many. */
  async #list(): Promise<number> {
    const { nft, clock } = this.#parts;
    const begun = clock.monotonic();
    const generation = this.#ask();
    const tables = await listTables(nft);
    const texts: string[] = [];
    // One at a time: of several in one run nft 1.0.6 finds the last alone.
    for (const family of tables) texts.push(await nft([{ list: { table: { family, name: TABLE } } }]));
    const present = parseListing(texts.join("\n"));
    this.#listed.clear();
    let differing = 0;
    for (const [key, found] of present) {
      const wanted = this.#wanted.get(key);
      if (wanted && sameObject(found, canonical(wanted))) present.set(key, wanted);
      else this.#listed.add(key);
    }
    for (const [key, wanted] of this.#wanted) {
      if (present.get(key) === wanted) continue;
      if (!this.#open.has(key)) differing++;
      this.#open.add(key);
    }
    this.#present = present;
    this.#generation = generation;
    this.#openLeftovers();
    this.#lookedAt = clock.monotonic();
    this.#lookTime = this.#lookedAt - begun;
    return differing;
  }

  /** undefined: the kernel does not tell. */
  #ask(): number | undefined {
    try {
      return this.#parts.generation();
    } catch {
      return undefined;
    }
  }

  /** A run of ours is one transaction. Where there were more, the next question finds another number. */
  #ours(): void {
    if (this.#generation !== undefined) this.#generation = (this.#generation + 1) >>> 0 || 1;
  }

  #askLater(): void {
    this.#asking?.cancel();
    if (this.#closed || (this.#wanted.size === 0 && (this.#present?.size ?? 0) === 0)) return;
    this.#asking = this.#parts.clock.after(ASK_INTERVAL, () => this.#look());
  }

  /** Lists our tables where somebody may have changed them, and puts them back. */
  #look(): void {
    if (this.#running) return;
    const since = this.#parts.clock.monotonic() - this.#lookedAt;
    const generation = this.#ask();
    const due = generation === undefined ? since >= BLIND_LOOK_INTERVAL : generation !== this.#generation && since >= this.#lookPause();
    const isNews = generation !== undefined && generation !== this.#generation && generation !== this.#glancedAt;
    if (!due && !isNews) {
      this.#askLater();
      return;
    }
    this.#glancedAt = generation;
    this.#running = (due ? this.#lookAndMend() : this.#glance()).finally(() => {
      this.#running = undefined;
      this.#askLater();
      if (this.#requests.length > 0) this.#start();
    });
  }

  #lookPause(): number {
    return Math.min(LOOK_INTERVAL, Math.max(ASK_INTERVAL, this.#lookTime / LOOK_SHARE));
  }

  /** Who flushes the whole ruleset takes our tables with it, and all is open: that is looked for at once, since it is a short list. */
  async #glance(): Promise<void> {
    const present = await listTables(this.#parts.nft).catch(() => undefined);
    const wanted = new Set([...this.#wanted.values()].map(({ family }) => family));
    if (present && [...wanted].some(family => !present.includes(family))) await this.#lookAndMend();
  }

  async #lookAndMend(): Promise<void> {
    let differing = 0;
    try {
      differing = await this.#list();
    } catch (error) {
      // It is looked again, since the generation is still that of somebody else.
      if ((error as Error).message !== this.#failure?.message) this.#parts.log.warn({ err: error }, "our nftables tables cannot be listed");
      this.#lookedAt = this.#parts.clock.monotonic();
      this.#lookTime = Number.POSITIVE_INFINITY;
    }
    const keys = this.#untried();
    if (keys.size === 0) return;
    const failure = await this.#attempt(keys, this.#snapshot(keys));
    if (failure) this.#retryLater();
    else if (differing > 0) {
      const text = `${differing} objects of the nftables tables ${TABLE} were changed by somebody else: put back`;
      this.#parts.log.warn({}, text);
      this.#parts.mended(text);
    }
    if (this.#open.size === 0) this.#failure = undefined;
  }

  #retryLater(): void {
    if (this.#closed) return;
    this.#retrying ??= this.#parts.clock.after(RETRY, () => {
      this.#retrying = undefined;
      if (this.#open.size > 0) void this.#request(new Set(this.#open)).catch(() => {});
    });
  }
}

function settle({ done }: Request, failure: NftError | undefined): void {
  if (failure) done.reject(failure);
  else done.resolve();
}
