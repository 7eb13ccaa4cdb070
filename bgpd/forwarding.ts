/**
 * Where the routes of the speaker are in the kernel, from one configuration to the next and over restarts. A change of table, protocol or metric
 * moves them: the new ones are written first, then the former ones go. What no configuration owns any more goes as well.
 */
import type { KernelAccess } from "../kernel/index.ts";
import type { Rtnetlink } from "../kernel/types.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { FibConfig } from "./config.ts";
import type { Faults } from "./faults.ts";
import { createFib } from "./fib/fib.ts";
import { type RoutePlace, removePlace, rulesAt, samePlace } from "./fib/route-places.ts";
import { TransitDiscards } from "./fib/transit-discards.ts";
import { isTransitTable } from "./fib/transit-rules.ts";
import type { Fib } from "./fib/types.ts";
import type { RoutePlaces } from "./platform.ts";

export interface ForwardingOptions {
  kernel: KernelAccess;
  clock: Clock;
  log: Logger;
  faults: Faults;
  memory?: RoutePlaces;
  /** Called when routes are where they belong, and nowhere else. */
  moved(): void;
}

/** Milliseconds after which a place that could not be read is tried again. */
const RETRY = 10_000;

export class Forwarding {
  readonly #options: ForwardingOptions;
  #config: FibConfig | undefined;
  #fib: TransitDiscards | undefined;
  /** All places where routes of ours may be. */
  #places: readonly RoutePlace[];
  /** Of the configuration in use. */
  #serial = 0;
  #retry: Timer | undefined;
  #closed = false;

  constructor(options: ForwardingOptions) {
    this.#options = options;
    this.#places = options.memory?.read() ?? [];
  }

  /** Protocol numbers of routes that are ours, now or from before. */
  get protocols(): number[] {
    return [...new Set([this.#config, ...this.#places].flatMap(place => (place ? [place.protocol] : [])))];
  }

  /**
   * From now on routes are written by this configuration, to the FIB that is returned; undefined = none are wanted, as with forwarding
   * disabled. Former ones stay until sweep().
   */
  use(config: FibConfig | undefined): Fib | undefined {
    void this.#fib?.close({ flush: false });
    this.#serial++;
    this.#config = config;
    this.#fib = config?.enabled ? this.#create(config) : undefined;
    return this.#fib;
  }

  /** All that is wanted was asked for: what stands elsewhere goes as soon as it is written. */
  sweep(): void {
    const serial = this.#serial;
    this.#retry?.cancel();
    void this.#sweep(() => this.#closed || serial !== this.#serial).catch(error => {
      this.#options.log.error({ error }, `former kernel routes cannot be removed; trying again after ${RETRY / 1000} s`);
      this.#retry = this.#options.clock.after(RETRY, () => {
        if (serial === this.#serial) this.sweep();
      });
    });
  }

  async close({ flush }: { flush: boolean }): Promise<void> {
    this.#closed = true;
    this.#retry?.cancel();
    await this.#fib?.close({ flush });
    if (!flush) return;
    for (const place of this.#places) await removePlace(this.#options.kernel.netlink, place, () => false);
    this.#remember([]);
  }

  #create({ table, protocol, metric }: FibConfig): TransitDiscards {
    const { kernel, clock, log, faults } = this.#options;
    const former = this.#places;
    const open = (number: number, places: readonly RoutePlace[]) =>
      createFib({ kernel, clock, log, faults, table: number, protocol, metric, former: places });
    this.#add({ table, protocol });
    return new TransitDiscards({
      ...{ netlink: kernel.netlink, clock, log, protocol, former, open },
      main: open(
        table,
        former.filter(place => !isTransitTable(place.table)),
      ),
      used: number => this.#add({ table: number, protocol }),
    });
  }

  #add(place: RoutePlace): void {
    this.#remember([place, ...this.#places.filter(other => !samePlace(other, place))]);
  }

  async #sweep(overtaken: () => boolean): Promise<void> {
    const { kernel, moved } = this.#options;
    if (this.#fib) await this.#fib.sweep();
    else for (const place of this.#places) await removePlace(kernel.netlink, place, overtaken);
    if (overtaken()) return;
    const { enabled = false, table = 0, protocol = 0 } = this.#config ?? {};
    this.#remember(enabled ? [table, ...(this.#fib?.tables() ?? [])].map(number => ({ table: number, protocol })) : []);
    moved();
  }

  #remember(places: readonly RoutePlace[]): void {
    if (JSON.stringify(places) === JSON.stringify(this.#places)) return;
    this.#places = places;
    this.#options.memory?.write(places);
  }
}

/**
 * Routes of ours that are in the kernel at these places while no speaker runs, and rules that lead there, and their numbers; `remove`: they go. Rejects
 * with NetlinkError.
 */
export async function leftRoutes(
  netlink: Rtnetlink,
  places: readonly RoutePlace[],
  remove: boolean,
): Promise<(RoutePlace & { routes: number; rules: number })[]> {
  const found: (RoutePlace & { routes: number; rules: number })[] = [];
  for (const place of places) {
    let routes = 0;
    for (const chunk of netlink.routes(place)) routes += chunk.length;
    const rules = rulesAt(netlink, place).length;
    if (routes + rules === 0) continue;
    if (remove) await removePlace(netlink, place, () => false);
    found.push({ ...place, routes, rules });
  }
  return found;
}

/** What a change of the configuration does, in words. */
export function describeMove(before: FibConfig, after: FibConfig): string {
  if (!after.enabled) return "kernel routes removed: forwarding is disabled";
  const place = `table ${after.table}, protocol ${after.protocol}, metric ${after.metric}`;
  return before.enabled ? `kernel routes move to ${place}` : `kernel routes are written to ${place}`;
}
