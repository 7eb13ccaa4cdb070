/** Loc-RIB to FIB: which next hops the kernel shall use for a prefix. Remembers what was asked for last, so that a decision that changes nothing asks for nothing. */
import type { NextHop } from "../../kernel/types.ts";
import { compareOctets, type Prefix } from "../../net/address.ts";
import type { Fib, Tunnels } from "../fib/types.ts";
import { grown } from "../table/growth.ts";
import type { LocalTable } from "./local-routes.ts";
import type { NextHopColumns } from "./next-hops.ts";
import { carryingNextHops } from "./own-routes.ts";
import type { RibTable } from "./table.ts";

const NOTHING = 0;
const DISCARD = 1;
const TRANSIT = 2;
/** Keys from here on: one next hop, its id added. */
const SINGLE = 3;
/** Keys from here on: a set of next hops. */
const SETS = 0x80000000;
/** Sets that are remembered: a neighbour that changes its next hops for ever must not fill the memory. */
const MAX_SETS = 65_536;

export class KernelWriter {
  readonly #fib: Fib;
  readonly #table: RibTable;
  readonly #locals: LocalTable;
  readonly #nextHops: NextHopColumns;
  readonly #tunnels: Pick<Tunnels, "needs"> | undefined;
  /** By prefix id: what was asked for last. */
  #wanted: Uint32Array;
  readonly #sets = new Map<string, number>();
  #lastSet = SETS;

  constructor(fib: Fib, table: RibTable, locals: LocalTable, tunnels: Pick<Tunnels, "needs"> | undefined) {
    this.#fib = fib;
    this.#table = table;
    this.#locals = locals;
    this.#tunnels = tunnels;
    this.#nextHops = table.nextHops;
    this.#wanted = new Uint32Array(table.prefixes.capacity);
  }

  grow(capacity: number): void {
    this.#wanted = grown(this.#wanted, capacity);
  }

  /** Whether something else may be wanted now. */
  decided(prefix: number, best: number, hopsTouched: boolean): boolean {
    // Made while the table was growing.
    if (prefix >= this.#wanted.length) this.grow(this.#table.prefixes.capacity);
    const before = this.#wanted[prefix];
    if (best === 0 && before === NOTHING) return false;
    const ids = carryingNextHops(this.#table, this.#locals, prefix, best);
    const key = this.#key(ids);
    if (key === before && !hopsTouched) return false;
    this.#wanted[prefix] = key;
    const text = this.#table.prefixes.prefix(prefix);
    if (key === NOTHING) this.#fib.want(text, undefined);
    else if (ids === "discard") this.#fib.want(text, { type: "blackhole" });
    else if (ids === "transit") this.#fib.want(text, { type: "blackhole", transit: true });
    else this.#fib.want(text, { type: "unicast", nextHops: this.#hops(ids, text) });
    return true;
  }

  #key(ids: ReturnType<typeof carryingNextHops>): number {
    if (ids === "discard") return DISCARD;
    if (ids === "transit") return TRANSIT;
    return ids.length === 0 ? NOTHING : ids.length === 1 ? SINGLE + ids[0] : this.#setKey(ids);
  }

  #setKey(ids: number[]): number {
    const text = ids.join();
    let key = this.#sets.get(text);
    if (key !== undefined) return key;
    // Sets are not given back one by one: forgotten all at once, they cost a prefix a wish that changes nothing.
    if (this.#sets.size >= MAX_SETS) this.#sets.clear();
    this.#lastSet = this.#lastSet === 0xffffffff ? SETS : this.#lastSet + 1;
    key = this.#lastSet;
    this.#sets.set(text, key);
    return key;
  }

  /** One multipath route: the hops of all next hops, each once. */
  #hops(ids: number[], prefix: Prefix): NextHop[] {
    const hops: NextHop[] = [];
    for (const id of ids) {
      const resolution = this.#nextHops.resolution(id);
      const plain = resolution?.tunnelled === undefined || this.#tunnels?.needs(prefix);
      for (const hop of (plain ? resolution?.hops : resolution.tunnelled) ?? []) {
        if (!hops.some(known => sameHop(known, hop))) hops.push(hop);
      }
    }
    return hops;
  }
}

function sameHop(a: NextHop, b: NextHop): boolean {
  if (a.ifindex !== b.ifindex) return false;
  return a.gateway && b.gateway ? compareOctets(a.gateway, b.gateway) === 0 : a.gateway === b.gateway;
}
