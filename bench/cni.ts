/**
 * ADD and DEL of one pod, IPv4 and IPv6, beside Debian's bridge + host-local plugins: the executables called as a runtime
 * does, in the same run, taking turns. One call at a time, then many at once. Both put the pod on a bridge of the same node
 * namespace with hairpin, gateway addresses and default routes.
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { parseArgs } from "node:util";
import { type Outcome, runPlugin, TestNode } from "../test/cni/harness.ts";

const usage = `usage: npm run bench -- cni [--rounds N] [--parallel N] [--json]

  --rounds     pods attached and detached one after another by each side, 1..10000; default 50
  --parallel   pods attached at once and detached at once, 1..200; default 50
  --json       one JSON object instead of a table

Needs root (it makes network namespaces) and Debian's containernetworking-plugins.`;

const debian = "/usr/lib/cni";
/** So many addresses that neither side has to wait for one. */
const ranges = { podlane: ["10.80.0.0/16", "fd80::/64"], reference: ["10.81.0.0/16", "fd81::/64"] };

type Side = "podlane" | "bridge + host-local";
const sides: Side[] = ["podlane", "bridge + host-local"];

interface Options {
  rounds: number;
  parallel: number;
  json: boolean;
}

interface Figures {
  plugin: Side;
  operation: "ADD" | "DEL";
  calls: number;
  /** Milliseconds of one call. */
  median: number;
  mean: number;
  p95: number;
}

interface ParallelFigures {
  plugin: Side;
  operation: "ADD" | "DEL";
  calls: number;
  /** Milliseconds until the last call was answered. */
  total: number;
}

async function main(): Promise<void> {
  const options = readOptions();
  if (!options) return;
  if (process.getuid?.() !== 0) return fail("this makes network namespaces and needs root");
  if (!fs.existsSync(`${debian}/bridge`) || !fs.existsSync(`${debian}/host-local`))
    return fail(`no ${debian}/bridge and host-local: apt-get install containernetworking-plugins`);

  const node = new TestNode({ podCidrs: ranges.podlane });
  node.options = {};
  try {
    await node.start();
    const start = await measureStart(node.plugin);
    const single = await oneByOne(node, options.rounds);
    const parallel = await atOnce(node, options.parallel);
    if (options.json) console.log(JSON.stringify({ bench: "cni", start, single, parallel }));
    else print(start, single, parallel);
  } finally {
    await node.close();
  }
}

function readOptions(): Options | undefined {
  let values: { rounds?: string; parallel?: string; json?: boolean; help?: boolean };
  try {
    ({ values } = parseArgs({
      options: {
        rounds: { type: "string" },
        parallel: { type: "string" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }));
  } catch (error) {
    return fail(`${(error as Error).message}\n${usage}`);
  }
  if (values.help) {
    console.log(usage);
    return undefined;
  }
  const rounds = readCount("rounds", values.rounds ?? "50", 10_000);
  const parallel = readCount("parallel", values.parallel ?? "50", 200);
  return rounds && parallel ? { rounds, parallel, json: values.json ?? false } : undefined;
}

function readCount(name: string, text: string, maximum: number): number | undefined {
  const count = Number(text);
  return Number.isInteger(count) && count >= 1 && count <= maximum
    ? count
    : fail(`--${name} ${text}: a whole number 1..${maximum} is wanted`);
}

function fail(message: string): undefined {
  console.error(message);
  process.exitCode = 2;
}

function call(node: TestNode, side: Side, command: "ADD" | "DEL", container: string, netns: string): Promise<Outcome> {
  const plugin = side === "podlane" ? node.plugin : `${debian}/bridge`;
  const env = {
    PATH: process.env.PATH ?? "",
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: debian,
  };
  const ipam = { type: "host-local", ranges: ranges.reference.map(subnet => [{ subnet }]), dataDir: `${node.directory}/host-local` };
  const reference = {
    cniVersion: "1.0.0",
    name: "reference",
    type: "bridge",
    bridge: "ref0",
    isDefaultGateway: true,
    hairpinMode: true,
    ipam,
  };
  const config = side === "podlane" ? node.config({ cniVersion: "1.0.0" }) : reference;
  // Both through nsenter(1), which the reference needs: its start counts for both.
  return runPlugin(plugin, env, JSON.stringify(config), node.netns);
}

/** Throws where the call fails: a bench of errors says nothing. */
async function timed(node: TestNode, side: Side, command: "ADD" | "DEL", container: string, netns: string): Promise<number> {
  const started = performance.now();
  const outcome = await call(node, side, command, container, netns);
  const milliseconds = performance.now() - started;
  if (outcome.status !== 0) throw new Error(`${side} ${command}: ${outcome.stdout}`);
  return milliseconds;
}

async function oneByOne(node: TestNode, rounds: number): Promise<Figures[]> {
  const times = new Map<string, number[]>(
    sides.flatMap(side => [`ADD ${side}`, `DEL ${side}`].map((key): [string, number[]] => [key, []])),
  );
  for (let round = -2; round < rounds; round++) {
    // Who goes first changes; the first two rounds warm up.
    for (const side of round % 2 === 0 ? sides : [...sides].reverse()) {
      const netns = node.pod();
      for (const command of ["ADD", "DEL"] as const) {
        const milliseconds = await timed(node, side, command, `one${round + 2}`, netns);
        if (round >= 0) times.get(`${command} ${side}`)!.push(milliseconds);
      }
      node.removePod(netns);
    }
  }
  return (["ADD", "DEL"] as const).flatMap(operation =>
    sides.map(plugin => summarise(plugin, operation, times.get(`${operation} ${plugin}`)!)),
  );
}

function summarise(plugin: Side, operation: "ADD" | "DEL", times: number[]): Figures {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
  return {
    plugin,
    operation,
    calls: times.length,
    median: at(0.5),
    mean: times.reduce((sum, time) => sum + time, 0) / times.length,
    p95: at(0.95),
  };
}

async function atOnce(node: TestNode, count: number): Promise<ParallelFigures[]> {
  const figures: ParallelFigures[] = [];
  for (const plugin of sides) {
    const pods = Array.from({ length: count }, () => node.pod());
    for (const operation of ["ADD", "DEL"] as const) {
      const started = performance.now();
      await Promise.all(pods.map((netns, i) => timed(node, plugin, operation, `many${i}`, netns)));
      figures.push({ plugin, operation, calls: count, total: performance.now() - started });
    }
    for (const netns of pods) node.removePod(netns);
  }
  return figures;
}

/** Milliseconds of starting the executable and getting VERSION, against that of an executable that does nothing. */
async function measureStart(plugin: string): Promise<{ version: number; nothing: number }> {
  const time = (program: string) => {
    const started = performance.now();
    for (let i = 0; i < 50; i++) spawnSync(program, { env: { CNI_COMMAND: "VERSION" }, input: "{}" });
    return (performance.now() - started) / 50;
  };
  return { nothing: time("/bin/true"), version: time(plugin) };
}

function print(start: { version: number; nothing: number }, single: Figures[], parallel: ParallelFigures[]): void {
  const ms = (value: number) => value.toFixed(1).padStart(9);
  console.log(`starting the podlane executable (VERSION): ${start.version.toFixed(2)} ms; /bin/true: ${start.nothing.toFixed(2)} ms\n`);
  console.log(`${"one at a time, ms".padEnd(28)}${"calls".padStart(6)}${"median".padStart(9)}${"mean".padStart(9)}${"p95".padStart(9)}`);
  for (const { plugin, operation, calls, median, mean, p95 } of single) {
    console.log(`${operation} ${plugin.padEnd(24)}${String(calls).padStart(6)}${ms(median)}${ms(mean)}${ms(p95)}`);
  }
  console.log(`\n${"at once, ms".padEnd(28)}${"calls".padStart(6)}${"all".padStart(9)}${"per call".padStart(9)}`);
  for (const { plugin, operation, calls, total } of parallel)
    console.log(`${operation} ${plugin.padEnd(24)}${String(calls).padStart(6)}${ms(total)}${ms(total / calls)}`);
}

if (import.meta.main) await main();
