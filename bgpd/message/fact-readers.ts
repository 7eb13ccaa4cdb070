/** What decision, loop detection and export rules look at in an attribute set, and how it is read from canonical octets. No allocation. */
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

/** Those of an empty set. */
export const noFacts: Readonly<AttributeFacts> = {
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

export function readPathFacts(octets: Uint8Array, start: number, end: number, out: AttributeFacts): void {
  let first = true;
  for (let segment = start; segment < end; segment += 2 + octets[segment + 1] * 4) {
    const type = octets[segment];
    if (type > SegmentType.AsSequence) continue;
    if (first && type === SegmentType.AsSequence) out.neighborAs = readUint32(octets, segment + 2);
    first = false;
    out.asPathLength += type === SegmentType.AsSequence ? octets[segment + 1] : 1;
  }
}

export function readCommunityFlags(octets: Uint8Array, start: number, end: number): number {
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
