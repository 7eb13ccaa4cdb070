/** `podlane explain POD POD:PORT` and `podlane policies`. */
import type { ConnectionView, PoliciesView } from "../../agent/api/views.ts";
import { type Paint, printable } from "./paint.ts";
import { compareNames, table } from "./table.ts";

type Verdict = ConnectionView["ingress"];

const words: Record<Verdict["by"], string> = {
  rule: "",
  isolated: "no rule of its policies lets it pass",
  "not-isolated": "no policy isolates the pod in this direction",
  "not-a-pod": "no pod that is known has this name or address, so no policy is asked",
  "host-network": "it is on the host network, so no policy is asked",
  self: "it is the pod itself, so no policy is asked",
  "own-node": "it is the pod's own node, so no policy is asked",
};

export function renderConnection(view: ConnectionView, paint: Paint): string {
  const title = `${printable(view.from)} → ${printable(view.to)}, port ${view.port}/${view.protocol}`;
  const end = view.allowed ? paint("good", "passes") : paint("bad", "is dropped");
  const line = (label: string, verdict: Verdict) => {
    const mark = verdict.allowed ? paint("good", "✓") : paint("bad", "✗");
    return `${paint("accent", label.padEnd(12))}${mark} ${printable(reasonOf(verdict))}`;
  };
  return `${[`${paint("strong", title)}: ${end}`, "", line("egress", view.egress), line("ingress", view.ingress)].join("\n")}\n`;
}

function reasonOf({ by, allowed, policy, tier, rule, ruleName, isolatedBy = [] }: Verdict): string {
  if (by === "rule") {
    const name = ruleName === undefined ? "" : ` "${ruleName}"`;
    const of = tier === undefined || tier === "NetworkPolicy" ? "NetworkPolicy" : `tier ${tier}:`;
    return `rule ${rule}${name} of ${of} ${policy} ${allowed ? "lets it pass" : "denies it"}`;
  }
  return by === "isolated" ? `${words[by]}: ${isolatedBy.join(", ")}` : words[by];
}

export function renderPolicies({ enforced, policies }: PoliciesView, paint: Paint): string {
  if (!enforced) return "NetworkPolicies are not carried out on this node\n";
  if (policies.length === 0) return "there are no policies\n";
  const lines = table(
    [...policies].sort((a, b) => compareNames(a.policy, b.policy)),
    [
      { title: "POLICY", text: one => one.policy, tone: () => "strong" },
      { title: "PODS HERE", align: "right", text: one => String(one.pods.length) },
      { title: "DROPPED IN", align: "right", text: one => String(one.dropped?.ingress ?? "-") },
      { title: "DROPPED OUT", align: "right", text: one => String(one.dropped?.egress ?? "-") },
    ],
    paint,
  );
  return `${lines.join("\n")}\n`;
}
