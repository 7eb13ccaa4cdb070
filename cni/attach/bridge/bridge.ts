/**
 * The node's side of bridge mode: the bridge, the gateway addresses on it, forwarding, and the MTU. Called before every ADD
 * as well, so it first looks and changes only what differs. The pods' route on the node is the kernel's own connected route.
 */
import { existsSync } from "node:fs";
import { writeSysctl } from "../../../kernel/index.ts";
import type { Link, Rtnetlink } from "../../../kernel/types.ts";
import { formatAddress, sameOctets } from "../../../net/address.ts";
import { CniError, ErrorCode } from "../../protocol/error.ts";
import type { PodPlan } from "../../types.ts";
import { ensureForwarding, setSysctl } from "../forwarding.ts";
import type { AttachContext } from "../mode.ts";
import { podMtu } from "../mtu.ts";
import { BRIDGE_ALIAS, gatewayMac } from "../names.ts";

/**
 * Makes the bridge as it shall be, every property of it: it may have been adopted, or changed by somebody. Pools that are retired keep their gateway:
 * pods that have addresses of them still need it. `mended`: look at all of the node, and say here what was put right; absent: before an ADD, which has no
 * time for that. Throws CniError where a link of this name is not ours, NetlinkError where the kernel refuses.
 */
export function ensureBridge({ netlink, plan, pools, sysctls }: AttachContext, mended?: string[]): Link {
  const found = findBridge(netlink, plan);
  const bridge = found ?? createBridge(netlink, plan);
  const say = (text: string) => void (found && mended?.push(text));
  const hasIpv6 = pools.some(pool => pool.family === 6);
  // Before all that is IPv6: below 1280 octets the bridge has none of its settings.
  const mtu = podMtu(netlink, plan, hasIpv6);
  if (bridge.mtu !== mtu) {
    netlink.setLink(bridge.index, { mtu });
    say(`gave ${bridge.name} an MTU of ${mtu} in place of ${bridge.mtu}`);
  }
  // A bridge below 1280 octets has no IPv6, and nothing to say of it.
  if (existsSync(`/proc/sys/net/ipv6/conf/${bridge.name}`)) {
    if (hasIpv6) writeSysctl(["net", "ipv6", "conf", bridge.name, "disable_ipv6"], "0");
    // A pod must not be able to give the node a default route.
    if (setSysctl(["net", "ipv6", "conf", bridge.name, "accept_ra"], "0")) say(`made ${bridge.name} deaf to router advertisements`);
  }
  const mac = gatewayMac();
  if (!sameOctets(bridge.address, mac)) {
    netlink.setLink(bridge.index, { address: mac });
    say(`gave ${bridge.name} its hardware address back`);
  }
  // A Service's translation must be undone also where the answer goes from pod to pod without leaving the bridge.
  // Of effect as soon as the module br_netfilter is there; the agent says when it is not.
  if (bridge.netfilter === false) netlink.setLink(bridge.index, { netfilter: true });
  if (!bridge.up) {
    netlink.setLink(bridge.index, { up: true });
    say(`took ${bridge.name} up`);
  }
  const present = netlink.addresses(bridge.index);
  for (const { gateway, prefix } of pools) {
    if (present.some(entry => sameOctets(entry.address, gateway) && entry.prefixLength === prefix.length)) continue;
    netlink.addAddress({ ifindex: bridge.index, address: gateway, prefixLength: prefix.length, nodad: true });
    say(`put ${formatAddress(gateway)}/${prefix.length} on ${bridge.name}`);
  }
  ensureForwarding({ netlink, sysctls }, hasIpv6, mended);
  return { ...bridge, address: mac, mtu };
}

function findBridge(netlink: Rtnetlink, plan: PodPlan): Link | undefined {
  const link = netlink.link(plan.bridgeName);
  if (!link) return undefined;
  // Killed between making the bridge and marking it: the address tells.
  const ours = link.alias === BRIDGE_ALIAS || (link.alias === "" && sameOctets(link.address, gatewayMac()));
  if (link.kind !== "bridge" || !ours) {
    throw new CniError(
      ErrorCode.kernel,
      `the node has a link ${plan.bridgeName} (${link.kind || "physical"}) that podlane did not make`,
      "remove or rename it, or name another bridge in the PodNetwork",
    );
  }
  if (link.alias === "") netlink.setLink(link.index, { alias: BRIDGE_ALIAS });
  return link;
}

function createBridge(netlink: Rtnetlink, plan: PodPlan): Link {
  return netlink.addLink({ kind: "bridge", name: plan.bridgeName, address: gatewayMac(), alias: BRIDGE_ALIAS });
}
