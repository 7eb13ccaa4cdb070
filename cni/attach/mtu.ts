/**
 * The MTU of pods: as planned, or that of the interfaces that hold the node's addresses, by which pods reach other nodes, less what tunnels add. The bridge,
 * both ends of each pair, and what runs follow it. Below 1280 octets the kernel takes IPv6 off a link (RFC 8200 section 5), addresses and all: with IPv6 it never goes there.
 */
import { existsSync } from "node:fs";
import { NetlinkError, openRtnetlink, uplinksOf } from "../../kernel/index.ts";
import type { Link, Rtnetlink } from "../../kernel/types.ts";
import { parseAddress } from "../../net/address.ts";
import type { AttachProblem, PodPlan } from "../types.ts";
import { isPodLink } from "./names.ts";

const DEFAULT_MTU = 1500;
/** RFC 8200 section 5. */
const LEAST_IPV6 = 1280;
/** RFC 791. */
const LEAST_IPV4 = 68;

/** Octets. `hasIpv6`: pods have IPv6 addresses. */
export function podMtu(netlink: Rtnetlink, plan: PodPlan, hasIpv6: boolean): number {
  const { encapsulation = 0 } = plan;
  const mtu = plan.mtu === "auto" ? (leastOf(findUplinks(netlink, plan))?.mtu ?? DEFAULT_MTU) - encapsulation : plan.mtu;
  return Math.max(mtu, hasIpv6 ? LEAST_IPV6 : LEAST_IPV4);
}

/** What pods send is larger than what leaves the node. */
export function mtuProblems(netlink: Rtnetlink, plan: PodPlan, hasIpv6: boolean): AttachProblem[] {
  const uplink = leastOf(findUplinks(netlink, plan));
  const { encapsulation = 0 } = plan;
  const mtu = podMtu(netlink, plan, hasIpv6);
  if (!uplink || mtu <= uplink.mtu - encapsulation) return [];
  const limit = uplink.mtu - encapsulation;
  const planned = plan.mtu !== "auto" && plan.mtu > limit;
  const why = planned ? "spec.mtu of the PodNetwork says so" : "IPv6 needs it";
  const remedy = planned
    ? `take spec.mtu out, or set ${limit} at most; or raise the MTU of ${uplink.name}, and of the network behind it`
    : `raise the MTU of ${uplink.name} to ${LEAST_IPV6 + encapsulation} at least, and of the network behind it; pods follow`;
  const room = encapsulation > 0 ? `${uplink.mtu}, of which a tunnel takes ${encapsulation}` : `${uplink.mtu}`;
  const message = `pods have an MTU of ${mtu}, as ${why}, and ${uplink.name}, by which they reach other nodes, has ${room}: larger packets are fragmented, refused or lost`;
  return [{ severity: "warning", reason: "MTUTooLarge", field: "mtu", message, remedy }];
}

/** One end in a pod. */
export interface PodEnd {
  netns: string;
  ifname: string;
  /** The node's end. */
  hostInterface: string;
  /** `ADDRESS/LENGTH`. */
  addresses: readonly string[];
}

/** Gives both ends of each pair the MTU. `links`: the node's ends. Returns what could not be: an end whose namespace cannot be entered. Throws NetlinkError. */
export function followMtu(
  netlink: Rtnetlink,
  links: readonly Link[],
  ends: readonly PodEnd[],
  mtu: number,
  mended: string[],
): AttachProblem[] {
  const byHost = new Map(ends.map(end => [end.hostInterface, end]));
  const left: string[] = [];
  for (const port of links) {
    if (port.mtu === mtu) continue;
    // Its own end last: as long as that differs, it is tried again.
    const end = byHost.get(port.name);
    if (end === undefined || !setInside(end, mtu)) left.push(port.name);
    else if (setOutside(netlink, port, mtu)) {
      mended.push(`gave ${port.name} and its pod an MTU of ${mtu} in place of ${port.mtu}`);
    }
  }
  if (left.length === 0) return [];
  const some = left.slice(0, 3).join(", ") + (left.length > 3 ? ` and ${left.length - 3} more` : "");
  const message = `the pods behind ${some} have another MTU than new ones (${mtu}): their namespaces cannot be entered`;
  return [{ severity: "warning", reason: "MTUOutdated", field: "mtu", message, remedy: "recreate these pods" }];
}

/** False: it is gone. */
function setOutside(netlink: Rtnetlink, port: Link, mtu: number): boolean {
  try {
    netlink.setLink(port.index, { mtu });
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.code === "ENODEV") return false;
    throw error;
  }
}

/** False: it cannot be reached. */
function setInside({ netns, ifname }: PodEnd, mtu: number): boolean {
  if (!existsSync(netns)) return false;
  try {
    const pod = openRtnetlink({ netns });
    try {
      const link = pod.link(ifname);
      if (link && link.mtu !== mtu) pod.setLink(link.index, { mtu });
      return link !== undefined;
    } finally {
      pod.close();
    }
  } catch (error) {
    // The pod is on its way out, or what lies there is no namespace any more.
    if (error instanceof NetlinkError || (error as NodeJS.ErrnoException).code !== undefined) return false;
    throw error;
  }
}

function leastOf(links: readonly Link[]): Link | undefined {
  return links.reduce<Link | undefined>((least, link) => (least && least.mtu <= link.mtu ? least : link), undefined);
}

/** Those by which the node reaches others; where the kernel does not tell, all that could be one. */
function findUplinks(netlink: Rtnetlink, { nodeAddresses = [] }: PodPlan): Link[] {
  const uplinks = uplinksOf(netlink, nodeAddresses.map(parseAddress));
  if (uplinks.length > 0) return uplinks;
  return netlink.links().filter(link => link.up && !link.loopback && !isPodLink(link) && link.kind !== "bridge" && link.kind !== "vxlan");
}
