/** Route messages (rtnetlink(7) RTM_*ROUTE, linux/rtnetlink.h): bytes <-> Route, NewRoute, RouteKey. Pure. */
import type { Address, IpFamily } from "../net/address.ts";
import * as C from "./constants.ts";
import { align, type Bytes, forEachAttribute, type Message, type MessageWriter, readAddress, readU32 } from "./message.ts";
import type { LookupOptions, NewRoute, NextHop, Route, RouteKey } from "./types.ts";

/** struct rtmsg. */
const RTMSG = 12;
/** struct rtnexthop. */
const RTNEXTHOP = 8;

/** RTN_*, by number. */
const types = [
  "other",
  "unicast",
  "local",
  "broadcast",
  "anycast",
  "multicast",
  "blackhole",
  "unreachable",
  "prohibit",
  "throw",
] as const satisfies Route["type"][];

const discards = new Set<Route["type"]>(["blackhole", "unreachable", "prohibit", "throw"]);

/** undefined for a message of another family, or one whose destination is malformed. */
export function decodeRoute(message: Message): Route | undefined {
  const { bytes, start, end } = message;
  if (end - start < RTMSG) return undefined;
  const family: IpFamily | undefined = bytes.u8[start] === C.AF_INET ? 4 : bytes.u8[start] === C.AF_INET6 ? 6 : undefined;
  const length = bytes.u8[start + 1];
  if (family === undefined || length > (family === 4 ? 32 : 128)) return undefined;
  const route: Route = {
    family,
    destination: noAddress,
    length,
    type: types[bytes.u8[start + 7]] ?? "other",
    table: bytes.u8[start + 4],
    protocol: bytes.u8[start + 5],
    scope: bytes.u8[start + 6],
    metric: 0,
    nextHops: [],
  };
  const [sourceLength, tos] = [bytes.u8[start + 2], bytes.u8[start + 3]];
  if (tos !== 0) route.tos = tos;
  if (sourceLength !== 0) route.sourceLength = sourceLength;
  const hop: NextHop = { ifindex: 0 };
  // rtm_flags has the flags of the only next hop.
  if ((bytes.view.getUint32(start + 8, true) & C.RTNH_F_ONLINK) !== 0) hop.onlink = true;
  forEachAttribute(bytes, start + RTMSG, end, (type, from, to) => {
    decodeRouteAttribute(route, hop, bytes, type, from, to);
  });
  if (route.destination === noAddress) route.destination = new Uint8Array(family === 4 ? 4 : 16);
  else if (route.destination.length !== (family === 4 ? 4 : 16)) return undefined;
  if (route.nextHops.length === 0 && !discards.has(route.type) && (hop.ifindex !== 0 || hop.gateway !== undefined))
    route.nextHops.push(hop);
  return route;
}

const noAddress: Address = new Uint8Array();

function decodeRouteAttribute(route: Route, hop: NextHop, bytes: Bytes, type: number, from: number, to: number): void {
  switch (type) {
    case C.RTA_DST:
      route.destination = readAddress(bytes, from, to) ?? new Uint8Array(1);
      break;
    case C.RTA_TABLE:
      route.table = readU32(bytes, from, to);
      break;
    case C.RTA_PRIORITY:
      route.metric = readU32(bytes, from, to);
      break;
    case C.RTA_PREFSRC:
      route.source = readAddress(bytes, from, to);
      break;
    case C.RTA_METRICS:
      decodeMetrics(route, bytes, from, to);
      break;
    case C.RTA_MULTIPATH:
      decodeMultipath(route, bytes, from, to);
      break;
    default:
      decodeHopAttribute(hop, bytes, type, from, to);
  }
}

function decodeHopAttribute(hop: NextHop, bytes: Bytes, type: number, from: number, to: number): void {
  if (type === C.RTA_OIF) hop.ifindex = readU32(bytes, from, to);
  else if (type === C.RTA_GATEWAY) hop.gateway = readAddress(bytes, from, to);
  // struct rtvia: a family of two octets, then the address.
  else if (type === C.RTA_VIA && to - from > 2) hop.gateway = readAddress(bytes, from + 2, to);
}

function decodeMetrics(route: Route, bytes: Bytes, start: number, end: number): void {
  forEachAttribute(bytes, start, end, (type, from, to) => {
    if (type === C.RTAX_MTU) route.mtu = readU32(bytes, from, to);
  });
}

function decodeMultipath(route: Route, bytes: Bytes, start: number, end: number): void {
  for (let at = start; at + RTNEXTHOP <= end; ) {
    const length = bytes.view.getUint16(at, true);
    if (length < RTNEXTHOP || length > end - at) return;
    const hop: NextHop = { ifindex: bytes.view.getUint32(at + 4, true), weight: bytes.u8[at + 3] + 1 };
    if ((bytes.u8[at + 2] & C.RTNH_F_ONLINK) !== 0) hop.onlink = true;
    forEachAttribute(bytes, at + RTNEXTHOP, at + length, (type, from, to) => {
      decodeHopAttribute(hop, bytes, type, from, to);
    });
    route.nextHops.push(hop);
    at += align(length);
  }
}

/** Body of RTM_NEWROUTE. */
export function encodeNewRoute(writer: MessageWriter, route: NewRoute): void {
  const type = route.type ?? "unicast";
  encodeHeader(writer, route, type, route.scope ?? defaultScope(route, type), route.protocol);
  encodeKeyAttributes(writer, route);
  if (route.source !== undefined) writer.attribute(C.RTA_PREFSRC, route.source);
  if (route.mtu !== undefined) {
    const metrics = writer.open(C.RTA_METRICS);
    writer.attributeU32(C.RTAX_MTU, route.mtu);
    writer.close(metrics);
  }
  encodeNextHops(writer, route.family, route.nextHops);
}

/** Body of RTM_DELROUTE. What is absent matches anything. */
export function encodeRouteKey(writer: MessageWriter, key: RouteKey): void {
  encodeHeader(writer, key, key.type ?? "other", C.RT_SCOPE_NOWHERE, key.protocol ?? C.RTPROT_UNSPEC);
  encodeKeyAttributes(writer, key);
  encodeNextHops(writer, key.family, key.nextHops ?? []);
}

/** Body of a filtered dump (NETLINK_GET_STRICT_CHK): the kernel leaves out what does not match. */
export function encodeRouteDump(writer: MessageWriter, family: IpFamily, filter: { table?: number; protocol?: number }): void {
  const key = { family, length: 0, table: filter.table ?? 0 };
  encodeHeader(writer, key, "other", C.RT_SCOPE_UNIVERSE, filter.protocol ?? C.RTPROT_UNSPEC);
  if (filter.table !== undefined) writer.attributeU32(C.RTA_TABLE, filter.table);
}

/** Body of RTM_GETROUTE for one packet. */
export function encodeLookup(writer: MessageWriter, destination: Address, options: LookupOptions, flags = 0): void {
  writer.u8(destination.length === 4 ? C.AF_INET : C.AF_INET6);
  writer.u8(destination.length * 8);
  writer.u8(options.source === undefined ? 0 : options.source.length * 8);
  for (let i = 0; i < 5; i++) writer.u8(0);
  // IPv6 names the table unasked and refuses the flag.
  writer.u32(flags | (destination.length === 4 ? C.RTM_F_LOOKUP_TABLE : 0));
  writer.attribute(C.RTA_DST, destination);
  if (options.source !== undefined) writer.attribute(C.RTA_SRC, options.source);
  if (options.ifindex !== undefined && options.ifindex !== 0) writer.attributeU32(C.RTA_OIF, options.ifindex);
  if (options.mark !== undefined && options.mark !== 0) writer.attributeU32(C.RTA_MARK, options.mark);
}

type Header = Pick<RouteKey, "family" | "length" | "table" | "nextHops">;

function encodeHeader(writer: MessageWriter, route: Header, type: Route["type"], scope: number, protocol: number): void {
  const table = route.table ?? C.RT_TABLE_MAIN;
  writer.u8(route.family === 4 ? C.AF_INET : C.AF_INET6);
  writer.u8(route.length);
  writer.u8(0);
  writer.u8(0);
  writer.u8(table < 256 ? table : C.RT_TABLE_COMPAT);
  writer.u8(protocol);
  writer.u8(scope);
  // "other" has index 0: RTN_UNSPEC, which matches any type on deletion.
  writer.u8(types.indexOf(type as (typeof types)[number]));
  const hops = route.nextHops;
  writer.u32(hops?.length === 1 && hops[0].onlink === true ? C.RTNH_F_ONLINK : 0);
}

function encodeKeyAttributes(writer: MessageWriter, route: Pick<NewRoute, "family" | "destination" | "table" | "metric">): void {
  const octets = route.family === 4 ? 4 : 16;
  if (route.destination.length !== octets) {
    throw new RangeError(`an IPv${route.family} destination has ${octets} octets, not ${route.destination.length}`);
  }
  writer.attribute(C.RTA_DST, route.destination);
  if (route.table !== undefined && route.table > 255) writer.attributeU32(C.RTA_TABLE, route.table);
  if (route.metric !== undefined && route.metric !== 0) writer.attributeU32(C.RTA_PRIORITY, route.metric);
}

/** What ip-route(8) chooses. IPv6 has no scopes. */
function defaultScope(route: NewRoute, type: Route["type"]): number {
  if (route.family === 6) return C.RT_SCOPE_UNIVERSE;
  if (type === "local") return C.RT_SCOPE_HOST;
  if (type === "broadcast" || type === "multicast" || type === "anycast") return C.RT_SCOPE_LINK;
  if (type === "unicast" && !route.nextHops.some(hop => hop.gateway !== undefined)) return C.RT_SCOPE_LINK;
  return C.RT_SCOPE_UNIVERSE;
}

function encodeNextHops(writer: MessageWriter, family: IpFamily, hops: readonly NextHop[]): void {
  if (hops.length === 1) {
    if (hops[0].ifindex !== 0) writer.attributeU32(C.RTA_OIF, hops[0].ifindex);
    encodeGateway(writer, family, hops[0]);
  } else if (hops.length > 1) {
    const multipath = writer.open(C.RTA_MULTIPATH);
    for (const hop of hops) encodeMember(writer, family, hop);
    writer.close(multipath);
  }
}

/** struct rtnexthop and its attributes. */
function encodeMember(writer: MessageWriter, family: IpFamily, hop: NextHop): void {
  const at = writer.length;
  const weight = hop.weight ?? 1;
  if (!(weight >= 1 && weight <= 256 && Number.isInteger(weight)))
    throw new RangeError(`a next hop has a weight of 1 to 256, not ${weight}`);
  writer.u16(0);
  writer.u8(hop.onlink === true ? C.RTNH_F_ONLINK : 0);
  writer.u8(weight - 1);
  writer.u32(hop.ifindex);
  encodeGateway(writer, family, hop);
  writer.close(at);
}

function encodeGateway(writer: MessageWriter, family: IpFamily, hop: NextHop): void {
  const { gateway } = hop;
  if (gateway === undefined) return;
  if (family === 4 && gateway.length === 16) {
    const via = new Uint8Array(18);
    via[0] = C.AF_INET6;
    via.set(gateway, 2);
    writer.attribute(C.RTA_VIA, via);
  } else {
    writer.attribute(C.RTA_GATEWAY, gateway);
  }
}
