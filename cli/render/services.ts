/** `podlane services`: each address with what becomes of it; one Service with all that is to be known; all nodes, a line each. */
import type { ServiceDetails, ServicesView } from "../../agent/api/views.ts";
import type { AddressVerdict } from "../../config/services/types.ts";
import { count, type Paint, printable } from "./paint.ts";
import { pairs, table } from "./table.ts";

/** What the agent of a node said. */
export interface NodeAnswer {
  node: string;
  view?: ServicesView;
  /** Why there is none. */
  error?: string;
}

/** `named`: a Service was asked for by its name. */
export function renderServices(view: ServicesView, named: boolean, paint: Paint): string {
  if (view.known !== "source") return `${notKnown(view, paint)}\n`;
  if (view.services.length === 0) return "no Services\n";
  if (named && view.services.every(({ routes }) => routes)) return `${view.services.map(one => details(one, paint)).join("\n\n")}\n`;
  const rows = view.services.flatMap(({ verdicts }) => verdicts);
  const lines = addresses(rows, paint);
  if (view.next !== undefined)
    lines.push(
      "",
      paint("dim", `${count(view.services.length)} of ${count(view.total)} Services; go on with --after ${printable(view.next)}`),
    );
  return `${lines.join("\n")}\n`;
}

function notKnown({ known, announced }: ServicesView, paint: Paint): string {
  if (known === "none")
    return "Services are not known here: no Advertisement of type Service selects this node, or they have not been read yet";
  const what = `Services have not been read since the agent's start; ${count(announced)} prefixes are announced for them as before`;
  return paint("warn", what);
}

function addresses(rows: readonly AddressVerdict[], paint: Paint): string[] {
  return table(
    rows,
    [
      { title: "SERVICE", text: ({ service }) => service },
      { title: "KIND", text: ({ kind }) => kind },
      { title: "ADDRESS", text: ({ address }) => address || "-" },
      { title: "ANNOUNCED", text: ({ announced }) => (announced ? "yes" : "no"), tone: ({ announced }) => (announced ? "good" : "warn") },
      { title: "REASON", text: reason },
    ],
    paint,
  );
}

function reason({ announced, link, message, sources }: AddressVerdict): string {
  return announced ? `by ${sources.join(", ")}` : `${link}: ${message}`;
}

function details(
  { service, type, externalTrafficPolicy, internalTrafficPolicy, verdicts, routes = [] }: ServiceDetails,
  paint: Paint,
): string {
  const head = [
    paint("strong", printable(service)),
    ...pairs(
      [
        ["type", type],
        ["traffic policy", `external ${externalTrafficPolicy}, internal ${internalTrafficPolicy}`],
      ],
      paint,
      "  ",
    ),
  ];
  return [...head, ...verdicts.flatMap(one => ["", ...verdict(one, paint)]), ...routes.flatMap(one => ["", ...route(one, paint)])].join(
    "\n",
  );
}

function verdict({ kind, address, announced, sources, link, message, remedy, notes = [] }: AddressVerdict, paint: Paint): string[] {
  const mark = announced ? paint("good", "✓") : paint("warn", "✗");
  return [
    `  ${mark} ${paint("strong", address || "no address")}  ${kind}`,
    ...pairs(
      [
        [announced ? "why" : "why not", printable(announced ? message : `${link}: ${message}`)],
        ["by", sources.map(printable).join(", ")],
        ["remedy", remedy && printable(remedy)],
        ...notes.map((note, at): [string, string] => [at === 0 ? "note" : "", printable(note)]),
      ],
      paint,
      "    ",
    ),
  ];
}

/** Those that are told first. */
function route({ prefix, sent }: NonNullable<ServiceDetails["routes"]>[number], paint: Paint): string[] {
  const rows = [...sent].sort((a, b) => Number(b.advertised) - Number(a.advertised));
  const told = table(
    rows,
    [
      { title: "", text: ({ advertised }) => (advertised ? "✓" : "–"), tone: ({ advertised }) => (advertised ? "good" : "dim") },
      { title: "", text: ({ neighbor }) => neighbor },
      { title: "", text: one => one.reason, tone: ({ advertised }) => (advertised ? "plain" : "dim") },
    ],
    paint,
    "    ",
  );
  return [`  ${paint("accent", prefix)} is told to`, ...(told.length > 0 ? told : ["    nobody: there are no neighbours of its family"])];
}

/** Numbers of addresses: of all Services, or of those that were asked for. */
export function renderNodes(answers: readonly NodeAnswer[], named: boolean, paint: Paint): string {
  if (answers.length === 0) return "no agents\n";
  const rows = answers.map(answer => ({ ...answer, counts: answer.view && countsOf(answer.view, named) }));
  const lines = table(
    rows,
    [
      { title: "NODE", text: ({ node }) => node },
      {
        title: "ANNOUNCED",
        align: "right",
        text: ({ counts, view }) => (counts && view?.known === "source" ? `${counts.announced ?? 0}/${sum(counts)}` : "-"),
        tone: ({ counts }) => (counts && (counts.announced ?? 0) > 0 ? "good" : "plain"),
      },
      { title: "NOT ANNOUNCED", text: row => broken(row) },
    ],
    paint,
  );
  return `${lines.join("\n")}\n`;
}

function countsOf({ counts, services }: ServicesView, named: boolean): Record<string, number> {
  if (!named) return counts;
  const found: Record<string, number> = {};
  for (const { link = "announced" } of services.flatMap(({ verdicts }) => verdicts)) found[link] = (found[link] ?? 0) + 1;
  return found;
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, one) => total + one, 0);
}

function broken({ error, view, counts = {} }: NodeAnswer & { counts?: Record<string, number> }): string {
  if (error !== undefined) return error;
  if (view && view.known !== "source")
    return view.known === "saved" ? "not read since the agent's start" : "no Advertisement, or not read yet";
  return Object.entries(counts)
    .filter(([link]) => link !== "announced")
    .map(([link, number]) => `${link} ${number}`)
    .join(", ");
}
