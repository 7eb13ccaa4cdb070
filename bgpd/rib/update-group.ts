/**
 * All neighbours that hear the same: what was told is kept once (adj-rib-out.ts), each UPDATE is packed and encoded once (packer.ts) and handed to
 * every member. A newer change of a prefix replaces the queued one, so that a slow neighbour costs a bounded amount of memory; packing
 * happens only when the sockets can take data.
 *
 * A route is never sent back to the member it came from, which is its "source".
 */
import { formatPrefix, sameOctets } from "../../net/address.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import { type FamilyRow, FamilyTable } from "../family.ts";
import type { Faults } from "../faults.ts";
import { UpdateWriter } from "../message/update-writer.ts";
import { grown } from "../table/growth.ts";
import { AdjRibOut, Heard, NO_SOURCE } from "./adj-rib-out.ts";
import { Exporter, type ExportRules, type LocalRoutes } from "./exporter.ts";
import { announceSet, BATCH, Packer } from "./packer.ts";
import type { RibTable } from "./table.ts";

/** Where a group's octets go: one Established session. */
export interface GroupSink {
  readonly neighbor: string;
  readonly neighborIndex: number;
  readonly address: Uint8Array;
  /** The socket can take data. */
  readonly writable: boolean;
  /** It has said in its OPEN that it restarts (RFC 4724). */
  readonly restarting: boolean;
  send(messages: Uint8Array, updates: number): void;
}

export interface GroupOptions {
  fourOctetAsn: boolean;
  maxMessageLength: number;
  /** MRAI, seconds; announcements only. */
  advertisementInterval: number;
}

export interface GroupRuntime {
  clock: Clock;
  /** Uniform in 0..1, for the jitter of the advertisement interval. */
  random: () => number;
  faults: Faults | undefined;
  /** There is work. */
  kick: () => void;
}

export class Member {
  readonly sink: GroupSink;
  /** Next prefix id of the initial dump; 0 = done. */
  dump = 1;
  /** Send End-of-RIB when the dump and all that was queued at its start are out. */
  endOfRib: boolean;
  /** Value of the group's counter of dealt-with changes from which on the initial table is complete. */
  target: number;
  /** Milliseconds (monotonic) since when its socket is full; undefined = it is not. */
  blockedSince: number | undefined;
  /** After a move from another group: what it had there. Only what differs is sent, and what this group does not send is withdrawn at the end. */
  previous: Heard | undefined;
  constructor(sink: GroupSink, target: number, endOfRib: boolean) {
    this.sink = sink;
    this.target = target;
    this.endOfRib = endOfRib;
  }
}

/** Bits of a prefix's state: in the queue; waits for the advertisement interval. */
const QUEUED = 1;
const HELD = 2;
/** Octets of one dump chunk per turn. */
const DUMP_OCTETS = 128 * 1024;

/** What a part of a slice did; "time is over": it did something, and the slice is to end. */
type Progress = "nothing" | "some" | "time is over";

export class UpdateGroup {
  readonly key: string;
  readonly exporter: Exporter;
  readonly members = new Map<number, Member>();
  readonly options: GroupOptions;
  readonly #table: RibTable;
  readonly #runtime: GroupRuntime;
  readonly sent: AdjRibOut;
  readonly #packer: Packer;
  /** The group whose state this one began with, and its revision then; as long as this one has told nothing. */
  #origin: { group: UpdateGroup; revision: number } | undefined;
  #dirty: Uint8Array;
  readonly #prefixes: RibTable["prefixes"];
  readonly #write: FamilyRow["write"];
  #queue: number[] = [];
  #queueAt = 0;
  #membersFirst = false;
  /** By its index: the one that is served next. */
  #nextMember = -1;
  /** Changes asked for and dealt with since the group was made. */
  #queued = 0;
  #done = 0;
  /** Announcements that wait for the advertisement interval, which begins when all that waited before is out. */
  #held: number[] = [];
  #announced = false;
  #holdUntil = 0;
  #holdTimer: Timer | undefined;
  constructor(key: string, rules: ExportRules, options: GroupOptions, table: RibTable, locals: LocalRoutes, runtime: GroupRuntime) {
    this.key = key;
    this.#table = table;
    this.#prefixes = table.prefixes;
    this.#write = FamilyTable[table.family].write;
    this.options = options;
    this.#runtime = runtime;
    this.exporter = new Exporter(rules, table, locals, address => this.#isMember(address), options);
    const capacity = table.prefixes.capacity;
    this.sent = new AdjRibOut(table.attributes, capacity);
    this.#packer = new Packer(table, options);
    this.#dirty = new Uint8Array(capacity);
    for (let prefix = 1; prefix < table.prefixes.limit; prefix++) if (table.best[prefix] !== 0) this.mark(prefix);
  }

  grow(capacity: number): void {
    this.sent.grow(capacity);
    this.#dirty = grown(this.#dirty, capacity);
  }

  join(sink: GroupSink, endOfRib: boolean): Member {
    const member = new Member(sink, this.#queued, endOfRib);
    if (this.sent.count === 0) member.dump = 0;
    this.members.set(sink.neighborIndex, member);
    if (this.exporter.hasGivenOut(sink.address)) this.reconsider();
    this.#runtime.kick();
    return member;
  }

  /** Begins as the other group is, which has other rules: what they say differently goes out, and nothing else. */
  inherit(other: UpdateGroup): void {
    this.sent.copy(other.sent, this.#table.prefixes.capacity);
    this.#origin = { group: other, revision: other.sent.revision };
    this.reconsider();
  }

  /** A member of the other group changes over; it hears what differs. */
  take(other: UpdateGroup, neighborIndex: number, sink: GroupSink): void {
    const before = other.members.get(neighborIndex);
    if (!before) return;
    const member = new Member(sink, this.#queued, before.endOfRib);
    if (this.#origin?.group === other && this.#origin.revision === other.sent.revision) {
      // It has just what this group has begun with.
      member.dump = before.dump;
      member.previous = before.previous;
      before.previous = undefined;
    } else {
      member.previous = new Heard(this.#table.attributes, other.sent, neighborIndex, before.dump, before.previous);
      if (this.sent.count === 0) member.dump = 0;
    }
    other.leave(neighborIndex);
    this.members.set(neighborIndex, member);
    if (this.exporter.hasGivenOut(sink.address)) this.reconsider();
    this.#runtime.kick();
  }

  /** Sends everything again to one member (ROUTE-REFRESH, RFC 2918). */
  refresh(neighborIndex: number): void {
    const member = this.members.get(neighborIndex);
    if (!member) return;
    member.dump = 1;
    member.previous?.doubt();
    this.#runtime.kick();
  }

  leave(neighborIndex: number): void {
    this.members.get(neighborIndex)?.previous?.close();
    this.members.delete(neighborIndex);
  }

  /** The best path of a prefix changed. */
  mark(prefix: number): void {
    if ((this.#dirty[prefix] & QUEUED) !== 0) return;
    this.#dirty[prefix] |= QUEUED;
    this.#queue.push(prefix);
    this.#queued++;
  }

  /** Rules stay, but what they say may differ now (membership, local address): ask again for everything. */
  reconsider(): void {
    this.exporter.clear();
    for (let prefix = 1; prefix < this.#table.prefixes.limit; prefix++) {
      if (this.#table.best[prefix] !== 0 || this.sent.attributes[prefix] !== 0) this.mark(prefix);
    }
    this.#runtime.kick();
  }

  /** Whether the prefix id still means something here. */
  remembers(prefix: number): boolean {
    if (this.sent.attributes[prefix] !== 0 || this.#dirty[prefix] !== 0) return true;
    for (const member of this.members.values()) if (member.previous?.has(prefix)) return true;
    return false;
  }

  /** By prefix id: 1 = the member has it from us. */
  heldBy(neighborIndex: number): Uint8Array {
    const held = new Uint8Array(this.sent.attributes.length);
    for (let prefix = 1; prefix < this.#table.prefixes.limit; prefix++) if (this.sent.heldBy(neighborIndex, prefix) !== 0) held[prefix] = 1;
    return held;
  }

  /** Ids of prefixes that the member does not have only because no message can hold them with their attributes. */
  tooLarge(neighborIndex: number): number[] {
    return [...this.exporter.tooLarge].filter(prefix => this.#sourceOf(this.#table.best[prefix]) !== neighborIndex);
  }

  get pending(): number {
    return this.#queue.length - this.#queueAt + this.#held.length;
  }

  /** Some member's socket is full. */
  get blocked(): boolean {
    return [...this.members.values()].some(member => member.blockedSince !== undefined);
  }

  /** Members that block the others: full for longer than `milliseconds` while changes wait. */
  slowMembers(milliseconds: number): Member[] {
    if (this.members.size < 2 || this.pending === 0) return [];
    const now = this.#runtime.clock.monotonic();
    const slow = [...this.members.values()].filter(m => m.blockedSince !== undefined && now - m.blockedSince > milliseconds);
    return slow.length < this.members.size ? slow : [];
  }

  /** Takes over state and one member of another group with the same rules: how a slow neighbour is split off. */
  adopt(other: UpdateGroup, member: Member): void {
    this.sent.copy(other.sent, this.#table.prefixes.capacity);
    for (const prefix of other.exporter.tooLarge) this.exporter.tooLarge.add(prefix);
    this.#dirty.fill(0);
    this.#queue = [];
    this.#queueAt = 0;
    this.#queued = 0;
    this.#done = 0;
    for (let at = other.#queueAt; at < other.#queue.length; at++) this.mark(other.#queue[at]);
    for (const prefix of other.#held) this.mark(prefix);
    other.members.delete(member.sink.neighborIndex);
    member.target = this.#queued;
    this.members.set(member.sink.neighborIndex, member);
  }

  /** All is sent and nobody is in a dump: two groups with the same rules then hold the same. */
  get settled(): boolean {
    return this.pending === 0 && [...this.members.values()].every(m => m.dump === 0 && !m.endOfRib && !m.previous);
  }

  absorb(other: UpdateGroup): void {
    for (const [index, member] of other.members) {
      member.target = this.#queued;
      this.members.set(index, member);
      if (this.exporter.hasGivenOut(member.sink.address)) this.reconsider();
    }
    other.members.clear();
  }

  close(): void {
    this.#holdTimer?.cancel();
    for (const member of this.members.values()) member.previous?.close();
    this.sent.close();
  }

  /** Works until nothing is left to do, no socket takes more, or `until()`. Returns whether it could go on at once. */
  run(until: () => boolean, endOfRibTo: "all" | "restarting" | "nobody"): boolean {
    // Neither the queue nor the members can keep the other waiting where each step takes a whole slice.
    this.#membersFirst = !this.#membersFirst;
    const members = () => this.#serveMembers(until, endOfRibTo);
    const queue = () => this.#serveQueue(until);
    for (;;) {
      const first = this.#membersFirst ? members() : queue();
      if (first === "time is over") return true;
      const second = this.#membersFirst ? queue() : members();
      if (second === "time is over") return true;
      if (first === "nothing" && second === "nothing") return false;
    }
  }

  #serveQueue(until: () => boolean): Progress {
    if (this.#noteBlocked() || this.#queueAt >= this.#queue.length) return "nothing";
    this.#batch();
    return until() ? "time is over" : "some";
  }

  /** From the member on that is next in turn. */
  #serveMembers(until: () => boolean, endOfRibTo: "all" | "restarting" | "nobody"): Progress {
    const all = [...this.members.values()];
    const start = all.findIndex(({ sink }) => sink.neighborIndex === this.#nextMember);
    let progress: Progress = "nothing";
    for (let n = 0; n < all.length; n++) {
      const member = all[(Math.max(start, 0) + n) % all.length];
      // One that was served before it may have ended its session.
      if (this.members.get(member.sink.neighborIndex) !== member || !member.sink.writable) continue;
      if (!this.#serve(member, endOfRibTo === "all" || (endOfRibTo === "restarting" && member.sink.restarting))) continue;
      progress = "some";
      if (!until()) continue;
      this.#nextMember = all[(Math.max(start, 0) + n + 1) % all.length].sink.neighborIndex;
      return "time is over";
    }
    return progress;
  }

  /** What one member alone is to hear; returns whether there was something. */
  #serve(member: Member, mayEndOfRib: boolean): boolean {
    if (member.dump !== 0) {
      this.#dump(member);
      return true;
    }
    const complete = this.#done >= member.target && this.#held.length === 0;
    if (!complete) return false;
    if (member.previous) this.#withdrawPrevious(member, member.previous);
    else if (member.endOfRib && mayEndOfRib) this.#sendEndOfRib(member);
    else return false;
    return true;
  }

  /** Whether some member cannot take data; keeps since when. */
  #noteBlocked(): boolean {
    let full = false;
    for (const member of this.members.values()) {
      if (member.sink.writable) member.blockedSince = undefined;
      else {
        full = true;
        member.blockedSince ??= this.#runtime.clock.monotonic();
      }
    }
    return full;
  }

  /** Turns up to BATCH queued prefixes into messages, those with the same attribute set together. */
  #batch(): void {
    const table = this.#table;
    const hold = this.#holding();
    this.#origin = undefined;
    const count = Math.min(BATCH, this.#queue.length - this.#queueAt);
    for (let n = 0; n < count; n++) {
      const prefix = this.#queue[this.#queueAt++];
      const best = table.best[prefix];
      const attributes = this.#exported(prefix, best);
      this.#dirty[prefix] &= ~QUEUED;
      if (attributes !== 0 && hold) {
        table.attributes.release(attributes);
        if ((this.#dirty[prefix] & HELD) !== 0) this.#done++;
        else this.#held.push(prefix);
        this.#dirty[prefix] |= HELD;
        continue;
      }
      this.#done++;
      const source = attributes === 0 ? NO_SOURCE : this.#sourceOf(best);
      const before = this.sent.attributes[prefix];
      const beforeSource = this.sent.source[prefix];
      if (before === attributes && (beforeSource === source || (!this.members.has(source) && !this.members.has(beforeSource)))) {
        this.sent.move(prefix, source);
        if (attributes !== 0) table.attributes.release(attributes);
        continue;
      }
      // A withdrawal is not sent to the member that never had the route.
      const except = attributes === 0 ? beforeSource : source;
      if (before !== 0 && source !== beforeSource && this.members.has(source)) this.#packer.takeBack(source, prefix);
      this.sent.remember(prefix, attributes, source);
      this.#packer.add(prefix, attributes, this.members.has(except) ? except : NO_SOURCE);
    }
    if (this.#queueAt === this.#queue.length) {
      this.#queue = [];
      this.#queueAt = 0;
    }
    const { packed, announces } = this.#packer.pack((error, attributes, prefixes) => this.#giveUp(error, attributes, prefixes));
    for (const { octets, updates, except, only } of packed) {
      if (only !== undefined) this.members.get(only)?.sink.send(octets, updates);
      else for (const member of this.members.values()) if (member.sink.neighborIndex !== except) member.sink.send(octets, updates);
    }
    this.#announced ||= announces;
    if (this.#announced && this.#queue.length === 0) this.#startHold();
  }

  /** Attribute id to announce; 0 also for a route whose export threw: it is given up, and withdrawn where it was announced. */
  #exported(prefix: number, best: number): number {
    try {
      return this.exporter.exported(prefix, best);
    } catch (error) {
      const sets = this.#table.attributes;
      const octets = best === 0 ? undefined : sets.octets(this.#table.pathAttributes[best]);
      this.#runtime.faults?.note("export", error, { about: formatPrefix(this.#table.prefixes.prefix(prefix)), octets });
      return 0;
    }
  }

  /** A set that cannot be written: its prefixes were withdrawn. */
  #giveUp(error: unknown, attributes: number, prefixes: readonly number[]): void {
    this.#runtime.faults?.note("encoding", error, {
      octets: attributes === 0 ? undefined : this.#table.attributes.octets(attributes).slice(),
    });
    for (const prefix of prefixes) this.sent.remember(prefix, 0, NO_SOURCE);
  }

  /** Neighbour index that the path came from, NO_SOURCE for a route of our own. */
  #sourceOf(path: number): number {
    return this.#table.slots.get(this.#table.pathSlot[path])?.neighborIndex ?? NO_SOURCE;
  }

  #isMember(address: Uint8Array): boolean {
    for (const member of this.members.values()) if (sameOctets(member.sink.address, address)) return true;
    return false;
  }

  /** Sends a part of what the group has announced so far to a member that joined later. */
  #dump(member: Member): void {
    const table = this.#table;
    const self = member.sink.neighborIndex;
    const byAttributes = new Map<number, number[]>();
    let octets = 0;
    let prefix = member.dump;
    for (; prefix < table.prefixes.limit && octets < DUMP_OCTETS; prefix++) {
      const attributes = this.sent.heldBy(self, prefix);
      if (attributes === 0 || member.previous?.is(prefix, attributes)) continue;
      const list = byAttributes.get(attributes);
      if (list) list.push(prefix);
      else byAttributes.set(attributes, [prefix]);
      octets += list ? 4 : 64;
    }
    member.dump = prefix >= table.prefixes.limit ? 0 : prefix;
    const writer = new UpdateWriter(this.options);
    for (const [attributes, prefixes] of byAttributes) {
      announceSet(writer, table, attributes);
      for (const each of prefixes) this.#write(writer, this.#prefixes, each);
    }
    const updates = writer.updates;
    if (updates > 0) member.sink.send(writer.take(), updates);
  }

  #withdrawPrevious(member: Member, previous: Heard): void {
    member.previous = undefined;
    const writer = new UpdateWriter(this.options);
    writer.withdraw(this.#table.family);
    for (const prefix of previous.prefixes()) {
      if (this.sent.heldBy(member.sink.neighborIndex, prefix) === 0) this.#write(writer, this.#prefixes, prefix);
    }
    previous.close();
    const updates = writer.updates;
    if (updates > 0) member.sink.send(writer.take(), updates);
  }

  #sendEndOfRib(member: Member): void {
    member.endOfRib = false;
    const writer = new UpdateWriter(this.options);
    writer.endOfRib(this.#table.family);
    member.sink.send(writer.take(), 1);
  }

  #holding(): boolean {
    return this.options.advertisementInterval > 0 && this.#runtime.clock.monotonic() < this.#holdUntil;
  }

  /** Jitter of RFC 4271 section 10: 0.75 to 1.0 of the interval. */
  #startHold(): void {
    this.#announced = false;
    if (this.options.advertisementInterval === 0 || this.#holdTimer) return;
    const milliseconds = this.options.advertisementInterval * 1000 * (0.75 + this.#runtime.random() * 0.25);
    this.#holdUntil = this.#runtime.clock.monotonic() + milliseconds;
    this.#holdTimer = this.#runtime.clock.after(milliseconds, () => {
      this.#holdTimer = undefined;
      this.#holdUntil = 0;
      for (const prefix of this.#held.splice(0)) this.#release(prefix);
      this.#runtime.kick();
    });
  }

  /** A held announcement may go now. */
  #release(prefix: number): void {
    this.#dirty[prefix] &= ~HELD;
    // A newer change of it waits in the queue already and stands for both.
    if ((this.#dirty[prefix] & QUEUED) !== 0) this.#done++;
    else this.#queue.push(prefix);
    this.#dirty[prefix] |= QUEUED;
  }
}
