/**
 * Next-hop tracking (RFC 4271 sections 5.1.3 and 9.1.2.1): follows links, addresses and the routes of other owners in the kernel, and tells
 * which BGP next hops they make reachable now. What to conclude is in routing-table.ts; here are dumps, events and ids.
 */
import type { InterfaceAddress, KernelEvent, Link, Route } from "../../kernel/types.ts";
import type { Address } from "../../net/address.ts";
import type { Clock, KernelAccess, Logger, Timer } from "../platform.ts";
import { LOCAL_TABLE, RoutingTable, resolve, sameResolution } from "./routing-table.ts";
import type { NextHopTracker, Resolution } from "./types.ts";

export interface NextHopTrackerOptions {
  kernel: KernelAccess;
  /** rtm_protocol of our own routes: next hops are never resolved through them. */
  protocols: readonly number[];
  /** The table that our routes are in; next hops are resolved in it and in the main and local tables. */
  table: number;
  clock: Clock;
  log: Logger;
}

/** Dumps the kernel's state before it returns. Throws what rtnetlink throws. */
export function createNextHopTracker(options: NextHopTrackerOptions): NextHopTracker {
  return new KernelNextHopTracker(options);
}

interface Tracked {
  key: string;
  nextHop: Uint8Array;
  ifindex: number;
  references: number;
  resolution: Resolution;
}

const MAIN_TABLE = 254;
/** IPv4 routes vanish silently with their link or its last address: the routes are read again this many milliseconds after such an event. */
const REREAD_DELAY = 50;

class KernelNextHopTracker implements NextHopTracker {
  readonly #options: NextHopTrackerOptions;
  #tables: readonly number[];
  #protocols: readonly number[];
  readonly #ids = new Map<string, number>();
  readonly #tracked: (Tracked | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #listeners: ((ids: number[]) => void)[] = [];
  readonly #addressListeners: (() => void)[] = [];
  readonly #stop: () => void;
  #table = new RoutingTable();
  /** The copy that a running reread fills; events go into both. */
  #next: RoutingTable | undefined;
  #reread: Timer | undefined;
  #rereadAgain = false;
  #closed = false;

  constructor(options: NextHopTrackerOptions) {
    this.#options = options;
    this.#tables = tablesWith(options.table);
    this.#protocols = options.protocols;
    this.#stop = options.kernel.watch(events => this.#onEvents(events));
    try {
      for (const chunk of this.#read(this.#table)) this.#addRoutes(this.#table, chunk);
    } catch (error) {
      this.#stop();
      throw error;
    }
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
    this.#tracked[id] = { key, nextHop: copy, ifindex, references: 1, resolution: resolve(this.#table, copy, ifindex) };
    this.#ids.set(key, id);
    return id;
  }

  release(id: number): void {
    const tracked = this.#get(id);
    if (--tracked.references > 0) return;
    this.#ids.delete(tracked.key);
    this.#tracked[id] = undefined;
    this.#free.push(id);
  }

  resolution(id: number): Resolution {
    return this.#get(id).resolution;
  }

  addresses(): InterfaceAddress[] {
    return this.#table.addresses();
  }

  follow(table: number, protocols: readonly number[]): void {
    if (String(this.#protocols) === String(protocols) && String(this.#tables) === String(tablesWith(table))) return;
    this.#tables = tablesWith(table);
    this.#protocols = protocols;
    this.#rereadSoon();
  }

  onAddressChange(listener: () => void): void {
    this.#addressListeners.push(listener);
  }

  linkName(ifindex: number): string {
    return this.#table.linkName(ifindex);
  }

  isLocal(address: Address): boolean {
    return this.#table.isLocal(address);
  }

  sharesSubnet(a: Address, b: Address): boolean {
    return this.#table.sharesSubnet(a, b);
  }

  onChange(listener: (ids: number[]) => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    this.#closed = true;
    this.#reread?.cancel();
    this.#stop();
  }

  #get(id: number): Tracked {
    const tracked = this.#tracked[id];
    if (!tracked) throw new RangeError(`next hop ${id} is not tracked (released too often?)`);
    return tracked;
  }

  #onEvents(events: KernelEvent[]): void {
    if (this.#closed) return;
    let relevant = false;
    try {
      for (const event of events) relevant = this.#onEvent(event) || relevant;
      if (relevant) this.#resolveAll();
      if (events.some(({ type }) => type === "address" || type === "link")) this.#addressesChanged();
    } catch (error) {
      // What the rest of the events would have told, a dump tells.
      this.#rereadSoon();
      throw error;
    }
  }

  /** Whether resolutions may have changed. */
  #onEvent(event: KernelEvent): boolean {
    switch (event.type) {
      case "link":
        return this.#onLink(event.action, event.link);
      case "address":
        this.#each(table => (event.action === "new" ? table.setAddress(event.address) : table.deleteAddress(event.address)));
        if (event.action === "delete") this.#rereadSoon();
        return true;
      case "route":
        if (!this.#concerns(event.route)) return false;
        this.#each(table => (event.action === "new" ? table.setRoute(event.route, event.order) : table.deleteRoute(event.route)));
        return true;
      case "overrun":
        this.#options.log.warn({}, "kernel events were lost; reading links, addresses and routes again");
        this.#rereadSoon();
        return false;
      default:
        return false;
    }
  }

  #onLink(action: "new" | "delete", link: Link): boolean {
    const before = this.#table.links.get(link.index);
    this.#each(table => (action === "new" ? table.setLink(link) : table.deleteLink(link.index)));
    if (action === "new" && before && before.up === link.up && before.carrier === link.carrier && before.name === link.name) return false;
    if (before && before.up !== (action === "new" && link.up)) this.#rereadSoon();
    return true;
  }

  #each(change: (table: RoutingTable) => void): void {
    change(this.#table);
    if (this.#next) change(this.#next);
  }

  /** Not a route for some packets only: ours have no source or DS field of their own that it could ask for. */
  #concerns(route: Route): boolean {
    if (route.tos !== undefined || route.sourceLength !== undefined) return false;
    return !this.#protocols.includes(route.protocol) && this.#tables.includes(route.table);
  }

  #resolveAll(): void {
    const changed: number[] = [];
    for (const [id, tracked] of this.#tracked.entries()) {
      if (!tracked) continue;
      const resolution = resolve(this.#table, tracked.nextHop, tracked.ifindex);
      if (!sameResolution(tracked.resolution, resolution)) changed.push(id);
      tracked.resolution = resolution;
    }
    if (changed.length > 0) for (const listener of this.#listeners) listener(changed);
  }

  #addressesChanged(): void {
    for (const listener of this.#addressListeners) listener();
  }

  #rereadSoon(): void {
    if (this.#next) this.#rereadAgain = true;
    else this.#reread ??= this.#options.clock.after(REREAD_DELAY, () => void this.#rereadNow());
  }

  /** Chunk by chunk: our own routes are in the dump as well, and may be a million. */
  async #rereadNow(): Promise<void> {
    this.#reread = undefined;
    this.#next = new RoutingTable();
    try {
      for (const chunk of this.#read(this.#next)) {
        this.#addRoutes(this.#next, chunk);
        await new Promise(resolve => setImmediate(resolve));
        if (this.#closed) return;
      }
      this.#table = this.#next;
    } catch (error) {
      this.#options.log.error({ error }, "cannot read the kernel's routes; trying again after the next event");
    } finally {
      this.#next = undefined;
    }
    this.#resolveAll();
    this.#addressesChanged();
    if (!this.#rereadAgain) return;
    this.#rereadAgain = false;
    this.#rereadSoon();
  }

  *#read(into: RoutingTable): Generator<Route[]> {
    const { netlink } = this.#options.kernel;
    for (const link of netlink.links()) into.setLink(link);
    for (const address of netlink.addresses()) into.setAddress(address);
    for (const table of this.#tables) yield* netlink.routes({ table });
  }

  #addRoutes(into: RoutingTable, chunk: Route[]): void {
    for (const route of chunk) if (this.#concerns(route)) into.setRoute(route);
  }
}

function tablesWith(table: number): number[] {
  return [...new Set([MAIN_TABLE, LOCAL_TABLE, table])];
}
