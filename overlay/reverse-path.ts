/**
 * Strict reverse path filtering (rp_filter, RFC 3704) on an uplink: a node with Always drops what a node with CrossSubnet beside it sends without a tunnel, as
 * its answers go through one, and counts it nowhere but in TcpExt IPReversePathFilter. IPv6 has no such filter in the kernel.
 */
import { existsSync } from "node:fs";
import { readSysctl, uplinksOf } from "../kernel/index.ts";
import type { Rtnetlink } from "../kernel/types.ts";
import type { Address } from "../net/address.ts";
import type { Finding } from "../platform/problem.ts";

const STRICT = 1;

/** `plain`: the node that sends without a tunnel. In the namespace of the calling thread. */
export function findStrictUplinks(netlink: Rtnetlink, local: Address, plain: string): Finding | undefined {
  const strict = uplinksOf(netlink, [local]).filter(({ name }) => Math.max(filterOf("all"), filterOf(name)) === STRICT);
  if (strict.length === 0) return undefined;
  const names = strict.map(({ name }) => name);
  return {
    severity: "error",
    reason: "StrictReversePath",
    field: "overlay",
    message: `${names.join(", ")} filters by reverse path strictly (rp_filter 1): what node ${plain} and others with overlay CrossSubnet send to pods here is dropped, as answers go through tunnels with Always`,
    remedy: `${names.map(name => `sysctl -w ${settingOf(name)}=2`).join("; ")}, and in /etc/sysctl.d for the next boot; or let the PodNetworks of all nodes have the same overlay`,
  };
}

/** The larger of both counts, so 2 (loose) in either is enough. */
function filterOf(link: string): number {
  return existsSync(`/proc/sys/net/ipv4/conf/${link}`) ? Number(readSysctl(["net", "ipv4", "conf", link, "rp_filter"])) : 0;
}

/** As sysctl(8) wants it, which takes a dot in the name of a link for its own. */
function settingOf(link: string): string {
  return `net.ipv4.conf.${link.replaceAll(".", "/")}.rp_filter`;
}
