/** `podlane plan`: what this node does, or would do, in words. */
import type { PlanView } from "../../agent/api/views.ts";
import type { NodePlan } from "../../config/plan.ts";
import { count, type Paint, printable } from "./paint.ts";
import { attributesText } from "./routes.ts";
import { renderProblems } from "./status.ts";
import { pairs, table } from "./table.ts";

export function renderPlan(plan: PlanView, paint: Paint): string {
  const { speaker, pods, overlay, masquerade } = plan;
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
          ? `${pods.podCidrs.join(", ")} ${pods.mode === "routed" ? "routed" : `on bridge ${pods.bridgeName}`}, MTU ${pods.mtu}`
          : "none: no pod subnet",
      ],
      [
        "overlay",
        overlay && `${overlay.mode}, VXLAN ${overlay.vni} on UDP port ${overlay.port}, with ${count(overlay.nodes.length)} nodes`,
      ],
      [
        "masquerade",
        masquerade && `all but what goes to ${count(masquerade.exempt.length)} prefixes and addresses: nodes, pods, exceptions`,
      ],
      ["policies", plan.networkPolicy && "NetworkPolicies are carried out"],
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
      { title: "LIMITS", text: limits },
      { title: "NOTES", text: notes },
    ];
    lines.push("", ...table(speaker.neighbors, columns, paint));
  }
  lines.push(...announcements(plan, paint), ...changes(plan, paint), ...refusedConnections(plan, paint));
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

type Neighbor = NonNullable<NodePlan["speaker"]>["neighbors"][number];

/** "10,000 accepted, 100,000 kept": of a family, the same for both as a rule. */
function limits({ families }: Neighbor): string {
  const texts = Object.values(families).map(({ prefixLimit, receivedLimit = 0 }) =>
    [prefixLimit > 0 ? `${count(prefixLimit)} accepted` : "", receivedLimit > 0 ? `${count(receivedLimit)} kept` : ""]
      .filter(Boolean)
      .join(", "),
  );
  return [...new Set(texts)].map(text => text || "none").join(" / ");
}

/** Neighbours that are named where many hear the same. */
const NAMED = 4;

/** To whom what is announced with which attributes; neighbours that hear the same stand together. */
function announcements({ announcements: all }: PlanView, paint: Paint): string[] {
  const groups = new Map<string, { neighbors: string[]; lines: string[] }>();
  for (const { neighbor, announced, withheld } of all) {
    const rows = table(
      announced,
      [
        { title: "PREFIX", text: one => one.prefix },
        { title: "KIND", text: one => one.kind },
        { title: "FROM", text: one => one.source },
        { title: "ATTRIBUTES", text: one => attributesText({ ...one.attributes, nextHop: "" }) },
        { title: "BY", text: one => one.decidedBy },
      ],
      paint,
      "  ",
    );
    const kept = withheld.map(({ prefix, reason }) => paint("dim", `  not ${printable(prefix)}: ${printable(reason)}`));
    const lines = [...(announced.length > 0 ? rows : [paint("dim", "  nothing")]), ...kept];
    const key = lines.join("\n");
    const group = groups.get(key) ?? { neighbors: [], lines };
    groups.set(key, group);
    if (!group.neighbors.includes(neighbor)) group.neighbors.push(neighbor);
  }
  return [...groups.values()].flatMap(({ neighbors, lines }) => {
    const more = neighbors.length > NAMED ? ` and ${neighbors.length - NAMED} more` : "";
    return ["", `${paint("accent", "announced to")} ${neighbors.slice(0, NAMED).map(printable).join(", ")}${more}`, ...lines];
  });
}

/** Open connections that these policies would not let begin. */
function refusedConnections({ connections }: PlanView, paint: Paint): string[] {
  if (!connections) return [];
  const { refused, count: all, open } = connections;
  const head = paint("accent", "connections");
  if (open === undefined)
    return ["", `${head} the kernel does not list them (CONFIG_NF_CONNTRACK_PROCFS): which of them could not begin anew is not known`];
  if (all === 0) return ["", `${head} none of the ${count(open)} that are open would be refused if it began anew`];
  const lines = refused.map(
    ({ from, to, port, protocol, by }) => `  ${printable(`${from} → ${to}, port ${port}/${protocol}: not by ${by.join(", ")}`)}`,
  );
  const more = all > refused.length ? [`  and ${all - refused.length} more`] : [];
  return ["", paint("warn", `${count(all)} connections are open that could not begin anew; they go on until they end`), ...lines, ...more];
}

/** What it would do to the sessions there are: first of all those that it ends. */
function changes({ changes: found }: PlanView, paint: Paint): string[] {
  if (!found) return [];
  if (found.length === 0) return ["", `${paint("accent", "sessions")} none is touched`];
  const order = ["remove", "reset", "change", "add"];
  const sorted = [...found].sort((a, b) => order.indexOf(a.action) - order.indexOf(b.action));
  return [
    "",
    paint("accent", "sessions"),
    ...sorted.map(
      ({ neighbor, action, text }) => `  ${paint(action === "add" ? "plain" : "warn", `${printable(neighbor ?? "")}: ${printable(text)}`)}`,
    ),
  ];
}
