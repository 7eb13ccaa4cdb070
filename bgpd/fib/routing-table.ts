/**
 * A copy of the kernel's links, addresses and routes of other owners, and what they say about a next hop (RFC 4271 section 9.1.2.1). Pure: it
 * is fed with dumps and events and asked; it reads nothing itself. Like rows of routes are one object, so a foreign full table costs
 * about thirty octets a prefix.
 */
import type { InterfaceAddress, Link, NextHop, Route, RouteOrder } from "../../kernel/types.ts";
import {
  type Address,
  compareOctets,
  contains,
  formatAddress,
  formatPrefix,
  type IpFamily,
  isLinkLocal,
  maskAddress,
  sameOctets,
} from "../../net/address.ts";
import { PrefixTable, wordsOf } from "../rib/prefix-table.ts";
import type { Resolution } from "./types.ts";

/** What is kept of a route; shared by all prefixes for which it is the same. */
interface RouteRow {
  type: Route["type"];
  protocol: number;
  table: number;
  metric: number;
  hops: NextHop[];
}

type FamilyRoutes = {
  prefixes: PrefixTable;
  /** By prefix id; in the order in which the kernel tries them. */
  rows: RouteRow[][];
  /** How many prefixes there are of each length. */
  lengths: Uint32Array;
};

/** RTPROT_RA: learned from a router advertisement. */
const PROTOCOL_RA = 9;
export const LOCAL_TABLE = 255;

export class RoutingTable {
  readonly links = new Map<number, Link>();
  readonly #addresses = new Map<string, InterfaceAddress>();
  readonly #families: Record<4 | 6, FamilyRoutes> = { 4: noRoutes(4), 6: noRoutes(6) };
  readonly #rows = new Map<string, RouteRow>();

  setLink(link: Link): void {
    this.links.set(link.index, link);
  }

  deleteLink(index: number): void {
    this.links.delete(index);
    for (const [key, address] of this.#addresses) if (address.ifindex === index) this.#addresses.delete(key);
  }

  setAddress(address: InterfaceAddress): void {
    this.#addresses.set(addressKey(address), address);
  }

  deleteAddress(address: InterfaceAddress): void {
    this.#addresses.delete(addressKey(address));
  }

  /** Takes a route in where the kernel has it among those of its prefix. The routes of a dump come in order: each is appended. */
  setRoute(route: Route, order: RouteOrder = "append"): void {
    const { prefixes, rows, lengths } = this.#families[route.family];
    const before = prefixes.size;
    const id = prefixes.internPrefix({ family: route.family, address: route.destination, length: route.length });
    if (prefixes.size > before) {
      rows[id] = [];
      lengths[route.length]++;
    }
    rows[id] = withRow(rows[id], this.#row(route), order, route.family);
  }

  /** The loss of a member of an IPv6 multipath route is announced by itself: only the hops named go then. */
  deleteRoute(route: Route): void {
    const { prefixes, rows, lengths } = this.#families[route.family];
    const id = prefixes.findPrefix({ family: route.family, address: route.destination, length: route.length });
    if (id === 0) return;
    const gone = this.#row(route);
    rows[id] = rows[id].flatMap(row => {
      if (row === gone) return [];
      const same = row.table === gone.table && row.metric === gone.metric && row.protocol === gone.protocol && row.type === gone.type;
      if (!same || route.family === 4) return [row];
      const hops = row.hops.filter(hop => !gone.hops.some(other => sameHop(hop, other)));
      return hops.length === row.hops.length ? [row] : hops.length === 0 ? [] : [this.#internRow({ ...row, hops })];
    });
    if (rows[id].length > 0) return;
    rows[id] = noRows;
    lengths[route.length]--;
    prefixes.free(id);
  }

  addresses(): InterfaceAddress[] {
    return [...this.#addresses.values()];
  }

  isLocal(address: Address): boolean {
    if (address.length === 4 && address[0] === 127) return true;
    for (const local of this.#addresses.values()) if (sameOctets(local.address, address)) return true;
    return false;
  }

  /** Whether one subnet of one of our links, host routes aside, holds both. Link-local addresses say nothing about their link: false. */
  sharesSubnet(a: Address, b: Address): boolean {
    if (isLinkLocal(a) || isLinkLocal(b)) return false;
    for (const { address, peer, prefixLength, ifindex } of this.#addresses.values()) {
      if (prefixLength === address.length * 8 || !this.links.get(ifindex)?.up) continue;
      const family = address.length === 4 ? 4 : 6;
      const subnet = { family, address: maskAddress(peer ?? address, prefixLength), length: prefixLength } as const;
      if (contains(subnet, a) && contains(subnet, b)) return true;
    }
    return false;
  }

  /** All routes for an address, longest prefix first, then by metric. */
  *routesTo(address: Address): Generator<{ row: RouteRow; length: number }> {
    const { prefixes, rows, lengths } = this.#families[address.length === 4 ? 4 : 6];
    for (let length = address.length * 8; length >= 0; length--) {
      if (lengths[length] === 0) continue;
      const [w0, w1, w2, w3] = wordsOf(maskAddress(address, length));
      const id = prefixes.find(w0, w1, w2, w3, length);
      if (id !== 0) for (const row of rows[id]) yield { row, length };
    }
  }

  linkName(ifindex: number): string {
    return this.links.get(ifindex)?.name ?? `ifindex ${ifindex}`;
  }

  #row(route: Route): RouteRow {
    return this.#internRow({
      type: route.type,
      protocol: route.protocol,
      table: route.table,
      metric: route.metric,
      // An event and a dump may name members in different order.
      hops: route.nextHops.length > 1 ? [...route.nextHops].sort(compareHops) : route.nextHops,
    });
  }

  #internRow(row: RouteRow): RouteRow {
    const hops = row.hops.map(hop => `${hop.gateway?.join(".") ?? ""}%${hop.ifindex}*${hop.weight ?? 1}${hop.onlink ? "!" : ""}`);
    const key = `${row.type} ${row.protocol} ${row.table} ${row.metric} ${hops.join(" ")}`;
    const known = this.#rows.get(key);
    if (known) return known;
    // Rows are few; where an owner changes them without end, those in use go on being used, and only sharing is lost.
    if (this.#rows.size >= maxRows) this.#rows.clear();
    this.#rows.set(key, row);
    return row;
  }
}

/**
 * Where a next hop of 4, 16 or 32 octets (global, then link-local) leads. `ifindex` names the link shared with the neighbour, 0 = none: a pair
 * is resolved by its link-local half then, else by its global one. Interior cost is 0 on a connected link, else the kernel's metric, at
 * least 1. An IPv4-mapped IPv6 next hop is unreachable whatever the routes say: it means 6PE (RFC 4798), which needs labels.
 */
export function resolve(table: RoutingTable, nextHop: Uint8Array, ifindex: number): Resolution {
  if (nextHop.length === 32) {
    const linkLocal = nextHop.subarray(16);
    return resolve(table, ifindex !== 0 && isLinkLocal(linkLocal) ? linkLocal : nextHop.subarray(0, 16), ifindex);
  }
  const refused = unusableAddress(nextHop);
  if (refused) return unreachable(refused);
  if (isLinkLocal(nextHop)) return resolveLinkLocal(table, nextHop, ifindex);
  if (table.isLocal(nextHop)) return unreachable("it is one of our own addresses");
  let noCarrier: string | undefined;
  for (const { row, length } of table.routesTo(nextHop)) {
    const route = `route ${formatPrefix({ address: maskAddress(nextHop, length), length })}`;
    if (row.type !== "unicast") return unreachable(`${route} is of type ${row.type}`);
    // The kernel keeps a route whose link has lost its carrier: a shorter prefix is no way round it.
    if (noCarrier !== undefined && !noCarrier.startsWith(`${route}:`)) break;
    const alive = row.hops.filter(hop => table.links.get(hop.ifindex)?.up);
    const usable = alive.filter(hop => table.links.get(hop.ifindex)?.carrier);
    if (usable.length > 0) return resolved(table, nextHop, route, row, usable);
    if (alive.length > 0) noCarrier ??= `${route}: ${table.linkName(alive[0].ifindex)} has no carrier`;
  }
  return unreachable(noCarrier ?? "no route");
}

function resolved(table: RoutingTable, nextHop: Address, route: string, row: RouteRow, usable: NextHop[]): Resolution {
  const connected = usable.every(hop => hop.gateway === undefined);
  const hops = usable.map((hop): NextHop => {
    const through: NextHop = { gateway: hop.gateway ?? nextHop, ifindex: hop.ifindex };
    if (hop.onlink) through.onlink = true;
    if (usable.length > 1) through.weight = hop.weight ?? 1;
    return through;
  });
  const text = connected
    ? `connected via ${hops.map(hop => table.linkName(hop.ifindex)).join(", ")}`
    : `${hops.map(hop => `via ${formatAddress(hop.gateway!)} dev ${table.linkName(hop.ifindex)}`).join(", ")} (${route})`;
  return { reachable: true, metric: connected ? 0 : Math.max(1, row.metric), hops, connected, reason: text };
}

function resolveLinkLocal(table: RoutingTable, nextHop: Address, ifindex: number): Resolution {
  if (ifindex === 0) return unreachable("a link-local next hop, and no link is named for it");
  const link = table.links.get(ifindex);
  if (!link) return unreachable(`the link with ifindex ${ifindex} is gone`);
  if (!link.up) return unreachable(`${link.name} is down`);
  if (!link.carrier) return unreachable(`${link.name} has no carrier`);
  if (table.isLocal(nextHop)) return unreachable("it is one of our own addresses");
  return { reachable: true, metric: 0, hops: [{ gateway: nextHop, ifindex }], connected: true, reason: `connected via ${link.name}` };
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
    a.hops.length === b.hops.length &&
    a.hops.every((hop, i) => sameHop(hop, b.hops[i]) && hop.onlink === b.hops[i].onlink && hop.weight === b.hops[i].weight)
  );
}

function sameHop(a: NextHop, b: NextHop): boolean {
  if (a.ifindex !== b.ifindex || (a.gateway === undefined) !== (b.gateway === undefined)) return false;
  return a.gateway === undefined || sameOctets(a.gateway, b.gateway!);
}

/** The rows of a prefix, in the order in which the kernel tries them, with another one. */
function withRow(rows: readonly RouteRow[], row: RouteRow, order: RouteOrder, family: IpFamily): RouteRow[] {
  const alike = (other: RouteRow) => other.table === row.table && other.metric === row.metric;
  // Read twice, by a dump and an event.
  if (order === "append" && rows.includes(row)) return [...rows];
  const others = rows.filter(other => other !== row);
  const rivals = others.filter(alike);
  let gone: RouteRow[] = [];
  if (order === "replace") {
    // IPv6 looks for one that can share the load, or cannot, as the new one.
    const first = (family === 6 && rivals.find(other => sharesLoad(other) === sharesLoad(row))) || rivals[0];
    gone = first ? [first] : [];
  } else if (family === 6 && sharesLoad(row)) {
    // A member has joined: the route comes again as a whole.
    gone = rivals.filter(other => sharesLoad(other) && other.hops.every(hop => row.hops.some(known => sameHop(known, hop))));
  }
  if (gone.length > 0) return others.flatMap(other => (other === gone[0] ? [row] : gone.includes(other) ? [] : [other]));
  const at = others.findIndex(other => (order === "prepend" ? place(other) >= place(row) : place(other) > place(row)));
  return at < 0 ? [...others, row] : others.toSpliced(at, 0, row);
}

function compareHops(a: NextHop, b: NextHop): number {
  return compareOctets(a.gateway ?? noAddress, b.gateway ?? noAddress) || a.ifindex - b.ifindex;
}

const noAddress = new Uint8Array();

/** The local table is asked first. */
function place({ table, metric }: RouteRow): number {
  return table === LOCAL_TABLE ? -1 : metric;
}

/** Whether IPv6 makes one multipath route of this one and others of its prefix and metric. */
function sharesLoad({ protocol, hops }: RouteRow): boolean {
  return protocol !== PROTOCOL_RA && hops.length > 0 && hops.every(hop => hop.gateway !== undefined);
}

const maxRows = 10_000;
const noRows: RouteRow[] = [];

function noRoutes(family: 4 | 6): FamilyRoutes {
  return { prefixes: new PrefixTable(family === 4 ? 1 : 4), rows: [], lengths: new Uint32Array(family === 4 ? 33 : 129) };
}

function addressKey({ ifindex, address, prefixLength }: InterfaceAddress): string {
  return `${ifindex} ${address.join(".")}/${prefixLength}`;
}
