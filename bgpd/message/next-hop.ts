/** What octets can be a next hop (RFC 4271 sections 5.1.3 and 6.3, RFC 2545 section 3, RFC 4291). */

/** What is wrong with the next hop of 4, 16 or 32 octets at `start`, or undefined. */
export function nextHopFault(octets: Uint8Array, start: number, length: number): string | undefined {
  return length === 4 ? ipv4Fault(octets, start) : ipv6Fault(octets, start);
}

/**
 * Where the useful part of a next hop begins: behind the "::" that stands for the missing global address where there is a link-local one
 * only, as BIRD sends it.
 */
export function usefulNextHopStart(octets: Uint8Array, start: number, length: number): number {
  return length === 32 && isLinkLocal(octets, start + 16) && isUnspecified(octets, start) ? start + 16 : start;
}

/** Its octets: 16 for a pair of addresses of which one is missing: some speakers send "::" in place of either. */
export function usefulNextHopLength(octets: Uint8Array, start: number, length: number): number {
  if (length !== 32) return length;
  return isLinkLocal(octets, start + 16) && !isUnspecified(octets, start) ? 32 : 16;
}

function isLinkLocal(octets: Uint8Array, at: number): boolean {
  return octets[at] === 0xfe && (octets[at + 1] & 0xc0) === 0x80;
}

function isUnspecified(octets: Uint8Array, at: number): boolean {
  for (let i = 0; i < 16; i++) if (octets[at + i] !== 0) return false;
  return true;
}

function ipv4Fault(octets: Uint8Array, at: number): string | undefined {
  const first = octets[at];
  if (first !== 0 && first !== 127 && first < 224) return undefined;
  const text = `${first}.${octets[at + 1]}.${octets[at + 2]}.${octets[at + 3]}`;
  if (first === 0) return `next hop ${text} is in 0.0.0.0/8`;
  if (first === 127) return `next hop ${text} is a loopback address`;
  if (first < 240) return `next hop ${text} is a multicast address`;
  return text === "255.255.255.255" ? `next hop ${text} is the broadcast address` : undefined;
}

function ipv6Fault(octets: Uint8Array, at: number): string | undefined {
  if (octets[at] === 0xff) return "the next hop is a multicast address";
  if (octets[at] !== 0) return undefined;
  for (let i = 1; i < 15; i++) if (octets[at + i] !== 0) return undefined;
  if (octets[at + 15] === 0) return "the next hop is the unspecified address ::";
  return octets[at + 15] === 1 ? "the next hop is the loopback address ::1" : undefined;
}
