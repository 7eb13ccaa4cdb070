/**
 * ADD and DEL of one pod, IPv4 and IPv6, in both modes beside Debian's bridge and ptp plugins with host-local: the executables called as a runtime does, in
 * the same run, taking turns. One call at a time, then many at once; ours also with policies that select the pod. The bridges have hairpin, gateway addresses and default routes alike.
 */
import { spawnSync } from "node:child_process";
import { inNetns } from "../test/cni/harness.ts";
import {
  count,
  describeMachine,
  machine,
  median,
  needRoot,
  packageVersion,
  percentile,
  printTable,
  program,
  round,
  type Values,
} from "./common.ts";
import { type Plugin, type PluginName, withPlugins } from "./plugins.ts";

const USAGE = `usage: npm run bench -- cni [--rounds N] [--parallel N] [--json]

  --rounds     pods attached and detached one after another by each side, 1..10000; default 50
  --reuses     addresses given again while the node and three pods know their last owner, 0..1000; default 10
  --parallel   pods attached at once and detached at once, 1..200; default 50
  --json       one JSON object instead of a table

Needs root (it makes network namespaces) and Debian's containernetworking-plugins.`;

interface Figures {
  plugin: PluginName;
  operation: "ADD" | "DEL";
  calls: number;
  /** Milliseconds of one call. */
  median: number;
  mean: number;
  p95: number;
  p99: number;
}

/** Milliseconds. */
interface Start {
  version: number;
  nothing: number;
}

interface ParallelFigures {
  plugin: PluginName;
  operation: "ADD" | "DEL";
  calls: number;
  /** Milliseconds until the last call was answered. */
  total: number;
  /** Milliseconds of one call. */
  median: number;
  p99: number;
}

/** Entries of neighbour tables that named the last owner of an address, and of them those that name the new one a while after its ADD. */
interface ReuseFigures {
  plugin: PluginName;
  stale: number;
  corrected: number;
}

/** Milliseconds between the answer to ADD and the look. */
const REUSE_DELAY = 500;
/** Milliseconds after each side's turn, so that what the kernel still takes apart is not another's time. */
const PAUSE = 100;

async function main(values: Values): Promise<void> {
  const rounds = count(values, "rounds", 50, 10_000);
  const parallel = count(values, "parallel", 50, 200);
  const reuses = count(values, "reuses", 10, 1000, 0);
  needRoot();
  const facts = machine();
  const version = packageVersion("containernetworking-plugins");
  await withPlugins(async plugins => {
    const start = await measureStart(plugins[0].node.plugin);
    const single = await oneByOne(plugins, rounds);
    const unpoliced = plugins.filter(({ name }) => !name.includes("polic"));
    const figures = { start, single, parallel: await atOnce(plugins, parallel), reuse: await reuse(unpoliced, reuses) };
    if (values.json) console.log(JSON.stringify({ bench: "cni", machine: facts, versions: { plugins: version }, rounds, figures }));
    else print(`${describeMachine(facts)}\nDebian's plugins ${version}`, figures);
  }, true);
}

async function oneByOne(plugins: readonly Plugin[], rounds: number): Promise<Figures[]> {
  const times = new Map<string, number[]>(
    plugins.flatMap(({ name }) => [`ADD ${name}`, `DEL ${name}`].map((key): [string, number[]] => [key, []])),
  );
  const left: (() => void)[] = [];
  for (let round = -2; round < rounds; round++) {
    // Who goes first changes; the first two rounds warm up.
    for (const plugin of round % 2 === 0 ? plugins : [...plugins].reverse()) {
      const netns = plugin.node.pod();
      for (const command of ["ADD", "DEL"] as const) {
        const milliseconds = await plugin.timed(command, `one${round + 2}`, netns);
        if (round >= 0) times.get(`${command} ${plugin.name}`)!.push(milliseconds);
      }
      // The kernel takes a namespace apart under the lock that every link needs.
      left.push(() => plugin.node.removePod(netns));
      await new Promise(resolve => setTimeout(resolve, PAUSE));
    }
  }
  for (const remove of left) remove();
  return (["ADD", "DEL"] as const).flatMap(operation =>
    plugins.map(({ name }) => summarise(name, operation, times.get(`${operation} ${name}`)!)),
  );
}

function summarise(plugin: PluginName, operation: "ADD" | "DEL", times: number[]): Figures {
  return {
    plugin,
    operation,
    calls: times.length,
    median: round(median(times), 2),
    mean: round(times.reduce((sum, time) => sum + time, 0) / times.length, 2),
    p95: percentile(times, 0.95),
    p99: percentile(times, 0.99),
  };
}

async function atOnce(plugins: readonly Plugin[], count: number): Promise<ParallelFigures[]> {
  const figures: ParallelFigures[] = [];
  for (const plugin of plugins) {
    const pods = Array.from({ length: count }, () => plugin.node.pod());
    for (const operation of ["ADD", "DEL"] as const) {
      const started = performance.now();
      const times = await Promise.all(pods.map((netns, i) => plugin.timed(operation, `many${i}`, netns)));
      const total = round(performance.now() - started, 1);
      figures.push({ plugin: plugin.name, operation, calls: count, total, median: round(median(times), 1), p99: percentile(times, 0.99) });
    }
    for (const netns of pods) plugin.node.removePod(netns);
  }
  return figures;
}

async function reuse(plugins: readonly Plugin[], reuses: number): Promise<ReuseFigures[]> {
  const figures: ReuseFigures[] = [];
  const addresses = ["10.80.9.9", "fd80::909"];
  const config = { args: { cni: { ips: addresses } } };
  for (const plugin of plugins) {
    const { node } = plugin;
    const siblings = [0, 1, 2].map(() => node.pod());
    for (const [i, netns] of siblings.entries()) await plugin.timed("ADD", `sibling${i}`, netns);
    const places = [node.netns, ...siblings].flatMap(netns => addresses.map(address => ({ netns, address })));
    const result = { plugin: plugin.name, stale: 0, corrected: 0 };
    let last: string | undefined;
    for (let round = 0; round <= reuses; round++) {
      const netns = node.pod();
      const known = places.filter(({ netns, address }) => last !== undefined && knownOwner(netns, address) === last);
      const { status, stdout, json } = await plugin.call("ADD", `reuse${round}`, netns, config);
      if (status !== 0) throw new Error(`${plugin.name} ADD: ${stdout}`);
      last = json.interfaces.find((one: { sandbox?: string }) => one.sandbox).mac as string;
      await new Promise(resolve => setTimeout(resolve, REUSE_DELAY));
      result.stale += known.length;
      result.corrected += known.filter(({ netns, address }) => knownOwner(netns, address) === last).length;
      // Whoever is wrong still is told, so that the next round begins with this owner known to all.
      for (const { netns, address } of places) inNetns(netns, "ip", "neigh", "flush", "to", address);
      for (const { netns, address } of places) inNetns(netns, "ping", "-c", "1", "-W", "2", "-n", "-q", address);
      await plugin.timed("DEL", `reuse${round}`, netns);
      node.removePod(netns);
    }
    for (const [i, netns] of siblings.entries()) await plugin.timed("DEL", `sibling${i}`, netns);
    for (const netns of siblings) node.removePod(netns);
    figures.push(result);
  }
  return figures;
}

/** The hardware address that a namespace knows. */
function knownOwner(netns: string, address: string): string | undefined {
  const entries: { dst: string; lladdr?: string }[] = JSON.parse(inNetns(netns, "ip", "-j", "neigh").stdout || "[]");
  return entries.find(({ dst }) => dst === address)?.lladdr;
}

/** Milliseconds of starting the executable and getting VERSION, against that of an executable that does nothing. */
async function measureStart(plugin: string): Promise<Start> {
  const time = (program: string) => {
    const started = performance.now();
    for (let i = 0; i < 50; i++) spawnSync(program, { env: { CNI_COMMAND: "VERSION" }, input: "{}" });
    return round((performance.now() - started) / 50, 2);
  };
  return { nothing: time("/bin/true"), version: time(plugin) };
}

interface All {
  start: Start;
  single: Figures[];
  parallel: ParallelFigures[];
  reuse: ReuseFigures[];
}

function print(head: string, { start, single, parallel, reuse }: All): void {
  console.log(`${head}\n\nstarting the podlane executable (VERSION): ${start.version} ms; /bin/true: ${start.nothing} ms\n`);
  const ms = (value: number) => value.toFixed(1);
  printTable(
    ["one at a time", "plugin", "calls", "median, ms", "mean, ms", "p95, ms", "p99, ms"],
    single.map(({ plugin, operation, calls, ...times }) => [
      operation,
      plugin,
      String(calls),
      ...[times.median, times.mean, times.p95, times.p99].map(ms),
    ]),
    2,
  );
  console.log("");
  printTable(
    ["at once", "plugin", "calls", "all, ms", "median, ms", "p99, ms"],
    parallel.map(({ plugin, operation, calls, total, median, p99 }) => [operation, plugin, String(calls), ms(total), ms(median), ms(p99)]),
    2,
  );
  console.log("");
  printTable(
    [`address given again, after ${REUSE_DELAY} ms`, "stale entries", "corrected"],
    reuse.map(({ plugin, stale, corrected }) => [plugin, String(stale), String(corrected)]),
    1,
  );
}

if (import.meta.main)
  await program("cni", USAGE, { rounds: { type: "string" }, parallel: { type: "string" }, reuses: { type: "string" } }, main);
