/**
 * Canonical octets of an attribute set: equal sets have equal octets, so the RIB interns them and parses none. They are the attributes
 * ascending by code, each `flags u8, code u8, length u16, value`. Flags: those of the attribute's row, without Extended Length, and with
 * Partial where an optional transitive one came with it; for an unknown transitive attribute Optional + Transitive + Partial (RFC 4271
 * section 5). AS numbers have 4 octets (RFC 6793); the next hop
 * of any family is attribute 3 with 4, 16 or 32 octets; community sets are ascending and unique. MP_REACH_NLRI, MP_UNREACH_NLRI,
 * AS4_PATH and AS4_AGGREGATOR do not occur.
 */
import { AttributeFlag, AttributeRows, AttributeTable, attributeName } from "./attribute-table.ts";
import { CANONICAL_HEADER, canonicalEnd } from "./canonical.ts";
import { copyOctets, copySorted } from "./octets.ts";
import type { PathAttributes } from "./types.ts";

export {
  asPathContains,
  asPathHasSet,
  CommunityFlag,
  clusterListContains,
  noFacts,
  readFacts,
} from "./facts.ts";

/** Flags of every unknown attribute that is passed on. */
export const UNKNOWN_FLAGS = AttributeFlag.Optional | AttributeFlag.Transitive | AttributeFlag.Partial;

/** Nothing in the result refers to `octets`. Throws RangeError for octets that are not canonical in their lengths. */
export function parseAttributes(octets: Uint8Array, start = 0, end = octets.length): PathAttributes {
  const attributes: PathAttributes = { origin: 2, asPath: [], nextHop: new Uint8Array() };
  for (let at = start; at < end; ) {
    const value = at + CANONICAL_HEADER;
    const next = canonicalEnd(octets, at);
    if (value > end || next > end) throw new RangeError(`canonical attributes end at ${end}, but the one at ${at} does not`);
    const code = octets[at + 1];
    const row = AttributeTable[code];
    if (row?.parse) {
      row.parse(octets, value, next, attributes);
      if ((octets[at] & AttributeFlag.Partial) !== 0) attributes.partial = [...(attributes.partial ?? []), code];
    } else {
      attributes.unknown ??= [];
      attributes.unknown.push({ flags: octets[at], code, value: octets.slice(value, next) });
    }
    at = next;
  }
  return attributes;
}

/** Octets of an attribute's value: its length has two octets (RFC 4271 section 4.3). */
export const MAX_VALUE = 0xffff;

/** What somebody added to an attribute made it longer than any message can say: the route cannot be used or passed on like this. */
export class OversizeError extends RangeError {
  override readonly name = "OversizeError";
  constructor(code: number, length: number) {
    super(`${attributeName(code)} would have ${length} octets, and an attribute has at most ${MAX_VALUE}`);
  }
}

/** Canonical octets, whatever the order of sets in the input. Throws OversizeError. */
export function buildAttributes(attributes: PathAttributes): Uint8Array {
  const parts: { flags: number; code: number; value: Uint8Array }[] = [];
  for (const row of AttributeRows) {
    const built = row.build?.(attributes);
    if (built === undefined) continue;
    const partial = attributes.partial?.includes(row.code) ? AttributeFlag.Partial : 0;
    parts.push({ flags: row.flags | partial, code: row.code, value: sorted(Uint8Array.from(built), row.elementWidth) });
  }
  for (const { code, value } of attributes.unknown ?? []) parts.push({ flags: UNKNOWN_FLAGS, code, value });
  parts.sort((a, b) => a.code - b.code);
  const octets = new Uint8Array(parts.reduce((length, { value }) => length + CANONICAL_HEADER + value.length, 0));
  let at = 0;
  for (const { flags, code, value } of parts) {
    if (value.length > MAX_VALUE) throw new OversizeError(code, value.length);
    octets.set([flags, code, value.length >>> 8, value.length & 0xff], at);
    at = copyOctets(value, 0, value.length, octets, at + CANONICAL_HEADER);
  }
  return octets;
}

function sorted(value: Uint8Array, elementWidth: number | undefined): Uint8Array {
  if (elementWidth === undefined) return value;
  const ordered = new Uint8Array(value.length);
  return ordered.subarray(0, copySorted(value, 0, value.length, elementWidth, ordered, 0));
}
