/**
 * Pods on the bridge take the whole range for their neighbours. Those of the same range that are routed are none, as after a change of the mode: so on
 * the bridge the node answers for them, by ARP (RFC 1027) and by neighbour advertisements (RFC 4389), for each alone. The kernel would wait up to
 * 0.8 s before such an answer, so that others can come first; here are no others.
 */
import { existsSync } from "node:fs";
import { NTF_PROXY } from "../../../kernel/constants.ts";
import { NetlinkError, sendFrames } from "../../../kernel/index.ts";
import type { Link, Rtnetlink } from "../../../kernel/types.ts";
import { type Address, formatAddress } from "../../../net/address.ts";
import { setSysctl } from "../forwarding.ts";
import { claimOf } from "./claims.ts";

/** Answers for these addresses and for no others. */
export function followProxies(netlink: Rtnetlink, bridge: Link, wanted: readonly Address[]): void {
  const missing = new Map(wanted.map(address => [formatAddress(address), address]));
  for (const family of [4, 6] as const) {
    for (const address of netlink.proxies(family, bridge.index)) {
      if (!missing.delete(formatAddress(address))) dropProxies(netlink, bridge, [address]);
    }
  }
  addProxies(netlink, bridge, [...missing.values()]);
}

export function addProxies(netlink: Rtnetlink, bridge: Link, addresses: readonly Address[]): void {
  for (const family of [4, 6] as const) {
    const some = addresses.filter(({ length }) => length === (family === 4 ? 4 : 16));
    if (some.length === 0) continue;
    const settings = `ipv${family}`;
    setSysctl(["net", settings, "neigh", bridge.name, "proxy_delay"], "0");
    const answers = ["net", settings, "conf", bridge.name, "proxy_ndp"];
    if (family === 6 && existsSync(`/proc/sys/${answers.join("/")}`)) setSysctl(answers, "1");
    for (const address of some) netlink.setNeighbour({ ifindex: bridge.index, family, address, flags: NTF_PROXY, state: 0 });
  }
}

/** Pods on the bridge that know another owner of these addresses hear that the node answers for them now. Returns what keeps them from hearing it, in words. */
export function announceProxies(bridge: Link, addresses: readonly Address[]): string | undefined {
  try {
    const frames = addresses.map(address => claimOf(bridge.address, address));
    sendFrames(bridge.index, frames);
    return undefined;
  } catch (error) {
    // As where somebody has set the bridge down: its pods ask again within seconds.
    return (error as Error).message;
  }
}

/** Where there are some. */
export function dropProxies(netlink: Rtnetlink, bridge: Link, addresses: readonly Address[]): void {
  for (const address of addresses) {
    const family = address.length === 4 ? 4 : 6;
    try {
      netlink.deleteNeighbour({ ifindex: bridge.index, family, address, flags: NTF_PROXY, state: 0 });
    } catch (error) {
      if (!(error instanceof NetlinkError && error.code === "ENOENT")) throw error;
    }
  }
}
