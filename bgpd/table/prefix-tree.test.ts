import fc from "fast-check";
import { expect, test } from "vitest";
import { covers, formatPrefix, maskAddress, type Prefix } from "../../net/address.ts";
import { PrefixTree } from "./prefix-tree.ts";

/** Few bits that differ, so that prefixes meet. */
const octet = fc.constantFrom(0, 1, 128, 255);
const prefixes = fc.array(
  fc.record({ octets: fc.tuple(octet, octet, octet, octet), length: fc.integer({ min: 0, max: 32 }) }).map(({ octets, length }): Prefix => {
    return { family: 4, address: maskAddress(Uint8Array.from(octets), length), length };
  }),
  { maxLength: 30 },
);

test("the longest prefix that covers another and holds, wherever its octets stand", () => {
  fc.assert(
    fc.property(prefixes, prefixes, fc.integer({ min: 0, max: 32 }), (list, questions, most) => {
      const tree = new PrefixTree<Prefix>();
      for (const prefix of list) tree.add(prefix, prefix);
      for (const asked of questions) {
        const right = list
          .filter(prefix => covers(prefix, asked) && prefix.length <= most)
          .sort((a, b) => b.length - a.length)
          .map(formatPrefix)[0];
        const octets = Uint8Array.of(9, 9, ...asked.address.subarray(0, (asked.length + 7) >> 3));
        const found = tree.longest(octets, 2, asked.length, (prefix, length) => length === asked.length && prefix.length <= most);
        expect(found && formatPrefix(found)).toBe(right);
      }
    }),
  );
});
