/**
 * Runs of prefixes as UPDATEs carry them (RFC 4271 section 4.3, RFC 4760 section 5): [length octet, ceil(length / 8) octets]…, and which
 * of them no unicast route can be.
 */
import type { IpFamily } from "../../net/address.ts";

/** What is wrong with a run of prefixes, or undefined: after this check it can be walked blindly. */
export function nlriFault(octets: Uint8Array, start: number, end: number, maxLength: number): string | undefined {
  let at = start;
  while (at < end) {
    const length = octets[at];
    if (length > maxLength) return `prefix length ${length} is above ${maxLength}`;
    at += 1 + ((length + 7) >> 3);
  }
  return at === end ? undefined : "the last prefix is cut off";
}

/**
 * What an unexpected prefix is, or undefined: such a one is ignored (RFC 4271 section 6.3). FRR ignores multicast and IPv6 link-local
 * prefixes, BIRD the others here too. `octets` from `start` on: the address
 * as far as its `length` bits reach.
 */
export function unexpectedPrefix(octets: Uint8Array, start: number, length: number, ip: IpFamily): string | undefined {
  const first = octets[start];
  if (ip === 4) {
    if (first === 127 && length >= 8) return "loopback addresses";
    if (first < 224 || length < 4) return undefined;
    if (first < 240) return "multicast addresses";
    return length === 32 && isAll(octets, start, 4, 0xff) ? "broadcast addresses" : undefined;
  }
  if (first === 0xff && length >= 8) return "multicast addresses";
  if (first === 0xfe && length >= 10 && (octets[start + 1] & 0xc0) === 0x80) return "link-local addresses";
  return length === 128 && octets[start + 15] === 1 && isAll(octets, start, 15, 0) ? "loopback addresses" : undefined;
}

function isAll(octets: Uint8Array, start: number, count: number, value: number): boolean {
  for (let at = start; at < start + count; at++) if (octets[at] !== value) return false;
  return true;
}
