/**
 * The vocabulary of our nftables tables: what there shall be, as objects with names, whoever wants them. Pure. Expressions are those of libnftables-json(5);
 * a writer turns differences between two rulesets into one transaction.
 */

export type TableFamily = "inet" | "bridge" | "netdev" | "arp";

/** An object of libnftables-json(5): an expression or a statement. */
export type Expression = Readonly<Record<string, unknown>>;

export interface Rule {
  expressions: readonly Expression[];
  /** For people who list the ruleset; at most 100 octets. The writer adds a digest, by which it knows the rule again after a restart. */
  comment?: string;
}

interface Named {
  family: TableFamily;
  table: string;
  name: string;
}

export interface Chain extends Named {
  kind: "chain";
  /** Absent: reached by jump or goto. */
  base?: { type: "filter" | "nat"; hook: string; priority: number; policy?: "accept" | "drop"; devices?: readonly string[] };
  rules: readonly Rule[];
}

export interface NamedSet extends Named {
  kind: "set";
  /** "ipv4_addr", or several to be concatenated. */
  type: string | readonly string[];
  flags?: readonly ("interval" | "dynamic" | "timeout")[];
  /** By a text that is the same for the same element. */
  elements: ReadonlyMap<string, unknown>;
}

export interface NamedMap extends Named {
  kind: "map";
  type: string | readonly string[];
  /** "verdict", or the type of what is found. */
  map: string;
  flags?: readonly "interval"[];
  /** Key of the element, with what is found. */
  elements: ReadonlyMap<string, { key: unknown; value: unknown }>;
}

/** Counts packets and octets, and keeps its figures while rules around it change. */
export interface NamedCounter extends Named {
  kind: "counter";
}

export type RulesetObject = Chain | NamedSet | NamedMap | NamedCounter;

/** "inet podlane chain forward": by it an object is known. */
export function objectKey({ family, table, kind, name }: Pick<RulesetObject, "family" | "table" | "kind" | "name">): string {
  return `${family} ${table} ${kind} ${name}`;
}
