/**
 * Rulesets as commands of libnftables-json(5), and what nft lists as a ruleset again: pure. One transaction brings a table from what is there to what
 * shall be there, by differences: chains whose rules differ are written anew, sets and maps change element by element.
 */
import { createHash } from "node:crypto";
import {
  type Address,
  AddressError,
  compareOctets,
  contains,
  formatAddress,
  type Prefix,
  parseAddress,
  parsePrefix,
} from "../net/address.ts";
import type { Chain, NamedMap, NamedSet, Rule, RulesetObject, TableFamily } from "./ruleset.ts";
import { objectKey } from "./ruleset.ts";

/** `{ add: { set: … } }` and the like. */
export type Command = Readonly<Record<string, unknown>>;

export interface Difference {
  before: RulesetObject | undefined;
  after: RulesetObject | undefined;
}

/** A rule as listed: what it does is known by the digest in its comment alone. */
interface ListedRule extends Rule {
  digest: string;
}

/** Characters of a rule's digest: 72 bits. */
const DIGEST_LENGTH = 12;
const digestPattern = /(?:^| )#([A-Za-z0-9_-]{12})$/;
/** As nft spells them where it can; by number where there is no /etc/protocols. */
const ProtocolNumbers: Readonly<Record<string, string>> = {
  icmp: "1",
  tcp: "6",
  udp: "17",
  "ipv6-icmp": "58",
  sctp: "132",
  udplite: "136",
};

/** Maps lead to chains, and chains refer to sets, maps and counters. */
const comingOrder = ["counter", "chain", "set", "map"] as const;
const goingOrder = ["map", "set", "chain", "counter"] as const;

const knownPrefixes = new Map<string, Prefix>();
const MAXIMUM_KNOWN = 1 << 16;
const digests = new WeakMap<Rule, string>();

/**
 * The commands of one transaction. What is new comes first, what goes comes last, so that at each step nothing refers to what is not there. What nftables
 * cannot turn into another goes and comes anew; chains that refer to it are written again, so whoever asks for it has those among the differences.
 */
export function transaction(differences: readonly Difference[]): Command[] {
  const remade = differences.filter(isRemade);
  const former = remade.flatMap(({ before }) => (before ? [before] : []));
  const made = differences.flatMap(difference =>
    difference.after && (!difference.before || isRemade(difference)) ? [difference.after] : [],
  );
  const gone = differences.flatMap(({ before, after }) => (before && !after ? [before] : []));
  const tables = new Map(differences.flatMap(({ after }) => (after ? [[`${after.family} ${after.table}`, after] as const] : [])));
  const chains = differences.flatMap(({ before, after }) => {
    const was = before?.kind === "chain" ? before.rules : [];
    const is = after?.kind === "chain" ? after.rules : [];
    const same = sameRules(was, is) && !former.some(one => one === before || (after?.kind === "chain" && refersTo(after, one)));
    return same ? [] : [{ chain: (after ?? before) as Chain, was, is }];
  });
  const elements = differences.filter(one => !isRemade(one));
  const ofKind = (objects: readonly RulesetObject[], kind: RulesetObject["kind"]) => objects.filter(one => one.kind === kind);
  return [
    ...[...tables.values()].map(({ family, table }) => ({ add: { table: { family, name: table } } })),
    ...chains.filter(({ was }) => was.length > 0).map(({ chain }) => ({ flush: reference(chain) })),
    ...goingOrder.flatMap(kind => ofKind(former, kind).map(one => ({ delete: reference(one) }))),
    ...comingOrder.flatMap(kind => ofKind(made, kind).map(one => ({ add: declaration(one) }))),
    ...elements.flatMap(({ before, after }) => (before && after ? elementCommands(before, after) : [])),
    ...chains.flatMap(({ chain, is }) => is.map(rule => ({ add: { rule: ruleCommand(chain, rule) } }))),
    ...goingOrder.flatMap(kind => ofKind(gone, kind).map(one => ({ delete: reference(one) }))),
  ];
}

/** Whether its rules name the set, map or counter. */
export function refersTo(chain: Chain, { kind, name }: RulesetObject): boolean {
  if (kind === "chain") return false;
  return JSON.stringify(chain.rules).includes(kind === "counter" ? `"counter":${JSON.stringify(name)}` : JSON.stringify(`@${name}`));
}

/** The table with all that is in it. */
export function deleteTable(family: TableFamily, table: string): Command {
  return { delete: { table: { family, name: table } } };
}

/** nftables cannot turn the one into the other while rules refer to it. */
export function isRemade({ before, after }: Difference): boolean {
  return before !== undefined && after !== undefined && shape(before) !== shape(after);
}

export function sameObject(a: RulesetObject, b: RulesetObject): boolean {
  if (a === b) return true;
  if (shape(a) !== shape(b)) return false;
  if (a.kind === "chain" && b.kind === "chain") return sameRules(a.rules, b.rules);
  if (a.kind === "counter" || a.kind === "chain") return true;
  return elementCommands(a, b).length === 0;
}

/** With elements under texts that whoever spells them is the same: for the comparison of what was listed with what is wanted. */
export function canonical(object: RulesetObject): RulesetObject {
  if (object.kind === "set") {
    return { ...object, elements: new Map([...object.elements.values()].map(element => [elementText(element), element])) };
  }
  if (object.kind !== "map") return object;
  const elements = [...object.elements.values()].map(
    entry => [elementText(entry.key), { ...entry, text: elementText(entry.value) }] as const,
  );
  return { ...object, elements: new Map(elements) };
}

/** What `nft -j list table` says of one table or several, with canonical elements. Throws SyntaxError and TypeError for what is no such list. */
export function parseListing(text: string): Map<string, RulesetObject> {
  const found = new Map<string, RulesetObject>();
  const rules = new Map<string, ListedRule[]>();
  for (const line of text.split("\n").filter(one => one.trim() !== "")) {
    for (const entry of (JSON.parse(line) as { nftables: Record<string, Listed>[] }).nftables) {
      for (const [kind, listed] of Object.entries(entry)) {
        const object = readObject(kind, listed);
        if (object) found.set(objectKey(object), object);
        if (kind === "rule") readRule(listed, rules);
      }
    }
  }
  for (const [key, listed] of rules) {
    const chain = found.get(key);
    if (chain?.kind === "chain") found.set(key, { ...chain, rules: listed });
  }
  return found;
}

interface Listed {
  family: TableFamily;
  table: string;
  name: string;
  chain?: string;
  comment?: string;
  type?: string | string[];
  hook?: string;
  prio?: number;
  policy?: "accept" | "drop";
  dev?: string | string[];
  map?: string;
  flags?: string[];
  elem?: unknown[];
}

function readObject(kind: string, listed: Listed): RulesetObject | undefined {
  const { family, table, name, type = "", flags, elem = [] } = listed;
  const named = { family, table, name };
  if (kind === "counter") return { kind, ...named };
  if (kind === "chain") return { kind, ...named, ...baseOf(listed), rules: [] };
  if (kind === "set") {
    const elements = new Map(elem.map(element => [elementText(element), element]));
    return { kind, ...named, type, ...(flags && { flags: flags as NamedSet["flags"] }), elements };
  }
  if (kind !== "map" || listed.map === undefined) return undefined;
  const entries = (elem as [unknown, unknown][]).map(
    ([key, value]) => [elementText(key), { key, value, text: elementText(value) }] as const,
  );
  return { kind, ...named, type, map: listed.map, ...(flags && { flags: flags as NamedMap["flags"] }), elements: new Map(entries) };
}

function baseOf({ type, hook, prio, policy, dev }: Listed): Pick<Chain, "base"> {
  if (hook === undefined || prio === undefined) return {};
  const devices = dev === undefined ? [] : [dev].flat();
  return { base: { type: type as "filter" | "nat", hook, priority: prio, policy, ...(devices.length > 0 && { devices }) } };
}

function readRule({ family, table, chain = "", comment = "" }: Listed, rules: Map<string, ListedRule[]>): void {
  const key = objectKey({ family, table, kind: "chain", name: chain });
  const digest = digestPattern.exec(comment)?.[1] ?? "";
  rules.set(key, [...(rules.get(key) ?? []), { expressions: [], digest }]);
}

/** What makes an object another one than before, in one text. */
function shape(object: RulesetObject): string {
  if (object.kind === "counter") return object.kind;
  if (object.kind === "chain") {
    const { type, hook, priority, policy = "accept", devices = [] } = object.base ?? {};
    return JSON.stringify([object.kind, object.base && [type, hook, priority, policy, [...devices].sort()]]);
  }
  const { kind, type, flags = [] } = object;
  return JSON.stringify([kind, [type].flat(), [...flags].sort(), object.kind === "map" ? object.map : ""]);
}

function reference({ family, table, kind, name }: RulesetObject): Command {
  return { [kind]: { family, table, name } };
}

function declaration(object: RulesetObject): Command {
  const { family, table, kind, name } = object;
  const named = { family, table, name };
  if (object.kind === "counter") return { [kind]: named };
  if (object.kind === "chain") {
    const { type, hook, priority, policy = "accept", devices } = object.base ?? {};
    const [device] = devices ?? [];
    const dev = devices && devices.length > 1 ? devices : device;
    return { [kind]: { ...named, ...(object.base && { type, hook, prio: priority, policy, ...(dev !== undefined && { dev }) }) } };
  }
  const { type, flags } = object;
  const elem = elementList(object, object.elements.keys());
  const optional = { ...(flags && flags.length > 0 && { flags }), ...(elem.length > 0 && { elem }) };
  return { [kind]: { ...named, type, ...(object.kind === "map" && { map: object.map }), ...optional } };
}

function elementList(object: NamedSet | NamedMap, keys: Iterable<string>): unknown[] {
  if (object.kind === "set") return [...keys].map(key => object.elements.get(key));
  return [...keys].map(key => {
    const { key: found, value } = object.elements.get(key)!;
    return [found, value];
  });
}

function elementCommands(before: RulesetObject, after: RulesetObject): Command[] {
  if ((before.kind !== "set" && before.kind !== "map") || (after.kind !== "set" && after.kind !== "map")) return [];
  const has = (a: NamedSet | NamedMap, b: NamedSet | NamedMap, key: string) =>
    b.elements.has(key) && (a.kind !== "map" || b.kind !== "map" || sameValue(a.elements.get(key)!, b.elements.get(key)!));
  const gone = [...before.elements.keys()].filter(key => !has(before, after, key));
  const made = [...after.elements.keys()].filter(key => !has(after, before, key));
  const { family, table, name } = after;
  const command = (elem: unknown[]) => ({ element: { family, table, name, elem } });
  return [
    ...(gone.length > 0 ? [{ delete: command(elementList(before, gone)) }] : []),
    ...(made.length > 0 ? [{ add: command(elementList(after, made)) }] : []),
  ];
}

type MapEntry = { key: unknown; value: unknown; text?: string };

function sameValue(a: MapEntry, b: MapEntry): boolean {
  return a === b || (a.text ?? elementText(a.value)) === (b.text ?? elementText(b.value));
}

function ruleCommand({ family, table, name }: Chain, rule: Rule): Command {
  const comment = [rule.comment ?? "", `#${digestOf(rule)}`].filter(Boolean).join(" ");
  return { family, table, chain: name, expr: rule.expressions, comment };
}

function sameRules(a: readonly Rule[], b: readonly Rule[]): boolean {
  return a === b || (a.length === b.length && a.every((rule, at) => digestOf(rule) === digestOf(b[at])));
}

function digestOf(rule: Rule & { digest?: string }): string {
  if (rule.digest !== undefined) return rule.digest;
  const known = digests.get(rule);
  if (known !== undefined) return known;
  const text = JSON.stringify([rule.expressions, rule.comment ?? ""]);
  const digest = createHash("sha256").update(text).digest("base64url").slice(0, DIGEST_LENGTH);
  digests.set(rule, digest);
  return digest;
}

/** The same for the same element, however it is spelt. */
function elementText(element: unknown): string {
  if (typeof element === "string") return addressText(element) ?? ProtocolNumbers[element] ?? element.toLowerCase();
  if (typeof element !== "object" || element === null) return String(element);
  const { prefix, range, concat, elem } = element as {
    prefix?: { addr: string; len: number };
    range?: [unknown, unknown];
    concat?: unknown[];
    elem?: { val: unknown };
  };
  if (elem) return elementText(elem.val);
  if (concat) return concat.map(elementText).join(" . ");
  if (range) return rangeText(elementText(range[0]), elementText(range[1]));
  if (prefix) return prefixText(prefix.addr, prefix.len);
  return JSON.stringify(element);
}

function rangeText(first: string, last: string): string {
  return first === last ? first : `${first}-${last}`;
}

function prefixText(addr: string, len: number): string {
  const { address } = parsePrefix(`${addr}/${len}`, "clear");
  return rangeText(formatAddress(address), formatAddress(lastOf(address, len)));
}

function lastOf(address: Address, length: number): Address {
  return address.map((octet, at) => octet | (0xff >> Math.min(8, Math.max(0, length - at * 8))));
}

function addressText(text: string): string | undefined {
  if (!/[.:]/.test(text)) return undefined;
  try {
    return formatAddress(parseAddress(text));
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}

/** Prefixes without those that lie in another one: elements of an interval set must not overlap. `ADDRESS/LENGTH`, of one family or of both. */
export function disjoint(prefixes: readonly string[]): string[] {
  const parsed = [...new Set(prefixes)].map(text => ({ text, prefix: knownPrefix(text) }));
  // A block stands before all that lie in it.
  const order = (a: Prefix, b: Prefix) => a.family - b.family || compareOctets(a.address, b.address) || a.length - b.length;
  parsed.sort((a, b) => order(a.prefix, b.prefix));
  const kept: string[] = [];
  let last: Prefix | undefined;
  for (const { text, prefix } of parsed) {
    if (last?.family === prefix.family && contains(last, prefix.address)) continue;
    last = prefix;
    kept.push(text);
  }
  return kept;
}

/** The prefixes of thousands of nodes come again with each change of one of them. */
function knownPrefix(text: string): Prefix {
  const known = knownPrefixes.get(text);
  if (known) return known;
  if (knownPrefixes.size >= MAXIMUM_KNOWN) knownPrefixes.clear();
  const prefix = parsePrefix(text);
  knownPrefixes.set(text, prefix);
  return prefix;
}
