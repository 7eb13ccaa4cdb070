/** The walk over canonical octets (attributes.ts says what they are): nothing is checked here. */
import { readUint16 } from "./octets.ts";

/** Octets before each canonical value: flags, code, length. */
export const CANONICAL_HEADER = 4;

/** Where the attribute that begins at `at` ends, and the next one begins. */
export function canonicalEnd(octets: Uint8Array, at: number): number {
  return at + CANONICAL_HEADER + readUint16(octets, at + 2);
}

/** Where an attribute's flags octet stands, -1 when there is none of this code. */
export function findAttribute(octets: Uint8Array, start: number, end: number, code: number): number {
  for (let at = start; at < end; at = canonicalEnd(octets, at)) {
    if (octets[at + 1] === code) return at;
    if (octets[at + 1] > code) return -1;
  }
  return -1;
}

/** A view of an attribute's value; empty when there is none of this code. */
export function attributeValue(octets: Uint8Array, start: number, end: number, code: number): Uint8Array {
  const at = findAttribute(octets, start, end, code);
  return at < 0 ? octets.subarray(0, 0) : octets.subarray(at + CANONICAL_HEADER, canonicalEnd(octets, at));
}
