/**
 * Attribute sets as small integer ids: interned by their canonical octets (bgpd/message/attributes.ts), reference-counted, and parsed once
 * into columns that the decision process reads. Id 0 is never given out and means "no attributes".
 */
import { sameOctets } from "../../net/address.ts";
import { AttributeCode, DEFAULT_LOCAL_PREF } from "../message/attribute-table.ts";
import { parseAttributes, readFacts } from "../message/attributes.ts";
import { attributeValue } from "../message/canonical.ts";
import type { PathAttributes } from "../message/types.ts";
import { Growth, grown } from "./growth.ts";
import { hashOctets, type RandomWords, secretWords } from "./keyed-hash.ts";

const CHUNK = 1 << 20;
/** Octets are handed out in units of this size, so that freed room fits the next set of about the same length. */
const UNIT = 16;

/** Columns by id that everybody may read. */
const columnNames = [
  "origin",
  "localPref",
  "med",
  "asPathLength",
  "neighborAs",
  "clusterListLength",
  "originatorId",
  "hasOriginator",
  "wellKnown",
  "nextHop",
  "generation",
] as const;
type ColumnName = (typeof columnNames)[number];
type Column = Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

export interface AttributeSetsHooks {
  /** A new set: returns the id of its next hop for the tracker (0 = it has none). */
  trackNextHop(nextHop: Uint8Array, ifindex: number): number;
  releaseNextHop(id: number): void;
}

export class AttributeSets {
  size = 0;
  /** All ids given out so far are below this. */
  limit = 1;
  readonly hooks: AttributeSetsHooks;
  /** Sets looked at by all searches so far. */
  probes = 0;

  readonly #growth = new Growth(1024, capacity => this.#growers(capacity));

  // Columns for the decision process.
  origin = new Uint8Array(this.capacity);
  localPref = new Uint32Array(this.capacity);
  /** Absent = 0, the best (RFC 4271 section 9.1.2.2 c). */
  med = new Uint32Array(this.capacity);
  asPathLength = new Uint16Array(this.capacity);
  neighborAs = new Uint32Array(this.capacity);
  clusterListLength = new Uint16Array(this.capacity);
  originatorId = new Uint32Array(this.capacity);
  hasOriginator = new Uint8Array(this.capacity);
  /** CommunityFlag bits. */
  wellKnown = new Uint16Array(this.capacity);
  nextHop = new Uint32Array(this.capacity);
  /** Counts the releases of the id: a cache that keeps id and generation, but no reference, sees that the id now means another set. */
  generation = new Uint32Array(this.capacity);

  #references = new Uint32Array(this.capacity);
  #chunk = new Uint16Array(this.capacity);
  #offset = new Uint32Array(this.capacity);
  #length = new Uint32Array(this.capacity);
  #hash = new Uint32Array(this.capacity);
  #ifindex = new Uint32Array(this.capacity);
  #payer = new Uint32Array(this.capacity);
  /** Next id with the same bucket. */
  #chain = new Uint32Array(this.capacity);
  /** Heads of the chains. Linear hashing: one bucket is split for each set that is added, so that growing never stops the event loop. */
  #buckets = new Uint32Array(2048);
  /** Buckets in use, and the power of two at or below it. */
  #bucketCount = 1024;
  #bucketBase = 1024;
  #freeIds: number[] = [];
  readonly #charged = new Map<number, number>();
  #chunks: Uint8Array[] = [];
  #used = CHUNK;
  /** Freed room by size in units. */
  #freeRoom = new Map<number, { chunk: number; offset: number }[]>();
  /** A hash that nobody can foresee needs no second key: without this one, chains are as long as chance makes them. */
  readonly #key = new Uint32Array(2);

  constructor(hooks: AttributeSetsHooks, random: RandomWords = secretWords) {
    this.hooks = hooks;
    random(this.#key);
  }

  /** What an array by attribute id that is made now must have room for. */
  get capacity(): number {
    return this.#growth.capacity;
  }

  /**
   * Id of the set with these canonical octets, with one more reference, which the caller owns. `ifindex` is the link that a link-local
   * next hop is on, 0 = none: equal octets from two links are two sets. It is no attribute, so that it never leaves this speaker. `payer`: whom a set
   * that was not there before is charged to, until it goes; see octetsOf(). 0 = nobody.
   */
  intern(octets: Uint8Array, start: number, end: number, ifindex = 0, payer = 0): number {
    const hash = hashOctets(this.#key, octets, start, end, ifindex);
    for (let id = this.#buckets[this.#bucketOf(hash)]; id !== 0; id = this.#chain[id]) {
      this.probes++;
      if (this.#hash[id] === hash && this.#ifindex[id] === ifindex && this.#same(id, octets, start, end)) {
        this.#references[id]++;
        return id;
      }
    }
    const id = this.#newId();
    this.#store(id, octets, start, end);
    this.#hash[id] = hash;
    this.#ifindex[id] = ifindex;
    this.#payer[id] = payer;
    if (payer !== 0) this.#charge(payer, end - start);
    this.#references[id] = 1;
    this.#fill(id);
    this.size++;
    if (this.size > this.#bucketCount) this.#splitBucket();
    const bucket = this.#bucketOf(hash);
    this.#chain[id] = this.#buckets[bucket];
    this.#buckets[bucket] = id;
    return id;
  }

  retain(id: number): void {
    this.#references[id]++;
  }

  release(id: number): void {
    if (--this.#references[id] !== 0) return;
    this.#unlink(id);
    this.generation[id]++;
    if (this.#payer[id] !== 0) this.#charge(this.#payer[id], -this.#length[id]);
    if (this.nextHop[id] !== 0) this.hooks.releaseNextHop(this.nextHop[id]);
    const units = Math.ceil(this.#length[id] / UNIT);
    const room = this.#freeRoom.get(units);
    const place = { chunk: this.#chunk[id], offset: this.#offset[id] };
    if (room) room.push(place);
    else this.#freeRoom.set(units, [place]);
    this.#freeIds.push(id);
    this.size--;
  }

  /** Octets of the sets that are there because of this payer: who brings a set pays for it, and who brings it as well has it for nothing. */
  octetsOf(payer: number): number {
    return this.#charged.get(payer) ?? 0;
  }

  #charge(payer: number, octets: number): void {
    const total = (this.#charged.get(payer) ?? 0) + octets;
    if (total > 0) this.#charged.set(payer, total);
    else this.#charged.delete(payer);
  }

  references(id: number): number {
    return this.#references[id];
  }

  /** Where the canonical octets of `id` stand; valid until its last reference is released. */
  buffer(id: number): Uint8Array {
    return this.#chunks[this.#chunk[id]];
  }
  start(id: number): number {
    return this.#offset[id];
  }
  end(id: number): number {
    return this.#offset[id] + this.#length[id];
  }
  octets(id: number): Uint8Array {
    return this.buffer(id).subarray(this.start(id), this.end(id));
  }

  parse(id: number): PathAttributes {
    return parseAttributes(this.buffer(id), this.start(id), this.end(id));
  }

  /** Whether two sets have the same AS_PATH octets (code 2 in canonical form). */
  sameAsPath(a: number, b: number): boolean {
    return a === b || sameOctets(this.#asPath(a), this.#asPath(b));
  }

  #asPath(id: number): Uint8Array {
    return attributeValue(this.buffer(id), this.start(id), this.end(id), AttributeCode.AsPath);
  }

  #fill(id: number): void {
    const buffer = this.buffer(id);
    const facts = readFacts(buffer, this.start(id), this.end(id));
    this.origin[id] = facts.origin;
    this.localPref[id] = facts.localPref < 0 ? DEFAULT_LOCAL_PREF : facts.localPref;
    this.med[id] = Math.max(facts.med, 0);
    this.asPathLength[id] = facts.asPathLength;
    this.neighborAs[id] = facts.neighborAs;
    this.clusterListLength[id] = facts.clusterListLength;
    this.originatorId[id] = facts.originatorId;
    this.hasOriginator[id] = facts.hasOriginator ? 1 : 0;
    this.wellKnown[id] = facts.wellKnownCommunities;
    this.nextHop[id] =
      facts.nextHopLength === 0
        ? 0
        : this.hooks.trackNextHop(buffer.subarray(facts.nextHopOffset, facts.nextHopOffset + facts.nextHopLength), this.#ifindex[id]);
  }

  #same(id: number, octets: Uint8Array, start: number, end: number): boolean {
    const length = end - start;
    if (this.#length[id] !== length) return false;
    const buffer = this.buffer(id);
    const at = this.#offset[id];
    for (let i = 0; i < length; i++) if (buffer[at + i] !== octets[start + i]) return false;
    return true;
  }

  #store(id: number, octets: Uint8Array, start: number, end: number): void {
    const units = Math.ceil((end - start) / UNIT);
    let place = this.#freeRoom.get(units)?.pop();
    if (!place) {
      if (this.#used + units * UNIT > CHUNK) {
        this.#chunks.push(new Uint8Array(CHUNK));
        this.#used = 0;
      }
      place = { chunk: this.#chunks.length - 1, offset: this.#used };
      this.#used += units * UNIT;
    }
    this.#chunk[id] = place.chunk;
    this.#offset[id] = place.offset;
    this.#length[id] = end - start;
    const target = this.#chunks[place.chunk];
    for (let from = start, to = place.offset; from < end; from++, to++) target[to] = octets[from];
  }

  #unlink(id: number): void {
    const bucket = this.#bucketOf(this.#hash[id]);
    let at = this.#buckets[bucket];
    if (at === id) {
      this.#buckets[bucket] = this.#chain[id];
      return;
    }
    while (this.#chain[at] !== id) at = this.#chain[at];
    this.#chain[at] = this.#chain[id];
  }

  #bucketOf(hash: number): number {
    const bucket = hash & (this.#bucketBase * 2 - 1);
    return bucket < this.#bucketCount ? bucket : bucket - this.#bucketBase;
  }

  /** One bucket more: it takes half of the sets of the bucket that stood for both. */
  #splitBucket(): void {
    const added = this.#bucketCount++;
    if (added === this.#buckets.length) this.#buckets = grown(this.#buckets, added * 2);
    const split = added - this.#bucketBase;
    const chain = this.#chain;
    let stays = 0;
    let moves = 0;
    for (let id = this.#buckets[split]; id !== 0; ) {
      const next = chain[id];
      if ((this.#hash[id] & this.#bucketBase) === 0) {
        chain[id] = stays;
        stays = id;
      } else {
        chain[id] = moves;
        moves = id;
      }
      id = next;
    }
    this.#buckets[split] = stays;
    this.#buckets[added] = moves;
    if (this.#bucketCount === this.#bucketBase * 2) this.#bucketBase = this.#bucketCount;
  }

  #newId(): number {
    const reused = this.#freeIds.pop();
    if (reused !== undefined) return reused;
    this.#growth.reserve(this.limit);
    return this.limit++;
  }

  #growers(capacity: number): (() => void)[] {
    const columns = columnNames.map(name => () => {
      (this as Record<ColumnName, Column>)[name] = grown(this[name], capacity);
    });
    return [
      ...columns,
      () => {
        this.#references = grown(this.#references, capacity);
      },
      () => {
        this.#chunk = grown(this.#chunk, capacity);
      },
      () => {
        this.#offset = grown(this.#offset, capacity);
      },
      () => {
        this.#length = grown(this.#length, capacity);
      },
      () => {
        this.#hash = grown(this.#hash, capacity);
      },
      () => {
        this.#ifindex = grown(this.#ifindex, capacity);
      },
      () => {
        this.#payer = grown(this.#payer, capacity);
      },
      () => {
        this.#chain = grown(this.#chain, capacity);
      },
    ];
  }
}
