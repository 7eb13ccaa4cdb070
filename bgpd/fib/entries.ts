/** The sets of next hops in use, each once, as small integers: a million routes through four routers are four sets. */
import type { NextHop } from "../../kernel/types.ts";
import { compareOctets } from "../../net/address.ts";
import type { FibEntry } from "./types.ts";

export type EntryId = number;
export const NONE: EntryId = 0;
export const BLACKHOLE: EntryId = 1;

interface Row {
  key: string;
  entry: FibEntry;
  references: number;
}

export class Entries {
  readonly #rows: (Row | undefined)[] = [undefined, { key: "", entry: { type: "blackhole" }, references: 1 }];
  readonly #ids = new Map<string, EntryId>();
  readonly #free: EntryId[] = [];
  /** How many of the sets use each link. */
  readonly #links = new Map<number, number>();

  /** The id of an entry, with one more reference, which the caller gives back with release(). Order and repetition of hops do not matter. */
  intern(entry: FibEntry | undefined): EntryId {
    if (entry === undefined) return NONE;
    if (entry.type === "blackhole") return BLACKHOLE;
    const nextHops = normalise(entry.nextHops);
    const key = nextHops.map(hopKey).join();
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#free.pop() ?? this.#rows.length;
      this.#rows[id] = { key, entry: { type: "unicast", nextHops }, references: 0 };
      this.#ids.set(key, id);
      this.#countLinks(nextHops, 1);
    }
    this.#rows[id]!.references++;
    return id;
  }

  release(id: EntryId): void {
    const row = this.#rows[id];
    if (id <= BLACKHOLE || row === undefined || --row.references > 0) return;
    this.#ids.delete(row.key);
    if (row.entry.type === "unicast") this.#countLinks(row.entry.nextHops, -1);
    this.#rows[id] = undefined;
    this.#free.push(id);
  }

  /** One more reference to an id in use. */
  retain(id: EntryId): EntryId {
    if (id > BLACKHOLE) this.#rows[id]!.references++;
    return id;
  }

  get(id: EntryId): FibEntry | undefined {
    return this.#rows[id]?.entry;
  }

  hops(id: EntryId): NextHop[] {
    const entry = this.get(id);
    return entry?.type === "unicast" ? entry.nextHops : [];
  }

  /** Whether the kernel would forward alike: an ifindex of 0 stands for the kernel's choice, "onlink" only matters when a route is written. */
  equivalent(a: EntryId, b: EntryId): boolean {
    if (a === b) return true;
    if (a <= BLACKHOLE || b <= BLACKHOLE) return false;
    const [left, right] = [this.hops(a), this.hops(b)];
    return left.length === right.length && left.every((hop, i) => sameWay(hop, right[i]));
  }

  usesLink(ifindex: number): boolean {
    return this.#links.has(ifindex);
  }

  #countLinks(hops: readonly NextHop[], change: 1 | -1): void {
    for (const { ifindex } of hops) {
      const count = (this.#links.get(ifindex) ?? 0) + change;
      if (count > 0) this.#links.set(ifindex, count);
      else this.#links.delete(ifindex);
    }
  }
}

function normalise(hops: readonly NextHop[]): NextHop[] {
  if (hops.length === 1) return hops[0].weight === undefined ? [...hops] : [{ ...hops[0], weight: undefined }];
  const sorted = [...hops].sort(compareHops);
  // The kernel refuses a member twice in an IPv6 route; once says the same.
  const unique = sorted.filter((hop, i) => i === 0 || compareHops(hop, sorted[i - 1]) !== 0);
  return unique.length === 1 ? normalise(unique) : unique;
}

function compareHops(a: NextHop, b: NextHop): number {
  return compareOctets(a.gateway ?? nowhere, b.gateway ?? nowhere) || a.ifindex - b.ifindex;
}

const nowhere = new Uint8Array();

function hopKey(hop: NextHop): string {
  const gateway = hop.gateway === undefined ? "" : Buffer.from(hop.gateway).toString("latin1");
  return `${gateway}%${hop.ifindex}*${hop.weight ?? 1}${hop.onlink ? "!" : ""}`;
}

function sameWay(a: NextHop, b: NextHop): boolean {
  if (compareOctets(a.gateway ?? nowhere, b.gateway ?? nowhere) !== 0) return false;
  return (a.weight ?? 1) === (b.weight ?? 1) && (a.ifindex === b.ifindex || a.ifindex === 0 || b.ifindex === 0);
}
