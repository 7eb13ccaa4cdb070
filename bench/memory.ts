/**
 * Resident memory at rest: of a bare Node.js, of each package that the agent loads, imported alone, and of an agent with one session and files, from source
 * and from what `npm run build` makes. Calico, Cilium and BIRD are not beside it: their agents do other things at rest.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Pair } from "../agent/testing/agents.ts";
import { build } from "../scripts/build.ts";
import { count, describeMachine, machine, median, needRoot, nodeOptions, printTable, program, round, type Values } from "./common.ts";

const USAGE = `usage: npm run bench -- memory [--rounds N] [--json]

  --rounds   how often each is measured, 1..20; default 3
  --json     one JSON object instead of a table

Needs root (it makes network namespaces).`;

const root = join(import.meta.dirname, "..");
/** Seconds that an agent may take to come to rest. */
const PATIENCE = 90;
/** Looks in a row, two a second, within a hundredth of each other: longer than an agent waits before it gives back what its start needed. */
const LOOKS = 20;

function packageNames(): string[] {
  return Object.keys(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).dependencies);
}

/** Megabytes of a process that imports this and nothing else. */
function ofImport(name: string | undefined): number {
  const load = name === undefined ? "" : `await import(${JSON.stringify(name)});`;
  const source = `${load} globalThis.gc(); process.stdout.write(String(process.memoryUsage.rss()));`;
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeOptions, "--expose-gc", "--input-type=module", "-e", source], {
    cwd: root,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`import of ${name}: ${stderr}`);
  return Number(stdout) / 1e6;
}

/** Megabytes of an agent that has its session and its routes, once they do not change any more. */
async function ofAgent(main: string | undefined): Promise<number> {
  const pair = new Pair(main);
  try {
    const agents = [pair.start(0, ["--log-level", "info"], env), pair.start(1, ["--log-level", "info"], env)];
    const end = performance.now() + PATIENCE * 1000;
    const resident = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agents[0].process.pid}/status`, "utf8"))?.[1]) * 1024;
    const samples: number[] = [];
    const isAtRest = () => samples.length >= LOOKS && Math.max(...samples.slice(-LOOKS)) < 1.01 * Math.min(...samples.slice(-LOOKS));
    while (pair.kernelRoutes(0).length === 0 || !isAtRest()) {
      if (performance.now() > end) throw new Error(`the agent did not come to rest within ${PATIENCE} s`);
      await delay(500);
      samples.push(resident());
    }
    return samples[samples.length - 1] / 1e6;
  } finally {
    await pair.close();
  }
}

const env = { NODE_OPTIONS: nodeOptions.join(" ") };

async function run(values: Values): Promise<void> {
  needRoot();
  const rounds = count(values, "rounds", 3, 20);
  const facts = machine();
  const folder = mkdtempSync(join(tmpdir(), "podlane-memory-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  await build(join(folder, "built"));
  const figures: { what: string; megabytes: number; spread: number[] }[] = [];
  const add = async (what: string, measure: () => number | Promise<number>) => {
    const all: number[] = [];
    for (let turn = 0; turn < rounds; turn++) all.push(await measure());
    figures.push({ what, megabytes: round(median(all), 1), spread: [Math.min(...all), Math.max(...all)].map(one => round(one, 1)) });
  };
  await add("Node.js", () => ofImport(undefined));
  for (const name of packageNames()) await add(`Node.js with ${name}`, () => ofImport(name));
  await add("agent, from source", () => ofAgent(undefined));
  await add("agent, built", () => ofAgent(join(folder, "built/main.js")));
  if (values.json) {
    console.log(JSON.stringify({ bench: "memory", machine: facts, rounds, figures }));
    return;
  }
  console.log(`${describeMachine(facts)}\nmegabytes resident, medians of ${rounds}\n`);
  printTable(
    ["what", "MB", "spread"],
    figures.map(({ what, megabytes, spread }) => [what, String(megabytes), spread.join("–")]),
  );
}

if (import.meta.main) await program("memory", USAGE, { rounds: { type: "string" } }, run);
