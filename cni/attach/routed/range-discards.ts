/**
 * Without a bridge no route covers a pod range but those to its pods: a packet to an address of it that no pod has would follow the default route to the
 * router, which has sent it here. So the rest of each range is unreachable; what meets it is answered (ICMP), and so counted, by the kernel (nstat: IcmpOutDestUnreachs,
 * Ip6InNoRoutes). BGP's own discard of what it announces is a metric worse, and may not be there.
 */
import { RTPROT_PODLANE_PODS } from "../../../kernel/constants.ts";
import { NetlinkError } from "../../../kernel/index.ts";
import type { RouteKey, Rtnetlink } from "../../../kernel/types.ts";
import { formatPrefix, type Prefix } from "../../../net/address.ts";

/** 4294967294 is that of BGP's, 4294967295 the kernel's own. */
const DISCARD_METRIC = 4294967293;
const MAIN_TABLE = 254;

export class RangeDiscards {
  /** Those that stand, by their prefix. Read once: the table may hold a million routes. */
  #present: Map<string, Prefix> | undefined;

  /** Discards what is for these ranges and for no pod of theirs, and no other ranges. Throws NetlinkError. */
  follow(netlink: Rtnetlink, ranges: readonly Prefix[], mended: string[]): void {
    const first = this.#present === undefined;
    const present = this.#present ?? new Map(rangeDiscards(netlink).map(prefix => [formatPrefix(prefix), prefix]));
    this.#present = present;
    const wanted = new Map(ranges.map(prefix => [formatPrefix(prefix), prefix]));
    for (const [text, prefix] of present) {
      if (wanted.has(text)) continue;
      tolerate("ESRCH", () => netlink.deleteRoute(keyOf(prefix)));
      present.delete(text);
    }
    for (const [text, prefix] of wanted) {
      // Each time: it may have been removed.
      const added = tolerate("EEXIST", () => netlink.addRoute({ ...keyOf(prefix), protocol: RTPROT_PODLANE_PODS, nextHops: [] }));
      if (added && !first && present.has(text)) mended.push(`put the discard route of ${text} back`);
      present.set(text, prefix);
    }
  }
}

/** Of all that is in the kernel. */
export function rangeDiscards(netlink: Rtnetlink): Prefix[] {
  return [...netlink.routes({ table: MAIN_TABLE, protocol: RTPROT_PODLANE_PODS })]
    .flat()
    .filter(({ metric, type }) => type === "unreachable" && metric === DISCARD_METRIC)
    .map(({ family, destination, length }) => ({ family, address: destination, length }));
}

export function dropRangeDiscard(netlink: Rtnetlink, prefix: Prefix): void {
  netlink.deleteRoute(keyOf(prefix));
}

function keyOf({ family, address, length }: Prefix): RouteKey {
  return {
    family,
    destination: address,
    length,
    table: MAIN_TABLE,
    protocol: RTPROT_PODLANE_PODS,
    type: "unreachable",
    metric: DISCARD_METRIC,
  };
}

/** False where the kernel said this. */
function tolerate(code: string, request: () => void): boolean {
  try {
    request();
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.code === code) return false;
    throw error;
  }
}
