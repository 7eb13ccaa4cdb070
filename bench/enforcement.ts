/**
 * From a change in a real API server to the first packet that is refused, or let in: a policy that is created and deleted, a label of a pod here, a label of a peer
 * elsewhere. A real agent, and beside it kube-network-policies and kube-router where they are installed, one after the other on the same node with the same
 * pods and objects; and what memory each has then.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { buildPlugin } from "../cni/plugin/build.ts";
import { build } from "../scripts/build.ts";
import { runPlugin } from "../test/cni/harness.ts";
import { type ApiServer, startApiServer } from "../test/kubernetes/api-server.ts";
import { installCrds } from "../test/kubernetes/install-crds.ts";
import { TestNetwork } from "../test/network.ts";
import {
  count,
  describeMachine,
  list,
  machine,
  needRoot,
  nodeOptions,
  percentile,
  printTable,
  program,
  round,
  type Values,
} from "./common.ts";
import { compile, programPath } from "./compile.ts";
import { asPod, create, given, runInside } from "./inside.ts";
import { clusterObjects } from "./policy-cluster.ts";
import { Driven } from "./processes.ts";
import { cleanNode, prepareRival, rivalCommand, type SideName, sideNames } from "./rivals.ts";

const USAGE = `usage: npm run bench -- enforcement [--rounds N] [--sides NAME,…] [--pods N] [--policies N] [--log FOLDER] [--quick] [--json]

  --rounds     changes of each kind, 5..1000; default 100
  --sides      of podlane, kube-network-policies, kube-router; default all
  --pods       more pods in the cluster, 0..10000; default 0. One in fifty is on the node
  --policies   more policies in the cluster, 0..2000; default 0
  --log        folder for what the programs log
  --quick      15 rounds
  --json       one JSON object instead of a table

Needs root (it makes network namespaces), nft, a C compiler, kube-apiserver and etcd (CONTRIBUTING.md says where they are looked for). The others are found on PATH, or
by PODLANE_KUBE_NETWORK_POLICIES and PODLANE_KUBE_ROUTER; they need iptables, kube-router ipset.`;

/** Milliseconds of rest between changes, to which up to as many are added. */
const REST = 50;
/** Milliseconds until a change must be in force, and until a program that was started must be at work. */
const PATIENCE = 20_000;
const START = 90_000;
/** Seconds of rest before memory is looked at. */
const QUIET = 5;
/** Objects that are made at once. */
const BATCH = 40;
/** Microseconds between two packets. */
const INTERVAL = 1000;
const PORT = 5300;
const NODE = "node1";
const PEER = "10.244.2.9";
const POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";

interface Task {
  folder: string;
  main: string;
  plugin: string;
  /** Network namespaces: of the other node, of the measured pod, and of the others here. */
  outside: string;
  pod: string;
  others: string[];
  rounds: number;
  sides: SideName[];
  pods: number;
  policies: number;
  log?: string;
}

interface Figures {
  side: SideName;
  /** Why it was not measured. */
  skipped?: string;
  /** What the reader has to know. */
  note?: string;
  times: Record<string, number[]>;
  megabytes?: number;
}

/** The measured pod, its peer, and what watches between them. */
class Door {
  readonly #driven: Driven;

  constructor(node: string, from: string, to: string, address: string) {
    const words = [`/run/netns/${from}`, PEER, `/run/netns/${to}`, address, String(PORT), String(INTERVAL)];
    this.#driven = new Driven("knock", node, [programPath("knock"), ...words]);
  }

  /** Milliseconds from the request until the first packet that it concerns, and until the API server has answered. */
  async after(state: "shut" | "open", change: () => Promise<unknown>, patience = PATIENCE): Promise<{ took: number; answered: number }> {
    this.#driven.tell(state);
    await this.#driven.next("knocking", performance.now() + patience);
    // The clock of the other program.
    const from = Number(process.hrtime.bigint()) / 1e9;
    await change();
    const answered = Number(process.hrtime.bigint()) / 1e9;
    const { time } = await this.#driven.next(state, performance.now() + patience);
    return { took: ((time as number) - from) * 1000, answered: (answered - from) * 1000 };
  }

  close(): Promise<void> {
    return this.#driven.stop();
  }
}

/** In the network namespace of the node, with the API server on its loopback. */
async function inside(task: Task): Promise<Figures[]> {
  const server = await startApiServer({ watchCache: true });
  try {
    await installCrds(server);
    await populate(server, task);
    const found: Figures[] = [];
    let address: string | undefined;
    // The agent attaches the pods; its first start is for that alone.
    const { stop } = await start(task, server, "podlane", podlane(task));
    try {
      address = await attachAll(task, server);
    } finally {
      await stop();
    }
    for (const side of task.sides) found.push(await measure(task, server, side, address));
    return found;
  } finally {
    await server.stop();
  }
}

function podlane({ folder, main }: Task): string[] {
  const own = ["--node", NODE, "--state", join(folder, "state"), "--socket", join(folder, "agent.sock")];
  return [process.execPath, ...nodeOptions, main, "agent", "--kubernetes", ...own, "--log-format", "json", "--log-level", "warn"];
}

async function start(task: Task, server: ApiServer, side: SideName, command: readonly string[]) {
  const [word, ...words] = await asPod(task.folder, server, command);
  const url = new URL(server.credentials().server);
  const env = {
    ...process.env,
    ...{ PODLANE_API_SERVER: url.href, KUBERNETES_SERVICE_HOST: url.hostname, KUBERNETES_SERVICE_PORT: url.port, NODE_NAME: NODE },
  };
  const child = spawn(word, words, { env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = once(child, "close");
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const log = task.log === undefined ? undefined : createWriteStream(join(task.log, `${side}.log`), { flags: "a" });
  for (const output of [child.stdout, child.stderr]) output.on("data", chunk => log?.write(chunk));
  const stop = async () => {
    kill();
    await ended;
    process.off("exit", kill);
    log?.end();
  };
  return { child, stop };
}

async function populate(server: ApiServer, { pods, policies }: Task): Promise<void> {
  await create(server, "/api/v1/namespaces/default/serviceaccounts", { metadata: { name: "default" } });
  for (const number of [1, 2]) {
    const status = { addresses: [{ type: "InternalIP", address: `192.0.2.${number}` }] };
    await create(server, "/api/v1/nodes", { metadata: { name: `node${number}` }, spec: { podCIDRs: [`10.244.${number}.0/24`] }, status });
  }
  for (const name of ["web", "peer"])
    await create(server, "/api/v1/namespaces/default/pods", podObject(name, name === "web" ? NODE : "node2"));
  await setAddress(server, "default", "peer", PEER, "192.0.2.2");
  const { namespaces, all } = clusterObjects(pods, policies);
  for (const one of namespaces) {
    await create(server, "/api/v1/namespaces", one);
    await create(server, `/api/v1/namespaces/${one.metadata.name}/serviceaccounts`, { metadata: { name: "default" } });
  }
  await inBatches(all, ({ path, object }) => create(server, path, object));
  const far = all.filter(({ address }) => address !== undefined);
  await inBatches(far, ({ object, address }) => setAddress(server, object.metadata.namespace, object.metadata.name, address!, "192.0.2.2"));
}

function podObject(name: string, nodeName: string): object {
  return {
    metadata: { name, labels: { app: name } },
    spec: { nodeName, automountServiceAccountToken: false, containers: [{ name: "c", image: "i" }] },
  };
}

async function setAddress(server: ApiServer, namespace: string, name: string, ip: string, hostIP: string): Promise<void> {
  const status = { phase: "Running", hostIP, hostIPs: [{ ip: hostIP }], podIP: ip, podIPs: [{ ip }] };
  const { status: code } = await server.call("PATCH", `/api/v1/namespaces/${namespace}/pods/${name}/status`, { status });
  if (code !== 200) throw new Error(`the status of pod ${namespace}/${name}: ${code}`);
}

async function inBatches<T>(all: readonly T[], run: (one: T) => Promise<void>): Promise<void> {
  for (let from = 0; from < all.length; from += BATCH) await Promise.all(all.slice(from, from + BATCH).map(run));
}

/** All pods of the node, as their runtime would have it; the address of the measured one. */
async function attachAll(task: Task, server: ApiServer): Promise<string> {
  const here = clusterObjects(task.pods, task.policies).here.map(({ metadata }) => metadata);
  const address = await attach(task, server, "default", "web", task.pod);
  for (const [at, { namespace, name }] of here.entries()) await attach(task, server, namespace, name, task.others[at]);
  return address;
}

async function attach(task: Task, server: ApiServer, namespace: string, name: string, netns: string): Promise<string> {
  const { body } = await server.call("GET", `/api/v1/namespaces/${namespace}/pods/${name}`);
  const env = {
    PATH: process.env.PATH ?? "",
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: body.metadata.uid,
    CNI_NETNS: `/run/netns/${netns}`,
    CNI_IFNAME: "eth0",
    CNI_PATH: task.folder,
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_UID=${body.metadata.uid}`,
  };
  const config = { cniVersion: "1.0.0", name: "podlane", type: "podlane", socket: join(task.folder, "agent.sock") };
  for (const end = performance.now() + START; ; await delay(200)) {
    const { status, stdout, json } = await runPlugin(task.plugin, env, JSON.stringify(config));
    if (status === 0) {
      const address = json.ips[0].address.split("/")[0];
      await setAddress(server, namespace, name, address, "192.0.2.1");
      return address;
    }
    if (performance.now() > end) throw new Error(`ADD of pod ${namespace}/${name}: ${stdout}`);
  }
}

async function measure(task: Task, server: ApiServer, side: SideName, address: string): Promise<Figures> {
  const command = side === "podlane" ? podlane(task) : rivalCommand(side, NODE);
  if (typeof command === "string") return { side, skipped: command, times: {} };
  const { child, stop } = await start(task, server, side, command);
  const door = new Door(execNamespace(), task.outside, task.pod, address);
  const times: Record<string, number[]> = {};
  let note: string | undefined;
  try {
    const works = await warm(server, door, () => {
      note = prepareRival(side, [address]);
    });
    if (!works) return { side, skipped: `it refused no packet within ${START / 1000} s of its start`, times };
    for (const { what, on, off } of changes(server)) {
      await off();
      for (let turn = 0; turn < task.rounds; turn++) {
        for (const [state, change] of [
          ["shut", on],
          ["open", off],
        ] as const) {
          const { took, answered } = await door.after(state, change);
          times[`${what}, ${state}`] = [...(times[`${what}, ${state}`] ?? []), took];
          times.answered = [...(times.answered ?? []), answered];
          await delay(REST * (1 + Math.random()));
        }
      }
    }
    await delay(QUIET * 1000);
    return { side, times, megabytes: round(residentMB(child.pid!), 1), ...(note !== undefined && { note }) };
  } finally {
    await door.close();
    await stop();
    await server.call("DELETE", POLICIES);
    cleanNode();
  }
}

/** Whether it keeps a first packet out in time. */
async function warm(server: ApiServer, door: Door, prepare: () => void): Promise<boolean> {
  const { on, off } = changes(server)[0];
  try {
    await door.after("shut", () => delay(2000).then(prepare).then(on), START);
    await door.after("open", off, START);
    return true;
  } catch {
    return false;
  }
}

/** `on` shuts the door, `off` opens it. */
function changes(server: ApiServer): { what: string; on: () => Promise<unknown>; off: () => Promise<unknown> }[] {
  const policy = (name: string, spec: object) => create(server, POLICIES, { metadata: { name }, spec });
  const label = (pod: string, app: string) =>
    server.call("PATCH", `/api/v1/namespaces/default/pods/${pod}`, { metadata: { labels: { app } } });
  const ensure = async (name: string, spec: object) => {
    if ((await server.call("GET", `${POLICIES}/${name}`)).status === 404) await policy(name, spec);
  };
  const nobody = { podSelector: { matchLabels: { app: "shut" } }, policyTypes: ["Ingress"] };
  const peers = { podSelector: { matchLabels: { app: "web" } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: "peer" } } }] }] };
  return [
    {
      what: "a policy",
      on: () => policy("all", { podSelector: {}, policyTypes: ["Ingress"] }),
      off: () => server.call("DELETE", `${POLICIES}/all`),
    },
    {
      what: "the pod's label",
      on: () => label("web", "shut"),
      off: () => ensure("nobody", nobody).then(() => label("web", "web")),
    },
    {
      what: "a peer's label",
      on: () => label("peer", "other"),
      off: () => ensure("peers", peers).then(() => label("peer", "peer")),
    },
  ];
}

function residentMB(pid: number): number {
  return (Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024) / 1e6;
}

/** The name of the namespace that this process is in. */
function execNamespace(): string {
  return execFileSync("ip", ["netns", "identify"], { encoding: "utf8" }).trim();
}

async function run(values: Values): Promise<void> {
  needRoot();
  const rounds = count(values, "rounds", values.quick ? 15 : 100, 1000, 5);
  const sides = list(values, "sides", [...sideNames], sideNames.join(", "), word => sideNames.find(name => name === word));
  const pods = count(values, "pods", 0, 10_000, 0);
  const policies = count(values, "policies", 0, 2000, 0);
  compile("knock");
  const facts = machine();
  const folder = mkdtempSync(join(tmpdir(), "podlane-enforcement-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  await build(join(folder, "built"));
  using network = new TestNetwork();
  const [node, outside, pod] = ["node", "outside", "pod"].map(name => network.namespace(name));
  const others = clusterObjects(pods, policies).here.map((_, at) => network.namespace(`pod${at}`));
  network.link(
    { namespace: node, device: "eth0", addresses: ["192.0.2.1/24"] },
    { namespace: outside, device: "eth0", addresses: ["192.0.2.2/24", `${PEER}/32`] },
  );
  network.exec(node, "ip", "route", "add", "10.244.2.0/24", "via", "192.0.2.2");
  network.exec(outside, "ip", "route", "add", "10.244.1.0/24", "via", "192.0.2.1");
  const task: Task = {
    ...{ folder, main: join(folder, "built/main.js"), plugin: buildPlugin(join(folder, "bin"), "cc"), outside, pod, others },
    ...{ rounds, sides, pods, policies, ...(values.log !== undefined && { log: String(values.log) }) },
  };
  const found: Figures[] = JSON.parse(runInside(import.meta.filename, node, task));
  if (values.json)
    console.log(JSON.stringify({ bench: "enforcement", machine: facts, rounds, pods, policies, figures: found.map(inShort) }));
  else print(`${describeMachine(facts)}; load now ${machine().load.join(" ")}`, rounds, pods, policies, found);
}

function inShort({ times, ...rest }: Figures): object {
  const of = (all: number[]) => ({ p50: percentile(all, 0.5), p99: percentile(all, 0.99) });
  return { ...rest, times: Object.fromEntries(Object.entries(times).map(([what, all]) => [what, of(all)])) };
}

function print(head: string, rounds: number, pods: number, policies: number, found: readonly Figures[]): void {
  console.log(
    `${head}\nmilliseconds from the request until the first packet, p50 and p99 of ${rounds}; beside ${pods} pods and ${policies} policies\n`,
  );
  for (const { side, skipped, note } of found) if (skipped ?? note) console.log(`${side}: ${skipped ?? note}`);
  const measured = found.filter(({ skipped }) => skipped === undefined);
  const kinds = Object.keys(measured[0]?.times ?? {});
  const rows = kinds.map(what => [
    what === "answered" ? "the API server has answered" : what,
    ...measured.map(({ times }) => `${percentile(times[what], 0.5)}, ${percentile(times[what], 0.99)}`),
  ]);
  const memory = ["resident memory, MB", ...measured.map(({ megabytes }) => String(megabytes))];
  printTable(["", ...measured.map(({ side }) => side)], [...rows, memory]);
}

const task = given<Task>();
if (task) console.log(JSON.stringify(await inside(task)));
else if (import.meta.main) {
  const text = { type: "string" } as const;
  const options = { rounds: text, sides: text, pods: text, policies: text, log: text, quick: { type: "boolean" } } as const;
  await program("enforcement", USAGE, options, run);
}
