/** The data of a NOTIFICATION in words: what the neighbour names of what it got. A neighbour writes it, so all of it is bounded, and never believed. */
import { formatAddress } from "../../net/address.ts";
import { hexOf } from "../../net/octets.ts";
import { formatFamily } from "../family.ts";
import { attributeName } from "./attribute-table.ts";
import { describeCapability } from "./capability.ts";
import { MessageType } from "./header.ts";
import { readUint16, readUint32 } from "./octets.ts";

/** By "code/subcode", or by code for all its subcodes. Each returns undefined for octets that are not what the RFC says. */
const readers: Record<string, (data: Uint8Array) => string | undefined> = {
  // RFC 4271 section 6.1
  "1/2": data => (data.length === 2 ? `length ${readUint16(data, 0)}` : undefined),
  "1/3": data => (data.length === 1 ? `type ${data[0]}` : undefined),
  // Section 6.2. Of these the RFC defines the data of 2/1 alone; the others are what FRR sends: the field at fault.
  "2/1": data => (data.length === 2 ? `version ${readUint16(data, 0)} is supported` : undefined),
  "2/2": data =>
    data.length === 2 || data.length === 4 ? `AS ${data.length === 2 ? readUint16(data, 0) : readUint32(data, 0)}` : undefined,
  "2/3": data => (data.length === 4 ? formatAddress(data) : undefined),
  "2/4": data => (data.length >= 1 ? `parameter ${data[0]}${data[0] === 2 ? " (capabilities)" : ""}` : undefined),
  "2/6": data => (data.length === 2 ? `${readUint16(data, 0)} s` : undefined),
  // RFC 5492 section 5: the capabilities that the neighbour asks for.
  "2/7": capabilities,
  // RFC 4271 section 6.3: the attribute at fault; of 3/3 the code of the one that is missing.
  "3/3": data => (data.length === 1 ? attributeName(data[0]) : attribute(data)),
  "3": attribute,
  // RFC 6608: the type of the message.
  "5": data => (data.length === 1 ? messageName(data[0]) : undefined),
  // RFC 4486 section 4
  "6/1": data => (data.length === 7 ? `${formatFamily(readUint16(data, 0), data[2])}, limit ${readUint32(data, 3)}` : undefined),
  // RFC 7313 section 5: the whole message.
  "7/1": refresh,
};

/** Bounded words, or undefined where the octets are not what they should be. `data` is not empty. */
export function describeNotificationData(code: number, subcode: number, data: Uint8Array): string | undefined {
  return (readers[`${code}/${subcode}`] ?? readers[String(code)])?.(data);
}

const messageNames: Record<number, string> = {
  [MessageType.Open]: "OPEN",
  [MessageType.Update]: "UPDATE",
  [MessageType.Notification]: "NOTIFICATION",
  [MessageType.Keepalive]: "KEEPALIVE",
  [MessageType.RouteRefresh]: "ROUTE-REFRESH",
};

function messageName(type: number): string {
  return messageNames[type] ?? `message of type ${type}`;
}

const MAX_SHOWN = 8;

function capabilities(data: Uint8Array): string | undefined {
  const found: string[] = [];
  let at = 0;
  while (at + 2 <= data.length && at + 2 + data[at + 1] <= data.length) {
    const end = at + 2 + data[at + 1];
    found.push(describeCapability({ code: data[at], value: data.slice(at + 2, end) }));
    at = end;
  }
  if (at !== data.length) return undefined;
  const more = found.length > MAX_SHOWN ? ` and ${found.length - MAX_SHOWN} more` : "";
  return `${found.slice(0, MAX_SHOWN).join(", ")}${more}`;
}

/** Flags, code, length of one or two octets, value; a neighbour may leave out what it could not read. */
function attribute(data: Uint8Array): string | undefined {
  if (data.length < 2) return undefined;
  const [flags, code] = data;
  const header = (flags & 0x10) !== 0 ? 4 : 3;
  const value = data.subarray(header);
  const length = data.length < header ? "" : `, length ${header === 4 ? readUint16(data, 2) : data[2]}`;
  const shown = value.length === 0 ? "" : `, value ${hex(value)}`;
  return `${attributeName(code)} (flags 0x${flags.toString(16).padStart(2, "0")}${length}${shown})`;
}

function refresh(data: Uint8Array): string | undefined {
  // With the header of 19 octets, or, from some, without.
  const body = data.length >= 19 && data.subarray(0, 16).every(octet => octet === 0xff) ? data.subarray(19) : data;
  if (body.length < 4) return `message of ${data.length} octets`;
  return `${formatFamily(readUint16(body, 0), body[3])}, subtype ${body[2]}, message of ${data.length} octets`;
}

/** At most 32 octets of it. */
export function hex(data: Uint8Array): string {
  const shown = hexOf(data.subarray(0, 32));
  return data.length > 32 ? `${shown}… (${data.length} octets)` : shown;
}
