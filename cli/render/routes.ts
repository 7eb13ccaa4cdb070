/** `podlane routes`. */
import { AttributeRows } from "../../bgpd/message/attribute-table.ts";
import type { AttributesView } from "../../bgpd/message/types.ts";
import type { RouteList } from "../../bgpd/route-list.ts";
import type { RouteView } from "../../bgpd/snapshot.ts";
import { count, type Paint, type Tone } from "./paint.ts";
import { table } from "./table.ts";

const LEGEND = "> best   = shares the traffic (ECMP)   · not chosen   ✗ not eligible";

export function renderRoutes(answer: RouteList, paint: Paint): string {
  if (answer.routes.length === 0) return "no routes\n";
  const lines = table(
    answer.routes,
    [
      { title: " ", text: markOf, tone: toneOf },
      { title: "PREFIX", text: route => route.prefix, tone: route => (route.best ? "strong" : "plain") },
      { title: "NEXT HOP", text: route => route.attributes.nextHop },
      { title: "FROM", text: route => route.from },
      { title: "KIND", text: route => (route.kind === "learned" ? "" : route.kind) },
      { title: "AS PATH", text: route => route.attributes.asPath },
      { title: "LOCAL PREF", align: "right", text: route => String(route.attributes.localPref ?? "") },
      { title: "MED", align: "right", text: route => String(route.attributes.med ?? "") },
      { title: "REASON", text: route => route.reason, tone: () => "dim" },
    ],
    paint,
  );
  lines.push("", paint("dim", LEGEND));
  if (answer.total > answer.routes.length) {
    const rest = answer.next === undefined ? "this is the last page" : `the next page: --after ${answer.next}`;
    lines.push(`${count(answer.routes.length)} of ${count(answer.total)} routes shown; ${rest}`);
  }
  return `${lines.join("\n")}\n`;
}

export function markOf(route: Pick<RouteView, "best" | "multipath" | "eligible">): string {
  if (route.best) return ">";
  if (route.multipath) return "=";
  return route.eligible ? "·" : "✗";
}

export function toneOf(route: Pick<RouteView, "best" | "multipath" | "eligible">): Tone {
  if (route.best || route.multipath) return "good";
  return route.eligible ? "dim" : "bad";
}

/** What an operator compares, in the order of the decision process; what is absent or of no interest is left out. */
export function attributesText(view: AttributesView): string {
  const unknown = view.unknown?.length ? `unknown ${view.unknown.join(" ")}` : "";
  return [...words.map(({ of }) => of(view)), unknown].filter(Boolean).join("  ");
}

const words = AttributeRows.flatMap(row => row.words ?? []).sort((a, b) => a.place - b.place);
