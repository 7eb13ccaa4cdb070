/** The Loc-RIB as next hops and the kernel see it: which next hops carry the traffic of a prefix. */

import type { IpFamily, Prefix } from "../../net/address.ts";
import { FamilyTable, forwardingFamily, type PerFamily, perFamily } from "../family.ts";
import type { OwnRoutes } from "../fib/types.ts";
import type { LocalTable } from "./local-routes.ts";
import { LOCAL_SLOT } from "./slots.ts";
import type { RibTable } from "./table.ts";

/**
 * Next-hop ids of the paths that carry traffic, ascending; "discard" for a range of ours, or "transit" where that is for packets of others alone; none
 * where nothing is to be installed. Call after the decision or evaluate() of the prefix.
 */
export function carryingNextHops(table: RibTable, locals: LocalTable, prefix: number, best: number): number[] | "discard" | "transit" {
  if (best === 0) return [];
  if (table.pathSlot[best] === LOCAL_SLOT) {
    const { discard = false } = locals.network(best) ?? {};
    return discard === true ? "discard" : discard || [];
  }
  const single = table.head[prefix] === best && table.pathNext[best] === 0;
  const paths = single ? [best] : table.multipathSet(best);
  return paths.map(path => table.attributes.nextHop[table.pathAttributes[path]]).sort((a, b) => a - b);
}

export class LocRibRoutes implements OwnRoutes {
  readonly #tables: PerFamily<RibTable>;
  readonly #locals: PerFamily<LocalTable>;
  /** By family and length: 1 = some prefix of this length was decided. */
  readonly #lengths = perFamily(family => new Uint8Array(FamilyTable[family].maxLength + 1));

  constructor(tables: PerFamily<RibTable>, locals: PerFamily<LocalTable>) {
    this.#tables = tables;
    this.#locals = locals;
  }

  /** Called for each prefix that the kernel shall have. */
  decided(table: RibTable, prefix: number): void {
    this.#lengths[table.family][table.prefixes.length(prefix)] = 1;
  }

  hasLength(family: IpFamily, length: number): boolean {
    return this.#lengths[forwardingFamily(family)][length] === 1;
  }

  find(prefix: Prefix): number {
    return this.#tables[forwardingFamily(prefix.family)].prefixes.findPrefix(prefix);
  }

  nextHops(family: IpFamily, prefix: number): number[] | "discard" {
    const f = forwardingFamily(family);
    const table = this.#tables[f];
    // Where a decision waits, this is what it will be.
    const ids = carryingNextHops(table, this.#locals[f], prefix, table.evaluate(prefix));
    // It concerns nothing that this node sends itself.
    if (ids === "transit") return [];
    // Id 0: none; the tracker's own are one lower.
    return ids === "discard" ? ids : ids.filter(id => id > 0).map(id => id - 1);
  }
}
