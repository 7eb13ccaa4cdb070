/** `podlane routes`. */
import type { AttributesView, RouteView } from "../../bgpd/snapshot.ts";
import { compareOctets, parsePrefix } from "../../net/address.ts";
import { count, type Paint, type Tone } from "./paint.ts";
import { table } from "./table.ts";

const legend = "> best   = shares the traffic (ECMP)   · not chosen   ✗ not eligible";

export function renderRoutes(answer: { routes: readonly RouteView[]; total: number }, paint: Paint): string {
  if (answer.routes.length === 0) return "no routes\n";
  const lines = table(
    inOrder(answer.routes),
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
  lines.push("", paint("dim", legend));
  if (answer.total > answer.routes.length) {
    lines.push(
      `${count(answer.routes.length)} of ${count(answer.total)} routes shown; narrow with PREFIX, --neighbor or --family, or raise --limit`,
    );
  }
  return `${lines.join("\n")}\n`;
}

/** IPv4 before IPv6, then by address and length; the candidates of a prefix stay as they are, the best first. */
function inOrder(routes: readonly RouteView[]): RouteView[] {
  return routes
    .map(route => ({ route, prefix: parsePrefix(route.prefix) }))
    .sort(({ prefix: a }, { prefix: b }) => a.family - b.family || compareOctets(a.address, b.address) || a.length - b.length)
    .map(({ route }) => route);
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
  const parts = [
    view.localPref === undefined ? "" : `local-pref ${view.localPref}`,
    view.asPath === "" ? "empty AS path" : `AS path ${view.asPath}`,
    `origin ${view.origin}`,
    view.med === undefined ? "" : `MED ${view.med}`,
    named("communities", view.communities),
    named("large", view.largeCommunities),
    named("extended", view.extendedCommunities),
    view.originatorId ? `originator ${view.originatorId}` : "",
    named("cluster list", view.clusterList),
    view.aggregator ? `aggregator ${view.aggregator}` : "",
    view.atomicAggregate ? "atomic aggregate" : "",
    named("unknown", view.unknown),
  ];
  return parts.filter(Boolean).join("  ");
}

function named(name: string, values: string[] | undefined): string {
  return values && values.length > 0 ? `${name} ${values.join(" ")}` : "";
}
