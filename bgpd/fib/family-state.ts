/**
 * What the FIB knows of one family: for each prefix the wish and what the kernel holds, as columns indexed by prefix id (about 25 octets a
 * prefix for IPv4), and the few prefixes that are out of the ordinary in maps.
 */
import type { Route } from "../../kernel/types.ts";
import type { IpFamily, Prefix } from "../../net/address.ts";
import { grown } from "../table/growth.ts";
import { PrefixTable } from "../table/prefix-table.ts";
import { BLACKHOLE, type Entries, type EntryId, NONE } from "./entries.ts";

/**
 * Metric of our discard routes: worse than any route that forwards, so that a connected or learned one wins. 4294967295, the worst of all, is
 * that of the kernel's own IPv6 "unreachable default".
 */
export const DISCARD_METRIC = 4294967294;

/**
 * What a configured metric means. IPv6 has no 0: the kernel would read it as 1024, which is that of router advertisements and of whatever is added
 * without one, and chance would decide between them and ours. So 0 is one better there, as it is the best of all for IPv4.
 */
export function effectiveMetric(family: IpFamily, configured: number): number {
  return family === 6 && configured === 0 ? 1023 : configured;
}

export const Flag = {
  /** In the queue. */
  Queued: 1,
  /** The kernel holds our discard route. */
  Discard: 2,
  /** Found at start, and nobody has asked for it yet. */
  Adopted: 4,
  /** Found, or written, since the running dump began: the unicast route. */
  Seen: 8,
  /** The same for the discard route. */
  SeenDiscard: 16,
} as const;

/** What an event said about a route of ours that is not what we know. */
export interface Suspect {
  unicast?: EntryId;
  discard?: boolean;
  /** Clock.monotonic() at which it is believed. */
  due: number;
}

export class FamilyState {
  readonly family: IpFamily;
  /** As the kernel reports it: see effectiveMetric(). */
  readonly metric: number;
  readonly prefixes: PrefixTable;
  readonly failed = new Set<number>();
  readonly suspects = new Map<number, Suspect>();
  /** Routes of other owners that stand where one of ours would: by place (see placeOf), protocol and the dump or event that last showed it. */
  readonly foreign = new Map<string, { protocol: number; generation: number }>();
  /** Routes that stand in our place with a former protocol number of ours, by id and kind: they are written again, or go by that number. */
  readonly #formerProtocols = new Map<number, number>();
  /** Prefixes for which the kernel holds a route of ours. */
  installed = 0;
  flags: Uint8Array;
  #want: Uint32Array;
  #have: Uint32Array;
  #queue: number[] = [];
  #head = 0;
  readonly #entries: Entries;

  constructor(family: IpFamily, metric: number, entries: Entries) {
    this.family = family;
    this.metric = effectiveMetric(family, metric);
    this.#entries = entries;
    this.prefixes = new PrefixTable(family, capacity => [() => this.#grow(capacity)]);
    this.flags = new Uint8Array(this.prefixes.capacity);
    this.#want = new Uint32Array(this.prefixes.capacity);
    this.#have = new Uint32Array(this.prefixes.capacity);
  }

  get pending(): number {
    return this.#queue.length - this.#head;
  }

  want(id: number): EntryId {
    return this.#want[id];
  }

  /** The unicast route that the kernel holds. */
  have(id: number): EntryId {
    return this.#have[id];
  }

  hasDiscard(id: number): boolean {
    return (this.flags[id] & Flag.Discard) !== 0;
  }

  has(id: number): boolean {
    return this.#have[id] !== NONE || this.hasDiscard(id);
  }

  /** Whether the kernel holds what is wanted. */
  satisfied(id: number): boolean {
    const want = this.#want[id];
    if (want !== NONE && this.hasFormerProtocol(id, want === BLACKHOLE)) return false;
    if (want === BLACKHOLE) return this.hasDiscard(id) && this.#have[id] === NONE;
    if (want === NONE && (this.flags[id] & Flag.Adopted) !== 0) return true;
    return !this.hasDiscard(id) && this.#entries.equivalent(want, this.#have[id]);
  }

  /** Takes over the caller's reference to the entry. */
  setWant(id: number, entry: EntryId): void {
    this.#entries.release(this.#want[id]);
    this.#want[id] = entry;
  }

  /** Takes over the caller's reference to the entry. */
  setHave(id: number, entry: EntryId): void {
    const had = this.has(id);
    this.#entries.release(this.#have[id]);
    this.#have[id] = entry;
    if (entry === NONE) this.setProtocol(id, false, undefined);
    this.#count(had, id);
  }

  setDiscard(id: number, present: boolean): void {
    const had = this.has(id);
    if (present) this.flags[id] |= Flag.Discard;
    else this.flags[id] &= ~Flag.Discard;
    if (!present) this.setProtocol(id, true, undefined);
    this.#count(had, id);
  }

  hasFormerProtocol(id: number, discard: boolean): boolean {
    return this.#formerProtocols.size > 0 && this.#formerProtocols.has(2 * id + Number(discard));
  }

  /** With which number the kernel holds our route; undefined = none, or the present one. */
  formerProtocol(id: number, discard: boolean): number | undefined {
    return this.#formerProtocols.get(2 * id + Number(discard));
  }

  setProtocol(id: number, discard: boolean, former: number | undefined): void {
    if (former !== undefined) this.#formerProtocols.set(2 * id + Number(discard), former);
    else if (this.#formerProtocols.size > 0) this.#formerProtocols.delete(2 * id + Number(discard));
  }

  /** What events said of it before is past: it was written just now. */
  clearSuspect(id: number): void {
    const suspect = this.suspects.get(id);
    if (suspect === undefined) return;
    if (suspect.unicast !== undefined) this.#entries.release(suspect.unicast);
    this.suspects.delete(id);
  }

  enqueue(id: number): void {
    if ((this.flags[id] & Flag.Queued) !== 0) return;
    this.flags[id] |= Flag.Queued;
    this.#queue.push(id);
  }

  dequeue(limit: number): number[] {
    const ids = this.#queue.slice(this.#head, this.#head + limit);
    this.#head += ids.length;
    if (this.#head === this.#queue.length || this.#head > 65_536) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    for (const id of ids) this.flags[id] &= ~Flag.Queued;
    return ids;
  }

  /** Lets go of a prefix about which there is nothing left to know. */
  forget(id: number): void {
    if (this.#want[id] !== NONE || this.has(id) || (this.flags[id] & Flag.Queued) !== 0 || this.suspects.has(id)) return;
    this.failed.delete(id);
    this.flags[id] = 0;
    this.prefixes.free(id);
  }

  /** Calls `visit` with every prefix id in use. */
  each(visit: (id: number) => void): void {
    for (let id = 1; id < this.prefixes.limit; id++) if (this.#want[id] !== NONE || this.has(id)) visit(id);
  }

  /** Whether a route stands where one of ours would: its place is what the kernel tells routes of one table apart by. */
  placeOf(route: Route): string | undefined {
    if (route.tos !== undefined || route.sourceLength !== undefined) return undefined;
    if (route.metric !== this.metric && route.metric !== DISCARD_METRIC) return undefined;
    return this.place(route, route.metric);
  }

  place(prefix: Pick<Route, "destination" | "length">, metric: number): string {
    return `${prefix.destination.join(".")}/${prefix.length} ${metric}`;
  }

  prefixOf(route: Route): Prefix {
    return { family: this.family, address: route.destination, length: route.length };
  }

  #count(had: boolean, id: number): void {
    this.installed += Number(this.has(id)) - Number(had);
  }

  #grow(capacity: number): void {
    this.flags = grown(this.flags, capacity);
    this.#want = grown(this.#want, capacity);
    this.#have = grown(this.#have, capacity);
  }
}
