/** The routes that somebody asks for, a page at a time: in the order of their prefixes, which stays while routes come and go between pages. */
import { formatAddress, formatPrefix, isPrefix, type Prefix, parseAddress, parsePrefix } from "../net/address.ts";
import { type Clock, sliceOf } from "../platform/clock.ts";
import { type Family, FamilyTable } from "./family.ts";
import { turn } from "./fib/route-places.ts";
import type { Rib } from "./rib/rib.ts";
import type { RibTable } from "./rib/table.ts";
import type { RouteView } from "./snapshot.ts";
import { comparePrefixIds, wordsOf } from "./table/prefix-table.ts";
import { prefixViews, sourceOf } from "./views.ts";

const LOOK = 1024;

export interface RouteFilter {
  /** A prefix; an address stands for its longest match. */
  prefix?: string;
  /** With a prefix: everything inside it, too. */
  longer?: boolean;
  family?: Family;
  /** Only routes from this neighbour. */
  neighbor?: string;
  /** Routes on a page; default 1000. The routes of one prefix stay together, so a page may have some more. */
  limit?: number;
  /** The last prefix of the page before. */
  after?: string;
}

export interface RouteList {
  /** IPv4 before IPv6, then by address and length; of one prefix the best first. */
  routes: RouteView[];
  /** All that match, on whatever page. */
  total: number;
  /** What to ask for `after`, where there is more. */
  next?: string;
}

/**
 * Rejects with AddressError. A table is walked in slices, as it may hold a million prefixes: what comes and goes meanwhile may be in the answer or
 * not, and once at most.
 */
export async function listRoutes(rib: Rib, filter: RouteFilter, clock: Clock): Promise<RouteList> {
  const walk = walkRoutes(rib, filter);
  for (;;) {
    const isOver = sliceOf(clock);
    do {
      const step = walk.next();
      if (step.done) return step.value;
    } while (!isOver());
    await turn();
  }
}

/** Yields where others may have their turn: after every LOOK prefixes, whether they match or not. Throws AddressError. */
export function* walkRoutes(rib: Rib, filter: RouteFilter): Generator<undefined, RouteList> {
  const limit = filter.limit ?? 1000;
  const wanted = filter.prefix !== undefined && isPrefix(filter.prefix) ? parsePrefix(filter.prefix) : undefined;
  const address = filter.prefix !== undefined && !wanted ? parseAddress(filter.prefix) : undefined;
  const after = filter.after === undefined ? undefined : parsePrefix(filter.after);
  const list: RouteList = { routes: [], total: 0 };
  let last: string | undefined;
  for (const table of rib.tables) {
    if (filter.family && FamilyTable[table.family].name !== filter.family) continue;
    const page = new Page(table, limit, after);
    for (const prefix of address ? [longestMatch(table, address)] : matching(table, wanted, filter.longer ?? false)) {
      if (prefix % LOOK === 0) yield;
      // It may have gone while others had their turn.
      if (table.head[prefix] === 0) continue;
      const count = countPaths(rib, table, prefix, filter.neighbor);
      if (count === 0) continue;
      list.total += count;
      page.offer(prefix);
    }
    for (const prefix of page.prefixes()) {
      if (list.routes.length >= limit) {
        list.next ??= last;
        break;
      }
      if (table.head[prefix] === 0 || (after && !isAfter(table.prefixes, prefix, after))) continue;
      for (const view of prefixViews(rib, table, prefix)) if (!filter.neighbor || view.from === filter.neighbor) list.routes.push(view);
      last = formatPrefix(table.prefixes.prefix(prefix));
    }
  }
  return list;
}

/** The first prefixes after a place, of any number that are offered in any order: never holds more than twice a page. */
class Page {
  readonly #table: RibTable;
  readonly #size: number;
  readonly #after: Prefix | undefined;
  #kept: number[] = [];
  /** Once more was offered than kept: what comes behind this one is on a later page. */
  #last = 0;

  constructor(table: RibTable, limit: number, after: Prefix | undefined) {
    this.#table = table;
    // One more than a page tells that there is another.
    this.#size = limit + 1;
    this.#after = after;
  }

  offer(prefix: number): void {
    const { prefixes } = this.#table;
    if (this.#after && !isAfter(prefixes, prefix, this.#after)) return;
    if (this.#last !== 0 && comparePrefixIds(prefixes, prefix, this.#last) > 0) return;
    this.#kept.push(prefix);
    if (this.#kept.length >= 2 * this.#size) this.#cut();
  }

  prefixes(): readonly number[] {
    this.#cut();
    return this.#kept;
  }

  #cut(): void {
    this.#kept.sort((a, b) => comparePrefixIds(this.#table.prefixes, a, b));
    if (this.#kept.length <= this.#size) return;
    this.#kept.length = this.#size;
    this.#last = this.#kept[this.#size - 1];
  }
}

function isAfter(prefixes: RibTable["prefixes"], id: number, place: Prefix): boolean {
  const family = prefixes.words === 1 ? 4 : 6;
  if (place.family !== family) return family > place.family;
  const words = wordsOf(place.address);
  for (let n = 0; n < prefixes.words; n++) if (prefixes.word(id, n) !== words[n]) return prefixes.word(id, n) > words[n];
  return prefixes.length(id) > place.length;
}

function isInside(prefixes: RibTable["prefixes"], id: number, words: ArrayLike<number>, length: number): boolean {
  if (prefixes.length(id) < length) return false;
  for (let n = 0, left = length; left > 0; n++, left -= 32) {
    const mask = left >= 32 ? 0xffffffff : ~(0xffffffff >>> left);
    if (((prefixes.word(id, n) ^ words[n]) & mask) !== 0) return false;
  }
  return true;
}

function countPaths(rib: Rib, table: RibTable, prefix: number, neighbor: string | undefined): number {
  let count = 0;
  for (let path = table.head[prefix]; path !== 0; path = table.pathNext[path]) {
    if (neighbor === undefined || sourceOf(rib, table, path) === neighbor) count++;
  }
  return count;
}

function* matching(table: RibTable, wanted: Prefix | undefined, longer: boolean): Iterable<number> {
  if (wanted && wanted.address.length !== table.prefixes.words * 4) return;
  if (wanted && !longer) {
    yield table.prefixes.findPrefix(wanted);
    return;
  }
  const words = wanted && wordsOf(wanted.address);
  for (let id = 1; id < table.prefixes.limit; id++) {
    // One in so many comes along whether it matches or not, so that the caller can look at the clock.
    if (table.head[id] !== 0 && (!wanted || isInside(table.prefixes, id, words!, wanted.length))) yield id;
    else if (id % LOOK === 0) yield 0;
  }
}

/** Id of the longest prefix with a path that contains the address; 0 = none. */
function longestMatch(table: RibTable, address: Uint8Array): number {
  if (address.length !== table.prefixes.words * 4) return 0;
  for (let length = address.length * 8; length >= 0; length--) {
    const prefix = parsePrefix(`${formatAddress(address)}/${length}`, "clear");
    const id = table.prefixes.findPrefix(prefix);
    if (id !== 0 && table.head[id] !== 0) return id;
  }
  return 0;
}
