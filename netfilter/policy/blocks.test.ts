import fc from "fast-check";
import { expect, test } from "vitest";
import { contains, formatAddress, parseAddress, parsePrefix } from "../../net/address.ts";
import { isWhole, rangeElements, rangesOf } from "./blocks.ts";

const elements = (family: 4 | 6, ...blocks: [string, ...string[]][]) => [
  ...rangeElements(rangesOf(blocks.map(([cidr, ...except]) => ({ cidr, except })))[family], family).values(),
];

test.each<[string, 4 | 6, [string, ...string[]][], unknown[]]>([
  ["a prefix stays one", 4, [["10.1.0.0/16"]], [{ prefix: { addr: "10.1.0.0", len: 16 } }]],
  ["one address", 4, [["10.1.2.3/32"]], ["10.1.2.3"]],
  ["bits beyond the length", 4, [["10.1.2.3/16"]], [{ prefix: { addr: "10.1.0.0", len: 16 } }]],
  ["halves are a whole", 4, [["10.1.0.0/17"], ["10.1.128.0/17"]], [{ prefix: { addr: "10.1.0.0", len: 16 } }]],
  ["an exception at the beginning", 4, [["10.1.0.0/16", "10.1.0.0/32"]], [{ range: ["10.1.0.1", "10.1.255.255"] }]],
  ["an exception that is all", 4, [["10.1.0.0/16", "10.0.0.0/8"]], []],
  ["an exception of the other family", 4, [["10.1.0.0/16", "fd00::/8"]], [{ prefix: { addr: "10.1.0.0", len: 16 } }]],
  ["the last address", 4, [["0.0.0.0/0", "0.0.0.0/1"]], [{ prefix: { addr: "128.0.0.0", len: 1 } }]],
  ["everything", 6, [["::/0"]], [{ prefix: { addr: "::", len: 0 } }]],
  ["of the other family there is nothing", 6, [["10.1.0.0/16"]], []],
])("%s", (_, family, blocks, expected) => {
  expect(elements(family, ...blocks)).toEqual(expected);
});

test("an address is in the elements where it is in a block and in none of its exceptions, and these are in order and apart", () => {
  const prefix = fc
    .record({ low: fc.integer({ min: 0, max: 255 }), length: fc.integer({ min: 22, max: 32 }) })
    .map(({ low, length }) => `10.0.${low >> 6}.${(low << 2) & 255}/${length}`);
  const block = fc.record({ cidr: prefix, except: fc.array(prefix, { maxLength: 3 }) });
  fc.assert(
    fc.property(fc.array(block, { maxLength: 4 }), blocks => {
      const ranges = rangesOf(blocks)[4];
      ranges.forEach(({ first, last }, at) => {
        expect(last >= first && (at === 0 || first > ranges[at - 1].last + 1n)).toBe(true);
      });
      for (let at = 0; at < 1024; at++) {
        const address = parseAddress(`10.0.${at >> 8}.${at & 255}`);
        const isIn = (text: string) => contains(parsePrefix(text, "clear"), address);
        const number = BigInt(at) + (10n << 24n);
        const found = ranges.some(({ first, last }) => number >= first && number <= last);
        const wanted = blocks.some(({ cidr, except }) => isIn(cidr) && !except.some(isIn));
        if (found !== wanted)
          expect({ address: formatAddress(address), found }).toEqual({ address: formatAddress(address), found: wanted });
      }
    }),
    { numRuns: 100 },
  );
});

test("a whole family is known as such", () => {
  const all = rangesOf([
    { cidr: "0.0.0.0/1", except: [] },
    { cidr: "128.0.0.0/1", except: [] },
    { cidr: "::/0", except: ["fd00::/8"] },
  ]);
  expect([isWhole(all[4], 4), isWhole(all[6], 6)]).toEqual([true, false]);
});
