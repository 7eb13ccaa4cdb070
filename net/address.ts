/**
 * Internet addresses and prefixes: text to octets and back. A leaf: it imports nothing of podlane, everything may import it.
 * Inside the program an address is its octets in network order (4 or 16); text exists at the edges only.
 */
import ipaddr from "ipaddr.js";

/** Octets in network order: 4 for IPv4, 16 for IPv6. */
export type Address = Uint8Array;

export type IpFamily = 4 | 6;

/** A prefix whose bits beyond `length` are zero. */
export interface Prefix {
  readonly family: IpFamily;
  /** Octets in network order: 4 or 16. */
  readonly address: Address;
  /** Bits: 0..32 or 0..128. */
  readonly length: number;
}

/** Text that is not an address or prefix. The message names the text and what is wrong with it. */
export class AddressError extends Error {
  override readonly name = "AddressError";
}

const ipv4Text = /^(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}$/;

/** Octets of an address in dotted or RFC 4291 form. A zone (`%eth0`) is refused. Throws AddressError. */
export function parseAddress(text: string): Address {
  const octets = text.includes(":") ? parseIpv6(text) : parseIpv4(text);
  if (octets === undefined) throw new AddressError(`"${text}" is not an IPv4 or IPv6 address`);
  return octets;
}

function parseIpv4(text: string): Address | undefined {
  if (!ipv4Text.test(text)) return undefined;
  const parts = text.split(".").map(Number);
  return parts.every(part => part <= 255) ? Uint8Array.from(parts) : undefined;
}

function parseIpv6(text: string): Address | undefined {
  let groups = text;
  if (text.includes(".")) {
    // The last 32 bits as IPv4 (RFC 4291 section 2.2): ipaddr.js takes octal there, and ::1.2.3.4 for ::ffff:1.2.3.4.
    const at = text.lastIndexOf(":") + 1;
    const tail = parseIpv4(text.slice(at));
    if (!tail) return undefined;
    groups = `${text.slice(0, at)}${((tail[0] << 8) | tail[1]).toString(16)}:${((tail[2] << 8) | tail[3]).toString(16)}`;
  }
  if (groups.includes("%") || !ipaddr.IPv6.isValid(groups)) return undefined;
  return Uint8Array.from(ipaddr.IPv6.parse(groups).toByteArray());
}

export function isAddress(text: string): boolean {
  try {
    parseAddress(text);
    return true;
  } catch {
    return false;
  }
}

/** Dotted quad, or the canonical text of RFC 5952. */
export function formatAddress(address: Address): string {
  if (address.length === 4) return `${address[0]}.${address[1]}.${address[2]}.${address[3]}`;
  if (address.length !== 16) throw new AddressError(`an address has 4 or 16 octets, not ${address.length}`);
  return new ipaddr.IPv6(Array.from(address)).toRFC5952String();
}

export function familyOf(address: Address): IpFamily {
  return address.length === 4 ? 4 : 6;
}

/** Reads `ADDRESS/LENGTH`. Throws AddressError, also for bits set beyond the length unless `hostBits` is "clear". */
export function parsePrefix(text: string, hostBits: "refuse" | "clear" = "refuse"): Prefix {
  const slash = text.lastIndexOf("/");
  const lengthText = text.slice(slash + 1);
  if (slash < 0 || !/^(?:0|[1-9]\d{0,2})$/.test(lengthText)) throw new AddressError(`"${text}" is not a prefix (ADDRESS/LENGTH)`);
  const address = parseAddress(text.slice(0, slash));
  const length = Number(lengthText);
  if (length > address.length * 8) throw new AddressError(`"${text}": the length is at most ${address.length * 8}`);
  const masked = maskAddress(address, length);
  if (hostBits === "refuse" && !sameOctets(masked, address)) {
    throw new AddressError(`"${text}" has bits set beyond its length; did you mean ${formatAddress(masked)}/${length}?`);
  }
  return { family: familyOf(address), address: masked, length };
}

export function isPrefix(text: string): boolean {
  try {
    parsePrefix(text);
    return true;
  } catch {
    return false;
  }
}

export function formatPrefix(prefix: Pick<Prefix, "address" | "length">): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`;
}

/** A copy with all bits beyond `length` cleared. */
export function maskAddress(address: Address, length: number): Address {
  const masked = new Uint8Array(address.length);
  const whole = length >> 3;
  masked.set(address.subarray(0, whole));
  if (length & 7) masked[whole] = address[whole] & (0xff00 >> (length & 7));
  return masked;
}

/** Whether `address` lies in `prefix`; false across families. */
export function contains(prefix: Omit<Prefix, "family">, address: Address): boolean {
  if (address.length !== prefix.address.length) return false;
  return sameOctets(maskAddress(address, prefix.length), prefix.address);
}

/** Whether every address of `inner` lies in `outer`; false across families. */
export function covers(outer: Prefix, inner: Prefix): boolean {
  return inner.length >= outer.length && contains(outer, inner.address);
}

/** Whether the two prefixes share an address. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return covers(a, b) || covers(b, a);
}

export function sameOctets(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Numeric order of the octets; shorter (IPv4) first. */
export function compareOctets(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return a.length - b.length;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
}

/** fe80::/10 (RFC 4291 section 2.5.6). */
export function isLinkLocal(address: Address): boolean {
  return address.length === 16 && address[0] === 0xfe && (address[1] & 0xc0) === 0x80;
}

/** An IPv4 address as an unsigned 32-bit number: router ids, cluster ids. */
export function addressToUint32(address: Address): number {
  return ((address[0] << 24) | (address[1] << 16) | (address[2] << 8) | address[3]) >>> 0;
}

export function uint32ToAddress(value: number): Address {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
}
