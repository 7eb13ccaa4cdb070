/** What every ADD passes before it is answered: the packet filter's rules about the pod, and then the policies that select it. */
import type { AttachmentGuard } from "../cni/types.ts";
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
