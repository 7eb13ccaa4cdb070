/**
 * An agent that lives: a node with all that happens to it in a week, in an hour. Routes by the ten thousand come and go and are written to the
 * kernel, the neighbour that brings them is killed and comes back, pods are attached and detached, the files change, people and programs ask, and
 * strangers send rubbish to its port. Counted is what it holds at rest after each round: resident memory, open files, threads.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { StatusView } from "../agent/api/views.ts";
import { AgentClient } from "../cli/client.ts";
import { buildPlugin } from "../cni/plugin/build.ts";
import { runPlugin } from "../test/cni/harness.ts";
import { TestNetwork } from "../test/network.ts";
import { count, describeMachine, machine, needRoot, nodeOptions, printTable, program, round, type Values } from "./common.ts";
import { addresses, buildTraffic, Feed, type Table } from "./traffic.ts";

const USAGE = `usage: npm run bench -- soak [--minutes N] [--prefixes N] [--pods N] [--pause MS] [--rounds N] [--json]

  --minutes    1..10000; default 60
  --prefixes   routes that come and go in each round, 1..1000000; default 20000
  --pods       pods attached and detached in each round, 0..100; default 10
  --pause      milliseconds between two rounds, 0..60000; default 1000
  --rounds     end after so many rounds, 1..1000000; default: when the time is over
  --json       one JSON object instead of a table

Needs root (it makes network namespaces) and a C compiler.`;

/** What the agent holds at rest. */
interface Sample {
  /** Minutes since the start. */
  at: number;
  residentMB: number;
  /** In use, of V8's heap. */
  heapMB: number;
  files: number;
  threads: number;
}

/** Milliseconds. */
const ROUND_LIMIT = 120_000;
/** The neighbour is killed in every so-many-th round. */
const KILL_EVERY = 5;
const PARTS = 6;

async function main(values: Values): Promise<void> {
  const minutes = count(values, "minutes", 60, 10_000);
  const prefixes = count(values, "prefixes", 20_000, 1_000_000);
  const pods = count(values, "pods", 10, 100, 0);
  const rest = count(values, "pause", 1000, 60_000, 0);
  const rounds = count(values, "rounds", Number.POSITIVE_INFINITY, 1_000_000);
  needRoot();
  buildTraffic();
  const facts = machine();
  const table: Table = { prefixes, sets: Math.max(1, Math.round(prefixes * 0.15)), seed: 1 };
  await using scene = new Scene(table);
  const samples: Sample[] = [];
  const begin = performance.now();
  const end = begin + minutes * 60_000;
  await scene.start();
  let told = 0;
  for (let turn = 1; performance.now() < end && turn <= rounds; turn++) {
    await scene.turn(turn, pods);
    await pause(rest);
    samples.push({ at: (performance.now() - begin) / 60_000, ...footprint(scene.pid), heapMB: await scene.heapMB() });
    const minute = Math.floor((performance.now() - begin) / 60_000);
    if (values.json || minute === told) continue;
    told = minute;
    process.stderr.write(`minute ${minute} of ${minutes}: round ${turn}, ${samples.at(-1)!.residentMB.toFixed(0)} MB\n`);
  }
  const report = summarise(samples, (performance.now() - begin) / 60_000);
  const problems = await scene.problems();
  if (values.json) console.log(JSON.stringify({ bench: "soak", machine: facts, minutes, ...table, pods, ...report, problems }));
  else print(describeMachine(facts), table, pods, report, problems);
}

/** One node with its agent, and the neighbour that feeds it. */
class Scene {
  readonly #network = new TestNetwork();
  readonly #folder = mkdtempSync(join(tmpdir(), "podlane-soak-"));
  readonly #table: Table;
  readonly #node: string;
  readonly #traffic: string;
  readonly #plugin: string;
  readonly #client: AgentClient;
  readonly #podNamespaces: string[] = [];
  #agent: ReturnType<typeof spawn> | undefined;
  #errors = "";
  #feed: Feed | undefined;

  constructor(table: Table) {
    this.#table = table;
    this.#node = this.#network.namespace("node");
    this.#traffic = this.#network.namespace("traffic");
    const { speaker, feed } = addresses;
    this.#network.link(
      { namespace: this.#node, device: "eth0", addresses: [`${speaker}/24`] },
      { namespace: this.#traffic, device: "eth0", addresses: [`${feed.address}/24`] },
    );
    this.#plugin = buildPlugin(join(this.#folder, "bin"));
    this.#client = new AgentClient(this.#socket);
  }

  get #socket(): string {
    return join(this.#folder, "agent.sock");
  }

  get pid(): number {
    return this.#agent!.pid!;
  }

  async start(): Promise<void> {
    this.#configure(0);
    const main = join(import.meta.dirname, "../cli/main.ts");
    const own = [
      "--node",
      "node1",
      "--config",
      join(this.#folder, "config"),
      "--state",
      join(this.#folder, "state"),
      "--socket",
      this.#socket,
    ];
    const words = ["netns", "exec", this.#node, process.execPath, ...nodeOptions, main, "agent", ...own, "--log-format", "json"];
    this.#agent = spawn("ip", words, { stdio: ["ignore", "ignore", "pipe"] });
    this.#agent.stderr!.on("data", (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-4096);
    });
    await this.#until("the agent to answer", async () => (await this.#status()) !== undefined);
  }

  /** One round of everything; at its end the agent holds what it held before. */
  async turn(turn: number, pods: number): Promise<void> {
    if (turn % KILL_EVERY === 1) await this.#newFeed();
    this.#configure(turn);
    const limit = performance.now() + ROUND_LIMIT;
    await this.#feed!.start("announce", limit);
    const attached = await this.#attach(turn, pods);
    await this.#routes(this.#table.prefixes);
    await this.#look();
    await this.#rubbish(turn);
    await Promise.all(attached.map(container => this.#cni("DEL", container)));
    await this.#feed!.start("withdraw", limit);
    await this.#routes(0);
  }

  async heapMB(): Promise<number> {
    return ((await this.#status())?.memory.heapUsed ?? 0) / 2 ** 20;
  }

  async problems(): Promise<string[]> {
    const { problems } = await this.#client.get<{ problems: { severity: string; object: string; message: string }[] }>("/v1/problems");
    return problems.map(({ severity, object, message }) => `${severity} ${object}: ${message}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#feed?.stop();
    const agent = this.#agent;
    if (agent && agent.exitCode === null && agent.signalCode === null) {
      const ended = new Promise(resolve => agent.once("close", resolve));
      agent.kill("SIGKILL");
      await ended;
    }
    this.#network.dispose();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Killed without a word, and back. */
  async #newFeed(): Promise<void> {
    await this.#feed?.stop();
    this.#feed = new Feed(this.#traffic, this.#table);
    await this.#feed.established(performance.now() + ROUND_LIMIT);
  }

  async #attach(turn: number, pods: number): Promise<string[]> {
    while (this.#podNamespaces.length < pods) this.#podNamespaces.push(this.#network.namespace(`pod${this.#podNamespaces.length}`));
    const containers = Array.from({ length: pods }, (_, i) => `soak-${turn}-${i}`);
    await Promise.all(containers.map(container => this.#cni("ADD", container)));
    return containers;
  }

  async #cni(command: "ADD" | "DEL", container: string): Promise<void> {
    const namespace = this.#podNamespaces[Number(container.split("-")[2])];
    const env = {
      PATH: process.env.PATH ?? "",
      CNI_COMMAND: command,
      CNI_CONTAINERID: container,
      CNI_NETNS: this.#network.path(namespace),
      CNI_IFNAME: "eth0",
      CNI_PATH: "/usr/lib/cni",
    };
    const config = {
      cniVersion: "1.0.0",
      name: "pods",
      type: "podlane",
      socket: this.#socket,
      queue: join(this.#folder, "state/del-queue"),
    };
    const { status, stdout } = await runPlugin(this.#plugin, env, JSON.stringify(config));
    if (status !== 0) throw new Error(`${command} ${container}: ${stdout}`);
  }

  /** What people, scripts and dashboards ask for. */
  async #look(): Promise<void> {
    for (const path of ["/v1/status", "/v1/peers", "/v1/problems", "/v1/plan", "/v1/attachments"]) await this.#client.get(path);
    await this.#client.get("/v1/routes", { limit: 1000 });
    await this.#client.get("/v1/explain", { prefix: "10.0.1.2" });
  }

  /** Connections of a stranger: silent, too long, wrong, and cut off. */
  async #rubbish(turn: number): Promise<void> {
    const texts = ["", "GET / HTTP/1.0\\r\\n\\r\\n", "\\xff".repeat(19), `${"\\xff".repeat(16)}\\x00\\x13\\x04`, "x".repeat(8192)];
    const text = texts[turn % texts.length];
    // A shell's own TCP client: the process here is in another namespace.
    const script = `exec 3<>/dev/tcp/${addresses.speaker}/179 && printf '${text}' >&3`;
    await new Promise<void>(resolve => {
      spawn("ip", ["netns", "exec", this.#traffic, "bash", "-c", script], { stdio: "ignore" }).once("close", () => resolve());
    });
  }

  /** Waits until so many learned routes are chosen and in the kernel. */
  #routes(wanted: number): Promise<void> {
    return this.#until(`${wanted} routes`, async () => {
      const speaker = (await this.#status())?.speaker;
      if (!speaker?.fib) return false;
      // Besides, the node's own pod ranges and what this round announces.
      const own = 8;
      const best = speaker.tables["ipv4-unicast"].best - wanted;
      const installed = speaker.fib.installed - wanted;
      return best >= 0 && best <= own && installed >= 0 && installed <= own && speaker.fib.pending === 0;
    });
  }

  async #status(): Promise<StatusView | undefined> {
    return this.#client.get<StatusView>("/v1/status").catch(() => undefined);
  }

  async #until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const limit = performance.now() + ROUND_LIMIT;
    while (!(await holds())) {
      if (this.#agent?.exitCode !== null) throw new Error(`the agent ended: ${this.#errors}`);
      if (performance.now() > limit) throw new Error(`waited ${ROUND_LIMIT / 1000} s for ${what}; the agent said: ${this.#errors}`);
      await pause(50);
    }
  }

  /** A change of each kind: an object that comes and goes, a policy, a label. */
  #configure(turn: number): void {
    const folder = join(this.#folder, "config");
    mkdirSync(folder, { recursive: true });
    // Renamed into place, so that no half file is read.
    const text = objects(turn)
      .map(object => JSON.stringify(object))
      .join("\n---\n");
    writeFileSync(join(this.#folder, "objects.new"), text);
    renameSync(join(this.#folder, "objects.new"), join(folder, "objects.yaml"));
  }
}

function objects(turn: number): object[] {
  const podlane = { apiVersion: "podlane.io/v1alpha1" };
  const node = (name: string, number: number, address: string) => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { turn: String(turn) } },
    // Room for the addresses that rest for 30 s after each round.
    spec: { podCIDRs: [`10.${number}.0.0/16`, `fd00:10:244:${number}::/64`] },
    status: { addresses: [{ type: "InternalIP", address }] },
  });
  const feed = {
    nodeSelector: {},
    address: addresses.feed.address,
    asn: addresses.feed.asn,
    passive: true,
    description: `round ${turn}`,
    import: { accept: [{ prefix: "0.0.0.0/0", ge: 1, le: 32 }] },
    prefixLimit: 2_000_000,
  };
  return [
    node("node1", 1, addresses.speaker),
    // Nobody is there: its session is tried again for ever.
    node("node2", 2, "10.0.1.30"),
    { ...podlane, kind: "Fabric", metadata: { name: "all" }, spec: { nodeSelector: {}, asn: 65000 } },
    { ...podlane, kind: "Peer", metadata: { name: "feed" }, spec: feed },
    ...(turn % 2 === 0
      ? [
          {
            ...podlane,
            kind: "Advertisement",
            metadata: { name: "static" },
            spec: { nodeSelector: {}, type: "Static", static: { prefixes: [{ prefix: "198.51.100.0/24" }] }, peers: ["feed"] },
          },
        ]
      : []),
  ];
}

function footprint(pid: number): Omit<Sample, "at" | "heapMB"> {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
  return { residentMB: field("VmRSS") / 1024, files: readdirSync(`/proc/${pid}/fd`).length, threads: field("Threads") };
}

interface Report {
  rounds: number;
  /** The run in equal parts; those in which no round ended are left out. */
  parts: { from: number; to: number; least: number; mean: number; most: number; heap: number; files: number; threads: number }[];
  /** Of a straight line through all but the first part, by least squares: MB an hour. Absent for too short a run. */
  slope?: number;
}

function summarise(samples: Sample[], minutes: number): Report {
  const divided = Array.from({ length: PARTS }, (_, part) => part).flatMap(part => {
    const from = (part * minutes) / PARTS;
    const to = ((part + 1) * minutes) / PARTS;
    const inside = samples.filter(({ at }) => at >= from && (at < to || part === PARTS - 1));
    if (inside.length === 0) return [];
    const resident = inside.map(({ residentMB }) => residentMB);
    const mean = resident.reduce((sum, value) => sum + value, 0) / resident.length;
    return {
      from: round(from, 1),
      to: round(to, 1),
      least: round(Math.min(...resident), 1),
      mean: round(mean, 1),
      most: round(Math.max(...resident), 1),
      // What is live, and what the collector has not met yet: the least of many.
      heap: round(Math.min(...inside.map(({ heapMB }) => heapMB)), 1),
      files: Math.max(...inside.map(({ files }) => files)),
      threads: Math.max(...inside.map(({ threads }) => threads)),
    };
  });
  const settled = samples.filter(({ at }) => at >= minutes / PARTS);
  return { rounds: samples.length, parts: divided, ...(settled.length > 2 && { slope: round(slopeOf(settled), 2) }) };
}

function slopeOf(samples: Sample[]): number {
  const meanAt = samples.reduce((sum, { at }) => sum + at, 0) / samples.length;
  const meanMB = samples.reduce((sum, { residentMB }) => sum + residentMB, 0) / samples.length;
  const covariance = samples.reduce((sum, { at, residentMB }) => sum + (at - meanAt) * (residentMB - meanMB), 0);
  const variance = samples.reduce((sum, { at }) => sum + (at - meanAt) ** 2, 0);
  return (60 * covariance) / variance;
}

function print(head: string, table: Table, pods: number, report: Report, problems: string[]): void {
  console.log(`${head}\n\n${report.rounds} rounds of ${table.prefixes} routes and ${pods} pods; resident memory at rest, MB\n`);
  printTable(
    ["minutes", "least", "mean", "most", "heap in use", "open files", "threads"],
    report.parts.map(part => [
      `${part.from}–${part.to}`,
      part.least.toFixed(1),
      part.mean.toFixed(1),
      part.most.toFixed(1),
      part.heap.toFixed(1),
      String(part.files),
      String(part.threads),
    ]),
  );
  const { slope } = report;
  if (slope !== undefined) console.log(`\nafter the first part: ${slope >= 0 ? "+" : ""}${slope.toFixed(2)} MB an hour`);
  for (const problem of problems) console.log(`problem at the end: ${problem}`);
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  await program("soak", USAGE, { minutes: text, prefixes: text, pods: text, pause: text, rounds: text }, main);
}
