/** Attributes that are sorted sets of values which people write: communities (RFC 1997) and large communities (RFC 8092), handled as one. */
import { formatCommunity, formatLargeCommunity, parseCommunity, parseLargeCommunity } from "./text.ts";
import type { PathAttributes } from "./types.ts";

export type LargeCommunity = [number, number, number];

export type CommunityField = "communities" | "largeCommunities";

/** What differs between the kinds. */
export interface CommunityKind<T> {
  /** Its key in parsed attribute sets, and in rules. */
  attribute: CommunityField;
  /** For texts. */
  title: string;
  /** How to write one, where one was written wrongly. */
  remedy: string;
  values(attributes: PathAttributes): readonly T[];
  /** Reads a value. Throws an Error that names the text. */
  parse(text: string): T;
  format(value: T): string;
  compare(a: T, b: T): number;
  /** Reads a pattern: a value, or one with "*" in place of fields. Throws an Error that names the text. */
  pattern(text: string): (value: T) => boolean;
}

export const standard: CommunityKind<number> = {
  attribute: "communities",
  title: "community",
  remedy: 'write it as "65001:100" or by its name, such as no-export; "*" stands for a field where patterns are allowed',
  values: attributes => attributes.communities ?? [],
  parse: text => parsed(text, parseCommunity(text), "65001:100 or a name such as no-export"),
  format: formatCommunity,
  compare: (a, b) => a - b,
  pattern(text) {
    if (!text.includes("*")) {
      const wanted = standard.parse(text);
      return value => value === wanted;
    }
    const [high, low] = wildcardFields(text, 2, 0xffff);
    return value => (high === undefined || value >>> 16 === high) && (low === undefined || (value & 0xffff) === low);
  },
};

export const large: CommunityKind<LargeCommunity> = {
  attribute: "largeCommunities",
  title: "large community",
  remedy: 'write it as "65001:1:2"; "*" stands for a field where patterns are allowed',
  values: attributes => attributes.largeCommunities ?? [],
  parse: text => parsed(text, parseLargeCommunity(text), "65001:1:2"),
  format: formatLargeCommunity,
  compare: (a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2],
  pattern(text) {
    if (!text.includes("*")) large.parse(text);
    const fields = wildcardFields(text, 3, 0xffffffff);
    return value => fields.every((field, i) => field === undefined || value[i] === field);
  },
};

function parsed<T>(text: string, value: T | undefined, example: string): T {
  if (value === undefined) throw new Error(`"${text}" is not written like ${example}`);
  return value;
}

/** undefined stands for "*". */
function wildcardFields(text: string, count: number, max: number): (number | undefined)[] {
  const fields = text.split(":");
  const valid = fields.length === count && fields.every(field => field === "*" || (/^\d{1,10}$/.test(field) && Number(field) <= max));
  if (!valid) throw new Error(`"${text}" is no pattern of ${count} fields, each a number up to ${max} or "*"`);
  return fields.map(field => (field === "*" ? undefined : Number(field)));
}
