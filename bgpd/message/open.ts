/**
 * OPEN: its octets, its checks, and what two of them allow (RFC 4271 sections 4.2 and 6.2; RFC 5492, RFC 6286, RFC 6793, RFC 7607,
 * RFC 9072). Structure is checked by decodeOpen; what needs our configuration by validateOpen; negotiate draws the conclusions.
 */
import { classicFamily, Families, type Family, FamilyTable, familyIndex } from "../family.ts";
import { AS_TRANS, isReservedAsn } from "./as-path.ts";
import { decodeCapability, encodeCapabilities, type LocalCapabilities } from "./capability.ts";
import { HEADER_LENGTH, MAX_EXTENDED_LENGTH, MAX_LENGTH, MessageType, newMessage } from "./header.ts";
import { readUint32, uint32Octets } from "./octets.ts";
import { type Capabilities, MessageError, type OpenMessage } from "./types.ts";

export type { LocalCapabilities, LocalGracefulRestart } from "./capability.ts";
export { describeCapability } from "./capability.ts";

const VERSION = 4;
const MIN_LENGTH = 29;
const CAPABILITIES_PARAMETER = 2;
/** In place of the first optional parameter's type: lengths have two octets from here on (RFC 9072). */
const EXTENDED_PARAMETERS = 255;

export interface LocalOpen {
  asn: number;
  /** Seconds: 0 or 3..65535. */
  holdTime: number;
  /** Unsigned 32 bit. */
  bgpId: number;
  capabilities: LocalCapabilities;
}

export function encodeOpen(open: LocalOpen): Uint8Array {
  const capabilities = encodeCapabilities(open.capabilities, open.asn);
  const parameters = capabilities.length === 0 ? [] : [CAPABILITIES_PARAMETER, capabilities.length, ...capabilities];
  const message = newMessage(MessageType.Open, MIN_LENGTH - HEADER_LENGTH + parameters.length);
  const asn = open.asn > 0xffff ? AS_TRANS : open.asn;
  const { holdTime, bgpId } = open;
  message.set(
    [VERSION, asn >>> 8, asn & 0xff, holdTime >>> 8, holdTime & 0xff, ...uint32Octets(bgpId), parameters.length, ...parameters],
    HEADER_LENGTH,
  );
  return message;
}

/**
 * The message must have passed readHeader. Nothing in the result refers to it. Throws MessageError 2/1 (data = the version we
 * support), 2/2 (no AS number, or two), 2/3 (identifier 0), 2/4, 2/6 (hold time 1 or 2), and 2/0 for lengths that do not add up.
 */
export function decodeOpen(message: Uint8Array): OpenMessage {
  if (message.length < MIN_LENGTH) throw new MessageError(`OPEN of ${message.length} octets`, 1, 2, message.slice(16, 18));
  const version = message[19];
  if (version !== VERSION) throw new MessageError(`BGP version ${version}; we speak ${VERSION}`, 2, 1, Uint8Array.of(0, VERSION));
  const holdTime = (message[22] << 8) | message[23];
  const bgpId = readUint32(message, 24);
  const capabilities: Capabilities = { raw: [] };
  decodeParameters(message, capabilities);
  const asn = trueAsn((message[20] << 8) | message[21], capabilities.fourOctetAsn);
  const open = { version, asn, holdTime, bgpId, capabilities };
  checkValues(open);
  return open;
}

export interface OpenExpectation {
  remoteAsn: number | "external" | "internal";
  localAsn: number;
  /** Unsigned 32 bit. */
  localId: number;
  /** When given, at least one must be common: MessageError 2/7 else. */
  families?: readonly Family[];
}

/** Throws MessageError 2/2 Bad Peer AS, 2/3 Bad BGP Identifier, 2/6 Unacceptable Hold Time, 2/7 Unsupported Capability. */
export function validateOpen(open: OpenMessage, expected: OpenExpectation): void {
  checkValues(open);
  const { remoteAsn, localAsn, localId, families } = expected;
  if (remoteAsn === "internal" && open.asn !== localAsn) throw badPeerAs(open.asn, `our own, ${localAsn}`);
  if (remoteAsn === "external" && open.asn === localAsn) throw badPeerAs(open.asn, "any but our own");
  if (typeof remoteAsn === "number" && open.asn !== remoteAsn) throw badPeerAs(open.asn, String(remoteAsn));
  if (open.bgpId === localId && open.asn === localAsn) {
    throw new MessageError("the neighbour has our own BGP Identifier and AS number (RFC 6286)", 2, 3, uint32Octets(open.bgpId));
  }
  if (families !== undefined && commonFamilies(families, open).length === 0) {
    const wanted = families
      .map(family => FamilyTable[familyIndex(family)])
      .flatMap(({ afi, safi }) => [1, 4, afi >>> 8, afi & 0xff, 0, safi]);
    throw new MessageError(`no address family in common; we have ${families.join(", ")}`, 2, 7, Uint8Array.from(wanted));
  }
}

export interface LocalSession {
  asn: number;
  /** Seconds: what our OPEN said. */
  holdTime: number;
  /** Seconds; 0 or absent = a third of the negotiated hold time. */
  keepaliveTime?: number;
  capabilities: LocalCapabilities;
}

/** What both OPENs together allow (RFC 5492). */
export interface NegotiatedOpen {
  localAsn: number;
  remoteAsn: number;
  /** remoteAsn === localAsn. */
  internal: boolean;
  /** BGP Identifier of the neighbour, unsigned 32 bit. */
  remoteId: number;
  /** Seconds; 0 = none. */
  holdTime: number;
  keepaliveTime: number;
  /** Both sides announced the family (RFC 4760 section 8). */
  families: Family[];
  /** RFC 6793. */
  fourOctetAsn: boolean;
  /** RFC 2918. */
  routeRefresh: boolean;
  /** RFC 8654: 4096, or 65535 when both announced it. */
  maxMessageLength: number;
  /** What each side announced. */
  localCapabilities: LocalCapabilities;
  remoteCapabilities: Capabilities;
}

export function negotiate(local: LocalSession, open: OpenMessage): NegotiatedOpen {
  const ours = local.capabilities;
  const theirs = open.capabilities;
  const holdTime = Math.min(local.holdTime, open.holdTime);
  return {
    localAsn: local.asn,
    remoteAsn: open.asn,
    internal: open.asn === local.asn,
    remoteId: open.bgpId,
    holdTime,
    keepaliveTime: keepaliveTime(holdTime, local.keepaliveTime ?? 0),
    families: commonFamilies(ours.families, open),
    fourOctetAsn: ours.fourOctetAsn && theirs.fourOctetAsn !== undefined,
    routeRefresh: ours.routeRefresh && theirs.routeRefresh === true,
    maxMessageLength: ours.extendedMessage === true && theirs.extendedMessage === true ? MAX_EXTENDED_LENGTH : MAX_LENGTH,
    localCapabilities: ours,
    remoteCapabilities: theirs,
  };
}

/** Never more than a third of the hold time (RFC 4271 section 4.4), never 0 unless keepalives are off. */
export function keepaliveTime(holdTime: number, wanted: number): number {
  if (holdTime === 0) return 0;
  const third = Math.max(1, Math.floor(holdTime / 3));
  return wanted > 0 ? Math.min(wanted, third) : third;
}

/**
 * Of the 2-octet field and the capability of RFC 6793. The field repeats a number that fits into it; some write AS_TRANS all the same, which
 * says nothing. Whatever contradicts itself, or is nobody's number (RFC 7607, RFC 6793 section 9, RFC 7300), is no peer AS.
 */
function trueAsn(field: number, capability: number | undefined): number {
  const refuse = (text: string) => new MessageError(text, 2, 2);
  if (field === 0 || capability === 0) throw refuse("AS number 0 (RFC 7607)");
  if (capability !== undefined && field !== AS_TRANS && field !== capability) {
    throw refuse(`the OPEN says AS ${field} in its 2-octet field and AS ${capability} in its 4-octet capability (RFC 6793)`);
  }
  const asn = capability ?? field;
  if (asn === AS_TRANS) throw refuse(`AS ${AS_TRANS} (AS_TRANS) stands for a number that the OPEN does not tell (RFC 6793)`);
  if (isReservedAsn(asn)) throw refuse(`AS ${asn} is reserved (RFC 7300)`);
  return asn;
}

/** A neighbour that announces no family at all speaks IPv4 unicast (RFC 4760 section 8). In table order. */
function commonFamilies(ours: readonly Family[], open: OpenMessage): Family[] {
  const theirs: readonly Family[] = open.capabilities.families ?? [FamilyTable[classicFamily].name];
  return Families.filter(family => ours.includes(family) && theirs.includes(family));
}

function checkValues(open: OpenMessage): void {
  if (open.asn === 0) throw new MessageError("AS number 0 (RFC 7607)", 2, 2);
  if (open.bgpId === 0) throw new MessageError("BGP Identifier 0.0.0.0", 2, 3, uint32Octets(0));
  if (open.holdTime === 1 || open.holdTime === 2) {
    throw new MessageError(`hold time ${open.holdTime} s: it is 0 or at least 3`, 2, 6, Uint8Array.of(0, open.holdTime));
  }
}

function decodeParameters(message: Uint8Array, into: Capabilities): void {
  const extended = message[28] !== 0 && message.length >= MIN_LENGTH + 3 && message[29] === EXTENDED_PARAMETERS;
  const lengthOctets = extended ? 2 : 1;
  let position = extended ? MIN_LENGTH + 3 : MIN_LENGTH;
  const length = extended ? (message[30] << 8) | message[31] : message[28];
  if (position + length !== message.length) throw malformed(`optional parameters of ${length} octets in ${message.length - position}`);
  while (position < message.length) {
    const valueStart = position + 1 + lengthOctets;
    if (valueStart > message.length) throw malformed("an optional parameter is cut off");
    const valueLength = extended ? (message[position + 1] << 8) | message[position + 2] : message[position + 1];
    const end = valueStart + valueLength;
    if (end > message.length) throw malformed("an optional parameter is longer than the message");
    if (message[position] !== CAPABILITIES_PARAMETER) {
      throw new MessageError(`optional parameter ${message[position]} is not supported`, 2, 4, message.slice(position, end));
    }
    decodeCapabilities(message, valueStart, end, into);
    position = end;
  }
}

function decodeCapabilities(message: Uint8Array, start: number, end: number, into: Capabilities): void {
  let position = start;
  while (position < end) {
    if (position + 2 > end || position + 2 + message[position + 1] > end) throw malformed("a capability is longer than its parameter");
    const next = position + 2 + message[position + 1];
    decodeCapability(message[position], message.slice(position + 2, next), into);
    position = next;
  }
}

function badPeerAs(asn: number, wanted: string): MessageError {
  return new MessageError(`the neighbour is AS ${asn}; configured is ${wanted}`, 2, 2);
}

function malformed(text: string): MessageError {
  return new MessageError(`malformed OPEN: ${text}`, 2, 0);
}
