/**
 * AS_PATH octets: checks, length, search, and the way between 2-octet and 4-octet sessions (RFC 4271 sections 4.3 and 9.1.2.2 a,
 * RFC 5065, RFC 6793 section 4.2, RFC 7606 section 7.2, RFC 7607).
 */
import { copyOctets, readUint16, readUint32, writeUint16, writeUint32 } from "./octets.ts";
import { SegmentType } from "./types.ts";

/** Stands in 2-octet fields for an AS number that does not fit (RFC 6793 section 9). */
export const AS_TRANS = 23456;
/** No router has one of these: 0 (RFC 7607), AS_TRANS, and the last of 2 and of 4 octets (RFC 7300). */
export function isReservedAsn(asn: number): boolean {
  return asn === 0 || asn === AS_TRANS || asn === 0xffff || asn === 0xffffffff;
}

/** AS numbers in one segment. */
export const MAX_SEGMENT = 255;

/**
 * What is wrong with these segments of `width`-octet AS numbers, or undefined. From an internal neighbour confederation segments may come,
 * and AS 0 too: RFC 7607 is kept at the border (refused from outside, never told to the outside), because a node that refused what all
 * routers of its AS use would send the packets elsewhere. FRR does the same, BIRD and GoBGP accept AS 0 everywhere.
 */
export function checkAsPath(
  octets: Uint8Array,
  start: number,
  end: number,
  width: number,
  internal: boolean,
  allowZero = internal,
): string | undefined {
  let at = start;
  while (at < end) {
    if (at + 2 > end) return "a segment header is cut off";
    const type = octets[at];
    const count = octets[at + 1];
    if (type < SegmentType.AsSet || type > SegmentType.ConfedSet) return `segment type ${type} is unknown`;
    if (count === 0) return "a segment is empty";
    if (type > SegmentType.AsSequence && !internal) return "a confederation segment from outside any confederation";
    const next = at + 2 + count * width;
    if (next > end) return `a segment of ${count} AS numbers is cut off`;
    at += 2;
    if (allowZero) at = next;
    for (; at < next; at += width) {
      const zero = width === 4 ? octets[at] | octets[at + 1] | octets[at + 2] | octets[at + 3] : octets[at] | octets[at + 1];
      if (zero === 0) return "AS number 0 (RFC 7607)";
    }
  }
  return undefined;
}

/** What the decision process counts: an AS_SET is 1, confederation segments are 0. */
function countAsPath(octets: Uint8Array, start: number, end: number, width: number): number {
  let length = 0;
  for (let at = start; at < end; at += 2 + octets[at + 1] * width) {
    if (octets[at] === SegmentType.AsSequence) length += octets[at + 1];
    else if (octets[at] === SegmentType.AsSet) length++;
  }
  return length;
}

/** 2-octet to 4-octet numbers; returns the end of what was written. */
export function widenAsPath(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): number {
  let out = at;
  for (let segment = start; segment < end; segment += 2 + from[segment + 1] * 2) {
    out = widenSegment(from, segment, from[segment + 1], to, out);
  }
  return out;
}

/** 4-octet to 2-octet numbers, AS_TRANS for those that do not fit; returns the end of what was written. */
export function narrowAsPath(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): number {
  let out = at;
  for (let segment = start; segment < end; ) {
    const next = segment + 2 + from[segment + 1] * 4;
    to[out] = from[segment];
    to[out + 1] = from[segment + 1];
    out += 2;
    for (let asn = segment + 2; asn < next; asn += 4) {
      const value = readUint32(from, asn);
      writeUint16(to, out, value > 0xffff ? AS_TRANS : value);
      out += 2;
    }
    segment = next;
  }
  return out;
}

/** Whether a 2-octet neighbour needs AS4_PATH beside this 4-octet path. Confederation segments never go into it. */
export function needsAs4Path(octets: Uint8Array, start: number, end: number): boolean {
  for (let segment = start; segment < end; ) {
    const next = segment + 2 + octets[segment + 1] * 4;
    if (octets[segment] <= SegmentType.AsSequence) {
      for (let asn = segment + 2; asn < next; asn += 4) if ((octets[asn] | octets[asn + 1]) !== 0) return true;
    }
    segment = next;
  }
  return false;
}

/** The segments of a 4-octet path without those of confederations; returns the end of what was written. */
export function copyWithoutConfed(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): number {
  let out = at;
  for (let segment = start; segment < end; ) {
    const next = segment + 2 + from[segment + 1] * 4;
    if (from[segment] <= SegmentType.AsSequence) out = copyOctets(from, segment, next, to, out);
    segment = next;
  }
  return out;
}

/**
 * Writes the true path that a 2-octet AS_PATH and its AS4_PATH tell together (RFC 6793 section 4.2.3) and returns its end: what
 * AS_PATH has in front, then AS4_PATH. An AS4_PATH longer than AS_PATH is ignored. `to` needs twice the octets of both.
 */
export function mergeAsPath(
  from: Uint8Array,
  start: number,
  end: number,
  as4Start: number,
  as4End: number,
  to: Uint8Array,
  at: number,
): number {
  let lead = countAsPath(from, start, end, 2) - countAsPath(from, as4Start, as4End, 4);
  if (lead < 0) return widenAsPath(from, start, end, to, at);
  let out = at;
  /** Where a last AS_SEQUENCE begins that the AS4_PATH may continue. */
  let open = -1;
  for (let segment = start; segment < end; segment += 2 + from[segment + 1] * 2) {
    const type = from[segment];
    const count = from[segment + 1];
    const confed = type > SegmentType.AsSequence;
    if (!confed && lead === 0) break;
    const taken = type === SegmentType.AsSequence ? Math.min(count, lead) : count;
    open = type === SegmentType.AsSequence ? out : -1;
    out = widenSegment(from, segment, taken, to, out);
    if (!confed) lead -= type === SegmentType.AsSet ? 1 : taken;
    if (taken < count) break;
  }
  const joint = out;
  out = copyWithoutConfed(from, as4Start, as4End, to, out);
  return joinSegments(to, open, joint, out);
}

/** Makes one AS_SEQUENCE of those at `first` and `second`, where both are and fit; returns the new end. */
function joinSegments(octets: Uint8Array, first: number, second: number, end: number): number {
  if (first < 0 || second === end || octets[second] !== SegmentType.AsSequence) return end;
  const count = octets[first + 1] + octets[second + 1];
  if (count > MAX_SEGMENT) return end;
  octets[first + 1] = count;
  octets.copyWithin(second, second + 2, end);
  return end - 2;
}

function widenSegment(from: Uint8Array, segment: number, count: number, to: Uint8Array, at: number): number {
  to[at] = from[segment];
  to[at + 1] = count;
  let out = at + 2;
  for (let i = 0; i < count; i++) {
    writeUint32(to, out, readUint16(from, segment + 2 + 2 * i));
    out += 4;
  }
  return out;
}
