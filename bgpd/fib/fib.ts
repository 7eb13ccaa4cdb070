/**
 * The FIB: keeps the kernel's routes of our protocol number equal to what the RIB wants. It adopts what is there at start, writes the last
 * wish of each prefix in slices between other work, sweeps what nobody wants, repairs what somebody else removed or changed, and never
 * touches a route of another owner.
 */
import type { KernelAccess } from "../../kernel/index.ts";
import type { KernelEvent, Link, Route } from "../../kernel/types.ts";
import type { Prefix } from "../../net/address.ts";
import { formatPrefix } from "../../net/address.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import type { Faults } from "../faults.ts";
import { BLACKHOLE, Entries, NONE } from "./entries.ts";
import { DISCARD_METRIC, FamilyState, Flag } from "./family-state.ts";
import { protocolName } from "./protocol-names.ts";
import { type RoutePlace, removePlace, removeRoutes, samePlace, turn } from "./route-places.ts";
import { Suspicions } from "./suspicions.ts";
import type { Fib, FibCounters, FibEntry } from "./types.ts";
import { FibWriter, type Task, type TaskFailure } from "./writer.ts";

export interface FibOptions {
  kernel: KernelAccess;
  /** 254 = main. */
  table: number;
  /** rtm_protocol that marks a route as ours. */
  protocol: number;
  /** 0 = 0 for IPv4, 1023 for IPv6. Below 4294967294, which is that of discard routes. */
  metric: number;
  clock: Clock;
  log: Logger;
  faults?: Faults;
  /** Where routes of ours may still be from before: what nobody wants there goes with the sweep, once all that is wanted stands here. */
  former?: readonly RoutePlace[];
  /** Prefixes written in one slice, at most; default 256, about 3 ms. */
  batch?: number;
}

/** Starts reading what the kernel holds of ours; nothing is written before that is done. Throws RangeError for a metric out of range. */
export function createFib(options: FibOptions): Fib {
  if (!(options.metric >= 0 && options.metric < DISCARD_METRIC)) {
    throw new RangeError(`the metric ${options.metric} of kernel routes must be in 0..${DISCARD_METRIC - 1}`);
  }
  return new KernelFib(options);
}

/** Milliseconds. */
const RESYNC_DELAY = 50;
/** Between two dumps at least this, and twice the time that the last one took. */
const RESYNC_PAUSE = 100;
/** After a route stood where none was known. */
const RESYNC_UNKNOWN = 1000;
const RETRY_MIN = 1000;
const RETRY_MAX = 60_000;
const RETRY_ON_EVENT = 20;
/** With more failures than this, events trigger another try at most once a second. */
const MANY_FAILURES = 1000;

class KernelFib implements Fib {
  readonly outlived: Promise<boolean>;
  #tellOutlived: (found: boolean) => void = () => {};
  readonly #options: FibOptions;
  readonly #entries = new Entries();
  readonly #families: Record<4 | 6, FamilyState>;
  readonly #writer: FibWriter;
  readonly #batch: number;
  readonly #links = new Map<number, boolean>();
  readonly #suspicions: Suspicions;
  readonly #stopWatching: () => void;
  #waiting: (() => void)[] = [];
  #former: readonly RoutePlace[];
  #ready = false;
  #slicing = false;
  #swept = false;
  /** What was wanted at the sweep is written: routes of ours that we do not write like that may go. */
  #replaced = false;
  #closed = false;
  /** Routes of our protocol that are of another metric or type than we write: of an earlier configuration. */
  #leftovers = false;
  #generation = 0;
  #resyncing: Promise<void> | undefined;
  /** Clock.monotonic() before which no other dump begins. */
  #resyncAfter = Number.NEGATIVE_INFINITY;
  #resyncTimer: Timer | undefined;
  #retryTimer: Timer | undefined;
  #retryEventTimer: Timer | undefined;
  #retryDelay = RETRY_MIN;
  #adopted = 0;
  #sweptCount = 0;
  #repaired = 0;
  #lastError: string | undefined;

  constructor(options: FibOptions) {
    const { kernel, table, protocol, metric, clock } = options;
    this.#options = options;
    this.#former = (options.former ?? []).filter(place => !samePlace(place, { table, protocol }));
    this.outlived = new Promise(resolve => {
      this.#tellOutlived = resolve;
    });
    this.#batch = Math.max(1, options.batch ?? 256);
    this.#families = { 4: new FamilyState(4, metric, this.#entries), 6: new FamilyState(6, metric, this.#entries) };
    this.#writer = new FibWriter({ netlink: kernel.netlink, entries: this.#entries, table, protocol });
    this.#suspicions = new Suspicions({
      clock,
      entries: this.#entries,
      states: this.#states(),
      onBelieved: (state, id) => this.#mend(state, id),
    });
    this.#stopWatching = kernel.watch(events => this.#onEvents(events));
    for (const link of kernel.netlink.links()) this.#links.set(link.index, link.up);
    this.#resync();
  }

  want(prefix: Prefix, entry: FibEntry | undefined): void {
    const state = this.#families[prefix.family];
    const id = entry === undefined ? state.prefixes.findPrefix(prefix) : state.prefixes.internPrefix(prefix);
    if (id === 0) return;
    // What was adopted stays until the sweep unless somebody wanted it in between.
    if (entry !== undefined) state.flags[id] &= ~Flag.Adopted;
    state.setWant(id, this.#entries.intern(entry));
    state.failed.delete(id);
    this.#enqueue(state, id);
  }

  async sweep(): Promise<void> {
    this.#swept = true;
    if (this.#ready) this.#enqueueUnwanted();
    await this.settled();
    for (const place of this.#former) {
      this.#sweptCount += await removePlace(this.#options.kernel.netlink, place, () => this.#closed);
    }
    if (this.#closed) return;
    this.#former = [];
    this.#replaced = true;
    if (!this.#leftovers) return;
    this.#resync();
    await this.#resyncing;
  }

  settled(): Promise<void> {
    return new Promise(resolve => {
      this.#waiting.push(resolve);
      this.#checkSettled();
    });
  }

  counters(): FibCounters {
    const [v4, v6] = this.#states();
    return {
      installed: v4.installed + v6.installed,
      adopted: this.#adopted,
      pending: v4.pending + v6.pending,
      failed: v4.failed.size + v6.failed.size,
      swept: this.#sweptCount,
      ...this.#writer.counters,
      repaired: this.#repaired,
      ...(this.#lastError !== undefined && { lastError: this.#lastError }),
    };
  }

  installed(prefix: Prefix): FibEntry | undefined {
    const state = this.#families[prefix.family];
    const id = state.prefixes.findPrefix(prefix);
    if (id === 0) return undefined;
    return this.#entries.get(state.have(id)) ?? (state.hasDiscard(id) ? this.#entries.get(BLACKHOLE) : undefined);
  }

  async close({ flush }: { flush: boolean }): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopWatching();
    for (const timer of [this.#resyncTimer, this.#retryTimer, this.#retryEventTimer]) timer?.cancel();
    this.#suspicions.close();
    await this.#resyncing;
    if (flush) await this.#flush();
    this.#checkSettled();
  }

  #enqueueUnwanted(): void {
    for (const state of this.#states()) {
      state.each(id => {
        if (state.want(id) === NONE) this.#enqueue(state, id);
      });
    }
  }

  // --- writing ---

  #enqueue(state: FamilyState, id: number): void {
    state.enqueue(id);
    this.#kick();
  }

  #kick(): void {
    if (!this.#ready || this.#slicing || this.#closed) return;
    this.#slicing = true;
    setImmediate(() => this.#slice());
  }

  #slice(): void {
    this.#slicing = false;
    if (this.#closed) return;
    const tasks: Task[] = [];
    for (const state of this.#states()) {
      // Half of a slice for each family, so that neither waits for a full table of the other.
      for (const id of state.dequeue(Math.ceil(this.#batch / 2))) tasks.push({ state, id });
    }
    this.#writeSafely(tasks);
    if (this.#states().some(state => state.pending > 0)) this.#kick();
    else this.#checkSettled();
  }

  /** What throws is found by writing one by one; it counts as refused by the kernel and is tried again later. */
  #writeSafely(tasks: Task[]): void {
    try {
      this.#write(tasks);
    } catch (error) {
      if (!this.#options.faults) throw error;
      if (tasks.length > 1) {
        for (const task of tasks) this.#writeSafely([task]);
        return;
      }
      const [{ state, id }] = tasks;
      this.#options.faults.note("kernel route", error, { about: formatPrefix(state.prefixes.prefix(id)) });
      state.failed.add(id);
      this.#lastError = error instanceof Error ? error.message : String(error);
      this.#retryTimer ??= this.#options.clock.after(this.#retryDelay, () => this.#retry());
    }
  }

  #write(tasks: Task[]): void {
    if (this.#swept) for (const task of tasks) this.#countSweep(task);
    const failures = this.#writer.write(tasks.filter(({ state, id }) => !state.satisfied(id)));
    const failed = new Set(failures.map(({ state, id }) => state.family * 2 ** 32 + id));
    for (const { state, id } of tasks) {
      if (failed.has(state.family * 2 ** 32 + id)) continue;
      state.failed.delete(id);
      state.forget(id);
    }
    for (const failure of failures) this.#fail(failure);
    if (failures.length > 0) this.#retryTimer ??= this.#options.clock.after(this.#retryDelay, () => this.#retry());
    else if (this.#states().every(state => state.failed.size === 0)) this.#retryDelay = RETRY_MIN;
  }

  /** A route that was adopted, and that nobody asked for until the sweep. */
  #countSweep({ state, id }: Task): void {
    if ((state.flags[id] & Flag.Adopted) === 0) return;
    state.flags[id] &= ~Flag.Adopted;
    this.#sweptCount++;
  }

  #fail({ state, id, error, taken }: TaskFailure): void {
    const first = !state.failed.has(id);
    state.failed.add(id);
    let text = error.message;
    if (taken !== undefined) {
      const holder = state.foreign.get(taken);
      const owner = holder === undefined ? "somebody else" : `protocol ${protocolName(holder.protocol)}`;
      text = `prefix ${formatPrefix(state.prefixes.prefix(id))}: held by a route of ${owner}; not touched`;
      // Nobody we know of: what we know is not what is there.
      if (holder === undefined) this.#resyncSoon(RESYNC_UNKNOWN);
    }
    this.#lastError = text;
    if (first) this.#options.log.warn({ prefix: formatPrefix(state.prefixes.prefix(id)) }, `route not installed: ${text}`);
  }

  #retry(): void {
    this.#retryTimer = undefined;
    this.#retryDelay = Math.min(this.#retryDelay * 2, RETRY_MAX);
    this.#retryNow();
  }

  #retryNow(): void {
    for (const state of this.#states()) for (const id of state.failed) this.#enqueue(state, id);
  }

  #retryOnEvent(): void {
    const failures = this.#states().reduce((sum, state) => sum + state.failed.size, 0);
    if (failures === 0 || this.#retryEventTimer) return;
    this.#retryEventTimer = this.#options.clock.after(failures > MANY_FAILURES ? RETRY_MIN : RETRY_ON_EVENT, () => {
      this.#retryEventTimer = undefined;
      this.#retryNow();
    });
  }

  #checkSettled(): void {
    const busy = !this.#closed && (!this.#ready || this.#slicing || this.#states().some(state => state.pending > 0));
    if (busy || this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  async #flush(): Promise<void> {
    const { kernel, table, protocol } = this.#options;
    for (const place of [{ table, protocol }, ...this.#former]) await removePlace(kernel.netlink, place, () => false);
  }

  // --- events ---

  #onEvents(events: KernelEvent[]): void {
    if (this.#closed) return;
    try {
      this.#takeEvents(events);
    } catch (error) {
      // What the rest of the events would have told, a dump tells.
      this.#resyncSoon(RESYNC_DELAY);
      throw error;
    }
  }

  #takeEvents(events: KernelEvent[]): void {
    for (const event of events) {
      if (event.type === "route") this.#onRoute(event.action, event.route);
      else if (event.type === "link") this.#onLink(event.action, event.link);
      else if (event.type === "address") {
        // The kernel drops routes with the last address of a link, and says nothing about those of IPv4.
        if (event.action === "delete" && this.#entries.usesLink(event.address.ifindex)) this.#resyncSoon(RESYNC_DELAY);
        this.#retryOnEvent();
      } else if (event.type === "overrun") this.#resyncSoon(RESYNC_DELAY);
    }
  }

  #onLink(action: "new" | "delete", link: Link): void {
    const before = this.#links.get(link.index);
    const now = action === "new" && link.up;
    if (action === "new") this.#links.set(link.index, link.up);
    else this.#links.delete(link.index);
    if (before === now) return;
    // IPv4 routes vanish with their link, and no event says so.
    if (this.#entries.usesLink(link.index)) this.#resyncSoon(RESYNC_DELAY);
    if (now) this.#retryOnEvent();
  }

  #onRoute(action: "new" | "delete", route: Route): void {
    if (this.#isOurs(route)) {
      this.#onOurRoute(action, route);
      return;
    }
    this.#retryOnEvent();
    if (route.table !== this.#options.table) return;
    const state = this.#families[route.family];
    const place = state.placeOf(route);
    if (place === undefined) return;
    if (action === "delete") {
      state.foreign.delete(place);
      return;
    }
    state.foreign.set(place, { protocol: route.protocol, generation: this.#generation });
    const id = state.prefixes.findPrefix(state.prefixOf(route));
    // It may stand beside ours, or have replaced it.
    if (id !== 0 && state.has(id)) this.#resyncSoon(RESYNC_DELAY);
  }

  #onOurRoute(action: "new" | "delete", route: Route): void {
    const state = this.#families[route.family];
    if (!this.#isRegular(route)) {
      if (action === "new") this.#leftovers = true;
      return;
    }
    // The loss of one member of an IPv6 multipath route is announced by itself: what is left, a dump tells.
    if (action === "delete" && route.family === 6 && this.#isPartOf(state, route)) this.#resyncSoon(RESYNC_DELAY);
    else this.#suspicions.observe(state, action, route);
  }

  #isPartOf(state: FamilyState, route: Route): boolean {
    const id = state.prefixes.findPrefix(state.prefixOf(route));
    return id !== 0 && route.nextHops.length < this.#entries.hops(state.have(id)).length;
  }

  /** The kernel was found to hold something else than we thought. */
  #mend(state: FamilyState, id: number): void {
    if (state.want(id) !== NONE && !state.satisfied(id)) {
      this.#repaired++;
      this.#suspicions.repaired(state, id);
    }
    this.#enqueue(state, id);
  }

  // --- reading the kernel's table: at start, and whenever events do not tell all ---

  #resyncSoon(delay: number): void {
    if (this.#closed || this.#resyncTimer) return;
    const { clock } = this.#options;
    const pause = Math.max(delay, this.#resyncAfter - clock.monotonic());
    this.#resyncTimer = clock.after(pause, () => {
      this.#resyncTimer = undefined;
      this.#resync();
    });
  }

  #resync(): void {
    if (this.#resyncing) {
      this.#resyncSoon(RESYNC_DELAY);
      return;
    }
    const { clock } = this.#options;
    const began = clock.monotonic();
    this.#resyncing = this.#readKernel()
      .catch(error => {
        this.#lastError = error instanceof Error ? error.message : String(error);
        this.#options.log.error({ error }, "cannot read the kernel's routes; trying again");
        return false;
      })
      .then(complete => {
        this.#resyncing = undefined;
        const now = clock.monotonic();
        this.#resyncAfter = now + Math.max(RESYNC_PAUSE, 2 * (now - began));
        if (!complete) this.#resyncSoon(RESYNC_UNKNOWN);
      });
  }

  /** Compares dump and knowledge. What is written meanwhile is marked as seen by the writer, and the dump is not believed about it. */
  async #readKernel(): Promise<boolean> {
    this.#generation++;
    for (const state of this.#states()) {
      for (let id = 1; id < state.prefixes.limit; id++) state.flags[id] &= ~(Flag.Seen | Flag.SeenDiscard);
      for (const chunk of this.#options.kernel.netlink.routes({ family: state.family, table: this.#options.table })) {
        const leftovers = chunk.filter(route => !this.#found(state, route));
        if (this.#replaced) this.#sweptCount += removeRoutes(this.#options.kernel.netlink, leftovers);
        else if (leftovers.length > 0) this.#leftovers = true;
        if (this.#adopted > 0 || this.#leftovers) this.#tellOutlived(true);
        await turn();
        if (this.#closed) return true;
      }
      this.#afterDump(state);
    }
    if (this.#replaced) this.#leftovers = false;
    if (this.#ready) return true;
    this.#ready = true;
    this.#tellOutlived(this.#adopted > 0 || this.#leftovers || this.#former.some(place => this.#isInUse(place)));
    if (this.#swept) this.#enqueueUnwanted();
    this.#kick();
    this.#checkSettled();
    return true;
  }

  #isInUse(place: RoutePlace): boolean {
    for (const chunk of this.#options.kernel.netlink.routes(place)) if (chunk.length > 0) return true;
    return false;
  }

  /** False for a route of ours that we do not write like that. */
  #found(state: FamilyState, route: Route): boolean {
    if (!this.#isOurs(route)) {
      const place = state.placeOf(route);
      if (place !== undefined) state.foreign.set(place, { protocol: route.protocol, generation: this.#generation });
      return true;
    }
    if (!this.#isRegular(route)) return false;
    const id = state.prefixes.internPrefix(state.prefixOf(route));
    const discard = route.type === "blackhole";
    const seen = discard ? Flag.SeenDiscard : Flag.Seen;
    if ((state.flags[id] & seen) !== 0) return true;
    state.flags[id] |= seen;
    state.setProtocol(id, discard, route.protocol === this.#options.protocol ? undefined : route.protocol);
    const known = state.has(id);
    if (discard) state.setDiscard(id, true);
    else this.#foundUnicast(state, id, route);
    if (!this.#ready && !known) {
      this.#adopted++;
      if (state.want(id) === NONE) state.flags[id] |= Flag.Adopted;
    }
    return true;
  }

  #foundUnicast(state: FamilyState, id: number, route: Route): void {
    const observed = this.#entries.intern({ type: "unicast", nextHops: route.nextHops });
    if (this.#entries.equivalent(observed, state.have(id))) this.#entries.release(observed);
    else state.setHave(id, observed);
  }

  #afterDump(state: FamilyState): void {
    for (const [place, { generation }] of state.foreign) if (generation < this.#generation) state.foreign.delete(place);
    const wrong: number[] = [];
    state.each(id => {
      if (state.have(id) !== NONE && (state.flags[id] & Flag.Seen) === 0) state.setHave(id, NONE);
      if (state.hasDiscard(id) && (state.flags[id] & Flag.SeenDiscard) === 0) state.setDiscard(id, false);
      if (!state.satisfied(id) || state.failed.has(id)) wrong.push(id);
      else if (!state.has(id)) wrong.push(id);
    });
    for (const id of wrong) {
      if (this.#ready && !state.failed.has(id) && (state.flags[id] & Flag.Queued) === 0) this.#mend(state, id);
      else this.#enqueue(state, id);
    }
  }

  #isOurs(route: Route): boolean {
    const { table, protocol } = this.#options;
    if (route.table !== table) return false;
    return route.protocol === protocol || (this.#former.length > 0 && this.#former.some(place => samePlace(place, route)));
  }

  /** As we write them: a unicast route of our metric, or a blackhole of the discard metric. */
  #isRegular(route: Route): boolean {
    if (route.tos !== undefined || route.sourceLength !== undefined) return false;
    if (route.type === "blackhole") return route.metric === DISCARD_METRIC;
    return route.type === "unicast" && route.metric === this.#families[route.family].metric;
  }

  #states(): [FamilyState, FamilyState] {
    return [this.#families[4], this.#families[6]];
  }
}
