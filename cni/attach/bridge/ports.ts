/**
 * The node's side of all pods, as it shall be, put back wherever it differs: the bridge with all its properties, the gateway addresses that ranges explain
 * and no others, the ports of running pods, former bridges of ours. Looked at after each change of the plan, when kernel events may mean that
 * somebody undid something, and now and then in full: other programs reload sysctls, flush addresses and take links down.
 */
import { existsSync } from "node:fs";
import { writeSysctl } from "../../../kernel/index.ts";
import type { Link, Rtnetlink } from "../../../kernel/types.ts";
import { formatAddress, isLinkLocal, sameOctets } from "../../../net/address.ts";
import { addressOf } from "../../ipam/book.ts";
import type { Pool } from "../../ipam/pool.ts";
import type { AttachProblem, PodPlan } from "../../types.ts";
import type { AttachContext } from "../mode.ts";
import { followMtu, mtuProblems, type PodEnd } from "../mtu.ts";
import { BRIDGE_ALIAS, podLinkMode } from "../names.ts";
import { ensureBridge } from "./bridge.ts";
import { followProxies } from "./proxies.ts";

/**
 * Makes all as it shall be; returns what was put right, in words, and what could not be. Where new pods are attached another way the bridge stays as long as
 * pods are on it. Throws like ensureBridge.
 */
export function mendPorts(
  context: AttachContext,
  ends: readonly PodEnd[],
  active: boolean,
): { mended: string[]; problems: AttachProblem[] } {
  const { netlink, plan, pools } = context;
  const mended: string[] = [];
  const problems: AttachProblem[] = [];
  const needed = active || netlink.links().some(link => podLinkMode(link) === "bridge");
  // Without a range of its own the node still serves the pods that it has.
  const bridge = needed ? (pools.length > 0 ? ensureBridge(context, mended) : ourBridge(netlink, plan)) : undefined;
  const links = netlink.links();
  const ports = links.filter(link => podLinkMode(link) === "bridge");
  if (bridge) {
    dropUnexplained(netlink, bridge, pools, mended);
    for (const port of ports) mendPort(netlink, port, bridge, plan, mended);
    problems.push(...followMtu(netlink, ports, ends, bridge.mtu, mended));
    const routed = new Set(links.filter(link => podLinkMode(link) === "routed").map(({ name }) => name));
    const strangers = ends.filter(({ hostInterface }) => routed.has(hostInterface));
    followProxies(
      netlink,
      bridge,
      strangers.flatMap(({ addresses }) => addresses.map(addressOf)),
    );
  }
  const hasIpv6 = pools.some(pool => pool.family === 6);
  if (active && pools.length > 0) problems.push(...mtuProblems(netlink, plan, hasIpv6));
  dropBridges(netlink, links, needed ? plan.bridgeName : undefined, mended);
  return { mended, problems };
}

export function ourBridge(netlink: Rtnetlink, { bridgeName }: PodPlan): Link | undefined {
  const link = netlink.link(bridgeName);
  return link?.kind === "bridge" && link.alias === BRIDGE_ALIAS ? link : undefined;
}

/** An address that no range explains is a black hole: towards the node that gets the range next, packets end here. */
function dropUnexplained(netlink: Rtnetlink, bridge: Link, pools: readonly Pool[], mended: string[]): void {
  for (const entry of netlink.addresses(bridge.index)) {
    if (isLinkLocal(entry.address)) continue;
    if (pools.some(({ gateway, prefix }) => sameOctets(entry.address, gateway) && entry.prefixLength === prefix.length)) continue;
    netlink.deleteAddress(entry);
    mended.push(`took ${formatAddress(entry.address)}/${entry.prefixLength} off ${bridge.name}: no pod range explains it`);
  }
}

/** Ties the node's end of a new pair to the bridge. */
export function plugIn(netlink: Rtnetlink, host: Link, bridge: Link, hairpin: boolean): void {
  // A bridge port needs no address of its own, and without IPv6 it sends no multicast reports into the pods' network.
  if (existsSync("/proc/sys/net/ipv6")) writeSysctl(["net", "ipv6", "conf", host.name, "disable_ipv6"], "1");
  netlink.setLink(host.index, { master: bridge.index, up: true });
  if (hairpin) netlink.setLink(host.index, { hairpin: true });
}

function mendPort(netlink: Rtnetlink, port: Link, bridge: Link, { hairpin }: PodPlan, mended: string[]): void {
  if (port.master !== bridge.index) {
    netlink.setLink(port.index, { master: bridge.index, up: true });
    if (hairpin) netlink.setLink(port.index, { hairpin: true });
    mended.push(`put ${port.name} on ${bridge.name}`);
  } else if (!port.up) {
    netlink.setLink(port.index, { up: true });
    mended.push(`took ${port.name} up`);
  }
}

/** Those but one: of another name in the PodNetwork, whose ports have been moved, or of pods that were on one and are gone. */
function dropBridges(netlink: Rtnetlink, links: readonly Link[], needed: string | undefined, mended: string[]): void {
  for (const link of links) {
    if (link.kind !== "bridge" || link.alias !== BRIDGE_ALIAS || link.name === needed) continue;
    // What others put on it is theirs.
    if (netlink.links().some(({ master }) => master === link.index)) continue;
    netlink.deleteLink(link.index);
    mended.push(`removed the former bridge ${link.name}`);
  }
}
