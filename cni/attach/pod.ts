/**
 * One pod interface, whatever it is attached to: the veth pair between the node and the pod's namespace, addresses and routes inside. All of it
 * is synchronous netlink, so nothing comes between the steps but the death of the process; what that leaves behind is found
 * again by the name and alias of the node's end.
 */
import { existsSync } from "node:fs";
import { isNetns, netnsInode, OWN_NETNS, openNetns, openRtnetlink, withNetns, writeSysctl } from "../../kernel/index.ts";
import type { Link, Rtnetlink } from "../../kernel/types.ts";
import { type Address, type IpFamily, type Prefix, parseAddress, parsePrefix, sameOctets } from "../../net/address.ts";
import { Pool } from "../ipam/pool.ts";
import { CniError, ErrorCode } from "../protocol/error.ts";
import type { AttachmentResult } from "../protocol/result.ts";
import type { KnownPodInterface, NewPodInterface } from "./mode.ts";
import { isPodLink } from "./names.ts";

interface PodAddress {
  address: Address;
  length: number;
  gateway: Address;
}

const MAIN_TABLE = 254;
/** RTPROT_BOOT, as ip(8) uses: in the pod's namespace these routes are nobody's in particular. */
const PROTOCOL_BOOT = 3;
const LOOPBACK_INDEX = 1;

/** Refuses a namespace that is gone or is the node's own. Returns its inode. Throws CniError. */
export function requirePodNetns(path: string): string {
  if (!isNetns(path) || !canEnter(path)) {
    throw new CniError(
      ErrorCode.invalidEnvironment,
      `CNI_NETNS ${path} is not a network namespace, or is gone`,
      "does the agent see the runtime's mounts of /run/netns?",
    );
  }
  const inode = netnsInode(path);
  if (inode === netnsInode(OWN_NETNS)) {
    throw new CniError(
      ErrorCode.invalidEnvironment,
      `CNI_NETNS ${path} is the node's own network namespace`,
      "pods with hostNetwork need no CNI call",
    );
  }
  return String(inode);
}

/** Files of other kinds of namespaces lie in the same file system; setns(2) refuses them with EINVAL. */
function canEnter(path: string): boolean {
  try {
    withNetns(path, () => undefined);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
    return false;
  }
}

/** Throws CniError (code 101) where the pod has an interface of this name. */
export function requireNoInterface(netns: string, ifname: string): void {
  const pod = openRtnetlink({ netns });
  try {
    if (pod.link(ifname)) {
      throw new CniError(
        ErrorCode.conflict,
        `the namespace ${netns} has an interface ${ifname} already`,
        "call DEL first, or use another CNI_IFNAME",
      );
    }
  } finally {
    pod.close();
  }
}

export interface AttachedPair {
  /** The node's and the pod's. */
  ends: AttachmentResult["interfaces"];
  addresses: PodAddress[];
  routes: AttachmentResult["routes"];
}

/**
 * Makes the pair; `plugIn` ties the node's end to the node before the pod's is up. On failure the caller removes what is there of it. Throws CniError,
 * NetlinkError and errors of sysctl(8).
 */
export function attachPod(netlink: Rtnetlink, wanted: NewPodInterface, mtu: number, plugIn: (host: Link) => void): AttachedPair {
  const { hostInterface, ifname } = wanted;
  const addresses = wanted.addresses.map(podAddress);
  const netns = openNetns(wanted.netns);
  const pod = openRtnetlink({ netns: wanted.netns });
  try {
    const peer = { name: ifname, mtu, netnsFd: netns.fd, ...(wanted.mac && { address: wanted.mac }) };
    const host = netlink.addLink({ kind: "veth", name: hostInterface, mtu, alias: wanted.alias, peer });
    plugIn(host);
    const inside = pod.link(ifname);
    if (!inside) throw new CniError(ErrorCode.kernel, `${ifname} vanished from ${wanted.netns} while it was set up`);
    withNetns(wanted.netns, () => tunePod(ifname, addresses));
    const routes = configurePod(pod, inside, addresses);
    return {
      ends: [
        { name: hostInterface, mac: host.address, mtu: host.mtu },
        { name: ifname, mac: inside.address, mtu: inside.mtu, sandbox: wanted.netns },
      ],
      addresses,
      routes,
    };
  } finally {
    pod.close();
    netns.close();
  }
}

/** The ifindex of the node's end where the pair is there and ours to remove. Throws NetlinkError. */
export function findPodLink(netlink: Rtnetlink, hostInterface: string): number | undefined {
  const link = netlink.link(hostInterface);
  if (link?.kind !== "veth") return undefined;
  // An empty alias: killed between making the pair and marking it. Nobody else makes names of this form.
  return isPodLink(link) || link.alias === "" ? link.index : undefined;
}

/** What differs between the kernel and what attachPod() made. */
export function inspectPod(netlink: Rtnetlink, wanted: KnownPodInterface): string[] {
  const { hostInterface, ifname, defaultRoutes } = wanted;
  const host = netlink.link(hostInterface);
  if (!host) return [`the node's interface ${hostInterface} is gone`];
  const found: string[] = [];
  if (!host.up) found.push(`the node's interface ${hostInterface} is down`);
  const pod = openRtnetlink({ netns: wanted.netns });
  try {
    const inside = pod.link(ifname);
    if (!inside) return [...found, `the pod has no interface ${ifname}`];
    if (!inside.up) found.push(`the pod's interface ${ifname} is down`);
    if (inside.kind !== "veth" || inside.peerIndex !== host.index)
      found.push(`the pod's interface ${ifname} is not the peer of ${hostInterface}`);
    const present = pod.addresses(inside.index);
    for (const text of wanted.addresses) {
      const { address, length } = podAddress(text);
      if (!present.some(entry => entry.prefixLength === length && sameOctets(entry.address, address)))
        found.push(`the pod's interface ${ifname} has no address ${text}`);
    }
    for (const family of defaultRoutes) if (!hasDefaultRoute(pod, family)) found.push(`the pod has no default route for IPv${family}`);
  } finally {
    pod.close();
  }
  return found;
}

function podAddress(text: string): PodAddress {
  const prefix = parsePrefix(text, "clear");
  return { address: parseAddress(text.slice(0, text.lastIndexOf("/"))), length: prefix.length, gateway: new Pool(prefix).gateway };
}

/** Runs in the pod's namespace, before the interface is up. */
function tunePod(ifname: string, addresses: readonly PodAddress[]): void {
  // So that the kernel announces addresses, see bridge/announce.ts.
  writeSysctl(["net", "ipv4", "conf", ifname, "arp_notify"], "1");
  if (!existsSync("/proc/sys/net/ipv6")) return;
  const ipv6 = (key: string, value: string) => writeSysctl(["net", "ipv6", "conf", ifname, key], value);
  // The ledger guarantees that addresses are unique; detection would delay them, and on a hairpin port fail.
  ipv6("accept_dad", "0");
  ipv6("accept_ra", "0");
  ipv6("ndisc_notify", "1");
  if (!addresses.some(entry => entry.address.length === 16)) return;
  ipv6("disable_ipv6", "0");
  writeSysctl(["net", "ipv6", "conf", "lo", "disable_ipv6"], "0");
}

function configurePod(pod: Rtnetlink, inside: Link, addresses: readonly PodAddress[]): AttachmentResult["routes"] {
  pod.setLink(LOOPBACK_INDEX, { up: true });
  for (const { address, length } of addresses) pod.addAddress({ ifindex: inside.index, address, prefixLength: length, nodad: true });
  pod.setLink(inside.index, { up: true });
  const routes: AttachmentResult["routes"] = [];
  for (const { address, gateway } of addresses) {
    const destination = anywhere(address);
    // A pod with several interfaces has its default route on the first.
    if (hasDefaultRoute(pod, destination.family, MAIN_TABLE)) continue;
    pod.addRoute({
      family: destination.family,
      destination: destination.address,
      length: 0,
      protocol: PROTOCOL_BOOT,
      nextHops: [{ gateway, ifindex: inside.index }],
    });
    routes.push({ destination, gateway });
  }
  return routes;
}

/** By whatever way and, without `table`, in whatever table: a plugin later in the list may have replaced ours, or moved it as sbr does. */
function hasDefaultRoute(pod: Rtnetlink, family: IpFamily, table?: number): boolean {
  for (const chunk of pod.routes(table === undefined ? { family } : { family, table })) {
    if (chunk.some(route => route.length === 0 && route.type === "unicast")) return true;
  }
  return false;
}

function anywhere(address: Address): Prefix {
  return { family: address.length === 4 ? 4 : 6, address: new Uint8Array(address.length), length: 0 };
}
