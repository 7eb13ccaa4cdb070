/** `podlane status` and `podlane problems`. */
import type { SessionsView, StatusView } from "../../agent/api/views.ts";
import type { Problem } from "../../config/plan.ts";
import { count, duration, type Paint, printable } from "./paint.ts";
import { compareNames, pairs, table } from "./table.ts";

export function renderStatus(status: StatusView, now: number, paint: Paint): string {
  const { speaker, problems } = status;
  const lines = pairs(
    [
      ["node", paint("strong", printable(status.node))],
      ["agent", `podlane ${status.version}, process ${status.pid}, up ${duration(now - Date.parse(status.startedAt))}`],
      ["configuration", configuration(status, now, paint)],
      ["BGP", speaker ? `AS ${speaker.asn}, router id ${speaker.routerId}, ${listening(speaker.listening)}` : paint("warn", "none")],
      ["sessions", speaker && sessions(speaker.sessions, paint)],
      ["routes", speaker && tables(speaker.tables)],
      ["kernel", speaker?.fib && kernel(speaker, paint)],
      ["pods", `${count(status.attachments)} attached`],
      ["policies", policies(status, paint)],
      ["services", status.services ? `${count(status.services)} prefixes announced` : undefined],
      ["serves pods", serves(status.serving, paint)],
      ["event loop", `longest turn ${status.turns.longest} ms, ${duration(now - Date.parse(status.turns.at))} ago`],
      ["problems", problemCount(problems, paint)],
    ],
    paint,
  );
  return `${lines.join("\n")}\n`;
}

export function renderProblems(problems: readonly Omit<Problem, "reason">[], paint: Paint): string {
  if (problems.length === 0) return `${paint("good", "no problems")}\n`;
  const blocks = [...problems]
    .sort((a, b) => a.severity.localeCompare(b.severity))
    .map(problem => {
      const tone = problem.severity === "error" ? "bad" : "warn";
      const subject = [problem.object, problem.field].filter(Boolean).join(" ");
      return [
        `${paint(tone, problem.severity)}  ${paint("strong", printable(subject))}`,
        `  ${printable(problem.message)}`,
        ...pairs(
          [
            ...(problem.consequences ?? []).map((text, at): [string, string] => [at === 0 ? "hence" : "", printable(text)]),
            ["remedy", printable(problem.remedy)],
            ["at", problem.place && printable(problem.place)],
          ],
          paint,
          "  ",
        ),
      ].join("\n");
    });
  return `${blocks.join("\n\n")}\n`;
}

function serves({ ready, reason }: StatusView["serving"], paint: Paint): string {
  return `${ready ? paint("good", "yes") : paint("bad", "no")}: ${printable(reason)}`;
}

/** Nothing where there are none. */
function policies({ policies: found }: StatusView, paint: Paint): string | undefined {
  if (!found || (found.policies === 0 && found.inForce)) return undefined;
  const state = found.inForce ? paint("good", "in force") : paint("warn", "not all in force yet");
  return `${count(found.policies)}, ${count(found.isolated)} pod interfaces here selected, ${state}`;
}

function configuration({ config }: StatusView, now: number, paint: Paint): string {
  const source = printable(config.source);
  if (config.inUse === "none") return `${source}  ${paint("bad", "nothing could be applied yet")}`;
  const age = config.appliedAt ? `applied ${duration(now - Date.parse(config.appliedAt))} ago` : "";
  return config.inUse === "saved" ? `${paint("warn", "the last good plan")}, as ${source} cannot be used; ${age}` : `${source}, ${age}`;
}

function listening(sockets: { address: string; port: number }[]): string {
  if (sockets.length === 0) return "not listening";
  return `listening on ${sockets.map(one => (one.address.includes(":") ? `[${one.address}]:${one.port}` : `${one.address}:${one.port}`)).join(", ")}`;
}

/** Of those that are down, named in the line. */
const NAMED_SESSIONS = 5;

function sessions({ established, configured, overdue }: SessionsView, paint: Paint): string {
  const text = `${established} of ${configured} established`;
  if (established === configured) return paint("good", text);
  const names = [...overdue].sort(compareNames);
  const more = names.length > NAMED_SESSIONS ? ` and ${names.length - NAMED_SESSIONS} more` : "";
  const down = names.length === 0 ? "" : `; down: ${names.slice(0, NAMED_SESSIONS).map(printable).join(", ")}${more}`;
  return paint("bad", text + down);
}

function tables(all: NonNullable<StatusView["speaker"]>["tables"]): string {
  return table(
    Object.entries(all),
    [
      { title: "", text: ([family]) => family },
      { title: "", align: "right", text: ([, one]) => `${count(one.prefixes)} prefixes` },
      { title: "", align: "right", text: ([, one]) => `${count(one.paths)} paths` },
      { title: "", align: "right", text: ([, one]) => `${count(one.best)} best` },
    ],
    (_tone, text) => text,
  ).join("\n");
}

function kernel({ fib, converged }: NonNullable<StatusView["speaker"]>, paint: Paint): string {
  const parts = [
    `${count(fib!.installed)} routes`,
    fib!.adopted > 0 ? `${count(fib!.adopted)} adopted at start` : "",
    fib!.pending > 0 ? `${count(fib!.pending)} pending` : "",
    fib!.repaired > 0 ? `${count(fib!.repaired)} repaired` : "",
    fib!.failed > 0 ? paint("bad", `${count(fib!.failed)} failed${fib!.lastError ? ` (${printable(fib!.lastError)})` : ""}`) : "",
    converged ? "" : paint("warn", "still converging"),
  ];
  return parts.filter(Boolean).join(", ");
}

function problemCount({ errors, warnings }: StatusView["problems"], paint: Paint): string {
  if (errors + warnings === 0) return paint("good", "none");
  const some = (amount: number, what: string) => (amount === 0 ? [] : [`${amount} ${what}${amount === 1 ? "" : "s"}`]);
  return `${paint(errors > 0 ? "bad" : "warn", [...some(errors, "error"), ...some(warnings, "warning")].join(", "))}: see podlane problems`;
}
