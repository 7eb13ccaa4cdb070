/**
 * What no neighbour may take over: this node's pod subnets and connected networks, service ranges, default routes, and what is no
 * destination for a fabric at all.
 */
import type { ProtectedPrefix, SpeakerConfig } from "../../bgpd/config.ts";
import type { PodPlan } from "../../cni/types.ts";
import { covers, formatPrefix, parseAddress, parsePrefix } from "../../net/address.ts";
import type { Fabric } from "../resources/kinds.ts";
import { byName, type Context, compareText, sameAddress } from "./context.ts";

export type Guard = SpeakerConfig["protectedPrefixes"][number];

/** Ranges that no router outside has a use for (RFC 6890); loopback, multicast and IPv6 link-local the speaker ignores by itself. */
export const ReservedRanges: readonly Guard[] = [
  { prefix: "0.0.0.0/8", reason: 'addresses of "this network" (RFC 1122)', orLonger: true },
  { prefix: "169.254.0.0/16", reason: "link-local addresses (RFC 3927)", orLonger: true },
  { prefix: "240.0.0.0/4", reason: "reserved addresses (RFC 1112)", orLonger: true },
  { prefix: "::/16", reason: "unspecified, IPv4-compatible and IPv4-mapped addresses (RFC 4291)", orLonger: true },
  { prefix: "fec0::/10", reason: "site-local addresses (RFC 3879)", orLonger: true },
];

/** Half of the Internet in place of a default route, say: nobody announces that much by right. Default routes have a guard of their own. */
const short: Guard[] = [
  ...["0.0.0.0/1", "128.0.0.0/1"].map(prefix => ({ prefix, reason: "shorter than /8", orLonger: true, le: 7 })),
  ...["::/1", "8000::/1"].map(prefix => ({ prefix, reason: "shorter than /16", orLonger: true, le: 15 })),
];

/** By prefix; of several reasons for one prefix the first in this order stays. */
export function compileGuards(context: Context, fabric: Fabric, pods: PodPlan): Guard[] {
  const services = serviceRanges(context, fabric).map(prefix => ({ prefix, reason: "service range", orLonger: true }));
  const guards: Guard[] = [
    ...pods.podCidrs.map(prefix => ({ prefix, reason: "pod subnet of this node", orLonger: true })),
    { prefix: "0.0.0.0/0", reason: "default route", orLonger: false },
    { prefix: "::/0", reason: "default route", orLonger: false },
    ...services,
    ...connectedNetworks(context, services),
    ...(fabric.spec.protectedPrefixes ?? []).map(({ prefix, reason, orLonger }) => ({ prefix, reason, orLonger })),
    ...ReservedRanges,
    ...short,
  ];
  const byPrefix = new Map<string, ProtectedPrefix>();
  for (const guard of guards) {
    const prefix = formatPrefix(parsePrefix(guard.prefix));
    const known = byPrefix.get(prefix);
    if (!known) byPrefix.set(prefix, { ...guard, prefix });
    else {
      if (!guard.yields) delete known.yields;
      if (guard.orLonger && guard.le === undefined) {
        known.orLonger = true;
        delete known.le;
      }
    }
  }
  return [...byPrefix.values()].sort((a, b) => compareText(a.prefix, b.prefix));
}

/** Of the cluster, whichever object or process says so: a service range is one for all nodes. */
export function serviceRanges({ resources, facts }: Pick<Context, "resources" | "facts">, fabric: Fabric): string[] {
  const ranges = [
    ...(fabric.spec.serviceCIDRs ?? []),
    ...byName(resources.podNetworks).flatMap(({ spec }) => spec.serviceCIDRs ?? []),
    ...(facts.serviceAddresses ?? []).map(address => `${address}/${parseAddress(address).length * 8}`),
  ].map(range => formatPrefix(parsePrefix(range)));
  return [...new Set(ranges)];
}

/** All networks that this node is connected to, by the kernel; those that hold an InternalIP first. A kube-proxy with IPVS adds each service address. */
function connectedNetworks({ self, facts }: Context, services: readonly Guard[]): Guard[] {
  const internal = Object.values(self.address);
  const networks = facts.addresses
    .filter(({ prefixLength }) => prefixLength > 0)
    .map(({ interface: link, address, prefixLength }) => ({
      prefix: formatPrefix(parsePrefix(`${address}/${prefixLength}`, "clear")),
      reason: internal.some(own => sameAddress(own, address)) ? "node network" : `connected network of ${link}`,
      orLonger: true,
      yields: true,
    }));
  const isService = (prefix: string) => services.some(range => covers(parsePrefix(range.prefix), parsePrefix(prefix)));
  return networks
    .filter(({ prefix, reason }) => reason === "node network" || !isService(prefix))
    .sort((a, b) => compareText(b.reason, a.reason));
}
