/** The ranges of an AddressPool, as numbers, as text and as prefixes. */
import { formatAddress, type IpFamily, parseAddress, parsePrefix } from "../../net/address.ts";

export interface AddressRange {
  family: IpFamily;
  first: bigint;
  /** Not below `first`. */
  last: bigint;
}

export function widthOf(family: IpFamily): number {
  return family === 4 ? 32 : 128;
}

/** "192.0.2.0/24" or "192.0.2.10-192.0.2.20". undefined: the last address is below the first. Throws AddressError. */
export function parseRange(text: string): AddressRange | undefined {
  if (!text.includes("-")) {
    const { family, address, length } = parsePrefix(text);
    const first = toNumber(address);
    return { family, first, last: first + (1n << BigInt(widthOf(family) - length)) - 1n };
  }
  const [first, last] = text.split("-").map(parseAddress);
  const range = { family: first.length === 4 ? (4 as const) : (6 as const), first: toNumber(first), last: toNumber(last) };
  return first.length === last.length && range.first <= range.last ? range : undefined;
}

/** The prefixes that make up the range, and no more: at most 2 × 128 of them. */
export function prefixesOf({ family, first, last }: AddressRange): string[] {
  const result: string[] = [];
  for (let at = first; at <= last; ) {
    let size = 1n;
    while (at % (size * 2n) === 0n && at + size * 2n - 1n <= last) size *= 2n;
    result.push(`${toText(family, at)}/${widthOf(family) - (size.toString(2).length - 1)}`);
    at += size;
  }
  return result;
}

export function toNumber(address: Uint8Array): bigint {
  return address.reduce((number, octet) => number * 256n + BigInt(octet), 0n);
}

export function toText(family: IpFamily, number: bigint): string {
  const octets = new Uint8Array(widthOf(family) / 8);
  for (let i = octets.length - 1, rest = number; i >= 0; i--, rest /= 256n) octets[i] = Number(rest % 256n);
  return formatAddress(octets);
}
