/**
 * The capability "bandwidth" (CNI CONVENTIONS, the annotations kubernetes.io/ingress-bandwidth and egress-bandwidth): what the pod receives is held at the node's end of
 * its link, what it sends at the end in the pod, each by a token bucket. The reference plugin redirects what the pod sends to a link of kind ifb, which needs actions
 * of tc that many kernels are built without. A policer of nftables at the node's end would hold the rate too (105 to 112 % of it, measured), by dropping, and would be one
 * more thing to keep and to remove; in the pod the bucket makes the sender's own socket wait, nothing is lost, and it goes with the link. A pod that
 * has NET_ADMIN can take it off until the next look puts it back.
 */
import { NetlinkError, openRtnetlink } from "../../kernel/index.ts";
import type { Rtnetlink, TokenBucket } from "../../kernel/types.ts";
import type { Reservation } from "../ipam/book.ts";
import { CniError, ErrorCode } from "../protocol/error.ts";
import type { Rate } from "../types.ts";

type Limited = Pick<Reservation, "netns" | "ifname" | "hostInterface" | "bandwidth">;

/** What Kubernetes' runtimes write for "no limit": 2^31 - 1 bits and more. Taken at its word it would let half a gigabyte pass at once. */
const NO_BURST = 2 ** 31 - 1;
/** Seconds of the rate that may leave at once where no burst is said, and that may wait. */
const DEFAULT_BURST = 0.01;
const QUEUE = 0.025;
/** Octets: one packet of the largest kind, as segmentation offload makes it. */
const LEAST = 65_536;
const BITS = 8;

/** Sets what is asked for. Throws CniError, NetlinkError. */
export function limitBandwidth(netlink: Rtnetlink, limited: Limited): void {
  eachEnd(netlink, limited, (end, name, rate) => {
    const link = end.link(name);
    if (link) setBucket(end, link.index, rate);
  });
}

/** What differs, in words. */
export function inspectBandwidth(netlink: Rtnetlink, limited: Limited): string[] {
  const found: string[] = [];
  eachEnd(netlink, limited, (end, name, rate) => {
    if (!isLimited(end, name, rate)) found.push(`the interface ${name} does not hold its packets to ${rate.rate} bits in a second`);
  });
  return found;
}

/** Puts back what somebody took off. A pod that is on its way out is passed over. Throws, when all were looked at, what went wrong first. */
export function mendBandwidth(netlink: Rtnetlink, all: readonly Limited[], mended: string[]): void {
  const failures: unknown[] = [];
  for (const limited of all) {
    if (!limited.bandwidth) continue;
    try {
      if (inspectBandwidth(netlink, limited).length === 0) continue;
      limitBandwidth(netlink, limited);
      mended.push(`limited the bandwidth of ${limited.hostInterface} again`);
    } catch (error) {
      if (netlink.link(limited.hostInterface)) failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** Both ends, as far as they are limited. */
function eachEnd(
  netlink: Rtnetlink,
  { netns, ifname, hostInterface, bandwidth }: Limited,
  visit: (end: Rtnetlink, name: string, rate: Rate) => void,
): void {
  if (bandwidth?.ingress) visit(netlink, hostInterface, bandwidth.ingress);
  // Taken over from its link: where the pod is nobody knows.
  if (!bandwidth?.egress || netns === "") return;
  const pod = openRtnetlink({ netns });
  try {
    visit(pod, ifname, bandwidth.egress);
  } finally {
    pod.close();
  }
}

function isLimited(end: Rtnetlink, name: string, rate: Rate): boolean {
  const link = end.link(name);
  if (!link) return false;
  const found = end.tokenBucket(link.index);
  const wanted = bucketOf(rate);
  return found?.rate === wanted.rate && found.limit === wanted.limit;
}

function setBucket(end: Rtnetlink, ifindex: number, rate: Rate): void {
  try {
    end.setTokenBucket(ifindex, bucketOf(rate));
  } catch (error) {
    if (!(error instanceof NetlinkError && error.code === "ENOENT")) throw error;
    throw new CniError(
      ErrorCode.kernel,
      "the bandwidth cannot be limited: this kernel has no token buckets",
      "load its module sch_tbf, or take the bandwidth annotations off the pod",
    );
  }
}

function bucketOf({ rate, burst }: Rate): TokenBucket {
  const octets = Math.floor(rate / BITS);
  const asked = burst > 0 && burst < NO_BURST ? Math.floor(burst / BITS) : octets * DEFAULT_BURST;
  const whole = Math.max(LEAST, Math.ceil(asked));
  return { rate: octets, burst: whole, limit: Math.min(whole + Math.max(LEAST, Math.ceil(octets * QUEUE)), 2 ** 32 - 1) };
}
