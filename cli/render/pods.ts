/** `podlane pods`. */
import type { AttachmentView } from "../../cni/types.ts";
import { duration, type Paint } from "./paint.ts";
import { compareNames, table } from "./table.ts";

export function renderPods(attachments: readonly AttachmentView[], now: number, paint: Paint): string {
  if (attachments.length === 0) return "no pods are attached\n";
  const lines = table(
    [...attachments].sort((a, b) => compareNames(nameOf(a), nameOf(b)) || compareNames(a.ifname, b.ifname)),
    [
      { title: "POD", text: nameOf, tone: () => "strong" },
      { title: "INTERFACE", text: one => one.ifname },
      { title: "ADDRESSES", text: one => one.addresses.map(withoutLength).join(", ") },
      { title: "MODE", text: one => one.mode ?? "" },
      { title: "NODE SIDE", text: one => one.hostInterface },
      { title: "STATE", text: one => one.state, tone: one => (one.state === "attached" ? "good" : "warn") },
      { title: "FOR", align: "right", text: one => duration(now - one.since) },
    ],
    paint,
  );
  return `${lines.join("\n")}\n`;
}

/** A runtime that is not Kubernetes' names no pod. */
function nameOf({ pod, containerId }: AttachmentView): string {
  return pod ? `${pod.namespace}/${pod.name}` : `container ${containerId.slice(0, 12)}`;
}

/** That of a pod's address is its range's, and says nothing of the pod. */
function withoutLength(address: string): string {
  return address.slice(0, address.lastIndexOf("/"));
}
