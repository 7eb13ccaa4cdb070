/**
 * `podlane explain PREFIX`: the whole life of a prefix on one screen: who offers it and what the import policy made of that, which step
 * of the decision (RFC 4271 section 9.1.2.2) chose, who hears it and who does not and why, and what the kernel holds.
 */
import type { ExplainView } from "../../agent/api/views.ts";
import type { Explanation } from "../../bgpd/snapshot.ts";
import { type Paint, printable } from "./paint.ts";
import { attributesText, markOf, toneOf } from "./routes.ts";
import { width } from "./table.ts";

type Candidate = Explanation["candidates"][number];

export function renderExplanation(explanation: ExplainView, paint: Paint): string {
  const matched = explanation.matched ?? explanation.prefix;
  const asked = matched === explanation.prefix ? "" : paint("dim", `  covers ${explanation.prefix}`);
  const lines = [paint("strong", printable(matched)) + asked];
  const owned = owners(explanation, paint);
  if (owned.length > 0) lines.push("", section("services", owned, paint));
  if (explanation.forwards) lines.push("", section("forwards", forwards(explanation.forwards, paint), paint));
  if (explanation.candidates.length === 0) {
    lines.push("", section("offered by", ["nobody: no neighbour sent this prefix and nothing here announces it"], paint));
  } else {
    lines.push("", section("offered by", candidates(explanation.candidates, paint), paint));
  }
  if (explanation.passedOver.length > 0) {
    const longer = explanation.passedOver.map(one => paint("dim", `· ${printable(one.prefix)}  ${printable(one.reason)}`));
    lines.push("", section("passed over", ["longer prefixes without an eligible route:", ...longer], paint));
  }
  if (explanation.decision) lines.push("", section("decision", [printable(explanation.decision)], paint));
  if (explanation.protectedBy) lines.push("", section("protected", [paint("warn", printable(explanation.protectedBy))], paint));
  if (explanation.sent.length > 0) lines.push("", section("sent to", sent(explanation.sent, paint), paint));
  lines.push("", section("kernel", kernel(explanation.kernel, paint), paint));
  return `${lines.join("\n")}\n`;
}

/** Whose address it is. */
function owners({ services = [], pools = [] }: ExplainView, paint: Paint): string[] {
  const verdicts = services.flatMap(({ service, kind, announced, link, message, sources, remedy }) => {
    const mark = announced ? paint("good", "✓") : paint("warn", "✗");
    const why = announced ? `${message}; by ${sources.join(", ")}` : `not announced here: ${link}: ${message}`;
    const line = `${mark} ${paint("strong", printable(service))}  ${kind}  ${printable(why)}`;
    return remedy === undefined ? [line] : [line, `  ${paint("dim", printable(remedy))}`];
  });
  const nobody = services.length === 0 && pools.length > 0 ? ["no Service that is known here has it"] : [];
  return [...verdicts, ...nobody, ...pools.map(({ pool, range }) => `in AddressPool ${printable(pool)}, ${range}`)];
}

/** The label in a column of its own, the lines beside it. */
function section(label: string, lines: readonly string[], paint: Paint): string {
  const blank = " ".repeat(12);
  return lines
    .flatMap(line => line.split("\n"))
    .map((line, at) => (at === 0 ? paint("accent", label.padEnd(12)) : blank) + line)
    .map(line => line.trimEnd())
    .join("\n");
}

function candidates(all: readonly Candidate[], paint: Paint): string[] {
  const names = Math.max(...all.map(one => width(printable(one.from))));
  const hops = Math.max(...all.map(one => width(one.attributes.nextHop)));
  const traced = all.some(one => one.import);
  return all.flatMap((one, at) => {
    const from = printable(one.from);
    const head =
      `${paint(toneOf(one), markOf(one))} ${paint("strong", from)}${" ".repeat(names - width(from))}  ` +
      `via ${one.attributes.nextHop.padEnd(hops)}  ${paint(toneOf(one), printable(one.reason))}`;
    const lines = [...(at > 0 && traced ? [""] : []), head, `    ${paint("dim", printable(attributesText(one.attributes)))}`];
    return [...lines, ...importLines(one, paint)];
  });
}

/** What becomes of a packet, whoever's route it is: first, because it is what is asked most. */
function forwards(answer: NonNullable<Explanation["forwards"]>, paint: Paint): string[] {
  const { to, text, prefix, owner, metric, table, rule, rulesBefore, conflict } = answer;
  const mark = conflict === undefined && prefix !== undefined ? paint("good", "✓") : paint("bad", "✗");
  const lines = [`${mark} ${to} is ${prefix === undefined || text.startsWith("delivered") ? "" : "sent "}${printable(text)}`];
  if (prefix !== undefined) {
    const place = `by ${printable(owner ?? "")}'s route ${prefix}, metric ${metric}, table ${table}${rule ? `, rule ${printable(rule)}` : ""}`;
    lines.push(`  ${paint("dim", place)}`);
  }
  if (conflict !== undefined) lines.push(`  ${paint("warn", `not as chosen below: ${printable(conflict)}`)}`);
  if (rulesBefore.length > 0)
    lines.push(`  ${paint("dim", `rules before it, for some packets: ${rulesBefore.map(printable).join(", ")}`)}`);
  return lines;
}

function kernel({ installed, text, others }: Explanation["kernel"], paint: Paint): string[] {
  const mark = installed ? paint("good", "✓") : paint("dim", "–");
  return [`${mark} ${printable(text)}`, ...others.map(other => `  ${paint("dim", `also: ${printable(other)}`)}`)];
}

/** How the import policy came to its verdict: every rule that was asked, in order. */
function importLines(candidate: Candidate, paint: Paint): string[] {
  const verdict = candidate.import;
  if (!verdict) return [];
  const word = verdict.accepted ? paint("good", "accepted") : paint("bad", "rejected");
  const names = verdict.trace.map(step => `${printable(step.policy)} / ${printable(step.rule)}`);
  const widest = Math.max(0, ...names.map(width));
  const steps = verdict.trace.map((step, at) => {
    const mark = step.matched ? paint("strong", "●") : paint("dim", "○");
    const text = `${names[at]}${" ".repeat(widest - width(names[at]))}  ${printable(step.detail)}`.trimEnd();
    return `      ${mark} ${step.matched ? text : paint("dim", text)}`;
  });
  return [`    import ${word} by ${printable(verdict.decidedBy)}`, ...steps];
}

function sent(all: Explanation["sent"], paint: Paint): string[] {
  const names = Math.max(...all.map(one => width(printable(one.neighbor))));
  return [...all]
    .sort((a, b) => Number(b.advertised) - Number(a.advertised))
    .flatMap(one => {
      const mark = one.advertised ? paint("good", "✓") : paint("dim", "–");
      const name = printable(one.neighbor);
      const line = `${mark} ${name}${" ".repeat(names - width(name))}  ${paint(one.advertised ? "plain" : "dim", printable(one.reason))}`;
      if (!one.advertised || !one.attributes) return [line];
      const attributes = `via ${one.attributes.nextHop}  ${attributesText(one.attributes)}`;
      return [line, `    ${paint("dim", printable(attributes))}`];
    });
}
