/** Names and marks of tunnels, and the hardware addresses of their ends, which every node computes for every other. */
import { createHash } from "node:crypto";
import type { Link } from "../kernel/types.ts";
import type { Address, IpFamily } from "../net/address.ts";

/** IFLA_IFALIAS. */
export const OVERLAY_ALIAS = "podlane overlay";

/** One device per family of the underlay: a VXLAN device has ends of one alone. At most 15 octets. */
export const deviceNames: Readonly<Record<IpFamily, string>> = { 4: "podlane.vx4", 6: "podlane.vx6" };

export function isOverlayLink({ kind, alias }: Pick<Link, "kind" | "alias">): boolean {
  return kind === "vxlan" && alias === OVERLAY_ALIAS;
}

/**
 * Of the end of a tunnel with this address: locally administered, and made of the address, so that nothing has to be told. That of IPv4 shows it, and no two
 * are alike; of IPv6 ones 38 bits of a hash differ, with 5,000 nodes one chance in 20,000 that two of them do not.
 */
export function tunnelMac(address: Address): Uint8Array {
  if (address.length === 4) return Uint8Array.of(0x6e, 0x34, ...address);
  const hash = createHash("sha256").update("podlane overlay").update(address).digest();
  return Uint8Array.of(0x6e, 0x40 | (hash[0] & 0x3f), ...hash.subarray(1, 5));
}

/** Whether it may be that of an end. */
export function isTunnelMac([first, second]: Uint8Array): boolean {
  return first === 0x6e && (second === 0x34 || (second & 0xc0) === 0x40);
}

/**
 * The gateway by which packets for a next hop are sent into the tunnel to an end. The kernel takes none in IPv6 that it could reach by another link, as it can an
 * end: there it is the link-local address that goes with the end's hardware address (RFC 4291 appendix A).
 */
export function tunnelGateway(nextHop: Address, end: Address): Address {
  if (nextHop.length === 4) return nextHop;
  const [a, b, c, d, e, f] = tunnelMac(end);
  return Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f);
}
