/**
 * The node's end of all tunnels over one family: a VXLAN device without learning (RFC 7348), made where it is missing, adopted where a former agent left it,
 * and put right property by property. What cannot be changed in place (network identifier, port, own address) means a new device.
 */
import { existsSync } from "node:fs";
import { NetlinkError, uplinksOf, writeSysctl } from "../kernel/index.ts";
import type { Link, Rtnetlink } from "../kernel/types.ts";
import { type Address, formatAddress, type IpFamily, parseAddress, sameOctets } from "../net/address.ts";
import { deviceNames, isOverlayLink, OVERLAY_ALIAS, tunnelMac } from "./names.ts";
import { Overhead } from "./types.ts";

export interface DevicePlan {
  family: IpFamily;
  vni: number;
  port: number;
  local: Address;
  sources: readonly Address[];
  /** Packets of IPv6 go through it, whatever carries them. */
  ipv6: boolean;
  checksumOffload: boolean;
}

const DEFAULT_MTU = 1500;
/** RFC 8200 section 5: below it the kernel takes IPv6 off a link. */
const LEAST_MTU = 1280;

/** Something else is where the device shall be. */
export class OverlayConflict extends Error {
  override readonly name = "OverlayConflict";
  readonly remedy: string;

  constructor(message: string, remedy: string) {
    super(message);
    this.remedy = remedy;
  }
}

/** Says in `mended` what was put right, of a device that was there. Throws OverlayConflict, NetlinkError, SystemCallError. */
export function ensureDevice(netlink: Rtnetlink, plan: DevicePlan, mended: string[]): Link {
  const name = deviceNames[plan.family];
  let found = ownDevice(netlink, plan);
  if (found && !fits(found, plan)) {
    netlink.deleteLink(found.index);
    found = undefined;
  }
  const link = found ?? create(netlink, plan);
  const say = (text: string) => void (found && mended.push(text));
  const mtu = tunnelMtu(netlink, plan);
  const mac = tunnelMac(plan.local);
  if (link.alias !== OVERLAY_ALIAS) netlink.setLink(link.index, { alias: OVERLAY_ALIAS });
  if (link.mtu !== mtu) {
    netlink.setLink(link.index, { mtu });
    say(`gave ${name} an MTU of ${mtu} in place of ${link.mtu}`);
  }
  if (!sameOctets(link.address, mac)) {
    netlink.setLink(link.index, { address: mac });
    say(`gave ${name} its hardware address back`);
  }
  if (netlink.checksumOffload(name) !== plan.checksumOffload) {
    netlink.setChecksumOffload(name, plan.checksumOffload);
    say(`turned checksum offload of ${name} ${plan.checksumOffload ? "on" : "off"}`);
  }
  setSysctls(name, plan.ipv6);
  if (!link.up) {
    // Now its port is taken.
    orWhyNot(netlink, plan, () => netlink.setLink(link.index, { up: true }));
    say(`took ${name} up`);
  }
  ensureSources(netlink, link, plan.sources, say);
  return { ...link, mtu, address: mac, up: true, alias: OVERLAY_ALIAS };
}

/** What is on the way is larger by that than what was sent. */
function tunnelMtu(netlink: Rtnetlink, { family, local }: DevicePlan): number {
  const uplinks = uplinksOf(netlink, [local]).map(({ mtu }) => mtu);
  return Math.max(LEAST_MTU, Math.min(...(uplinks.length > 0 ? uplinks : [DEFAULT_MTU])) - Overhead[family]);
}

function ownDevice(netlink: Rtnetlink, plan: DevicePlan): Link | undefined {
  const name = deviceNames[plan.family];
  const link = netlink.link(name);
  // Killed between making it and marking it: the hardware address tells.
  if (!link || isOverlayLink(link) || (link.alias === "" && fits(link, plan) && sameOctets(link.address, tunnelMac(plan.local))))
    return link;
  throw new OverlayConflict(
    `the node has a link ${name} (${link.kind || "physical"}) that podlane did not make: there is no tunnel`,
    `remove or rename it (ip link delete ${name})`,
  );
}

function fits({ vxlan }: Link, { vni, port, local }: DevicePlan): boolean {
  if (!vxlan || vxlan.id !== vni || vxlan.port !== port || vxlan.learning || vxlan.group) return false;
  return vxlan.local !== undefined && sameOctets(vxlan.local, local);
}

function create(netlink: Rtnetlink, plan: DevicePlan): Link {
  const { family, vni: id, port, local } = plan;
  const name = deviceNames[family];
  const link = { kind: "vxlan", name, id, port, local, learning: false, address: tunnelMac(local), alias: OVERLAY_ALIAS } as const;
  return orWhyNot(netlink, plan, () => netlink.addLink(link));
}

function orWhyNot<T>(netlink: Rtnetlink, plan: DevicePlan, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof NetlinkError) throw whyNot(netlink, plan, error);
    throw error;
  }
}

/** The kernel says only that something is there already, of the same identifier and port, or of the port and other properties. */
function whyNot(netlink: Rtnetlink, { vni, port }: DevicePlan, error: NetlinkError): Error {
  const taken = ["EEXIST", "EADDRINUSE"].includes(error.code);
  if (!taken) return error;
  const rivals = netlink.links().filter(link => link.vxlan?.port === port && !isOverlayLink(link));
  const rival = rivals.find(({ vxlan }) => vxlan?.id === vni) ?? rivals[0];
  const message = rival
    ? `the VXLAN device ${rival.name} of another program has UDP port ${port}${rival.vxlan?.id === vni ? ` and VNI ${vni}` : ""} already: there is no tunnel`
    : `UDP port ${port} is taken by another program: there is no tunnel (${error.message})`;
  const field = rival?.vxlan?.id === vni ? "spec.vxlan.vni" : "spec.vxlan.port";
  const removal = rival ? `, or remove ${rival.name} if nobody uses it any more (ip link delete ${rival.name})` : "";
  return new OverlayConflict(message, `set another ${field} in the PodNetworks of all nodes${removal}`);
}

/** In the namespace of the agent; elsewhere, and where the kernel has no IPv6, there is nothing of the name. */
function setSysctls(name: string, ipv6: boolean): void {
  const set = (family: string, key: string, value: string) => {
    if (existsSync(`/proc/sys/net/${family}/conf/${name}`)) writeSysctl(["net", family, "conf", name, key], value);
  };
  // A node whose PodNetwork says another mode answers by another way than that by which it was asked.
  set("ipv4", "rp_filter", "2");
  set("ipv6", "accept_ra", "0");
  // Many a node is set up without IPv6 on new links; the pods' own have it all the same.
  if (ipv6) set("ipv6", "disable_ipv6", "0");
}

/** Whether a link of the node has this address. */
export function isOwnAddress(netlink: Rtnetlink, address: Address): boolean {
  try {
    if (netlink.match(address).route?.type === "local") return true;
  } catch (error) {
    // Without any way there.
    if (!(error instanceof NetlinkError)) throw error;
  }
  // The kernel's own route to a new address of IPv6 comes a moment after it. All of them are asked for then alone: pods' links have many.
  return netlink.addresses().some(entry => sameOctets(entry.address, address));
}

function ensureSources(netlink: Rtnetlink, { name, index }: Link, sources: readonly Address[], say: (text: string) => void): void {
  const present = netlink.addresses(index).filter(({ scope }) => scope === 0);
  for (const address of sources) {
    const prefixLength = 8 * address.length;
    if (present.some(entry => sameOctets(entry.address, address) && entry.prefixLength === prefixLength)) continue;
    netlink.addAddress({ ifindex: index, address, prefixLength, nodad: true, noPrefixRoute: true });
    say(`put ${formatAddress(address)}/${prefixLength} on ${name}`);
  }
  for (const entry of present) {
    if (sources.some(address => sameOctets(entry.address, address)) && entry.prefixLength === 8 * entry.address.length) continue;
    netlink.deleteAddress(entry);
    say(`took ${formatAddress(entry.address)}/${entry.prefixLength} off ${name}: no pod range explains it`);
  }
}

/** `texts` of one family. */
export function ofFamily(texts: readonly string[], family: IpFamily): Address[] {
  return texts.map(parseAddress).filter(({ length }) => length === (family === 4 ? 4 : 16));
}
