/** The border between RIB, next-hop tracking and the kernel table. */
import type { InterfaceAddress, Route as KernelRoute, NextHop } from "../../kernel/types.ts";
import type { Address, IpFamily, Prefix } from "../../net/address.ts";
import type { PrefixTable } from "../table/prefix-table.ts";

/** What the kernel's routes say about a BGP next hop (RFC 4271 section 5.1.3, 9.1.2.1). */
export interface Resolution {
  reachable: boolean;
  /**
   * Interior cost: 0 = directly connected, else the kernel metric of the resolving route (RFC 4271 section 9.1.2.2 e); 2^32 where a route of
   * ours resolves it.
   */
  metric: number;
  /** What to write into the kernel: gateway and interface; several when the resolving route is multipath. */
  hops: NextHop[];
  connected: boolean;
  /** The same with a tunnel in place of the way to each next hop that has one; absent: none has. */
  tunnelled?: NextHop[];
  /** In words: "connected via eth0", "via 10.0.0.1 dev eth0 (route 10.0.0.0/8)", "no route". */
  reason: string;
  /** Our own routes that it leads through, if any: they cannot have it as their next hop. */
  through?: readonly OwnRoute[];
  /** Indexes of the links whose state it depends on, if any. */
  links?: readonly number[];
  /** Routes were passed over, because they lead back to it. */
  looped?: boolean;
}

/** Tunnels to next hops, which somebody else makes; the speaker asks for each next hop that is reachable. */
export interface Tunnels {
  /** The way through a tunnel, in place of that by which it is reached; `connected`: on a link of ours. undefined: there is none, or none is wanted. */
  around(nextHop: Address, connected: boolean): NextHop | undefined;
  /** Of a next hop that no route leads to, but a tunnel: the address of another family by which that is reached. */
  endOf(nextHop: Address): Address | undefined;
  /** The next hops whose endOf() is in this prefix. */
  behind(prefix: Prefix): readonly Address[];
  /** The packets of tunnels themselves follow the routes of this prefix, which cannot lead through one therefore. */
  needs(prefix: Prefix): boolean;
  /** "through the tunnel to node2"; undefined: it is no tunnel. */
  words(hop: NextHop): string | undefined;
  /** Tells for which next hops it may answer otherwise now; returns how to stop. */
  onChange(listener: (changed: readonly Address[] | "all") => void): () => void;
}

/** A prefix by its id in the RIB. */
export interface OwnRoute {
  family: IpFamily;
  prefix: number;
}

/** Our own routes as next hops see them: what is wanted in the kernel, whether it is there yet or not. */
export interface OwnRoutes {
  /** Whether there may be one of this prefix length. */
  hasLength(family: IpFamily, length: number): boolean;
  /** Id of a prefix, 0 = none. */
  find(prefix: Prefix): number;
  /** Tracker ids of the next hops that carry its traffic; none where nothing is wanted in the kernel. */
  nextHops(family: IpFamily, prefix: number): number[] | "discard";
}

export interface TrackedPlace {
  table: number;
  protocols: readonly number[];
  /** As configured: see effectiveMetric(). */
  metric: number;
}

/**
 * Follows the next hops of all candidate routes. Resolves against the kernel's routes of other owners and our own (resolve.ts), the
 * default route included. Ids are small integers, reference-counted, reused after the last release().
 */
export interface NextHopTracker {
  /** `nextHop` of 4, 16 or 32 octets (global, link-local); `ifindex` names the link of a link-local next hop, else 0. Same arguments, same id. */
  track(nextHop: Uint8Array, ifindex: number): number;
  release(id: number): void;
  resolution(id: number): Resolution;
  /** All of ours, of both families, with their flags as they are now. */
  addresses(): InterfaceAddress[];
  /** From now on our routes are in this table, with this metric and one of these protocol numbers: the kernel's routes are read again. */
  follow(place: TrackedPlace): void;
  /** Next hops resolve through these routes as well. */
  resolveThrough(routes: OwnRoutes): void;
  /** What is wanted in the kernel for this prefix of ours has changed: next hops inside it are looked at again. `prefixes`: those of its family. */
  ownRouteChanged(prefixes: PrefixTable, id: number): void;
  /** Tunnels to these next hops came or went. */
  tunnelsChanged(nextHops: readonly Address[] | "all"): void;
  /** Next hops wait to be looked at again. */
  readonly busy: boolean;
  /** Called when addresses or their flags have changed, once per burst of kernel events. */
  onAddressChange(listener: () => void): void;
  /** Routes of other owners for this very prefix, in the order in which the kernel tries them; of the tables in which next hops are resolved. */
  foreignRoutes(prefix: Prefix): readonly RouteRow[];
  /** Its name, or "ifindex 7" where it is gone. */
  linkName(ifindex: number): string;
  /** Whether this address is one of ours. */
  isLocal(address: Address): boolean;
  /** The prefixes on links shared with this address: for third-party next hops. */
  sharesSubnet(a: Address, b: Address): boolean;
  /** Called with the ids whose resolution changed: when all that waited was looked at, and meanwhile some ten times a second. */
  onChange(listener: (ids: number[]) => void): void;
  close(): void;
}

/** What the FIB is asked to hold for a prefix. */
export type FibEntry =
  | { type: "unicast"; nextHops: NextHop[] }
  /** `transit`: for packets of others alone. */
  | { type: "blackhole"; transit?: true };

/**
 * The wanted state of the kernel table for our protocol number. want() may be called often: only the last wish per prefix is written, in
 * batches, between slices of other work. Until `sweep()` routes that were found at start (adopted) stay, also when nobody wants them yet.
 */
export interface Fib {
  /**
   * Whether routes of ours were there at start, so that forwarding outlived a former agent (RFC 4724 section 4.1). Known, true, with the first
   * that is found, and false not before the tables of both families were read to their ends.
   */
  readonly outlived: Promise<boolean>;
  want(prefix: Prefix, entry: FibEntry | undefined): void;
  /**
   * The initial table is complete: removes our kernel routes that nobody wants, and all of those at former places, once what is wanted is
   * written. Resolves when nothing is left of them; rejects where a former place cannot be read.
   */
  sweep(): Promise<void>;
  /** Resolves when all that was wanted is in the kernel or has failed. */
  settled(): Promise<void>;
  counters(): FibCounters;
  /** What we hold in the kernel for this prefix now, for explain. */
  installed(prefix: Prefix): FibEntry | undefined;
  /** `flush`: remove all our routes; else leave them in the kernel (forwarding outlives the agent). */
  close(options: { flush: boolean }): Promise<void>;
}

export interface FibCounters {
  installed: number;
  /** Found so far by the read at start. */
  adopted: number;
  pending: number;
  failed: number;
  swept: number;
  /** Operations since the start: routes that the kernel took or replaced, those it removed, what it refused, each time anew. */
  written: number;
  removed: number;
  refused: number;
  lastError?: string;
  /** Routes of ours that somebody else removed or changed and that were written again. */
  repaired: number;
}

/** Our own routes, and the next hops of the tracker's ids that they name. */
export interface OwnWays {
  routes: OwnRoutes;
  /** Of our unicast and of our discard routes in the kernel, by family. */
  metrics: Record<4 | 6, { unicast: number; discard: number }>;
  nextHop(id: number): { nextHop: Uint8Array; ifindex: number };
}

/** What is kept of a route; shared by all prefixes for which it is the same. */
export interface RouteRow {
  type: KernelRoute["type"];
  protocol: number;
  table: number;
  metric: number;
  hops: NextHop[];
}
