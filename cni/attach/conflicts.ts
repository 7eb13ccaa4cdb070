/**
 * What on links of the node belongs to its pods: the bridge that another CNI plugin left, a node network inside the pod range, an address of a service
 * on lo, a route. The kernel then leads a part of the range elsewhere, or takes a pod's packets for its own.
 */
import type { InterfaceAddress, Link, Rtnetlink } from "../../kernel/types.ts";
import { type Address, contains, formatAddress, formatPrefix, sameOctets } from "../../net/address.ts";
import { FIRST_OFFSET, type Pool } from "../ipam/pool.ts";
import type { AttachProblem } from "../types.ts";
import { BRIDGE_ALIAS, isPodLink, OVERLAY_ALIAS } from "./names.ts";

/** Addresses of the node in the ranges, but for gateways, and the links that have them: no pod may get one. */
export function nodeAddresses(netlink: Rtnetlink, pools: readonly Pool[]): Map<string, string> {
  const links = new Map<number, string>();
  const result = new Map<string, string>();
  for (const { ifindex, address } of netlink.addresses()) {
    if (!pools.some(({ prefix, gateway }) => contains(prefix, address) && !sameOctets(gateway, address))) continue;
    if (!links.has(ifindex)) links.set(ifindex, netlink.link(ifindex)?.name ?? `link ${ifindex}`);
    result.set(formatAddress(address), links.get(ifindex)!);
  }
  return result;
}

/** What of the node's links lies in a pod range, or leads away what is for it. A link that is down does no harm until it comes up. */
export function findConflicts(netlink: Rtnetlink, pools: readonly Pool[]): AttachProblem[] {
  if (pools.length === 0) return [];
  const links = new Map(netlink.links().map(link => [link.index, link]));
  const problems = new Map<string, AttachProblem>();
  for (const entry of netlink.addresses()) {
    const link = links.get(entry.ifindex);
    if (!link || link.alias === BRIDGE_ALIAS || link.alias === OVERLAY_ALIAS || isPodLink(link)) continue;
    for (const pool of pools) {
      const address = [entry.address, entry.peer].find(one => one && contains(pool.prefix, one));
      if (address) problems.set(`${link.name} ${formatAddress(address)} ${pool.text}`, conflict(link, entry, address, pool));
    }
  }
  for (const pool of pools) {
    if (pool.retired) continue;
    const away = leadsAway(netlink, links, pool);
    // An address says it already.
    if (away && ![...problems.values()].some(({ field }) => field === away.field)) problems.set(`route ${pool.text}`, away);
  }
  return [...problems.values()];
}

/**
 * By the first address that a pod gets: one look-up tells of all routes for the whole range. A shorter prefix than the bridge's matches where there is no
 * bridge; then each pod has a route of its own, and none for the range comes before it.
 */
function leadsAway(netlink: Rtnetlink, links: ReadonlyMap<number, Link>, pool: Pool): AttachProblem | undefined {
  if (![...links.values()].some(({ alias }) => alias === BRIDGE_ALIAS)) return undefined;
  const { route } = netlink.match(pool.addressAt(FIRST_OFFSET));
  if (route?.type !== "unicast" || route.length < pool.prefix.length) return undefined;
  const link = route.nextHops
    .map(({ ifindex }) => links.get(ifindex))
    .find(found => found && found.alias !== BRIDGE_ALIAS && !isPodLink(found));
  if (!link) return undefined;
  const text = formatPrefix({ address: route.destination, length: route.length });
  return {
    severity: "error",
    reason: "RouteConflict",
    field: link.name,
    message: `the route ${text} by the link ${link.name} leads packets for the pod subnet ${pool.text} away from the pods`,
    remedy: `remove it (ip route del ${text} dev ${link.name}) and whatever sets it, or give the node another pod subnet`,
  };
}

function conflict(link: Link, { prefixLength, peer }: InterfaceAddress, address: Address, pool: Pool): AttachProblem {
  const text = `${formatAddress(address)}/${prefixLength}`;
  const whole = prefixLength === address.length * 8;
  const holds = sameOctets(address, pool.gateway)
    ? `the gateway of the pod subnet ${pool.text}`
    : whole
      ? `an address of the pod subnet ${pool.text}`
      : prefixLength > pool.prefix.length
        ? `a part of the pod subnet ${pool.text}`
        : `the pod subnet ${pool.text}`;
  const down = link.up ? "" : "; it is down, and cuts pods off as soon as it comes up";
  const far = peer && sameOctets(peer, address) ? " at its other end" : "";
  return {
    severity: link.up ? "error" : "warning",
    reason: "AddressConflict",
    field: link.name,
    message: `the link ${link.name} has ${text}${far}, and so ${holds}: packets for pods may go there${down}`,
    remedy:
      link.kind === "bridge"
        ? `if it is left of another CNI plugin, remove it (ip link delete ${link.name}); else give the node another pod subnet`
        : `take the address off (ip address del ${text} dev ${link.name}), or give the node another pod subnet`,
  };
}
