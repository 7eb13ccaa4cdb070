/** What no neighbour may take over: this node's pod subnets, default routes, service ranges, connected node networks. */
import type { SpeakerConfig } from "../../bgpd/config.ts";
import { formatPrefix, parsePrefix } from "../../net/address.ts";
import type { PodPlan } from "../plan.ts";
import type { Fabric } from "../resources/kinds.ts";
import { type Context, compareText, sameAddress } from "./context.ts";

export type Guard = SpeakerConfig["protectedPrefixes"][number];

/** By prefix; of several reasons for one prefix the first in this order stays. */
export function compileGuards({ self, facts }: Context, fabric: Fabric, pods: PodPlan): Guard[] {
  const guards: Guard[] = [
    ...pods.podCidrs.map(prefix => ({ prefix, reason: "pod subnet of this node", orLonger: true })),
    { prefix: "0.0.0.0/0", reason: "default route", orLonger: false },
    { prefix: "::/0", reason: "default route", orLonger: false },
    ...(pods.serviceCidrs ?? []).map(prefix => ({ prefix, reason: "service range", orLonger: true })),
    ...nodeNetworks(self.address, facts).map(prefix => ({ prefix, reason: "node network", orLonger: true })),
    ...(fabric.spec.protectedPrefixes ?? []).map(({ prefix, reason, orLonger }) => ({ prefix, reason, orLonger })),
  ];
  const byPrefix = new Map<string, Guard>();
  for (const guard of guards) {
    const prefix = formatPrefix(parsePrefix(guard.prefix));
    const known = byPrefix.get(prefix);
    if (!known) byPrefix.set(prefix, { ...guard, prefix });
    else known.orLonger ||= guard.orLonger;
  }
  return [...byPrefix.values()].sort((a, b) => compareText(a.prefix, b.prefix));
}

/** The connected prefixes that hold an InternalIP of this node. */
function nodeNetworks(internal: Context["self"]["address"], { addresses }: Context["facts"]): string[] {
  const own = Object.values(internal);
  return addresses
    .filter(({ address }) => own.some(one => sameAddress(one, address)))
    .map(({ address, prefixLength }) => formatPrefix(parsePrefix(`${address}/${prefixLength}`, "clear")));
}
