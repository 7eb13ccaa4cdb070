/** What the speaker shows of itself: plain JSON for CLI, API, status and tests. */
import type { Problem } from "../platform/problem.ts";
import type { RouteKind } from "./config.ts";
import type { Family } from "./family.ts";
import type { FaultView } from "./faults.ts";
import type { FibCounters } from "./fib/types.ts";
import type { AttributesView } from "./message/types.ts";
import type { DecidingRule, TraceStep } from "./policy/types.ts";
import type { Step } from "./rib/decision.ts";
import type { ExportStep } from "./rib/exporter.ts";
import type { RejectedReason } from "./rib/rejected.ts";
import type { SessionEnd } from "./session/totals.ts";
import type { SessionCounters, SessionState } from "./session/types.ts";

export interface SpeakerSnapshot {
  asn: number;
  routerId: string;
  listening: { address: string; port: number }[];
  neighbors: NeighborSnapshot[];
  tables: Record<Family, { prefixes: number; paths: number; best: number }>;
  attributeSets: number;
  updateGroups: number;
  fib?: FibCounters;
  /** All expected End-of-RIBs came (or the bounded wait ended) and stale kernel routes were swept. */
  converged: boolean;
  /** Exceptions of podlane's own. Absent: none. */
  faults?: FaultView;
}

/** For metrics. Sums of all sessions since the start, those of removed neighbours included, never fall. */
export interface SpeakerCounters {
  sessions: SessionCounters;
  /** How many are in each state. */
  states: Record<SessionState, number>;
  /** Changes of a session into each state. */
  entered: Record<SessionState, number>;
  ends: SessionEnd[];
  /** Prefixes that wait for the decision. */
  undecided: Record<Family, number>;
  /** Prefixes that wait to be told to neighbours; counted once for each update group. */
  unsent: Record<Family, number>;
}

/** Of the sessions that are wanted, which leaves out those that are shut down. */
export interface SessionCounts {
  wanted: number;
  established: number;
  /** Of these, those whose tables are in. */
  complete: number;
  /** Routes of ours were in the kernel at the start. */
  adopted: boolean;
}

/** Something that is wrong while the speaker runs; what is wrong with its configuration compile() has said. */
/** `object`: what it concerns, such as "Peer/tor-a", or "speaker". */
export type SpeakerProblem = Problem;

export interface NeighborSnapshot {
  name: string;
  source?: string;
  description?: string;
  address: string;
  interface?: string;
  asn: number | "external" | "internal";
  localAsn: number;
  internal?: boolean;
  routerId?: string;
  state: SessionState;
  /** It is wanted no more, and stays until others carry its routes. */
  leaving?: boolean;
  /** Why it is in this state. */
  reason: string;
  /** RFC 3339. */
  since: string;
  /** RFC 3339: since when there is no session, whatever the attempts. Absent: it is established. */
  downSince?: string;
  /** By configuration: it is not wanted. */
  shutdown?: true;
  /** It is wanted, and has been down for longer than its hold time. */
  overdue?: boolean;
  /** RFC 3339: when the next attempt is made, where one is planned. */
  nextAttempt?: string;
  lastDown?: { at: string; text: string; code?: number; subcode?: number; direction?: "sent" | "received"; offending?: string };
  holdTime?: number;
  keepaliveTime?: number;
  localAddress?: string;
  capabilities?: string[];
  families: Partial<Record<Family, NeighborFamilySnapshot>>;
  /** Of attribute sets that are kept because of this session, and how many may be. */
  attributeOctets?: number;
  attributeOctetsLimit?: number;
  /** Routes of this session that were not kept, because a limit was reached. Absent: none. */
  refused?: number;
  counters: SessionCounters;
  /**
   * What RFC 7606 was applied to since the neighbour was configured: UPDATEs whose announcements counted as withdrawn, attributes that were
   * discarded, and the last such UPDATE (of those that cost routes, where there is one). Absent: none.
   */
  malformed?: { withdrawn: number; discarded: number; last: { at: string; text: string /** Hex. */; offending: string } };
}

export interface NeighborFamilySnapshot {
  received: number;
  accepted: number;
  rejected: number;
  /** How many for each reason; a path that is rejected for several counts for each. Absent: none. */
  rejectedBecause?: Partial<Record<RejectedReason, number>>;
  sent: number;
  /** Routes that would be sent, but that no message of the session can hold with their attributes (RFC 4271 section 9.2). Absent: none. */
  tooLarge?: number;
  endOfRib: boolean;
  /** Of accepted prefixes, and of all that are kept. 0 or absent: none. */
  prefixLimit: number;
  receivedLimit?: number;
}

export type { RejectedReason };

/** What becomes of a route: the steps of the decision at which one loses, and why one takes no part in it. */
export type RouteStep =
  | "Best"
  | "OnlyRoute"
  | Exclude<keyof typeof Step, "Ineligible" | "Won">
  | RejectedReason
  | "SessionGone"
  | "NextHopUnreachable"
  | "NextHopThroughItself";

export type SendStep = ExportStep | "NotEstablished" | "FamilyNotNegotiated" | "NoEligibleRoute" | "IsItsSource" | "Queued";

export interface RouteView {
  prefix: string;
  family: Family;
  kind: RouteKind;
  /** Neighbour name, or the object a local route comes from. */
  from: string;
  best: boolean;
  /** Part of the ECMP set. */
  multipath: boolean;
  eligible: boolean;
  /** Where it was chosen, lost, or found not to be eligible: for programs. */
  step: RouteStep;
  /** The same in words, with what it hangs on. */
  reason: string;
  attributes: AttributesView;
  /** RFC 3339: when it came with these attributes. */
  since: string;
}

export interface Explanation {
  prefix: string;
  /** The question named an address or a longer prefix: this is the covering prefix found. */
  matched: string | undefined;
  candidates: (RouteView & { import?: { accepted: boolean; decidedBy: string; rule?: DecidingRule; trace: TraceStep[] } })[];
  decision: string;
  /** The step that decided last, as the best route's rival that came furthest lost there; absent: there was nothing to decide. */
  decidedAt?: RouteStep;
  sent: { neighbor: string; advertised: boolean; step: SendStep; reason: string; rule?: DecidingRule; attributes?: AttributesView }[];
  /** Longer prefixes that hold it too, none of whose routes is eligible, longest first. */
  passedOver: { prefix: string; reason: string }[];
  kernel: {
    /** A route of ours for the prefix is there. */
    installed: boolean;
    text: string;
    /** Routes of other owners for this very prefix, in the order in which the kernel tries them: "static, metric 0: via 10.0.0.1 dev eth0". */
    others: string[];
  };
  /** Where an address was asked for: what the kernel does with a packet of this node to it. */
  forwards?: KernelAnswer & {
    /** Why that is not the route that was chosen. */
    conflict?: string;
  };
  protectedBy?: string;
}

/** The kernel's own lookup. Where nothing matches, or what matches discards, only `text` says so. */
export interface KernelAnswer {
  to: string;
  /** "via 10.0.0.1 dev eth0", "delivered on this node", or why not. */
  text: string;
  prefix?: string;
  /** As in iproute2's rt_protos, or "podlane". */
  owner?: string;
  ours: boolean;
  metric?: number;
  /** "main", "local", or its number. */
  table?: string;
  /** The rule by which the table was asked: "32766 (all packets → table main)". */
  rule?: string;
  /** Rules before it that take other packets to this address: of other sources, interfaces or marks. */
  rulesBefore: string[];
}

export interface ApplyReport {
  /** One line for each thing done: 'Peer tor-a: session reset (hold time changed)'. */
  actions: { neighbor?: string; action: "add" | "remove" | "reset" | "refresh" | "change"; text: string }[];
}
