/**
 * Next-hop tracking (RFC 4271 sections 5.1.3 and 9.1.2.1): follows links, addresses and the routes of other owners in the kernel, and tells
 * which BGP next hops they, and our own routes, make reachable now. What to conclude is in resolve.ts, which next hops an event can concern in
 * tracked.ts; here are dumps and events.
 */
import type { KernelAccess } from "../../kernel/index.ts";
import type { InterfaceAddress, KernelEvent, Link, Route } from "../../kernel/types.ts";
import { type Address, familyOf, type IpFamily, maskAddress, type Prefix } from "../../net/address.ts";
import { type Clock, sliceOf, type Timer } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import type { Faults } from "../faults.ts";
import type { PrefixTable } from "../table/prefix-table.ts";
import { DISCARD_METRIC, effectiveMetric } from "./family-state.ts";
import { resolve } from "./resolve.ts";
import { turn } from "./route-places.ts";
import { LOCAL_TABLE, RoutingTable } from "./routing-table.ts";
import { TrackedNextHops } from "./tracked.ts";
import type { NextHopTracker, OwnRoutes, OwnWays, Resolution, RouteRow, TrackedPlace, Tunnels } from "./types.ts";

/** Next hops are resolved in the table of our routes, and in the main and local tables; there routes with a protocol number of ours are left out. */
export interface NextHopTrackerOptions extends TrackedPlace {
  kernel: KernelAccess;
  clock: Clock;
  log: Logger;
  faults?: Faults;
  tunnels?: Tunnels;
}

/** Dumps the kernel's state before it returns. Throws what rtnetlink throws. */
export function createNextHopTracker(options: NextHopTrackerOptions): NextHopTracker {
  return new KernelNextHopTracker(options);
}

const MAIN_TABLE = 254;
/** IPv4 routes vanish silently with their link or its last address: the routes are read again this many milliseconds after such an event. */
const REREAD_DELAY = 50;
/** Milliseconds after which routes that could not be read are read again. */
const REREAD_RETRY = 2000;

class KernelNextHopTracker implements NextHopTracker {
  readonly #options: NextHopTrackerOptions;
  #place: TrackedPlace;
  readonly #tracked: TrackedNextHops;
  readonly #listeners: ((ids: number[]) => void)[] = [];
  readonly #addressListeners: (() => void)[] = [];
  readonly #stop: () => void;
  #table = new RoutingTable();
  #own: OwnWays | undefined;
  /** The copy that a running reread fills; events go into both. */
  #next: RoutingTable | undefined;
  #reread: Timer | undefined;
  #retry: Timer | undefined;
  #rereading = false;
  #rereadAgain = false;
  #closed = false;
  /** Octets of the prefix at hand, by their number. */
  readonly #scratch = { 4: new Uint8Array(4), 16: new Uint8Array(16) };

  constructor(options: NextHopTrackerOptions) {
    this.#options = options;
    this.#place = options;
    this.#tracked = new TrackedNextHops({
      clock: options.clock,
      resolve: (nextHop, ifindex) => resolve(this.#table, nextHop, ifindex, this.#own, options.tunnels),
      changed: ids => {
        for (const listener of this.#listeners) listener(ids);
      },
      guard: work => (options.faults ? options.faults.guard("next hops", work, () => this.#rereadSoon()) : work()),
    });
    this.#stop = options.kernel.watch(events => this.#onEvents(events));
    try {
      for (const chunk of this.#read(this.#table)) this.#addRoutes(this.#table, chunk);
    } catch (error) {
      this.#stop();
      throw error;
    }
  }

  track(nextHop: Uint8Array, ifindex: number): number {
    return this.#tracked.track(nextHop, ifindex);
  }

  release(id: number): void {
    this.#tracked.release(id);
  }

  resolution(id: number): Resolution {
    return this.#tracked.get(id).resolution;
  }

  get busy(): boolean {
    return this.#tracked.busy;
  }

  resolveThrough(routes: OwnRoutes): void {
    const metrics = (family: IpFamily) => ({ unicast: effectiveMetric(family, this.#place.metric), discard: DISCARD_METRIC });
    const tracked = this.#tracked;
    this.#own = {
      routes,
      get metrics() {
        return { 4: metrics(4), 6: metrics(6) };
      },
      nextHop: id => tracked.get(id),
    };
    tracked.touchAll();
    tracked.later();
  }

  ownRouteChanged(prefixes: PrefixTable, id: number): void {
    const octets = this.#scratch[prefixes.words === 1 ? 4 : 16];
    for (let n = 0; n < octets.length; n++) octets[n] = prefixes.word(id, n >> 2) >>> (24 - 8 * (n & 3));
    this.#touch(octets, prefixes.length(id));
    if (this.#tracked.busy) this.#tracked.later();
  }

  tunnelsChanged(nextHops: readonly Address[] | "all"): void {
    if (nextHops === "all") this.#tracked.touchAll();
    else for (const address of nextHops) this.#tracked.touch(address, 8 * address.length);
    if (this.#tracked.busy) this.#tracked.later();
  }

  addresses(): InterfaceAddress[] {
    return this.#table.addresses();
  }

  follow(place: TrackedPlace): void {
    const before = this.#place;
    this.#place = place;
    if (before.metric !== place.metric) {
      this.#tracked.touchAll();
      this.#tracked.later();
    }
    if (before.table !== place.table || String(before.protocols) !== String(place.protocols)) this.#rereadSoon();
  }

  onAddressChange(listener: () => void): void {
    this.#addressListeners.push(listener);
  }

  foreignRoutes(prefix: Prefix): readonly RouteRow[] {
    return this.#table.routesOf(prefix);
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
    this.#tracked.close();
    this.#reread?.cancel();
    this.#retry?.cancel();
    this.#stop();
  }

  #onEvents(events: KernelEvent[]): void {
    if (this.#closed) return;
    try {
      for (const event of events) this.#onEvent(event);
      this.#tracked.run();
      if (events.some(({ type }) => type === "address" || type === "link")) this.#addressesChanged();
    } catch (error) {
      // What the rest of the events would have told, a dump tells.
      this.#rereadSoon();
      throw error;
    }
  }

  /** `address` of 4 or 16 octets, bits beyond `length` are not looked at. */
  #touch(address: Uint8Array, length: number): void {
    this.#tracked.touch(address, length);
    const { tunnels } = this.#options;
    if (!tunnels) return;
    const prefix = { family: familyOf(address), address: maskAddress(address, length), length };
    for (const nextHop of tunnels.behind(prefix)) this.#tracked.touch(nextHop, 8 * nextHop.length);
  }

  #onEvent(event: KernelEvent): void {
    if (event.type === "link") this.#onLink(event.action, event.link);
    else if (event.type === "address") {
      const { address } = event;
      this.#each(table => (event.action === "new" ? table.setAddress(address) : table.deleteAddress(address)));
      this.#touch(address.address, 8 * address.address.length);
      if (event.action === "delete") this.#rereadSoon();
    } else if (event.type === "route") {
      const { route } = event;
      if (!this.#concerns(route)) return;
      this.#each(table => (event.action === "new" ? table.setRoute(route, event.order) : table.deleteRoute(route)));
      this.#touch(route.destination, route.length);
    } else if (event.type === "overrun") {
      this.#options.log.warn({}, "kernel events were lost; reading links, addresses and routes again");
      this.#rereadSoon();
    }
  }

  #onLink(action: "new" | "delete", link: Link): void {
    const before = this.#table.links.get(link.index);
    this.#each(table => (action === "new" ? table.setLink(link) : table.deleteLink(link.index)));
    if (action === "new" && sameState(before, link)) return;
    if (before && before.up !== (action === "new" && link.up)) this.#rereadSoon();
    this.#tracked.touchLink(link.index);
  }

  #each(change: (table: RoutingTable) => void): void {
    change(this.#table);
    if (this.#next) change(this.#next);
  }

  /** Not a route for some packets only: ours have no source or DS field of their own that it could ask for. */
  #concerns(route: Route): boolean {
    if (route.tos !== undefined || route.sourceLength !== undefined) return false;
    return !this.#place.protocols.includes(route.protocol) && tablesWith(this.#place).includes(route.table);
  }

  #addressesChanged(): void {
    for (const listener of this.#addressListeners) listener();
  }

  #rereadSoon(): void {
    if (this.#rereading) this.#rereadAgain = true;
    else this.#reread ??= this.#options.clock.after(REREAD_DELAY, () => void this.#rereadNow());
  }

  /** Chunk by chunk: our own routes are in the dump as well, and may be a million. */
  async #rereadNow(): Promise<void> {
    this.#reread = undefined;
    this.#rereading = true;
    this.#next = new RoutingTable(this.#table);
    try {
      for (const chunk of this.#read(this.#next)) {
        this.#addRoutes(this.#next, chunk);
        await turn();
        if (this.#closed) return;
      }
      const before = this.#table;
      this.#table = this.#next;
      this.#next = undefined;
      await this.#touchDifferences(before);
    } catch (error) {
      this.#options.log.error({ error }, `cannot read the kernel's routes; trying again in ${REREAD_RETRY / 1000} s`);
      this.#retry ??= this.#options.clock.after(REREAD_RETRY, () => {
        this.#retry = undefined;
        this.#rereadSoon();
      });
    } finally {
      this.#next = undefined;
      this.#rereading = false;
    }
    if (this.#closed) return;
    this.#tracked.run();
    this.#addressesChanged();
    if (!this.#rereadAgain) return;
    this.#rereadAgain = false;
    this.#rereadSoon();
  }

  /** What events did not tell. The table in use has all events since, and is not read again while this runs. */
  async #touchDifferences(before: RoutingTable): Promise<void> {
    const now = this.#table;
    for (const index of new Set([...before.links.keys(), ...now.links.keys()])) {
      if (!sameState(before.links.get(index), now.links.get(index))) this.#tracked.touchLink(index);
    }
    const [former, present] = [before, now].map(table => new Map(table.addresses().map(({ address }) => [String(address), address])));
    for (const [key, address] of former) if (!present.has(key)) this.#touch(address, 8 * address.length);
    for (const [key, address] of present) if (!former.has(key)) this.#touch(address, 8 * address.length);
    let isOver = sliceOf(this.#options.clock);
    for (const _ of before.differences(now, ({ address, length }) => this.#touch(address, length))) {
      if (!isOver()) continue;
      await turn();
      if (this.#closed) return;
      isOver = sliceOf(this.#options.clock);
    }
  }

  *#read(into: RoutingTable): Generator<Route[]> {
    const { netlink } = this.#options.kernel;
    for (const link of netlink.links()) into.setLink(link);
    for (const address of netlink.addresses()) into.setAddress(address);
    for (const table of tablesWith(this.#place)) yield* netlink.routes({ table });
  }

  #addRoutes(into: RoutingTable, chunk: Route[]): void {
    for (const route of chunk) if (this.#concerns(route)) into.setRoute(route);
  }
}

function tablesWith({ table }: TrackedPlace): number[] {
  return [...new Set([MAIN_TABLE, LOCAL_TABLE, table])];
}

/** As far as a way over it is concerned. */
function sameState(a: Link | undefined, b: Link | undefined): boolean {
  return a !== undefined && b !== undefined && a.up === b.up && a.carrier === b.carrier && a.name === b.name;
}
