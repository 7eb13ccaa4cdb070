/**
 * A prefix list: one binary trie per family, so that asking costs at most one step per bit of the prefix, however long the list is.
 * An entry permits the prefixes that it covers and whose length lies in ge..le.
 */
import { type IpFamily, type Prefix, parsePrefix } from "../../net/address.ts";

/** A prefix as a rule names it; ge defaults to the prefix's own length, le to ge. */
export interface PrefixListEntry {
  prefix: string;
  ge?: number;
  le?: number;
}

export interface PrefixList {
  matches(prefix: Prefix): boolean;
  /** As matches(), but an entry of length 0 names only the default route itself, not every route. */
  names(prefix: Prefix): boolean;
}

export interface PrefixRange {
  prefix: Prefix;
  ge: number;
  le: number;
}

/** Reads an entry. Throws AddressError for a bad prefix, RangeError unless length <= ge <= le <= 32 or 128. */
export function parsePrefixRange(entry: PrefixListEntry): PrefixRange {
  const prefix = parsePrefix(entry.prefix);
  const ge = entry.ge ?? prefix.length;
  const le = entry.le ?? ge;
  const bits = prefix.family === 4 ? 32 : 128;
  const inOrder = Number.isInteger(ge) && Number.isInteger(le) && prefix.length <= ge && ge <= le && le <= bits;
  if (!inOrder) throw new RangeError(`${formatPrefixRange(entry)}: lengths must rise: ${prefix.length} <= ge <= le <= ${bits}`);
  return { prefix, ge, le };
}

export function formatPrefixRange(entry: PrefixListEntry): string {
  const ge = entry.ge === undefined ? "" : ` ge ${entry.ge}`;
  return `${entry.prefix}${ge}${entry.le === undefined ? "" : ` le ${entry.le}`}`;
}

/** Throws what parsePrefixRange throws. */
export function compilePrefixList(entries: readonly PrefixListEntry[]): PrefixList {
  const tries: Record<IpFamily, Trie> = { 4: new Trie(), 6: new Trie() };
  for (const entry of entries) {
    const { prefix, ge, le } = parsePrefixRange(entry);
    tries[prefix.family].insert(prefix, ge, le);
  }
  return {
    matches: prefix => tries[prefix.family].permits(prefix, true),
    names: prefix => tries[prefix.family].permits(prefix, prefix.length === 0),
  };
}

class Trie {
  /** Two children for each node; 0 = none (the root is nobody's child). */
  readonly #children: number[] = [0, 0];
  /** Permitted lengths of the prefixes under a node: ge, le, ge, le, … */
  readonly #ranges: (number[] | undefined)[] = [undefined];

  insert(prefix: Prefix, ge: number, le: number): void {
    let node = 0;
    for (let bit = 0; bit < prefix.length; bit++) {
      const slot = node * 2 + bitAt(prefix.address, bit);
      if (this.#children[slot] === 0) {
        this.#children[slot] = this.#ranges.length;
        this.#children.push(0, 0);
        this.#ranges.push(undefined);
      }
      node = this.#children[slot];
    }
    const ranges = this.#ranges[node] ?? [];
    ranges.push(ge, le);
    this.#ranges[node] = ranges;
  }

  permits(prefix: Prefix, askRoot: boolean): boolean {
    const { address, length } = prefix;
    if (askRoot && includes(this.#ranges[0], length)) return true;
    let node = 0;
    for (let bit = 0; bit < length; bit++) {
      node = this.#children[node * 2 + bitAt(address, bit)];
      if (node === 0) return false;
      if (includes(this.#ranges[node], length)) return true;
    }
    return false;
  }
}

function bitAt(address: Uint8Array, bit: number): number {
  return (address[bit >> 3] >> (7 - (bit & 7))) & 1;
}

function includes(ranges: number[] | undefined, length: number): boolean {
  if (ranges === undefined) return false;
  for (let i = 0; i < ranges.length; i += 2) if (length >= ranges[i] && length <= ranges[i + 1]) return true;
  return false;
}
