/**
 * Values by prefix, and which of them cover a prefix: a binary tree, one step for each bit at most, and as few as it takes to leave what is
 * in the tree. Asking makes no objects: prefixes are asked for as they stand in a message.
 */
import type { Prefix } from "../../net/address.ts";

/** Of prefixes of one family. */
export class PrefixTree<Value> {
  /** Two children for each node; 0 = none (the root is nobody's child). */
  readonly #children: number[] = [0, 0];
  readonly #values: (Value[] | undefined)[] = [undefined];

  add({ address, length }: Prefix, value: Value): void {
    let node = 0;
    for (let bit = 0; bit < length; bit++) {
      const side = node * 2 + ((address[bit >> 3] >> (7 - (bit & 7))) & 1);
      if (this.#children[side] === 0) {
        this.#children[side] = this.#values.length;
        this.#children.push(0, 0);
        this.#values.push(undefined);
      }
      node = this.#children[side];
    }
    const values = this.#values[node] ?? [];
    values.push(value);
    this.#values[node] = values;
  }

  /**
   * The first value that `holds`, of the longest prefix that covers the one whose address begins at `start` of `octets`; bits beyond `length` are
   * not looked at.
   */
  longest(octets: Uint8Array, start: number, length: number, holds: (value: Value, length: number) => boolean): Value | undefined {
    let found: Value | undefined;
    for (let node = 0, bit = 0; ; bit++) {
      const values = this.#values[node];
      if (values !== undefined) found = values.find(value => holds(value, length)) ?? found;
      if (bit === length) return found;
      node = this.#children[node * 2 + ((octets[start + (bit >> 3)] >> (7 - (bit & 7))) & 1)];
      if (node === 0) return found;
    }
  }
}
