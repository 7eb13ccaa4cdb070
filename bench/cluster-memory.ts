/**
 * Resident memory of an agent that has its objects from a real API server, at rest: as one of three nodes in a full mesh, and as one of thousands, a client of
 * reflectors, with the pod subnets of all nodes in its table and its kernel. Nodes have the size that they have in real clusters.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Pair } from "../agent/testing/agents.ts";
import { apiVersion } from "../config/resources/common.ts";
import { build } from "../scripts/build.ts";
import { type ApiServer, startApiServer } from "../test/kubernetes/api-server.ts";
import { installCrds } from "../test/kubernetes/install-crds.ts";
import { describeMachine, list, machine, needRoot, printTable, program, round, type Values } from "./common.ts";
import { create, given, runInside, startInCluster } from "./inside.ts";

const USAGE = `usage: npm run bench -- cluster-memory [--nodes N,…] [--json]

  --nodes   sizes of the cluster, each 3..10000; default 3,5000. More than 3 nodes have reflectors.
  --json    one JSON object instead of a table

Needs root (it makes network namespaces), and kube-apiserver and etcd (CONTRIBUTING.md says where they are looked for).`;

/** Seconds that an agent may take to come to rest. */
const PATIENCE = 180;
/** Looks in a row, two a second, within a hundredth of each other: longer than an agent waits before it gives back what its start needed. */
const LOOKS = 20;
/** Objects that are made at once. */
const BATCH = 50;
/** Prefixes that one Advertisement takes. */
const PREFIXES = 256;

const address = (number: number) => (number <= 2 ? `192.0.2.${number}` : `198.18.${number >> 8}.${number & 255}`);
const subnet = (number: number) => `10.${128 + (number >> 8)}.${number & 255}.0/24`;

/** With what the kubelet reports: some 15 kB, most of it images and conditions. */
function nodeObject(number: number) {
  const labels = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`topology.example.net/level-${i}`, `value-${number % 40}-${i}`]));
  const images = Array.from({ length: 50 }, (_, i) => ({
    names: [
      `registry.example.net/library/some-image-${i}@sha256:${"0123456789abcdef".repeat(4)}`,
      `registry.example.net/library/some-image-${i}:v1.2.${i}`,
    ],
    sizeBytes: 50_000_000 + i,
  }));
  const conditions = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].map(type => ({
    type,
    status: type === "Ready" ? "True" : "False",
    reason: "KubeletHasSufficientWhatever",
    message: "kubelet has sufficient of what it needs",
    lastHeartbeatTime: "2026-01-01T00:00:00Z",
    lastTransitionTime: "2026-01-01T00:00:00Z",
  }));
  return {
    metadata: { name: `node${number}`, labels: { ...labels, ...(number >= 2 && number <= 5 && { reflector: "true" }) } },
    spec: { podCIDRs: [subnet(number)] },
    status: { addresses: [{ type: "InternalIP", address: address(number) }], images, conditions },
  };
}

const fabric = {
  apiVersion,
  kind: "Fabric",
  metadata: { name: "all" },
  spec: {
    nodeSelector: {},
    asn: 64512,
    // One reflector stands for all other nodes.
    mesh: { type: "RouteReflectors", trust: "Any", routeReflectors: { nodeSelector: { matchLabels: { reflector: "true" } } } },
  },
};

/** For the reflector, which has files and speaks for all nodes but the measured one. */
function writeReflector(pair: Pair, nodes: number): void {
  const two = [1, 2].map(number => ({ apiVersion: "v1", kind: "Node", ...nodeObject(number) }));
  const others = Array.from({ length: nodes - 2 }, (_, i) => subnet(i + 3));
  const advertisements = Array.from({ length: Math.ceil(others.length / PREFIXES) }, (_, i) => ({
    apiVersion,
    kind: "Advertisement",
    metadata: { name: `others-${i}` },
    spec: {
      nodeSelector: { matchLabels: { reflector: "true" } },
      mesh: true,
      type: "Static",
      static: { prefixes: others.slice(i * PREFIXES, (i + 1) * PREFIXES).map(prefix => ({ prefix })) },
    },
  }));
  const objects = [...two, ...advertisements, ...(nodes > 3 ? [fabric] : [])];
  pair.write("nodes.yaml", objects.map(one => JSON.stringify(one)).join("\n---\n"));
}

async function writeCluster(server: ApiServer, nodes: number): Promise<void> {
  await installCrds(server);
  for (let from = 1; from <= nodes; from += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, nodes + 1 - from) }, (_, i) => from + i);
    await Promise.all(numbers.map(async number => create(server, "/api/v1/nodes", nodeObject(number))));
  }
  if (nodes > 3) await create(server, `/apis/${apiVersion}/fabrics`, fabric);
}

/** In the namespace of the measured agent, so that the API server is on its loopback. */
async function inside(pair: Pick<Pair, "folder" | "kernelRoutes" | "state" | "socket">, main: string, nodes: number): Promise<number> {
  const server = await startApiServer({ watchCache: true });
  await writeCluster(server, nodes);
  const words = ["--node", "node1", "--state", pair.state(0), "--socket", pair.socket(0)];
  const agent = await startInCluster(main, pair.folder, server, words);
  try {
    return await atRest(agent.pid!, () => pair.kernelRoutes(0).length >= nodes - 1);
  } finally {
    agent.kill("SIGKILL");
    await server.stop();
  }
}

/** Megabytes, once it has what it shall have and does not change any more. */
async function atRest(pid: number, isComplete: () => boolean): Promise<number> {
  const end = performance.now() + PATIENCE * 1000;
  const samples: number[] = [];
  const isQuiet = () => samples.length >= LOOKS && Math.max(...samples.slice(-LOOKS)) < 1.01 * Math.min(...samples.slice(-LOOKS));
  while (!isComplete() || !isQuiet()) {
    if (performance.now() > end) throw new Error(`the agent did not come to rest within ${PATIENCE} s`);
    await delay(500);
    samples.push((Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024) / 1e6);
  }
  return samples[samples.length - 1];
}

function measure(main: string, nodes: number): Promise<number> {
  return withPair(main, nodes, pair => {
    const megabytes = Number(runInside(import.meta.filename, pair.names[0], { folder: pair.folder, names: pair.names, main, nodes }));
    if (!Number.isFinite(megabytes)) throw new Error(`the agent in a cluster of ${nodes} could not be measured`);
    return megabytes;
  });
}

async function withPair(main: string, nodes: number, use: (pair: Pair) => number): Promise<number> {
  const pair = new Pair(main);
  try {
    writeReflector(pair, nodes);
    pair.start(1, ["--log-level", "info"]);
    return use(pair);
  } finally {
    await pair.close();
  }
}

async function run(values: Values): Promise<void> {
  needRoot();
  const sizes = list(values, "nodes", [3, 5000], "numbers 3..10000", word => {
    const size = Number(word);
    return Number.isInteger(size) && size >= 3 && size <= 10_000 ? size : undefined;
  });
  const facts = machine();
  const folder = mkdtempSync(join(tmpdir(), "podlane-cluster-memory-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  await build(join(folder, "built"));
  const figures: { nodes: number; megabytes: number }[] = [];
  for (const nodes of sizes) figures.push({ nodes, megabytes: round(await measure(join(folder, "built/main.js"), nodes), 1) });
  if (values.json) {
    console.log(JSON.stringify({ bench: "cluster-memory", machine: facts, figures }));
    return;
  }
  console.log(`${describeMachine(facts)}\nmegabytes resident of a built agent at rest\n`);
  printTable(
    ["nodes", "MB"],
    figures.map(({ nodes, megabytes }) => [String(nodes), String(megabytes)]),
  );
}

const task = given<{ folder: string; names: [string, string]; main: string; nodes: number }>();
if (task) {
  const { folder, names, main, nodes } = task;
  const seen = { folder, names, state: Pair.prototype.state, socket: Pair.prototype.socket, kernelRoutes: Pair.prototype.kernelRoutes };
  console.log(await inside(seen, main, nodes));
} else if (import.meta.main) await program("cluster-memory", USAGE, { nodes: { type: "string" } }, run);
