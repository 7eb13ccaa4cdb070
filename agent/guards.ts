/** What every ADD passes before it is answered: the packet filter's rules about the pod, and then the policies that select it. */
import type { AttachmentGuard } from "../cni/types.ts";
import type { Rtnetlink } from "../kernel/types.ts";
import type { Netfilter } from "./netfilter.ts";
import type { Policies } from "./policies.ts";

export function bothGuards(netfilter: Netfilter, policies: Policies): AttachmentGuard & { obstacle(): string | undefined } {
  return {
    prepare: pod => netfilter.prepare(pod),
    admit(pod) {
      netfilter.attached(pod.hostInterface);
      return policies.admit(pod);
    },
    released(hostInterface) {
      policies.released(hostInterface);
      netfilter.released(hostInterface);
    },
    obstacle: () => policies.obstacle(),
  };
}

/** The bridge that a pod's link is a port of; null: none; undefined: there is no such link. */
export function bridgeOf(netlink: Pick<Rtnetlink, "link">, hostInterface: string): string | null | undefined {
  const link = netlink.link(hostInterface);
  if (!link) return undefined;
  return link.master === 0 ? null : netlink.link(link.master)?.name;
}
