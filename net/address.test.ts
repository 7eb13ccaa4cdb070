import { isIP } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress, isAddress, parseAddress } from "./address.ts";
import { hexOf } from "./octets.ts";

test.each([
  ["192.0.2.1", "c0000201"],
  ["2001:db8::1", "20010db8000000000000000000000001"],
  ["::", "0".repeat(32)],
  ["::1.2.3.4", "00000000000000000000000001020304"],
  ["::ffff:1.2.3.4", "00000000000000000000ffff01020304"],
  ["64:ff9b::192.0.2.33", "0064ff9b0000000000000000c0000221"],
  ["1:2:3:4:5:6:7.8.9.10", "0001000200030004000500060708090a"],
])("%s", (text, octets) => {
  expect(hexOf(parseAddress(text))).toBe(octets);
});

test.each([
  ...["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "0x1.2.3.4", " 1.2.3.4"],
  ...[
    "fe80::1%eth0",
    "::ffff:01.2.3.4",
    "::ffff:0x1.2.3.4",
    "::ffff:1.2.3.256",
    "1::2::3",
    "12345::",
    "1:2:3:4:5:6:7:1.2.3.4",
    "::1.2.3.4:5",
    ":1.2.3.4",
  ],
])("%j is no address", text => {
  expect(isAddress(text)).toBe(false);
});

test("what is an address is what the C library takes for one, however it is put together", () => {
  const part = fc.oneof(
    fc.constantFrom(":", "::", ".", "1", "0", "01", "ffff", "fffff", "g", "256", "255", "1.2.3.4", "%"),
    fc.integer({ min: 0, max: 65535 }).map(group => group.toString(16)),
  );
  const text = fc.array(part, { maxLength: 16 }).map(parts => parts.join(""));
  const joined = fc
    .array(fc.integer({ min: 0, max: 65535 }), { minLength: 5, maxLength: 8 })
    .map(groups => groups.map(group => group.toString(16)).join(":"));
  const withTail = joined.map(groups => `${groups}:192.0.2.1`);
  fc.assert(
    fc.property(fc.oneof(text, joined, withTail), one => {
      // A zone is one for the C library.
      expect([one, isAddress(one)]).toEqual([one, isIP(one) !== 0 && !one.includes("%")]);
    }),
    { numRuns: 5000 },
  );
});

test("what is written is read again, in one spelling", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), octets => {
      const text = formatAddress(octets);
      expect(parseAddress(text)).toEqual(octets);
      expect(formatAddress(parseAddress(text.toUpperCase()))).toBe(text);
    }),
  );
});
