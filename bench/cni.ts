/**
 * ADD and DEL of one pod, IPv4 and IPv6, beside Debian's bridge + host-local plugins: the executables called as a runtime
 * does, in the same run, taking turns. One call at a time, then many at once. Both put the pod on a bridge of the same node
 * namespace with hairpin, gateway addresses and default routes.
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { inNetns, type Outcome, runPlugin, TestNode } from "../test/cni/harness.ts";
import { count, describeMachine, machine, median, needRoot, packageVersion, printTable, program, round, type Values } from "./common.ts";

const USAGE = `usage: npm run bench -- cni [--rounds N] [--parallel N] [--json]

  --rounds     pods attached and detached one after another by each side, 1..10000; default 50
  --reuses     addresses given again while the node and three pods know their last owner, 0..1000; default 10
  --parallel   pods attached at once and detached at once, 1..200; default 50
  --json       one JSON object instead of a table

Needs root (it makes network namespaces) and Debian's containernetworking-plugins.`;

const DEBIAN = "/usr/lib/cni";
/** So many addresses that neither side has to wait for one. */
const ranges = { podlane: ["10.80.0.0/16", "fd80::/64"], reference: ["10.81.0.0/16", "fd81::/64"] };

type Side = "podlane" | "bridge + host-local";
const sides: Side[] = ["podlane", "bridge + host-local"];

interface Figures {
  plugin: Side;
  operation: "ADD" | "DEL";
  calls: number;
  /** Milliseconds of one call. */
  median: number;
  mean: number;
  p95: number;
}

/** Milliseconds. */
interface Start {
  version: number;
  nothing: number;
}

interface ParallelFigures {
  plugin: Side;
  operation: "ADD" | "DEL";
  calls: number;
  /** Milliseconds until the last call was answered. */
  total: number;
}

/** Entries of neighbour tables that named the last owner of an address, and of them those that name the new one a while after its ADD. */
interface ReuseFigures {
  plugin: Side;
  stale: number;
  corrected: number;
}

/** Milliseconds between the answer to ADD and the look. */
const REUSE_DELAY = 500;

async function main(values: Values): Promise<void> {
  const rounds = count(values, "rounds", 50, 10_000);
  const parallel = count(values, "parallel", 50, 200);
  const reuses = count(values, "reuses", 10, 1000, 0);
  needRoot();
  if (!fs.existsSync(`${DEBIAN}/bridge`) || !fs.existsSync(`${DEBIAN}/host-local`)) {
    throw new Error(`no ${DEBIAN}/bridge and host-local: apt-get install containernetworking-plugins`);
  }
  const facts = machine();
  const versions = { "bridge + host-local": packageVersion("containernetworking-plugins") };
  const node = new TestNode({ podCidrs: ranges.podlane });
  node.options = {};
  try {
    await node.start();
    const start = await measureStart(node.plugin);
    const single = await oneByOne(node, rounds);
    const figures = { start, single, parallel: await atOnce(node, parallel), reuse: await reuse(node, reuses) };
    if (values.json) console.log(JSON.stringify({ bench: "cni", machine: facts, versions, rounds, figures }));
    else print(`${describeMachine(facts)}\nbridge + host-local ${versions["bridge + host-local"]}`, figures);
  } finally {
    await node.close();
  }
}

function call(node: TestNode, side: Side, command: "ADD" | "DEL", container: string, netns: string, ips: string[] = []): Promise<Outcome> {
  const plugin = side === "podlane" ? node.plugin : `${DEBIAN}/bridge`;
  const env = {
    PATH: process.env.PATH ?? "",
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: DEBIAN,
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
  const args = { cni: { ips } };
  const config = side === "podlane" ? node.config({ cniVersion: "1.0.0", args }) : { ...reference, args };
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
  return {
    plugin,
    operation,
    calls: times.length,
    median: round(median(times), 2),
    mean: round(times.reduce((sum, time) => sum + time, 0) / times.length, 2),
    p95: round(sorted[Math.min(sorted.length - 1, Math.floor(0.95 * sorted.length))], 2),
  };
}

async function atOnce(node: TestNode, count: number): Promise<ParallelFigures[]> {
  const figures: ParallelFigures[] = [];
  for (const plugin of sides) {
    const pods = Array.from({ length: count }, () => node.pod());
    for (const operation of ["ADD", "DEL"] as const) {
      const started = performance.now();
      await Promise.all(pods.map((netns, i) => timed(node, plugin, operation, `many${i}`, netns)));
      figures.push({ plugin, operation, calls: count, total: round(performance.now() - started, 1) });
    }
    for (const netns of pods) node.removePod(netns);
  }
  return figures;
}

async function reuse(node: TestNode, reuses: number): Promise<ReuseFigures[]> {
  const figures: ReuseFigures[] = [];
  for (const plugin of sides) {
    const third = plugin === "podlane" ? 80 : 81;
    const addresses = [`10.${third}.9.9`, `fd${third}::909`];
    const siblings = [0, 1, 2].map(() => node.pod());
    for (const [i, netns] of siblings.entries()) await timed(node, plugin, "ADD", `sibling${i}`, netns);
    const places = [node.netns, ...siblings].flatMap(netns => addresses.map(address => ({ netns, address })));
    const result = { plugin, stale: 0, corrected: 0 };
    let last: string | undefined;
    for (let round = 0; round <= reuses; round++) {
      const netns = node.pod();
      const known = places.filter(({ netns, address }) => last !== undefined && knownOwner(netns, address) === last);
      const { status, stdout, json } = await call(node, plugin, "ADD", `reuse${round}`, netns, addresses);
      if (status !== 0) throw new Error(`${plugin} ADD: ${stdout}`);
      last = json.interfaces.find((one: { sandbox?: string }) => one.sandbox).mac as string;
      await new Promise(resolve => setTimeout(resolve, REUSE_DELAY));
      result.stale += known.length;
      result.corrected += known.filter(({ netns, address }) => knownOwner(netns, address) === last).length;
      // Whoever is wrong still is told, so that the next round begins with this owner known to all.
      for (const { netns, address } of places) inNetns(netns, "ip", "neigh", "flush", "to", address);
      for (const { netns, address } of places) inNetns(netns, "ping", "-c", "1", "-W", "2", "-n", "-q", address);
      await timed(node, plugin, "DEL", `reuse${round}`, netns);
      node.removePod(netns);
    }
    for (const [i, netns] of siblings.entries()) await timed(node, plugin, "DEL", `sibling${i}`, netns);
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
    ["one at a time", "plugin", "calls", "median, ms", "mean, ms", "p95, ms"],
    single.map(({ plugin, operation, calls, median, mean, p95 }) => [operation, plugin, String(calls), ms(median), ms(mean), ms(p95)]),
    2,
  );
  console.log("");
  printTable(
    ["at once", "plugin", "calls", "all, ms", "per call, ms"],
    parallel.map(({ plugin, operation, calls, total }) => [operation, plugin, String(calls), ms(total), ms(total / calls)]),
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
