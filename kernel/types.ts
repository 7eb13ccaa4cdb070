/**
 * The objects of rtnetlink as podlane sees them (linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, fib_rules.h).
 * Addresses are octets in network order; names are the kernel's own.
 */
import type { Address, IpFamily } from "../net/address.ts";

export interface Link {
  index: number;
  name: string;
  /** IFLA_INFO_KIND: veth, bridge, vxlan, …; "" for a physical or loopback device. */
  kind: string;
  up: boolean;
  /** IFF_LOWER_UP: carrier. */
  carrier: boolean;
  loopback: boolean;
  mtu: number;
  /** 6 octets for Ethernet, empty where the device has none. */
  address: Uint8Array;
  /** ifindex of the bridge or bond it belongs to; 0 = none. */
  master: number;
  /** ifindex of the veth peer or lower device; 0 = none. */
  peerIndex: number;
  /** IFLA_LINK_NETNSID of the peer; -1 = this namespace. */
  peerNetnsId: number;
  /** IFLA_IFALIAS. */
  alias: string;
  /** Bridge port: state forwarding. Carrier is not enough, the bridge takes notice of it a little later. Absent: no bridge port. */
  forwarding?: boolean;
  vxlan?: { id: number; port: number; local?: Address; group?: Address; device: number; learning: boolean };
  /** Bridge: IPv4 and IPv6 packets between its ports pass netfilter, whatever net.bridge.bridge-nf-call-iptables says. Absent: the kernel cannot. */
  netfilter?: boolean;
}

export type NewLink = { name: string; mtu?: number; address?: Uint8Array; up?: boolean; master?: number; alias?: string } & (
  | {
      kind: "veth";
      peer: { name: string; mtu?: number; address?: Uint8Array /** file descriptor of the peer's namespace */; netnsFd?: number };
    }
  | { kind: "bridge" }
  | { kind: "dummy" }
  | { kind: "vxlan"; id: number; port: number; local?: Address; device?: number; learning: boolean }
);

export interface LinkChange {
  name?: string;
  up?: boolean;
  mtu?: number;
  /** 0 = leave the bridge. */
  master?: number;
  address?: Uint8Array;
  alias?: string;
  /** IFLA_GROUP: a number by which several links can be meant at once; 0 = the group that every link starts in. */
  group?: number;
  /** Move the device into the namespace of this descriptor. */
  netnsFd?: number;
  /** Bridge port: let a frame leave through the port it came in by. */
  hairpin?: boolean;
  /** Bridge: see Link.netfilter. Of no effect while the kernel's module br_netfilter is missing. */
  netfilter?: boolean;
}

export interface InterfaceAddress {
  ifindex: number;
  address: Address;
  prefixLength: number;
  /** IFA_ADDRESS where it differs (point-to-point). */
  peer?: Address;
  /** RT_SCOPE_*: 0 universe, 253 link, 254 host. */
  scope: number;
  /** IFA_F_*. */
  flags: number;
}

/** IFA_F_NODAD etc. are in constants.ts. */
export interface NewAddress {
  ifindex: number;
  address: Address;
  prefixLength: number;
  scope?: number;
  /** IPv6: usable at once, no duplicate address detection. */
  nodad?: boolean;
  /** Do not create the connected route. */
  noPrefixRoute?: boolean;
}

export interface Neighbour {
  ifindex: number;
  /** Absent for a bridge FDB entry. */
  address?: Address;
  linkAddress?: Uint8Array;
  /** NUD_*: 0x80 = permanent. */
  state: number;
  /** NTF_*. */
  flags: number;
  family: IpFamily | "bridge";
  /** VXLAN FDB: remote tunnel endpoint. */
  destination?: Address;
}

export interface NextHop {
  /** Absent: directly on the link. Octets of 16 on an IPv4 route = IPv4 via IPv6 next hop (RTA_VIA). */
  gateway?: Address;
  /** 0 = let the kernel resolve the gateway. */
  ifindex: number;
  /** RTNH_F_ONLINK. */
  onlink?: boolean;
  /** 1..256. */
  weight?: number;
}

export interface Route {
  family: IpFamily;
  /** 4 or 16 octets, host bits zero. */
  destination: Address;
  length: number;
  /** RTN_*: "unicast", or a discard. */
  type: "unicast" | "blackhole" | "unreachable" | "prohibit" | "local" | "broadcast" | "anycast" | "multicast" | "throw" | "other";
  /** 254 = main. */
  table: number;
  /** rtm_protocol: 2 kernel, 3 boot, 4 static, 186 BGP, … */
  protocol: number;
  scope: number;
  /** RTA_PRIORITY. 0 where absent. */
  metric: number;
  /** One = plain, several = multipath; empty for discards. */
  nextHops: NextHop[];
  /** RTA_PREFSRC. */
  source?: Address;
  /** RTAX_MTU. */
  mtu?: number;
  /** rtm_tos: IPv4 packets with this DS field only. Absent: all. */
  tos?: number;
  /** rtm_src_len: packets from a source prefix of this length only. Absent: all. */
  sourceLength?: number;
}

/**
 * Where a new route stands among those of the same prefix, table and metric: behind them, before them, or in the place of the first. IPv6 has
 * no "prepend", and gives the whole of a multipath route that a member joined.
 */
export type RouteOrder = "append" | "prepend" | "replace";

/** What to install; absent fields have the kernel's defaults (table main, scope from type). */
export type NewRoute = Pick<Route, "family" | "destination" | "length" | "protocol" | "nextHops"> &
  Partial<Pick<Route, "type" | "table" | "scope" | "metric" | "source" | "mtu">>;

/** Deletion matches on these; protocol, where given, keeps foreign routes safe. */
export type RouteKey = Pick<Route, "family" | "destination" | "length"> &
  Partial<Pick<Route, "type" | "table" | "protocol" | "metric" | "nextHops">>;

export interface Rule {
  family: IpFamily;
  priority: number;
  table: number;
  source?: { address: Address; length: number };
  destination?: { address: Address; length: number };
  inputInterface?: string;
  outputInterface?: string;
  mark?: number;
  protocol?: number;
  /** "not": it takes what all that is selected here leaves. */
  inverted?: boolean;
  /** A route of the table that is no longer than this is passed over (unless it discards), and the next rule is asked. */
  suppressPrefixLength?: number;
  /** It selects by more than what is here: a DS field, ports, users, tunnels, a VRF. */
  otherSelectors?: boolean;
}

/** What the kernel does with a packet of this node: the route that matched, or why there is none. */
export type RouteMatch = { route: Route } | { route?: undefined; discard: "blackhole" | "prohibit" | "unreachable" | "no route" };

export type KernelEvent =
  | { type: "link"; action: "new" | "delete"; link: Link }
  | { type: "address"; action: "new" | "delete"; address: InterfaceAddress }
  | { type: "route"; action: "new"; route: Route; order: RouteOrder }
  | { type: "route"; action: "delete"; route: Route }
  | { type: "neighbour"; action: "new" | "delete"; neighbour: Neighbour }
  /** A setting of IPv4 or IPv6 changed (forwarding, rp_filter …), of some device or of all: RTM_NEWNETCONF. */
  | { type: "configuration" }
  /** ENOBUFS: events were lost; whoever keeps state dumps again. */
  | { type: "overrun" };

/** A token bucket (tc-tbf(8)): what leaves by a link. */
export interface TokenBucket {
  /** Octets in a second. */
  rate: number;
  /** Octets that may leave at once. */
  burst: number;
  /** Octets that may wait; what comes beyond is dropped. */
  limit: number;
}

export interface LookupOptions {
  source?: Address;
  ifindex?: number;
  mark?: number;
}

/**
 * One rtnetlink socket in one namespace. All requests but deleteLinks() are synchronous: the kernel answers within sendmsg(2).
 * Every failure throws NetlinkError.
 */
export interface Rtnetlink {
  links(): Link[];
  /** undefined where there is none. */
  link(nameOrIndex: string | number): Link | undefined;
  /** The other end of a pair, which need not be in this namespace. undefined: it is no pair, or was just removed. */
  peer(link: Pick<Link, "peerIndex" | "peerNetnsId">): Link | undefined;
  addLink(link: NewLink): Link;
  setLink(index: number, change: LinkChange): void;
  deleteLink(index: number): void;
  /**
   * Deletes links, a veth with its peer, without blocking the thread; one that is gone already is no error. Throws where the namespace
   * cannot be asked; what the kernel refuses is in `gone`.
   */
  deleteLinks(indexes: readonly number[]): LinkDeletion;
  addresses(ifindex?: number): InterfaceAddress[];
  /** NLM_F_REPLACE: adding what is there is no error. */
  addAddress(address: NewAddress): void;
  deleteAddress(address: Pick<InterfaceAddress, "ifindex" | "address" | "prefixLength">): void;
  neighbours(family: IpFamily | "bridge", ifindex?: number): Neighbour[];
  /** Addresses that the node answers for on a link, in place of who has them: set and deleted as neighbours with NTF_PROXY. */
  proxies(family: IpFamily, ifindex: number): Address[];
  setNeighbour(neighbour: Neighbour): void;
  deleteNeighbour(neighbour: Neighbour): void;
  /** Many changes in few system calls, like batchRoutes(): "set" is setNeighbour() but for flood entries, which it replaces. */
  batchNeighbours(changes: readonly NeighbourChange[]): { index: number; error: Error }[];
  /** Chunk by chunk, one recv(2) each, so that a caller can yield to the event loop between chunks. */
  routes(filter?: { family?: IpFamily; table?: number; protocol?: number }): Iterable<Route[]>;
  /** What the kernel would do with a packet (RTM_GETROUTE with an address); undefined = unreachable. */
  lookup(destination: Address, options?: LookupOptions): Route | undefined;
  /** The same, as the route of the table that matched, with its prefix, protocol, metric and all its next hops. */
  match(destination: Address, options?: LookupOptions): RouteMatch;
  /**
   * NLM_F_CREATE | NLM_F_REPLACE. The kernel replaces whatever route has this destination, table and metric, also one of another protocol:
   * who shares a table with others uses a metric of his own. IPv6 reads metric 0 as 1024.
   */
  replaceRoute(route: NewRoute): void;
  /** NLM_F_CREATE | NLM_F_EXCL. */
  addRoute(route: NewRoute): void;
  /** ESRCH where nothing matches. Metric 0, like an absent one, matches any metric (the lowest goes first). */
  deleteRoute(route: RouteKey): void;
  /** Many changes in few system calls. Errors come singly by index into `changes`; the others are carried out. */
  batchRoutes(changes: readonly RouteChange[]): { index: number; error: Error }[];
  /** In place of whatever queueing discipline the link has. It goes with the link. */
  setTokenBucket(ifindex: number, bucket: TokenBucket): void;
  /** undefined where the link has none. The kernel does not tell the burst. */
  tokenBucket(ifindex: number): Omit<TokenBucket, "burst"> | undefined;
  rules(family: IpFamily): Rule[];
  addRule(rule: Rule): void;
  deleteRule(rule: Rule): void;
  /** Whether the device leaves checksums of what it sends to the hardware below it (`ethtool -k`, tx-checksumming). Throws SystemCallError. */
  checksumOffload(name: string): boolean;
  setChecksumOffload(name: string, on: boolean): void;
  close(): void;
}

/** The kernel takes a link out of sight in about 1 ms, and then waits about 20 ms until nobody can use its memory any more. */
export interface LinkDeletion {
  /** None of the links is in the namespace any more: no packets, and the names are free. Rejects with NetlinkError. */
  gone: Promise<void>;
  /** The kernel has finished, well or badly: the thread of the C library that was used is free again. Never rejects. */
  finished: Promise<void>;
}

/** "add" fails with EEXIST where the prefix has a route of the same metric, whoever owns it; "replace" overwrites it. */
export type RouteChange = { action: "add" | "replace"; route: NewRoute } | { action: "delete"; route: RouteKey };
export interface NeighbourChange {
  action: "set" | "delete";
  neighbour: Neighbour;
}
