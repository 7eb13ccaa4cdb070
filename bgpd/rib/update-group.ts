/**
 * Adj-RIB-Out of all neighbours that hear the same: what was last sent for each prefix is kept once per group, each UPDATE is packed and
 * encoded once and handed to every member. A newer change of a prefix replaces the queued one, so that a slow neighbour costs a bounded
 * amount of memory; packing happens only when the sockets can take data.
 *
 * A route is never sent back to the member it came from. That member is the route's "source"; per prefix the group remembers attributes and
 * source, and a member M has the prefix exactly when attributes are set and M is not the source.
 */
import { formatPrefix, sameOctets } from "../../net/address.ts";
import { type FamilyRow, FamilyTable } from "../family.ts";
import type { Faults } from "../faults.ts";
import { UpdateWriter } from "../message/update-writer.ts";
import type { Clock, Timer } from "../platform.ts";
import { Exporter, type ExportRules, type LocalRoutes } from "./exporter.ts";
import { grown } from "./growth.ts";
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
  /** After a move from another group: prefix ids it had there. What this group does not send is withdrawn once the group's own table is out. */
  previous: Uint8Array | undefined;
  constructor(sink: GroupSink, target: number, endOfRib: boolean) {
    this.sink = sink;
    this.target = target;
    this.endOfRib = endOfRib;
  }
}

interface Stream {
  readonly writer: UpdateWriter;
  /** The set the writer is at; -1 = none. */
  attributes: number;
}

const NO_SOURCE = 0xffff;
/** Streams kept from batch to batch. */
const MAX_STREAMS = 16;
/** Bits of a prefix's state: in the queue; waits for the advertisement interval. */
const QUEUED = 1;
const HELD = 2;
const BATCH = 4096;
/** Octets of one dump chunk per turn. */
const DUMP_OCTETS = 128 * 1024;

/** What a part of a slice did; "time is over": it did something, and the slice is to end. */
type Progress = "nothing" | "some" | "time is over";

export class UpdateGroup {
  readonly key: string;
  readonly exporter: Exporter;
  readonly members = new Map<number, Member>();
  readonly options: GroupOptions;
  faults: Faults | undefined;
  readonly #table: RibTable;
  readonly #clock: Clock;
  readonly #kick: () => void;
  /** By prefix id: attribute id last sent (one reference each), and the index of the neighbour it comes from, member or not. */
  sentAttributes: Uint32Array;
  sentSource: Uint16Array;
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
  sentCount = 0;
  /** Announcements that wait for the advertisement interval, which begins when all that waited before is out. */
  #held: number[] = [];
  #announced = false;
  #holdUntil = 0;
  #holdTimer: Timer | undefined;
  /** What the batch at hand sends, by the member that must not hear it (NO_SOURCE: all hear it). */
  readonly #streams = new Map<number, Stream>();
  /** Withdrawals of the batch for single members. */
  readonly #takenBack = new Map<number, UpdateWriter>();

  // Scratch of one batch: entries linked per attribute id.
  readonly #entryPrefix = new Uint32Array(BATCH);
  readonly #entrySource = new Uint16Array(BATCH);
  readonly #entryNext = new Int32Array(BATCH);
  #bucket = new Int32Array(1024);

  constructor(
    key: string,
    rules: ExportRules,
    options: GroupOptions,
    table: RibTable,
    locals: LocalRoutes,
    clock: Clock,
    kick: () => void,
  ) {
    this.key = key;
    this.#table = table;
    this.#prefixes = table.prefixes;
    this.#write = FamilyTable[table.family].write;
    this.options = options;
    this.#clock = clock;
    this.#kick = kick;
    this.exporter = new Exporter(rules, table, locals, address => this.#isMember(address), options);
    const capacity = table.prefixes.capacity;
    this.sentAttributes = new Uint32Array(capacity);
    this.sentSource = new Uint16Array(capacity).fill(NO_SOURCE);
    this.#dirty = new Uint8Array(capacity);
    for (let prefix = 1; prefix < table.prefixes.limit; prefix++) if (table.best[prefix] !== 0) this.mark(prefix);
  }

  grow(capacity: number): void {
    this.sentAttributes = grown(this.sentAttributes, capacity);
    const known = this.sentSource.length;
    this.sentSource = grown(this.sentSource, capacity).fill(NO_SOURCE, known);
    this.#dirty = grown(this.#dirty, capacity);
  }

  join(sink: GroupSink, endOfRib: boolean): Member {
    const member = new Member(sink, this.#queued, endOfRib);
    if (this.sentCount === 0) member.dump = 0;
    this.members.set(sink.neighborIndex, member);
    if (this.exporter.hasGivenOut(sink.address)) this.reconsider();
    this.#kick();
    return member;
  }

  /** Sends everything again to one member (ROUTE-REFRESH, RFC 2918). */
  refresh(neighborIndex: number): void {
    const member = this.members.get(neighborIndex);
    if (!member) return;
    member.dump = 1;
    this.#kick();
  }

  leave(neighborIndex: number): void {
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
      if (this.#table.best[prefix] !== 0 || this.sentAttributes[prefix] !== 0) this.mark(prefix);
    }
    this.#kick();
  }

  /** Whether the prefix id still means something here. */
  remembers(prefix: number): boolean {
    if (this.sentAttributes[prefix] !== 0 || this.#dirty[prefix] !== 0) return true;
    for (const member of this.members.values()) if (member.previous?.[prefix]) return true;
    return false;
  }

  /** By prefix id: 1 = the member has it from us. */
  heldBy(neighborIndex: number): Uint8Array {
    const held = new Uint8Array(this.sentAttributes.length);
    for (let prefix = 1; prefix < this.#table.prefixes.limit; prefix++) {
      if (this.sentAttributes[prefix] !== 0 && this.sentSource[prefix] !== neighborIndex) held[prefix] = 1;
    }
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
    const now = this.#clock.monotonic();
    const slow = [...this.members.values()].filter(m => m.blockedSince !== undefined && now - m.blockedSince > milliseconds);
    return slow.length < this.members.size ? slow : [];
  }

  /** Takes over state and one member of another group with the same rules: how a slow neighbour is split off. */
  adopt(other: UpdateGroup, member: Member): void {
    this.sentAttributes = other.sentAttributes.slice();
    this.sentSource = other.sentSource.slice();
    // The other group's may not have grown yet.
    this.grow(this.#table.prefixes.capacity);
    for (const id of this.sentAttributes) if (id !== 0) this.#table.attributes.retain(id);
    this.sentCount = other.sentCount;
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
    for (let prefix = 0; prefix < this.sentAttributes.length; prefix++) {
      if (this.sentAttributes[prefix] !== 0) this.#table.attributes.release(this.sentAttributes[prefix]);
    }
    this.sentAttributes = new Uint32Array(0);
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
        member.blockedSince ??= this.#clock.monotonic();
      }
    }
    return full;
  }

  /** Turns up to BATCH queued prefixes into messages, those with the same attribute set together. */
  #batch(): void {
    const table = this.#table;
    const hold = this.#holding();
    const count = Math.min(BATCH, this.#queue.length - this.#queueAt);
    const order: number[] = [];
    if (this.#bucket.length < table.attributes.capacity) this.#bucket = new Int32Array(table.attributes.capacity);
    let entries = 0;
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
      const before = this.sentAttributes[prefix];
      const beforeSource = this.sentSource[prefix];
      if (before === attributes && (beforeSource === source || (!this.members.has(source) && !this.members.has(beforeSource)))) {
        this.sentSource[prefix] = source;
        if (attributes !== 0) table.attributes.release(attributes);
        continue;
      }
      const entry = entries++;
      this.#entryPrefix[entry] = prefix;
      // A withdrawal is not sent to the member that never had the route.
      const except = attributes === 0 ? beforeSource : source;
      this.#entrySource[entry] = this.members.has(except) ? except : NO_SOURCE;
      if (before !== 0 && source !== beforeSource && this.members.has(source)) this.#withdrawFrom(source, prefix);
      this.#remember(prefix, attributes, source);
      if (this.#bucket.length <= attributes) this.#bucket = grownInt(this.#bucket, table.attributes.capacity);
      const head = this.#bucket[attributes];
      if (head === 0) order.push(attributes);
      this.#entryNext[entry] = head - 1;
      this.#bucket[attributes] = entry + 1;
    }
    if (this.#queueAt === this.#queue.length) {
      this.#queue = [];
      this.#queueAt = 0;
    }
    for (const attributes of order) this.#flushBucket(attributes);
    this.#flushStreams();
    this.#announced ||= order.some(attributes => attributes !== 0);
    if (this.#announced && this.#queue.length === 0) this.#startHold();
  }

  /** Attribute id to announce; 0 also for a route whose export threw: it is given up, and withdrawn where it was announced. */
  #exported(prefix: number, best: number): number {
    try {
      return this.exporter.exported(prefix, best);
    } catch (error) {
      const sets = this.#table.attributes;
      const octets = best === 0 ? undefined : sets.octets(this.#table.pathAttributes[best]);
      this.faults?.note("export", error, { about: formatPrefix(this.#table.prefixes.prefix(prefix)), octets });
      return 0;
    }
  }

  /** Writes the entries of one attribute set. A set that cannot be written is given up with its prefixes: they are withdrawn. */
  #flushBucket(attributes: number): void {
    const first = this.#takeBucket(attributes);
    try {
      this.#writeEntries(attributes, first);
    } catch (error) {
      const octets = attributes === 0 ? undefined : this.#table.attributes.octets(attributes).slice();
      this.faults?.note("encoding", error, { octets });
      if (attributes !== 0) this.#withdrawEntries(first);
    }
  }

  /** First entry of the set's chain, -1 = none. Entries were pushed in front: turned round, prefixes leave in the order in which they came. */
  #takeBucket(attributes: number): number {
    let head = this.#bucket[attributes] - 1;
    this.#bucket[attributes] = 0;
    let previous = -1;
    while (head >= 0) {
      const next = this.#entryNext[head];
      this.#entryNext[head] = previous;
      previous = head;
      head = next;
    }
    return previous;
  }

  /** Entries with a source among the members go into the stream for all but that source. */
  #writeEntries(attributes: number, first: number): void {
    for (let entry = first; entry >= 0; entry = this.#entryNext[entry]) {
      const stream = this.#stream(this.#entrySource[entry]);
      if (stream.attributes !== attributes) {
        stream.attributes = attributes;
        if (attributes === 0) stream.writer.withdraw(this.#table.family);
        else announceSet(stream.writer, this.#table, attributes);
      }
      this.#write(stream.writer, this.#prefixes, this.#entryPrefix[entry]);
    }
  }

  #withdrawEntries(first: number): void {
    for (let entry = first; entry >= 0; entry = this.#entryNext[entry]) {
      const stream = this.#stream(this.#entrySource[entry]);
      stream.writer.withdraw(this.#table.family);
      stream.attributes = 0;
      this.#write(stream.writer, this.#prefixes, this.#entryPrefix[entry]);
      this.#remember(this.#entryPrefix[entry], 0, NO_SOURCE);
    }
  }

  #stream(except: number): Stream {
    let stream = this.#streams.get(except);
    if (!stream) {
      stream = { writer: new UpdateWriter(this.options), attributes: -1 };
      this.#streams.set(except, stream);
    }
    return stream;
  }

  /** Hands what a batch wrote to the members. A prefix is in one stream only, so that their order does not matter. */
  #flushStreams(): void {
    for (const [except, stream] of this.#streams) {
      const updates = stream.writer.updates;
      stream.attributes = -1;
      if (updates === 0) continue;
      const octets = stream.writer.take();
      for (const member of this.members.values()) if (member.sink.neighborIndex !== except) member.sink.send(octets, updates);
    }
    for (const [index, writer] of this.#takenBack) {
      const updates = writer.updates;
      this.members.get(index)?.sink.send(writer.take(), updates);
    }
    this.#takenBack.clear();
    // With many sources (a reflector's clients) the writers' buffers are worth more than making them again.
    if (this.#streams.size > MAX_STREAMS) this.#streams.clear();
  }

  /** The best path now comes from this member: what it heard of the prefix before is void. */
  #withdrawFrom(source: number, prefix: number): void {
    let writer = this.#takenBack.get(source);
    if (!writer) {
      writer = new UpdateWriter(this.options);
      writer.withdraw(this.#table.family);
      this.#takenBack.set(source, writer);
    }
    this.#write(writer, this.#prefixes, prefix);
  }

  /** Takes over the caller's reference of `attributes`. */
  #remember(prefix: number, attributes: number, source: number): void {
    const before = this.sentAttributes[prefix];
    this.sentAttributes[prefix] = attributes;
    this.sentSource[prefix] = source;
    if (before !== 0) this.#table.attributes.release(before);
    this.sentCount += (attributes !== 0 ? 1 : 0) - (before !== 0 ? 1 : 0);
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
      const attributes = this.sentAttributes[prefix];
      if (attributes === 0 || this.sentSource[prefix] === self) continue;
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

  #withdrawPrevious(member: Member, previous: Uint8Array): void {
    member.previous = undefined;
    const writer = new UpdateWriter(this.options);
    writer.withdraw(this.#table.family);
    for (let prefix = 1; prefix < previous.length; prefix++) {
      const has = this.sentAttributes[prefix] !== 0 && this.sentSource[prefix] !== member.sink.neighborIndex;
      if (previous[prefix] && !has) this.#write(writer, this.#prefixes, prefix);
    }
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
    return this.options.advertisementInterval > 0 && this.#clock.monotonic() < this.#holdUntil;
  }

  /** Jitter of RFC 4271 section 10: 0.75 to 1.0 of the interval. */
  #startHold(): void {
    this.#announced = false;
    if (this.options.advertisementInterval === 0 || this.#holdTimer) return;
    const milliseconds = this.options.advertisementInterval * 1000 * (0.75 + Math.random() * 0.25);
    this.#holdUntil = this.#clock.monotonic() + milliseconds;
    this.#holdTimer = this.#clock.after(milliseconds, () => {
      this.#holdTimer = undefined;
      this.#holdUntil = 0;
      for (const prefix of this.#held.splice(0)) this.#release(prefix);
      this.#kick();
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

function announceSet(writer: UpdateWriter, table: RibTable, id: number): void {
  const sets = table.attributes;
  writer.announce(table.family, sets.buffer(id), sets.start(id), sets.end(id));
}

function grownInt(array: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(Math.max(length, array.length * 2));
  larger.set(array);
  return larger;
}
