/** What was told (RFC 4271 section 3.2): for each prefix the attribute set that went out last, and whom it did not go to because the route is theirs. */
import type { AttributeSets } from "../table/attribute-sets.ts";
import { grown } from "../table/growth.ts";

/** The route is of our own, and goes to all. */
export const NO_SOURCE = 0xffff;
/** Not an id: the member may have the prefix, nobody knows with which attributes. */
const MAYBE = 0xffffffff;

/**
 * Of all members of a group, which hear the same. A member has a prefix exactly when attributes are set and it is not the source. Holds one reference
 * of each set that it names.
 */
export class AdjRibOut {
  /** By prefix id: attribute id last sent, 0 = none; and the index of the neighbour the route comes from, member or not. */
  attributes: Uint32Array<ArrayBuffer>;
  source: Uint16Array<ArrayBuffer>;
  /** Prefixes with attributes. */
  count = 0;
  /** How many of them come from each neighbour, by its index. */
  #bySource = new Uint32Array(0);
  /** Grows with each change. */
  revision = 0;
  readonly #sets: AttributeSets;

  constructor(sets: AttributeSets, capacity: number) {
    this.#sets = sets;
    this.attributes = new Uint32Array(capacity);
    this.source = new Uint16Array(capacity).fill(NO_SOURCE);
  }

  grow(capacity: number): void {
    this.attributes = grown(this.attributes, capacity);
    const known = this.source.length;
    this.source = grown(this.source, capacity).fill(NO_SOURCE, known);
  }

  /** Takes over the caller's reference of `attributes`. */
  remember(prefix: number, attributes: number, source: number): void {
    const before = this.attributes[prefix];
    if (before !== 0) this.#note(this.source[prefix], -1);
    if (attributes !== 0) this.#note(source, 1);
    this.attributes[prefix] = attributes;
    this.source[prefix] = source;
    this.revision++;
    if (before !== 0) this.#sets.release(before);
    this.count += (attributes !== 0 ? 1 : 0) - (before !== 0 ? 1 : 0);
  }

  /** The same attributes, learned from another neighbour. */
  move(prefix: number, source: number): void {
    if (this.attributes[prefix] !== 0) {
      this.#note(this.source[prefix], -1);
      this.#note(source, 1);
    }
    this.source[prefix] = source;
  }

  /** How many prefixes the member has. */
  countOf(neighbor: number): number {
    return this.count - (this.#bySource[neighbor] ?? 0);
  }

  /** The member's id of the prefix, 0 = it does not have it. */
  heldBy(neighbor: number, prefix: number): number {
    return this.source[prefix] === neighbor ? 0 : this.attributes[prefix];
  }

  /** Becomes what the other is. `capacity`: the other may not have grown yet. */
  copy(other: AdjRibOut, capacity: number): void {
    this.attributes = other.attributes.slice();
    this.source = other.source.slice();
    if (this.attributes.length < capacity) this.grow(capacity);
    for (const id of this.attributes) if (id !== 0) this.#sets.retain(id);
    this.count = other.count;
    this.#bySource = other.#bySource.slice();
  }

  #note(source: number, change: number): void {
    if (source === NO_SOURCE) return;
    if (source >= this.#bySource.length) this.#bySource = grown(this.#bySource, source + 32);
    this.#bySource[source] += change;
  }

  close(): void {
    for (const id of this.attributes) if (id !== 0) this.#sets.release(id);
    this.attributes = new Uint32Array(0);
  }
}

/** What one member had from a group that it has left, until the new group has told the difference. Holds references as AdjRibOut does. */
export class Heard {
  readonly #ids: Uint32Array;
  readonly #sets: AttributeSets;

  /**
   * `dump`: the first prefix that the group had not told this member yet, 0 = it had told all; of what follows it may have heard later changes.
   * `before`: what it had from the group before.
   */
  constructor(sets: AttributeSets, from: AdjRibOut, neighbor: number, dump: number, before: Heard | undefined) {
    this.#sets = sets;
    this.#ids = new Uint32Array(from.attributes.length);
    for (let prefix = 1; prefix < this.#ids.length; prefix++) {
      const id = from.heldBy(neighbor, prefix);
      if (id === 0) this.#ids[prefix] = before?.has(prefix) ? MAYBE : 0;
      else if (dump !== 0 && prefix >= dump) this.#ids[prefix] = MAYBE;
      else {
        this.#ids[prefix] = id;
        sets.retain(id);
      }
    }
  }

  /** The member may have the prefix. */
  has(prefix: number): boolean {
    return prefix < this.#ids.length && this.#ids[prefix] !== 0;
  }

  /** The member has the prefix with just these attributes. */
  is(prefix: number, attributes: number): boolean {
    return this.#ids[prefix] === attributes && attributes !== 0;
  }

  /** From now on all is told again, whatever the member has. */
  doubt(): void {
    for (let prefix = 1; prefix < this.#ids.length; prefix++) {
      const id = this.#ids[prefix];
      if (id === 0 || id === MAYBE) continue;
      this.#sets.release(id);
      this.#ids[prefix] = MAYBE;
    }
  }

  /** Ids of prefixes that the member may have. */
  *prefixes(): Generator<number> {
    for (let prefix = 1; prefix < this.#ids.length; prefix++) if (this.#ids[prefix] !== 0) yield prefix;
  }

  close(): void {
    this.doubt();
    this.#ids.fill(0);
  }
}
