/** By which links a node reaches others: those that have its addresses, or else those that its default routes lead over. */
import { existsSync } from "node:fs";
import { type Address, formatAddress } from "../net/address.ts";
import { NetlinkError } from "./error.ts";
import type { Link, Rtnetlink } from "./types.ts";

const MAIN_TABLE = 254;
/** 2000::, the first address of global unicast (RFC 4291), in a block that is not assigned. */
const globalUnicast = Uint8Array.of(0x20, ...new Uint8Array(15));

/** Those with these addresses; where these are on none but a loopback, those with the default routes. Empty: the kernel does not tell. */
export function uplinksOf(netlink: Rtnetlink, addresses: readonly Address[]): Link[] {
  const of = (indexes: Iterable<number>) =>
    [...new Set(indexes)]
      .map(index => netlink.link(index))
      .filter(link => link !== undefined && !link.loopback && link.kind !== "dummy") as Link[];
  const holders = of(addresses.flatMap(address => holderOf(netlink, address)));
  return holders.length > 0 ? holders : of(defaultRoutes(netlink));
}

/** The kernel's own route to an address of the node names the interface that has it: one question, however many addresses there are. */
function holderOf(netlink: Rtnetlink, address: Address): number[] {
  try {
    const { route } = netlink.match(address);
    return route?.type === "local" ? route.nextHops.map(({ ifindex }) => ifindex) : [];
  } catch (error) {
    if (error instanceof NetlinkError)
      throw new Error(`cannot find the interface with ${formatAddress(address)}: ${error.message}`, { cause: error });
    throw error;
  }
}

/**
 * The ifindexes that default routes go out by. It is asked often, and the table may hold a million routes of BGP, so it is not read:
 * IPv4 routes come in the order of their addresses, default routes first (the kernel's trie); IPv6 ones come last, so there the kernel
 * is asked for the way to an address that nobody has.
 */
function* defaultRoutes(netlink: Rtnetlink): Generator<number> {
  for (const chunk of netlink.routes({ family: 4, table: MAIN_TABLE })) {
    for (const route of chunk) if (route.length === 0) for (const hop of route.nextHops) yield hop.ifindex;
    if (chunk.some(({ destination }) => destination.some(octet => octet !== 0))) break;
  }
  if (existsSync("/proc/sys/net/ipv6")) for (const hop of netlink.lookup(globalUnicast)?.nextHops ?? []) yield hop.ifindex;
}
