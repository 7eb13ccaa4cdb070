/**
 * What clients of Services lose while a cluster is at work: endpoints move, backends and agents are rolled, a node is restarted. A client behind the router asks
 * load-balancer addresses that podlane announces, and beside them a node port of every node, by routes that stand still: what kube-proxy alone loses. Needs root.
 */
import { chmodSync, existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test, vi } from "vitest";
import { Machine } from "../../lab/kubernetes/machine.ts";
import { missingCluster } from "../../lab/kubernetes/programs.ts";
import { webServer } from "../../lab/kubernetes/tools-image.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { Cluster } from "./cluster.ts";
import { Asker, buildRequests, describeTally, lossesOf, lostOf, type Tally } from "./requests.ts";
import { startTor, torObjects } from "./tor.ts";

// Much longer than on a quiet machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });
const missing =
  missingCluster() ??
  (existsSync("/usr/lib/frr/bgpd") ? undefined : "the router is FRR: install frr") ??
  (existsSync("/usr/bin/cc") ? undefined : "the client is written in C: install gcc");
const DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/web";
const REPLICAS = 2;
const NODE_PORT = 30080;
const LOCAL_NODE_PORT = 30081;
/** Requests a second, of all streams together: the first at which none is lost at rest is taken. */
const rates = [1000, 500, 250, 100];
/** The share of a stream's requests that may be under way when next hops change. */
const OPEN = 0.02;
/** The target that has nothing to do with podlane's announcements. */
const CONTROL = "node port of every node, Cluster, IPv4";
/** Milliseconds that requests run before anything is done, and after. */
const REST = 1000;

const addresses = { cluster: ["203.0.113.1", "2001:db8:113::1"], local: ["203.0.113.2", "2001:db8:113::2"] };
const objects = [
  {
    apiVersion: "podlane.io/v1alpha1",
    kind: "AddressPool",
    metadata: { name: "vips" },
    spec: { addresses: ["203.0.113.0/28", "2001:db8:113::/124"] },
  },
  {
    apiVersion: "podlane.io/v1alpha1",
    kind: "Advertisement",
    metadata: { name: "vips" },
    spec: {
      nodeSelector: {},
      type: "Service",
      service: { addresses: ["LoadBalancerIP"], selector: {} },
      peerSelector: { matchLabels: { role: "tor" } },
    },
  },
  service("cluster", "Cluster", NODE_PORT),
  service("local", "Local", LOCAL_NODE_PORT),
];

function service(name: keyof typeof addresses, externalTrafficPolicy: string, nodePort: number): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, annotations: { "podlane.io/addresses": addresses[name].join() } },
    spec: {
      type: "LoadBalancer",
      externalTrafficPolicy,
      ipFamilyPolicy: "RequireDualStack",
      selector: { app: "web" },
      ports: [{ port: 80, nodePort }],
    },
  };
}

/** Backends as people have them: ready when they answer, and a while for the proxies to learn that they go. */
function backends(program: string): object {
  return webServer("web", {
    container: {
      command: ["/requests", "serve", "80"],
      // Without, its share of a busy machine is the least there is, and it may stand still for seconds.
      resources: { requests: { cpu: "500m" } },
      lifecycle: { preStop: { exec: { command: ["sleep", "5"] } } },
      volumeMounts: [{ name: "requests", mountPath: "/requests" }],
    },
    pod: {
      terminationGracePeriodSeconds: 10,
      volumes: [{ name: "requests", hostPath: { path: program, type: "File" } }],
      affinity: {
        podAntiAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [
            { weight: 100, podAffinityTerm: { topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: { app: "web" } } } },
          ],
        },
      },
    },
  });
}

let cluster: Cluster;
let tor: Machine;
let client: Machine;
let program: string;
let rate: number;

beforeAll(async () => {
  if (missing) return;
  cluster = await Cluster.startWithImage(3);
  tor = await startTor(cluster);
  client = await startClient();
  await cluster.install();
  const applied = [...torObjects, ...objects].map(object => JSON.stringify(object)).join("\n---\n");
  await cluster.access.kubectl(["apply", "-f", "-"], applied);
  await cluster.ready(60_000);
  program = buildRequests(cluster.folder);
  chmodSync(program, 0o755);
  const selector = { matchLabels: { app: "web" } };
  const strategy = { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } };
  const spec = { replicas: REPLICAS, selector, strategy, template: backends(program) };
  await cluster.api("POST", "/apis/apps/v1/namespaces/default/deployments", { metadata: { name: "web" }, spec });
  await settled();
  rate = await rateAtRest();
});
afterAll(async () => {
  await client?.powerOff();
  await tor?.powerOff();
  await cluster?.close();
});

beforeEach(context => {
  if (missing) context.skip(missing);
  onTestFailed(async () => console.error(await cluster.report()));
});

/** Behind the router, which forwards each flow over one of the nodes that announce its address. */
async function startClient(): Promise<Machine> {
  const netns = cluster.network.namespace("client");
  cluster.network.link(
    { namespace: netns, device: "eth0", addresses: ["10.91.0.2/24", "fd00:91::2/64"] },
    { namespace: tor.netns, device: "eth1", addresses: ["10.91.0.1/24", "fd00:91::1/64"] },
  );
  const set = (where: string, name: string, value: string) =>
    cluster.network.exec(where, "sh", "-c", `echo ${value} > /proc/sys/net/${name}`);
  for (const gateway of ["10.91.0.1", "fd00:91::1"]) cluster.network.exec(netns, "ip", "route", "add", "default", "via", gateway);
  for (const family of ["ipv4", "ipv6"]) set(tor.netns, `${family}/fib_multipath_hash_policy`, "1");
  const machine = new Machine(netns, join(cluster.folder, "client"));
  await machine.boot();
  return machine;
}

/** Who is asked, by what the figures are called. */
function targets(): Record<string, { address: string; port: number }[]> {
  const vip = (address: string) => [{ address, port: 80 }];
  const everyNode = (port: number) => cluster.nodes.map(({ octet }) => ({ address: `10.90.0.${octet}`, port }));
  return {
    "Service, Cluster, IPv4": vip(addresses.cluster[0]),
    "Service, Local, IPv4": vip(addresses.local[0]),
    "Service, Local, IPv6": vip(addresses.local[1]),
    [CONTROL]: everyNode(NODE_PORT),
  };
}

/** What is lost while `deed` is done, by target. */
async function measure(what: string, deed: () => Promise<void>): Promise<Record<string, Tally>> {
  const all = Object.entries(targets());
  const askers = all.map(([name, to]) => [name, new Asker(client, program, rate / all.length, to)] as const);
  await delay(REST);
  await deed();
  await delay(REST);
  const tallies = await Promise.all(askers.map(async ([name, asker]) => [name, await asker.stop()] as const));
  console.info([`${what}:`, ...tallies.map(([name, tally]) => `  ${name}: ${describeTally(tally)}`)].join("\n"));
  return Object.fromEntries(tallies);
}

/**
 * No new connection is ever refused or left without an answer: no address leads to a node that does not serve it. A connection whose packets come to another node from one
 * moment to the next, because the router spreads over other next hops, is reset there: of addresses whose next hops `change` the few that are open in that moment may be
 * lost. What a server's kernel has and the server does not answer within a second is between the server and a busy machine: node ports see as much of it.
 */
function expectNoneLost(tallies: Record<string, Tally>, change?: RegExp): void {
  for (const [name, tally] of Object.entries(tallies)) {
    if (!name.startsWith("Service")) continue;
    const { unopened, broken, stalled } = lossesOf(tally);
    const text = `${name}: ${describeTally(tally)}`;
    expect(unopened, text).toBe(0);
    expect(broken, text).toBeLessThanOrEqual(change?.test(name) ? OPEN * tally.sent : 0);
    expect(stalled, text).toBeLessThanOrEqual(lossesOf(tallies[CONTROL]).stalled + OPEN * tally.sent);
  }
}

async function rateAtRest(): Promise<number> {
  for (const one of rates) {
    rate = one;
    const tallies = await measure(`at rest, ${one} requests a second`, () => delay(2 * REST));
    if (
      Object.values(tallies).every(tally => lostOf(tally) === 0 && tally.sent >= (0.9 * tally.seconds * one) / Object.keys(tallies).length)
    )
      return one;
  }
  throw new Error(`requests are lost at rest, at ${rates.at(-1)} a second: the machine is too busy`);
}

// biome-ignore lint/suspicious/noExplicitAny: objects as the API server gives them.
type Json = any;

/** Pods that are not going, by their nodes. */
async function backendNodes(): Promise<string[]> {
  const pods: Json[] = await cluster.pods("web");
  return pods.filter(({ metadata }) => !metadata.deletionTimestamp).map(({ spec }) => spec.nodeName);
}

/** Next hops of the router's kernel, as last octets of nodes. */
async function nextHops(address: string): Promise<number[]> {
  const [family, length] = address.includes(":") ? ["-6", 128] : ["-4", 32];
  const text = await tor.must(["ip", family, "route", "show", `${address}/${length}`]);
  return [...text.matchAll(/via \S+?[.:](\d+) /g)].map(match => Number(match[1])).sort();
}

/** The backends are ready and no others are left, and the router has for each address the nodes that it should. */
async function settled(): Promise<void> {
  await until(
    "the backends are ready, and no others are left",
    async () => {
      const { status = {} } = await cluster.api("GET", DEPLOYMENT);
      return status.readyReplicas === REPLICAS && (await cluster.pods("web")).length === REPLICAS;
    },
    90_000,
  );
  const all = cluster.nodes.map(({ octet }) => octet);
  const local = [...new Set((await backendNodes()).map(name => cluster.node(name).octet))].sort();
  for (const [name, expected] of [["cluster", all] as const, ["local", local] as const])
    for (const address of addresses[name])
      await until(
        `the router has ${address} over ${expected.join(", ")}`,
        async () => (await nextHops(address)).join() === expected.join(),
        60_000,
      );
}

const kubectl = (...words: string[]) => cluster.access.kubectl(words);

test("endpoints that move between nodes cost no more than connections that are open then", async () => {
  const tallies = await measure("each backend deleted, and made on another node", async () => {
    for (const { metadata, spec } of await cluster.pods("web")) {
      await kubectl("cordon", spec.nodeName);
      await kubectl("delete", "pod", metadata.name, "--wait=true");
      await settled();
      await kubectl("uncordon", spec.nodeName);
    }
  });
  expectNoneLost(tallies, /Local/);
});

test("a rolling restart of the backends costs no more than connections that are open then", async () => {
  const tallies = await measure("rolling restart of the backends", async () => {
    await kubectl("rollout", "restart", "deployment/web");
    await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
    await settled();
  });
  expectNoneLost(tallies, /Local/);
});

test("a rolling restart of the agents costs no connection", async () => {
  const tallies = await measure("rolling restart of the agents", async () => {
    await kubectl("-n", "podlane-system", "rollout", "restart", "daemonset/podlane");
    await kubectl("-n", "podlane-system", "rollout", "status", "daemonset/podlane", "--timeout=120s");
    await settled();
  });
  // No next hop changes.
  expectNoneLost(tallies);
});

/** A node that runs a backend. */
async function victim() {
  return cluster.node((await backendNodes())[0]);
}

const EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers";

test("a node that is excluded, drained and restarted costs no more than connections that are open then", async () => {
  const node = await victim();
  const without = async (address: string) => !(await nextHops(address)).includes(node.octet);
  const tallies = await measure("a node excluded, drained, switched off and on", async () => {
    await kubectl("label", "node", node.name, `${EXCLUDED}=`);
    await kubectl("drain", node.name, "--ignore-daemonsets", "--timeout=60s");
    for (const address of [...addresses.cluster, ...addresses.local])
      await until(`the router has ${address} over others`, () => without(address), 30_000);
    await node.loseAll();
    await node.up();
    await until("its agent answers", async () => (await node.agent("/v1/status")) !== undefined, 90_000);
    await kubectl("uncordon", node.name);
    await kubectl("label", "node", node.name, `${EXCLUDED}-`);
    await settled();
  });
  expectNoneLost(tallies, /./);
});
