/**
 * The next hops that are tracked, and which of them wait to be looked at again. What happens in the kernel or the RIB touches those that it can
 * concern (a prefix those inside it, a link those that lead over it); they are resolved in slices, so that 300,000 of them hold nobody up.
 */
import { contains, maskAddress, type Prefix } from "../../net/address.ts";
import { type Clock, sliceOf } from "../../platform/clock.ts";
import { AddressTree } from "./address-tree.ts";
import { decisiveAddress, sameResolution } from "./resolve.ts";
import type { Resolution } from "./types.ts";

export interface Tracked {
  readonly id: number;
  readonly key: string;
  readonly nextHop: Uint8Array;
  readonly ifindex: number;
  references: number;
  queued: boolean;
  resolution: Resolution;
}

export interface TrackedOptions {
  clock: Clock;
  resolve(nextHop: Uint8Array, ifindex: number): Resolution;
  changed(ids: number[]): void;
  /** Runs what is done in a turn of its own. */
  guard(work: () => void): void;
}

/** Resolutions between two looks at the clock. */
const STRIDE = 16;
/** Next hops inside one prefix that are found at once; where there are more, all ids are gone through in slices. */
const INSIDE = 256;
/** Ids gone through between two looks at the clock. */
const SCAN = 1024;
/** Prefixes that ids are gone through for; with more, all count as touched. */
const MAX_PREFIXES = 32;
/** Milliseconds after which those that are known to have changed are told, though others still wait. */
const TELL = 100;

export class TrackedNextHops {
  readonly #options: TrackedOptions;
  readonly #ids = new Map<string, number>();
  readonly #tracked: (Tracked | undefined)[] = [];
  readonly #free: number[] = [];
  /** By the address that decides. */
  readonly #trees = { 4: new AddressTree<Tracked>(), 16: new AddressTree<Tracked>() };
  /** Ids whose resolution passed over routes: what changes elsewhere may concern them too. */
  readonly #looped = new Set<number>();
  #touched = false;
  #queue: Tracked[] = [];
  #queueAt = 0;
  /** Links and large prefixes that have changed, and the id up to which those that they concern were looked for. */
  readonly #links = new Set<number>();
  #prefixes: Prefix[] = [];
  #scanAt = 0;
  readonly #changed = new Set<number>();
  #tellAt = Number.NEGATIVE_INFINITY;
  #scheduled = false;
  #closed = false;

  constructor(options: TrackedOptions) {
    this.#options = options;
  }

  track(nextHop: Uint8Array, ifindex: number): number {
    const key = `${Buffer.from(nextHop).toString("latin1")}%${ifindex}`;
    const known = this.#ids.get(key);
    if (known !== undefined) {
      this.#tracked[known]!.references++;
      return known;
    }
    const id = this.#free.pop() ?? this.#tracked.length;
    const copy = nextHop.slice();
    const resolution = this.#options.resolve(copy, ifindex);
    const tracked = { id, key, nextHop: copy, ifindex, references: 1, queued: false, resolution };
    this.#tracked[id] = tracked;
    this.#ids.set(key, id);
    this.#treeOf(tracked)?.add(decisiveAddress(copy, ifindex), tracked);
    if (resolution.looped) this.#looped.add(id);
    return id;
  }

  release(id: number): void {
    const tracked = this.get(id);
    if (--tracked.references > 0) return;
    this.#ids.delete(tracked.key);
    this.#treeOf(tracked)?.remove(decisiveAddress(tracked.nextHop, tracked.ifindex), tracked);
    this.#looped.delete(id);
    this.#changed.delete(id);
    this.#tracked[id] = undefined;
    this.#free.push(id);
  }

  get(id: number): Tracked {
    const tracked = this.#tracked[id];
    if (!tracked) throw new RangeError(`next hop ${id} is not tracked (released too often?)`);
    return tracked;
  }

  get busy(): boolean {
    return this.#hasWork || this.#changed.size > 0;
  }

  /** Routes or addresses of this prefix have changed. `address` of 4 or 16 octets, bits beyond `length` are not looked at. */
  touch(address: Uint8Array, length: number): void {
    const tree = this.#trees[address.length as 4 | 16];
    if (tree.isEmpty || tree.covered(address, length, INSIDE, this.#enqueue)) return;
    if (this.#prefixes.length >= MAX_PREFIXES) this.touchAll();
    else this.#scan({ family: address.length === 4 ? 4 : 6, address: maskAddress(address, length), length });
  }

  touchLink(ifindex: number): void {
    this.#links.add(ifindex);
    this.#scanAt = 0;
  }

  touchAll(): void {
    this.#prefixes = [];
    this.#scan({ family: 4, address: new Uint8Array(4), length: 0 });
    this.#scan({ family: 6, address: new Uint8Array(16), length: 0 });
  }

  /** Looks at what was touched: as much as a slice allows now, the rest later. */
  run(): void {
    const { clock } = this.#options;
    const isOver = sliceOf(clock);
    while (this.#hasWork) {
      this.#work();
      if (isOver()) break;
    }
    if (this.#hasWork) this.later();
    if (this.#changed.size === 0 || (this.#hasWork && clock.monotonic() < this.#tellAt)) return;
    this.#tellAt = clock.monotonic() + TELL;
    this.#options.changed([...this.#changed]);
    this.#changed.clear();
  }

  /** The same, but not in this turn of the event loop. */
  later(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#closed) this.#options.guard(() => this.run());
    });
  }

  close(): void {
    this.#closed = true;
  }

  get #hasWork(): boolean {
    return this.#queueAt < this.#queue.length || this.#links.size > 0 || this.#prefixes.length > 0;
  }

  #work(): void {
    if (this.#touched) {
      this.#touched = false;
      for (const id of this.#looped) this.#enqueue(this.get(id));
      this.#touched = false;
    }
    for (let n = 0; n < STRIDE && this.#queueAt < this.#queue.length; n++) this.#lookAt(this.#queue[this.#queueAt++]);
    if (this.#queueAt < this.#queue.length) return;
    this.#queue = [];
    this.#queueAt = 0;
    if (this.#links.size > 0 || this.#prefixes.length > 0) this.#scanSome();
  }

  #scan(prefix: Prefix): void {
    this.#prefixes.push(prefix);
    this.#scanAt = 0;
  }

  #scanSome(): void {
    const end = Math.min(this.#scanAt + SCAN, this.#tracked.length);
    for (; this.#scanAt < end; this.#scanAt++) {
      const tracked = this.#tracked[this.#scanAt];
      if (tracked && this.#isConcerned(tracked)) this.#enqueue(tracked);
    }
    if (end < this.#tracked.length) return;
    this.#links.clear();
    this.#prefixes = [];
  }

  #isConcerned({ nextHop, ifindex, resolution }: Tracked): boolean {
    if (resolution.links?.some(link => this.#links.has(link))) return true;
    const address = decisiveAddress(nextHop, ifindex);
    return this.#prefixes.some(prefix => contains(prefix, address));
  }

  #lookAt(tracked: Tracked): void {
    tracked.queued = false;
    const { id, nextHop, ifindex } = tracked;
    // Released in the meantime.
    if (this.#tracked[id] !== tracked) return;
    const resolution = this.#options.resolve(nextHop, ifindex);
    if (!sameResolution(tracked.resolution, resolution)) this.#changed.add(id);
    tracked.resolution = resolution;
    if (resolution.looped) this.#looped.add(id);
    else this.#looped.delete(id);
  }

  readonly #enqueue = (tracked: Tracked): void => {
    this.#touched = true;
    if (tracked.queued) return;
    tracked.queued = true;
    this.#queue.push(tracked);
  };

  #treeOf({ nextHop, ifindex }: Tracked): AddressTree<Tracked> | undefined {
    const { length } = decisiveAddress(nextHop, ifindex);
    return length === 4 || length === 16 ? this.#trees[length] : undefined;
  }
}
