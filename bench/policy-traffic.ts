/**
 * What policies cost a packet: traffic between two pods of a node, and of two nodes that know each other's routes, on a bridge and routed, beside Debian's bridge
 * plugin; without policies, with many that select other pods of the node, and with many that select the pod itself, the last of which lets the packet pass.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { transaction } from "../netfilter/json.ts";
import { nft } from "../netfilter/nft.ts";
import { PolicyIndex } from "../netfilter/policy/policy-index.ts";
import type { NetworkPolicyObject, PolicyPod } from "../netfilter/policy/types.ts";
import type { RulesetObject } from "../netfilter/ruleset.ts";
import { inNetns, until } from "../test/cni/harness.ts";
import {
  count,
  describeMachine,
  list,
  machine,
  median,
  needRoot,
  packageVersion,
  printTable,
  program,
  round,
  UsageError,
  type Values,
} from "./common.ts";
import { compile, programPath } from "./compile.ts";
import { needReferences, Plugin, type PluginName } from "./plugins.ts";

const USAGE = `usage: npm run bench -- policy-traffic [--rounds N] [--milliseconds N] [--policies N,…] [--family 4|6] [--quick] [--json]

  --rounds         turns of each side with each number of policies, 1..100; default 3
  --milliseconds   of each measurement, 100..60000; default 500. iperf3 takes whole seconds
  --policies       their numbers beside 0, each 1..2000; default 100,1000
  --family         of the addresses; default 4
  --quick          one round of 200 ms, without iperf3
  --json           one JSON object instead of a table

Needs root (it makes network namespaces), nft, a C compiler, Debian's containernetworking-plugins, and for throughput iperf3.`;

const kinds: readonly PluginName[] = ["podlane, bridge", "podlane, routed", "bridge + host-local"];
const PORT = 5201;
const NAMESPACE = "shop";
/** Pods of each node that policies of others select. */
const OTHERS = 100;
/** Seconds that one end waits for the other. */
const PATIENCE = 20;

type Scenario = { policies: number; select: "nobody" | "other pods" | "the pod" };
type Place = "one node" | "two nodes";

interface Pod {
  netns: string;
  address: string;
  hostInterface: string;
}

interface Row extends Scenario {
  plugin: PluginName;
  place: Place;
  /** Gbit/s by iperf3, median of the rounds. */
  stream?: number;
  /** Microseconds of a round trip on a connection that is there. */
  trip: number;
  tripP99: number;
  /** Microseconds of a connection with one request, and how many a second come to. */
  connection: number;
  connectionP99: number;
  connections: number;
}

/** Two nodes with a cable between them, and the pods that talk. */
class Side {
  readonly name: PluginName;
  readonly #nodes: Plugin[];
  readonly #family: 4 | 6;
  readonly #rules = new Map<Plugin, RulesetObject[]>();
  from!: Pod;
  readonly to = {} as Record<Place, Pod>;

  constructor(name: PluginName, family: 4 | 6) {
    this.name = name;
    this.#family = family;
    this.#nodes = [0, 1].map(at => new Plugin(name, [`10.${80 + at}.0.0/16`, `fd${80 + at}::/64`]));
  }

  async start(): Promise<void> {
    for (const plugin of this.#nodes) if (plugin.isOurs) await plugin.node.start();
    const [near, far] = this.#nodes;
    const ip = (...words: string[]) => execFileSync("ip", words);
    ip("link", "add", "uplink", "netns", near.node.id, "type", "veth", "peer", "name", "uplink", "netns", far.node.id);
    for (const [at, { node }] of this.#nodes.entries()) {
      node.exec("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
      node.exec("ip", "address", "add", `192.0.2.${at + 1}/24`, "dev", "uplink");
      node.exec("ip", "address", "add", `2001:db8::${at + 1}/64`, "dev", "uplink", "nodad");
      node.exec("ip", "link", "set", "uplink", "up");
      node.exec("ip", "route", "add", `10.${81 - at}.0.0/16`, "via", `192.0.2.${2 - at}`);
      node.exec("ip", "-6", "route", "add", `fd${81 - at}::/64`, "via", `2001:db8::${2 - at}`);
    }
    this.from = await this.#attach(near, "from");
    this.to["one node"] = await this.#attach(near, "near");
    this.to["two nodes"] = await this.#attach(far, "far");
  }

  async close(): Promise<void> {
    for (const { node } of this.#nodes) await node.close();
  }

  /** On both nodes. */
  async use(scenario: Scenario): Promise<void> {
    for (const [at, plugin] of this.#nodes.entries()) {
      const { node } = plugin;
      const wanted = [...rulesOf(scenario, this.#family, this.from, this.to[at === 0 ? "one node" : "two nodes"], this.#bridge)];
      const before = this.#rules.get(plugin) ?? [];
      const differences = [
        ...before.map(one => ({ before: one, after: undefined })),
        ...wanted.map(after => ({ before: undefined, after })),
      ];
      const write = nft(["nsenter", `--net=${node.netns}`, "nft"]);
      // The one after the other: some have the same names.
      if (before.length > 0) await write(transaction(differences.slice(0, before.length)));
      if (wanted.length > 0) await write(transaction(differences.slice(before.length)));
      this.#rules.set(plugin, wanted);
    }
  }

  get #bridge(): string | null {
    return this.name === "podlane, bridge" ? "podlane0" : null;
  }

  async #attach(plugin: Plugin, container: string): Promise<Pod> {
    const netns = plugin.node.pod();
    const { status, stdout, json } = await plugin.call("ADD", container, netns);
    if (status !== 0) throw new Error(`${plugin.name} ADD: ${stdout}`);
    // The references leave duplicate address detection on.
    await until("addresses of IPv6", () => !inNetns(netns, "ip", "-6", "address").stdout.includes("tentative"));
    const addresses = json.ips.map(({ address }: { address: string }) => address.split("/")[0]);
    const address = addresses.find((one: string) => one.includes(":") === (this.#family === 6));
    return { netns, address, hostInterface: json.interfaces.find(({ sandbox }: { sandbox?: string }) => !sandbox).name };
  }
}

function rulesOf({ policies, select }: Scenario, family: 4 | 6, from: Pod, to: Pod, bridge: string | null): Iterable<RulesetObject> {
  const index = new PolicyIndex();
  const pod = (name: string, address: string, labels: Record<string, string>): PolicyPod => ({
    ...{ key: `${NAMESPACE}/${name}`, namespace: NAMESPACE, name, uid: name, node: "n", labels, addresses: [address] },
    ...{ hostNetwork: false, ended: false, ports: [] },
  });
  const other = (at: number) => (family === 4 ? `10.99.0.${at + 1}` : `fd99::${(at + 1).toString(16)}`);
  const all = [pod("from", from.address, { app: "from" }), pod("to", to.address, { app: "to" })];
  for (let at = 0; at < OTHERS; at++) all.push(pod(`other${at}`, other(at), { app: `other${at}` }));
  index.setNamespace({ name: NAMESPACE, labels: {} });
  for (const one of all) index.setPod(one);
  const policy = (name: string, app: string, port: number): NetworkPolicyObject => ({
    ...{ key: `${NAMESPACE}/${name}`, namespace: NAMESPACE, name, pods: { matchLabels: { app } } },
    ingress: [{ peers: [{ pods: { matchLabels: { app: "from" } } }], ports: [{ protocol: "TCP", port }] }],
  });
  // One lets the measured packets pass, by its name the last that is asked; all others are of other pods, or let other ports pass.
  if (policies > 0) index.setPolicy(policy("z", "to", PORT));
  for (let at = 1; at < policies; at++) index.setPolicy(policy(`p${at}`, select === "the pod" ? "to" : `other${at % OTHERS}`, 10_000 + at));
  const attached = (one: PolicyPod, hostInterface: string) => ({
    key: one.key,
    uid: one.uid,
    addresses: one.addresses,
    hostInterface,
    bridge,
  });
  index.setAttachments(all.slice(1).map((one, at) => attached(one, at === 0 ? to.hostInterface : `other${at}`)));
  index.settle();
  index.take();
  return index.objects().values();
}

interface Exchange {
  count: number;
  seconds: number;
  median: number;
  p99: number;
}

/** What `asks` say, one after the other, while a server is there. */
async function exchange(from: Pod, to: Pod, milliseconds: number, asks: readonly ("ask" | "connect")[]): Promise<Exchange[]> {
  const words = [`--net=${to.netns}`, programPath("exchange"), "serve", to.address, String(PORT)];
  const server = spawn("nsenter", words, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(createInterface(server.stdout), "line");
    return asks.map(what => {
      const call = [`--net=${from.netns}`, programPath("exchange"), what, to.address, String(PORT), String(milliseconds / 1000)];
      return JSON.parse(execFileSync("nsenter", call, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }));
    });
  } finally {
    server.kill();
    await once(server, "close");
  }
}

/** Gbit/s that came in. */
async function stream(from: Pod, to: Pod, milliseconds: number): Promise<number> {
  const words = [`--net=${to.netns}`, "iperf3", "--server", "--one-off", "--bind", to.address, "--port", String(PORT), "--forceflush"];
  const server = spawn("nsenter", words, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(server, "close");
  const bound = setTimeout(() => server.kill(), (PATIENCE + milliseconds / 1000) * 1000);
  try {
    for await (const line of createInterface(server.stdout)) if (line.includes("listening")) break;
    server.stdout.resume();
    const seconds = String(Math.ceil(milliseconds / 1000));
    const call = [`--net=${from.netns}`, "iperf3", "--client", to.address, "--port", String(PORT), "--time", seconds, "--json"];
    const { status, stdout } = spawnSync("nsenter", call, { encoding: "utf8", timeout: (PATIENCE + milliseconds / 1000) * 1000 });
    if (status !== 0) throw new Error(`iperf3 to ${to.address}: ${stdout.slice(0, 500)}`);
    return JSON.parse(stdout).end.sum_received.bits_per_second / 1e9;
  } finally {
    server.kill();
    await ended;
    clearTimeout(bound);
  }
}

/** Throws where the rules are not in the packets' way: a port that no policy lets pass does not even refuse. */
function checkClosed({ netns }: Pod, { address }: Pod): void {
  const call = [`--net=${netns}`, "timeout", "0.3", programPath("exchange"), "ask", address, String(PORT + 1), "1"];
  if (spawnSync("nsenter", call, { stdio: "ignore" }).status !== 124) throw new Error(`the policies do not keep packets from ${address}`);
}

async function measure(
  scenarios: readonly Scenario[],
  family: 4 | 6,
  rounds: number,
  milliseconds: number,
  iperf: boolean,
): Promise<Row[]> {
  const sides: Side[] = [];
  const rows = new Map<string, { row: Pick<Row, "plugin" | "place" | keyof Scenario>; values: Record<string, number[]> }>();
  try {
    for (const name of kinds) {
      const side = new Side(name, family);
      sides.push(side);
      await side.start();
    }
    for (let turn = 0; turn < rounds; turn++) {
      for (const scenario of turn % 2 === 0 ? scenarios : scenarios.toReversed()) {
        for (const side of scenario.policies === 0 ? sides : sides.filter(({ name }) => name.startsWith("podlane"))) {
          await side.use(scenario);
          for (const [place, to] of Object.entries(side.to) as [Place, Pod][]) {
            if (turn === 0 && scenario.policies > 0) checkClosed(side.from, to);
            const key = JSON.stringify([side.name, place, scenario]);
            const known = rows.get(key) ?? { row: { plugin: side.name, place, ...scenario }, values: {} };
            rows.set(key, known);
            for (const [what, value] of Object.entries(await one(side.from, to, milliseconds, iperf)))
              known.values[what] = [...(known.values[what] ?? []), value];
          }
        }
      }
    }
  } finally {
    for (const side of sides) await side.close();
  }
  return [...rows.values()].map(({ row, values }) => {
    const medians = Object.entries(values).map(([what, all]) => [what, round(median(all), what === "connections" ? 0 : 2)]);
    return { ...row, ...(Object.fromEntries(medians) as Omit<Row, keyof typeof row>) };
  });
}

async function one(from: Pod, to: Pod, milliseconds: number, iperf: boolean): Promise<Record<string, number>> {
  const [trip, connection] = await exchange(from, to, milliseconds, ["ask", "connect"]);
  return {
    ...(iperf && { stream: await stream(from, to, milliseconds) }),
    ...{ trip: trip.median, tripP99: trip.p99, connection: connection.median, connectionP99: connection.p99 },
    connections: connection.count / connection.seconds,
  };
}

async function run(values: Values): Promise<void> {
  const rounds = count(values, "rounds", values.quick ? 1 : 3, 100);
  const milliseconds = count(values, "milliseconds", values.quick ? 200 : 500, 60_000, 100);
  const numbers = list(values, "policies", [100, 1000], "numbers 1..2000", word => {
    const number = Number(word);
    return Number.isInteger(number) && number >= 1 && number <= 2000 ? number : undefined;
  });
  const family = values.family === undefined || values.family === "4" ? 4 : 6;
  if (family === 6 && values.family !== "6") throw new UsageError(`--family ${values.family}: 4 or 6 is wanted`);
  needRoot();
  needReferences();
  compile("exchange");
  const version = packageVersion("iperf3");
  const iperf = version !== undefined && !values.quick;
  const scenarios: Scenario[] = [
    { policies: 0, select: "nobody" },
    { policies: 1, select: "the pod" },
  ];
  for (const select of ["other pods", "the pod"] as const) for (const policies of numbers) scenarios.push({ policies, select });
  const facts = machine();
  const rows = await measure(scenarios, family, rounds, milliseconds, iperf);
  const versions = { plugins: packageVersion("containernetworking-plugins"), iperf3: version };
  if (values.json) {
    console.log(JSON.stringify({ bench: "policy-traffic", machine: facts, versions, rounds, milliseconds, family, rows }));
    return;
  }
  console.log(
    `${describeMachine(facts)}\nDebian's plugins ${versions.plugins}, iperf3 ${version ?? "absent (apt-get install iperf3): no throughput"}`,
  );
  console.log(`IPv${family}, medians of ${rounds} turns of ${milliseconds} ms; load now ${machine().load.join(" ")}\n`);
  print(rows);
}

function print(rows: readonly Row[]): void {
  const sorted = rows.toSorted((a, b) => a.place.localeCompare(b.place) || kinds.indexOf(a.plugin) - kinds.indexOf(b.plugin));
  const columns = ["pods on", "", "policies", "that select", "Gbit/s", "round trip, µs", "p99", "new connection, µs", "p99", "a second"];
  printTable(
    columns,
    sorted.map(one => [
      ...[one.place, one.plugin, String(one.policies), one.select, one.stream === undefined ? "–" : String(one.stream)],
      ...[one.trip, one.tripP99, one.connection, one.connectionP99, one.connections].map(String),
    ]),
    4,
  );
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  const options = { rounds: text, milliseconds: text, policies: text, family: text, quick: { type: "boolean" } } as const;
  await program("policy-traffic", USAGE, options, run);
}
