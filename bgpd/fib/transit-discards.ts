/**
 * A FIB that discards some prefixes only for packets of others. All else is the main FIB's; these are in tables of their own, a FIB for each, and the
 * rules that lead there stand while a prefix is wanted (transit-rules.ts).
 */
import type { Rtnetlink, Rule } from "../../kernel/types.ts";
import { formatPrefix, type IpFamily, type Prefix } from "../../net/address.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { type RoutePlace, removeRules } from "./route-places.ts";
import { isTransitTable, sameRule, transitRules, transitTable } from "./transit-rules.ts";
import type { Fib, FibCounters, FibEntry } from "./types.ts";

export interface TransitOptions {
  netlink: Pick<Rtnetlink, "rules" | "addRule" | "deleteRule">;
  clock: Clock;
  log: Logger;
  protocol: number;
  /** Places of former agents and configurations, of which those of discards for packets of others are looked at. */
  former: readonly RoutePlace[];
  main: Fib;
  /** The FIB of another table. */
  open(table: number, former: readonly RoutePlace[]): Fib;
  /** Called before the first route is written to a table, or rule. */
  used(table: number): void;
}

/** Milliseconds between looks at whether the rules still stand: no event tells of them. */
const LOOK = 10_000;

interface Table {
  fib: Fib;
  /** Wanted, by family: all of one length. */
  prefixes: Record<IpFamily, Set<string>>;
}

export class TransitDiscards implements Fib {
  readonly outlived: Promise<boolean>;
  readonly #options: TransitOptions;
  readonly #main: Fib;
  readonly #tables = new Map<number, Table>();
  /** That should stand, with the reason why they do not. */
  readonly #missing = new Map<Rule, string>();
  #lookTimer: Timer | undefined;
  #closed = false;

  constructor(options: TransitOptions) {
    this.#options = options;
    this.#main = options.main;
    for (const { table } of options.former) if (isTransitTable(table)) this.#table(table);
    const left = [...this.#tables.values()].map(({ fib }) => fib.outlived);
    this.outlived = Promise.all([options.main.outlived, ...left]).then(all => all.includes(true));
  }

  want(prefix: Prefix, entry: FibEntry | undefined): void {
    const number = transitTable(prefix);
    const transit = entry?.type === "blackhole" && entry.transit === true;
    this.#main.want(prefix, transit ? undefined : entry);
    const table = transit ? this.#table(number) : this.#tables.get(number);
    if (!table) return;
    const { fib, prefixes } = table;
    const before = prefixes[prefix.family].size;
    const name = formatPrefix(prefix);
    if (transit) prefixes[prefix.family].add(name);
    else if (!prefixes[prefix.family].delete(name)) return;
    if (transit && before === 0) this.#options.used(number);
    fib.want(prefix, transit ? { type: "blackhole" } : undefined);
    if (before === 0 || prefixes[prefix.family].size === 0) this.#rulesChanged(prefix);
  }

  async sweep(): Promise<void> {
    await this.#main.sweep();
    for (const { fib } of this.#tables.values()) await fib.sweep();
    if (this.#closed) return;
    // Of tables without a prefix: those that a former agent has left.
    for (const table of this.#tables.keys()) {
      const { protocol } = this.#options;
      removeRules(this.#options.netlink, { table, protocol }, rule => this.#wanted().some(other => sameRule(rule, other)));
    }
  }

  async settled(): Promise<void> {
    await this.#main.settled();
    for (const { fib } of this.#tables.values()) await fib.settled();
  }

  counters(): FibCounters {
    const all = [...this.#tables.values()].map(({ fib }) => fib.counters());
    const sum = all.reduce(plus, this.#main.counters());
    const [why] = this.#missing.values();
    return why === undefined ? sum : { ...sum, failed: sum.failed + this.#missing.size, lastError: why };
  }

  installed(prefix: Prefix): FibEntry | undefined {
    const entry = this.#main.installed(prefix);
    if (entry) return entry;
    return this.#tables.get(transitTable(prefix))?.fib.installed(prefix) && { type: "blackhole", transit: true };
  }

  /** Where discards for packets of others are wanted. */
  tables(): number[] {
    return [...this.#tables].flatMap(([table, { prefixes }]) => (prefixes[4].size + prefixes[6].size > 0 ? [table] : []));
  }

  async close({ flush }: { flush: boolean }): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#lookTimer?.cancel();
    await this.#main.close({ flush });
    for (const { fib } of this.#tables.values()) await fib.close({ flush });
  }

  #table(number: number): Table {
    const known = this.#tables.get(number);
    if (known) return known;
    const former = this.#options.former.filter(({ table }) => table === number);
    const table = { fib: this.#options.open(number, former), prefixes: { 4: new Set<string>(), 6: new Set<string>() } };
    this.#tables.set(number, table);
    return table;
  }

  /** The first prefix of its family and length came, or the last one went. */
  #rulesChanged({ family, length }: Prefix): void {
    const { netlink, protocol } = this.#options;
    const isWanted = (this.#tables.get(transitTable({ family, length }))?.prefixes[family].size ?? 0) > 0;
    if (isWanted) this.#look();
    else
      for (const rule of transitRules(family, length, protocol)) {
        for (const missing of this.#missing.keys()) if (sameRule(missing, rule)) this.#missing.delete(missing);
        this.#try(rule, () => {
          if (netlink.rules(family).some(one => sameRule(one, rule))) netlink.deleteRule(rule);
        });
      }
  }

  /** What the kernel lacks is added; what stands there with a number that was ours before is replaced, as it takes both for one. */
  #look(): void {
    const { netlink, clock, protocol, former } = this.#options;
    this.#lookTimer?.cancel();
    this.#lookTimer = undefined;
    const wanted = this.#wanted();
    this.#missing.clear();
    for (const rule of wanted) {
      const failed = this.#try(rule, () => {
        const present = netlink.rules(rule.family);
        if (present.some(one => sameRule(one, rule))) return;
        const isOld = (one: Rule) => former.some(({ protocol: old }) => old !== protocol && sameRule(one, { ...rule, protocol: old }));
        const before = present.find(isOld);
        if (before) netlink.deleteRule(before);
        netlink.addRule(rule);
      });
      if (failed !== undefined) this.#missing.set(rule, failed);
    }
    if (wanted.length > 0 && !this.#closed) this.#lookTimer = clock.after(LOOK, () => this.#look());
  }

  /** Why it could not be done. */
  #try(rule: Rule, change: () => void): string | undefined {
    try {
      change();
      return undefined;
    } catch (error) {
      const { message } = error as Error;
      this.#options.log.warn({ priority: rule.priority, table: rule.table }, `policy rule not changed: ${message}; it is looked at again`);
      return message;
    }
  }

  #wanted(): Rule[] {
    const { protocol } = this.#options;
    return [...this.#tables].flatMap(([number, { prefixes }]) =>
      ([4, 6] as const).flatMap(family => {
        if (prefixes[family].size === 0) return [];
        return transitRules(family, transitTable({ family, length: 0 }) - number, protocol);
      }),
    );
  }
}

function plus(a: FibCounters, b: FibCounters): FibCounters {
  return {
    installed: a.installed + b.installed,
    adopted: a.adopted + b.adopted,
    pending: a.pending + b.pending,
    failed: a.failed + b.failed,
    swept: a.swept + b.swept,
    written: a.written + b.written,
    removed: a.removed + b.removed,
    refused: a.refused + b.refused,
    repaired: a.repaired + b.repaired,
    ...((b.lastError ?? a.lastError) !== undefined && { lastError: b.lastError ?? a.lastError }),
  };
}
