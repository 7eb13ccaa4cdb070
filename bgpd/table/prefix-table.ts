/**
 * Prefixes as small integer ids: an open-addressing table in typed arrays, one per family. Id 0 is never given out, so that arrays of ids
 * can start zeroed. Ids are dense and reused after free(), so that everything known about a prefix is an array indexed by id. Where a prefix
 * stands in the index is a secret of the process (keyed-hash.ts); an index in which a search takes too long is replaced by one with another key.
 */
import type { IpFamily, Prefix } from "../../net/address.ts";
import { Growth, grown } from "./growth.ts";
import { hashPrefix4, hashPrefix6, type RandomWords, secretWords, tabulation } from "./keyed-hash.ts";

const EMPTY = 0;
/** Tombstone in the index: keeps probe chains whole after a removal. */
const DELETED = 0xffffffff;
/** Length of an id that is free. */
const FREE = 255;
/** Ids that go into the next index with each new one: it is whole long before the present one is full. */
const MOVES = 8;
/**
 * Places looked at for one prefix, at most: then the next index is begun, with another key. With a million prefixes at the fullest the longest search
 * is expected to take some 150 (ln n / (load - 1 - ln load)).
 */
const MAX_PROBES = 512;

export class PrefixTable {
  readonly ip: IpFamily;
  /** Octets of an address in 32-bit words. */
  readonly words: 1 | 4;
  /** Ids in use. */
  size = 0;
  /** All ids given out so far are below this. */
  limit = 1;
  #keys: Uint32Array;
  #lengths: Uint8Array;
  #index: Uint32Array;
  #key: Uint32Array;
  #mask: number;
  /** Occupied index slots, tombstones included. */
  #filled = 0;
  /** The index that will take the place of the present one: holds the ids below `#moved` so far. */
  #next: Uint32Array | undefined;
  #nextKey: Uint32Array = new Uint32Array(0);
  #nextFilled = 0;
  #moved = 0;
  #free: number[] = [];
  readonly #growth: Growth;
  readonly #random: RandomWords;
  /** Places looked at by all searches so far, and indexes that were replaced for their long searches. */
  probes = 0;
  rekeyed = 0;

  /** `growers` returns what grows the arrays that others keep by prefix id (growth.ts). */
  constructor(ip: IpFamily, growers: (capacity: number) => (() => void)[] = () => [], capacity = 1024, random: RandomWords = secretWords) {
    this.ip = ip;
    const words = ip === 4 ? 1 : 4;
    this.words = words;
    this.#random = random;
    this.#key = this.#newKey();
    this.#keys = new Uint32Array(capacity * words);
    this.#lengths = new Uint8Array(capacity);
    this.#index = new Uint32Array(capacity * 2);
    this.#mask = capacity * 2 - 1;
    this.#growth = new Growth(capacity, larger => [
      () => {
        this.#keys = grown(this.#keys, larger * words);
      },
      () => {
        this.#lengths = grown(this.#lengths, larger);
      },
      ...growers(larger),
    ]);
  }

  /** What an array by prefix id that is made now must have room for. */
  get capacity(): number {
    return this.#growth.capacity;
  }

  length(id: number): number {
    return this.#lengths[id];
  }

  /** Word `n` (0 = most significant) of the address of `id`. */
  word(id: number, n: number): number {
    return this.#keys[id * this.words + n];
  }

  /** Id of a prefix whose host bits are zero; 0 = not in the table. */
  find(w0: number, w1: number, w2: number, w3: number, length: number): number {
    const first = this.#hash(this.#key, w0, w1, w2, w3, length) & this.#mask;
    for (let slot = first; ; slot = (slot + 1) & this.#mask) {
      const id = this.#index[slot];
      if (id !== EMPTY && (id === DELETED || !this.#matches(id, w0, w1, w2, w3, length))) continue;
      this.#count(first, slot);
      return id;
    }
  }

  /** Id of a prefix, made when new. Bits beyond `length` must be zero. */
  intern(w0: number, w1: number, w2: number, w3: number, length: number): number {
    const first = this.#hash(this.#key, w0, w1, w2, w3, length) & this.#mask;
    let slot = first;
    let grave = -1;
    for (;;) {
      const id = this.#index[slot];
      if (id === EMPTY) break;
      if (id === DELETED) {
        if (grave < 0) grave = slot;
      } else if (this.#matches(id, w0, w1, w2, w3, length)) {
        this.#count(first, slot);
        return id;
      }
      slot = (slot + 1) & this.#mask;
    }
    const tooFar = this.#count(first, slot);
    const id = this.#newId();
    const at = id * this.words;
    this.#keys[at] = w0;
    if (this.words === 4) {
      this.#keys[at + 1] = w1;
      this.#keys[at + 2] = w2;
      this.#keys[at + 3] = w3;
    }
    this.#lengths[id] = length;
    this.size++;
    if (grave >= 0) this.#index[grave] = id;
    else {
      this.#index[slot] = id;
      this.#filled++;
    }
    if (this.#next) this.#moveSome(this.#next, id);
    else if (tooFar) {
      this.rekeyed++;
      this.#startNext();
    } else if (this.#filled * 8 > this.#index.length * 5) this.#startNext();
    return id;
  }

  findPrefix(prefix: Prefix): number {
    const [w0, w1, w2, w3] = wordsOf(prefix.address);
    return this.find(w0, w1, w2, w3, prefix.length);
  }

  internPrefix(prefix: Prefix): number {
    const [w0, w1, w2, w3] = wordsOf(prefix.address);
    return this.intern(w0, w1, w2, w3, prefix.length);
  }

  /** Gives the id back; whoever holds arrays indexed by it has cleared its entry. */
  free(id: number): void {
    bury(this.#index, this.#hashOf(this.#key, id), id);
    if (this.#next && id < this.#moved) bury(this.#next, this.#hashOf(this.#nextKey, id), id);
    this.#lengths[id] = FREE;
    this.#free.push(id);
    this.size--;
  }

  prefix(id: number): Prefix {
    const address = new Uint8Array(this.words * 4);
    for (let n = 0; n < this.words; n++) {
      const word = this.word(id, n);
      address[n * 4] = word >>> 24;
      address[n * 4 + 1] = (word >>> 16) & 255;
      address[n * 4 + 2] = (word >>> 8) & 255;
      address[n * 4 + 3] = word & 255;
    }
    return { family: this.ip, address, length: this.length(id) };
  }

  #matches(id: number, w0: number, w1: number, w2: number, w3: number, length: number): boolean {
    if (this.#lengths[id] !== length) return false;
    if (this.words === 1) return this.#keys[id] === w0;
    const at = id * 4;
    return this.#keys[at] === w0 && this.#keys[at + 1] === w1 && this.#keys[at + 2] === w2 && this.#keys[at + 3] === w3;
  }

  /** Whether the search from one slot to the other took too long. */
  #count(first: number, last: number): boolean {
    const probes = ((last - first) & this.#mask) + 1;
    this.probes += probes;
    return probes > MAX_PROBES;
  }

  #newKey(): Uint32Array {
    return tabulation(this.words * 4 + 1, this.#random);
  }

  #hash(key: Uint32Array, w0: number, w1: number, w2: number, w3: number, length: number): number {
    return this.words === 1 ? hashPrefix4(key, w0, length) : hashPrefix6(key, w0, w1, w2, w3, length);
  }

  #hashOf(key: Uint32Array, id: number): number {
    const at = id * this.words;
    const keys = this.#keys;
    if (this.words === 1) return this.#hash(key, keys[at], 0, 0, 0, this.#lengths[id]);
    return this.#hash(key, keys[at], keys[at + 1], keys[at + 2], keys[at + 3], this.#lengths[id]);
  }

  #newId(): number {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    this.#growth.reserve(this.limit);
    return this.limit++;
  }

  /**
   * A larger index, or one of the same size when most of the present one is tombstones, in any case with a key of its own. It fills while the present
   * one still serves.
   */
  #startNext(): void {
    this.#nextKey = this.#newKey();
    this.#next = new Uint32Array(this.size * 2 > this.#index.length ? this.#index.length * 2 : this.#index.length);
    this.#nextFilled = 0;
    this.#moved = 1;
  }

  /** `added` is the newest id, which the next index does not hold yet if it lies below those still to be moved. */
  #moveSome(next: Uint32Array, added: number): void {
    if (added < this.#moved) this.#put(next, added);
    const end = Math.min(this.limit, this.#moved + MOVES);
    while (this.#moved < end) {
      const id = this.#moved++;
      if (this.#lengths[id] !== FREE) this.#put(next, id);
    }
    if (this.#moved < this.limit) return;
    this.#index = next;
    this.#key = this.#nextKey;
    this.#mask = next.length - 1;
    this.#filled = this.#nextFilled;
    this.#next = undefined;
  }

  #put(index: Uint32Array, id: number): void {
    const mask = index.length - 1;
    let slot = this.#hashOf(this.#nextKey, id) & mask;
    while (index[slot] !== EMPTY) slot = (slot + 1) & mask;
    index[slot] = id;
    this.#nextFilled++;
  }
}

/** Puts a tombstone in place of an id that is in the index. */
function bury(index: Uint32Array, hash: number, id: number): void {
  const mask = index.length - 1;
  let slot = hash & mask;
  while (index[slot] !== id) slot = (slot + 1) & mask;
  index[slot] = DELETED;
}

/** Order of two prefixes of a table: by address, the shorter first. */
export function comparePrefixIds(prefixes: PrefixTable, a: number, b: number): number {
  for (let n = 0; n < prefixes.words; n++) {
    const difference = prefixes.word(a, n) - prefixes.word(b, n);
    if (difference !== 0) return difference;
  }
  return prefixes.length(a) - prefixes.length(b);
}

/** An address as four 32-bit words; an IPv4 address is the first of them. */
export function wordsOf(address: Uint8Array): [number, number, number, number] {
  const word = (at: number) => ((address[at] << 24) | (address[at + 1] << 16) | (address[at + 2] << 8) | address[at + 3]) >>> 0;
  return address.length === 4 ? [word(0), 0, 0, 0] : [word(0), word(4), word(8), word(12)];
}
