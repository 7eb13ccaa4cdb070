/** The synchronous rtnetlink door (rtnetlink(7)): links, addresses, neighbours, routes and rules of one network namespace. */
import { randomInt } from "node:crypto";
import { constants } from "node:os";
import { type Address, formatAddress, type IpFamily } from "../net/address.ts";
import { decodeAddress, encodeAddress, encodeAddressDump } from "./address.ts";
import * as C from "./constants.ts";
import * as words from "./describe.ts";
import { NetlinkError } from "./error.ts";
import { readChecksumOffload, writeChecksumOffload } from "./ethtool.ts";
import { decodeLink, encodeGroupSelector, encodeHairpin, encodeLinkChange, encodeLinkSelector, encodeNewLink } from "./link.ts";
import { startLinkDeletion } from "./linkdeletion.ts";
import type { Message, MessageWriter } from "./message.ts";
import { decodeNeighbour, encodeNeighbour, encodeNeighbourDump } from "./neighbour.ts";
import { type Describe, type Encode, type Failure, type HeldNetns, holdNetns, NetlinkSocket } from "./netlinksocket.ts";
import { decodeTokenBucket, encodeRoot, encodeTokenBucket } from "./qdisc.ts";
import { decodeRoute, encodeLookup, encodeNewRoute, encodeRouteDump, encodeRouteKey } from "./route.ts";
import { decodeRule, encodeRule, encodeRuleDump } from "./rule.ts";
import type {
  InterfaceAddress,
  Link,
  LinkChange,
  LinkDeletion,
  LookupOptions,
  Neighbour,
  NeighbourChange,
  NewAddress,
  NewLink,
  NewRoute,
  Route,
  RouteChange,
  RouteKey,
  RouteMatch,
  Rtnetlink,
  Rule,
  TokenBucket,
} from "./types.ts";

const { EACCES, EBUSY, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV, ENOENT } = constants.errno;

/** Octets of one sendmsg(2) of batchRoutes(): beyond this a larger batch is not faster. */
const BATCH_OCTETS = 1 << 15;

/** A dump of routes that the kernel marks as inconsistent is begun anew, this often. */
const ROUTE_DUMPS = 8;

/** What a route that discards answers, and none at all, by errno. */
const discards = new Map<number, "blackhole" | "prohibit" | "unreachable" | "no route">([
  [EINVAL, "blackhole"],
  [EACCES, "prohibit"],
  [EHOSTUNREACH, "unreachable"],
  [ENETUNREACH, "no route"],
]);

const CREATE = C.NLM_F_CREATE | C.NLM_F_EXCL;
const REPLACE = C.NLM_F_CREATE | C.NLM_F_REPLACE;

/** Rtnetlink, and the netlink port by which its own changes can be told apart in notifications (watchKernel's `ignore`). */
export interface RtnetlinkSocket extends Rtnetlink {
  readonly port: number;
}

/**
 * Opens a socket in the namespace at `netns`, or in that of the calling thread. It stays there, whatever namespace the thread enters later.
 * Throws with `code` ENOENT when the namespace is gone.
 */
export function openRtnetlink(options: { netns?: string } = {}): RtnetlinkSocket {
  const netns = holdNetns(options.netns);
  try {
    return new KernelRtnetlink(netns);
  } catch (error) {
    netns.close();
    throw error;
  }
}

type BatchFailure = Failure & { index: number };
type EncodeChange<T> = (writer: MessageWriter, change: T, sequence: number) => void;
type RouteFilter = { family?: IpFamily; table?: number; protocol?: number };

class KernelRtnetlink implements RtnetlinkSocket {
  readonly #netns: HeldNetns;
  readonly #socket: NetlinkSocket;

  constructor(netns: HeldNetns) {
    this.#netns = netns;
    this.#socket = new NetlinkSocket(netns);
  }

  get port(): number {
    return this.#socket.port;
  }

  close(): void {
    this.#socket.close();
    this.#netns.close();
  }

  links(): Link[] {
    return this.#dump(C.RTM_GETLINK, writer => encodeLinkQuery(writer, 0), "list links", decodeLink);
  }

  link(nameOrIndex: string | number): Link | undefined {
    // The kernel would read index 0 or an empty name as "not given"; a name of 16 octets and more exists nowhere.
    if (nameOrIndex === "" || nameOrIndex === 0 || (typeof nameOrIndex === "string" && Buffer.byteLength(nameOrIndex) > 15))
      return undefined;
    return this.#findLink(nameOrIndex, -1);
  }

  peer({ peerIndex, peerNetnsId }: Pick<Link, "peerIndex" | "peerNetnsId">): Link | undefined {
    return peerIndex === 0 ? undefined : this.#findLink(peerIndex, peerNetnsId);
  }

  #findLink(nameOrIndex: string | number, netnsId: number): Link | undefined {
    let found: Link | undefined;
    const ask = () =>
      this.#request(
        C.RTM_GETLINK,
        0,
        writer => {
          encodeLinkQuery(writer, nameOrIndex);
          if (netnsId >= 0) writer.attributeU32(C.IFLA_TARGET_NETNSID, netnsId);
        },
        () => `get link ${typeof nameOrIndex === "string" ? nameOrIndex : `ifindex ${nameOrIndex}`}`,
        message => {
          found ??= decodeLink(message);
        },
      );
    // EINVAL: its namespace is gone by now.
    unless(netnsId >= 0 ? [ENODEV, EINVAL] : [ENODEV], ask);
    return found;
  }

  addLink(link: NewLink): Link {
    const describe = () => words.describeNewLink(link);
    this.#request(C.RTM_NEWLINK, CREATE, writer => encodeNewLink(writer, link), describe);
    const added = this.link(link.name);
    if (added === undefined) throw new NetlinkError(ENODEV, describe(), "it was renamed or removed at once by somebody else");
    // A bridge follows the smallest MTU of its ports unless one is set on it once it exists.
    const mtu = link.kind === "bridge" ? link.mtu : undefined;
    if (link.alias === undefined && mtu === undefined) return added;
    try {
      this.setLink(added.index, { alias: link.alias, mtu });
    } catch (error) {
      this.deleteLink(added.index);
      throw error;
    }
    return { ...added, alias: link.alias ?? "", mtu: mtu ?? added.mtu };
  }

  setLink(index: number, change: LinkChange): void {
    const { hairpin, ...rest } = change;
    const describe = () => words.describeLinkChange(index, change, this.#nameOf);
    if (Object.values(rest).some(value => value !== undefined)) {
      this.#request(C.RTM_NEWLINK, 0, writer => encodeLinkChange(writer, index, rest), describe);
    }
    if (hairpin !== undefined) this.#request(C.RTM_SETLINK, 0, writer => encodeHairpin(writer, index, hairpin), describe);
  }

  deleteLink(index: number): void {
    const describe = () => `delete link ${this.#nameOf(index)}`;
    // With index 0 the kernel would go by the group, and group 0 is every link.
    if (!(index > 0)) throw new NetlinkError(EINVAL, describe(), "an ifindex is greater than 0");
    this.#request(C.RTM_DELLINK, 0, writer => encodeLinkSelector(writer, index), describe);
  }

  deleteLinks(indexes: readonly number[]): LinkDeletion {
    if (!indexes.every(index => index > 0)) throw new NetlinkError(EINVAL, "delete links", "an ifindex is greater than 0");
    if (indexes.length === 1) {
      const [index] = indexes;
      const describe = () => `delete link ifindex ${index}`;
      return startLinkDeletion(this.#netns, indexes, writer => encodeLinkSelector(writer, index), describe);
    }
    // Chosen at random: a number that somebody else uses would take his links along.
    const group = randomInt(1 << 24, 2 ** 31);
    const marked = indexes.filter(index => this.#joinGroup(index, group));
    if (marked.length === 0) return { gone: Promise.resolve(), finished: Promise.resolve() };
    const describe = () => `delete ${marked.length} links, among them ifindex ${marked[0]}`;
    return startLinkDeletion(this.#netns, marked, writer => encodeGroupSelector(writer, group), describe);
  }

  /** False where the link is gone. */
  #joinGroup(index: number, group: number): boolean {
    try {
      this.setLink(index, { group });
      return true;
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === ENODEV) return false;
      throw error;
    }
  }

  addresses(ifindex = 0): InterfaceAddress[] {
    const list = (family: number, octets: number) =>
      this.#dump(
        C.RTM_GETADDR,
        writer => encodeAddressDump(writer, family, ifindex),
        "list addresses",
        message => {
          // A kernel without IPv6 answers the IPv6 question with the IPv4 addresses.
          const address = decodeAddress(message);
          return address?.address.length === octets && (ifindex === 0 || address.ifindex === ifindex) ? address : undefined;
        },
      );
    // A link that is gone has no addresses.
    return unless([ENODEV], () => [...list(C.AF_INET, 4), ...list(C.AF_INET6, 16)]) ?? [];
  }

  addAddress(address: NewAddress): void {
    const describe = () => `add ${words.describeAddress(address, this.#nameOf)}`;
    this.#request(C.RTM_NEWADDR, REPLACE, writer => encodeAddress(writer, address), describe);
  }

  deleteAddress(address: Pick<InterfaceAddress, "ifindex" | "address" | "prefixLength" | "peer">): void {
    const describe = () => `delete ${words.describeAddress(address, this.#nameOf)}`;
    this.#request(C.RTM_DELADDR, 0, writer => encodeAddress(writer, address), describe);
  }

  neighbours(family: IpFamily | "bridge", ifindex = 0): Neighbour[] {
    return (
      unless([ENODEV], () =>
        this.#dump(
          C.RTM_GETNEIGH,
          writer => encodeNeighbourDump(writer, family, ifindex),
          family === "bridge" ? "list forwarding entries" : `list IPv${family} neighbours`,
          message => {
            const neighbour = decodeNeighbour(message);
            return neighbour?.family === family && (ifindex === 0 || neighbour.ifindex === ifindex) ? neighbour : undefined;
          },
        ),
      ) ?? []
    );
  }

  proxies(family: IpFamily, ifindex: number): Address[] {
    const found = unless([ENODEV], () =>
      this.#dump(
        C.RTM_GETNEIGH,
        writer => encodeNeighbourDump(writer, family, ifindex, C.NTF_PROXY),
        `list IPv${family} proxy neighbours`,
        message => {
          const neighbour = decodeNeighbour(message);
          const isProxy = neighbour !== undefined && (neighbour.flags & C.NTF_PROXY) !== 0;
          return isProxy && neighbour.family === family && neighbour.ifindex === ifindex ? neighbour.address : undefined;
        },
      ),
    );
    return found ?? [];
  }

  setNeighbour(neighbour: Neighbour): void {
    // The kernel refuses to replace a flood entry of a tunnel (all zeros or a group): it has a list of destinations.
    const flood =
      neighbour.destination !== undefined && (neighbour.linkAddress?.every(octet => octet === 0) || (neighbour.linkAddress?.[0] ?? 0) & 1);
    const flags = flood ? C.NLM_F_CREATE | C.NLM_F_APPEND : REPLACE;
    const describe = () => `set ${words.describeNeighbour(neighbour, this.#nameOf)}`;
    this.#request(C.RTM_NEWNEIGH, flags, writer => encodeNeighbour(writer, neighbour), describe);
  }

  deleteNeighbour(neighbour: Neighbour): void {
    const describe = () => `delete ${words.describeNeighbour(neighbour, this.#nameOf)}`;
    this.#request(C.RTM_DELNEIGH, 0, writer => encodeNeighbour(writer, neighbour), describe);
  }

  batchNeighbours(changes: readonly NeighbourChange[]): { index: number; error: Error }[] {
    return this.#batch(changes, encodeNeighbourChange, ({ action, neighbour }, nameOf) => {
      return `${action} ${words.describeNeighbour(neighbour, nameOf)}`;
    });
  }

  checksumOffload(name: string): boolean {
    return readChecksumOffload(this.#netns, name);
  }

  setChecksumOffload(name: string, on: boolean): void {
    writeChecksumOffload(this.#netns, name, on);
  }

  *routes(filter: RouteFilter = {}): Iterable<Route[]> {
    for (const family of filter.family === undefined ? ([4, 6] as const) : [filter.family]) yield* this.#routesOf(family, filter);
  }

  /** On a socket of its own, so that other requests can be made between two chunks. */
  *#routesOf(family: IpFamily, filter: RouteFilter): Iterable<Route[]> {
    const socket = new NetlinkSocket(this.#netns);
    const describe = () => `list IPv${family} routes`;
    try {
      for (let attempt = 1; attempt <= ROUTE_DUMPS; attempt++) {
        socket.beginDump(C.RTM_GETROUTE, writer => encodeRouteDump(writer, family, filter), describe);
        yield* routeChunks(socket, family, filter, describe);
        if (!socket.interrupted) return;
      }
      throw new NetlinkError(EBUSY, describe(), `the table changed during each of ${ROUTE_DUMPS} attempts`);
    } finally {
      socket.close();
    }
  }

  lookup(destination: Address, options: LookupOptions = {}): Route | undefined {
    return this.#lookup(destination, options, 0).route;
  }

  match(destination: Address, options: LookupOptions = {}): RouteMatch {
    return this.#lookup(destination, options, C.RTM_F_FIB_MATCH);
  }

  #lookup(destination: Address, options: LookupOptions, flags: number): RouteMatch {
    let found: Route | undefined;
    const describe = () => `look up the route to ${formatAddress(destination)}`;
    const ask = () =>
      this.#request(
        C.RTM_GETROUTE,
        0,
        writer => encodeLookup(writer, destination, options, flags),
        describe,
        message => {
          found ??= decodeRoute(message);
        },
      );
    try {
      ask();
    } catch (error) {
      // A wrong request has a text besides.
      const discard = error instanceof NetlinkError && error.detail === "" ? discards.get(error.errno) : undefined;
      if (discard === undefined) throw error;
      return { discard };
    }
    return found ? { route: found } : { discard: "no route" };
  }

  replaceRoute(route: NewRoute): void {
    this.#changeRoute(C.RTM_NEWROUTE, REPLACE, "replace", route, writer => encodeNewRoute(writer, route));
  }

  addRoute(route: NewRoute): void {
    this.#changeRoute(C.RTM_NEWROUTE, CREATE, "add", route, writer => encodeNewRoute(writer, route));
  }

  deleteRoute(route: RouteKey): void {
    this.#changeRoute(C.RTM_DELROUTE, 0, "delete", route, writer => encodeRouteKey(writer, route));
  }

  #changeRoute(type: number, flags: number, verb: string, route: RouteKey, encode: Encode): void {
    this.#request(type, flags, encode, () => `${verb} ${words.describeRoute(route, this.#nameOf)}`);
  }

  batchRoutes(changes: readonly RouteChange[]): { index: number; error: Error }[] {
    return this.#batch(changes, encodeChange, ({ action, route }, nameOf) => `${action} ${words.describeRoute(route, nameOf)}`);
  }

  #batch<T>(
    changes: readonly T[],
    encode: EncodeChange<T>,
    describe: (change: T, nameOf: words.NameOf) => string,
  ): { index: number; error: Error }[] {
    const failures: BatchFailure[] = [];
    for (let index = 0; index < changes.length; ) index = this.#sendBatch(changes, index, encode, failures);
    const names = new Map<number, string>();
    const nameOf: words.NameOf = ifindex => {
      const name = names.get(ifindex) ?? this.#nameOf(ifindex);
      names.set(ifindex, name);
      return name;
    };
    return failures.map(({ index, errno, detail }) => ({
      index,
      error: new NetlinkError(errno, describe(changes[index], nameOf), detail),
    }));
  }

  /** One sendmsg(2) with the changes from `first` on. Returns the index of the first one not sent. */
  #sendBatch<T>(changes: readonly T[], first: number, encode: EncodeChange<T>, failures: BatchFailure[]): number {
    const { writer } = this.#socket;
    const indexOf = new Map<number, number>();
    let last = 0;
    let index = first;
    writer.reset();
    for (; index < changes.length && writer.length < BATCH_OCTETS; index++) {
      const sequence = this.#socket.nextSequence();
      try {
        encode(writer, changes[index], sequence);
        indexOf.set(sequence, index);
        last = sequence;
      } catch (error) {
        writer.abandon();
        failures.push({ index, errno: EINVAL, detail: (error as Error).message });
      }
    }
    if (indexOf.size === 0) return index;
    this.#socket.batch(
      last,
      () => `make ${indexOf.size} changes at once`,
      (sequence, failure) => {
        const failed = indexOf.get(sequence);
        if (failed !== undefined) failures.push({ index: failed, ...failure });
      },
    );
    return index;
  }

  setTokenBucket(ifindex: number, bucket: TokenBucket): void {
    const describe = () => `set the token bucket of link ${this.#nameOf(ifindex)} to ${bucket.rate} octets in a second`;
    this.#request(C.RTM_NEWQDISC, REPLACE, writer => encodeTokenBucket(writer, ifindex, bucket), describe);
  }

  tokenBucket(ifindex: number): Omit<TokenBucket, "burst"> | undefined {
    let found: Omit<TokenBucket, "burst"> | undefined;
    const ask = () =>
      this.#request(
        C.RTM_GETQDISC,
        // The answer is a notification, which the kernel sends to all that listen, and to who asks only like this.
        C.NLM_F_ECHO,
        writer => encodeRoot(writer, ifindex),
        () => `get the queueing discipline of link ${this.#nameOf(ifindex)}`,
        message => {
          found ??= decodeTokenBucket(message);
        },
      );
    // A link without any, or that is gone.
    unless([ENOENT, ENODEV], ask);
    return found;
  }

  rules(family: IpFamily): Rule[] {
    return this.#dump(
      C.RTM_GETRULE,
      writer => encodeRuleDump(writer, family),
      `list IPv${family} rules`,
      message => {
        const rule = decodeRule(message);
        return rule?.family === family ? rule : undefined;
      },
    );
  }

  addRule(rule: Rule): void {
    this.#request(
      C.RTM_NEWRULE,
      CREATE,
      writer => encodeRule(writer, rule),
      () => `add ${words.describeRule(rule)}`,
    );
  }

  deleteRule(rule: Rule): void {
    this.#request(
      C.RTM_DELRULE,
      0,
      writer => encodeRule(writer, rule),
      () => `delete ${words.describeRule(rule)}`,
    );
  }

  #nameOf: words.NameOf = ifindex => {
    try {
      return this.link(ifindex)?.name ?? `ifindex ${ifindex}`;
    } catch {
      return `ifindex ${ifindex}`;
    }
  };

  #dump<T>(type: number, encode: Encode, request: string, decode: (message: Message) => T | undefined): T[] {
    return this.#socket.dump(type, encode, () => request, decode);
  }

  #request(type: number, flags: number, encode: Encode, describe: Describe, visit?: (message: Message) => void): void {
    this.#socket.request(type, flags, encode, describe, visit);
  }
}

function encodeLinkQuery(writer: MessageWriter, nameOrIndex: string | number): void {
  encodeLinkSelector(writer, nameOrIndex);
  writer.attributeU32(C.IFLA_EXT_MASK, C.RTEXT_FILTER_SKIP_STATS);
}

function encodeChange(writer: MessageWriter, change: RouteChange, sequence: number): void {
  if (change.action !== "delete") {
    writer.begin(C.RTM_NEWROUTE, C.NLM_F_REQUEST | (change.action === "add" ? CREATE : REPLACE), sequence);
    encodeNewRoute(writer, change.route);
  } else {
    writer.begin(C.RTM_DELROUTE, C.NLM_F_REQUEST, sequence);
    encodeRouteKey(writer, change.route);
  }
  writer.finish();
}

function encodeNeighbourChange(writer: MessageWriter, { action, neighbour }: NeighbourChange, sequence: number): void {
  const flags = action === "set" ? REPLACE : 0;
  writer.begin(action === "set" ? C.RTM_NEWNEIGH : C.RTM_DELNEIGH, C.NLM_F_REQUEST | flags, sequence);
  encodeNeighbour(writer, neighbour);
  writer.finish();
}

function* routeChunks(socket: NetlinkSocket, family: IpFamily, filter: RouteFilter, describe: Describe): Iterable<Route[]> {
  for (let more = true; more; ) {
    const chunk: Route[] = [];
    const collect = (message: Message) => {
      const route = decodeRoute(message);
      if (route !== undefined && matches(route, family, filter)) chunk.push(route);
    };
    // A table that does not exist has no routes.
    more = unless([ENOENT], () => socket.dumpChunk(describe, collect)) ?? false;
    if (chunk.length > 0) yield chunk;
  }
}

/** The kernel has filtered already, except where it is older than NETLINK_GET_STRICT_CHK or has no IPv6. */
function matches(route: Route, family: IpFamily, filter: RouteFilter): boolean {
  if (route.family !== family) return false;
  return (filter.table ?? route.table) === route.table && (filter.protocol ?? route.protocol) === route.protocol;
}

/** What `run` returns; undefined where it fails with one of these errno. */
function unless<T>(tolerated: number[], run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (error instanceof NetlinkError && tolerated.includes(error.errno)) return undefined;
    throw error;
  }
}
