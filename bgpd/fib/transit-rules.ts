/**
 * Where discards for packets of others stand, and by which rules (ip-rule(8)) the kernel comes to them. A blackhole in the main table would take what
 * this node sends to a Service as well: connect() looks for a route before the OUTPUT chain translates the address. So these have tables of their own,
 * which only packets reach that came in by a link.
 *
 * The longest prefix wins over both tables, as if they were one: a table for each length of prefix, asked from the longest to the shortest, and before
 * each the main table for longer routes (suppress_prefixlength). What a longer prefix of ours or of somebody else takes is forwarded, and a shorter one
 * from a router, such as its default route, cannot take an address back that nobody here has. Pure.
 */
import type { Rule } from "../../kernel/types.ts";
import type { IpFamily, Prefix } from "../../net/address.ts";

/** For prefixes as long as an address; one bit less, one table more. */
const TRANSIT_TABLE = 20179;
const MAIN_TABLE = 254;
/** Of the rule just before that of the main table. */
const LAST_PRIORITY = 32765;

const families = [4, 6] as const;
const bitsOf = { 4: 32, 6: 128 } as const;

export function transitTable({ family, length }: Pick<Prefix, "family" | "length">): number {
  return TRANSIT_TABLE + bitsOf[family] - length;
}

export function isTransitTable(table: number): boolean {
  return table >= TRANSIT_TABLE && table <= TRANSIT_TABLE + bitsOf[6];
}

/** In the order in which the kernel asks them. */
export function transitRules(family: IpFamily, length: number, protocol: number): Rule[] {
  const common = { family, protocol, inverted: true, inputInterface: "lo" };
  const priority = LAST_PRIORITY - 2 * length;
  const longer: Rule[] =
    length === bitsOf[family] ? [] : [{ ...common, priority: priority - 1, table: MAIN_TABLE, suppressPrefixLength: length }];
  return [...longer, { ...common, priority, table: transitTable({ family, length }) }];
}

/** Those that lead to a place, as they are when they are all there. */
export function rulesOfPlace({ table, protocol }: { table: number; protocol: number }): Rule[] {
  if (!isTransitTable(table)) return [];
  return families.flatMap(family => {
    const length = bitsOf[family] + TRANSIT_TABLE - table;
    return length < 0 ? [] : transitRules(family, length, protocol);
  });
}

/** Whether the kernel would take both for one, and the same program put them there. */
export function sameRule(a: Rule, b: Rule): boolean {
  return keyOf(a) === keyOf(b);
}

function keyOf(rule: Rule): string {
  return JSON.stringify(Object.entries(rule).sort(([a], [b]) => (a < b ? -1 : 1)));
}
