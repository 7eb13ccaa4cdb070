/**
 * One pod interface, whatever it is attached to: the veth pair between the node and the pod's namespace, addresses and routes inside. All of it
 * is synchronous netlink, so nothing comes between the steps but the death of the process; what that leaves behind is found
 * again by the name and alias of the node's end.
 */
import { existsSync } from "node:fs";
import { NUD_PERMANENT } from "../../kernel/constants.ts";
import { isNetns, NetlinkError, netnsInode, OWN_NETNS, openNetns, openRtnetlink, withNetns, writeSysctl } from "../../kernel/index.ts";
import type { Link, Rtnetlink } from "../../kernel/types.ts";
import { type Address, formatAddress, type IpFamily, maskAddress, type Prefix, sameOctets } from "../../net/address.ts";
import { CniError, ErrorCode } from "../protocol/error.ts";
import type { AttachmentResult } from "../protocol/result.ts";
import type { KnownPodInterface, NewPodInterface } from "./mode.ts";
import { isPodLink } from "./names.ts";

export interface PodAddress {
  address: Address;
  length: number;
  gateway: Address;
  /** Of a gateway that is in no network of the pod's: it is at the other end of the link, and nobody has to ask for it. */
  gatewayMac?: Uint8Array;
}

/** How the mode wants the pair. */
export interface PairSettings {
  mtu: number;
  /** Of the node's end. Absent: as the kernel chooses. */
  hostMac?: Uint8Array;
  addresses: PodAddress[];
  /** Ties the node's end to the node, before the pod's is up. */
  plugIn(host: Link): void;
}

const MAIN_TABLE = 254;
/** Of further interfaces of a pod, each by its ifindex: what is sent from their addresses goes out by them. Before the table main, behind local. */
const FURTHER_TABLES = 20_180;
const FURTHER_PRIORITY = 20_180;
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
  routes: AttachmentResult["routes"];
}

/** Makes the pair. On failure the caller removes what is there of it. Throws CniError, NetlinkError and errors of sysctl(8). */
export function attachPod(netlink: Rtnetlink, wanted: NewPodInterface, { mtu, hostMac, addresses, plugIn }: PairSettings): AttachedPair {
  const { hostInterface, ifname } = wanted;
  const netns = openNetns(wanted.netns);
  const pod = openRtnetlink({ netns: wanted.netns });
  try {
    const peer = { name: ifname, mtu, netnsFd: netns.fd, ...(wanted.mac && { address: wanted.mac }) };
    const own = { name: hostInterface, mtu, alias: wanted.alias, ...(hostMac && { address: hostMac }) };
    const host = netlink.addLink({ kind: "veth", ...own, peer });
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
export function inspectPod(netlink: Rtnetlink, wanted: KnownPodInterface, addresses: readonly PodAddress[]): string[] {
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
    for (const { address, length } of addresses) {
      if (!present.some(entry => entry.prefixLength === length && sameOctets(entry.address, address)))
        found.push(`the pod's interface ${ifname} has no address ${formatAddress(address)}/${length}`);
    }
    for (const family of defaultRoutes) if (!hasDefaultRoute(pod, family)) found.push(`the pod has no default route for IPv${family}`);
  } finally {
    pod.close();
  }
  return found;
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
  // The link-local address follows from the hardware address, by which packet filters know it.
  ipv6("addr_gen_mode", "0");
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
  for (const one of addresses) {
    const destination = anywhere(one.address);
    // A pod with several interfaces has its default route on the first.
    if (hasDefaultRoute(pod, destination.family, MAIN_TABLE)) leadOutFrom(pod, inside, one);
    else {
      leadOut(pod, inside, one, MAIN_TABLE);
      routes.push({ destination, gateway: one.gateway });
    }
  }
  return routes;
}

/** The default route, and what it needs. */
function leadOut(pod: Rtnetlink, { index: ifindex }: Link, { address, gateway, gatewayMac }: PodAddress, table: number): void {
  const { family, address: destination } = anywhere(address);
  const common = { family, table, protocol: PROTOCOL_BOOT };
  if (gatewayMac) {
    pod.setNeighbour({ ifindex, address: gateway, linkAddress: gatewayMac, state: NUD_PERMANENT, flags: 0, family });
    // fe80::/64 is on each link. By this one others can add routes by the gateway.
    if (family === 4) pod.addRoute({ ...common, destination: gateway, length: 32, nextHops: [{ ifindex }] });
  }
  pod.addRoute({ ...common, destination, length: 0, nextHops: [{ gateway, ifindex, ...(gatewayMac && { onlink: true }) }] });
}

/** What the pod sends from an address of a further interface goes out by that: elsewhere it would be taken for somebody else's. */
function leadOutFrom(pod: Rtnetlink, inside: Link, one: PodAddress): void {
  const { address, length } = one;
  const table = FURTHER_TABLES + inside.index;
  const family = address.length === 4 ? 4 : 6;
  const nextHops = [{ ifindex: inside.index }];
  if (length < address.length * 8)
    pod.addRoute({ family, table, protocol: PROTOCOL_BOOT, destination: maskAddress(address, length), length, nextHops });
  leadOut(pod, inside, one, table);
  try {
    pod.addRule({ family, priority: FURTHER_PRIORITY, table, source: { address, length: address.length * 8 } });
  } catch (error) {
    // Of an interface of this index that was there before: namespaces that are used again.
    if (!(error instanceof NetlinkError && error.code === "EEXIST")) throw error;
  }
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
