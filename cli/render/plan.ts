/** `podlane plan`: what this node does, or would do, in words. */
import type { NodePlan } from "../../config/plan.ts";
import { type Paint, printable } from "./paint.ts";
import { renderProblems } from "./status.ts";
import { pairs, table } from "./table.ts";

export function renderPlan(plan: NodePlan, paint: Paint): string {
  const { speaker, pods } = plan;
  const lines = pairs(
    [
      ["node", paint("strong", printable(plan.node))],
      ["BGP", speaker ? `AS ${speaker.asn}, router id ${speaker.routerId}` : paint("warn", "none")],
      [
        "listens on",
        speaker &&
          (speaker.listen.port === 0
            ? "nothing"
            : `${(speaker.listen.addresses ?? ["all addresses"]).join(", ")} port ${speaker.listen.port}`),
      ],
      [
        "pods",
        pods.podCidrs.length > 0
          ? `${pods.podCidrs.join(", ")} on ${pods.mode} ${pods.bridgeName}, MTU ${pods.mtu}`
          : "none: no pod subnet",
      ],
      ["masquerade", pods.masquerade && `everywhere but to ${pods.masquerade.exceptCidrs.join(", ") || "nowhere"}`],
    ],
    paint,
  );
  if (speaker && speaker.neighbors.length > 0) {
    const columns = [
      { title: "NEIGHBOR", text: (one: (typeof speaker.neighbors)[number]) => one.name },
      { title: "ADDRESS", text: (one: (typeof speaker.neighbors)[number]) => one.address },
      { title: "AS", align: "right" as const, text: (one: (typeof speaker.neighbors)[number]) => String(one.remoteAsn) },
      { title: "FAMILIES", text: (one: (typeof speaker.neighbors)[number]) => Object.keys(one.families).join(" ") },
      { title: "FROM", text: (one: (typeof speaker.neighbors)[number]) => one.source ?? "" },
      { title: "NOTES", text: notes },
    ];
    lines.push("", ...table(speaker.neighbors, columns, paint));
  }
  if (speaker && speaker.networks.length > 0) {
    const columns = [
      { title: "ANNOUNCES", text: (one: (typeof speaker.networks)[number]) => one.prefix },
      { title: "KIND", text: (one: (typeof speaker.networks)[number]) => one.kind },
      { title: "FROM", text: (one: (typeof speaker.networks)[number]) => one.source },
      { title: "TO", text: (one: (typeof speaker.networks)[number]) => one.neighbors?.join(" ") ?? "all" },
    ];
    lines.push("", ...table(speaker.networks, columns, paint));
  }
  lines.push("", renderProblems(plan.problems, paint).trimEnd());
  return `${lines.join("\n")}\n`;
}

function notes(neighbor: NonNullable<NodePlan["speaker"]>["neighbors"][number]): string {
  return [
    neighbor.passive ? "passive" : "",
    neighbor.routeReflectorClient ? "reflector client" : "",
    neighbor.password === undefined ? "" : "MD5",
    neighbor.multihop ? `multihop ${neighbor.multihop}` : "",
    neighbor.ttlSecurity ? `GTSM ${neighbor.ttlSecurity}` : "",
    neighbor.shutdown ? "shut down" : "",
  ]
    .filter(Boolean)
    .join(", ");
}
