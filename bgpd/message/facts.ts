/**
 * What decision, loop detection and export rules need to know of a canonical attribute set (attributes.ts), read in one pass
 * (RFC 4271 section 9.1.2, RFC 4456 section 8, RFC 1997). The octets are canonical: nothing is checked again here.
 */
import { AttributeCode, AttributeTable } from "./attribute-table.ts";
import { type AttributeFacts, noFacts } from "./fact-readers.ts";
import { readUint16, readUint32 } from "./octets.ts";
import { SegmentType } from "./types.ts";

export { type AttributeFacts, CommunityFlag, noFacts } from "./fact-readers.ts";

export function readFacts(octets: Uint8Array, start: number, end: number): AttributeFacts {
  const facts = { ...noFacts };
  for (let at = start; at < end; ) {
    const value = at + 4;
    const next = value + readUint16(octets, at + 2);
    AttributeTable[octets[at + 1]]?.facts?.(octets, value, next, facts);
    at = next;
  }
  return facts;
}

/** How often an AS number stands in AS_PATH, confederation segments included. */
export function asPathContains(octets: Uint8Array, start: number, end: number, asn: number): number {
  const attribute = findAttribute(octets, start, end, AttributeCode.AsPath);
  if (attribute < 0) return 0;
  let count = 0;
  const pathEnd = attribute + 4 + readUint16(octets, attribute + 2);
  for (let segment = attribute + 4; segment < pathEnd; ) {
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
  const pathEnd = attribute + 4 + readUint16(octets, attribute + 2);
  for (let segment = attribute + 4; segment < pathEnd; segment += 2 + octets[segment + 1] * 4) {
    if (octets[segment] === SegmentType.AsSet || octets[segment] === SegmentType.ConfedSet) return true;
  }
  return false;
}

/** Whether a cluster id (unsigned 32 bit) stands in CLUSTER_LIST. */
export function clusterListContains(octets: Uint8Array, start: number, end: number, id: number): boolean {
  const attribute = findAttribute(octets, start, end, AttributeCode.ClusterList);
  if (attribute < 0) return false;
  const listEnd = attribute + 4 + readUint16(octets, attribute + 2);
  for (let at = attribute + 4; at < listEnd; at += 4) if (readUint32(octets, at) === id) return true;
  return false;
}

/** Where an attribute's flags octet stands, -1 when there is none of this code. */
export function findAttribute(octets: Uint8Array, start: number, end: number, code: number): number {
  for (let at = start; at < end; at += 4 + readUint16(octets, at + 2)) {
    if (octets[at + 1] === code) return at;
    if (octets[at + 1] > code) return -1;
  }
  return -1;
}
