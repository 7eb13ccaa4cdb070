/**
 * What every speaker must change in an attribute set when it passes a route on (RFC 4271 section 5.1, RFC 4456 section 8), done on the
 * canonical octets: a table of 150,000 sets is rewritten without building an object per set. Pure.
 */
import { AttributeCode, AttributeTable } from "../message/attribute-table.ts";
import { MAX_VALUE, OversizeError } from "../message/attributes.ts";
import { CANONICAL_HEADER, canonicalEnd } from "../message/canonical.ts";
import { readUint32, uint32Octets, writeUint32 } from "../message/octets.ts";

/** Everything absent is left as it is. */
export interface Rewrite {
  /** Put this AS in front of AS_PATH (RFC 4271 section 5.1.2 b). */
  prepend?: number;
  /** Replace the next hop. */
  nextHop?: Uint8Array;
  /** MULTI_EXIT_DISC is not passed on to another AS (5.1.4). */
  dropMed: boolean;
  /** LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST stay inside the AS (5.1.5, RFC 4456). */
  external: boolean;
  /** Internal neighbours always get a LOCAL_PREF: this one where the set has none. */
  localPref: number;
  /** RFC 4456 section 8: set where absent, and put our CLUSTER_ID in front of CLUSTER_LIST. */
  reflect?: { originatorId: number; clusterId: number };
  /** Take private AS numbers (RFC 6996) out of AS_PATH before prepending. */
  removePrivateAsn: boolean;
}

const Code = AttributeCode;
/** Order in which attributes we may have to insert come. */
const WELL_KNOWN = 0x40;
const OPTIONAL = 0x80;
const AS_SEQUENCE = 2;

/** What a rewrite adds at most: a next hop, LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST, a segment of AS_PATH. */
const ADDED = 128;
/** Scratch for results: valid until the next call. Grows with the largest set: a policy may have added to one of a full message. */
let scratch = new Uint8Array(2 * 65536 + ADDED);

/** Writes the rewritten set into a shared buffer and returns the view of it, valid until the next call. Throws OversizeError. */
export function rewriteAttributes(octets: Uint8Array, start: number, end: number, rewrite: Rewrite): Uint8Array {
  if (end - start + ADDED > scratch.length) scratch = new Uint8Array(2 * (end - start) + ADDED);
  let out = 0;
  let at = start;
  // Attributes come in ascending order; `pending` walks through the ones to be inserted.
  const inserts = insertions(octets, start, end, rewrite);
  let insert = 0;
  while (at < end) {
    const code = octets[at + 1];
    const next = canonicalEnd(octets, at);
    while (insert < inserts.length && inserts[insert].code < code) out = writeAttribute(out, inserts[insert++]);
    if (code === Code.AsPath) out = writeAsPath(out, octets, at + CANONICAL_HEADER, next, rewrite);
    else if (code === Code.NextHop && rewrite.nextHop) out = writeAttribute(out, { flags: WELL_KNOWN, code, value: rewrite.nextHop });
    else if (code === Code.ClusterList && rewrite.reflect)
      out = writeClusterList(out, octets, at + CANONICAL_HEADER, next, rewrite.reflect.clusterId);
    else if (code !== Code.Med || !rewrite.dropMed) {
      const row = rewrite.external ? AttributeTable[code] : undefined;
      if (row?.leaves) out = writeLeaving(out, octets, at, next, row.elementWidth ?? 1, row.leaves);
      else if (!row?.internalOnly) out = copy(out, octets, at, next);
    }
    at = next;
  }
  while (insert < inserts.length) out = writeAttribute(out, inserts[insert++]);
  return scratch.subarray(0, out);
}

interface Insertion {
  flags: number;
  code: number;
  value: Uint8Array;
}

const none: Insertion[] = [];

function insertions(octets: Uint8Array, start: number, end: number, rewrite: Rewrite): Insertion[] {
  if (rewrite.external && !rewrite.nextHop) return none;
  let present = 0;
  for (let at = start; at < end; at = canonicalEnd(octets, at)) {
    if (octets[at + 1] < 32) present |= 1 << octets[at + 1];
  }
  const has = (code: number) => (present & (1 << code)) !== 0;
  const inserts: Insertion[] = [];
  if (rewrite.nextHop && !has(Code.NextHop)) inserts.push({ flags: WELL_KNOWN, code: Code.NextHop, value: rewrite.nextHop });
  if (!rewrite.external && !has(Code.LocalPref)) {
    inserts.push({ flags: WELL_KNOWN, code: Code.LocalPref, value: uint32Octets(rewrite.localPref) });
  }
  if (rewrite.reflect) {
    if (!has(Code.OriginatorId))
      inserts.push({ flags: OPTIONAL, code: Code.OriginatorId, value: uint32Octets(rewrite.reflect.originatorId) });
    if (!has(Code.ClusterList)) inserts.push({ flags: OPTIONAL, code: Code.ClusterList, value: uint32Octets(rewrite.reflect.clusterId) });
  }
  return inserts;
}

function writeAttribute(out: number, { flags, code, value }: Insertion): number {
  scratch[out] = flags;
  scratch[out + 1] = code;
  scratch[out + 2] = value.length >> 8;
  scratch[out + 3] = value.length & 255;
  scratch.set(value, out + CANONICAL_HEADER);
  return out + CANONICAL_HEADER + value.length;
}

function copy(out: number, octets: Uint8Array, from: number, to: number): number {
  for (let at = from; at < to; at++) scratch[out++] = octets[at];
  return out;
}

function writeClusterList(out: number, octets: Uint8Array, from: number, to: number, clusterId: number): number {
  scratch[out] = OPTIONAL;
  scratch[out + 1] = Code.ClusterList;
  writeLength(out, to - from + 4);
  writeUint32(scratch, out + CANONICAL_HEADER, clusterId);
  return copy(out + CANONICAL_HEADER + 4, octets, from, to);
}

/** A set without the elements that end at the border of the AS; nothing where none is left. */
function writeLeaving(
  out: number,
  octets: Uint8Array,
  from: number,
  to: number,
  width: number,
  leaves: (octets: Uint8Array, at: number) => boolean,
): number {
  let end = copy(out, octets, from, from + CANONICAL_HEADER);
  for (let at = from + CANONICAL_HEADER; at < to; at += width) if (leaves(octets, at)) end = copy(end, octets, at, at + width);
  if (end === out + CANONICAL_HEADER) return out;
  writeLength(out, end - out - CANONICAL_HEADER);
  return end;
}

function writeAsPath(out: number, octets: Uint8Array, from: number, to: number, rewrite: Rewrite): number {
  scratch[out] = WELL_KNOWN;
  scratch[out + 1] = Code.AsPath;
  let body = out + CANONICAL_HEADER;
  if (rewrite.prepend === undefined) {
    body = copyPath(body, octets, from, to, rewrite);
  } else {
    // Room for a segment header and our AS; joined with the first segment below where that is a sequence with room left.
    const first = body + 6;
    const last = copyPath(first, octets, from, to, rewrite);
    if (last > first && scratch[first] === AS_SEQUENCE && scratch[first + 1] < 255) {
      const count = scratch[first + 1] + 1;
      scratch.copyWithin(body + 6, first + 2, last);
      scratch[body] = AS_SEQUENCE;
      scratch[body + 1] = count;
      writeUint32(scratch, body + 2, rewrite.prepend);
      body = last - 2;
    } else {
      scratch[body] = AS_SEQUENCE;
      scratch[body + 1] = 1;
      writeUint32(scratch, body + 2, rewrite.prepend);
      body = last;
    }
  }
  writeLength(out, body - out - CANONICAL_HEADER);
  return body;
}

/**
 * Copies AS_PATH segments: towards an external neighbour without those of a confederation (RFC 5065 section 5), and without private AS
 * numbers where that is wanted; a segment left empty goes.
 */
function copyPath(out: number, octets: Uint8Array, from: number, to: number, { external, removePrivateAsn }: Rewrite): number {
  for (let at = from; at < to; ) {
    const next = at + 2 + octets[at + 1] * 4;
    if (!external || octets[at] <= AS_SEQUENCE) out = removePrivateAsn ? copyPublic(out, octets, at) : copy(out, octets, at, next);
    at = next;
  }
  return out;
}

/** Copies the segment at `at` without private AS numbers. */
function copyPublic(out: number, octets: Uint8Array, at: number): number {
  const end = at + 2 + octets[at + 1] * 4;
  let asnEnd = out + 2;
  for (let asn = at + 2; asn < end; asn += 4) {
    const value = readUint32(octets, asn);
    if (isPrivateAsn(value)) continue;
    writeUint32(scratch, asnEnd, value);
    asnEnd += 4;
  }
  if (asnEnd === out + 2) return out;
  scratch[out] = octets[at];
  scratch[out + 1] = (asnEnd - out - 2) >> 2;
  return asnEnd;
}

/** RFC 6996 section 5. */
function isPrivateAsn(asn: number): boolean {
  return (asn >= 64512 && asn <= 65534) || (asn >= 4200000000 && asn <= 4294967294);
}

/** Of the attribute that begins at `at`. */
function writeLength(at: number, length: number): void {
  if (length > MAX_VALUE) throw new OversizeError(scratch[at + 1], length);
  scratch[at + 2] = length >> 8;
  scratch[at + 3] = length & 255;
}
