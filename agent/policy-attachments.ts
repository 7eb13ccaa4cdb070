/** Attachments as policies see them: each with its pod. Pure. */
import type { AttachmentView } from "../cni/types.ts";
import type { PolicyAttachment, PolicyPod } from "../netfilter/policy/types.ts";

/** None: no pod of Kubernetes was named with it. */
export function attachmentOf({ pod, addresses, hostInterface }: AttachmentView): PolicyAttachment[] {
  if (!pod) return [];
  const { namespace, name, uid } = pod;
  return [{ key: `${namespace}/${name}`, ...(uid && { uid }), addresses: addresses.map(withoutLength), hostInterface }];
}

/**
 * What was taken over from its interface, after the ledger was lost, has no name: it is the pod that has its addresses, and its policies hold. None has
 * them: it is no pod of Kubernetes.
 */
export function namedAttachments(
  attachments: readonly AttachmentView[],
  pods: { byAddress(addresses: ReadonlySet<string>): Map<string, PolicyPod> },
): PolicyAttachment[] {
  const nameless = attachments.filter(({ pod }) => !pod);
  const sought = new Set(nameless.flatMap(({ addresses }) => addresses.map(withoutLength)));
  const found = sought.size > 0 ? pods.byAddress(sought) : new Map<string, PolicyPod>();
  return attachments.flatMap(one => {
    if (one.pod) return attachmentOf(one);
    const pod = one.addresses.map(address => found.get(withoutLength(address))).find(owner => owner !== undefined);
    return pod ? attachmentOf({ ...one, pod }) : [];
  });
}

function withoutLength(address: string): string {
  return address.split("/")[0];
}
