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
  type IpFamily,
  isLinkLocal,
  maskAddress,
  type Prefix,
  sameOctets,
} from "../../net/address.ts";
import { PrefixTable, wordsOf } from "../table/prefix-table.ts";
import type { OwnRoute, OwnWays, RouteRow } from "./types.ts";

/** What is written, or about to be, for a prefix of ours. */
export interface OwnRow extends OwnRoute {
  metric: number;
  /** Ids of the tracker. */
  nextHops: number[] | "discard";
}

/** One of both. */
export type Candidate = { row: RouteRow; own?: undefined; length: number } | { row?: undefined; own: OwnRow; length: number };

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
  /** The links that have an address, by its octets: each pod's link may have the same ones, and next hops are many. */
  readonly #holders = new Map<string, number[]>();
  readonly #families: Record<4 | 6, FamilyRoutes> = { 4: noRoutes(4), 6: noRoutes(6) };
  readonly #rows: Map<string, RouteRow>;

  /** `former`: the table that this one will take the place of. They share equal rows. */
  constructor(former?: RoutingTable) {
    this.#rows = former ? former.#rows : new Map();
  }

  setLink(link: Link): void {
    this.links.set(link.index, link);
  }

  deleteLink(index: number): void {
    this.links.delete(index);
    for (const address of [...this.#addresses.values()]) if (address.ifindex === index) this.deleteAddress(address);
  }

  setAddress(entry: InterfaceAddress): void {
    const key = addressKey(entry);
    if (!this.#addresses.has(key)) {
      const octets = entry.address.join(".");
      this.#holders.set(octets, [...(this.#holders.get(octets) ?? []), entry.ifindex]);
    }
    this.#addresses.set(key, entry);
  }

  deleteAddress(entry: InterfaceAddress): void {
    if (!this.#addresses.delete(addressKey(entry))) return;
    const octets = entry.address.join(".");
    const holders = this.#holders.get(octets) ?? [];
    if (holders.length < 2) this.#holders.delete(octets);
    else this.#holders.set(octets, holders.toSpliced(holders.indexOf(entry.ifindex), 1));
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

  /** Those of this very prefix, in the order in which the kernel tries them. */
  routesOf(prefix: Prefix): readonly RouteRow[] {
    const { prefixes, rows } = this.#families[prefix.family];
    const id = prefixes.findPrefix(prefix);
    return id === 0 ? noRows : rows[id];
  }

  addresses(): InterfaceAddress[] {
    return [...this.#addresses.values()];
  }

  /** `ifindex`: the link that an address is meant on which is unique on its link alone; 0 = none. */
  isLocal(address: Address, ifindex = 0): boolean {
    if (address.length === 4 && address[0] === 127) return true;
    const holders = this.#holders.get(address.join("."));
    return holders !== undefined && (ifindex === 0 || holders.includes(ifindex));
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

  /**
   * All routes for an address, longest prefix first, then as the kernel tries them. Of two with one prefix and metric that of another owner goes
   * first: ours cannot be written then.
   */
  *routesTo(address: Address, own?: OwnWays): Generator<Candidate> {
    const family = address.length === 4 ? 4 : 6;
    const { prefixes, rows, lengths } = this.#families[family];
    for (let length = address.length * 8; length >= 0; length--) {
      const mayBeOurs = own?.routes.hasLength(family, length) === true;
      if (lengths[length] === 0 && !mayBeOurs) continue;
      const masked = maskAddress(address, length);
      const [w0, w1, w2, w3] = wordsOf(masked);
      const id = lengths[length] === 0 ? 0 : prefixes.find(w0, w1, w2, w3, length);
      const known = id === 0 ? noRows : rows[id];
      const ours = mayBeOurs ? ownRow(own, family, masked, length) : undefined;
      const before = ours ? known.filter(row => place(row) <= ours.metric) : known;
      for (const row of before) yield { row, length };
      if (!ours) continue;
      yield { own: ours, length };
      for (const row of known.slice(before.length)) yield { row, length };
    }
  }

  /** Calls `visit` for each prefix whose routes are not those of `other`, which must have been made from this table; yields now and then. */
  *differences(other: RoutingTable, visit: (prefix: Prefix) => void): Generator<void> {
    for (const family of [4, 6] as const) {
      for (const [from, to] of [
        [this.#families[family], other.#families[family]],
        [other.#families[family], this.#families[family]],
      ]) {
        for (let id = 1; id < from.prefixes.limit; id++) {
          if ((id & 255) === 0) yield;
          const rows = from.rows[id] ?? noRows;
          if (rows.length === 0) continue;
          const prefix = from.prefixes.prefix(id);
          const others = to.rows[to.prefixes.findPrefix(prefix)] ?? noRows;
          if (rows.length !== others.length || rows.some((row, i) => row !== others[i])) visit(prefix);
        }
      }
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
    if (this.#rows.size >= MAX_ROWS) this.#rows.clear();
    this.#rows.set(key, row);
    return row;
  }
}

export function sameHop(a: NextHop, b: NextHop): boolean {
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

function ownRow(own: OwnWays, family: IpFamily, masked: Address, length: number): OwnRow | undefined {
  const prefix = own.routes.find({ family, address: masked, length });
  const nextHops = prefix === 0 ? [] : own.routes.nextHops(family, prefix);
  if (nextHops.length === 0) return undefined;
  const { unicast, discard } = own.metrics[family];
  return { family, prefix, nextHops, metric: nextHops === "discard" ? discard : unicast };
}

/** The local table is asked first. */
function place({ table, metric }: RouteRow): number {
  return table === LOCAL_TABLE ? -1 : metric;
}

/** Whether IPv6 makes one multipath route of this one and others of its prefix and metric. */
function sharesLoad({ protocol, hops }: RouteRow): boolean {
  return protocol !== PROTOCOL_RA && hops.length > 0 && hops.every(hop => hop.gateway !== undefined);
}

const MAX_ROWS = 10_000;
const noRows: RouteRow[] = [];

function noRoutes(family: 4 | 6): FamilyRoutes {
  return { prefixes: new PrefixTable(family), rows: [], lengths: new Uint32Array(family === 4 ? 33 : 129) };
}

function addressKey({ ifindex, address, prefixLength }: InterfaceAddress): string {
  return `${ifindex} ${address.join(".")}/${prefixLength}`;
}
