/**
 * What a speaker learns, in the kernel: a table fed over one eBGP session, by podlane and by BIRD, beside `ip -batch`, which learns nothing.
 * Counted are the seconds from the first octet fed until the kernel has the last route, the same for taking them back, and the longest time
 * podlane's event loop stood still meanwhile.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { TestNetwork } from "../test/network.ts";
import { count, describeMachine, machine, median, needRoot, packageVersion, printTable, program, round, type Values } from "./common.ts";
import { type Dut, dutMissing, dutVersion, startDut } from "./duts.ts";
import { usage as processUsage } from "./processes.ts";
import { addresses, buildTraffic, Feed, listTable, type Table } from "./traffic.ts";

const USAGE = `usage: npm run bench -- fib [--routes N] [--sets N] [--rounds N] [--limit S] [--json]

  --routes   IPv4 prefixes, 1..1000000; default 100000
  --sets     different attribute sets among them, 1..routes; default 15% of the routes
  --seed     of the table, 0..1000000000; default 1
  --rounds   1..100, default 3: medians count. The programs take turns
  --limit    seconds for each phase, 1..3600; default 60
  --json     one JSON object instead of a table

Needs root (it makes network namespaces), a C compiler, iproute2 and Debian's bird2.`;

const contenders = ["podlane", "bird", "ip -batch"] as const;
type Contender = (typeof contenders)[number];
const phases = ["add", "remove"] as const;
type Phase = (typeof phases)[number];

interface Run {
  seconds: number;
  /** Of the speaker. */
  cpuSeconds?: number;
  /** Milliseconds. */
  longestGap?: number;
}

interface Figure {
  program: Contender;
  phase: Phase;
  seconds: number;
  /** Shortest and longest run. */
  spread: [number, number];
  routesPerSecond: number;
  cpuSeconds?: number;
  /** The longest of all runs, milliseconds. */
  longestGap?: number;
  /** Runs that succeeded; the other fields are theirs. */
  rounds: number;
  failures: string[];
}

interface Result {
  add?: Run;
  remove?: Run;
  failure?: string;
}

interface Place {
  dut: string;
  traffic: string;
}

async function main(values: Values): Promise<void> {
  const routes = count(values, "routes", 100_000, 1_000_000);
  const sets = count(values, "sets", Math.max(1, Math.round(routes * 0.15)), routes);
  const table = { prefixes: routes, sets, seed: count(values, "seed", 1, 1_000_000_000, 0) };
  const rounds = count(values, "rounds", 3, 100);
  const limit = count(values, "limit", 60, 3600) * 1000;
  needRoot();
  const absent = dutMissing("bird");
  if (absent) throw new Error(absent);
  buildTraffic();
  const facts = machine();
  const results = new Map<Contender, Result[]>(contenders.map(contender => [contender, []]));
  for (let turn = 1; turn <= rounds; turn++) {
    for (const contender of contenders) {
      if (!values.json) process.stderr.write(`round ${turn} of ${rounds}: ${contender} … `);
      const result: Result = await runOnce(contender, table, limit).catch((error: Error): Result => ({ failure: error.message }));
      const said = result.failure ?? `${result.add?.seconds.toFixed(2)} s, ${result.remove?.seconds.toFixed(2)} s`;
      if (!values.json) process.stderr.write(`${said}\n`);
      results.get(contender)!.push(result);
    }
  }
  const figures = phases.flatMap(phase => contenders.map(contender => summarise(contender, phase, routes, results.get(contender)!)));
  const versions = { podlane: `Node ${process.version}`, bird: dutVersion("bird"), "ip -batch": packageVersion("iproute2") };
  if (values.json) console.log(JSON.stringify({ bench: "fib", machine: facts, versions, routes, sets, seed: table.seed, rounds, figures }));
  else print(`${describeMachine(facts)}\nbird ${versions.bird}, iproute2 ${versions["ip -batch"]}`, table, rounds, figures);
  if (figures.some(({ failures }) => failures.length > 0)) process.exitCode = 1;
}

function summarise(contender: Contender, phase: Phase, routes: number, results: Result[]): Figure {
  const runs = results.flatMap(result => result[phase] ?? []);
  const failures = results.flatMap(result => result.failure ?? []);
  const all = runs.map(run => run.seconds);
  const seconds = runs.length === 0 ? 0 : round(median(all), 3);
  const gaps = runs.flatMap(run => run.longestGap ?? []);
  const cpu = runs.flatMap(run => run.cpuSeconds ?? []);
  return {
    program: contender,
    phase,
    seconds,
    spread: runs.length === 0 ? [0, 0] : [round(Math.min(...all), 3), round(Math.max(...all), 3)],
    routesPerSecond: runs.length === 0 ? 0 : Math.round(routes / seconds),
    ...(cpu.length > 0 && { cpuSeconds: round(median(cpu), 2) }),
    ...(gaps.length > 0 && { longestGap: round(Math.max(...gaps), 1) }),
    rounds: runs.length,
    failures,
  };
}

/** In fresh namespaces; leaves nothing behind. */
async function runOnce(contender: Contender, table: Table, limit: number): Promise<{ add: Run; remove: Run }> {
  using network = new TestNetwork();
  const place: Place = { dut: network.namespace("dut"), traffic: network.namespace("traffic") };
  network.link(
    { namespace: place.dut, device: "eth0", addresses: [`${addresses.speaker}/24`] },
    { namespace: place.traffic, device: "eth0", addresses: [`${addresses.feed.address}/24`] },
  );
  return await (contender === "ip -batch" ? batch(place.dut, table) : learned(contender, place, table, limit));
}

async function learned(contender: "podlane" | "bird", place: Place, table: Table, limit: number): Promise<{ add: Run; remove: Run }> {
  const speaker = await startDut(contender, place.dut, { sinks: 0, kernel: true, gaps: true });
  const feed = new Feed(place.traffic, table);
  try {
    await feed.established(performance.now() + 60_000);
    const before = countRoutes(speaker.pid);
    const phase = async (what: "announce" | "withdraw", expected: number): Promise<Run> => {
      const until = performance.now() + limit;
      await speaker.longestGap?.(until);
      const { cpuSeconds } = processUsage(speaker.pid);
      const from = await feed.start(what, until);
      for (let now = countRoutes(speaker.pid); now !== expected; now = countRoutes(speaker.pid)) {
        if (performance.now() > until)
          throw new Error(`${contender}: ${now} routes in the kernel instead of ${expected}, and time is over`);
        await pause(5);
      }
      const seconds = Number(process.hrtime.bigint()) / 1e9 - from;
      return { seconds, cpuSeconds: processUsage(speaker.pid).cpuSeconds - cpuSeconds, longestGap: await speaker.longestGap?.(until) };
    };
    const add = await phase("announce", before + table.prefixes);
    return { add, remove: await phase("withdraw", before) };
  } catch (error) {
    throw withLog(error as Error, speaker);
  } finally {
    await feed.stop();
    await speaker.stop();
  }
}

function withLog(error: Error, speaker: Dut): Error {
  const log = speaker.log().slice(-500).trim();
  return log === "" ? error : new Error(`${error.message}; the speaker printed: ${log}`);
}

/** IPv4 routes in the namespace of the process, those of its own addresses included: counted by the kernel, which is far quicker than a dump. */
function countRoutes(pid: number): number {
  const counts = [...readFileSync(`/proc/${pid}/net/fib_triestat`, "utf8").matchAll(/^(\w+):$[\s\S]*?Prefixes:\s+(\d+)/gm)];
  const main = counts.find(([, table]) => table === "Main");
  if (!main) throw new Error("this kernel has no /proc/net/fib_triestat (CONFIG_IP_FIB_TRIE_STATS): routes cannot be counted");
  return Number(main[2]);
}

/** A command that fails ends `ip -batch`, so that its status says whether all routes are there. */
async function batch(namespace: string, table: Table): Promise<{ add: Run; remove: Run }> {
  const directory = mkdtempSync(join(tmpdir(), "podlane-bench-"));
  try {
    const prefixes = listTable(table);
    const apply = async (verb: "add" | "delete"): Promise<Run> => {
      const file = join(directory, verb);
      writeFileSync(file, prefixes.map(prefix => `route ${verb} ${prefix} via ${addresses.feed.address} proto 201\n`).join(""));
      const start = performance.now();
      const child = spawn("ip", ["-n", namespace, "-batch", file], { stdio: ["ignore", "ignore", "inherit"] });
      const [status] = await once(child, "exit");
      if (status !== 0) throw new Error(`ip -batch (route ${verb}) ended with status ${status}`);
      return { seconds: (performance.now() - start) / 1000 };
    };
    return { add: await apply("add"), remove: await apply("delete") };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function print(head: string, { prefixes, sets }: Table, rounds: number, figures: Figure[]): void {
  const number = (value: number) => value.toLocaleString("en-US");
  console.log(`${head}\n\n${number(prefixes)} routes in ${number(sets)} attribute sets, medians of ${rounds}`);
  printTable(
    ["phase", "program", "seconds", "shortest–longest", "routes/s", "CPU s", "longest gap, ms"],
    figures.map(one => [
      one.phase,
      one.program,
      one.rounds === 0 ? "failed" : one.seconds.toFixed(3),
      one.spread.map(value => value.toFixed(3)).join("–"),
      number(one.routesPerSecond),
      one.cpuSeconds?.toFixed(2) ?? "–",
      one.longestGap?.toFixed(1) ?? "–",
    ]),
    2,
  );
  // A failed run counts for both phases; it is told once.
  for (const { program: name, failures } of figures.slice(0, contenders.length)) {
    for (const failure of failures) console.log(`${name}: ${failure}`);
  }
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  await program("fib", USAGE, { routes: text, sets: text, seed: text, rounds: text, limit: text }, main);
}
