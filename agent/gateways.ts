/**
 * The node's default gateways, by the kernel's main table: read when somebody asks for them, and again when a default route changes. Routes that this
 * agent wrote do not count: whom we peer with must not follow from what we learned. The table may be large, so it is read in slices.
 */
import type { Gateway } from "../config/plan.ts";
import type { KernelAccess, KernelEvent, Route } from "../kernel/index.ts";
import { formatAddress } from "../net/address.ts";
import { type Clock, sliceOf, type Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";

const MAIN_TABLE = 254;
/** Milliseconds from an event to the look: a link that comes up, and DHCP that renews, bring several. */
const DELAY = 250;
/** Milliseconds after which a table that could not be read is tried again. */
const RETRY = 10_000;

export interface GatewaysOptions {
  kernel: KernelAccess;
  clock: Clock;
  log: Logger;
  /** Protocol numbers of our own routes. */
  ours(): ReadonlySet<number>;
  /** `known` is another one. */
  changed(): void;
}

export class Gateways {
  readonly #options: GatewaysOptions;
  #known: Gateway[] | undefined;
  #stopWatching: (() => void) | undefined;
  #timer: Timer | undefined;
  /** A read that is under way. */
  #reading: Promise<void> | undefined;

  constructor(options: GatewaysOptions) {
    this.#options = options;
  }

  /** undefined: not asked for, or not read yet. */
  get known(): Gateway[] | undefined {
    return this.#known;
  }

  /** From now on. Resolves when the table was read once, or cannot be read. */
  follow(): Promise<void> {
    const { kernel } = this.#options;
    // The read comes after it, so that nothing is missed.
    this.#stopWatching ??= kernel.watch(events => this.#take(events), ["route", "link", "address"]);
    if (this.#known) return Promise.resolve();
    this.#reading ??= this.#look().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  close(): void {
    this.#stopWatching?.();
    this.#stopWatching = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#known = undefined;
  }

  #take(events: readonly KernelEvent[]): void {
    if (events.some(event => this.#concerns(event))) this.#later(DELAY);
  }

  #concerns(event: KernelEvent): boolean {
    if (event.type === "overrun") return true;
    if (event.type === "route") return isDefault(event.route) && !this.#options.ours().has(event.route.protocol);
    // IPv4 routes that go with their link or address are not announced.
    if (event.type === "link") return this.#known?.some(gateway => gateway.interface === event.link.name) ?? false;
    return event.type === "address" && event.action === "delete";
  }

  #later(milliseconds: number): void {
    this.#timer ??= this.#options.clock.after(milliseconds, () => {
      this.#timer = undefined;
      const before = JSON.stringify(this.#known);
      void this.#look().then(() => {
        if (this.#stopWatching && JSON.stringify(this.#known) !== before) this.#options.changed();
      });
    });
  }

  async #look(): Promise<void> {
    try {
      const found = await readGateways(this.#options);
      if (this.#stopWatching) this.#known = found;
    } catch (error) {
      this.#options.log.warn({ err: error }, "the default gateways cannot be read from the kernel");
      if (this.#stopWatching) this.#later(RETRY);
    }
  }
}

/** Those of the lowest metric first. Rejects with NetlinkError. */
export async function readGateways({ kernel, clock, ours }: Pick<GatewaysOptions, "kernel" | "clock" | "ours">): Promise<Gateway[]> {
  const names = new Map(kernel.netlink.links().map(link => [link.index, link.name]));
  const own = ours();
  const found: { metric: number; gateway: Gateway }[] = [];
  let isOver = sliceOf(clock);
  for (const routes of kernel.netlink.routes({ table: MAIN_TABLE })) {
    for (const route of routes) {
      if (!isDefault(route) || own.has(route.protocol)) continue;
      for (const { gateway, ifindex } of route.nextHops) {
        const name = names.get(ifindex);
        if (gateway === undefined || name === undefined) continue;
        found.push({ metric: route.metric, gateway: { family: route.family, address: formatAddress(gateway), interface: name } });
      }
    }
    if (!isOver()) continue;
    await new Promise(resolve => setImmediate(resolve));
    isOver = sliceOf(clock);
  }
  const key = ({ address, interface: link }: Gateway) => `${address}%${link}`;
  found.sort((a, b) => a.metric - b.metric || (key(a.gateway) < key(b.gateway) ? -1 : 1));
  return [...new Map(found.map(({ gateway }) => [`${gateway.family} ${key(gateway)}`, gateway])).values()];
}

function isDefault({ table, length, type, tos, sourceLength }: Route): boolean {
  return table === MAIN_TABLE && length === 0 && type === "unicast" && tos === undefined && sourceLength === undefined;
}
