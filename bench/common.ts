/** What all benchmarks share: options and their errors, facts about the machine, tables, an orderly end also after Ctrl-C. */
import { execFileSync } from "node:child_process";
import { cpus, loadavg, release, totalmem } from "node:os";
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";

/** Options of Node with which scripts/podlane starts the agent. */
export const nodeOptions = ["--max-semi-space-size=8"];

/** Wrong use; the program ends with status 2 and the usage. */
export class UsageError extends Error {}

export type Values = Record<string, string | boolean | undefined>;

/**
 * Runs a benchmark as a program: reads the options (--json and --help are always there), and turns errors into one sentence and a status:
 * 2 for wrong use, 1 for a failure. SIGINT and SIGTERM end it through process.exit(), so that "exit" listeners clean up.
 */
export async function program(
  name: string,
  usage: string,
  options: ParseArgsOptionsConfig,
  run: (values: Values) => unknown,
): Promise<void> {
  // What it starts can be known by this.
  process.env.PODLANE_BENCH = String(process.pid);
  process.once("SIGINT", () => process.exit(130));
  process.once("SIGTERM", () => process.exit(143));
  try {
    const values = parse(options);
    if (values.help) console.log(usage);
    else await run(values);
  } catch (error) {
    const wrongUse = error instanceof UsageError;
    console.error(`${name}: ${(error as Error).message}${wrongUse ? `\n${usage}` : ""}`);
    process.exitCode = wrongUse ? 2 : 1;
  }
}

function parse(options: ParseArgsOptionsConfig): Values {
  try {
    return parseArgs({ options: { ...options, json: { type: "boolean" }, help: { type: "boolean", short: "h" } } }).values as Values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** A whole number least..most. Throws UsageError. */
export function count(values: Values, name: string, byDefault: number, most: number, least = 1): number {
  const text = values[name];
  if (text === undefined) return byDefault;
  const value = Number(text);
  if (text !== "" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`--${name} ${text}: a whole number ${least}..${most} is wanted`);
}

/** Words divided by commas. Throws UsageError for one that `read` does not accept. */
export function list<T>(values: Values, name: string, byDefault: T[], wanted: string, read: (word: string) => T | undefined): T[] {
  const text = values[name];
  if (text === undefined) return byDefault;
  return String(text)
    .split(",")
    .map(word => {
      const value = read(word.trim());
      if (value === undefined) throw new UsageError(`--${name} ${text}: ${wanted} are wanted, divided by commas`);
      return value;
    });
}

export interface Machine {
  /** RFC 3339. */
  date: string;
  cpu: string;
  cores: number;
  memoryMB: number;
  kernel: string;
  node: string;
  /** Load average over 1, 5 and 15 minutes when the run began: figures of a busy machine are worth little. */
  load: number[];
}

export function machine(): Machine {
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryMB: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    node: process.version,
    load: loadavg().map(value => round(value, 2)),
  };
}

export function describeMachine(facts: Machine): string {
  const { date, cpu, cores, memoryMB, kernel, node, load } = facts;
  return `${date}, ${cores} × ${cpu}, ${memoryMB} MB, Linux ${kernel}, Node ${node}, load ${load.join(" ")}`;
}

/** The version a Debian package is installed in; undefined where there is none. */
export function packageVersion(name: string): string | undefined {
  try {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own form.
    return execFileSync("dpkg-query", ["-W", "-f", "${Version}", name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return undefined;
  }
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The value below which this share of all lies, with one digit. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))], 1);
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** Columns aligned: the first `left` of them to the left, the others, which are numbers, to the right. */
export function printTable(columns: string[], rows: string[][], left = 1): void {
  const widths = columns.map((column, i) => Math.max(column.length, ...rows.map(row => row[i].length)));
  for (const row of [columns, ...rows]) {
    console.log(row.map((cell, i) => (i < left ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  "));
  }
}

/** Throws where namespaces cannot be made. */
export function needRoot(): void {
  if (process.getuid?.() !== 0) throw new Error("this makes network namespaces and needs root");
}
