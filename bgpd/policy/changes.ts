/**
 * PolicyAction compiled: a list of changes, each attributes -> attributes, copying on write. A change that has no effect returns the object
 * it was given, so that "nothing changed" is one comparison for the RIB.
 */
import { formatAddress, parseAddress, sameOctets } from "../../net/address.ts";
import type { PolicyAction } from "../config.ts";
import type { Family } from "../family.ts";
import { CommunityKinds, type NumberKind, NumberKinds } from "../message/attribute-table.ts";
import type { CommunityKind } from "../message/communities.ts";
import { formatAsPath } from "../message/format.ts";
import type { PathAttributes } from "../message/types.ts";
import { firstAsn, prepend } from "./as-path.ts";
import { changeCommunities } from "./communities.ts";
import { ipOf, list, nextHopFits, originNames, originOfName } from "./conditions.ts";
import type { PolicyInput } from "./types.ts";

export interface Change {
  apply(input: PolicyInput, attributes: PathAttributes): PathAttributes;
  /** What apply() did, for a trace. */
  describe(before: PathAttributes, after: PathAttributes): string;
  /** It depends on PolicyInput.self. */
  usesSelf?: boolean;
  /** It depends on the family of the prefix. */
  usesFamily?: boolean;
}

/** Throws what the parsers of the fields throw. */
export function compileChanges(action: PolicyAction, family: Family | undefined): Change[] {
  const { set } = action;
  const changes = [
    action.removeMed && setField("med", "MED", undefined),
    ...NumberKinds.map(({ field, title }) => set?.[field] !== undefined && setField(field, title, set[field])),
    set?.origin !== undefined && setOrigin(set.origin),
    set?.nextHop !== undefined && setNextHop(set.nextHop, family),
    ...CommunityKinds.map(kind => action[kind.attribute] && setCommunities(kind, action[kind.attribute]!)),
    action.prepend && prependPath(action.prepend),
  ];
  return changes.filter(change => typeof change === "object");
}

function setField(field: NumberKind["field"], title: string, value: number | undefined): Change {
  return {
    apply(_, attributes) {
      if (attributes[field] === value) return attributes;
      const { [field]: _old, ...rest } = attributes;
      return value === undefined ? rest : { ...rest, [field]: value };
    },
    describe: (before, after) => changed(title, before[field] ?? "absent", after[field] ?? "absent"),
  };
}

function setOrigin(name: NonNullable<PolicyAction["set"]>["origin"] & string): Change {
  const origin = originOfName[name];
  return {
    apply: (_, attributes) => (attributes.origin === origin ? attributes : { ...attributes, origin }),
    describe: (before, after) => changed("origin", originNames[before.origin], originNames[after.origin]),
  };
}

function setNextHop(text: string, family: Family | undefined): Change {
  const fixed = text === "self" ? undefined : parseAddress(text);
  return {
    usesSelf: fixed === undefined,
    usesFamily: fixed?.length !== 16 && family === undefined,
    apply(input, attributes) {
      const nextHop = fixed ?? input.self.address;
      const prefixFamily = family === undefined ? input.prefix.family : ipOf(family);
      if (sameOctets(nextHop, attributes.nextHop) || !nextHopFits(nextHop, prefixFamily)) return attributes;
      return { ...attributes, nextHop };
    },
    describe(before, after) {
      if (before !== after) return changed("next hop", formatNextHop(before.nextHop), formatNextHop(after.nextHop));
      if (fixed && sameOctets(fixed, before.nextHop)) return `next hop is ${text} already`;
      return `next hop not set to ${text}: it is that already, or an IPv6 route cannot have an IPv4 next hop`;
    },
  };
}

function setCommunities<T>(kind: CommunityKind<T>, action: NonNullable<PolicyAction["communities"]>): Change {
  const change = {
    set: action.set?.map(text => kind.parse(text)),
    remove: (action.remove ?? []).map(text => kind.pattern(text)),
    add: (action.add ?? []).map(text => kind.parse(text)),
  };
  return {
    apply(_, attributes) {
      const before = kind.values(attributes);
      const after = changeCommunities(kind, before, change);
      if (after === before) return attributes;
      const { [kind.attribute]: _old, ...rest } = attributes;
      return after.length === 0 ? rest : { ...rest, [kind.attribute]: after };
    },
    describe: (before, after) =>
      changed(`${kind.title} list`, list(kind.values(before).map(kind.format)), list(kind.values(after).map(kind.format))),
  };
}

function prependPath({ asn, count }: NonNullable<PolicyAction["prepend"]>): Change {
  return {
    usesSelf: asn === "self",
    apply(input, attributes) {
      const number = asn === "self" ? input.self.asn : asn === "last" ? firstAsn(attributes.asPath) : asn;
      if (number === undefined) return attributes;
      return { ...attributes, asPath: prepend(attributes.asPath, number, count) };
    },
    describe(before, after) {
      const was = `"${formatAsPath(before.asPath)}"`;
      if (before === after) return `AS path ${was} not prepended: it has no neighbouring AS`;
      return changed("AS path", was, `"${formatAsPath(after.asPath)}"`);
    },
  };
}

function changed(title: string, before: string | number, after: string | number): string {
  return before === after ? `${title} is ${before} already` : `${title} ${before} -> ${after}`;
}

function formatNextHop(nextHop: Uint8Array): string {
  if (nextHop.length === 0) return "unset";
  return nextHop.length === 32 ? formatAddress(nextHop.subarray(0, 16)) : formatAddress(nextHop);
}
