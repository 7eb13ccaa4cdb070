import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { covers, formatPrefix, maskAddress, type Prefix, parsePrefix } from "../../net/address.ts";
import { compilePrefixList, type PrefixListEntry, parsePrefixRange } from "./prefix-list.ts";

describe("prefix list", () => {
  it.each<[string, PrefixListEntry[], boolean, boolean]>([
    ["10.0.0.0/8", [{ prefix: "10.0.0.0/8" }], true, true],
    ["10.1.0.0/16", [{ prefix: "10.0.0.0/8" }], false, false],
    ["10.1.0.0/16", [{ prefix: "10.0.0.0/8", le: 16 }], true, true],
    ["10.1.0.0/17", [{ prefix: "10.0.0.0/8", le: 16 }], false, false],
    ["10.0.0.0/8", [{ prefix: "10.0.0.0/8", ge: 16 }], false, false],
    ["10.1.0.0/16", [{ prefix: "10.0.0.0/8", ge: 16 }], true, true],
    ["10.1.1.0/24", [{ prefix: "10.0.0.0/8", ge: 16 }], false, false],
    ["10.1.1.0/24", [{ prefix: "10.0.0.0/8", ge: 16, le: 24 }], true, true],
    ["11.1.1.0/24", [{ prefix: "10.0.0.0/8", ge: 16, le: 24 }], false, false],
    ["0.0.0.0/0", [{ prefix: "0.0.0.0/0" }], true, true],
    ["192.0.2.0/24", [{ prefix: "0.0.0.0/0", le: 32 }], true, false],
    ["192.0.2.1/32", [{ prefix: "192.0.2.1/32" }], true, true],
    ["::/0", [{ prefix: "0.0.0.0/0" }], false, false],
    ["2001:db8:1::/48", [{ prefix: "2001:db8::/32", ge: 48, le: 64 }], true, true],
    ["2001:db8::1/128", [{ prefix: "2001:db8::1/128" }], true, true],
    ["10.1.0.0/16", [{ prefix: "10.0.0.0/8" }, { prefix: "10.0.0.0/8", ge: 16 }], true, true],
    ["10.1.0.0/16", [], false, false],
  ])("%s in %j: %s, named: %s", (text, entries, matches, names) => {
    const list = compilePrefixList(entries);
    expect([list.matches(parsePrefix(text)), list.names(parsePrefix(text))]).toEqual([matches, names]);
  });

  it.each<[PrefixListEntry, string]>([
    [{ prefix: "10.0.0.0/8", ge: 7 }, "10.0.0.0/8 ge 7: lengths must rise: 8 <= ge <= le <= 32"],
    [{ prefix: "10.0.0.0/8", le: 33 }, "10.0.0.0/8 le 33: lengths must rise"],
    [{ prefix: "10.0.0.0/8", ge: 24, le: 16 }, "lengths must rise"],
    [{ prefix: "2001:db8::/32", le: 129 }, "<= le <= 128"],
    [{ prefix: "10.0.0.0/8", le: 16.5 }, "lengths must rise"],
    [{ prefix: "10.0.0.1/8" }, "did you mean 10.0.0.0/8"],
    [{ prefix: "ten/8" }, "not an IPv4 or IPv6 address"],
  ])("refuses %j", (entry, message) => {
    expect(() => compilePrefixList([entry])).toThrow(message);
  });

  it("answers as a plain scan of the entries does", () => {
    // Few distinct bits, so that prefixes nest and collide.
    const prefix = fc
      .record({
        six: fc.boolean(),
        octets: fc.array(fc.constantFrom(0, 1, 128, 255), { minLength: 16, maxLength: 16 }),
        length: fc.nat(128),
      })
      .map(({ six, octets, length }): Prefix => {
        const bits = six ? length : length % 33;
        return { family: six ? 6 : 4, address: maskAddress(Uint8Array.from(octets.slice(0, six ? 16 : 4)), bits), length: bits };
      });
    const entry = fc.tuple(prefix, fc.nat(128), fc.nat(128)).map(([value, a, b]): PrefixListEntry => {
      const room = value.address.length * 8 - value.length + 1;
      const ge = value.length + (a % room);
      return { prefix: formatPrefix(value), ge, le: ge + (b % (value.address.length * 8 - ge + 1)) };
    });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 40 }), fc.array(prefix, { minLength: 1, maxLength: 20 }), (entries, asked) => {
        const list = compilePrefixList(entries);
        const ranges = entries.map(parsePrefixRange);
        for (const one of asked) {
          const hits = ranges.filter(range => covers(range.prefix, one) && one.length >= range.ge && one.length <= range.le);
          expect(list.matches(one)).toBe(hits.length > 0);
          expect(list.names(one)).toBe(hits.some(range => range.prefix.length > 0 || one.length === 0));
        }
      }),
      { numRuns: 300 },
    );
  });
});
