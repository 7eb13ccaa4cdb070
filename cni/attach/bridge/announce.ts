/**
 * Tells who may still know another owner of a pod's addresses: the node by its own neighbour table, the pods on the bridge by a gratuitous
 * ARP request and an unsolicited neighbour advertisement with the override flag (RFC 5227 section 3, RFC 4861 section 7.2.6). The kernel
 * sends both when the interface comes up, but then the bridge does not forward from it yet and drops them; so they are sent once more.
 */
import { setTimeout as delay } from "node:timers/promises";
import { NUD_STALE } from "../../../kernel/constants.ts";
import { openRtnetlink } from "../../../kernel/index.ts";
import type { Rtnetlink } from "../../../kernel/types.ts";
import type { Address } from "../../../net/address.ts";

export interface Announcement {
  netns: string;
  ifname: string;
  hostInterface: string;
  /** ifindex. */
  bridge: number;
  addresses: readonly Address[];
}

/** Milliseconds that the bridge may take. It has no spanning tree, so less than one is usual. */
const PATIENCE = 500;

/** Resolves with false where the bridge still does not forward from the pod: then nobody hears it. Rejects with NetlinkError. */
export async function announcePod(netlink: Rtnetlink, pod: Announcement): Promise<boolean> {
  const forwards = () => netlink.link(pod.hostInterface)?.forwarding === true;
  const deadline = performance.now() + PATIENCE;
  let heard = forwards();
  for (; !heard && performance.now() < deadline; heard = forwards()) await delay(1);
  const inside = openRtnetlink({ netns: pod.netns });
  try {
    const link = inside.link(pod.ifname);
    if (!link) return false;
    for (const address of pod.addresses) {
      const family = address.length === 4 ? 4 : 6;
      netlink.setNeighbour({ ifindex: pod.bridge, address, linkAddress: link.address, state: NUD_STALE, flags: 0, family });
    }
    // The kernel announces all addresses of an interface whose hardware address is set (arp_notify, ndisc_notify), also to the same.
    inside.setLink(link.index, { address: link.address });
  } finally {
    inside.close();
  }
  return heard;
}
