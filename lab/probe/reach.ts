/** Who answers for the address of a Service, and as whom it sees the asker: many requests over HTTP, each a connection of its own. */
import type { Lab } from "../engine/lab.ts";
import { runIn } from "../engine/system.ts";

/** So many that each endpoint of a few gets one for certain: of two, all but one time in half a million. */
const REQUESTS = 20;
/** Seconds for one request. */
const BOUND = 2;

export interface Answers {
  from: string;
  to: string;
  /** Pods of the lab, by name; what else answers, as it calls itself. */
  by: string[];
  /** Addresses that the pods saw. */
  seen: string[];
  /** The asker's own. */
  own: string[];
  lost: number;
}

export async function askService(lab: Lab, from: string, to: string, port: number): Promise<Answers> {
  const url = `http://${to.includes(":") ? `[${to}]` : to}:${port}/cgi-bin/who?[1-${REQUESTS}]`;
  const words = ["--silent", "--max-time", String(BOUND), "--header", "Connection: close", url];
  const output = await runIn(lab.namespace(from), "curl", words, { timeout: 60_000 }).catch(
    error => (error as { stdout?: string }).stdout ?? "",
  );
  const names = new Map(lab.plan.pods.map(({ name }) => [lab.state.pods[name]?.containerId, name]));
  const machine = lab.plan.machines.find(({ name }) => name === from);
  const own = machine ? machine.interfaces.flatMap(({ addresses }) => addresses.map(({ address }) => address)) : lab.podAddresses(from);
  return { from, to, own, ...readAnswers(output, names) };
}

/** Reads lines of "NAME ADDRESS", as pods of lab/kubernetes/tools-image.ts answer. */
export function readAnswers(output: string, names: ReadonlyMap<string | undefined, string>): Pick<Answers, "by" | "seen" | "lost"> {
  const found = output
    .split("\n")
    .map(line => /^(\S+) (\S+)$/.exec(line))
    .filter(match => match !== null);
  const by = found.map(([, name]) => names.get(name) ?? name);
  const seen = found.map(([, , address]) => address.replace(/^\[?(?:::ffff:(?=\d+\.))?/, "").replace(/\]$/, ""));
  return { by: unique(by), seen: unique(seen), lost: REQUESTS - found.length };
}

/** What is not as wanted, in words; empty: all is. */
export function judgeAnswers({ from, to, by, seen, own, lost }: Answers, wanted: { by: string[]; sees: "own" | "other" }): string[] {
  const what = `${to}, asked by ${from},`;
  if (lost === REQUESTS) return [`${what} does not answer`];
  const strangers = by.filter(name => !wanted.by.includes(name));
  const silent = wanted.by.filter(name => !by.includes(name));
  const wrong = seen.filter(address => own.includes(address) !== (wanted.sees === "own"));
  return [
    ...(lost > 0 ? [`${what} did not answer ${lost} of ${REQUESTS} times`] : []),
    ...(strangers.length > 0 ? [`${what} is answered by ${strangers.join(", ")}`] : []),
    ...(silent.length > 0 ? [`${what} is not answered by ${silent.join(", ")}`] : []),
    ...(wrong.length > 0 ? [`${what} sees ${wrong.join(", ")}${wanted.sees === "own" ? `, not ${own.join(" or ")}` : ""}`] : []),
  ];
}

function unique(texts: string[]): string[] {
  return [...new Set(texts)].sort();
}
