/** What is wrong with a policy, field by field, before anything is compiled: config shows these as problems of the object. */
import { parseAddress, parsePrefix } from "../../net/address.ts";
import { type PolicyAction, type PolicyConfig, type PolicyMatch, type PolicyRule, RouteKinds } from "../config.ts";
import { Families } from "../family.ts";
import { CommunityKinds, NumberKinds } from "../message/attribute-table.ts";
import type { CommunityKind } from "../message/communities.ts";
import { compileAsPathRegex } from "./as-path-regex.ts";
import { originNames } from "./conditions.ts";
import { parsePrefixRange } from "./prefix-list.ts";

export interface PolicyProblem {
  /** Index into PolicyConfig.rules, from 0. */
  rule: number;
  /** Path inside the rule, such as "match.prefixes[0]". */
  field: string;
  message: string;
  remedy: string;
}

/** Prepending more often is never of use and costs every router memory. */
const MAX_PREPEND = 32;

/** All problems, in the order of the rules; empty = compilePolicies() takes it. */
export function validatePolicy(policy: PolicyConfig): PolicyProblem[] {
  return policy.rules.flatMap((rule, index) => new RuleCheck(index).run(rule));
}

class RuleCheck {
  readonly #rule: number;
  readonly #problems: PolicyProblem[] = [];

  constructor(rule: number) {
    this.#rule = rule;
  }

  run(rule: PolicyRule): PolicyProblem[] {
    if (rule.match) this.#match(rule.match);
    this.#action(rule.action);
    return this.#problems;
  }

  #match(match: PolicyMatch): void {
    this.#each("match.prefixes", match.prefixes, parsePrefixRange, "write the network address, and le 24 or ge 25 within its family");
    this.#each("match.nextHops", match.nextHops, text => parsePrefix(text), "write ADDRESS/LENGTH, such as 192.0.2.1/32");
    this.#names("match.families", match.families, Families);
    this.#names("match.origins", match.origins, originNames);
    this.#names("match.kinds", match.kinds, RouteKinds);
    this.#notEmpty("match.neighbors", match.neighbors);
    this.#notEmpty("match.sources", match.sources);
    for (const kind of CommunityKinds) this.#communityMatch(kind, match[kind.attribute]);
    for (const { field } of NumberKinds) this.#range(`match.${field}`, match[field]?.min, match[field]?.max);
    this.#asPath(match.asPath);
  }

  #asPath(match: PolicyMatch["asPath"]): void {
    if (match === undefined) return;
    for (const field of ["contains", "neighbor", "origin"] as const) {
      this.#each(`match.asPath.${field}`, match[field], checkAsn, asnRemedy);
    }
    this.#range("match.asPath length", match.minLength, match.maxLength);
    const { regex } = match;
    if (regex !== undefined) {
      this.#try(
        "match.asPath.regex",
        () => compileAsPathRegex(regex),
        "write the numbers as the path shows them, such as _65001_ or ^65001( 65002)*$",
      );
    }
  }

  #communityMatch<T>(kind: CommunityKind<T>, match: PolicyMatch["communities"]): void {
    for (const field of ["any", "all", "none"] as const) {
      this.#each(`match.${kind.attribute}.${field}`, match?.[field], text => kind.pattern(text), kind.remedy);
    }
  }

  #action(action: PolicyAction): void {
    this.#names("action.result", [action.result], ["accept", "reject", "continue"]);
    const { set, prepend } = action;
    for (const { field } of NumberKinds) {
      const value = set?.[field];
      if (value !== undefined) this.#number(`action.set.${field}`, value, 0, MAX_UINT32);
    }
    if (set?.med !== undefined && action.removeMed) this.#add("action.removeMed", "the MED is both set and removed", "keep one of the two");
    if (set?.origin !== undefined) this.#names("action.set.origin", [set.origin], originNames);
    const nextHop = set?.nextHop;
    if (nextHop !== undefined && nextHop !== "self") {
      this.#try("action.set.nextHop", () => checkNextHop(nextHop), 'write an address of a router, or "self"');
    }
    for (const kind of CommunityKinds) this.#communityAction(kind, action[kind.attribute]);
    if (prepend) {
      this.#number("action.prepend.count", prepend.count, 1, MAX_PREPEND);
      const { asn } = prepend;
      if (asn !== "self" && asn !== "last") this.#try("action.prepend.asn", () => checkAsn(asn), `${asnRemedy}, "self" or "last"`);
    }
  }

  #communityAction<T>(kind: CommunityKind<T>, action: PolicyAction["communities"]): void {
    const check = (field: "set" | "add" | "remove", read: (text: string) => unknown) => {
      // An empty `set` is no mistake: it clears the list.
      for (const [i, text] of (action?.[field] ?? []).entries())
        this.#try(`action.${kind.attribute}.${field}[${i}]`, () => read(text), kind.remedy);
    };
    check("set", kind.parse);
    check("add", kind.parse);
    check("remove", kind.pattern);
  }

  #each<T>(field: string, values: readonly T[] | undefined, check: (value: T) => unknown, remedy: string): void {
    this.#notEmpty(field, values);
    for (const [i, value] of (values ?? []).entries()) this.#try(`${field}[${i}]`, () => check(value), remedy);
  }

  #names(field: string, values: readonly string[] | undefined, known: readonly string[]): void {
    this.#notEmpty(field, values);
    for (const value of values ?? [])
      if (!known.includes(value)) this.#add(field, `"${value}" is unknown`, `write one of ${known.join(", ")}`);
  }

  #notEmpty(field: string, values: readonly unknown[] | undefined): void {
    if (values?.length === 0) this.#add(field, "the list is empty", "name at least one value, or leave the field out");
  }

  #range(field: string, min: number | undefined, max: number | undefined): void {
    if (min !== undefined) this.#number(`${field} minimum`, min, 0, MAX_UINT32);
    if (max !== undefined) this.#number(`${field} maximum`, max, 0, MAX_UINT32);
    if (min !== undefined && max !== undefined && min > max) this.#add(field, `${min} is more than ${max}`, "put the smaller number first");
  }

  #number(field: string, value: number, min: number, max: number): void {
    if (Number.isInteger(value) && value >= min && value <= max) return;
    this.#add(field, `${value} is not a whole number in ${min}..${max}`, `write a number in ${min}..${max}`);
  }

  #try(field: string, check: () => unknown, remedy: string): void {
    try {
      check();
    } catch (error) {
      this.#add(field, error instanceof Error ? error.message : String(error), remedy);
    }
  }

  #add(field: string, message: string, remedy: string): void {
    this.#problems.push({ rule: this.#rule, field, message, remedy });
  }
}

const MAX_UINT32 = 0xffffffff;
const asnRemedy = `write an AS number, 1..${MAX_UINT32}`;

function checkAsn(asn: number): void {
  if (!Number.isInteger(asn) || asn < 1 || asn > MAX_UINT32) throw new RangeError(`${asn} is no AS number`);
}

/** RFC 4271 section 6.3: a next hop is a host's address. */
function checkNextHop(text: string): void {
  const address = parseAddress(text);
  const multicast = address.length === 4 ? address[0] >= 224 : address[0] === 0xff;
  if (multicast || address.every(octet => octet === 0)) throw new RangeError(`${text} is not the address of a host`);
}
