/**
 * Prefixes as small integer ids: an open-addressing table in typed arrays, one per family. Id 0 is never given out, so that arrays of ids
 * can start zeroed. Ids are dense and reused after free(), so that everything known about a prefix is an array indexed by id.
 */
import type { Prefix } from "../../net/address.ts";

const EMPTY = 0;
/** Tombstone in the index: keeps probe chains whole after a removal. */
const DELETED = 0xffffffff;

export class PrefixTable {
  /** Octets of an address in 32-bit words: 1 (IPv4) or 4 (IPv6). */
  readonly words: 1 | 4;
  /** Called with the new capacity whenever ids may exceed the old one: parallel arrays grow with it. */
  readonly onGrow: (capacity: number) => void;
  /** Ids in use. */
  size = 0;
  /** All ids given out so far are below this. */
  limit = 1;
  capacity: number;
  #keys: Uint32Array;
  #lengths: Uint8Array;
  #index: Uint32Array;
  #mask: number;
  /** Occupied index slots, tombstones included. */
  #filled = 0;
  #free: number[] = [];

  constructor(words: 1 | 4, onGrow: (capacity: number) => void = () => {}, capacity = 1024) {
    this.words = words;
    this.onGrow = onGrow;
    this.capacity = capacity;
    this.#keys = new Uint32Array(capacity * words);
    this.#lengths = new Uint8Array(capacity);
    this.#index = new Uint32Array(capacity * 2);
    this.#mask = capacity * 2 - 1;
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
    let slot = this.#hash(w0, w1, w2, w3, length);
    for (;;) {
      const id = this.#index[slot];
      if (id === EMPTY) return 0;
      if (id !== DELETED && this.#matches(id, w0, w1, w2, w3, length)) return id;
      slot = (slot + 1) & this.#mask;
    }
  }

  /** Id of a prefix, made when new. Bits beyond `length` must be zero. */
  intern(w0: number, w1: number, w2: number, w3: number, length: number): number {
    let slot = this.#hash(w0, w1, w2, w3, length);
    let grave = -1;
    for (;;) {
      const id = this.#index[slot];
      if (id === EMPTY) break;
      if (id === DELETED) {
        if (grave < 0) grave = slot;
      } else if (this.#matches(id, w0, w1, w2, w3, length)) return id;
      slot = (slot + 1) & this.#mask;
    }
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
      if (++this.#filled * 4 > this.#index.length * 3) this.#rehash();
    }
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
    const at = id * this.words;
    const [w0, w1, w2, w3] = this.words === 1 ? [this.#keys[at], 0, 0, 0] : this.#keys.subarray(at, at + 4);
    let slot = this.#hash(w0, w1, w2, w3, this.#lengths[id]);
    while (this.#index[slot] !== id) slot = (slot + 1) & this.#mask;
    this.#index[slot] = DELETED;
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
    return { family: this.words === 1 ? 4 : 6, address, length: this.length(id) };
  }

  #matches(id: number, w0: number, w1: number, w2: number, w3: number, length: number): boolean {
    if (this.#lengths[id] !== length) return false;
    if (this.words === 1) return this.#keys[id] === w0;
    const at = id * 4;
    return this.#keys[at] === w0 && this.#keys[at + 1] === w1 && this.#keys[at + 2] === w2 && this.#keys[at + 3] === w3;
  }

  /** Multiplicative mixing: neighbouring prefixes differ in middle bits only. */
  #hash(w0: number, w1: number, w2: number, w3: number, length: number): number {
    let h = Math.imul(w0 ^ (length * 0x9e3779b1), 0x85ebca6b);
    if (this.words === 4) {
      h = Math.imul(h ^ (h >>> 15) ^ w1, 0xc2b2ae35);
      h = Math.imul(h ^ (h >>> 13) ^ w2, 0x27d4eb2f);
      h = Math.imul(h ^ (h >>> 15) ^ w3, 0x85ebca6b);
    }
    h ^= h >>> 15;
    h = Math.imul(h, 0x2c1b3c6d);
    h ^= h >>> 13;
    return h & this.#mask;
  }

  #newId(): number {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    if (this.limit === this.capacity) {
      this.capacity *= 2;
      this.#keys = grown(this.#keys, this.capacity * this.words);
      this.#lengths = grown(this.#lengths, this.capacity);
      this.onGrow(this.capacity);
    }
    return this.limit++;
  }

  /** Doubles the index when it is full of live entries, else only sweeps out the tombstones. */
  #rehash(): void {
    const old = this.#index;
    const slots = this.size * 2 > old.length ? old.length * 2 : old.length;
    this.#index = new Uint32Array(slots);
    this.#mask = slots - 1;
    this.#filled = this.size;
    for (const id of old) {
      if (id === EMPTY || id === DELETED) continue;
      const at = id * this.words;
      let slot =
        this.words === 1
          ? this.#hash(this.#keys[at], 0, 0, 0, this.#lengths[id])
          : this.#hash(this.#keys[at], this.#keys[at + 1], this.#keys[at + 2], this.#keys[at + 3], this.#lengths[id]);
      while (this.#index[slot] !== EMPTY) slot = (slot + 1) & this.#mask;
      this.#index[slot] = id;
    }
  }
}

/** A larger copy of a typed array. */
export function grown<T extends Uint8Array | Uint16Array | Uint32Array | Float64Array>(array: T, length: number): T {
  const larger = new (array.constructor as new (length: number) => T)(length);
  larger.set(array);
  return larger;
}

/** An address as four 32-bit words; an IPv4 address is the first of them. */
export function wordsOf(address: Uint8Array): [number, number, number, number] {
  const word = (at: number) => ((address[at] << 24) | (address[at + 1] << 16) | (address[at + 2] << 8) | address[at + 3]) >>> 0;
  return address.length === 4 ? [word(0), 0, 0, 0] : [word(0), word(4), word(8), word(12)];
}
