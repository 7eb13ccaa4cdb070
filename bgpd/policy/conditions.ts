/** PolicyMatch compiled: one condition for each field given, asked in order from cheap to dear. */
import { contains, familyOf, formatAddress, formatPrefix, type IpFamily, parsePrefix } from "../../net/address.ts";
import type { OriginName, PolicyMatch } from "../config.ts";
import { type Family, FamilyTable, familyIndex } from "../family.ts";
import { CommunityKinds, NumberKinds } from "../message/attribute-table.ts";
import type { CommunityKind } from "../message/communities.ts";
import { formatAsPath } from "../message/format.ts";
import { Origin, type PathAttributes } from "../message/types.ts";
import { containsAny, firstAsn, lastAsn, pathLength } from "./as-path.ts";
import { compileAsPathRegex } from "./as-path-regex.ts";
import { compilePrefixList, formatPrefixRange } from "./prefix-list.ts";
import type { PolicyInput } from "./types.ts";

export interface Condition {
  /** `attributes` are those of the input with the changes of earlier rules. */
  holds(input: PolicyInput, attributes: PathAttributes): boolean;
  /** Why it does not hold, with the route's value: for a trace. */
  explain(input: PolicyInput, attributes: PathAttributes): string;
  /** What it looks at beyond the attributes. */
  uses?: "prefix" | "kind" | "neighbor" | "sources";
  /** The rule names this prefix (PolicyResult.namedPrefix). */
  names?(input: PolicyInput): boolean;
}

export const ipOf = (family: Family): IpFamily => FamilyTable[familyIndex(family)].ip;
export const originOfName: Record<OriginName, Origin> = { igp: Origin.Igp, egp: Origin.Egp, incomplete: Origin.Incomplete };
export const originNames: readonly OriginName[] = ["igp", "egp", "incomplete"];

/** `family`: the only family of the routes that will be asked about, where known. Throws what the parsers of the fields throw. */
export function compileMatch(match: PolicyMatch, family: Family | undefined): Condition[] {
  const conditions = [
    match.families && families(match.families, family),
    match.kinds && oneOf("kind", "kind", match.kinds, input => input.kind),
    match.sources && sources(match.sources),
    match.neighbors && oneOf("neighbor", "neighbour", match.neighbors, input => input.neighbor),
    match.origins && origins(match.origins),
    ...NumberKinds.map(
      kind => match[kind.field] && range(kind.title, match[kind.field]!, attributes => attributes[kind.field], kind.absent),
    ),
    match.prefixes && prefixes(match.prefixes),
    match.nextHops && nextHops(match.nextHops),
    ...CommunityKinds.flatMap(kind => communities(kind, match[kind.attribute])),
    ...asPath(match.asPath),
  ];
  return conditions.filter(condition => condition !== undefined);
}

function families(wanted: readonly Family[], known: Family | undefined): Condition {
  const numbers = wanted.map(ipOf);
  const explain = (input: PolicyInput) => `the route is IPv${input.prefix.family}, not ${list(wanted)}`;
  if (known === undefined) return { uses: "prefix", holds: input => numbers.includes(input.prefix.family), explain };
  const holds = wanted.includes(known);
  return { holds: () => holds, explain };
}

function oneOf(uses: "kind" | "neighbor", title: string, wanted: readonly string[], value: (input: PolicyInput) => string): Condition {
  const names = new Set(wanted);
  return {
    uses,
    holds: input => names.has(value(input)),
    explain: input => `${title} ${value(input)} is not ${list(wanted)}`,
  };
}

function sources(wanted: readonly string[]): Condition {
  return {
    uses: "sources",
    holds: ({ sources: of = [] }) => wanted.every(source => of.includes(source)),
    explain: ({ sources: of }) => (of ? `the route is announced by ${list(of)}, not by ${wanted.join(" and ")}` : "the route was learned"),
  };
}

function origins(wanted: readonly OriginName[]): Condition {
  const numbers = wanted.map(name => originOfName[name]);
  return {
    holds: (_, attributes) => numbers.includes(attributes.origin),
    explain: (_, attributes) => `origin ${originNames[attributes.origin]} is not ${list(wanted)}`,
  };
}

function range(
  title: string,
  bounds: { min?: number; max?: number },
  read: (attributes: PathAttributes) => number | undefined,
  absent: number,
): Condition {
  const { min = 0, max = Number.POSITIVE_INFINITY } = bounds;
  return {
    holds(_, attributes) {
      const value = read(attributes) ?? absent;
      return value >= min && value <= max;
    },
    explain(_, attributes) {
      const value = read(attributes);
      const text = value === undefined ? `absent (counts as ${absent})` : value;
      return `${title} ${text} is not in ${min}..${bounds.max ?? ""}`;
    },
  };
}

function prefixes(entries: NonNullable<PolicyMatch["prefixes"]>): Condition {
  const compiled = compilePrefixList(entries);
  return {
    uses: "prefix",
    holds: input => compiled.matches(input.prefix),
    explain: input => `prefix ${formatPrefix(input.prefix)} is not in ${list(entries.map(formatPrefixRange))}`,
    names: input => compiled.names(input.prefix),
  };
}

function nextHops(wanted: readonly string[]): Condition {
  const ranges = wanted.map(text => parsePrefix(text));
  return {
    holds(_, { nextHop }) {
      const address = globalNextHop(nextHop);
      return ranges.some(prefix => contains(prefix, address));
    },
    explain: (_, { nextHop }) =>
      nextHop.length === 0
        ? "the route has no next hop of its own"
        : `next hop ${formatAddress(globalNextHop(nextHop))} is not in ${list(wanted)}`,
  };
}

function globalNextHop(nextHop: Uint8Array): Uint8Array {
  return nextHop.length === 32 ? nextHop.subarray(0, 16) : nextHop;
}

function communities<T>(kind: CommunityKind<T>, match: PolicyMatch["communities"]): Condition[] {
  const conditions: Condition[] = [];
  const add = (
    patterns: readonly string[] | undefined,
    wording: string,
    test: (values: readonly T[], patterns: Pattern<T>[]) => boolean,
  ) => {
    if (patterns === undefined) return;
    const compiled = patterns.map(text => kind.pattern(text));
    conditions.push({
      holds: (_, attributes) => test(kind.values(attributes), compiled),
      explain: (_, attributes) => `${kind.title} list ${list(kind.values(attributes).map(kind.format))} has ${wording} ${list(patterns)}`,
    });
  };
  add(match?.any, "none of", (values, compiled) => compiled.some(pattern => values.some(pattern)));
  add(match?.all, "not all of", (values, compiled) => compiled.every(pattern => values.some(pattern)));
  add(match?.none, "one of", (values, compiled) => !compiled.some(pattern => values.some(pattern)));
  return conditions;
}

type Pattern<T> = (value: T) => boolean;

function asPath(match: PolicyMatch["asPath"]): Condition[] {
  if (match === undefined) return [];
  const conditions: Condition[] = [];
  const pathText = (attributes: PathAttributes) => `AS path "${formatAsPath(attributes.asPath)}"`;
  if (match.minLength !== undefined || match.maxLength !== undefined) {
    const { minLength: min, maxLength: max } = match;
    conditions.push(range("AS path length", { min, max }, attributes => pathLength(attributes.asPath), 0));
  }
  if (match.neighbor) conditions.push(asnCondition("neighbouring AS", match.neighbor, firstAsn));
  if (match.origin) conditions.push(asnCondition("originating AS", match.origin, lastAsn));
  if (match.contains) {
    const wanted = match.contains;
    const numbers = new Set(wanted);
    conditions.push({
      holds: (_, attributes) => containsAny(attributes.asPath, numbers),
      explain: (_, attributes) => `${pathText(attributes)} has none of ${list(wanted)}`,
    });
  }
  if (match.regex !== undefined) {
    const pattern = match.regex;
    const test = compileAsPathRegex(pattern);
    conditions.push({
      holds: (_, attributes) => test(formatAsPath(attributes.asPath)),
      explain: (_, attributes) => `${pathText(attributes)} does not match "${pattern}"`,
    });
  }
  return conditions;
}

function asnCondition(title: string, wanted: readonly number[], read: (path: PathAttributes["asPath"]) => number | undefined): Condition {
  const numbers = new Set<number | undefined>(wanted);
  numbers.delete(undefined);
  return {
    holds: (_, attributes) => numbers.has(read(attributes.asPath)),
    explain(_, attributes) {
      const asn = read(attributes.asPath);
      if (asn !== undefined) return `${title} ${asn} is not ${list(wanted)}`;
      return `AS path "${formatAsPath(attributes.asPath)}" has no ${title} (empty, or an AS_SET stands there)`;
    },
  };
}

/** At most a handful of values, so that a trace stays readable. */
export function list(values: readonly (string | number)[]): string {
  if (values.length === 0) return "(empty)";
  const shown = values.slice(0, 5).join(", ");
  return values.length > 5 ? `${shown} … (${values.length} in all)` : shown;
}

/** Whether an address may stand as next hop of a route: an IPv6 route needs an IPv6 one (RFC 2545), IPv4 takes both (RFC 8950). */
export function nextHopFits(nextHop: Uint8Array, prefixFamily: IpFamily): boolean {
  return prefixFamily === 4 || familyOf(nextHop) === 6;
}
