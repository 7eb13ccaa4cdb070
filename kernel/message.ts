/**
 * Netlink messages and attributes (RFC 3549 section 2.2, linux/netlink.h): encoding into one growing buffer, decoding with every
 * length checked against the buffer. Pure: no sockets. A truncated or lying message ends the reading; it is never read beyond.
 */
import { NLA_F_NESTED, NLA_TYPE_MASK } from "./constants.ts";

const HEADER = 16;
const MAX_ATTRIBUTE = 0xffff;

/** Octets with a view on the same memory. */
export interface Bytes {
  readonly u8: Uint8Array;
  readonly view: DataView;
}

export function toBytes(u8: Uint8Array): Bytes {
  return { u8, view: new DataView(u8.buffer, u8.byteOffset, u8.byteLength) };
}

/** One message inside `bytes`: its payload is [start, end). */
export interface Message {
  readonly bytes: Bytes;
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** nlmsg_pid: the socket that asked, also in notifications; 0 = the kernel itself. */
  readonly port: number;
  readonly start: number;
  readonly end: number;
}

/** The message at `at`; undefined where none fits whole into [at, end). The next one is at align(message.end). */
export function readMessage(bytes: Bytes, at: number, end: number): Message | undefined {
  const limit = Math.min(end, bytes.u8.length);
  if (at < 0 || at + HEADER > limit) return undefined;
  const { view } = bytes;
  const length = view.getUint32(at, true);
  if (length < HEADER || length > limit - at) return undefined;
  return {
    bytes,
    type: view.getUint16(at + 4, true),
    flags: view.getUint16(at + 6, true),
    sequence: view.getUint32(at + 8, true),
    port: view.getUint32(at + 12, true),
    start: at + HEADER,
    end: at + length,
  };
}

/** NLMSG_ALIGN, NLA_ALIGN. */
export function align(length: number): number {
  return (length + 3) & ~3;
}

/** Whether an attribute lies whole in [at, end): then its payload is [at + 4, attributeEnd), and the next may be at align(attributeEnd). */
function hasAttribute(bytes: Bytes, at: number, end: number): boolean {
  if (at + 4 > end || end > bytes.u8.length) return false;
  const length = bytes.view.getUint16(at, true);
  return length >= 4 && length <= end - at;
}

/** Only where hasAttribute() says that there is one. */
function attributeEnd(bytes: Bytes, at: number): number {
  return at + bytes.view.getUint16(at, true);
}

/** Of each attribute in [start, end): its type without flag bits, and where its payload lies. */
export function forEachAttribute(bytes: Bytes, start: number, end: number, take: (type: number, from: number, to: number) => void): void {
  for (let at = start; hasAttribute(bytes, at, end); ) {
    const to = attributeEnd(bytes, at);
    take(attributeType(bytes, at), at + 4, to);
    at = align(to);
  }
}

/** nla_type without its flag bits. */
function attributeType(bytes: Bytes, at: number): number {
  return bytes.view.getUint16(at + 2, true) & NLA_TYPE_MASK;
}

/** A number of 4 octets; 0 where the payload is shorter. */
export function readU32(bytes: Bytes, from: number, to: number): number {
  return to - from >= 4 && to <= bytes.u8.length ? bytes.view.getUint32(from, true) : 0;
}

/** As readU32, signed. */
export function readI32(bytes: Bytes, from: number, to: number): number {
  return readU32(bytes, from, to) | 0;
}

/** Text up to the first NUL, or the whole payload. */
export function readText(bytes: Bytes, from: number, to: number): string {
  const limit = Math.min(to, bytes.u8.length);
  let stop = from;
  while (stop < limit && bytes.u8[stop] !== 0) stop++;
  return decoder.decode(bytes.u8.subarray(from, stop));
}

/** A copy: the buffer is used again for the next message. */
export function readOctets(bytes: Bytes, from: number, to: number): Uint8Array {
  return new Uint8Array(bytes.u8.subarray(from, to));
}

/** A copy of an address of 4 or 16 octets; undefined for any other length. */
export function readAddress(bytes: Bytes, from: number, to: number): Uint8Array | undefined {
  return to - from === 4 || to - from === 16 ? readOctets(bytes, from, to) : undefined;
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** Appends messages to one buffer, which grows and is used again after reset(). */
export class MessageWriter {
  #bytes: Bytes;
  #at = 0;
  #messageStart = 0;
  #previousStart = 0;

  constructor(capacity = 65536) {
    this.#bytes = toBytes(new Uint8Array(capacity));
  }

  /** The octets so far: a view, valid until the next write. */
  get octets(): Uint8Array {
    return this.#bytes.u8.subarray(0, this.#at);
  }

  /** The whole buffer, of which the first `length` octets are written. */
  get buffer(): Uint8Array {
    return this.#bytes.u8;
  }

  get length(): number {
    return this.#at;
  }

  reset(): void {
    this.#at = 0;
  }

  /** Opens a message; finish() sets its length. */
  begin(type: number, flags: number, sequence: number): void {
    this.#reserve(HEADER);
    const at = this.#at;
    const { view } = this.#bytes;
    this.#previousStart = this.#messageStart;
    this.#messageStart = at;
    view.setUint32(at, 0, true);
    view.setUint16(at + 4, type, true);
    view.setUint16(at + 6, flags, true);
    view.setUint32(at + 8, sequence, true);
    view.setUint32(at + 12, 0, true);
    this.#at = at + HEADER;
  }

  finish(): void {
    this.#bytes.view.setUint32(this.#messageStart, this.#at - this.#messageStart, true);
    this.#pad();
  }

  /** Takes back what the last begin() and later calls wrote; the message before is the last one again. */
  abandon(): void {
    this.#at = this.#messageStart;
    this.#messageStart = this.#previousStart;
  }

  /** Adds flags to the last message. */
  addFlags(flags: number): void {
    const at = this.#messageStart + 6;
    this.#bytes.view.setUint16(at, this.#bytes.view.getUint16(at, true) | flags, true);
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#bytes.u8[this.#at++] = value;
  }

  u16(value: number): void {
    this.#reserve(2);
    this.#bytes.view.setUint16(this.#at, value, true);
    this.#at += 2;
  }

  u32(value: number): void {
    this.#reserve(4);
    this.#bytes.view.setUint32(this.#at, value, true);
    this.#at += 4;
  }

  raw(octets: Uint8Array): void {
    this.#reserve(octets.length);
    this.#bytes.u8.set(octets, this.#at);
    this.#at += octets.length;
  }

  attribute(type: number, octets: Uint8Array): void {
    this.#attributeHeader(type, octets.length);
    this.raw(octets);
    this.#pad();
  }

  attributeU8(type: number, value: number): void {
    this.#attributeHeader(type, 1);
    this.u8(value);
    this.#pad();
  }

  /** Network byte order: ports. */
  attributeU16be(type: number, value: number): void {
    this.#attributeHeader(type, 2);
    this.u8(value >> 8);
    this.u8(value);
    this.#pad();
  }

  /** Throws RangeError for what is no whole number of 32 bits: the kernel would see another one. */
  attributeU32(type: number, value: number): void {
    if (!(value >= 0 && value <= 0xffff_ffff && Number.isInteger(value)))
      throw new RangeError(`${value} is not a number of 0 to 4294967295`);
    this.#attributeHeader(type, 4);
    this.u32(value);
  }

  /** Network byte order: all numbers of nftables. Negative ones as the kernel has them. */
  attributeU32be(type: number, value: number): void {
    this.#attributeHeader(type, 4);
    this.#reserve(4);
    this.#bytes.view.setInt32(this.#at, value, false);
    this.#at += 4;
  }

  /** With the terminating NUL. */
  attributeText(type: number, text: string): void {
    this.attribute(type, encoder.encode(`${text}\0`));
  }

  /** Opens a nested attribute; give what it returns to close(). */
  open(type: number): number {
    const at = this.#at;
    this.#attributeHeader(type | NLA_F_NESTED, 0);
    return at;
  }

  /** Sets the length of what began at `at`: an attribute, or a struct rtnexthop (also u16 first). Throws RangeError beyond 65535 octets. */
  close(at: number): void {
    const length = this.#at - at;
    if (length > MAX_ATTRIBUTE) throw new RangeError(`a netlink attribute has at most ${MAX_ATTRIBUTE} octets, not ${length}`);
    this.#bytes.view.setUint16(at, length, true);
  }

  #attributeHeader(type: number, payload: number): void {
    if (payload + 4 > MAX_ATTRIBUTE) throw new RangeError(`a netlink attribute has at most ${MAX_ATTRIBUTE - 4} octets, not ${payload}`);
    this.u16(payload + 4);
    this.u16(type);
  }

  #pad(): void {
    while (this.#at & 3) this.u8(0);
  }

  #reserve(octets: number): void {
    const needed = this.#at + octets;
    if (needed <= this.#bytes.u8.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#bytes.u8.length * 2));
    grown.set(this.#bytes.u8);
    this.#bytes = toBytes(grown);
  }
}
