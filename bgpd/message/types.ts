/** Shapes that message codec, policy, RIB and displays share. Values are numbers and octets; text forms are in format.ts. */
import type { Family } from "../family.ts";

/** RFC 4271 section 4.3, RFC 5065. */
export const SegmentType = { AsSet: 1, AsSequence: 2, ConfedSequence: 3, ConfedSet: 4 } as const;
export type SegmentType = (typeof SegmentType)[keyof typeof SegmentType];

export interface AsPathSegment {
  type: SegmentType;
  asns: number[];
}

/** RFC 4271 section 5.1.1. */
export const Origin = { Igp: 0, Egp: 1, Incomplete: 2 } as const;
export type Origin = (typeof Origin)[keyof typeof Origin];

/** A parsed attribute set: what the edges, policies and tests see. The RIB keeps canonical octets instead (attributes.ts). */
export interface PathAttributes {
  origin: Origin;
  asPath: AsPathSegment[];
  /** 4 octets; or 16, or 32 = global then link-local (RFC 2545). Empty: not set. */
  nextHop: Uint8Array;
  med?: number;
  localPref?: number;
  atomicAggregate?: boolean;
  aggregator?: { asn: number; address: Uint8Array };
  /** Each an unsigned 32-bit number (RFC 1997), ascending, unique. */
  communities?: number[];
  /** Unsigned 32 bit. */
  originatorId?: number;
  clusterList?: number[];
  /** 8 octets each (RFC 4360), ascending, unique. */
  extendedCommunities?: Uint8Array[];
  /** RFC 8092, three unsigned 32-bit numbers each, ascending, unique. */
  largeCommunities?: [number, number, number][];
  /** Codes of known optional transitive attributes that came with the Partial bit and keep it (RFC 4271 section 5); ascending. */
  partial?: number[];
  /** Optional transitive attributes this speaker does not know, Partial bit set on them (RFC 4271 section 5); ascending by code. */
  unknown?: { flags: number; code: number; value: Uint8Array }[];
}

/** A violation that ends the session: carries its NOTIFICATION (RFC 4271 section 6, RFC 7606). */
export class MessageError extends Error {
  override readonly name = "MessageError";
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
  constructor(message: string, code: number, subcode: number, data: Uint8Array = new Uint8Array()) {
    super(message);
    this.code = code;
    this.subcode = subcode;
    this.data = data;
  }
}

export interface OpenMessage {
  version: number;
  /** The true AS number: the capability of RFC 6793 where sent, else the 2-octet field. */
  asn: number;
  holdTime: number;
  /** Unsigned 32 bit. */
  bgpId: number;
  /** Decoded capabilities; `raw` keeps every one that came, unknown ones included. */
  capabilities: Capabilities;
}

export interface Capabilities {
  /** Absent: the neighbour sent none at all, which means IPv4 unicast (RFC 4760 section 8). */
  families?: Family[];
  fourOctetAsn?: number;
  routeRefresh?: boolean;
  /** RFC 7313. */
  enhancedRouteRefresh?: boolean;
  /** RFC 8654. */
  extendedMessage?: boolean;
  /** RFC 4724. */
  gracefulRestart?: {
    restarted: boolean;
    notification: boolean;
    restartTime: number;
    families: { afi: number; safi: number; forwarding: boolean }[];
  };
  /** draft-walton-bgp-hostname-capability, code 73. */
  hostname?: { host: string; domain: string };
  raw: { code: number; value: Uint8Array }[];
}

export interface NotificationMessage {
  code: number;
  subcode: number;
  data: Uint8Array;
}

/** An attribute set as people read it. */
export interface AttributesView {
  origin: string;
  asPath: string;
  nextHop: string;
  med?: number;
  localPref?: number;
  communities?: string[];
  largeCommunities?: string[];
  extendedCommunities?: string[];
  originatorId?: string;
  clusterList?: string[];
  aggregator?: string;
  atomicAggregate?: boolean;
  unknown?: string[];
}
