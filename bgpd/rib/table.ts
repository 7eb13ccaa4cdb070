/**
 * Adj-RIB-In and Loc-RIB of one family: for each prefix a chain of paths, one per slot, and the best of them. Everything is arrays of
 * numbers indexed by prefix id or path id; objects with names are made at the edges only.
 */
import { formatPrefix } from "../../net/address.ts";
import { type FamilyIndex, FamilyTable } from "../family.ts";
import type { Faults } from "../faults.ts";
import type { AttributeSets } from "../table/attribute-sets.ts";
import { Growth, grown } from "../table/growth.ts";
import { PrefixTable } from "../table/prefix-table.ts";
import { Candidates, type DecisionOptions, decide, isMultipathEqual, Step } from "./decision.ts";
import { type NextHopColumns, THROUGH_OURS } from "./next-hops.ts";
import { Rejected, type RejectedReason } from "./rejected.ts";
import { LOCAL_SLOT, type Slots } from "./slots.ts";

const reasons = Object.keys(Rejected) as RejectedReason[];

/** Bits of the per-prefix state. */
const QUEUED = 1;
/** The best path's attributes changed, or it went: listeners must hear of it although the path id may be the same. */
const BEST_TOUCHED = 2;
/** A next hop of one of its paths resolves differently: the kernel route must be looked at again. */
const HOPS_TOUCHED = 4;
/** It is in `#orphans`. */
const ORPHAN = 8;

export interface TableListener {
  /** The best path of the prefix is another one, has other attributes, or is gone (`best` = 0). */
  bestChanged(prefix: number, best: number): void;
  /** The decision ran: the set of next hops may differ. */
  decided(prefix: number, best: number, hopsTouched: boolean): void;
}

export interface MultipathOptions {
  ebgp: number;
  ibgp: number;
  asPathRelax: boolean;
}

export class RibTable {
  readonly family: FamilyIndex;
  readonly prefixes: PrefixTable;
  readonly attributes: AttributeSets;
  readonly slots: Slots;
  readonly nextHops: NextHopColumns;
  readonly candidates = new Candidates();
  /** Path ids of the rows of `candidates`. */
  readonly candidatePaths: number[] = [];
  decision: DecisionOptions = { alwaysCompareMed: false, preferOldest: false };
  multipath: MultipathOptions = { ebgp: 1, ibgp: 1, asPathRelax: false };
  listener: TableListener | undefined;
  faults: Faults | undefined;

  /** By prefix id: first path, best path. 0 = none. */
  head: Uint32Array;
  best: Uint32Array;
  #state: Uint8Array;

  // By path id.
  pathNext = new Uint32Array(1024);
  pathPrefix = new Uint32Array(1024);
  pathSlot = new Uint16Array(1024);
  /** As received; 0 for local routes. */
  pathRaw = new Uint32Array(1024);
  /** After import policy; 0 = rejected. */
  pathAttributes = new Uint32Array(1024);
  pathFlags = new Uint16Array(1024);
  /** 1 = accepted, but its next hop could not be reached when its prefix was last decided: counted at its slot. */
  #unreachable = new Uint8Array(1024);
  /** Seconds since the table was made. */
  pathTime = new Uint32Array(1024);
  pathLimit = 1;
  pathCount = 0;
  #freePaths: number[] = [];
  readonly #growth = new Growth(this.pathNext.length, length => [
    () => {
      this.pathNext = grown(this.pathNext, length);
    },
    () => {
      this.pathPrefix = grown(this.pathPrefix, length);
    },
    () => {
      this.pathSlot = grown(this.pathSlot, length);
    },
    () => {
      this.pathRaw = grown(this.pathRaw, length);
    },
    () => {
      this.pathAttributes = grown(this.pathAttributes, length);
    },
    () => {
      this.pathFlags = grown(this.pathFlags, length);
    },
    () => {
      this.pathTime = grown(this.pathTime, length);
    },
    () => {
      this.#unreachable = grown(this.#unreachable, length);
    },
  ]);

  bestCount = 0;
  #queue: number[] = [];
  #queueAt = 0;
  /** Prefixes that lost their last path: freed when no update group remembers them. */
  #orphans: number[] = [];

  /** `growers`: as for PrefixTable. */
  constructor(
    family: FamilyIndex,
    attributes: AttributeSets,
    slots: Slots,
    nextHops: NextHopColumns,
    growers: (capacity: number) => (() => void)[],
  ) {
    this.family = family;
    this.attributes = attributes;
    this.slots = slots;
    this.nextHops = nextHops;
    this.prefixes = new PrefixTable(FamilyTable[family].ip, capacity => [
      () => {
        this.head = grown(this.head, capacity);
      },
      () => {
        this.best = grown(this.best, capacity);
      },
      () => {
        this.#state = grown(this.#state, capacity);
      },
      ...growers(capacity),
    ]);
    this.head = new Uint32Array(this.prefixes.capacity);
    this.best = new Uint32Array(this.prefixes.capacity);
    this.#state = new Uint8Array(this.prefixes.capacity);
  }

  /** The path of a slot for a prefix; 0 = none. */
  findPath(prefix: number, slot: number): number {
    let path = this.head[prefix];
    while (path !== 0 && this.pathSlot[path] !== slot) path = this.pathNext[path];
    return path;
  }

  /**
   * Sets the path of `slot` for `prefix`, replacing its former one or the one of its stale slot. The table takes its own references to
   * `raw` and `attributes`. Returns whether the slot now has a path more than before.
   */
  announce(prefix: number, slotId: number, staleSlot: number, raw: number, attributes: number, flags: number, now: number): boolean {
    let path = this.findPath(prefix, slotId);
    let added = false;
    if (path === 0) {
      added = true;
      if (staleSlot >= 0) path = this.#takeOver(prefix, staleSlot, slotId);
      if (path === 0) {
        path = this.#newPath();
        this.pathPrefix[path] = prefix;
        this.pathSlot[path] = slotId;
        this.pathNext[path] = this.head[prefix];
        this.head[prefix] = path;
        this.pathTime[path] = now;
        this.pathCount++;
        this.#assign(path, raw, attributes, flags, 0, 0);
        this.#count(slotId, 1, attributes !== 0 ? 1 : 0);
        if (flags !== 0) this.#countRejected(slotId, flags, 1);
        this.enqueue(prefix, 0);
        return true;
      }
    }
    if (this.pathRaw[path] === raw && this.pathAttributes[path] === attributes && this.pathFlags[path] === flags) return added;
    const wasAccepted = this.pathAttributes[path] !== 0;
    const attributesChanged = this.pathAttributes[path] !== attributes;
    if (this.pathFlags[path] !== flags) {
      this.#countRejected(slotId, this.pathFlags[path], -1);
      this.#countRejected(slotId, flags, 1);
    }
    this.#assign(path, raw, attributes, flags, this.pathRaw[path], this.pathAttributes[path]);
    if (attributesChanged) this.pathTime[path] = now;
    this.#count(slotId, 0, (attributes !== 0 ? 1 : 0) - (wasAccepted ? 1 : 0));
    const wasBest = this.best[prefix] === path;
    if (wasBest && attributes === 0) this.#dethrone(prefix);
    this.enqueue(prefix, wasBest ? BEST_TOUCHED : 0);
    return added;
  }

  /** Removes the path of `slot`; nothing happens where there is none. */
  withdraw(prefix: number, slotId: number): void {
    let before = 0;
    let path = this.head[prefix];
    while (path !== 0 && this.pathSlot[path] !== slotId) {
      before = path;
      path = this.pathNext[path];
    }
    if (path === 0) return;
    if (before === 0) this.head[prefix] = this.pathNext[path];
    else this.pathNext[before] = this.pathNext[path];
    this.#count(slotId, -1, this.pathAttributes[path] !== 0 ? -1 : 0);
    this.#noteUnreachable(path, 0);
    this.#dropReferences(path);
    if (this.pathFlags[path] !== 0) this.#countRejected(slotId, this.pathFlags[path], -1);
    const wasBest = this.best[prefix] === path;
    if (wasBest) this.#dethrone(prefix);
    this.pathPrefix[path] = 0;
    this.#freePaths.push(path);
    this.pathCount--;
    // With ECMP it may have been one of the carriers, and its next-hop id may mean another address when the decision is made.
    const shared = this.multipath.ebgp > 1 || this.multipath.ibgp > 1 ? HOPS_TOUCHED : 0;
    this.enqueue(prefix, wasBest ? BEST_TOUCHED : shared);
  }

  /** The decision for this prefix must be made again. */
  enqueue(prefix: number, touched: number): void {
    if ((this.#state[prefix] & QUEUED) === 0) this.#queue.push(prefix);
    this.#state[prefix] |= QUEUED | touched;
  }

  get pending(): number {
    return this.#queue.length - this.#queueAt;
  }

  /** Decides queued prefixes until the queue is empty or `until()` says stop. Returns whether more are left. */
  run(until: () => boolean): boolean {
    // Around the loop and not within: a boundary for each prefix would cost each prefix.
    for (let stopped = false; !stopped; ) {
      try {
        this.#runQueue(until);
        stopped = true;
      } catch (error) {
        this.#giveUp(this.#queue[this.#queueAt - 1], error);
      }
    }
    if (this.#queueAt === this.#queue.length) {
      // A burst leaves a large array behind; a quiet table keeps none of it.
      this.#queue = [];
      this.#queueAt = 0;
      return false;
    }
    return true;
  }

  #runQueue(until: () => boolean): void {
    while (this.#queueAt < this.#queue.length) {
      if ((this.#queueAt & 255) === 255 && until()) return;
      this.#decide(this.#queue[this.#queueAt++]);
    }
  }

  /** No route is chosen for a prefix whose decision threw: those who heard of one are told that it is gone, as far as that can be done. */
  #giveUp(prefix: number, error: unknown): void {
    const first = this.head[prefix];
    const raw = first === 0 ? 0 : this.pathRaw[first];
    const octets = raw === 0 ? undefined : this.attributes.octets(raw);
    this.faults?.note("decision", error, { about: formatPrefix(this.prefixes.prefix(prefix)), octets });
    if (this.best[prefix] !== 0) this.#dethrone(prefix);
    try {
      this.listener?.bestChanged(prefix, 0);
      this.listener?.decided(prefix, 0, true);
    } catch (second) {
      this.faults?.note("decision", second, { about: formatPrefix(this.prefixes.prefix(prefix)) });
    }
  }

  /** Calls `visit` for the paths from id `from` on, until `until()`; returns the id to go on from, 0 = done. */
  eachPath(from: number, until: () => boolean, visit: (path: number) => void): number {
    for (let path = from; path < this.pathLimit; path++) {
      if ((path & 1023) === 1023 && path !== from && until()) return path;
      if (this.pathPrefix[path] !== 0) visit(path);
    }
    return 0;
  }

  touchHops(prefix: number): void {
    this.enqueue(prefix, HOPS_TOUCHED);
  }

  isEligible(path: number): boolean {
    if (this.pathFlags[path] !== 0 || this.slots.alive[this.pathSlot[path]] === 0) return false;
    const nextHop = this.attributes.nextHop[this.pathAttributes[path]];
    const reachable = this.nextHops.reachable[nextHop];
    return reachable !== THROUGH_OURS ? reachable !== 0 : !this.nextHops.leadsThrough(nextHop, this.family, this.pathPrefix[path]);
  }

  /** isEligible(), which is noted where the next hop alone stands in the way. */
  #judge(path: number): boolean {
    const eligible = this.isEligible(path);
    const unreachable = !eligible && this.pathAttributes[path] !== 0 && this.slots.alive[this.pathSlot[path]] !== 0 ? 1 : 0;
    if (this.#unreachable[path] !== unreachable) this.#noteUnreachable(path, unreachable);
    return eligible;
  }

  #noteUnreachable(path: number, unreachable: 0 | 1): void {
    const slot = this.slots.get(this.pathSlot[path]);
    if (slot) slot.unreachable[this.family] += unreachable - this.#unreachable[path];
    this.#unreachable[path] = unreachable;
  }

  /** A path of a slot that its next hop alone keeps from being used; -1 = none. */
  findUnreachable(slotId: number): number {
    return this.#unreachable.findIndex((flag, path) => flag === 1 && this.pathSlot[path] === slotId && this.pathPrefix[path] !== 0);
  }

  /** A path of a slot that is rejected for one of these reasons; -1 = none. */
  findRejected(slotId: number, flags: number): number {
    return this.pathFlags.findIndex((flag, path) => (flag & flags) !== 0 && this.pathSlot[path] === slotId && this.pathPrefix[path] !== 0);
  }

  /** Fills `candidates` for a prefix and decides; the path id of the best, 0 = none. */
  evaluate(prefix: number): number {
    const c = this.candidates;
    c.count = 0;
    for (let path = this.head[prefix]; path !== 0; path = this.pathNext[path]) this.#addCandidate(path);
    const winner = decide(c, this.decision);
    return winner < 0 ? 0 : this.candidatePaths[winner];
  }

  /** Paths that carry traffic together with the best: the best first. Call after evaluate() of the same prefix. */
  multipathSet(best: number): number[] {
    const set = [best];
    const slot = this.slots.get(this.pathSlot[best]);
    const limit = this.pathSlot[best] === LOCAL_SLOT ? 1 : slot?.external ? this.multipath.ebgp : this.multipath.ibgp;
    if (limit <= 1) return set;
    const bestAttributes = this.pathAttributes[best];
    const used = new Set([this.attributes.nextHop[bestAttributes]]);
    for (let row = 0; row < this.candidates.count && set.length < limit; row++) {
      const path = this.candidatePaths[row];
      if (path === best || !isMultipathEqual(this.candidates, row)) continue;
      const attributes = this.pathAttributes[path];
      const nextHop = this.attributes.nextHop[attributes];
      if (used.has(nextHop)) continue;
      if (!this.multipath.asPathRelax && !this.attributes.sameAsPath(attributes, bestAttributes)) continue;
      used.add(nextHop);
      set.push(path);
    }
    return set;
  }

  /**
   * Gives the ids of prefixes without a path back, except where somebody still `remembers` one, until none is left or `until()`.
   * Returns whether to go on at once.
   */
  freeOrphans(remembers: (prefix: number) => boolean, until: () => boolean): boolean {
    const kept: number[] = [];
    let freed = 0;
    for (let n = 1; this.#orphans.length > 0; n++) {
      if ((n & 255) === 0 && until()) break;
      const prefix = this.#orphans.pop()!;
      if (this.head[prefix] !== 0 || this.#state[prefix] !== ORPHAN) this.#state[prefix] &= ~ORPHAN;
      else if (remembers(prefix)) kept.push(prefix);
      else {
        this.#state[prefix] = 0;
        this.prefixes.free(prefix);
        freed++;
      }
    }
    const more = freed > 0 && this.#orphans.length > 0;
    for (const prefix of kept) this.#orphans.push(prefix);
    return more;
  }

  #decide(prefix: number): void {
    const state = this.#state[prefix];
    this.#state[prefix] = state & ORPHAN;
    const old = this.best[prefix];
    const first = this.head[prefix];
    let best: number;
    if (first === 0 || this.pathNext[first] === 0) best = first !== 0 && this.#judge(first) ? first : 0;
    else best = this.evaluate(prefix);
    this.best[prefix] = best;
    if (old === 0 && best !== 0) this.bestCount++;
    else if (old !== 0 && best === 0) this.bestCount--;
    if (best !== old || (state & BEST_TOUCHED) !== 0) this.listener?.bestChanged(prefix, best);
    this.listener?.decided(prefix, best, (state & (HOPS_TOUCHED | BEST_TOUCHED)) !== 0);
    if (first !== 0 || (state & ORPHAN) !== 0) return;
    this.#state[prefix] |= ORPHAN;
    this.#orphans.push(prefix);
  }

  #addCandidate(path: number): void {
    const c = this.candidates;
    const row = c.add();
    this.candidatePaths[row] = path;
    const eligible = this.#judge(path);
    c.eligible[row] = eligible ? 1 : 0;
    if (!eligible) return;
    const slotId = this.pathSlot[path];
    const slot = this.slots.get(slotId);
    const a = this.pathAttributes[path];
    const table = this.attributes;
    c.local[row] = slotId === LOCAL_SLOT ? 1 : 0;
    c.localPref[row] = table.localPref[a];
    c.asPathLength[row] = table.asPathLength[a];
    c.origin[row] = table.origin[a];
    c.med[row] = table.med[a];
    c.neighborAs[row] = table.neighborAs[a];
    c.external[row] = slot === undefined || slot.external ? 1 : 0;
    c.interiorCost[row] = this.nextHops.cost[table.nextHop[a]];
    c.learned[row] = this.pathTime[path];
    c.routerId[row] = table.hasOriginator[a] ? table.originatorId[a] : (slot?.routerId ?? 0);
    c.clusterListLength[row] = table.clusterListLength[a];
    c.addressRank[row] = slot?.addressRank ?? 0;
  }

  /** Step at which a path lost in the last evaluate(). */
  lostAt(path: number): number {
    const row = this.candidatePaths.indexOf(path);
    return row < 0 || row >= this.candidates.count ? Step.Ineligible : this.candidates.lostAt[row];
  }

  #takeOver(prefix: number, staleSlot: number, slotId: number): number {
    const path = this.findPath(prefix, staleSlot);
    if (path === 0) return 0;
    const accepted = this.pathAttributes[path] !== 0 ? 1 : 0;
    this.#count(staleSlot, -1, -accepted);
    this.#count(slotId, 1, accepted);
    const flags = this.pathFlags[path];
    if (flags !== 0) {
      this.#countRejected(staleSlot, flags, -1);
      this.#countRejected(slotId, flags, 1);
    }
    this.pathSlot[path] = slotId;
    // The new session may have another BGP Identifier, which decides between equal paths and goes out as ORIGINATOR_ID.
    if (this.slots.get(staleSlot)?.routerId !== this.slots.get(slotId)?.routerId) this.enqueue(prefix, BEST_TOUCHED);
    return path;
  }

  /** A path that is gone or rejected is not the best from now on, also while the decision waits. */
  #dethrone(prefix: number): void {
    this.best[prefix] = 0;
    this.bestCount--;
  }

  /** Takes the new references before it gives back the former ones, which may be the same. */
  #assign(path: number, raw: number, attributes: number, flags: number, oldRaw: number, oldAttributes: number): void {
    if (raw !== 0) this.attributes.retain(raw);
    if (attributes !== 0) this.attributes.retain(attributes);
    if (oldRaw !== 0) this.attributes.release(oldRaw);
    if (oldAttributes !== 0) this.attributes.release(oldAttributes);
    this.pathRaw[path] = raw;
    this.pathAttributes[path] = attributes;
    this.pathFlags[path] = flags;
  }

  #dropReferences(path: number): void {
    if (this.pathRaw[path] !== 0) this.attributes.release(this.pathRaw[path]);
    if (this.pathAttributes[path] !== 0) this.attributes.release(this.pathAttributes[path]);
  }

  #count(slotId: number, paths: number, accepted: number): void {
    const slot = this.slots.get(slotId);
    if (!slot) return;
    slot.paths[this.family] += paths;
    slot.accepted[this.family] += accepted;
  }

  /** Rare beside accepted paths: objects with names cost nothing here. */
  #countRejected(slotId: number, flags: number, change: 1 | -1): void {
    const rejected = this.slots.get(slotId)?.rejected[this.family];
    if (!rejected) return;
    for (const reason of reasons) if ((flags & Rejected[reason]) !== 0) rejected[reason] = (rejected[reason] ?? 0) + change;
  }

  #newPath(): number {
    const reused = this.#freePaths.pop();
    if (reused !== undefined) return reused;
    this.#growth.reserve(this.pathLimit);
    return this.pathLimit++;
  }
}
