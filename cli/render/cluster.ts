/** `podlane cluster` and the versions of agents. */
import type { ClusterView, NodeRow, ProblemGroup, VersionGroup } from "../cluster-report.ts";
import { count, duration, type Paint, type Tone } from "./paint.ts";
import { renderProblems } from "./status.ts";
import { pairs, table } from "./table.ts";
import { onNodes } from "./validation.ts";

export function renderCluster(view: ClusterView, now: number, paint: Paint): string {
  const { nodes } = view;
  if (nodes.length === 0) return "the cluster has no nodes\n";
  const rows = table(
    nodes,
    [
      { title: "NODE", text: row => row.name, tone: () => "strong" },
      { title: "READY", text: readyWord, tone: readyTone },
      { title: "SESSIONS", align: "right", text: sessions, tone: sessionTone },
      { title: "ROUTES", align: "right", text: row => (row.routes === undefined ? "-" : count(row.routes)) },
      { title: "ERRORS", align: "right", text: ({ problems }) => some(problems.errors), tone: () => "bad" },
      { title: "WARNINGS", align: "right", text: ({ problems }) => some(problems.warnings), tone: () => "warn" },
      { title: "DRAIN", text: row => row.drain ?? "", tone: () => "warn" },
      { title: "VERSION", text: row => row.version ?? "" },
      { title: "CHANGED", align: "right", text: row => (row.changedAt ? duration(now - Date.parse(row.changedAt)) : "-") },
      { title: "REASON", text: row => (row.orphaned ? "its Node object is gone" : (row.reason ?? "")), tone: () => "dim" },
    ],
    paint,
  );
  return `${[...summary(view, paint), "", ...rows].join("\n")}\n`;
}

export function renderClusterProblems({ nodes, problems }: ClusterView, paint: Paint): string {
  const all = nodes.map(row => row.name);
  return renderProblems(
    problems.map(({ nodes: having, reason, object, ...problem }) => ({
      ...problem,
      object: reason ? `${reason}  ${object}` : object,
      message: `${problem.message} (${onNodes(having, all)})`,
    })),
    paint,
  );
}

export function renderVersions(versions: readonly VersionGroup[], paint: Paint): string {
  const all = versions.flatMap(group => group.nodes);
  const entries = versions.map(({ version, nodes }): [string, string] => [
    version ?? "unknown",
    nodes.length === 1 ? `agent of node ${nodes[0]}` : `agents ${onNodes(nodes, all)}`,
  ]);
  return `${pairs(entries, paint).join("\n")}\n`;
}

function summary({ nodes: rows, problems }: ClusterView, paint: Paint): string[] {
  const nodes = rows.filter(row => !row.orphaned);
  const sum = (of: (row: NodeRow) => number) => nodes.reduce((total, row) => total + of(row), 0);
  const ready = nodes.filter(row => row.ready === "True").length;
  const silent = nodes.filter(row => !row.reported).length;
  const [established, wanted] = [sum(row => row.sessions.established), sum(row => row.sessions.wanted)];
  const without = silent === 0 ? "" : `; ${count(silent)} without a report`;
  return pairs(
    [
      ["nodes", paint(ready === nodes.length ? "good" : "bad", `${count(ready)} of ${count(nodes.length)} ready${without}`)],
      ["sessions", paint(established === wanted ? "good" : "bad", `${count(established)} of ${count(wanted)} established`)],
      ["problems", problemCount(problems, paint)],
    ],
    paint,
  );
}

function problemCount(problems: readonly ProblemGroup[], paint: Paint): string {
  if (problems.length === 0) return paint("good", "none");
  const kinds = (["error", "warning"] as const).flatMap(severity => {
    const amount = problems.filter(one => one.severity === severity).length;
    return amount === 0 ? [] : [`${count(amount)} ${severity}${amount === 1 ? "" : "s"}`];
  });
  const tone = problems[0].severity === "error" ? "bad" : "warn";
  return `${paint(tone, kinds.join(", "))}: see podlane cluster --problems`;
}

function readyWord(row: NodeRow): string {
  return row.reported ? { True: "yes", False: "no", Unknown: "unknown" }[row.ready] : "-";
}

function readyTone(row: NodeRow): Tone {
  if (row.ready === "True") return "good";
  return row.ready === "False" ? "bad" : "warn";
}

function sessions({ reported, sessions: { established, wanted } }: NodeRow): string {
  return reported ? `${established}/${wanted}` : "-";
}

function sessionTone({ sessions: { established, wanted } }: NodeRow): Tone {
  return established < wanted ? "bad" : "plain";
}

function some(amount: number): string {
  return amount === 0 ? "" : count(amount);
}
