/** What a lab shows when it is up: sessions, ping matrix, what the routers learned, a packet's way, and how scenarios went. Text only; pure. */
import type { Paint } from "../../cli/render/paint.ts";
import { type Column, table } from "../../cli/render/table.ts";
import type { PathView, SessionView } from "../engine/router-types.ts";
import type { Cell } from "../probe/matrix.ts";
import type { Hop } from "../probe/path.ts";
import type { ScenarioResult } from "../scenario.ts";
import { formatTime } from "./progress.ts";

/** More sessions than this are summed up by machine, and only those that are not established shown. */
const MANY_SESSIONS = 80;
/** More pods than this make no matrix that fits a screen. */
const MANY_PODS = 16;
/** Paths shown of one machine. */
const MAX_PATHS = 40;

export function renderSessions(sessions: SessionView[], paint: Paint): string[] {
  if (sessions.length <= MANY_SESSIONS) return sessionTable(sessions, paint);
  const machines = [...new Set(sessions.map(each => each.machine))];
  const down = sessions.filter(each => each.state !== "Established");
  const count = (machine: string) => sessions.filter(each => each.machine === machine);
  const sums = machines.map(name => ({ name, all: count(name), up: count(name).filter(each => each.state === "Established").length }));
  return [
    ...table(
      sums,
      [
        { title: "MACHINE", text: each => each.name, tone: () => "strong" },
        {
          title: "ESTABLISHED",
          text: each => `${each.up} of ${each.all.length}`,
          tone: each => (each.up === each.all.length ? "good" : "bad"),
        },
      ],
      paint,
      "  ",
    ),
    ...sessionTable(down.slice(0, MAX_PATHS), paint),
    ...more(down.length - MAX_PATHS, "sessions that are not established"),
  ];
}

function more(count: number, what: string): string[] {
  return count > 0 ? [`  … and ${count} more ${what}`] : [];
}

function sessionTable(sessions: SessionView[], paint: Paint): string[] {
  return table(
    sessions,
    [
      { title: "MACHINE", text: each => each.machine, tone: () => "strong" },
      { title: "NEIGHBOR", text: each => each.neighbor },
      { title: "ADDRESS", text: each => each.address },
      { title: "AS", align: "right", text: each => each.asn },
      { title: "STATE", text: each => each.state, tone: each => (each.state === "Established" ? "good" : "bad") },
      { title: "RECEIVED", align: "right", text: each => String(each.received ?? "") },
      { title: "SENT", align: "right", text: each => String(each.sent ?? "") },
      { title: "REASON", text: each => each.reason ?? "", tone: () => "dim" },
    ],
    paint,
    "  ",
  );
}

/**
 * Rows send, columns receive. A cell holds the round trips in milliseconds, or ✘; where pods of both families are there, IPv4 / IPv6, and -
 * for a family that one of the two has not.
 */
export function renderMatrix(cells: Cell[], paint: Paint): string[] {
  const names = [...new Set(cells.flatMap(cell => [cell.from, cell.to]))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const families = ([4, 6] as const).filter(family => cells.some(cell => cell.family === family));
  const pair = (from: string, to: string) =>
    families.map(family => cells.find(cell => cell.from === from && cell.to === to && cell.family === family));
  const one = (cell: Cell | undefined) => (cell === undefined ? "-" : cell.problem === undefined ? (cell.ping ?? 0).toFixed(2) : "✘");
  const tone = (pings: (Cell | undefined)[]) =>
    pings.every(cell => cell === undefined) ? "dim" : pings.some(cell => cell?.problem !== undefined) ? "bad" : "good";
  const columns: Column<string>[] = [
    { title: "FROM \\ TO", text: from => from, tone: () => "strong" },
    ...names.map(
      (to): Column<string> => ({
        title: to,
        align: "right",
        text: from => (from === to ? "·" : pair(from, to).map(one).join("/")),
        tone: from => (from === to ? "dim" : tone(pair(from, to))),
      }),
    ),
  ];
  const bad = cells.filter(cell => cell.problem !== undefined);
  const worst = bad.slice(0, 10).map(cell => `  ${paint("bad", "✘")} ${cell.from} to ${cell.to}: ${cell.problem}`);
  const hint = bad
    .slice(0, 1)
    .map(({ from, address }) => `  why? ${paint("accent", `npm run lab -- exec ${from.replace(/-\d+$/, "")} podlane explain ${address}`)}`);
  const unit = names.length > MANY_PODS ? "" : ` (ms, ${families.map(family => `IPv${family}`).join("/")})`;
  const summary =
    bad.length === 0
      ? `${paint("good", "✔")} all ${cells.length} of ${cells.length} echoes answered, every receiver saw the sender's own address: no NAT${unit}`
      : `${paint("bad", "✘")} ${bad.length} of ${cells.length} failed`;
  return [...(names.length > MANY_PODS ? [] : table(names, columns, paint, "  ")), `  ${summary}`, ...worst, ...hint];
}

export function renderPaths(machine: string, paths: PathView[], paint: Paint): string[] {
  const rows = [...paths].sort((a, b) => a.prefix.localeCompare(b.prefix, "en", { numeric: true }) || Number(b.best) - Number(a.best));
  const shown = table(
    rows.slice(0, MAX_PATHS),
    [
      { title: machine, text: each => each.prefix, tone: () => "strong" },
      { title: "", text: each => (each.best ? "best" : ""), tone: () => "good" },
      { title: "NEXT HOP", text: each => each.nextHops.join(" ") || "itself" },
      { title: "AS PATH", text: each => each.asPath },
      { title: "FROM", text: each => each.from, tone: () => "dim" },
    ],
    paint,
    "  ",
  );
  return [...shown, ...more(rows.length - MAX_PATHS, `paths of ${machine}`)];
}

export function renderHops(hops: Hop[], paint: Paint): string[] {
  return table(
    hops.map((hop, index) => ({ hop, index })),
    [
      { title: "", align: "right", text: ({ index }) => (index === 0 ? "from" : String(index)), tone: () => "dim" },
      {
        title: "",
        text: ({ hop }) => hop.machine ?? (hop.address === undefined ? "no answer" : "unknown"),
        tone: ({ hop }) => (hop.machine === undefined ? "bad" : "strong"),
      },
      { title: "", text: ({ hop }) => hop.address ?? "" },
      { title: "", text: ({ hop }) => hop.route ?? "", tone: () => "dim" },
    ],
    paint,
    "  ",
  );
}

export function renderScenario(result: ScenarioResult, paint: Paint): string[] {
  const good = result.problems.length === 0;
  const sent = result.streams.reduce((sum, stream) => sum + stream.sent, 0);
  const lost = result.streams.reduce((sum, stream) => sum + stream.lost, 0);
  const packets = result.streams.length === 0 ? "" : `${sent} packets sent, ${lost} lost`;
  const losses = table(
    lost === 0 ? [] : result.losses,
    [
      { title: "", text: each => each.after },
      { title: "", text: each => `IPv${each.family}` },
      { title: "", align: "right", text: each => `${each.lost} lost` },
      {
        title: "",
        text: each => (each.lost === 0 ? "" : `in ${each.hit} of ${each.of} streams, longest gap ${formatTime(each.longestGap)}`),
      },
    ],
    paint,
    "    ",
  );
  return [
    `  ${good ? paint("good", "✔") : paint("bad", "✘")} ${paint("strong", result.name)}${packets === "" ? "" : `: ${packets}`}`,
    ...losses,
    ...result.problems.map(problem => `    ${paint("bad", problem.replaceAll("\n", "\n    "))}`),
  ];
}
