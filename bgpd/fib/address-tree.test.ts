import fc from "fast-check";
import { expect, it } from "vitest";
import { contains } from "../../net/address.ts";
import { AddressTree } from "./address-tree.ts";

const octets = fc.array(fc.constantFrom(0, 1, 127, 128, 255), { minLength: 4, maxLength: 4 });
const step = fc.record({ add: fc.boolean(), address: octets, value: fc.nat(2) });

it("finds what a plain scan finds, after any additions and removals", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), octets, fc.nat(32), (steps, prefix, length) => {
      const tree = new AddressTree<string>();
      const plain: { address: Uint8Array; value: string }[] = [];
      for (const { add, address, value } of steps) {
        const one = { address: Uint8Array.from(address), value: `${address} ${value}` };
        const known = plain.findIndex(other => other.value === one.value);
        if (add) {
          tree.add(one.address, one.value);
          plain.push(one);
        } else if (known >= 0) {
          tree.remove(one.address, one.value);
          plain.splice(known, 1);
        } else tree.remove(Uint8Array.of(9, 9, 9, 9), "never added");
      }
      const found: string[] = [];
      const asked = Uint8Array.from(prefix);
      expect(tree.covered(asked, length, 100, value => found.push(value))).toBe(true);
      const inside = plain.filter(({ address }) => contains({ address: masked(asked, length), length }, address));
      expect(found.sort()).toEqual(inside.map(({ value }) => value).sort());
      expect(tree.isEmpty).toBe(plain.length === 0);
    }),
  );
});

it("stops where more are inside than asked for", () => {
  const tree = new AddressTree<number>();
  for (let n = 0; n < 10; n++) tree.add(Uint8Array.of(10, 0, 0, n), n);
  const found: number[] = [];
  expect(tree.covered(Uint8Array.of(10, 0, 0, 0), 24, 4, value => found.push(value))).toBe(false);
  expect(found).toHaveLength(4);
});

function masked(address: Uint8Array, length: number): Uint8Array {
  return address.map((octet, i) => octet & (0xff00 >> Math.min(8, Math.max(0, length - i * 8))));
}
