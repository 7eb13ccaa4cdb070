/**
 * Adj-RIB-Out of all neighbours that hear the same: what was last sent for each prefix is kept once per group, each UPDATE is packed and
 * encoded once and handed to every member. A newer change of a prefix replaces the queued one, so that a slow neighbour costs a bounded
 * amount of memory; packing happens only when the sockets can take data.
 *
 * A route is never sent back to the member it came from. That member is the route's "source"; per prefix the group remembers attributes and
 * source, and a member M has the prefix exactly when attributes are set and M is not the source.
 */
import { AttributesTooLarge, UpdateWriter } from "../message/update-writer.ts";
import type { Clock, Timer } from "../platform.ts";
import { Exporter, type ExportRules, type LocalRoutes } from "./exporter.ts";
import { grown } from "./prefix-table.ts";
import type { RibTable } from "./table.ts";

/** Where a group's octets go: one Established session. */
export interface GroupSink {
  readonly neighbor: string;
  readonly neighborIndex: number;
  readonly address: Uint8Array;
  /** The socket can take data. */
  readonly writable: boolean;
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
  /** Milliseconds (monotonic) since when its socket is full; 0 = it is not. */
  blockedSince = 0;
  /** After a move from another group: prefix ids it had there. What this group does not send is withdrawn once the group's own table is out. */
  previous: Uint8Array | undefined;
  constructor(sink: GroupSink, target: number, endOfRib: boolean) {
    this.sink = sink;
    this.target = target;
    this.endOfRib = endOfRib;
  }
}

const NO_SOURCE = 0xffff;
const BATCH = 4096;
/** Octets of one dump chunk per turn. */
const DUMP_OCTETS = 128 * 1024;

export class UpdateGroup {
  readonly key: string;
  readonly exporter: Exporter;
  readonly members = new Map<number, Member>();
  readonly #table: RibTable;
  readonly #options: GroupOptions;
  readonly #clock: Clock;
  readonly #kick: () => void;
  /** By prefix id: attribute id last sent (one reference each), and the neighbour index it was kept from. */
  sentAttributes: Uint32Array;
  sentSource: Uint16Array;
  #dirty: Uint8Array;
  #queue: number[] = [];
  #queueAt = 0;
  /** Changes dealt with since the group was made. */
  #done = 0;
  #queued = 0;
  sentCount = 0;
  /** Announcements that wait for the advertisement interval. */
  #held: number[] = [];
  #holdUntil = 0;
  #holdTimer: Timer | undefined;
  readonly #writer: UpdateWriter;

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
    this.#options = options;
    this.#clock = clock;
    this.#kick = kick;
    this.exporter = new Exporter(rules, table, locals);
    this.#writer = new UpdateWriter(options);
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
    if (this.#dirty[prefix] !== 0) return;
    this.#dirty[prefix] = 1;
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

  get pending(): number {
    return this.#queue.length - this.#queueAt + this.#held.length;
  }

  /** Members that block the others: full for longer than `milliseconds` while changes wait. */
  slowMembers(milliseconds: number): Member[] {
    if (this.members.size < 2 || this.pending === 0) return [];
    const now = this.#clock.monotonic();
    const slow = [...this.members.values()].filter(m => m.blockedSince !== 0 && now - m.blockedSince > milliseconds);
    return slow.length < this.members.size ? slow : [];
  }

  /** Takes over state and one member of another group with the same rules: how a slow neighbour is split off. */
  adopt(other: UpdateGroup, member: Member): void {
    this.sentAttributes = other.sentAttributes.slice();
    this.sentSource = other.sentSource.slice();
    for (const id of this.sentAttributes) if (id !== 0) this.#table.attributes.retain(id);
    this.sentCount = other.sentCount;
    this.#dirty.fill(0);
    this.#queue = [];
    this.#queueAt = 0;
    this.#queued = 0;
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
    }
    other.members.clear();
  }

  close(): void {
    this.#holdTimer?.cancel();
    this.exporter.clear();
    for (let prefix = 0; prefix < this.sentAttributes.length; prefix++) {
      if (this.sentAttributes[prefix] !== 0) this.#table.attributes.release(this.sentAttributes[prefix]);
    }
    this.sentAttributes = new Uint32Array(0);
  }

  /** Works until nothing is left to do, no socket takes more, or `until()`. Returns whether it could go on at once. */
  run(until: () => boolean, mayEndOfRib: boolean): boolean {
    for (;;) {
      const full = this.#noteBlocked();
      if (!full && this.#queueAt < this.#queue.length) this.#batch();
      let worked = !full && this.#queueAt < this.#queue.length;
      for (const member of this.members.values()) {
        if (!member.sink.writable) continue;
        if (member.dump !== 0) this.#dump(member);
        else if (member.previous && this.#done >= member.target) this.#withdrawPrevious(member, member.previous);
        else if (member.endOfRib && mayEndOfRib && this.#done >= member.target) this.#sendEndOfRib(member);
        worked ||= member.dump !== 0 && member.sink.writable;
      }
      if (!worked) return false;
      if (until()) return true;
    }
  }

  /** Whether some member cannot take data; keeps since when. */
  #noteBlocked(): boolean {
    let full = false;
    for (const member of this.members.values()) {
      if (member.sink.writable) member.blockedSince = 0;
      else {
        full = true;
        if (member.blockedSince === 0) member.blockedSince = this.#clock.monotonic();
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
      const attributes = best === 0 ? 0 : this.exporter.exported(prefix, best);
      if (attributes !== 0 && hold) {
        this.#held.push(prefix);
        continue;
      }
      this.#dirty[prefix] = 0;
      this.#done++;
      const source = attributes === 0 ? NO_SOURCE : this.#sourceOf(best);
      const before = this.sentAttributes[prefix];
      const beforeSource = this.sentSource[prefix];
      if (before === attributes && beforeSource === source) continue;
      const entry = entries++;
      this.#entryPrefix[entry] = prefix;
      // A withdrawal is not sent to the member that never had the route.
      this.#entrySource[entry] = attributes === 0 ? beforeSource : source;
      if (attributes !== 0 && before !== 0 && source !== NO_SOURCE && beforeSource !== source) this.#withdrawFrom(source, prefix);
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
    this.#sendToAll(NO_SOURCE);
    if (order.some(attributes => attributes !== 0)) this.#startHold();
  }

  /** Writes the entries of one attribute set; those with a source among the members go out apart, to all but the source. */
  #flushBucket(attributes: number): void {
    let head = this.#bucket[attributes] - 1;
    this.#bucket[attributes] = 0;
    let apart: Set<number> | undefined;
    // Entries were pushed in front: turn the chain round, so that prefixes leave in the order in which they came.
    let previous = -1;
    while (head >= 0) {
      const next = this.#entryNext[head];
      this.#entryNext[head] = previous;
      previous = head;
      head = next;
    }
    this.#begin(attributes);
    for (let entry = previous; entry >= 0; entry = this.#entryNext[entry]) {
      if (this.#entrySource[entry] === NO_SOURCE) this.#write(this.#entryPrefix[entry]);
      else {
        apart ??= new Set();
        apart.add(this.#entrySource[entry]);
      }
    }
    if (!apart) return;
    for (const source of apart) {
      this.#sendToAll(NO_SOURCE);
      this.#begin(attributes);
      for (let entry = previous; entry >= 0; entry = this.#entryNext[entry]) {
        if (this.#entrySource[entry] === source) this.#write(this.#entryPrefix[entry]);
      }
      this.#sendToAll(source);
    }
  }

  #begin(attributes: number): void {
    if (attributes === 0) this.#writer.withdraw(this.#table.family);
    else announceOrWithdraw(this.#writer, this.#table, attributes);
  }

  #write(prefix: number): void {
    writePrefix(this.#writer, this.#table, prefix);
  }

  #sendToAll(except: number): void {
    const updates = this.#writer.updates;
    if (updates === 0) return;
    const octets = this.#writer.take();
    for (const member of this.members.values()) if (member.sink.neighborIndex !== except) member.sink.send(octets, updates);
  }

  /** The best path now comes from this member: what it heard of the prefix before is void. */
  #withdrawFrom(source: number, prefix: number): void {
    const member = this.members.get(source);
    if (!member) return;
    const writer = new UpdateWriter(this.#options);
    writer.withdraw(this.#table.family);
    writePrefix(writer, this.#table, prefix);
    const updates = writer.updates;
    member.sink.send(writer.take(), updates);
  }

  #remember(prefix: number, attributes: number, source: number): void {
    const before = this.sentAttributes[prefix];
    if (attributes !== 0) this.#table.attributes.retain(attributes);
    this.sentAttributes[prefix] = attributes;
    this.sentSource[prefix] = source;
    if (before !== 0) this.#table.attributes.release(before);
    this.sentCount += (attributes !== 0 ? 1 : 0) - (before !== 0 ? 1 : 0);
  }

  /** Neighbour index of the member the path came from, NO_SOURCE where it came from nobody in this group. */
  #sourceOf(path: number): number {
    const slot = this.#table.slots.get(this.#table.pathSlot[path]);
    return slot && this.members.has(slot.neighborIndex) ? slot.neighborIndex : NO_SOURCE;
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
    const writer = new UpdateWriter(this.#options);
    for (const [attributes, prefixes] of byAttributes) {
      announceOrWithdraw(writer, table, attributes);
      for (const each of prefixes) writePrefix(writer, table, each);
    }
    const updates = writer.updates;
    if (updates > 0) member.sink.send(writer.take(), updates);
  }

  #withdrawPrevious(member: Member, previous: Uint8Array): void {
    member.previous = undefined;
    const writer = new UpdateWriter(this.#options);
    writer.withdraw(this.#table.family);
    for (let prefix = 1; prefix < previous.length; prefix++) {
      const has = this.sentAttributes[prefix] !== 0 && this.sentSource[prefix] !== member.sink.neighborIndex;
      if (previous[prefix] && !has) writePrefix(writer, this.#table, prefix);
    }
    const updates = writer.updates;
    if (updates > 0) member.sink.send(writer.take(), updates);
  }

  #sendEndOfRib(member: Member): void {
    member.endOfRib = false;
    const writer = new UpdateWriter(this.#options);
    writer.endOfRib(this.#table.family);
    member.sink.send(writer.take(), 1);
  }

  #holding(): boolean {
    return this.#options.advertisementInterval > 0 && this.#clock.monotonic() < this.#holdUntil;
  }

  /** Jitter of RFC 4271 section 10: 0.75 to 1.0 of the interval. */
  #startHold(): void {
    if (this.#options.advertisementInterval === 0 || this.#holdTimer) return;
    const milliseconds = this.#options.advertisementInterval * 1000 * (0.75 + Math.random() * 0.25);
    this.#holdUntil = this.#clock.monotonic() + milliseconds;
    this.#holdTimer = this.#clock.after(milliseconds, () => {
      this.#holdTimer = undefined;
      this.#holdUntil = 0;
      for (const prefix of this.#held) this.#queue.push(prefix);
      this.#held = [];
      this.#kick();
    });
  }
}

/** A set that does not fit into a message with a single prefix cannot be told: then what the neighbour had before must go (RFC 4271 section 9.2). */
function announceOrWithdraw(writer: UpdateWriter, table: RibTable, attributes: number): void {
  const sets = table.attributes;
  try {
    writer.announce(table.family, sets.buffer(attributes), sets.start(attributes), sets.end(attributes));
  } catch (error) {
    if (!(error instanceof AttributesTooLarge)) throw error;
    writer.withdraw(table.family);
  }
}

function writePrefix(writer: UpdateWriter, table: RibTable, prefix: number): void {
  const p = table.prefixes;
  if (table.family === 0) writer.prefix4(p.word(prefix, 0), p.length(prefix));
  else writer.prefix6(p.word(prefix, 0), p.word(prefix, 1), p.word(prefix, 2), p.word(prefix, 3), p.length(prefix));
}

function grownInt(array: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(Math.max(length, array.length * 2));
  larger.set(array);
  return larger;
}
