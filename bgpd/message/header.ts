/**
 * The message header and the cutting of a TCP stream into messages (RFC 4271 sections 4.1 and 6.1, RFC 8654 for messages above 4096
 * octets). A message that lies wholly in one chunk is handed on without a copy.
 */
import { MessageError } from "./types.ts";

export const HEADER_LENGTH = 19;
/** The largest message without the extended message capability; OPEN and KEEPALIVE never exceed it (RFC 8654 section 4). */
export const MAX_LENGTH = 4096;
/** The largest message with it. */
export const MAX_EXTENDED_LENGTH = 65535;

export const MessageType = { Open: 1, Update: 2, Notification: 3, Keepalive: 4, RouteRefresh: 5 } as const;
export type MessageType = (typeof MessageType)[keyof typeof MessageType];

const MARKER_LENGTH = 16;
const typeNames = ["", "OPEN", "UPDATE", "NOTIFICATION", "KEEPALIVE", "ROUTE-REFRESH"];
/** Shortest message by type; 0 = no such type. */
const minLengths = [0, 29, 23, 21, 19, 23];

/**
 * Checks and reads the 19 octets at `offset`, all of which must be there. `maxLength` is 4096, or 65535 after both sides announced
 * extended messages. Throws MessageError 1/1, 1/2 (data = the length field) or 1/3 (data = the type).
 */
export function readHeader(buffer: Uint8Array, offset: number, maxLength: number = MAX_LENGTH): { type: MessageType; length: number } {
  const length = checkedLength(buffer, offset, maxLength);
  return { type: buffer[offset + 18] as MessageType, length };
}

/** Writes marker, length and type at `offset`. */
export function writeHeader(buffer: Uint8Array, offset: number, length: number, type: MessageType): void {
  buffer.fill(0xff, offset, offset + MARKER_LENGTH);
  buffer[offset + 16] = length >>> 8;
  buffer[offset + 17] = length & 0xff;
  buffer[offset + 18] = type;
}

/** A message of this type with room for a body of `bodyLength` octets after its header. */
export function newMessage(type: MessageType, bodyLength: number): Uint8Array {
  const message = new Uint8Array(HEADER_LENGTH + bodyLength);
  writeHeader(message, 0, message.length, type);
  return message;
}

/**
 * Splits the octets of one TCP connection into messages. Holds at most one partial message: `maxLength` octets. After a thrown
 * MessageError the stream has no more message boundaries; the framer must not be used again.
 */
export class MessageFramer {
  #maxLength: number;
  /** The start of a message whose end has not come: `#have` octets of it. */
  #partial = new Uint8Array(0);
  #have = 0;
  /** Length of the partial message from its header, 0 while the header is not whole. */
  #need = 0;
  /** Counts reset() calls, so that push() notices one made by its callback. */
  #epoch = 0;

  constructor(maxLength: number = MAX_LENGTH) {
    this.#maxLength = maxLength;
  }

  /** Holds for the next header that is read; callable from within onMessage. */
  setMaxLength(maxLength: number): void {
    this.#maxLength = maxLength;
  }

  /** Octets of an unfinished message held back. */
  get pending(): number {
    return this.#have;
  }

  /** Forgets the partial message; called from within onMessage, also drops the rest of the chunk at hand. */
  reset(): void {
    this.#have = 0;
    this.#need = 0;
    this.#epoch++;
  }

  /**
   * Calls onMessage for each message that is now complete. Its octets may lie in `chunk` or in a reused buffer: they are valid only
   * during the call. Throws MessageError like readHeader, and whatever onMessage throws.
   */
  push(chunk: Uint8Array, onMessage: (message: Uint8Array) => void): void {
    const epoch = this.#epoch;
    let position = 0;
    if (this.#have > 0) {
      position = this.#completePartial(chunk, onMessage);
      if (this.#epoch !== epoch) return;
    }
    while (chunk.length - position >= HEADER_LENGTH) {
      const length = checkedLength(chunk, position, this.#maxLength);
      if (length > chunk.length - position) break;
      onMessage(chunk.subarray(position, position + length));
      if (this.#epoch !== epoch) return;
      position += length;
    }
    if (position < chunk.length) this.#keep(chunk, position, chunk.length);
  }

  /** Fills up the partial message and delivers it when whole; returns how many octets of the chunk it took. */
  #completePartial(chunk: Uint8Array, onMessage: (message: Uint8Array) => void): number {
    let position = 0;
    if (this.#need === 0) {
      position = Math.min(HEADER_LENGTH - this.#have, chunk.length);
      this.#keep(chunk, 0, position);
      if (this.#need === 0) return position;
    }
    const end = Math.min(chunk.length, position + this.#need - this.#have);
    this.#keep(chunk, position, end);
    if (this.#have < this.#need) return end;
    const message = this.#partial.subarray(0, this.#need);
    this.#have = 0;
    this.#need = 0;
    onMessage(message);
    return end;
  }

  #keep(chunk: Uint8Array, start: number, end: number): void {
    const have = this.#have + end - start;
    if (this.#partial.length < have) {
      const grown = new Uint8Array(Math.max(have, Math.min(this.#maxLength, MAX_LENGTH), this.#need));
      grown.set(this.#partial.subarray(0, this.#have));
      this.#partial = grown;
    }
    this.#partial.set(chunk.subarray(start, end), this.#have);
    this.#have = have;
    if (this.#need === 0 && have >= HEADER_LENGTH) this.#need = checkedLength(this.#partial, 0, this.#maxLength);
  }
}

function checkedLength(buffer: Uint8Array, offset: number, maxLength: number): number {
  for (let i = offset; i < offset + MARKER_LENGTH; i++) {
    if (buffer[i] !== 0xff) throw new MessageError("the marker of a message is not all ones: the stream is out of step", 1, 1);
  }
  const length = (buffer[offset + 16] << 8) | buffer[offset + 17];
  const type = buffer[offset + 18];
  if (length < HEADER_LENGTH || length > maxLength) {
    throw badLength(buffer, offset, `message length ${length} is not within ${HEADER_LENGTH}..${maxLength}`);
  }
  if (type < 1 || type >= minLengths.length) throw new MessageError(`message type ${type} is unknown`, 1, 3, Uint8Array.of(type));
  if (length < minLengths[type]) {
    throw badLength(buffer, offset, `${typeNames[type]} of ${length} octets: it has at least ${minLengths[type]}`);
  }
  if (type === MessageType.Keepalive && length !== HEADER_LENGTH) {
    throw badLength(buffer, offset, `KEEPALIVE of ${length} octets: it has exactly ${HEADER_LENGTH}`);
  }
  if (type === MessageType.Open && length > MAX_LENGTH) {
    throw badLength(buffer, offset, `OPEN of ${length} octets: it has at most ${MAX_LENGTH}`);
  }
  return length;
}

function badLength(buffer: Uint8Array, offset: number, text: string): MessageError {
  return new MessageError(text, 1, 2, buffer.slice(offset + 16, offset + 18));
}
