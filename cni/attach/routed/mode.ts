/**
 * Each pod alone on a link to its node: no bridge, no broadcast, no neighbours. The pod has its address with no network around it (/32, /128) and all it sends goes to
 * the gateway 169.254.1.1 or fe80::1, which is the node's end of the link; the node has a route to each address. ADD reports the addresses like that, as Calico does
 * and ptp leaves the pod: a plugin later in the list that took the range's length for a link's would add routes to neighbours that are none.
 */
import { addressOf } from "../../ipam/book.ts";
import type { AttachProblem } from "../../types.ts";
import { ourBridge } from "../bridge/ports.ts";
import { addProxies, announceProxies } from "../bridge/proxies.ts";
import { ensureForwarding } from "../forwarding.ts";
import type { AttachContext, AttachMode } from "../mode.ts";
import { followMtu, mtuProblems, type PodEnd, podMtu } from "../mtu.ts";
import { gatewayMac, podLinkMode } from "../names.ts";
import { attachPod, inspectPod } from "../pod.ts";
import { gatewayConflicts, inspectHostEnd, mendHostEnd, routedAddress, setUpHostEnd, whileThere } from "./host-end.ts";

export const routedMode: AttachMode = {
  prepare(context) {
    const { netlink, plan, pools } = context;
    const hasIpv6 = pools.some(pool => pool.family === 6);
    ensureForwarding(context, hasIpv6);
    const mtu = podMtu(netlink, plan, hasIpv6);
    return {
      mode: "routed",
      attach(wanted) {
        const addresses = wanted.addresses.map(routedAddress);
        const { ends, routes } = attachPod(netlink, wanted, {
          mtu,
          hostMac: gatewayMac(),
          addresses,
          plugIn: host => setUpHostEnd(netlink, host, wanted.addresses),
        });
        const bridge = ourBridge(netlink, plan);
        if (bridge)
          addProxies(
            netlink,
            bridge,
            addresses.map(({ address }) => address),
          );
        return { interfaces: ends, ips: addresses.map(entry => ({ ...entry, interface: ends.length - 1 })), routes };
      },
      // The link is new, and nobody else is on it; but pods on the bridge may know a former owner, who was there as well.
      async announce(pod) {
        const bridge = ourBridge(netlink, plan);
        return bridge && announceProxies(bridge, pod.addresses.map(addressOf));
      },
      inspect(wanted) {
        const host = netlink.link(wanted.hostInterface);
        const found = inspectPod(netlink, wanted, wanted.addresses.map(routedAddress));
        return host ? [...found, ...inspectHostEnd(netlink, host, wanted.addresses)] : found;
      },
    };
  },
  mend: mendLinks,
  // The node's ends have names of their own, which begin alike.
  linkPattern: () => "pl+",
};

function mendLinks(context: AttachContext, ends: readonly PodEnd[], active: boolean): { mended: string[]; problems: AttachProblem[] } {
  const { netlink, plan, pools, discards } = context;
  const mended: string[] = [];
  const problems: AttachProblem[] = [];
  const all = netlink.links();
  const links = all.filter(link => podLinkMode(link) === "routed");
  const hasIpv6 = pools.some(pool => pool.family === 6);
  if (active || links.length > 0) ensureForwarding(context, hasIpv6, mended);
  if (links.length > 0) problems.push(...followMtu(netlink, links, ends, podMtu(netlink, plan, hasIpv6), mended));
  const present = active || links.length > 0 ? netlink.addresses() : [];
  problems.push(...gatewayConflicts(all, present));
  if (links.length > 0) {
    const addresses = Map.groupBy(present, ({ ifindex }) => ifindex);
    const byHost = new Map(ends.map(end => [end.hostInterface, end]));
    for (const link of links) {
      const end = byHost.get(link.name);
      // The addresses of an unknown pod are unknown.
      if (!end) continue;
      whileThere(netlink, link, () => problems.push(...mendHostEnd(netlink, link, end, addresses.get(link.index) ?? [], mended)));
    }
  }
  if (active && pools.length > 0) problems.push(...mtuProblems(netlink, plan, hasIpv6));
  // Not those of other nodes by now: there only our pods' own routes count.
  discards.follow(netlink, active ? pools.filter(pool => !pool.retired).map(({ prefix }) => prefix) : [], mended);
  return { mended, problems };
}
