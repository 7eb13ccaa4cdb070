/**
 * What the speaker is told to be: the whole configuration as plain JSON-serialisable data, so that `compile()` can produce it,
 * golden files can hold it and `apply()` can compare it with what runs. Addresses and prefixes are text in canonical form
 * (RFC 5952); times are seconds; AS numbers are 1..4294967295 (RFC 6793).
 */
import type { Family } from "./family.ts";
import type { NumberField } from "./message/attribute-table.ts";
import type { CommunityField } from "./message/communities.ts";

export interface SpeakerConfig {
  asn: number;
  /** BGP Identifier, dotted quad, not 0.0.0.0 (RFC 6286). */
  routerId: string;
  /** CLUSTER_ID of a route reflector, dotted quad; the router id where absent (RFC 4456 section 7). */
  clusterId?: string;
  /** Where connections are accepted; `port` 0 = nowhere. */
  listen: { port: number; addresses?: string[] };
  neighbors: NeighborConfig[];
  /** How the sessions of the mesh are arranged. With another one than before, those that are not wanted any more end when others carry their routes. */
  arrangement?: string;
  /** By name; neighbours refer to them. */
  policies: Record<string, PolicyConfig>;
  /** Sets of prefixes that policies match by name are already resolved: a PolicyConfig stands alone. */
  networks: NetworkConfig[];
  multipath: { ebgp: number; ibgp: number /** AS_PATHs of equal length but other content count as equal. */; asPathRelax: boolean };
  decision: {
    /** Compare MED between different neighbour ASes. */
    alwaysCompareMed: boolean;
    /** RFC 5004: prefer the older external path before the router id decides. */
    preferOldest: boolean;
  };
  fib: FibConfig;
  /** No neighbour can take these prefixes over, nor a part of them, unless a policy rule names them (see PolicyMatch.prefixes). */
  protectedPrefixes: ProtectedPrefix[];
  /** Absent: every neighbour is believed. */
  origins?: OriginsConfig;
  /**
   * How long a starting speaker waits for End-of-RIB before it sweeps stale kernel routes, and how long sessions that another arrangement of the mesh
   * leaves out wait for others. Seconds.
   */
  startupWait: number;
}

/** How many ranges that a node had before are remembered, the latest ones. */
export const FORMER_RANGES = 8;

/** Which nodes may originate what, for neighbours that are judged by it (NeighborConfig.origin). */
export interface OriginsConfig {
  nodes: OriginConfig[];
  /** Prefixes that several nodes may originate, by a name such as "Peer/tor". */
  lists: Record<string, PrefixRangeConfig[]>;
}

export interface OriginConfig {
  /** The node. */
  name: string;
  /** Its BGP Identifier, which reflectors tell as ORIGINATOR_ID. Dotted quad. */
  routerId: string;
  asn: number;
  /** Its own: it may announce them and everything inside, and no other node may. */
  ranges: string[];
  /** Ranges that it had before: it may announce what lies inside, while no other node has them. */
  former?: string[];
  /** It may announce exactly these, too. */
  prefixes: string[];
  /** Names of the lists that apply to it. */
  lists: string[];
}

/**
 * A node of the mesh. `reflects`: it may pass routes of others on, which ORIGINATOR_ID tells. `vouches`: it knows nodes that OriginsConfig does not,
 * and has judged what they originate.
 */
export interface NodeRole {
  node: string;
  reflects: boolean;
  vouches?: boolean;
}

/** "outside": no node; it may announce ranges of nodes only as it heard them from their AS, or as a reflector from themselves. */
export type OriginRole = NodeRole | "outside";

export interface PrefixRangeConfig {
  prefix: string;
  /** Shortest length, default = prefix length. */
  ge?: number;
  /** Longest length, default = ge if given else prefix length. */
  le?: number;
}

export interface ProtectedPrefix {
  prefix: string;
  reason: string;
  /** Also guard everything inside the prefix. */
  orLonger: boolean;
  /** Not against a node whose own range (OriginConfig.ranges) it is. */
  yields?: boolean;
  /** With orLonger: only down to this length. Absent: all. */
  le?: number;
}

export interface FibConfig {
  /** false: a pure route server or reflector; nothing is written to the kernel. */
  enabled: boolean;
  /** Kernel table: 254 = main. */
  table: number;
  /** rtm_protocol of our routes; routes of other protocols are never touched. */
  protocol: number;
  /** Kernel metric (priority) of our routes. 0 = 0 for IPv4, 1023 for IPv6. */
  metric: number;
}

/** A route this speaker originates. */
export interface NetworkConfig {
  prefix: string;
  /** What it stands for, for policies (PolicyMatch.kinds) and for `explain`. */
  kind: RouteKind;
  /** The object it comes from, for `explain`, such as "Advertisement/pods". */
  source: string;
  /** Absent: the session's own address. */
  nextHop?: string;
  attributes?: NetworkAttributes;
  /**
   * Install a blackhole (discard) route in the kernel for it: aggregates and pod ranges, so that unassigned addresses do not loop. "transit": one that
   * only takes packets which come from others, so that what this node sends itself is routed, and translated, as if it were not there.
   */
  discard: boolean | "transit";
  /** The objects that announce it, for policies (PolicyMatch.sources). Absent: `source` alone. */
  sources?: string[];
  /** Only neighbours that hear one of its sources (NeighborConfig.hears) may be told. Absent: all may (their export policy still applies). */
  restricted?: boolean;
}

/** `nextHop` has no effect: NetworkConfig.nextHop says it. */
export interface NetworkAttributes extends AttributesToSet, Partial<Record<CommunityField, string[]>> {
  /** How often our own AS stands in front once more, towards external neighbours: an internal one would take it for a loop. At most MAX_PREPEND. */
  prepend?: number;
  /** Octets per second, or a weight: what it means is between us and the neighbours (draft-ietf-idr-link-bandwidth). */
  linkBandwidth?: number;
}

/** An AS path that is longer is dropped by many. */
export const MAX_PREPEND = 32;

export const RouteKinds = ["pod", "service", "interface", "static", "aggregate", "learned"] as const;
export type RouteKind = (typeof RouteKinds)[number];

export interface NeighborConfig {
  /** Unique; the name that tables, logs and `explain` show. */
  name: string;
  /** The object it comes from, such as "Peer/tor-a". */
  source?: string;
  description?: string;
  address: string;
  port: number;
  /** Bind the session to this address; default: the kernel's choice. */
  localAddress?: string;
  /** Bind the session to this interface (needed for a link-local address). */
  interface?: string;
  /** Next hop routers between: TTL of sent packets. 0 = directly connected (external) or unlimited (internal). */
  multihop?: number;
  /** GTSM, RFC 5082: number of hops that are trusted, 1 = directly connected. Excludes multihop. */
  ttlSecurity?: number;
  remoteAsn: number | "external" | "internal";
  /** local-as: present ourselves to this neighbour under another AS. */
  localAsn?: number;
  /** TCP MD5 (RFC 2385) key, 1..80 octets. */
  password?: string;
  /** Never connect, only accept. */
  passive: boolean;
  /** Seconds; 0 or 3..65535 (RFC 4271 section 4.2). */
  holdTime: number;
  /** Seconds; 0 = holdTime / 3. */
  keepaliveTime: number;
  /** Restart time of RFC 4724 in our OPEN, 0..4095. Absent: as holdTime. */
  restartTime?: number;
  connectRetryTime: number;
  /** MRAI, announcements only (RFC 4271 section 9.2.1.1). */
  advertisementInterval: number;
  families: Partial<Record<Family, NeighborFamilyConfig>>;
  /** Octets of attribute sets that the neighbour may bring before the session is closed with Cease/8. 0 or absent = no limit. */
  attributeOctetsLimit?: number;
  /** AS_SETs and AS_CONFED_SETs are taken from the neighbour and told to it (RFC 9774 forbids both by default). Absent: false. */
  allowAsSets?: boolean;
  /** The AS path of what an external neighbour sends must begin with its own AS (RFC 4271 section 6.3); not so a route server's (RFC 7947). Absent: true. */
  enforceFirstAs?: boolean;
  /** By which part of SpeakerConfig.origins its routes are judged. Absent: by none. */
  origin?: OriginRole;
  /** Sources of restricted networks that it may be told. */
  hears?: string[];
  /** A session of the mesh (SpeakerConfig.arrangement). */
  mesh?: boolean;
  /** RFC 4456: this neighbour is our client. */
  routeReflectorClient: boolean;
  /** Session may stay down on purpose: administratively disabled. */
  shutdown?: { message?: string };
}

export interface NeighborFamilyConfig {
  /** Names of policies, asked in order; a rule that neither accepts nor rejects falls through. At the end: external reject (RFC 8212), internal accept. */
  importPolicies: string[];
  exportPolicies: string[];
  /** What no rule decided. Absent: "reject" for external neighbours (RFC 8212), "accept" for internal ones. */
  importDefault?: "accept" | "reject";
  exportDefault?: "accept" | "reject";
  /** Prefixes accepted from the neighbour before the session is closed with Cease/1 (RFC 4486). 0 = no limit. */
  prefixLimit: number;
  /** Prefixes that are kept of the neighbour, rejected ones included, before the session is closed with Cease/1. 0 or absent = no limit. */
  receivedLimit?: number;
  /** Seconds after which a session that the limit ended is tried again; 0 = not before reset() or a change of the limit. Absent: 300. */
  prefixLimitRestart?: number;
  /** Percent of the limit at which a problem is reported. */
  prefixWarning: number;
  nextHopSelf: boolean;
  allowAsIn: number;
  /** Remove private AS numbers from AS_PATH on export. */
  removePrivateAsn?: boolean;
}

export interface PolicyConfig {
  /** The object it comes from, such as "Policy/from-tor". */
  source?: string;
  rules: PolicyRule[];
}

export interface PolicyRule {
  /** For traces and problems; default "rule N" counted from 1. */
  name?: string;
  match?: PolicyMatch;
  action: PolicyAction;
}

/** All conditions given must hold (AND); a list within one condition is an OR unless said otherwise. Absent or {} matches all. */
export interface PolicyMatch
  extends Partial<Record<NumberField, { min?: number; max?: number }>>,
    Partial<Record<CommunityField, CommunityMatch>> {
  prefixes?: PrefixRangeConfig[];
  families?: Family[];
  asPath?: {
    /** Contains one of these AS numbers. */
    contains?: number[];
    /** The neighbouring (first) AS is one of these. */
    neighbor?: number[];
    /** The originating (last) AS is one of these. */
    origin?: number[];
    minLength?: number;
    maxLength?: number;
    /** Regular expression over the AS numbers joined by one space, AS_SETs in braces "{1 2}"; `_` = boundary as in routers. */
    regex?: string;
  };
  /** Next hop lies in one of these prefixes. */
  nextHops?: string[];
  origins?: OriginName[];
  /** Names of the neighbours the route came from (import) or is sent to (export). */
  neighbors?: string[];
  kinds?: RouteKind[];
  /** Objects that announce the route here, all of them. */
  sources?: string[];
}

/** "65001:100", or a name such as no-export; "65001:1:2"; "*" stands for any value of a field. */
export interface CommunityMatch {
  any?: string[];
  all?: string[];
  none?: string[];
}

export type OriginName = "igp" | "egp" | "incomplete";

export interface PolicyAction extends Partial<Record<CommunityField, CommunityChanges>> {
  /** "continue" (default): go on with the next rule, with changes applied. */
  result: "accept" | "reject" | "continue";
  set?: AttributesToSet;
  prepend?: { asn: number | "self" | "last"; count: number };
  removeMed?: boolean;
}

export interface AttributesToSet extends Partial<Record<NumberField, number>> {
  origin?: OriginName;
  /** Address, or "self" (export: our session address). */
  nextHop?: string;
}

/** `set` replaces all, then remove, then add. */
export interface CommunityChanges {
  set?: string[];
  add?: string[];
  remove?: string[];
}
