/** Keys and values of sets and maps as octets, as nftables has them in its registers. Pure. */
import { parseAddress } from "../../net/address.ts";

/** What nft has to write. */
export class NotEncodable extends Error {}

const IFNAMSIZ = 16;
/** By name and by number: as nft lists them, and as they are asked for. */
const Protocols: Readonly<Record<string, number>> = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  "ipv6-icmp": 58,
  icmpv6: 58,
  sctp: 132,
};

/** By nft's name of the type. Numbers are in network byte order. */
const Fields: Readonly<Record<string, (value: unknown) => Uint8Array>> = {
  ipv4_addr: value => addressOctets(value, 4),
  ipv6_addr: value => addressOctets(value, 16),
  inet_service: value => numberOctets(value, 2),
  inet_proto: value => protocolOctets(value),
  ifname: value => nameOctets(value),
};

/** Of a key or a value of this type; several types are a concatenation, of which each part begins at a register of 4 octets. Throws NotEncodable. */
export function elementOctets(type: string | readonly string[], element: unknown): Uint8Array {
  if (typeof type === "string") return field(type, element);
  const { concat } = (element ?? {}) as { concat?: unknown[] };
  if (!Array.isArray(concat) || concat.length !== type.length) throw new NotEncodable("no concatenation of its type");
  const parts = type.map((one, at) => field(one, concat[at]));
  const octets = new Uint8Array(parts.reduce((sum, { length }) => sum + padded(length), 0));
  let at = 0;
  for (const part of parts) {
    octets.set(part, at);
    at += padded(part.length);
  }
  return octets;
}

export function addressOctets(value: unknown, length: number): Uint8Array {
  const text = typeof value === "string" && /^[0-9a-f:.]+$/i.test(value) && /[:.]/.test(value) ? value : undefined;
  const octets = text === undefined ? undefined : parsed(text);
  if (octets?.length !== length) throw new NotEncodable(`no address of ${length} octets: ${JSON.stringify(value)}`);
  return octets;
}

/** A whole number in network byte order. */
export function numberOctets(value: unknown, length: number): Uint8Array {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= 2 ** (8 * length))
    throw new NotEncodable(`no number of ${length} octets: ${JSON.stringify(value)}`);
  return Uint8Array.from({ length }, (_, at) => Math.floor(value / 2 ** (8 * (length - 1 - at))) & 255);
}

export function protocolOctets(value: unknown): Uint8Array {
  return numberOctets(typeof value === "string" && Object.hasOwn(Protocols, value) ? Protocols[value] : value, 1);
}

function nameOctets(value: unknown): Uint8Array {
  // With an asterisk at its end it is many links.
  if (typeof value !== "string" || !/^[\x21-\x7e]+$/.test(value) || value.length >= IFNAMSIZ || /[*\\]/.test(value))
    throw new NotEncodable(`no name of a link: ${JSON.stringify(value)}`);
  const octets = new Uint8Array(IFNAMSIZ);
  octets.set(Buffer.from(value));
  return octets;
}

function field(type: string, value: unknown): Uint8Array {
  const encode = Object.hasOwn(Fields, type) ? Fields[type] : undefined;
  if (!encode) throw new NotEncodable(`type ${type}`);
  return encode(value);
}

function parsed(text: string): Uint8Array | undefined {
  try {
    return parseAddress(text);
  } catch {
    return undefined;
  }
}

function padded(length: number): number {
  return (length + 3) & ~3;
}
