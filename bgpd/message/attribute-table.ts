/**
 * Path attributes, one row each: everything the speaker knows about an attribute stands in its row, except the few whose meaning
 * spans several (MP_REACH_NLRI, MP_UNREACH_NLRI, AS4_PATH, AS4_AGGREGATOR; update-decoder.ts and update-writer.ts).
 * RFC 4271 section 5, RFC 7606 section 7, and the RFC named in each row.
 */
import { formatAddress } from "../../net/address.ts";
import { checkAsPath, MAX_SEGMENT } from "./as-path.ts";
import { type CommunityKind, type LargeCommunity, large, standard } from "./communities.ts";
import { type AttributeFacts, readCommunityFlags, readPathFacts } from "./fact-readers.ts";
import { readUint16, readUint32, writeUint32 } from "./octets.ts";
import { formatAsPath, formatCommunity, formatExtendedCommunity, formatId, formatLargeCommunity, formatOrigin } from "./text.ts";
import type { AsPathSegment, AttributesView, Origin, PathAttributes, SegmentType } from "./types.ts";

export const AttributeCode = {
  Origin: 1,
  AsPath: 2,
  NextHop: 3,
  Med: 4,
  LocalPref: 5,
  AtomicAggregate: 6,
  Aggregator: 7,
  Communities: 8,
  OriginatorId: 9,
  ClusterList: 10,
  MpReach: 14,
  MpUnreach: 15,
  ExtendedCommunities: 16,
  As4Path: 17,
  As4Aggregator: 18,
  LargeCommunities: 32,
} as const;

/** RFC 4271 section 4.3. */
export const AttributeFlag = { Optional: 0x80, Transitive: 0x40, Partial: 0x20, ExtendedLength: 0x10 } as const;

const WellKnown = AttributeFlag.Transitive;
const OptionalTransitive = AttributeFlag.Optional | AttributeFlag.Transitive;
const OptionalNonTransitive = AttributeFlag.Optional;

/** How RFC 7606 section 2 treats an attribute that is wrong, short of ending the session. */
export type Treatment = "treat-as-withdraw" | "attribute-discard";

/** What checking a value needs to know of the session. */
export interface CheckContext {
  internal: boolean;
  /** Octets of an AS number in AS_PATH and AGGREGATOR: 2 or 4. */
  asnWidth: number;
}

export type NumberField = "med" | "localPref";

/** An attribute that is a number, for rules: it can be matched by bounds, and set. */
export interface NumberKind {
  /** Its key in parsed attribute sets, and in rules. */
  readonly field: NumberField;
  /** For texts. */
  readonly title: string;
  /** What counts where the attribute is absent. */
  readonly absent: number;
}

export interface AttributeRow {
  readonly code: number;
  readonly name: string;
  /** The Optional and Transitive bits it must have; also its flags in canonical octets. */
  readonly flags: number;
  /** What a wrong value leads to, and the NOTIFICATION subcode where nothing but a reset is left (RFC 7606 section 5.2). */
  readonly onError: Treatment;
  readonly subcode: number;
  /** Means nothing between ASes: from an external neighbour it is discarded unseen, and none is told it. */
  readonly internalOnly?: boolean;
  /** Of a set: whether an element may leave the AS. Absent: all may. */
  readonly leaves?: (octets: Uint8Array, at: number) => boolean;
  /** How rules match and change it. */
  readonly number?: NumberKind;
  readonly set?: CommunityKind<number> | CommunityKind<LargeCommunity>;
  /** A set of elements of this many octets, kept ascending and unique. */
  readonly elementWidth?: number;
  /** What is wrong with a value that came, or undefined. */
  check(octets: Uint8Array, start: number, end: number, context: CheckContext): string | undefined;
  /** From canonical octets. Absent: the attribute never appears in them. */
  parse?(octets: Uint8Array, start: number, end: number, into: PathAttributes): void;
  /** The canonical value, or undefined when not set. Sets need not be sorted. */
  build?(attributes: PathAttributes): Uint8Array | readonly number[] | undefined;
  format?(attributes: PathAttributes, view: AttributesView): void;
  /** Into the facts that decision, loop detection and export look at, from canonical octets. */
  facts?(octets: Uint8Array, start: number, end: number, into: AttributeFacts): void;
  /** For a line that an operator compares: a place in it, by which all are sorted, and words, or "" where there is nothing to say. */
  readonly words?: { readonly place: number; readonly of: (view: AttributesView) => string };
}

/** Bit in the first octet of an extended community that is not to leave the AS (RFC 4360 section 3). */
const NON_TRANSITIVE = 0x40;
/** LOCAL_PREF where the attribute is absent (RFC 4271 section 9.1.1 leaves it to us; every implementation takes 100). */
export const DEFAULT_LOCAL_PREF = 100;

const rows: readonly AttributeRow[] = [
  {
    code: AttributeCode.Origin,
    name: "ORIGIN",
    flags: WellKnown,
    onError: "treat-as-withdraw",
    subcode: 6,
    check: (octets, start, end) => checkLength(end - start, 1) ?? (octets[start] > 2 ? `value ${octets[start]} is unknown` : undefined),
    parse(octets, start, _end, into) {
      into.origin = octets[start] as Origin;
    },
    build: ({ origin }) => [origin],
    format(attributes, view) {
      view.origin = formatOrigin(attributes.origin);
    },
    facts(octets, start, _end, into) {
      into.origin = octets[start];
    },
    words: { place: 3, of: ({ origin }) => `origin ${origin}` },
  },
  {
    code: AttributeCode.AsPath,
    name: "AS_PATH",
    flags: WellKnown,
    onError: "treat-as-withdraw",
    subcode: 11,
    check: (octets, start, end, context) => checkAsPath(octets, start, end, context.asnWidth, context.internal),
    parse(octets, start, end, into) {
      into.asPath = parseAsPath(octets, start, end);
    },
    build: ({ asPath }) => buildAsPath(asPath),
    format(attributes, view) {
      view.asPath = formatAsPath(attributes.asPath);
    },
    facts: readPathFacts,
    words: { place: 2, of: ({ asPath }) => (asPath === "" ? "empty AS path" : `AS path ${asPath}`) },
  },
  {
    // On the wire 4 octets of IPv4; in canonical octets the next hop of any family. Whether the address can be one is seen with the NLRI.
    code: AttributeCode.NextHop,
    name: "NEXT_HOP",
    flags: WellKnown,
    onError: "treat-as-withdraw",
    subcode: 8,
    check: (_octets, start, end) => checkLength(end - start, 4),
    parse(octets, start, end, into) {
      into.nextHop = octets.slice(start, end);
    },
    build: ({ nextHop }) => (nextHop.length === 0 ? undefined : nextHop),
    format(attributes, view) {
      view.nextHop = formatNextHop(attributes.nextHop);
    },
    facts(_octets, start, end, into) {
      into.nextHopOffset = start;
      into.nextHopLength = end - start;
    },
  },
  {
    code: AttributeCode.Med,
    name: "MULTI_EXIT_DISC",
    flags: OptionalNonTransitive,
    onError: "treat-as-withdraw",
    subcode: 5,
    check: (_octets, start, end) => checkLength(end - start, 4),
    parse(octets, start, _end, into) {
      into.med = readUint32(octets, start);
    },
    build: ({ med }) => (med === undefined ? undefined : buildUint32s([med])),
    format(attributes, view) {
      if (attributes.med !== undefined) view.med = attributes.med;
    },
    facts(octets, start, _end, into) {
      into.med = readUint32(octets, start);
    },
    number: { field: "med", title: "MED", absent: 0 },
    words: { place: 4, of: ({ med }) => (med === undefined ? "" : `MED ${med}`) },
  },
  {
    code: AttributeCode.LocalPref,
    name: "LOCAL_PREF",
    flags: WellKnown,
    onError: "treat-as-withdraw",
    subcode: 5,
    internalOnly: true,
    check: (_octets, start, end) => checkLength(end - start, 4),
    parse(octets, start, _end, into) {
      into.localPref = readUint32(octets, start);
    },
    build: ({ localPref }) => (localPref === undefined ? undefined : buildUint32s([localPref])),
    format(attributes, view) {
      if (attributes.localPref !== undefined) view.localPref = attributes.localPref;
    },
    facts(octets, start, _end, into) {
      into.localPref = readUint32(octets, start);
    },
    number: { field: "localPref", title: "local preference", absent: DEFAULT_LOCAL_PREF },
    words: { place: 1, of: ({ localPref }) => (localPref === undefined ? "" : `local-pref ${localPref}`) },
  },
  {
    code: AttributeCode.AtomicAggregate,
    name: "ATOMIC_AGGREGATE",
    flags: WellKnown,
    onError: "attribute-discard",
    subcode: 5,
    check: (_octets, start, end) => checkLength(end - start, 0),
    parse(_octets, _start, _end, into) {
      into.atomicAggregate = true;
    },
    build: ({ atomicAggregate }) => (atomicAggregate ? [] : undefined),
    format(attributes, view) {
      if (attributes.atomicAggregate) view.atomicAggregate = true;
    },
    words: { place: 11, of: ({ atomicAggregate }) => (atomicAggregate ? "atomic aggregate" : "") },
  },
  {
    code: AttributeCode.Aggregator,
    name: "AGGREGATOR",
    flags: OptionalTransitive,
    onError: "attribute-discard",
    subcode: 9,
    check: (octets, start, end, context) => checkAggregator(octets, start, end, context.asnWidth),
    parse(octets, start, _end, into) {
      into.aggregator = { asn: readUint32(octets, start), address: octets.slice(start + 4, start + 8) };
    },
    build: ({ aggregator }) => (aggregator === undefined ? undefined : [...buildUint32s([aggregator.asn]), ...aggregator.address]),
    format(attributes, view) {
      if (attributes.aggregator) view.aggregator = `${attributes.aggregator.asn} ${formatAddress(attributes.aggregator.address)}`;
    },
    words: { place: 10, of: ({ aggregator }) => (aggregator ? `aggregator ${aggregator}` : "") },
  },
  {
    // RFC 1997.
    code: AttributeCode.Communities,
    name: "COMMUNITIES",
    flags: OptionalTransitive,
    onError: "treat-as-withdraw",
    subcode: 9,
    elementWidth: 4,
    check: (_octets, start, end) => checkMultiple(end - start, 4),
    parse(octets, start, end, into) {
      into.communities = parseUint32s(octets, start, end);
    },
    build: ({ communities }) => (communities?.length ? buildUint32s(communities) : undefined),
    format(attributes, view) {
      if (attributes.communities) view.communities = attributes.communities.map(formatCommunity);
    },
    facts(octets, start, end, into) {
      into.wellKnownCommunities = readCommunityFlags(octets, start, end);
    },
    set: standard,
    words: { place: 5, of: ({ communities }) => listed("communities", communities) },
  },
  {
    // RFC 4456 section 8.
    code: AttributeCode.OriginatorId,
    name: "ORIGINATOR_ID",
    flags: OptionalNonTransitive,
    onError: "treat-as-withdraw",
    subcode: 9,
    internalOnly: true,
    check: (_octets, start, end) => checkLength(end - start, 4),
    parse(octets, start, _end, into) {
      into.originatorId = readUint32(octets, start);
    },
    build: ({ originatorId }) => (originatorId === undefined ? undefined : buildUint32s([originatorId])),
    format(attributes, view) {
      if (attributes.originatorId !== undefined) view.originatorId = formatId(attributes.originatorId);
    },
    facts(octets, start, _end, into) {
      into.hasOriginator = true;
      into.originatorId = readUint32(octets, start);
    },
    words: { place: 8, of: ({ originatorId }) => (originatorId ? `originator ${originatorId}` : "") },
  },
  {
    // RFC 4456 section 8.
    code: AttributeCode.ClusterList,
    name: "CLUSTER_LIST",
    flags: OptionalNonTransitive,
    onError: "treat-as-withdraw",
    subcode: 9,
    internalOnly: true,
    check: (_octets, start, end) => checkMultiple(end - start, 4),
    parse(octets, start, end, into) {
      into.clusterList = parseUint32s(octets, start, end);
    },
    build: ({ clusterList }) => (clusterList?.length ? buildUint32s(clusterList) : undefined),
    format(attributes, view) {
      if (attributes.clusterList) view.clusterList = attributes.clusterList.map(formatId);
    },
    facts(_octets, start, end, into) {
      into.clusterListLength = (end - start) >> 2;
    },
    words: { place: 9, of: ({ clusterList }) => listed("cluster list", clusterList) },
  },
  {
    // RFC 4760 section 3. Its value is taken apart by the decoder: what is wrong there ends the session (RFC 7606 section 7.11).
    code: AttributeCode.MpReach,
    name: "MP_REACH_NLRI",
    flags: OptionalNonTransitive,
    onError: "treat-as-withdraw",
    subcode: 9,
    check: () => undefined,
  },
  {
    // RFC 4760 section 4; likewise.
    code: AttributeCode.MpUnreach,
    name: "MP_UNREACH_NLRI",
    flags: OptionalNonTransitive,
    onError: "treat-as-withdraw",
    subcode: 9,
    check: () => undefined,
  },
  {
    // RFC 4360.
    code: AttributeCode.ExtendedCommunities,
    name: "EXTENDED_COMMUNITIES",
    flags: OptionalTransitive,
    onError: "treat-as-withdraw",
    subcode: 9,
    elementWidth: 8,
    check: (_octets, start, end) => checkMultiple(end - start, 8),
    parse(octets, start, end, into) {
      into.extendedCommunities = [];
      for (let at = start; at < end; at += 8) into.extendedCommunities.push(octets.slice(at, at + 8));
    },
    build: ({ extendedCommunities }) => (extendedCommunities?.length ? extendedCommunities.flatMap(octets => [...octets]) : undefined),
    format(attributes, view) {
      if (attributes.extendedCommunities) view.extendedCommunities = attributes.extendedCommunities.map(formatExtendedCommunity);
    },
    // RFC 4360 section 6.
    leaves: (octets, at) => (octets[at] & NON_TRANSITIVE) === 0,
    words: { place: 7, of: ({ extendedCommunities }) => listed("extended", extendedCommunities) },
  },
  {
    // RFC 6793 section 6.
    code: AttributeCode.As4Path,
    name: "AS4_PATH",
    flags: OptionalTransitive,
    onError: "attribute-discard",
    subcode: 9,
    check: (octets, start, end) => checkAsPath(octets, start, end, 4, true, false),
  },
  {
    // RFC 6793 section 6.
    code: AttributeCode.As4Aggregator,
    name: "AS4_AGGREGATOR",
    flags: OptionalTransitive,
    onError: "attribute-discard",
    subcode: 9,
    check: (octets, start, end) => checkAggregator(octets, start, end, 4),
  },
  {
    // RFC 8092.
    code: AttributeCode.LargeCommunities,
    name: "LARGE_COMMUNITY",
    flags: OptionalTransitive,
    onError: "treat-as-withdraw",
    subcode: 9,
    elementWidth: 12,
    check: (_octets, start, end) => checkMultiple(end - start, 12),
    parse(octets, start, end, into) {
      const fields = parseUint32s(octets, start, end);
      into.largeCommunities = [];
      for (let i = 0; i < fields.length; i += 3) into.largeCommunities.push([fields[i], fields[i + 1], fields[i + 2]]);
    },
    build: ({ largeCommunities }) => (largeCommunities?.length ? buildUint32s(largeCommunities.flat()) : undefined),
    format(attributes, view) {
      if (attributes.largeCommunities) view.largeCommunities = attributes.largeCommunities.map(formatLargeCommunity);
    },
    set: large,
    words: { place: 6, of: ({ largeCommunities }) => listed("large", largeCommunities) },
  },
];

/** By code; undefined for an attribute this speaker does not know. */
export const AttributeTable: readonly (AttributeRow | undefined)[] = Array.from({ length: 256 }, (_, code) =>
  rows.find(row => row.code === code),
);

/** Ascending by code. */
export const AttributeRows: readonly AttributeRow[] = rows;

/** Those that rules match by bounds and set, and those that are sets of communities. */
export const NumberKinds: readonly NumberKind[] = rows.flatMap(({ number }) => number ?? []);
export const CommunityKinds = rows.flatMap(({ set }) => set ?? []) as readonly CommunityKind<unknown>[];

export function attributeName(code: number): string {
  return AttributeTable[code]?.name ?? `attribute ${code}`;
}

function checkLength(length: number, wanted: number): string | undefined {
  return length === wanted ? undefined : `${length} octets instead of ${wanted}`;
}

function checkMultiple(length: number, width: number): string | undefined {
  return length > 0 && length % width === 0 ? undefined : `${length} octets: not a multiple of ${width} above 0`;
}

function checkAggregator(octets: Uint8Array, start: number, end: number, asnWidth: number): string | undefined {
  const wrong = checkLength(end - start, asnWidth + 4);
  if (wrong !== undefined) return wrong;
  const asn = asnWidth === 4 ? readUint32(octets, start) : readUint16(octets, start);
  return asn === 0 ? "AS number 0 (RFC 7607)" : undefined;
}

function listed(name: string, values: readonly string[] | undefined): string {
  return values && values.length > 0 ? `${name} ${values.join(" ")}` : "";
}

function parseAsPath(octets: Uint8Array, start: number, end: number): AsPathSegment[] {
  const path: AsPathSegment[] = [];
  for (let at = start; at < end; ) {
    const next = at + 2 + octets[at + 1] * 4;
    path.push({ type: octets[at] as SegmentType, asns: parseUint32s(octets, at + 2, Math.min(next, end)) });
    at = next;
  }
  return path;
}

/** A segment of more than 255 AS numbers becomes several, an empty one none. */
function buildAsPath(path: readonly AsPathSegment[]): number[] {
  const octets: number[] = [];
  for (const { type, asns } of path) {
    for (let i = 0; i < asns.length; i += MAX_SEGMENT) {
      const part = asns.slice(i, i + MAX_SEGMENT);
      octets.push(type, part.length, ...buildUint32s(part));
    }
  }
  return octets;
}

function parseUint32s(octets: Uint8Array, start: number, end: number): number[] {
  const values: number[] = [];
  for (let at = start; at + 4 <= end; at += 4) values.push(readUint32(octets, at));
  return values;
}

function buildUint32s(values: readonly number[]): Uint8Array {
  const octets = new Uint8Array(values.length * 4);
  for (let i = 0; i < values.length; i++) writeUint32(octets, i * 4, values[i]);
  return octets;
}

function formatNextHop(nextHop: Uint8Array): string {
  if (nextHop.length === 32) return `${formatAddress(nextHop.subarray(0, 16))} ${formatAddress(nextHop.subarray(16))}`;
  return nextHop.length === 0 ? "" : formatAddress(nextHop);
}
