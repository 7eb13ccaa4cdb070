/**
 * The routing information base: both families, their update groups and everything that moves routes from one stage to the next
 * (RFC 4271 section 3.2). Work is done in slices of a few milliseconds between which the event loop reads sockets and runs timers, so that a
 * full table never makes a keepalive late. One direction: a slot's UPDATE -> Adj-RIB-In -> decision -> Loc-RIB -> kernel and update groups.
 */
import { type Address, familyOf, maskAddress, type Prefix } from "../../net/address.ts";
import { type Clock, sliceOf, type Timer } from "../../platform/clock.ts";
import type { NetworkConfig, OriginsConfig } from "../config.ts";
import { type FamilyIndex, FamilyIndexes, FamilyTable, forwardingFamily, type PerFamily, perFamily } from "../family.ts";
import type { Faults } from "../faults.ts";
import type { Fib, NextHopTracker, Tunnels } from "../fib/types.ts";
import type { UpdateDecoder } from "../message/update-decoder.ts";
import { AttributeSets } from "../table/attribute-sets.ts";
import type { DecisionOptions } from "./decision.ts";
import type { ExportRules } from "./exporter.ts";
import { type Guard, Guards } from "./guards.ts";
import { excessOf, type ImportContext, importUpdate, reimportPath } from "./import.ts";
import { KernelWriter } from "./kernel-writer.ts";
import { LocalTable } from "./local-routes.ts";
import { NextHopColumns } from "./next-hops.ts";
import { type Concerned, Origins } from "./origins.ts";
import { LocRibRoutes } from "./own-routes.ts";
import { type Excess, type Slot, Slots } from "./slots.ts";
import { type MultipathOptions, RibTable } from "./table.ts";
import { type GroupOptions, type GroupSink, UpdateGroup } from "./update-group.ts";

/** A neighbour whose socket is full for this long no longer holds its group up: it gets a group of its own. Milliseconds. */
const SLOW_NEIGHBOR = 1000;

export interface RibGlobals {
  asn: number;
  /** Unsigned 32 bit. */
  routerId: number;
  clusterId: number;
  decision: DecisionOptions;
  multipath: MultipathOptions;
  protectedPrefixes: Guard[];
  origins?: OriginsConfig;
}

/** A piece of work too long for one slice; returns whether more is left. */
type Job = (until: () => boolean) => boolean;

export class Rib {
  readonly attributes: AttributeSets;
  readonly slots = new Slots();
  readonly nextHops: NextHopColumns;
  readonly tables: PerFamily<RibTable>;
  readonly locals: PerFamily<LocalTable>;
  readonly groups = perFamily(() => new Map<string, UpdateGroup>());
  /** Of the FIB, where there is one. */
  kernel: PerFamily<KernelWriter | undefined> | undefined;
  /**
   * Who may hear End-of-RIB: a restarting speaker that has not heard everybody holds it back (RFC 4724 section 4.1), last from those that
   * restart themselves, which may wait for it before they send their own.
   */
  endOfRibTo: "all" | "restarting" | "nobody" = "all";
  readonly #ownRoutes: LocRibRoutes;
  /** By family: next hops that resolve differently, and whose paths are still to be looked for. */
  readonly #changedHops = perFamily(() => new Set<number>());
  readonly #tracker: NextHopTracker | undefined;
  readonly #tunnels: Tunnels | undefined;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #faults: Faults | undefined;
  /** Clock.monotonic() and Clock.now() of the start. */
  readonly #started: number;
  readonly #startedAt: number;
  readonly #jobs: Job[] = [];
  /** By family: the group that the next slice begins with; undefined = the first. */
  readonly #nextGroup = perFamily((): UpdateGroup | undefined => undefined);
  readonly #idle: (() => void)[] = [];
  #scheduled = false;
  #closed = false;
  #slowTimer: Timer | undefined;
  #groupSerial = 0;
  readonly context: ImportContext;

  constructor(options: {
    clock: Clock;
    tracker?: NextHopTracker;
    tunnels?: Tunnels;
    fib?: Fib;
    faults?: Faults;
    random?: () => number;
  }) {
    this.#clock = options.clock;
    this.#random = options.random ?? Math.random;
    this.#faults = options.faults;
    this.#started = options.clock.monotonic();
    this.#startedAt = options.clock.now();
    this.nextHops = new NextHopColumns(options.tracker);
    this.attributes = new AttributeSets({
      trackNextHop: (nextHop, ifindex) => this.nextHops.track(nextHop, ifindex),
      releaseNextHop: id => this.nextHops.release(id),
    });
    this.tables = perFamily(family => this.#table(family));
    this.locals = perFamily(family => new LocalTable(this.tables[family]));
    this.#ownRoutes = new LocRibRoutes(this.tables, this.locals);
    this.#tracker = options.tracker;
    this.#tunnels = options.tunnels;
    this.#tracker?.resolveThrough(this.#ownRoutes);
    this.#writeTo(options.fib);
    for (const table of this.tables) {
      table.faults = options.faults;
      this.#listen(table);
    }
    this.context = {
      attributes: this.attributes,
      tables: this.tables,
      localAsn: 0,
      routerId: 0,
      clusterId: 0,
      guards: new Guards([]),
      origins: new Origins(this.attributes),
      now: () => this.now(),
    };
    options.tracker?.onChange(ids => this.#nextHopsChanged(this.nextHops.changed(ids)));
  }

  /** Seconds since the start. */
  now(): number {
    return Math.floor((this.#clock.monotonic() - this.#started) / 1000);
  }

  /** Milliseconds since the epoch at which a path was learned: the same at each look, also where the machine's clock is set meanwhile. */
  learnedAt(seconds: number): number {
    return this.#startedAt + seconds * 1000;
  }

  configure(globals: RibGlobals): void {
    const { context } = this;
    const guards = context.guards.differing(globals.protectedPrefixes);
    const clusterChanged = context.clusterId !== globals.clusterId;
    context.localAsn = globals.asn;
    context.routerId = globals.routerId;
    context.clusterId = globals.clusterId;
    if (guards) context.guards = new Guards(globals.protectedPrefixes);
    for (const table of this.tables) {
      const same = JSON.stringify([table.decision, table.multipath]) === JSON.stringify([globals.decision, globals.multipath]);
      table.decision = globals.decision;
      table.multipath = globals.multipath;
      if (!same) this.#decideAll(table);
    }
    const origins = context.origins.update(globals.origins);
    if (clusterChanged) for (const slot of this.slots) this.reimport(slot);
    else if (guards || origins)
      this.#judgeAgain(
        (slot, prefix, raw) => guards?.covers(prefix) === true || (slot.origin !== undefined && origins?.(slot, prefix, raw) === true),
      );
  }

  setNetworks(networks: readonly NetworkConfig[]): void {
    for (const family of FamilyIndexes) {
      const own = networks.filter(network => forwardingFamily(network.prefix.includes(":") ? 6 : 4) === family);
      this.locals[family].set(own, this.now(), this.#marker(family));
    }
    this.kick();
  }

  /** Networks beside those of setNetworks(), by prefix; undefined: no more. */
  changeNetworks(changes: ReadonlyMap<string, NetworkConfig | undefined>): void {
    const own = perFamily((): [string, NetworkConfig | undefined][] => []);
    for (const change of changes) own[forwardingFamily(change[0].includes(":") ? 6 : 4)].push(change);
    for (const family of FamilyIndexes)
      if (own[family].length > 0) this.locals[family].change(own[family], this.now(), this.#marker(family));
    this.kick();
  }

  #marker(family: FamilyIndex): (prefix: number) => void {
    return prefix => {
      for (const group of this.groups[family].values()) group.mark(prefix);
    };
  }

  /** From now on kernel routes are written to another FIB, all of them, or to none. */
  setFib(fib: Fib | undefined): void {
    this.#writeTo(fib);
    for (const table of this.tables) this.#decideAll(table);
  }

  /** Tunnels to these ends came or went: the routes that lead to an end itself lead through no tunnel, so those are chosen again. */
  tunnelsChanged(ends: readonly Address[] | "all"): void {
    if (ends === "all") for (const table of this.tables) this.#decideAll(table);
    else for (const end of ends) this.#touchCovering(end);
    this.kick();
  }

  /** "through the tunnel to node n2", where a route of this prefix leads through one with this next hop. */
  tunnelWords(prefix: Prefix, nextHop: number): string | undefined {
    const tunnels = this.#tunnels;
    const hops = tunnels?.needs(prefix) ? undefined : this.nextHops.resolution(nextHop)?.tunnelled;
    return tunnels && hops ? [...new Set(hops.flatMap(hop => tunnels.words(hop) ?? []))].join(", ") : undefined;
  }

  #touchCovering(address: Address): void {
    const family = familyOf(address);
    const table = this.tables[forwardingFamily(family)];
    for (let length = 8 * address.length; length >= 0; length--) {
      const prefix = table.prefixes.findPrefix({ family, address: maskAddress(address, length), length });
      if (prefix !== 0 && table.head[prefix] !== 0) table.touchHops(prefix);
    }
  }

  #writeTo(fib: Fib | undefined): void {
    this.kernel =
      fib &&
      perFamily(family =>
        FamilyTable[family].forwards ? new KernelWriter(fib, this.tables[family], this.locals[family], this.#tunnels) : undefined,
      );
  }

  // Sessions

  /** Returns which limit the neighbour exceeds with it. */
  update(slot: Slot, message: Uint8Array, decoder: UpdateDecoder): Excess | undefined {
    const excess = importUpdate(this.context, slot, message, decoder);
    this.kick();
    return excess;
  }

  excess(slot: Slot): Excess | undefined {
    return excessOf(this.context, slot);
  }

  /** The session is gone: its routes go too, or stay as stale until purgeStale() (RFC 4724 section 4.2). */
  closeSlot(slot: Slot, keepStale: boolean): void {
    if (!this.slots.has(slot)) return;
    // What was left from a restart before this one goes in any case (RFC 4724 section 4.2).
    const older = this.slots.get(slot.staleSlot);
    if (older) this.closeSlot(older, false);
    if (keepStale) {
      slot.state = "stale";
      return;
    }
    this.slots.kill(slot);
    // Decide first, empty afterwards: traffic leaves the dead neighbour at once, memory is tidied in slices.
    for (const table of this.tables) this.#purge(table, slot, () => this.#releaseSlot(slot));
  }

  /** Removes what is left of a stale slot in one family, after End-of-RIB or the restart time. */
  purgeStale(slot: Slot, family: FamilyIndex): void {
    this.#purge(this.tables[family], slot, () => this.#releaseSlot(slot));
  }

  /** Judges all routes of a neighbour again by its present import rules, without asking the neighbour to send them again. */
  reimport(slot: Slot, done: () => void = () => {}): void {
    let left = FamilyIndexes.length;
    for (const table of this.tables) {
      let from = 1;
      this.#job(until => {
        if (!this.slots.has(slot)) return false;
        from = table.eachPath(from, until, path => {
          if (table.pathSlot[path] === slot.id) reimportPath(this.context, slot, table, path);
        });
        if (from === 0 && --left === 0) done();
        return from !== 0;
      });
    }
  }

  /** Judges the routes again that a change of guards or origins concerns: an address that a node gets concerns few of a full table. */
  #judgeAgain(concerned: Concerned): void {
    for (const table of this.tables) {
      let from = 1;
      this.#job(until => {
        from = table.eachPath(from, until, path => {
          const slot = this.slots.get(table.pathSlot[path]);
          if (!slot || table.pathRaw[path] === 0 || !concerned(slot, table.prefixes.prefix(table.pathPrefix[path]), table.pathRaw[path]))
            return;
          reimportPath(this.context, slot, table, path);
        });
        return from !== 0;
      });
    }
  }

  // Update groups

  join(family: FamilyIndex, key: string, rules: () => ExportRules, options: GroupOptions, sink: GroupSink, endOfRib: boolean): void {
    const groups = this.groups[family];
    let group = groups.get(key);
    if (!group) {
      group = this.#newGroup(family, key, rules(), options);
      groups.set(key, group);
    }
    group.join(sink, endOfRib);
  }

  /** The neighbour's export rules changed: it hears the difference between its old group and its new one. */
  move(family: FamilyIndex, key: string, rules: () => ExportRules, options: GroupOptions, sink: GroupSink, neighborIndex: number): void {
    const groups = this.groups[family];
    const old = this.groupOf(family, neighborIndex);
    let group = groups.get(key);
    if (!old || group === old) return;
    if (!group) {
      group = this.#newGroup(family, key, rules(), options);
      group.inherit(old);
      groups.set(key, group);
    }
    group.take(old, neighborIndex, sink);
    this.#closeEmpty(family, old);
    this.kick();
  }

  leave(family: FamilyIndex, neighborIndex: number): void {
    for (const group of [...this.groups[family].values()]) {
      if (!group.members.has(neighborIndex)) continue;
      group.leave(neighborIndex);
      this.#closeEmpty(family, group);
    }
    this.kick();
  }

  #closeEmpty(family: FamilyIndex, group: UpdateGroup): void {
    if (group.members.size > 0) return;
    group.close();
    this.groups[family].delete(group.key);
  }

  /** A neighbour became a client of ours, or none: what it sent goes to other internal neighbours now, or no more. */
  reconsiderInternal(): void {
    for (const groups of this.groups) for (const group of groups.values()) if (group.exporter.rules.internal) group.reconsider();
    this.kick();
  }

  /** What this neighbour is told may be other than it was. */
  reconsider(neighborIndex: number): void {
    for (const family of FamilyIndexes) this.groupOf(family, neighborIndex)?.reconsider();
    this.kick();
  }

  groupOf(family: FamilyIndex, neighborIndex: number): UpdateGroup | undefined {
    for (const group of this.groups[family].values()) if (group.members.has(neighborIndex)) return group;
    return undefined;
  }

  // Scheduling

  /** There is something to do. */
  kick(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#closed && this.#slice()) this.kick();
    });
  }

  /** One piece of a slice; one that throws is given up until something else asks for it, so that it does not keep the event loop busy. */
  #guarded(place: string, piece: () => boolean): boolean {
    try {
      return piece();
    } catch (error) {
      if (!this.#faults) throw error;
      this.#faults.note(place, error);
      return false;
    }
  }

  /** Resolves when all that arrived so far has been decided and handed to the sockets that take data. */
  settled(): Promise<void> {
    return new Promise(resolve => {
      this.#idle.push(resolve);
      this.kick();
    });
  }

  close(): void {
    this.#closed = true;
    this.#slowTimer?.cancel();
  }

  /** Returns whether more can be done at once. */
  #slice(): boolean {
    const until = sliceOf(this.#clock);
    let more = false;
    for (const table of this.tables) more = this.#guarded("decision", () => table.run(until)) || more;
    while (this.#jobs.length > 0) {
      if (this.#guarded("table walk", () => this.#jobs[0](until))) {
        more = true;
        break;
      }
      this.#jobs.shift();
    }
    for (const family of FamilyIndexes) {
      more = this.#serveGroups(family, until) || more;
      more = this.#guarded("update groups", () => this.#balance(family)) || more;
      if (!more) more = this.#guarded("table walk", () => this.#freeOrphans(family, until));
    }
    if (this.tables.some(table => table.pending > 0)) more = true;
    if (!more) for (const resolve of this.#idle.splice(0)) resolve();
    return more;
  }

  /** From the group on that is next in turn, so that a slice ends in time however many there are. Returns whether more can be done. */
  #serveGroups(family: FamilyIndex, until: () => boolean): boolean {
    const groups: (UpdateGroup | undefined)[] = [...this.groups[family].values()];
    const start = Math.max(groups.indexOf(this.#nextGroup[family]), 0);
    this.#nextGroup[family] = undefined;
    let more = false;
    for (let n = 0; n < groups.length; n++) {
      more = this.#guarded("update group", () => groups[(start + n) % groups.length]!.run(until, this.endOfRibTo)) || more;
      if (n + 1 === groups.length || !until()) continue;
      this.#nextGroup[family] = groups[(start + n + 1) % groups.length];
      return true;
    }
    return more;
  }

  /** Splits slow members off, and joins them again when both groups hold the same. Returns whether groups changed. */
  #balance(family: FamilyIndex): boolean {
    const groups = this.groups[family];
    let changed = false;
    for (const group of [...groups.values()]) {
      for (const member of group.slowMembers(SLOW_NEIGHBOR)) {
        const key = `${group.key}#slow${this.#groupSerial++}`;
        const { exporter, options } = group;
        const apart = this.#newGroup(family, key, exporter.rules, options);
        apart.adopt(group, member);
        groups.set(key, apart);
        changed = true;
      }
      const mark = group.key.indexOf("#slow");
      const home = mark < 0 ? undefined : groups.get(group.key.slice(0, mark));
      if (home?.settled && group.settled && !group.blocked) {
        home.absorb(group);
        group.close();
        groups.delete(group.key);
        changed = true;
      }
      if (group.members.size > 1 && group.pending > 0 && group.blocked) this.#watchSlow();
    }
    return changed;
  }

  #watchSlow(): void {
    this.#slowTimer ??= this.#clock.after(SLOW_NEIGHBOR / 4, () => {
      this.#slowTimer = undefined;
      this.kick();
    });
  }

  #newGroup(family: FamilyIndex, key: string, rules: ExportRules, options: GroupOptions): UpdateGroup {
    const runtime = { clock: this.#clock, random: this.#random, faults: this.#faults, kick: () => this.kick() };
    return new UpdateGroup(key, rules, options, this.tables[family], this.locals[family], runtime);
  }

  #table(family: FamilyIndex): RibTable {
    return new RibTable(family, this.attributes, this.slots, this.nextHops, capacity => {
      const groups = [...this.groups[family]].map(([key, group]) => () => {
        if (this.groups[family].get(key) === group) group.grow(capacity);
      });
      return [...groups, () => this.kernel?.[family]?.grow(capacity)];
    });
  }

  #listen(table: RibTable): void {
    const groups = this.groups[table.family];
    table.listener = {
      bestChanged: prefix => {
        for (const group of groups.values()) group.mark(prefix);
      },
      decided: (prefix, best, hopsTouched) => {
        if (this.kernel?.[table.family]?.decided(prefix, best, hopsTouched) === false) return;
        this.#ownRoutes.decided(table, prefix);
        this.#tracker?.ownRouteChanged(table.prefixes, prefix);
      },
    };
  }

  #job(job: Job): void {
    this.#jobs.push(job);
    this.kick();
  }

  #purge(table: RibTable, slot: Slot, done: () => void): void {
    let from = 1;
    this.#job(until => {
      // Another purge of the slot may have been the last: its id may be a living neighbour's now.
      if (!this.slots.has(slot)) return false;
      from = table.eachPath(from, until, path => {
        if (table.pathSlot[path] === slot.id) table.withdraw(table.pathPrefix[path], slot.id);
      });
      if (from === 0) done();
      return from !== 0;
    });
  }

  #releaseSlot(slot: Slot): void {
    if (slot.state === "live" || slot.paths.some(count => count > 0)) return;
    for (const other of this.slots) if (other.staleSlot === slot.id) other.staleSlot = -1;
    this.slots.remove(slot);
  }

  #decideAll(table: RibTable): void {
    let from = 1;
    this.#job(until => {
      from = table.eachPath(from, until, path => table.touchHops(table.pathPrefix[path]));
      return from !== 0;
    });
  }

  /** Of many changes that come one after the other, those that come while the paths are gone through are looked for together in the next round. */
  #nextHopsChanged(ids: number[]): void {
    for (const table of this.tables) {
      const waiting = this.#changedHops[table.family];
      const isFirst = waiting.size === 0;
      for (const id of ids) waiting.add(id);
      if (isFirst && waiting.size > 0) this.#touchPathsOf(table);
    }
  }

  #touchPathsOf(table: RibTable): void {
    let changed: ReadonlySet<number> | undefined;
    let from = 1;
    this.#job(until => {
      changed ??= this.#takeChangedHops(table.family);
      const looked = changed;
      from = table.eachPath(from, until, path => {
        if (looked.has(this.attributes.nextHop[table.pathAttributes[path]])) table.touchHops(table.pathPrefix[path]);
      });
      return from !== 0;
    });
  }

  #takeChangedHops(family: FamilyIndex): ReadonlySet<number> {
    const taken = this.#changedHops[family];
    this.#changedHops[family] = new Set();
    return taken;
  }

  #freeOrphans(family: FamilyIndex, until: () => boolean): boolean {
    const groups = [...this.groups[family].values()];
    return this.tables[family].freeOrphans(prefix => groups.some(group => group.remembers(prefix)), until);
  }
}
