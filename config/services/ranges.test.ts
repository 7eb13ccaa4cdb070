import { expect, test } from "vitest";
import { parseRange, prefixesOf, toNumber, toText } from "./ranges.ts";

test.each([
  ["192.0.2.0/24", ["192.0.2.0/24"]],
  ["192.0.2.10-192.0.2.20", ["192.0.2.10/31", "192.0.2.12/30", "192.0.2.16/30", "192.0.2.20/32"]],
  ["0.0.0.0-255.255.255.255", ["0.0.0.0/0"]],
  ["2001:db8::1-2001:db8::1", ["2001:db8::1/128"]],
  ["2001:db8::/126", ["2001:db8::/126"]],
])("%s is made of %j", (text, prefixes) => {
  const range = parseRange(text);
  expect(range && prefixesOf(range)).toEqual(prefixes);
});

test("a range whose last address is below its first is none", () => {
  expect(parseRange("192.0.2.20-192.0.2.10")).toBeUndefined();
});

test("numbers and texts stand for each other", () => {
  expect(toText(6, toNumber(new Uint8Array([0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 5])))).toBe("2001:db8::5");
});
