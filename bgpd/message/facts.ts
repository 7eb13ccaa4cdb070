/**
 * What decision, loop detection and export rules need to know of a canonical attribute set (attributes.ts), read in one pass without
 * allocation (RFC 4271 section 9.1.2, RFC 4456 section 8, RFC 1997). The octets are canonical: nothing is checked again here.
 */
import { AttributeCode } from "./attribute-table.ts";
import { readUint16, readUint32 } from "./octets.ts";
import { SegmentType } from "./types.ts";

/** Bits of AttributeFacts.wellKnownCommunities. */
export const CommunityFlag = {
  NoExport: 1,
  NoAdvertise: 2,
  NoExportSubconfed: 4,
  NoPeer: 8,
  Blackhole: 16,
  GracefulShutdown: 32,
  LlgrStale: 64,
  NoLlgr: 128,
  AcceptOwn: 256,
} as const;

export interface AttributeFacts {
  /** 0 IGP, 1 EGP, 2 INCOMPLETE. */
  origin: number;
  /** -1: absent. */
  localPref: number;
  /** -1: absent. */
  med: number;
  /** An AS_SET counts 1, confederation segments 0. */
  asPathLength: number;
  /** First AS of the path; 0 when the path is empty or begins with an AS_SET. Confederation segments in front are passed over. */
  neighborAs: number;
  hasOriginator: boolean;
  /** Unsigned 32 bit; means something only with hasOriginator. */
  originatorId: number;
  /** Elements, not octets. */
  clusterListLength: number;
  /** Where the next hop stands in the octets; length 0: absent. */
  nextHopOffset: number;
  /** 0, 4, 16 or 32. */
  nextHopLength: number;
  /** CommunityFlag bits. */
  wellKnownCommunities: number;
}

export function newFacts(): AttributeFacts {
  return {
    origin: 2,
    localPref: -1,
    med: -1,
    asPathLength: 0,
    neighborAs: 0,
    hasOriginator: false,
    originatorId: 0,
    clusterListLength: 0,
    nextHopOffset: 0,
    nextHopLength: 0,
    wellKnownCommunities: 0,
  };
}

/** Overwrites every field of `out`. */
export function readFacts(octets: Uint8Array, start: number, end: number, out: AttributeFacts): void {
  clearFacts(out);
  for (let at = start; at < end; ) {
    const value = at + 4;
    const next = value + readUint16(octets, at + 2);
    switch (octets[at + 1]) {
      case AttributeCode.Origin:
        out.origin = octets[value];
        break;
      case AttributeCode.AsPath:
        readPathFacts(octets, value, next, out);
        break;
      case AttributeCode.NextHop:
        out.nextHopOffset = value;
        out.nextHopLength = next - value;
        break;
      case AttributeCode.Med:
        out.med = readUint32(octets, value);
        break;
      case AttributeCode.LocalPref:
        out.localPref = readUint32(octets, value);
        break;
      case AttributeCode.Communities:
        out.wellKnownCommunities = readCommunityFlags(octets, value, next);
        break;
      case AttributeCode.OriginatorId:
        out.hasOriginator = true;
        out.originatorId = readUint32(octets, value);
        break;
      case AttributeCode.ClusterList:
        out.clusterListLength = (next - value) >> 2;
        break;
    }
    at = next;
  }
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

function clearFacts(out: AttributeFacts): void {
  out.origin = 2;
  out.localPref = -1;
  out.med = -1;
  out.asPathLength = 0;
  out.neighborAs = 0;
  out.hasOriginator = false;
  out.originatorId = 0;
  out.clusterListLength = 0;
  out.nextHopOffset = 0;
  out.nextHopLength = 0;
  out.wellKnownCommunities = 0;
}

function readPathFacts(octets: Uint8Array, start: number, end: number, out: AttributeFacts): void {
  let first = true;
  for (let segment = start; segment < end; segment += 2 + octets[segment + 1] * 4) {
    const type = octets[segment];
    if (type > SegmentType.AsSequence) continue;
    if (first && type === SegmentType.AsSequence) out.neighborAs = readUint32(octets, segment + 2);
    first = false;
    out.asPathLength += type === SegmentType.AsSequence ? octets[segment + 1] : 1;
  }
}

function readCommunityFlags(octets: Uint8Array, start: number, end: number): number {
  let flags = 0;
  // Ascending: those of 0xffff stand at the end.
  for (let at = end - 4; at >= start && octets[at] === 0xff && octets[at + 1] === 0xff; at -= 4) {
    flags |= communityFlag(readUint16(octets, at + 2));
  }
  return flags;
}

function communityFlag(low: number): number {
  switch (low) {
    case 0xff01:
      return CommunityFlag.NoExport;
    case 0xff02:
      return CommunityFlag.NoAdvertise;
    case 0xff03:
      return CommunityFlag.NoExportSubconfed;
    case 0xff04:
      return CommunityFlag.NoPeer;
    case 0x029a:
      return CommunityFlag.Blackhole;
    case 0x0000:
      return CommunityFlag.GracefulShutdown;
    case 0x0006:
      return CommunityFlag.LlgrStale;
    case 0x0007:
      return CommunityFlag.NoLlgr;
    case 0x0001:
      return CommunityFlag.AcceptOwn;
    default:
      return 0;
  }
}
