/**
 * Where a BGP next hop leads (RFC 4271 sections 5.1.3 and 9.1.2.1): the longest prefix among the kernel's routes of other owners and our own ones
 * decides. A route of ours has next hops of its own, which are resolved in turn. Pure.
 *
 * A next hop is never resolved through itself: a route whose every way leads back to the next hop asked about is passed over, as if it were not
 * there. That such a route exists at all needs another way to its next hop, and that is what is found then, by a shorter prefix.
 */
import type { NextHop } from "../../kernel/types.ts";
import { type Address, formatAddress, formatPrefix, isLinkLocal, maskAddress, sameOctets } from "../../net/address.ts";
import { type OwnRow, type RoutingTable, sameHop } from "./routing-table.ts";
import type { OwnWays, Resolution, RouteRow, Tunnels } from "./types.ts";

/** Interior cost through our own routes: unknown, hence more than any metric of the kernel, and the same for all. */
export const RECURSIVE_COST = 2 ** 32;
/** Routes of ours that one next hop is followed through, one after the other. */
const MAX_DEPTH = 8;
/** Next hops of ours that are looked at for one, all ways together. */
const MAX_LOOKUPS = 256;

/**
 * Where a next hop of 4, 16 or 32 octets (global, then link-local) leads. `ifindex` names the link shared with the neighbour, 0 = none: a pair
 * is resolved by its link-local half then, else by its global one. Interior cost is 0 on a connected link, else the kernel's metric, at
 * least 1; a tunnel changes neither. An IPv4-mapped IPv6 next hop is unreachable whatever the routes say: it means 6PE (RFC 4798), which needs labels.
 */
export function resolve(table: RoutingTable, nextHop: Uint8Array, ifindex: number, own?: OwnWays, tunnels?: Tunnels): Resolution {
  const search = new Search(table, own, tunnels);
  const resolution = search.resolve(nextHop, ifindex);
  if (search.links.length > 0) resolution.links = search.links;
  if (search.looped) resolution.looped = true;
  return resolution;
}

/** The address by which a next hop is resolved. */
export function decisiveAddress(nextHop: Uint8Array, ifindex: number): Uint8Array {
  if (nextHop.length !== 32) return nextHop;
  const linkLocal = nextHop.subarray(16);
  return ifindex !== 0 && isLinkLocal(linkLocal) ? linkLocal : nextHop.subarray(0, 16);
}

class Search {
  readonly links: number[] = [];
  looped = false;
  readonly #table: RoutingTable;
  readonly #own: OwnWays | undefined;
  readonly #tunnels: Tunnels | undefined;
  /** Next hops whose ways are being looked for, the one asked about first. */
  readonly #asked: Uint8Array[] = [];
  #lookups = 0;

  constructor(table: RoutingTable, own: OwnWays | undefined, tunnels: Tunnels | undefined) {
    this.#table = table;
    this.#own = own;
    this.#tunnels = tunnels;
  }

  resolve(pair: Uint8Array, ifindex: number): Resolution {
    const nextHop = decisiveAddress(pair, ifindex);
    const refused = unusableAddress(nextHop);
    if (refused) return unreachable(refused);
    if (isLinkLocal(nextHop)) return this.#linkLocal(nextHop, ifindex);
    if (this.#table.isLocal(nextHop)) return unreachable("it is one of our own addresses");
    const end = this.#tunnels?.endOf(nextHop);
    if (end) return this.#behindEnd(nextHop, end);
    return this.#throughTunnel(nextHop, this.#byRoutes(nextHop));
  }

  /** There is no way but the tunnel. */
  #behindEnd(nextHop: Address, end: Address): Resolution {
    const way = this.#byRoutes(end);
    if (!way.reachable) return unreachable(`the tunnel's end ${formatAddress(end)} is not reached: ${way.reason}`);
    const hop = this.#tunnels?.around(nextHop, false);
    if (!hop) return unreachable(`there is no tunnel to ${formatAddress(end)}`);
    const reason = `${this.#tunnels?.words(hop)}, whose end ${formatAddress(end)} is reached ${way.reason}`;
    return { ...way, connected: false, metric: Math.max(1, way.metric), hops: [hop], reason };
  }

  #throughTunnel(nextHop: Address, resolution: Resolution): Resolution {
    const hop = resolution.reachable ? this.#tunnels?.around(nextHop, resolution.connected) : undefined;
    if (!hop) return resolution;
    return { ...resolution, tunnelled: [hop], reason: `${this.#tunnels?.words(hop)}, which is reached ${resolution.reason}` };
  }

  #byRoutes(nextHop: Address): Resolution {
    const table = this.#table;
    let noCarrier: string | undefined;
    for (const { row, own, length } of table.routesTo(nextHop, this.#own)) {
      const prefix = formatPrefix({ address: maskAddress(nextHop, length), length });
      // The kernel keeps a route whose link has lost its carrier: a shorter prefix is no way round it.
      if (noCarrier !== undefined && !noCarrier.startsWith(`route ${prefix}:`)) break;
      if (own) {
        if (own.nextHops === "discard") return unreachable(`our route ${prefix} discards what no longer prefix takes`);
        const through = this.#through(nextHop, own, own.nextHops, prefix);
        if (through) return through;
        continue;
      }
      if (row.type !== "unicast") return unreachable(`route ${prefix} is of type ${row.type}`);
      const alive = row.hops.filter(hop => this.#link(hop.ifindex)?.up);
      const usable = alive.filter(hop => table.links.get(hop.ifindex)?.carrier);
      if (usable.length > 0) return this.#resolved(nextHop, `route ${prefix}`, row, usable);
      if (alive.length > 0) noCarrier ??= `route ${prefix}: ${table.linkName(alive[0].ifindex)} has no carrier`;
    }
    return unreachable(noCarrier ?? (this.looped ? "no route but those that lead back to it" : "no route"));
  }

  /** The ways of a route of ours; undefined = it has none but those that need what is asked about. */
  #through(nextHop: Address, { family, prefix }: OwnRow, nextHops: readonly number[], text: string): Resolution | undefined {
    if (!this.#own || this.#asked.length >= MAX_DEPTH) {
      this.looped = true;
      return undefined;
    }
    this.#asked.push(nextHop);
    const through = [{ family, prefix }];
    const hops: NextHop[] = [];
    const tunnelled: NextHop[] = [];
    let hasTunnel = false;
    for (const id of nextHops) {
      const inner = this.#own.nextHop(id);
      const address = decisiveAddress(inner.nextHop, inner.ifindex);
      if (this.#asked.some(asked => sameOctets(asked, address)) || ++this.#lookups > MAX_LOOKUPS) {
        this.looped = true;
        continue;
      }
      const resolution = this.resolve(inner.nextHop, inner.ifindex);
      if (!resolution.reachable) continue;
      addHops(hops, resolution.hops);
      addHops(tunnelled, resolution.tunnelled ?? resolution.hops);
      hasTunnel ||= resolution.tunnelled !== undefined;
      through.push(...(resolution.through ?? []));
    }
    this.#asked.pop();
    if (hops.length === 0) return undefined;
    const reason = `${this.#words(hasTunnel ? tunnelled : hops)} (our route ${text})`;
    const tunnels = hasTunnel && { tunnelled: weighted(tunnelled) };
    return { reachable: true, metric: RECURSIVE_COST, hops: weighted(hops), connected: false, ...tunnels, reason, through };
  }

  #resolved(nextHop: Address, route: string, row: RouteRow, usable: NextHop[]): Resolution {
    const connected = usable.every(hop => hop.gateway === undefined);
    const hops = weighted(
      usable.map(hop => {
        const through: NextHop = { gateway: hop.gateway ?? nextHop, ifindex: hop.ifindex, weight: hop.weight };
        if (hop.onlink) through.onlink = true;
        return through;
      }),
    );
    const text = connected
      ? `connected via ${hops.map(hop => this.#table.linkName(hop.ifindex)).join(", ")}`
      : `${this.#words(hops)} (${route})`;
    return { reachable: true, metric: connected ? 0 : Math.max(1, row.metric), hops, connected, reason: text };
  }

  #linkLocal(nextHop: Address, ifindex: number): Resolution {
    if (ifindex === 0) return unreachable("a link-local next hop, and no link is named for it");
    const link = this.#link(ifindex);
    if (!link) return unreachable(`the link with ifindex ${ifindex} is gone`);
    if (!link.up) return unreachable(`${link.name} is down`);
    if (!link.carrier) return unreachable(`${link.name} has no carrier`);
    // On another link it may be ours: fe80::1 is many a router's, and that of every routed pod's gateway.
    if (this.#table.isLocal(nextHop, ifindex)) return unreachable("it is one of our own addresses");
    return { reachable: true, metric: 0, hops: [{ gateway: nextHop, ifindex }], connected: true, reason: `connected via ${link.name}` };
  }

  #link(ifindex: number) {
    if (!this.links.includes(ifindex)) this.links.push(ifindex);
    return this.#table.links.get(ifindex);
  }

  #words(hops: readonly NextHop[]): string {
    return hops.map(hop => `via ${formatAddress(hop.gateway!)} dev ${this.#table.linkName(hop.ifindex)}`).join(", ");
  }
}

function addHops(hops: NextHop[], more: readonly NextHop[]): void {
  for (const hop of more) if (!hops.some(known => sameHop(known, hop))) hops.push(hop);
}

/** Members of a multipath route have a weight, a single hop has none. */
function weighted(hops: NextHop[]): NextHop[] {
  return hops.map(({ weight, ...hop }) => (hops.length > 1 ? { ...hop, weight: weight ?? 1 } : hop));
}

function unusableAddress(nextHop: Uint8Array): string | undefined {
  if (nextHop.length !== 4 && nextHop.length !== 16) return `a next hop has 4, 16 or 32 octets, not ${nextHop.length}`;
  if (nextHop.length === 4 ? nextHop[0] === 0 : nextHop.every(octet => octet === 0)) return "the unspecified address is no next hop";
  if (nextHop.length === 4 ? nextHop[0] >= 224 : nextHop[0] === 0xff) return "a multicast or reserved address is no next hop";
  if (nextHop.length === 16 && nextHop.subarray(0, 10).every(octet => octet === 0) && nextHop[10] === 0xff && nextHop[11] === 0xff) {
    return "an IPv4-mapped address: 6PE (RFC 4798) is not spoken here";
  }
  return undefined;
}

function unreachable(reason: string): Resolution {
  return { reachable: false, metric: 0, hops: [], connected: false, reason };
}

/** Everything but the words. */
export function sameResolution(a: Resolution, b: Resolution): boolean {
  return (
    a.reachable === b.reachable &&
    a.metric === b.metric &&
    a.connected === b.connected &&
    sameHops(a.hops, b.hops) &&
    (a.tunnelled === undefined) === (b.tunnelled === undefined) &&
    sameHops(a.tunnelled ?? [], b.tunnelled ?? []) &&
    sameWay(a.through ?? [], b.through ?? [])
  );
}

function sameHops(a: readonly NextHop[], b: readonly NextHop[]): boolean {
  if (a.length !== b.length) return false;
  return a.every((hop, i) => sameHop(hop, b[i]) && hop.onlink === b[i].onlink && hop.weight === b[i].weight);
}

function sameWay(a: NonNullable<Resolution["through"]>, b: NonNullable<Resolution["through"]>): boolean {
  return a.length === b.length && a.every(({ family, prefix }, i) => family === b[i].family && prefix === b[i].prefix);
}
