/**
 * Prefixes and canonical attribute octets to UPDATEs, as few as possible (RFC 4271 section 4.3; RFC 4760; RFC 6793 section 4.2.2;
 * RFC 8654). The caller names an attribute set, then its prefixes; a message closes when it is full or the set changes.
 */
import { classicFamily, type FamilyIndex, FamilyTable } from "../family.ts";
import { AS_TRANS, copyWithoutConfed, narrowAsPath, needsAs4Path } from "./as-path.ts";
import { AttributeCode, AttributeFlag } from "./attribute-table.ts";
import { attributeValue, CANONICAL_HEADER, canonicalEnd, findAttribute } from "./canonical.ts";
import { HEADER_LENGTH, MessageType, writeHeader } from "./header.ts";
import { copyOctets, readUint16, readUint32, writeUint16 } from "./octets.ts";

export interface UpdateWriterOptions {
  /** AS_PATH with 4-octet numbers: both sides announced the capability of RFC 6793. */
  fourOctetAsn: boolean;
  /** Octets of a message, header included: 4096, or 65535 (RFC 8654). */
  maxMessageLength: number;
}

/** What the message being filled is. */
const Mode = { None: 0, Announce: 1, MpAnnounce: 2, Withdraw: 3, MpWithdraw: 4 } as const;
type Mode = (typeof Mode)[keyof typeof Mode];

/** Header, withdrawn routes length, total path attribute length. */
const FIXED = HEADER_LENGTH + 4;
const ATTRIBUTES_LENGTH_AT = HEADER_LENGTH + 2;
/** Where the length of an MP attribute stands, it being the first attribute: after its flags and code. */
const MP_LENGTH_AT = FIXED + 2;
const MP_VALUE_AT = FIXED + 4;
const MP_FLAGS = AttributeFlag.Optional | AttributeFlag.ExtendedLength;
const OPTIONAL_TRANSITIVE = AttributeFlag.Optional | AttributeFlag.Transitive;
const INITIAL_ROOM = 65536;

export class UpdateWriter {
  readonly #fourOctetAsn: boolean;
  readonly #max: number;
  #mode: Mode = Mode.None;
  #family = classicFamily;
  /** Every message of the current set begins with #head and ends, after its prefixes, with #tail. */
  #head: Uint8Array = new Uint8Array(512);
  #headLength = 0;
  #tail: Uint8Array = new Uint8Array(512);
  #tailLength = 0;
  #out: Uint8Array = new Uint8Array(INITIAL_ROOM);
  #at = 0;
  #open = false;
  #messageStart = 0;
  /** Prefixes of the open message end here at the latest. */
  #limit = 0;
  #closed = 0;

  constructor(options: UpdateWriterOptions) {
    this.#fourOctetAsn = options.fourOctetAsn;
    this.#max = options.maxMessageLength;
  }

  /** Octets that take() would give. */
  get octetsPending(): number {
    return this.#at + (this.#open ? this.#tailLength : 0);
  }

  /** UPDATEs that take() would give. */
  get updates(): number {
    return this.#closed + (this.#open ? 1 : 0);
  }

  /**
   * Prefixes from here on are announced with this canonical set. The octets may change after the call. Returns the octets that a message
   * has left for prefixes, of which one of n bits takes 1 + n / 8, rounded up: where that is too little for a prefix it cannot be
   * announced on this session and must be withdrawn (RFC 4271 section 9.2).
   */
  announce(family: FamilyIndex, octets: Uint8Array, start: number, end: number): number {
    this.#close();
    this.#mode = Mode.None;
    this.#family = family;
    const nextHop = findAttribute(octets, start, end, AttributeCode.NextHop);
    if (nextHop < 0) throw new Error("UpdateWriter: an attribute set without next hop cannot be announced");
    const nextHopLength = readUint16(octets, nextHop + 2);
    const classic = family === classicFamily && nextHopLength === FamilyTable[family].octets;
    if (classic) this.#prepareAnnounce(octets, start, end);
    else this.#prepareMpAnnounce(octets, start, end, nextHop + 4, nextHopLength);
    this.#mode = classic ? Mode.Announce : Mode.MpAnnounce;
    return this.#max - this.#headLength - this.#tailLength;
  }

  /** Prefixes from here on are withdrawn. */
  withdraw(family: FamilyIndex): void {
    const mode = family === classicFamily ? Mode.Withdraw : Mode.MpWithdraw;
    if (this.#mode === mode && this.#family === family) return;
    this.#close();
    this.#mode = mode;
    this.#family = family;
    const head = this.#head;
    head.fill(0, 0, FIXED + 7);
    writeHeader(head, 0, 0, MessageType.Update);
    this.#headLength = mode === Mode.Withdraw ? HEADER_LENGTH + 2 : writeMpStart(head, AttributeCode.MpUnreach, family);
    this.#tailLength = mode === Mode.Withdraw ? 2 : 0;
    this.#tail.fill(0, 0, 2);
  }

  /** An IPv4 prefix for which there is room; bits beyond `length` must be zero. */
  prefix4(address: number, length: number): void {
    const octets = (length + 7) >> 3;
    if (!this.#open || this.#at + 1 + octets > this.#limit) this.#begin(32, octets);
    const out = this.#out;
    let at = this.#at;
    out[at++] = length;
    if (length > 0) out[at++] = address >>> 24;
    if (length > 8) out[at++] = (address >>> 16) & 0xff;
    if (length > 16) out[at++] = (address >>> 8) & 0xff;
    if (length > 24) out[at++] = address & 0xff;
    this.#at = at;
  }

  /** An IPv6 prefix for which there is room, as four unsigned 32-bit words; bits beyond `length` must be zero. */
  prefix6(w0: number, w1: number, w2: number, w3: number, length: number): void {
    const octets = (length + 7) >> 3;
    if (!this.#open || this.#at + 1 + octets > this.#limit) this.#begin(128, octets);
    const out = this.#out;
    out[this.#at++] = length;
    for (let i = 0; i < octets; i++) {
      const word = i < 4 ? w0 : i < 8 ? w1 : i < 12 ? w2 : w3;
      out[this.#at++] = (word >>> (24 - 8 * (i & 3))) & 0xff;
    }
  }

  /** RFC 4724 section 2. A new set or withdrawal must be begun after it. */
  endOfRib(family: FamilyIndex): void {
    this.#close();
    this.#mode = Mode.None;
    this.#makeRoom();
    const out = this.#out;
    const start = this.#at;
    const length = family === classicFamily ? FIXED : FIXED + 6;
    writeHeader(out, start, length, MessageType.Update);
    out.fill(0, start + HEADER_LENGTH, start + FIXED);
    if (family !== classicFamily) {
      const { afi, safi } = FamilyTable[family];
      out[start + ATTRIBUTES_LENGTH_AT + 1] = 6;
      out.set([AttributeFlag.Optional, AttributeCode.MpUnreach, 3, afi >>> 8, afi & 0xff, safi], start + FIXED);
    }
    this.#at = start + length;
    this.#closed++;
  }

  /** Closes the open message and gives all that was written to the caller; the set or withdrawal that was begun goes on. */
  take(): Uint8Array {
    this.#close();
    const length = this.#at;
    this.#at = 0;
    this.#closed = 0;
    if (length <= this.#out.length / 2) return this.#out.slice(0, length);
    const taken = this.#out.subarray(0, length);
    this.#out = new Uint8Array(INITIAL_ROOM);
    return taken;
  }

  #begin(bits: number, octets: number): void {
    if (this.#mode === Mode.None || FamilyTable[this.#family].maxLength !== bits) {
      throw new Error("UpdateWriter: a prefix without announce() or withdraw() of its family before it");
    }
    if (this.#headLength + 1 + octets + this.#tailLength > this.#max)
      throw new Error("UpdateWriter: the set leaves no room for this prefix");
    this.#close();
    this.#makeRoom();
    this.#messageStart = this.#at;
    this.#limit = this.#at + this.#max - this.#tailLength;
    this.#at = copyOctets(this.#head, 0, this.#headLength, this.#out, this.#at);
    this.#open = true;
  }

  #close(): void {
    if (!this.#open) return;
    const out = this.#out;
    const start = this.#messageStart;
    const nlriEnd = this.#at;
    const end = copyOctets(this.#tail, 0, this.#tailLength, out, nlriEnd);
    writeUint16(out, start + HEADER_LENGTH - 3, end - start);
    if (this.#mode === Mode.Withdraw) writeUint16(out, start + HEADER_LENGTH, nlriEnd - start - HEADER_LENGTH - 2);
    else if (this.#mode !== Mode.Announce) {
      writeUint16(out, start + ATTRIBUTES_LENGTH_AT, end - start - FIXED);
      writeUint16(out, start + MP_LENGTH_AT, nlriEnd - start - MP_VALUE_AT);
    }
    this.#at = end;
    this.#open = false;
    this.#closed++;
  }

  /** Room for one whole message. */
  #makeRoom(): void {
    if (this.#out.length - this.#at >= this.#max) return;
    const grown = new Uint8Array(2 * this.#out.length + this.#max);
    grown.set(this.#out.subarray(0, this.#at));
    this.#out = grown;
  }

  /** IPv4 as RFC 4271 has it: attributes, then NLRI up to the end of the message. */
  #prepareAnnounce(octets: Uint8Array, start: number, end: number): void {
    this.#head = withRoom(this.#head, FIXED + 2 * (end - start) + 64);
    this.#headLength = this.#writeAttributes(octets, start, end, this.#head, FIXED, true);
    this.#tailLength = 0;
    writeHeader(this.#head, 0, 0, MessageType.Update);
    writeUint16(this.#head, HEADER_LENGTH, 0);
    writeUint16(this.#head, ATTRIBUTES_LENGTH_AT, this.#headLength - FIXED);
  }

  /** Any other: MP_REACH_NLRI with the NLRI as the first attribute (RFC 7606 section 5.1), then the others. */
  #prepareMpAnnounce(octets: Uint8Array, start: number, end: number, nextHop: number, nextHopLength: number): void {
    const head = this.#head;
    writeHeader(head, 0, 0, MessageType.Update);
    writeUint16(head, HEADER_LENGTH, 0);
    let at = writeMpStart(head, AttributeCode.MpReach, this.#family);
    head[at++] = nextHopLength;
    at = copyOctets(octets, nextHop, nextHop + nextHopLength, head, at);
    head[at++] = 0;
    this.#headLength = at;
    this.#tail = withRoom(this.#tail, 2 * (end - start) + 64);
    this.#tailLength = this.#writeAttributes(octets, start, end, this.#tail, 0, false);
  }

  /** Canonical octets as the wire has them; returns the end. */
  #writeAttributes(octets: Uint8Array, start: number, end: number, out: Uint8Array, at: number, nextHop: boolean): number {
    let position = at;
    let as4Written = this.#fourOctetAsn;
    for (let attribute = start; attribute < end; ) {
      const code = octets[attribute + 1];
      const value = attribute + CANONICAL_HEADER;
      const next = canonicalEnd(octets, attribute);
      if (!as4Written && code > AttributeCode.As4Aggregator) {
        position = writeAs4(octets, start, end, out, position);
        as4Written = true;
      }
      if (code === AttributeCode.AsPath && !this.#fourOctetAsn) position = writeNarrowPath(octets, value, next, out, position);
      else if (code === AttributeCode.Aggregator && !this.#fourOctetAsn) position = writeNarrowAggregator(octets, attribute, out, position);
      else if (code !== AttributeCode.NextHop || nextHop) {
        position = writeStart(out, position, octets[attribute], code, next - value);
        position = copyOctets(octets, value, next, out, position);
      }
      attribute = next;
    }
    return as4Written ? position : writeAs4(octets, start, end, out, position);
  }
}

/** Flags, code and a length of 1 or 2 octets. */
function writeStart(out: Uint8Array, at: number, flags: number, code: number, length: number): number {
  const extended = length > 255;
  out[at] = extended ? flags | AttributeFlag.ExtendedLength : flags;
  out[at + 1] = code;
  if (extended) out[at + 2] = length >>> 8;
  out[at + (extended ? 3 : 2)] = length & 0xff;
  return at + (extended ? 4 : 3);
}

/** An MP attribute up to its SAFI, at its place in a message; its length is filled in when the message is closed. */
function writeMpStart(out: Uint8Array, code: number, family: FamilyIndex): number {
  const { afi, safi } = FamilyTable[family];
  out[FIXED] = MP_FLAGS;
  out[FIXED + 1] = code;
  writeUint16(out, MP_VALUE_AT, afi);
  out[MP_VALUE_AT + 2] = safi;
  return MP_VALUE_AT + 3;
}

function writeNarrowPath(octets: Uint8Array, start: number, end: number, out: Uint8Array, at: number): number {
  let length = 0;
  for (let segment = start; segment < end; segment += 2 + octets[segment + 1] * 4) length += 2 + octets[segment + 1] * 2;
  const value = writeStart(out, at, AttributeFlag.Transitive, AttributeCode.AsPath, length);
  return narrowAsPath(octets, start, end, out, value);
}

/** `attribute`: where its flags stand. */
function writeNarrowAggregator(octets: Uint8Array, attribute: number, out: Uint8Array, at: number): number {
  const asn = readUint32(octets, attribute + 4);
  const value = writeStart(out, at, octets[attribute], AttributeCode.Aggregator, 6);
  writeUint16(out, value, asn > 0xffff ? AS_TRANS : asn);
  return copyOctets(octets, attribute + 8, attribute + 12, out, value + 2);
}

/** AS4_PATH and AS4_AGGREGATOR, where 2 octets cannot tell the truth. */
function writeAs4(octets: Uint8Array, start: number, end: number, out: Uint8Array, at: number): number {
  let position = at;
  const path = attributeValue(octets, start, end, AttributeCode.AsPath);
  if (needsAs4Path(path, 0, path.length)) {
    let length = 0;
    for (let segment = 0; segment < path.length; segment += 2 + path[segment + 1] * 4) {
      if (path[segment] <= 2) length += 2 + path[segment + 1] * 4;
    }
    const value = writeStart(out, position, OPTIONAL_TRANSITIVE, AttributeCode.As4Path, length);
    position = copyWithoutConfed(path, 0, path.length, out, value);
  }
  const aggregator = attributeValue(octets, start, end, AttributeCode.Aggregator);
  if (aggregator.length > 0 && readUint32(aggregator, 0) > 0xffff) {
    const value = writeStart(out, position, OPTIONAL_TRANSITIVE, AttributeCode.As4Aggregator, 8);
    position = copyOctets(aggregator, 0, 8, out, value);
  }
  return position;
}

function withRoom(buffer: Uint8Array, octets: number): Uint8Array {
  return buffer.length >= octets ? buffer : new Uint8Array(2 * octets);
}
