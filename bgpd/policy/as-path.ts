/** What rules ask of an AS_PATH, and prepending (RFC 4271 sections 4.3, 5.1.2 and 9.1.2.2 a, RFC 5065 section 5.3). */
import { type AsPathSegment, SegmentType } from "../message/types.ts";

/** AS_PATH length as the decision counts it: an AS_SET is 1, confederation segments are 0. */
export function pathLength(path: readonly AsPathSegment[]): number {
  let length = 0;
  for (const segment of path) {
    if (segment.type === SegmentType.AsSequence) length += segment.asns.length;
    else if (segment.type === SegmentType.AsSet) length += 1;
  }
  return length;
}

/** The neighbouring AS: the first number, confederation segments left out; undefined for an empty path or one that begins with an AS_SET. */
export function firstAsn(path: readonly AsPathSegment[]): number | undefined {
  const first = path.find(segment => !isConfederation(segment) && segment.asns.length > 0);
  return first?.type === SegmentType.AsSequence ? first.asns[0] : undefined;
}

/** The originating AS: the last number; undefined for an empty path or one that ends with an AS_SET. */
export function lastAsn(path: readonly AsPathSegment[]): number | undefined {
  const last = path.findLast(segment => !isConfederation(segment) && segment.asns.length > 0);
  return last?.type === SegmentType.AsSequence ? last.asns[last.asns.length - 1] : undefined;
}

export function containsAny(path: readonly AsPathSegment[], asns: ReadonlySet<number>): boolean {
  return path.some(segment => segment.asns.some(asn => asns.has(asn)));
}

/** A new path with `asn` put in front `count` times; a segment holds at most 255 numbers, a further one is opened then. */
export function prepend(path: readonly AsPathSegment[], asn: number, count: number): AsPathSegment[] {
  const rest = [...path];
  const numbers: number[] = new Array(count).fill(asn);
  if (rest[0]?.type === SegmentType.AsSequence && rest[0].asns.length < MAX_SEGMENT) {
    const room = Math.min(count, MAX_SEGMENT - rest[0].asns.length);
    rest[0] = { type: SegmentType.AsSequence, asns: [...numbers.splice(0, room), ...rest[0].asns] };
  }
  if (numbers.length > 0) rest.unshift({ type: SegmentType.AsSequence, asns: numbers });
  return rest;
}

const MAX_SEGMENT = 255;

function isConfederation(segment: AsPathSegment): boolean {
  return segment.type === SegmentType.ConfedSequence || segment.type === SegmentType.ConfedSet;
}
