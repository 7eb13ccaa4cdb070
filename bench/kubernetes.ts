/**
 * A cluster of three nodes from `kubectl apply` of podlane's manifest until every node is Ready and pods of all nodes reach each other, then 100 pods until all are
 * Ready: beside the same cluster with Debian's bridge + host-local plugins and static routes. Each side has a new cluster, in turns; images are on the nodes
 * before, nodes run and wait for a network, and the first pods wait with them.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeImage } from "../deploy/image.ts";
import { agentProcesses } from "../lab/engine/cluster.ts";
import { missingCluster, referencePlugin } from "../lab/kubernetes/programs.ts";
import { webServer } from "../lab/kubernetes/tools-image.ts";
import { until } from "../lab/kubernetes/until.ts";
import { Cluster, type ClusterNode } from "../test/kubernetes/cluster.ts";
import { count, describeMachine, machine, median, needRoot, packageVersion, printTable, program, round, type Values } from "./common.ts";
import { usage } from "./processes.ts";

const USAGE = `usage: npm run bench -- kubernetes [--rounds N] [--pods N] [--json]

  --rounds   clusters of each side, 1..10; default 1
  --pods     pods at once on three nodes, 3..300; default 100
  --json     one JSON object instead of tables

Needs root and Kubernetes' programs (KUBEBUILDER_ASSETS or PATH); each round takes some minutes.`;

const NODES = 3;
/** Milliseconds. */
const BOUND = 300_000;
const APPS = "/apis/apps/v1/namespaces/default/deployments";

const sides = ["podlane", "bridge + static routes"] as const;
type Side = (typeof sides)[number];

interface Agents {
  /** Of all agents while the pods started, seconds. */
  cpu: number;
  /** Of the largest, MB: before and at most. */
  before: number;
  peak: number;
}

/** Seconds. */
interface Figures {
  side: Side;
  ready: number;
  reached: number;
  pods: number;
  agents?: Agents;
  /** From the start of a fourth node's kubelet until the others route to its pods. */
  joined?: number;
}

async function main(values: Values): Promise<void> {
  const rounds = count(values, "rounds", 1, 10);
  const pods = count(values, "pods", 100, 300, NODES);
  needRoot();
  const missing = missingCluster();
  if (missing) throw new Error(missing);
  const facts = machine();
  const folder = mkdtempSync(join(tmpdir(), "podlane-bench-image-"));
  const figures: Figures[] = [];
  try {
    const image = join(folder, "podlane.tar");
    await makeImage(image, false);
    for (let round = 0; round < rounds; round++) for (const side of sides) figures.push(await measure(side, image, pods));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const version = packageVersion("containernetworking-plugins");
  if (values.json) console.log(JSON.stringify({ bench: "kubernetes", machine: facts, version, pods, figures }));
  else print(`${describeMachine(facts)}\nbridge + host-local ${version}`, figures, pods);
}

async function measure(side: Side, image: string, pods: number): Promise<Figures> {
  const cluster = await Cluster.start(NODES, { network: "none", images: [image] });
  try {
    if (side !== "podlane") await Promise.all(cluster.nodes.map(copyPlugins));
    await deploy(cluster, "first", NODES);
    const begin = performance.now();
    const since = () => (performance.now() - begin) / 1000;
    if (side === "podlane") await cluster.install();
    else await installBridge(cluster);
    await cluster.ready(BOUND);
    const ready = since();
    await until("the pods of all nodes reach each other", () => allReached(cluster), BOUND);
    const reached = since();
    const started = await start(cluster, pods);
    return { side, ready, reached, ...started, ...(side === "podlane" && { joined: await joinNode(cluster) }) };
  } finally {
    await cluster.close();
  }
}

async function start(cluster: Cluster, pods: number): Promise<Pick<Figures, "pods" | "agents">> {
  const agents = (await Promise.all(cluster.nodes.map(({ netns }) => agentProcesses({ namespace: netns })))).flat();
  const look = () => agents.map(usage);
  const before = look();
  const begin = performance.now();
  await deploy(cluster, "many", pods);
  await until("all pods are ready", async () => (await cluster.api("GET", `${APPS}/many`)).status?.readyReplicas === pods, BOUND);
  const seconds = (performance.now() - begin) / 1000;
  if (agents.length === 0) return { pods: seconds };
  const after = look();
  const cpu = after.reduce((sum, { cpuSeconds }, at) => sum + cpuSeconds - before[at].cpuSeconds, 0);
  const largest = (all: typeof after) => Math.max(...all.map(({ peakMB }) => peakMB));
  return { pods: seconds, agents: { cpu, before: largest(before), peak: largest(after) } };
}

async function joinNode(cluster: Cluster): Promise<number> {
  const others = [...cluster.nodes];
  const node = await cluster.join();
  let ranges: string[] = [];
  await until("the others route to the new node's pods", async () => {
    ranges = ranges.length > 0 ? ranges : ((await cluster.api("GET", `/api/v1/nodes/${node.name}`)).spec?.podCIDRs ?? []);
    const routes = await Promise.all(others.map(one => one.must(["sh", "-c", "ip route; ip -6 route"])));
    return ranges.length > 0 && routes.every(text => ranges.every(range => text.includes(`${range} `)));
  });
  return (performance.now() - node.kubeletStarted) / 1000;
}

async function deploy(cluster: Cluster, app: string, replicas: number): Promise<void> {
  const selector = { matchLabels: { app } };
  const spread = { maxSkew: 1, topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "DoNotSchedule", labelSelector: selector };
  const template = webServer(app, { pod: { topologySpreadConstraints: [spread] } });
  await cluster.api("POST", APPS, { metadata: { name: app }, spec: { replicas, selector, template } });
}

/** The one pod of each node asks those of the others, over both families. */
async function allReached(cluster: Cluster): Promise<boolean> {
  const pods = await cluster.pods("first");
  if (pods.length !== NODES || pods.some(pod => (pod.status.podIPs ?? []).length !== 2)) return false;
  const reached = await Promise.all(
    pods.map(async pod => {
      const node = cluster.node(pod.spec.nodeName);
      const netns = (await node.run(["sh", "-c", "ls /run/netns/cni-*"])).stdout.trim().split("\n");
      if (netns.length !== 1) return false;
      const others: string[] = pods
        .filter(other => other !== pod)
        .flatMap(other => other.status.podIPs.map(({ ip }: { ip: string }) => ip));
      const urls = others.map(address => `http://${address.includes(":") ? `[${address}]` : address}/`);
      const asked = urls.map(url => `curl -s -f -o /dev/null -m 1 ${url}`).join(" && ");
      return (await node.run(["sh", "-c", asked], { netns: netns[0] })).status === 0;
    }),
  );
  return reached.every(Boolean);
}

async function copyPlugins(node: ClusterNode): Promise<void> {
  await node.must(["cp", ...["bridge", "host-local"].map(referencePlugin), "/opt/cni/bin"]);
}

/** A list with its own ranges on each node, and a route to those of every other. */
async function installBridge(cluster: Cluster): Promise<void> {
  const { items } = await cluster.api("GET", "/api/v1/nodes");
  await Promise.all(
    cluster.nodes.map(async node => {
      const rangesOf = (name: string): string[] =>
        items.find((one: { metadata: { name: string } }) => one.metadata.name === name).spec.podCIDRs;
      const routes = cluster.nodes
        .filter(other => other !== node)
        .flatMap(({ name, octet }) =>
          rangesOf(name).map(range => `ip route add ${range} via ${range.includes(":") ? `fd00:90::${octet}` : `10.90.0.${octet}`}`),
        );
      const forwarding = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(name => `echo 1 > /proc/sys/${name}`);
      const list = `cat > /etc/cni/net.d/10-bridge.conflist <<'END'\n${bridgeList(rangesOf(node.name))}\nEND`;
      await node.must(["sh", "-c", [...forwarding, ...routes, list].join("\n")]);
    }),
  );
}

function bridgeList(ranges: string[]): string {
  const ipam = { type: "host-local", ranges: ranges.map(subnet => [{ subnet }]), routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }] };
  return JSON.stringify({
    cniVersion: "1.0.0",
    name: "pods",
    plugins: [
      { type: "bridge", bridge: "cni0", isGateway: true, hairpinMode: true, ipam },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  });
}

function print(head: string, figures: readonly Figures[], pods: number): void {
  console.log(`${head}\n`);
  const seconds = (value: number) => `${round(value, 1)} s`;
  printTable(
    ["median of the rounds", "all nodes Ready", "all reach each other", `${pods} pods Ready`],
    sides.map(side => {
      const mine = figures.filter(one => one.side === side);
      return [side, ...(["ready", "reached", "pods"] as const).map(name => seconds(median(mine.map(one => one[name]))))];
    }),
  );
  const joined = figures.flatMap(one => one.joined ?? []);
  console.log(`\nfrom the start of a fourth node's kubelet until all others route to its pods: ${seconds(median(joined))}`);
  const agents = figures.flatMap(one => one.agents ?? []);
  const of = (name: keyof Agents, digits: number) => round(median(agents.map(one => one[name])), digits);
  console.log(
    `\nagents meanwhile: ${of("cpu", 2)} s of CPU in all; the largest ${of("peak", 0)} MB at most (VmHWM; ${of("before", 0)} MB before the ${pods} pods)`,
  );
}

if (import.meta.main) await program("kubernetes", USAGE, { rounds: { type: "string" }, pods: { type: "string" } }, main);
