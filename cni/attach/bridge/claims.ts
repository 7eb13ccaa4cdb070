/**
 * Frames by which a link claims addresses, so that neighbours who know another owner learn of it: an ARP announcement (RFC 5227 section 3), and an unsolicited neighbour
 * advertisement with the override flag (RFC 4861 section 7.2.6). Pure.
 */
import type { Address } from "../../../net/address.ts";

type Octets = readonly number[];

const BROADCAST: Octets = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
/** ff02::1 and its hardware address. */
const ALL_NODES: Octets = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: Octets = [0x33, 0x33, 0, 0, 0, 1];
const ETHERTYPE_ARP: Octets = [0x08, 0x06];
const ETHERTYPE_IPV6: Octets = [0x86, 0xdd];
const ICMPV6 = 58;
const NEIGHBOUR_ADVERTISEMENT = 136;
const OVERRIDE = 0x20;
const TARGET_LINK_ADDRESS = 2;
const HOP_LIMIT = 255;

/** `mac`: of the link that has the address, or answers for it. */
export function claimOf(mac: Uint8Array, address: Address): Uint8Array {
  return Uint8Array.from(address.length === 4 ? arpAnnouncement([...mac], [...address]) : advertisement([...mac], [...address]));
}

function arpAnnouncement(mac: Octets, address: Octets): Octets {
  const ethernetIpv4Request = [0, 1, 0x08, 0, 6, 4, 0, 1];
  return [...BROADCAST, ...mac, ...ETHERTYPE_ARP, ...ethernetIpv4Request, ...mac, ...address, 0, 0, 0, 0, 0, 0, ...address];
}

function advertisement(mac: Octets, address: Octets): Octets {
  const body = [OVERRIDE, 0, 0, 0, ...address, TARGET_LINK_ADDRESS, 1, ...mac];
  const length = 4 + body.length;
  const pseudoHeader = [...address, ...ALL_NODES, 0, 0, 0, length, 0, 0, 0, ICMPV6];
  const sum = checksum([...pseudoHeader, NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, ...body]);
  const message = [NEIGHBOUR_ADVERTISEMENT, 0, sum >> 8, sum & 255, ...body];
  const header = [0x60, 0, 0, 0, 0, length, ICMPV6, HOP_LIMIT, ...address, ...ALL_NODES];
  return [...ALL_NODES_MAC, ...mac, ...ETHERTYPE_IPV6, ...header, ...message];
}

/** RFC 1071, of an even number of octets. */
function checksum(octets: Octets): number {
  let sum = 0;
  for (let at = 0; at < octets.length; at += 2) sum += (octets[at] << 8) | octets[at + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}
