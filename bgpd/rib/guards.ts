/** Prefixes that no neighbour can take over, by what they cover: asked for every prefix that arrives. */
import { formatPrefix, type Prefix } from "../../net/address.ts";
import { type FamilyIndex, forwardingFamily, perFamily } from "../family.ts";
import { PrefixTree } from "../table/prefix-tree.ts";

export interface Guard {
  prefix: Prefix;
  reason: string;
  /** Everything inside the prefix as well. */
  orLonger: boolean;
  /** The longest prefix inside that is guarded. Absent: all. */
  le?: number;
  /** Not against a node whose own range it is. */
  yields?: boolean;
}

export class Guards {
  readonly list: readonly Guard[];
  readonly #trees = perFamily(() => new PrefixTree<Guard>());

  constructor(list: readonly Guard[]) {
    this.list = list;
    for (const guard of list) this.#trees[forwardingFamily(guard.prefix.family)].add(guard.prefix, guard);
  }

  /** Those that are in one of the two lists only: what has changed is what they cover. undefined = nothing. */
  differing(others: readonly Guard[]): Guards | undefined {
    const [own, other] = [this.list, others].map(list => new Map(list.map(guard => [textOf(guard), guard])));
    const changed = [...own].filter(([text]) => !other.has(text)).concat([...other].filter(([text]) => !own.has(text)));
    return changed.length === 0 ? undefined : new Guards(changed.map(([, guard]) => guard));
  }

  /** The guard of the longest prefix that covers this one; undefined = none. The prefix: `length` bits from octet `start` on. */
  find(family: FamilyIndex, octets: Uint8Array, start: number, length: number): Guard | undefined {
    return this.#trees[family].longest(octets, start, length, holds);
  }

  covers({ family, address, length }: Prefix): boolean {
    return this.find(forwardingFamily(family), address, 0, length) !== undefined;
  }
}

function holds({ prefix, orLonger, le = 128 }: Guard, length: number): boolean {
  return orLonger ? length <= le : length === prefix.length;
}

function textOf({ prefix, ...rest }: Guard): string {
  return JSON.stringify([formatPrefix(prefix), rest]);
}
