/** Addresses that were announced at one moment, each by itself or as part of a covering prefix. */

import { widthOf } from "../../config/services/ranges.ts";
import { covers, type Prefix, parsePrefix } from "../../net/address.ts";

export class HeldPrefixes {
  readonly #addresses = new Set<string>();
  readonly #covering: Prefix[] = [];

  constructor(prefixes: Iterable<string>) {
    for (const text of prefixes) {
      const prefix = parsePrefix(text);
      if (prefix.length === widthOf(prefix.family)) this.#addresses.add(text);
      else this.#covering.push(prefix);
    }
  }

  has(address: string): boolean {
    const text = `${address}/${widthOf(address.includes(":") ? 6 : 4)}`;
    return this.#addresses.has(text) || this.#covering.some(prefix => covers(prefix, parsePrefix(text)));
  }
}
