import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatPrefix, maskAddress, type Prefix, parsePrefix } from "../../net/address.ts";
import { PrefixTable } from "./prefix-table.ts";

/** Few addresses, so that prefixes meet again and differ in length only. */
function prefixArbitrary(octets: 4 | 16): fc.Arbitrary<Prefix> {
  return fc
    .tuple(fc.array(fc.constantFrom(0, 1, 128, 255), { minLength: octets, maxLength: octets }), fc.integer({ min: 0, max: octets * 8 }))
    .map(([address, length]) => ({ family: octets === 4 ? 4 : 6, address: maskAddress(Uint8Array.from(address), length), length }));
}

describe.each([
  [4, 4],
  [16, 6],
] as const)("%i octets", (octets, ip) => {
  it("is a map from prefix to id, whatever is interned, found and freed", () => {
    const command = fc.tuple(fc.constantFrom("intern", "find", "free"), prefixArbitrary(octets));
    fc.assert(
      fc.property(fc.array(command, { maxLength: 400 }), commands => {
        const capacities: number[] = [];
        let room = 2;
        const table = new PrefixTable(
          ip,
          capacity => {
            capacities.push(capacity);
            return [
              () => {
                room = capacity;
              },
            ];
          },
          2,
        );
        const model = new Map<string, number>();
        for (const [what, prefix] of commands) {
          const text = formatPrefix(prefix);
          const known = model.get(text);
          if (what === "intern") {
            const id = table.internPrefix(prefix);
            if (known === undefined) expect([...model.values(), 0]).not.toContain(id);
            else expect(id).toBe(known);
            expect(id).toBeLessThan(room);
            expect(room).toBeLessThanOrEqual(table.capacity);
            model.set(text, id);
          } else if (what === "find") {
            expect(table.findPrefix(prefix)).toBe(known ?? 0);
          } else if (known !== undefined) {
            table.free(known);
            model.delete(text);
          }
          expect(table.size).toBe(model.size);
        }
        for (const [text, id] of model) {
          expect(table.findPrefix(parsePrefix(text))).toBe(id);
          expect(formatPrefix(table.prefix(id))).toBe(text);
        }
        expect(capacities).toEqual(capacities.map((_, n) => 4 * 2 ** n));
      }),
      { numRuns: 60 },
    );
  });
});

it("reuses ids and does not fill up with tombstones", () => {
  const table = new PrefixTable(4, () => [], 16);
  for (let round = 0; round < 2000; round++) {
    const id = table.intern(round << 8, 0, 0, 0, 24);
    table.free(id);
  }
  expect([table.size, table.limit, table.capacity]).toEqual([0, 2, 16]);
  // A table whose index held tombstones only would search for ever here.
  expect(table.find(1 << 8, 0, 0, 0, 24)).toBe(0);
});

it("tells lengths apart, the default route and a host route included", () => {
  const table = new PrefixTable(4);
  const ids = ["0.0.0.0/0", "0.0.0.0/1", "0.0.0.0/32", "255.255.255.255/32"].map(text => table.internPrefix(parsePrefix(text)));
  expect(new Set(ids).size).toBe(4);
  expect(ids.map(id => formatPrefix(table.prefix(id)))).toEqual(["0.0.0.0/0", "0.0.0.0/1", "0.0.0.0/32", "255.255.255.255/32"]);
});

it("holds 200,000 prefixes", () => {
  const table = new PrefixTable(4);
  for (let n = 0; n < 200_000; n++) table.intern((n << 8) >>> 0, 0, 0, 0, 24);
  let missing = 0;
  for (let n = 0; n < 200_000; n++) if (table.word(table.find((n << 8) >>> 0, 0, 0, 0, 24), 0) !== (n << 8) >>> 0) missing++;
  expect([table.size, missing]).toEqual([200_000, 0]);
});
