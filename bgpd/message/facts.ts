/**
 * What decision, loop detection and export rules need to know of a canonical attribute set (attributes.ts), read in one pass
 * (RFC 4271 section 9.1.2, RFC 4456 section 8, RFC 1997). The octets are canonical: nothing is checked again here.
 */
import { AttributeCode, AttributeTable } from "./attribute-table.ts";
import { CANONICAL_HEADER, canonicalEnd, findAttribute } from "./canonical.ts";
import { type AttributeFacts, noFacts } from "./fact-readers.ts";
import { readUint32 } from "./octets.ts";
import { SegmentType } from "./types.ts";

export { type AttributeFacts, CommunityFlag, noFacts } from "./fact-readers.ts";

export function readFacts(octets: Uint8Array, start: number, end: number): AttributeFacts {
  const facts = { ...noFacts };
  for (let at = start; at < end; ) {
    const next = canonicalEnd(octets, at);
    AttributeTable[octets[at + 1]]?.facts?.(octets, at + CANONICAL_HEADER, next, facts);
    at = next;
  }
  return facts;
}

/** How often an AS number stands in AS_PATH, confederation segments included. */
export function asPathContains(octets: Uint8Array, start: number, end: number, asn: number): number {
  const attribute = findAttribute(octets, start, end, AttributeCode.AsPath);
  if (attribute < 0) return 0;
  let count = 0;
  const pathEnd = canonicalEnd(octets, attribute);
  for (let segment = attribute + CANONICAL_HEADER; segment < pathEnd; ) {
    const next = segment + 2 + octets[segment + 1] * 4;
    for (let at = segment + 2; at < next; at += 4) if (readUint32(octets, at) === asn) count++;
    segment = next;
  }
  return count;
}

/** Whether AS_PATH has a segment without order, of a confederation or not (RFC 9774). */
export function asPathHasSet(octets: Uint8Array, start: number, end: number): boolean {
  const attribute = findAttribute(octets, start, end, AttributeCode.AsPath);
  if (attribute < 0) return false;
  const pathEnd = canonicalEnd(octets, attribute);
  for (let segment = attribute + CANONICAL_HEADER; segment < pathEnd; segment += 2 + octets[segment + 1] * 4) {
    if (octets[segment] === SegmentType.AsSet || octets[segment] === SegmentType.ConfedSet) return true;
  }
  return false;
}

/** Whether a cluster id (unsigned 32 bit) stands in CLUSTER_LIST. */
export function clusterListContains(octets: Uint8Array, start: number, end: number, id: number): boolean {
  const attribute = findAttribute(octets, start, end, AttributeCode.ClusterList);
  if (attribute < 0) return false;
  const listEnd = canonicalEnd(octets, attribute);
  for (let at = attribute + CANONICAL_HEADER; at < listEnd; at += 4) if (readUint32(octets, at) === id) return true;
  return false;
}
