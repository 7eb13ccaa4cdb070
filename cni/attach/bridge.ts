/**
 * The node's side of bridge mode: the bridge, the gateway addresses on it, forwarding, and the MTU. Called before every ADD
 * as well, so it first looks and changes only what differs. The pods' route on the node is the kernel's own connected route.
 */
import { existsSync } from "node:fs";
import { readSysctl, writeSysctl } from "../../kernel/sysctl.ts";
import type { Link, Rtnetlink } from "../../kernel/types.ts";
import { sameOctets } from "../../net/address.ts";
import type { Pool } from "../ipam/pool.ts";
import { CniError, ErrorCode } from "../protocol/error.ts";
import type { AttachPlan } from "../types.ts";
import { bridgeAlias, bridgeMac, isPodLink } from "./names.ts";

const mainTable = 254;
const defaultMtu = 1500;
/** 2000::, the first address of global unicast (RFC 4291), in a block that is not assigned. */
const globalUnicast = Uint8Array.of(0x20, ...new Uint8Array(15));

/**
 * Makes the bridge as it shall be. Pools that are retired keep their gateway: pods that have addresses of them still need it.
 * Throws CniError where a link of this name is not ours, NetlinkError where the kernel refuses.
 */
export function ensureBridge(netlink: Rtnetlink, plan: AttachPlan, pools: readonly Pool[]): Link {
  const bridge = findBridge(netlink, plan) ?? createBridge(netlink, plan);
  const hasIpv6 = pools.some(pool => pool.family === 6);
  if (hasIpv6) writeSysctl(["net", "ipv6", "conf", bridge.name, "disable_ipv6"], "0");
  // A Service's translation must be undone also where the answer goes from pod to pod without leaving the bridge.
  // Of effect as soon as the module br_netfilter is there; the agent says when it is not.
  if (bridge.netfilter === false) netlink.setLink(bridge.index, { netfilter: true });
  if (!bridge.up) netlink.setLink(bridge.index, { up: true });
  const mtu = podMtu(netlink, plan);
  if (bridge.mtu !== mtu) netlink.setLink(bridge.index, { mtu });
  const present = netlink.addresses(bridge.index);
  for (const { gateway, prefix } of pools) {
    if (present.some(entry => sameOctets(entry.address, gateway) && entry.prefixLength === prefix.length)) continue;
    netlink.addAddress({ ifindex: bridge.index, address: gateway, prefixLength: prefix.length, nodad: true });
  }
  ensureForwarding(netlink, hasIpv6);
  return { ...bridge, mtu };
}

/** Takes the gateway address of a range that is gone from the bridge. */
export function removeGateway(netlink: Rtnetlink, bridgeName: string, pool: Pool): void {
  const bridge = netlink.link(bridgeName);
  if (!bridge || bridge.alias !== bridgeAlias) return;
  const present = netlink
    .addresses(bridge.index)
    .find(entry => sameOctets(entry.address, pool.gateway) && entry.prefixLength === pool.prefix.length);
  if (present) netlink.deleteAddress(present);
}

/** Octets: as planned, or that of the interfaces with the default route, or the least of the node's interfaces. */
export function podMtu(netlink: Rtnetlink, plan: AttachPlan): number {
  if (plan.mtu !== "auto") return plan.mtu;
  let candidates = [...findUplinks(netlink)].map(index => netlink.link(index)).filter(link => link !== undefined);
  if (candidates.length === 0)
    candidates = netlink.links().filter(link => link.up && !link.loopback && !isPodLink(link) && link.kind !== "bridge");
  return candidates.reduce((least, link) => Math.min(least, link.mtu), candidates[0]?.mtu ?? defaultMtu);
}

/**
 * The ifindexes that default routes go out by. Every ADD asks, and the table may hold a million routes of BGP, so it is not read:
 * IPv4 routes come in the order of their addresses, default routes first (the kernel's trie); IPv6 ones come last, so there the kernel
 * is asked for the way to an address that nobody has.
 */
function findUplinks(netlink: Rtnetlink): Set<number> {
  const found = new Set<number>();
  for (const chunk of netlink.routes({ family: 4, table: mainTable })) {
    for (const route of chunk) if (route.length === 0) for (const hop of route.nextHops) found.add(hop.ifindex);
    if (chunk.some(({ destination }) => destination.some(octet => octet !== 0))) break;
  }
  if (existsSync("/proc/sys/net/ipv6")) for (const hop of netlink.lookup(globalUnicast)?.nextHops ?? []) found.add(hop.ifindex);
  return found;
}

function findBridge(netlink: Rtnetlink, plan: AttachPlan): Link | undefined {
  const link = netlink.link(plan.bridgeName);
  if (!link) return undefined;
  // Killed between making the bridge and marking it: the address tells.
  const ours = link.alias === bridgeAlias || (link.alias === "" && sameOctets(link.address, bridgeMac(plan.bridgeName)));
  if (link.kind !== "bridge" || !ours) {
    throw new CniError(
      ErrorCode.kernel,
      `the node has a link ${plan.bridgeName} (${link.kind || "physical"}) that podlane did not make`,
      "remove or rename it, or name another bridge in the PodNetwork",
    );
  }
  if (link.alias === "") netlink.setLink(link.index, { alias: bridgeAlias });
  return link;
}

function createBridge(netlink: Rtnetlink, plan: AttachPlan): Link {
  const link = netlink.addLink({ kind: "bridge", name: plan.bridgeName, address: bridgeMac(plan.bridgeName), alias: bridgeAlias });
  // A pod must not be able to give the node a default route.
  if (existsSync("/proc/sys/net/ipv6")) writeSysctl(["net", "ipv6", "conf", link.name, "accept_ra"], "0");
  return link;
}

/**
 * Turns forwarding on. In IPv6 that would make the node deaf to router advertisements, so interfaces that listen to them are
 * told to go on (accept_ra 2) first: the node must not lose its default route through us.
 */
function ensureForwarding(netlink: Rtnetlink, hasIpv6: boolean): void {
  writeSysctl(["net", "ipv4", "ip_forward"], "1");
  const forwarding = ["net", "ipv6", "conf", "all", "forwarding"];
  if (!hasIpv6 || readSysctl(forwarding) === "1") return;
  for (const { name } of netlink.links()) {
    if (readSysctl(["net", "ipv6", "conf", name, "accept_ra"]) === "1") writeSysctl(["net", "ipv6", "conf", name, "accept_ra"], "2");
  }
  writeSysctl(forwarding, "1");
}
