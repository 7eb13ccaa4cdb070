/**
 * Traffic between two pods of one node, however they are attached: a TCP stream and a loop of requests and responses, beside Debian's bridge and ptp
 * plugins, the sides taking turns. And what a stream gets of the bandwidth that the capability of that name allows.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { inNetns, until } from "../test/cni/harness.ts";
import { count, describeMachine, machine, median, needRoot, packageVersion, printTable, program, round, type Values } from "./common.ts";
import { type Plugin, type PluginName, withPlugins } from "./plugins.ts";

const USAGE = `usage: npm run bench -- pods [--rounds N] [--seconds N] [--json]

  --rounds    turns of each side, 1..100; default 3
  --seconds   of each measurement, 1..60; default 3
  --json      one JSON object instead of a table

Needs root (it makes network namespaces), Debian's containernetworking-plugins, and python3.`;

const script = join(import.meta.dirname, "stream.py");
/** Bits in a second that pods are limited to. */
const limits = [10e6, 100e6, 1e9];

interface Pod {
  netns: string;
  addresses: string[];
}

interface Traffic {
  plugin: PluginName;
  family: "IPv4" | "IPv6";
  /** Gbit/s, median of the rounds. */
  stream: number;
  /** Microseconds of one round trip, median of the rounds. */
  median: number;
  p99: number;
}

/** Parts of the rate. */
interface Limited {
  plugin: PluginName;
  rate: number;
  receives: number;
  sends: number;
}

async function main(values: Values): Promise<void> {
  const rounds = count(values, "rounds", 3, 100);
  const seconds = count(values, "seconds", 3, 60);
  needRoot();
  const facts = machine();
  const version = packageVersion("containernetworking-plugins");
  await withPlugins(async plugins => {
    const traffic = await measureTraffic(plugins, rounds, seconds);
    const limited: Limited[] = [];
    for (const plugin of plugins.filter(({ isOurs }) => isOurs)) limited.push(...(await measureLimits(plugin, seconds)));
    if (values.json)
      console.log(JSON.stringify({ bench: "pods", machine: facts, versions: { plugins: version }, rounds, traffic, limited }));
    else print(`${describeMachine(facts)}\nDebian's plugins ${version}`, traffic, limited);
  });
}

async function attach(plugin: Plugin, container: string, config: object = {}): Promise<Pod> {
  const netns = plugin.node.pod();
  const { status, stdout, json } = await plugin.call("ADD", container, netns, config);
  if (status !== 0) throw new Error(`${plugin.name} ADD: ${stdout}`);
  const addresses = json.ips.map(({ address }: { address: string }) => address.split("/")[0]);
  // The references leave duplicate address detection on.
  await until("addresses of IPv6", () => !inNetns(netns, "ip", "-6", "address").stdout.includes("tentative"));
  return { netns, addresses };
}

async function measureTraffic(plugins: readonly Plugin[], rounds: number, seconds: number): Promise<Traffic[]> {
  const sides: { plugin: Plugin; from: Pod; to: Pod; rows: Map<string, number[]> }[] = [];
  for (const plugin of plugins) sides.push({ plugin, from: await attach(plugin, "from"), to: await attach(plugin, "to"), rows: new Map() });
  const note = (rows: Map<string, number[]>, key: string, value: number) => void rows.set(key, [...(rows.get(key) ?? []), value]);
  for (let turn = 0; turn < rounds; turn++) {
    for (const { from, to, rows } of turn % 2 === 0 ? sides : [...sides].reverse()) {
      for (const [at, address] of to.addresses.entries()) {
        note(rows, `stream ${at}`, (await run("sink", to.netns, "source", from.netns, address, seconds)).served[0] / 1e9);
        const { asked } = await run("echo", to.netns, "ask", from.netns, address, seconds);
        note(rows, `median ${at}`, asked[0]);
        note(rows, `p99 ${at}`, asked[1]);
      }
    }
  }
  return sides.flatMap(({ plugin, rows }) =>
    (["IPv4", "IPv6"] as const).map((family, at) => {
      const of = (key: string, digits: number) => round(median(rows.get(`${key} ${at}`)!), digits);
      return { plugin: plugin.name, family, stream: of("stream", 2), median: of("median", 1), p99: of("p99", 1) };
    }),
  );
}

async function measureLimits(plugin: Plugin, seconds: number): Promise<Limited[]> {
  const free = await attach(plugin, "free");
  const result: Limited[] = [];
  for (const rate of limits) {
    // The burst is what container runtimes write for none.
    const bandwidth = { ingressRate: rate, ingressBurst: 2 ** 32 - 1, egressRate: rate, egressBurst: 2 ** 32 - 1 };
    const pod = await attach(plugin, `limited${rate}`, { runtimeConfig: { bandwidth } });
    const receives = (await run("sink", pod.netns, "source", free.netns, pod.addresses[0], seconds)).served[0];
    const sends = (await run("sink", free.netns, "source", pod.netns, free.addresses[0], seconds)).served[0];
    result.push({ plugin: plugin.name, rate, receives: round(receives / rate, 3), sends: round(sends / rate, 3) });
  }
  return result;
}

/** One end and, once it listens, the other; the numbers that each said. */
async function run(
  server: string,
  at: string,
  client: string,
  from: string,
  address: string,
  seconds: number,
): Promise<{ served: number[]; asked: number[] }> {
  const end = (netns: string, role: string) => {
    const words = [`--net=${netns}`, "python3", script, role, address, String(seconds)];
    const child = spawn("nsenter", words, { stdio: ["ignore", "pipe", "inherit"] });
    const said = { text: "" };
    child.stdout.on("data", chunk => {
      said.text += chunk;
    });
    return { child, said, ended: new Promise(resolve => child.on("close", resolve)) };
  };
  const first = end(at, server);
  try {
    await until(`${server} to listen`, () => first.said.text.includes("ready"));
    const second = end(from, client);
    await Promise.all([first.ended, second.ended]);
    const numbers = (text: string) => text.split(/\s+/).map(Number).filter(Number.isFinite).filter(Boolean);
    return { served: numbers(first.said.text), asked: numbers(second.said.text) };
  } finally {
    first.child.kill();
  }
}

function print(head: string, traffic: Traffic[], limited: Limited[]): void {
  console.log(`${head}\n`);
  printTable(
    ["between two pods of a node", "", "stream, Gbit/s", "round trip, µs", "p99, µs"],
    traffic.map(({ plugin, family, stream, median, p99 }) => [plugin, family, ...[stream, median, p99].map(String)]),
    2,
  );
  console.log("");
  printTable(
    ["bandwidth", "Mbit/s", "receives", "sends"],
    limited.map(({ plugin, rate, receives, sends }) => [
      plugin,
      String(rate / 1e6),
      ...[receives, sends].map(one => `${round(one * 100, 1)} %`),
    ]),
    1,
  );
}

if (import.meta.main) await program("pods", USAGE, { rounds: { type: "string" }, seconds: { type: "string" } }, main);
