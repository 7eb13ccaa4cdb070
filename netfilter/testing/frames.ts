/** For tests: frames as a pod may make them up, octet by octet, with the checksums that receivers look at. */
import { parseAddress } from "../../net/address.ts";
import { hexOf } from "../../net/octets.ts";

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_IPV6 = 0x86dd;
const ICMP = 1;
const IGMP = 2;
const UDP = 17;
const ICMPV6 = 58;
const ALL = "ff:ff:ff:ff:ff:ff";
const ALL_NODES = "33:33:00:00:00:01";

function macOctets(text: string): number[] {
  return text.split(":").map(part => Number.parseInt(part, 16));
}

const u16 = (value: number): number[] => [value >> 8, value & 255];
const octetsOf = (address: string): number[] => [...parseAddress(address)];

export function ethernet(source: string, type: number, payload: readonly number[], destination = ALL): string {
  return hexOf(Uint8Array.from([...macOctets(destination), ...macOctets(source), ...u16(type), ...payload]));
}

/** RFC 826. */
export function arp(mac: string, operation: 1 | 2, sender: { mac: string; address: string }, target: string): string {
  const body = [...macOctets(sender.mac), ...octetsOf(sender.address), 0, 0, 0, 0, 0, 0, ...octetsOf(target)];
  return ethernet(mac, ETHERTYPE_ARP, [...u16(1), ...u16(ETHERTYPE_IPV4), 6, 4, ...u16(operation), ...body]);
}

export function udp(mac: string, source: string, destination: string, ports: [number, number], text: string, to?: string): string {
  const data = [...new TextEncoder().encode(text)];
  const segment = [...u16(ports[0]), ...u16(ports[1]), ...u16(8 + data.length), 0, 0, ...data];
  return packet(mac, source, destination, UDP, segment, 6, to);
}

export function icmp(mac: string, source: string, destination: string, type: number, body: readonly number[], to?: string): string {
  const message = [type, 0, 0, 0, ...body];
  return packet(mac, source, destination, source.includes(":") ? ICMPV6 : ICMP, message, 2, to);
}

export function igmpReport(mac: string, source: string, group: string): string {
  return packet(mac, source, group, IGMP, [0x16, 0, 0, 0, ...octetsOf(group)], 2);
}

/** Neighbour solicitation (135) or advertisement (136), with the link-layer address of `claimed`. */
export function neighbour(mac: string, type: 135 | 136, source: string, target: string, claimed = mac): string {
  const option = [type === 135 ? 1 : 2, 1, ...macOctets(claimed)];
  // Override, for an advertisement.
  return icmp(mac, source, "ff02::1", type, [type === 136 ? 0x20 : 0, 0, 0, 0, ...octetsOf(target), ...(source === "::" ? [] : option)]);
}

/** RFC 4861 section 4.2, with a lifetime of 1800 s. `extended`: behind a destination options header. */
export function routerAdvertisement(mac: string, source: string, extended = false): string {
  const body = [64, 0, ...u16(1800), 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, ...macOctets(mac)];
  if (!extended) return icmp(mac, source, "ff02::1", 134, body);
  const message = withChecksum([134, 0, 0, 0, ...body], 2, pseudoHeader(source, "ff02::1", ICMPV6, 4 + body.length));
  const options = [ICMPV6, 0, 1, 4, 0, 0, 0, 0];
  return ethernet(mac, ETHERTYPE_IPV6, ipv6(source, "ff02::1", 60, [...options, ...message]), ALL_NODES);
}

export function tagged(mac: string, text: string): string {
  return ethernet(mac, ETHERTYPE_VLAN, [...u16(5), 0x88, 0xb5, ...new TextEncoder().encode(text.padEnd(50))]);
}

function packet(
  mac: string,
  source: string,
  destination: string,
  protocol: number,
  segment: number[],
  checksumAt: number,
  to?: string,
): string {
  const isIpv6 = source.includes(":");
  const pseudo = protocol === ICMP || protocol === IGMP ? [] : pseudoHeader(source, destination, protocol, segment.length);
  const body = withChecksum(segment, checksumAt, pseudo);
  if (isIpv6) return ethernet(mac, ETHERTYPE_IPV6, ipv6(source, destination, protocol, body), to ?? ALL_NODES);
  const header = [0x45, 0, ...u16(20 + body.length), 0, 1, 0, 0, 64, protocol, 0, 0, ...octetsOf(source), ...octetsOf(destination)];
  return ethernet(mac, ETHERTYPE_IPV4, [...withChecksum(header, 10, []), ...body], to);
}

function ipv6(source: string, destination: string, next: number, body: readonly number[]): number[] {
  return [0x60, 0, 0, 0, ...u16(body.length), next, 255, ...octetsOf(source), ...octetsOf(destination), ...body];
}

function pseudoHeader(source: string, destination: string, protocol: number, length: number): number[] {
  return [...octetsOf(source), ...octetsOf(destination), 0, 0, ...u16(length), 0, 0, 0, protocol];
}

/** RFC 1071. */
function withChecksum(octets: readonly number[], at: number, pseudo: readonly number[]): number[] {
  const all = [...pseudo, ...octets, ...(octets.length % 2 === 1 ? [0] : [])];
  let sum = 0;
  for (let i = 0; i < all.length; i += 2) sum += (all[i] << 8) | all[i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  const result = [...octets];
  result.splice(at, 2, ...u16(~sum & 0xffff));
  return result;
}
