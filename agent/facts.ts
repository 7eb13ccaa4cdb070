/** What the kernel says about this node: the addresses that compile() builds on. */
import { isPodSide } from "../cni/attach/leftovers.ts";
import type { NodeFacts } from "../config/plan.ts";
import type { Rtnetlink } from "../kernel/types.ts";
import { formatAddress, isAddress, isLinkLocal } from "../net/address.ts";
import { isOverlayLink } from "../overlay/names.ts";

const SCOPE_HOST = 254;
/** Where kube-proxy in mode ipvs puts the addresses of all Services: not the node's own, and each change of one would be one of the facts. */
const IPVS_DEVICE = "kube-ipvs0";
/** IFA_F_TEMPORARY (privacy addresses change all the time), IFA_F_DADFAILED, IFA_F_TENTATIVE (linux/if_addr.h). */
const UNUSABLE = 0x01 | 0x08 | 0x40;

/**
 * Addresses that others can reach the node by, in the kernel's order. Left out: loopback's own, link-local and temporary ones, and those
 * on the pods' side (`podBridge` may not be marked yet) and of tunnels, which are the pods' gateways and not the node's, and those of Services.
 */
export function nodeFacts(
  name: string,
  netlink: Pick<Rtnetlink, "links" | "addresses">,
  podBridge: string,
  environment: NodeJS.ProcessEnv = process.env,
): NodeFacts {
  const links = netlink.links().filter(link => !isPodSide(link) && !isOverlayLink(link));
  const names = new Map(links.map(link => [link.index, link.name]));
  const addresses = netlink.addresses().flatMap(one => {
    const device = names.get(one.ifindex);
    if (device === undefined || device === podBridge || device === IPVS_DEVICE) return [];
    if (one.scope === SCOPE_HOST || (one.flags & UNUSABLE) !== 0 || isLinkLocal(one.address)) return [];
    return [{ interface: device, address: formatAddress(one.address), prefixLength: one.prefixLength }];
  });
  const { KUBERNETES_SERVICE_HOST: apiServer } = environment;
  return { name, addresses, ...(apiServer && isAddress(apiServer) ? { serviceAddresses: [apiServer] } : {}) };
}
