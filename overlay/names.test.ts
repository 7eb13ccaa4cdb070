import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { hexOf } from "../net/octets.ts";
import { deviceNames, tunnelMac } from "./names.ts";

test("a hardware address is unicast, locally administered, and shows an IPv4 address", () => {
  for (const text of ["10.0.0.12", "fd00::12"]) expect(tunnelMac(parseAddress(text))[0] & 3).toBe(2);
  expect(hexOf(tunnelMac(parseAddress("10.0.0.12")), ":")).toBe("6e:34:0a:00:00:0c");
});

test("many ends have as many hardware addresses, whatever their family", () => {
  const ends = Array.from({ length: 5000 }, (_, n) => [`10.1.${n >> 8}.${n & 255}`, `fd00:1::${n.toString(16)}`]).flat();
  expect(new Set(ends.map(text => hexOf(tunnelMac(parseAddress(text))))).size).toBe(ends.length);
});

test("a name fits into what Linux has room for", () => {
  for (const name of Object.values(deviceNames)) expect(name.length).toBeLessThanOrEqual(15);
});
