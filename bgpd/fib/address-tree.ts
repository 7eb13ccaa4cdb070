/**
 * Which of many addresses a prefix covers: a binary tree that branches where addresses differ (crit-bit). Looking up costs one step for each
 * branch, whatever the number of addresses that are not covered.
 */

interface Leaf<Value> {
  bit: undefined;
  address: Uint8Array;
  values: Value[];
}

interface Branch<Value> {
  /** Of the address, 0 = the first: here both sides differ, and all before it is common. */
  bit: number;
  sides: [Node<Value>, Node<Value>];
}

type Node<Value> = Leaf<Value> | Branch<Value>;

/** Of addresses of one length. */
export class AddressTree<Value> {
  #root: Node<Value> | undefined;

  get isEmpty(): boolean {
    return this.#root === undefined;
  }

  add(address: Uint8Array, value: Value): void {
    const near = this.#nearest(address);
    const at = near ? differenceOf(near.address, address) : 0;
    if (near && at < 0) {
      near.values.push(value);
      return;
    }
    const leaf: Leaf<Value> = { bit: undefined, address, values: [value] };
    if (!this.#root) {
      this.#root = leaf;
      return;
    }
    let above: Branch<Value> | undefined;
    let node = this.#root;
    while (node.bit !== undefined && node.bit < at) {
      above = node;
      node = node.sides[bitOf(address, node.bit)];
    }
    this.#replace(above, address, { bit: at, sides: bitOf(address, at) === 0 ? [leaf, node] : [node, leaf] });
  }

  remove(address: Uint8Array, value: Value): void {
    let above: Branch<Value> | undefined;
    let higher: Branch<Value> | undefined;
    let node = this.#root;
    while (node?.bit !== undefined) {
      higher = above;
      above = node;
      node = node.sides[bitOf(address, node.bit)];
    }
    if (!node || differenceOf(node.address, address) >= 0) return;
    node.values.splice(node.values.indexOf(value), 1);
    if (node.values.length > 0) return;
    if (above) this.#replace(higher, address, above.sides[1 - bitOf(address, above.bit)]);
    else this.#root = undefined;
  }

  /** Calls `visit` for the addresses that begin with the first `length` bits of `prefix`; false = there are more than `limit`, and some were left out. */
  covered(prefix: Uint8Array, length: number, limit: number, visit: (value: Value) => void): boolean {
    let node = this.#root;
    while (node?.bit !== undefined && node.bit < length) node = node.sides[bitOf(prefix, node.bit)];
    if (!node) return true;
    // All below agree in the first bits: one of them tells whether they are those asked for.
    let one = node;
    while (one.bit !== undefined) one = one.sides[0];
    const at = differenceOf(one.address, prefix);
    if (at >= 0 && at < length) return true;
    const left = [node];
    let found = 0;
    for (let next = left.pop(); next; next = left.pop()) {
      if (next.bit !== undefined) left.push(...next.sides);
      else if (found++ === limit) return false;
      else for (const value of next.values) visit(value);
    }
    return true;
  }

  #nearest(address: Uint8Array): Leaf<Value> | undefined {
    let node = this.#root;
    while (node?.bit !== undefined) node = node.sides[bitOf(address, node.bit)];
    return node;
  }

  #replace(above: Branch<Value> | undefined, address: Uint8Array, by: Node<Value>): void {
    if (above) above.sides[bitOf(address, above.bit)] = by;
    else this.#root = by;
  }
}

function bitOf(address: Uint8Array, bit: number): 0 | 1 {
  return ((address[bit >> 3] >> (7 - (bit & 7))) & 1) as 0 | 1;
}

/** The first bit in which they differ; -1 = none. */
function differenceOf(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return i * 8 + Math.clz32(a[i] ^ b[i]) - 24;
  return -1;
}
