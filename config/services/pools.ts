/**
 * AddressPools as one space of addresses, none of which is in two pools, with what of it is in use. The lowest free address is found without looking at those
 * that are used: IPv6 ranges are huge, and ten thousand Services are given theirs in one go.
 */
import { type IpFamily, parseAddress } from "../../net/address.ts";
import { selects } from "../../platform/label-selector.ts";
import { byName } from "../compile/context.ts";
import type { Problem } from "../plan.ts";
import type { AddressPool } from "../resources/kinds.ts";
import { type AddressRange, parseRange, toNumber, toText } from "./ranges.ts";

/** Part of a range, or all of it: what no pool before has. */
interface Segment extends AddressRange {
  pool: AddressPool;
  /** What is below is in use, or in `freed`. */
  next: bigint;
  /** Ascending; some may be in use again. */
  freed: bigint[];
}

export interface FamilyUsage {
  used: number;
  free: number;
}

export interface PoolUsage {
  ipv4?: FamilyUsage;
  ipv6?: FamilyUsage;
}

/** The class of Services that podlane gives addresses to, besides those with none. */
export const OWN_CLASS = "podlane.io/load-balancer";
const MOST_TOLD = BigInt(Number.MAX_SAFE_INTEGER);

export class PoolSpace {
  /** What is wrong with the pools as such. */
  readonly problems: Problem[] = [];
  readonly #pools: ReadonlyMap<string, AddressPool>;
  /** In the order in which they are tried. */
  readonly ordered: readonly AddressPool[];
  /** Ascending, none overlapping. */
  readonly #segments: Record<IpFamily, Segment[]> = { 4: [], 6: [] };
  readonly #ofPool = new Map<string, Segment[]>();
  readonly #used: Record<IpFamily, Set<bigint>> = { 4: new Set(), 6: new Set() };
  /** By pool and family. */
  readonly #counts = new Map<string, Record<IpFamily, number>>();

  constructor(pools: ReadonlyMap<string, AddressPool>) {
    this.#pools = pools;
    for (const pool of byName(pools)) {
      pool.spec.addresses.forEach((text, i) => {
        this.#addRange(pool, text, `spec.addresses[${i}]`);
      });
    }
    for (const family of [4, 6] as const) {
      for (const segment of this.#segments[family]) {
        const { name } = segment.pool.metadata;
        this.#ofPool.set(name, [...(this.#ofPool.get(name) ?? []), segment]);
      }
    }
    this.ordered = byName(pools).sort((a, b) => rank(a) - rank(b) || Number(isNarrow(b)) - Number(isNarrow(a)));
  }

  pool(name: string): AddressPool | undefined {
    return this.#pools.get(name);
  }

  poolOf(address: string): AddressPool | undefined {
    return this.#segmentOf(familyOf(address), numberOf(address))?.pool;
  }

  has(pool: string, family: IpFamily): boolean {
    return this.#ofPool.get(pool)?.some(segment => segment.family === family) ?? false;
  }

  /** In use from now on. */
  take(address: string): void {
    const [family, number] = [familyOf(address), numberOf(address)];
    if (this.#used[family].has(number)) return;
    this.#used[family].add(number);
    this.#count(family, number, 1);
  }

  /** Free from now on. */
  release(address: string): void {
    const [family, number] = [familyOf(address), numberOf(address)];
    if (!this.#used[family].delete(number)) return;
    this.#count(family, number, -1);
    const segment = this.#segmentOf(family, number);
    if (!segment || number >= segment.next) return;
    const at = firstIndex(segment.freed, one => one >= number);
    if (segment.freed[at] !== number) segment.freed.splice(at, 0, number);
  }

  lowestFree(pool: string, family: IpFamily): string | undefined {
    for (const segment of this.#ofPool.get(pool) ?? []) {
      if (segment.family !== family) continue;
      const number = this.#lowestOf(segment);
      if (number !== undefined) return toText(family, number);
    }
    return undefined;
  }

  usage(pool: string): PoolUsage {
    const usage: PoolUsage = {};
    for (const [family, field] of [
      [4, "ipv4"],
      [6, "ipv6"],
    ] as const) {
      const segments = (this.#ofPool.get(pool) ?? []).filter(segment => segment.family === family);
      if (segments.length === 0) continue;
      const used = this.#counts.get(pool)?.[family] ?? 0;
      const free = segments.reduce((sum, segment) => sum + sizeOf(segment), 0n) - BigInt(used);
      usage[field] = { used, free: Number(free < 0n ? 0n : free > MOST_TOLD ? MOST_TOLD : free) };
    }
    return usage;
  }

  #lowestOf(segment: Segment): bigint | undefined {
    const { freed, family, last } = segment;
    const used = this.#used[family];
    const odd = (number: bigint) => segment.pool.spec.avoidBuggyIPs && isBuggy(family, number);
    while (freed.length > 0) {
      if (!used.has(freed[0]) && !odd(freed[0])) return freed[0];
      freed.shift();
    }
    while (segment.next <= last && (used.has(segment.next) || odd(segment.next))) segment.next++;
    return segment.next <= last ? segment.next : undefined;
  }

  #count(family: IpFamily, number: bigint, difference: number): void {
    const name = this.#segmentOf(family, number)?.pool.metadata.name;
    if (name === undefined) return;
    const counts = this.#counts.get(name) ?? { 4: 0, 6: 0 };
    counts[family] += difference;
    this.#counts.set(name, counts);
  }

  #segmentOf(family: IpFamily, number: bigint): Segment | undefined {
    const segments = this.#segments[family];
    const segment = segments[firstIndex(segments, one => one.last >= number)];
    return segment && segment.first <= number ? segment : undefined;
  }

  /** What another pool has already stays with it. */
  #addRange(pool: AddressPool, text: string, field: string): void {
    const object = `AddressPool/${pool.metadata.name}`;
    const range = parseRange(text);
    if (!range) {
      const message = `${text}: the last address is below the first`;
      this.problems.push({ severity: "error", reason: "InvalidValue", object, field, message, remedy: "write the lower address first" });
      return;
    }
    const segments = this.#segments[range.family];
    const from = firstIndex(segments, one => one.last >= range.first);
    const to = firstIndex(segments, one => one.first > range.last);
    const inTheWay = segments.slice(from, to);
    const parts: Segment[] = [];
    let at = range.first;
    for (const { first, last } of inTheWay) {
      if (at < first) parts.push({ family: range.family, first: at, last: first - 1n, pool, next: at, freed: [] });
      at = last + 1n;
    }
    if (at <= range.last) parts.push({ family: range.family, first: at, last: range.last, pool, next: at, freed: [] });
    segments.splice(from, to - from, ...[...inTheWay, ...parts].sort((a, b) => (a.first < b.first ? -1 : 1)));
    const others = [...new Set(inTheWay.map(one => one.pool.metadata.name))].filter(name => name !== pool.metadata.name);
    if (others.length === 0) return;
    const names = others.slice(0, 4).map(name => `AddressPool/${name}`);
    this.problems.push({
      severity: "error",
      reason: "RangesOverlap",
      object,
      field,
      message: `${text} has addresses that ${names.join(", ")}${others.length > 4 ? ` and ${others.length - 4} more` : ""} has as well: they stay there, the first by name`,
      remedy: "take them out of one of the pools",
    });
  }
}

/** What is wrong with AddressPools, whoever gives their addresses away. */
export function poolProblems(pools: ReadonlyMap<string, AddressPool>): Problem[] {
  return new PoolSpace(pools).problems;
}

/** Whether its Services are those with this class. */
export function servesClass({ spec }: AddressPool, loadBalancerClass: string | undefined): boolean {
  if (spec.loadBalancerClass !== undefined) return spec.loadBalancerClass === loadBalancerClass;
  return loadBalancerClass === undefined || loadBalancerClass === OWN_CLASS;
}

/** Whether Services with these labels in this namespace may have its addresses. `namespaceLabels`: undefined where they are not known. */
export function admits(
  { spec }: AddressPool,
  labels: Record<string, string>,
  namespace: string,
  namespaceLabels: Record<string, string> | undefined,
): boolean {
  const { serviceSelector, namespaceSelector, namespaces } = spec;
  if (serviceSelector && !selects(serviceSelector, labels)) return false;
  if (!namespaceSelector && !namespaces) return true;
  if (namespaces?.includes(namespace)) return true;
  return namespaceSelector !== undefined && namespaceLabels !== undefined && selects(namespaceSelector, namespaceLabels);
}

/** Those without a number last. */
function rank({ spec }: AddressPool): number {
  return spec.priority ?? 2 ** 31;
}

/** MetalLB tries pools that select Services before those that are for all. */
function isNarrow({ spec }: AddressPool): boolean {
  return spec.serviceSelector !== undefined || spec.namespaceSelector !== undefined || spec.namespaces !== undefined;
}

export function isBuggyAddress(address: string): boolean {
  return isBuggy(familyOf(address), numberOf(address));
}

function isBuggy(family: IpFamily, number: bigint): boolean {
  return family === 4 && (number % 256n === 0n || number % 256n === 255n);
}

/** Those that avoidBuggyIPs leaves out are none. */
function sizeOf({ pool, family, first, last }: Segment): bigint {
  const all = last - first + 1n;
  if (family === 6 || !pool.spec.avoidBuggyIPs) return all;
  return all - multiples(first, last) - multiples(first + 1n, last + 1n);
}

/** Of 256, from first to last. */
function multiples(first: bigint, last: bigint): bigint {
  return last / 256n - (first + 255n) / 256n + 1n;
}

export function familyOf(address: string): IpFamily {
  return address.includes(":") ? 6 : 4;
}

function numberOf(address: string): bigint {
  return toNumber(parseAddress(address));
}

/** Of those that are ascending; their number where there is none. */
function firstIndex<T>(ascending: readonly T[], holds: (one: T) => boolean): number {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(ascending[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}
