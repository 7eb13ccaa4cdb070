/** BGP messages written octet by octet, right or wrong as a test wants them: nothing here uses the codec that is under test. */
import { parseAddress, parsePrefix } from "../../net/address.ts";

/** A number is one octet; text is hex, white space is for the reader. */
export type Part = number | string | Uint8Array | readonly number[];

export const Type = { Open: 1, Update: 2, Notification: 3, Keepalive: 4, RouteRefresh: 5 } as const;

export function octets(...parts: Part[]): Uint8Array {
  return Uint8Array.from(
    parts.flatMap(part => {
      if (typeof part === "number") return [part];
      return typeof part === "string" ? [...Buffer.from(part.replace(/\s/g, ""), "hex")] : [...part];
    }),
  );
}

export function u16(value: number): number[] {
  return [(value >>> 8) & 255, value & 255];
}

export function u32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

export function hex(value: Uint8Array): string {
  return Buffer.from(value).toString("hex");
}

/** `length`: what the header says in place of the truth. */
export function message(type: number, body: Part = [], length?: number): Uint8Array {
  const inner = octets(body);
  return octets(MARKER, u16(length ?? 19 + inner.length), type, inner);
}

const MARKER = new Uint8Array(16).fill(255);

export const KEEPALIVE = message(Type.Keepalive);

export function notification(code: number, subcode: number, data: Part = []): Uint8Array {
  return message(Type.Notification, octets(code, subcode, data));
}

export function routeRefresh(afi: number, safi: number, subtype = 0): Uint8Array {
  return message(Type.RouteRefresh, [...u16(afi), subtype, safi]);
}

export interface OpenFields {
  version?: number;
  /** Put into the 2-octet field as it is (23456 where it does not fit) and into the default capabilities. */
  asn?: number;
  holdTime?: number;
  id?: string;
  /** Optional parameters with their length in front; default: one parameter with capabilities(asn). */
  parameters?: Part;
}

export function open({ version = 4, asn = 65002, holdTime = 90, id = "10.0.0.2", parameters }: OpenFields = {}): Uint8Array {
  const field = asn > 0xffff ? 23456 : asn;
  const tail = parameters ?? optionalParameters(parameter(2, capabilities(asn)));
  return message(Type.Open, octets(version, u16(field), u16(holdTime), parseAddress(id), tail));
}

export function optionalParameters(...list: Part[]): Uint8Array {
  const inner = octets(...list);
  return octets(inner.length, inner);
}

export function parameter(type: number, value: Part): Uint8Array {
  const inner = octets(value);
  return octets(type, inner.length, inner);
}

export function capability(code: number, value: Part = []): Uint8Array {
  const inner = octets(value);
  return octets(code, inner.length, inner);
}

export const IPV4 = capability(1, "00 01 00 01");
export const IPV6 = capability(1, "00 02 00 01");
export const REFRESH = capability(2);
export const EXTENDED_MESSAGE = capability(6);
export const asn4 = (asn: number) => capability(65, u32(asn));

/** Both families, route refresh, 4-octet numbers. */
function capabilities(asn: number): Uint8Array {
  return octets(IPV4, IPV6, REFRESH, asn4(asn));
}

/** The extended length form where flags ask for it or the value needs it. */
export function attribute(flags: number, code: number, value: Part = []): Uint8Array {
  const inner = octets(value);
  const extended = (flags & 0x10) !== 0 || inner.length > 255;
  return octets(extended ? flags | 0x10 : flags, code, extended ? u16(inner.length) : inner.length, inner);
}

export const origin = (value = 0) => attribute(0x40, 1, [value]);
export const sequence = (asns: readonly number[], width: 2 | 4 = 4) =>
  octets(2, asns.length, ...asns.map(asn => (width === 4 ? u32(asn) : u16(asn))));
export const asPath = (...asns: number[]) => attribute(0x40, 2, asns.length === 0 ? [] : sequence(asns));
export const nextHop = (address: string) => attribute(0x40, 3, parseAddress(address));
export const med = (value: number) => attribute(0x80, 4, u32(value));
export const localPref = (value: number) => attribute(0x40, 5, u32(value));
export const communities = (...values: number[]) => attribute(0xc0, 8, octets(...values.map(u32)));
export const mpReach = (afi: number, safi: number, next: Part, nlri: Part) => {
  const hop = octets(next);
  return attribute(0x80, 14, octets(u16(afi), safi, hop.length, hop, 0, nlri));
};
export const mpUnreach = (afi: number, safi: number, nlri: Part = []) => attribute(0x80, 15, octets(u16(afi), safi, nlri));

export function nlri(...prefixes: string[]): Uint8Array {
  return octets(
    ...prefixes.map(text => {
      const { address, length } = parsePrefix(text);
      return octets(length, address.subarray(0, (length + 7) >> 3));
    }),
  );
}

export function update(fields: { withdrawn?: Part; attributes?: readonly Part[]; nlri?: Part }): Uint8Array {
  const withdrawn = octets(fields.withdrawn ?? []);
  const attributes = octets(...(fields.attributes ?? []));
  return message(Type.Update, octets(u16(withdrawn.length), withdrawn, u16(attributes.length), attributes, fields.nlri ?? []));
}

/** The path attributes of an UPDATE as they stand there. */
export function attributesOf(updateMessage: Uint8Array): { flags: number; code: number; value: string }[] {
  const at16 = (at: number) => (updateMessage[at] << 8) | updateMessage[at + 1];
  let at = 21 + at16(19);
  const end = at + 2 + at16(at);
  const found = [];
  for (at += 2; at < end; ) {
    const flags = updateMessage[at];
    const start = at + ((flags & 0x10) !== 0 ? 4 : 3);
    const length = (flags & 0x10) !== 0 ? at16(at + 2) : updateMessage[at + 2];
    found.push({ flags, code: updateMessage[at + 1], value: hex(updateMessage.subarray(start, start + length)) });
    at = start + length;
  }
  return found;
}
