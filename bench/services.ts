/**
 * An agent beside thousands of Services in a real API server, while their endpoints change all the time: what that costs it, what it says to a neighbour,
 * and how long it is from the change of an EndpointSlice to the UPDATE. Most changes concern endpoints of other nodes, and must lead to nothing.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Pair } from "../agent/testing/agents.ts";
import { apiVersion } from "../config/resources/common.ts";
import { ANNOUNCED_CONDITION } from "../controller/announcements.ts";
import { ApiClient } from "../kubernetes/client.ts";
import { Http2Transport } from "../kubernetes/http2.ts";
import { ListWatch } from "../kubernetes/list-watch.ts";
import type { ApiObject } from "../kubernetes/types.ts";
import { parseAddress } from "../net/address.ts";
import { systemClock } from "../platform/clock.ts";
import { quietLog } from "../platform/testing.ts";
import { build } from "../scripts/build.ts";
import { KEEPALIVE, open, Type } from "../test/conformance/octets.ts";
import type { RawPeer } from "../test/conformance/raw-peer.ts";
import { type ApiServer, startApiServer } from "../test/kubernetes/api-server.ts";
import { installCrds } from "../test/kubernetes/install-crds.ts";
import { count, describeMachine, machine, needRoot, percentile, printTable, program, round, type Values } from "./common.ts";
import { connected, create, given, runInside, startInCluster } from "./inside.ts";
import { usage } from "./processes.ts";

const USAGE = `usage: npm run bench -- services [--services N] [--endpoints N] [--rate N] [--seconds N] [--leader] [--pool] [--json]

  --services   Services, 100..10000; default 10000
  --endpoints  of each Service, 1..100; default 5
  --rate       changes of EndpointSlices a second, 10..1000; default 100. One in ten makes a Service of the node come or go.
  --seconds    how long, 10..600; default 60
  --leader     the agent also writes the status of all objects; else another one says that it does
  --pool       as the leader it also gives each Service an address out of a pool, before the changes begin
  --json       one JSON object instead of a table

Needs root (it makes network namespaces), and kube-apiserver and etcd (CONTRIBUTING.md says where they are looked for).`;

/** Nodes that the endpoints are on. The agent's own has an endpoint of each Service that comes and goes. */
const NODES = 500;
/** Services with traffic policy Local that come and go. */
const MOVING = 100;
/** Of the changes, every so manieth is one of these. */
const TURN = 10;
/** Requests at once while objects are made. */
const BATCH = 64;
/** Seconds that the agent may take to come to rest, and as the leader to give each Service an address. */
const PATIENCE = 180;
const PATIENCE_GIVEN = 600;

interface Task {
  folder: string;
  names: [string, string];
  main: string;
  services: number;
  endpoints: number;
  rate: number;
  seconds: number;
  leader: boolean;
  pool: boolean;
}

interface Result {
  /** Milliseconds from the request. */
  answered: number[];
  seen: number[];
  changes: number;
  moves: number;
  updates: number;
  cpuSeconds: number;
  cpuAtStart: number;
  restMB: number;
  peakMB: number;
  led?: Led;
}

/** What the leader has done. */
interface Led {
  /** From the start of its process until each Service had an address of the pool. */
  seconds?: number;
  /** Services with the condition Announced before the slices changed, and after. */
  told: [number, number];
}

/** An address for each of them. */
const POOL = "10.64.0.0/18";
const SERVICES = "/api/v1/namespaces/default/services";
const LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

async function inside(task: Task): Promise<Result> {
  const server = await startApiServer({ watchCache: true });
  const client = new ApiClient(new Http2Transport(server.credentials()), "bench");
  await installCrds(server);
  await writeObjects(server, task.pool);
  const addresses = await makeServices(client, task);
  const stopLeading = task.leader ? () => {} : await lead(client);
  const words = ["--node", "node1", "--state", join(task.folder, "s"), "--socket", join(task.folder, "a.sock")];
  const agent = await startInCluster(task.main, task.folder, server, words);
  const pid = agent.pid as number;
  const services = task.leader ? new Watched(client) : undefined;
  const started = performance.now();
  try {
    const seconds = task.pool ? await services?.untilGiven(task.services, started) : undefined;
    const peer = await connected(task.names[1], PATIENCE);
    await peer.establish(open({ holdTime: 0 }));
    peer.send(KEEPALIVE);
    await atRest(peer);
    const before = usage(pid);
    const messages = peer.messages.length;
    const toldBefore = services?.told.size ?? 0;
    const times = await change(client, peer, task, addresses);
    await delay(1000);
    const after = usage(pid);
    return {
      ...times,
      updates: peer.messages.slice(messages).filter(one => one[18] === Type.Update).length,
      cpuAtStart: before.cpuSeconds,
      cpuSeconds: after.cpuSeconds - before.cpuSeconds,
      restMB: before.peakMB,
      peakMB: after.peakMB,
      ...(services && { led: { seconds, told: [toldBefore, services.told.size] } }),
    };
  } finally {
    agent.kill("SIGKILL");
    stopLeading();
    await services?.close();
    client.close();
    await server.stop();
  }
}

/** The Services' status, as the leader writes it. */
class Watched {
  readonly #addressed = new Set<string>();
  readonly told = new Set<string>();
  readonly #watch: ListWatch;

  constructor(client: ApiClient) {
    const parts = { client, clock: systemClock, log: quietLog, random: Math.random };
    const set = ({ metadata: { name }, status }: ApiObject) => {
      const { loadBalancer, conditions = [] } = status as { loadBalancer?: { ingress?: unknown[] }; conditions?: { type: string }[] };
      if (loadBalancer?.ingress) this.#addressed.add(name);
      if (conditions.some(({ type }) => type === ANNOUNCED_CONDITION)) this.told.add(name);
    };
    this.#watch = new ListWatch({ path: SERVICES, name: "services" }, parts, { set, delete() {}, settled() {} });
    this.#watch.start();
  }

  /** Returns the seconds since `from`. */
  async untilGiven(count: number, from: number): Promise<number> {
    for (const end = from + PATIENCE_GIVEN * 1000; this.#addressed.size < count; await delay(100))
      if (performance.now() > end)
        throw new Error(`${this.#addressed.size} of ${count} Services have an address after ${PATIENCE_GIVEN} s`);
    return (performance.now() - from) / 1000;
  }

  close(): Promise<void> {
    return this.#watch.close();
  }
}

/** Another one has the Lease, and renews it. */
async function lead(client: ApiClient): Promise<() => void> {
  const now = () => new Date().toISOString().replace("Z", "000Z");
  const lease = () => ({
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { name: "podlane-controller" },
    spec: { holderIdentity: "another", leaseDurationSeconds: 15, renewTime: now() },
  });
  await client.create(LEASES, lease());
  const timer = setInterval(() => void client.patch(`${LEASES}/podlane-controller`, "merge-patch", { spec: lease().spec }), 5000);
  return () => clearInterval(timer);
}

async function writeObjects(server: ApiServer, hasPool: boolean): Promise<void> {
  await create(server, "/api/v1/nodes", {
    metadata: { name: "node1" },
    spec: { podCIDRs: ["10.244.1.0/24"] },
    status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] },
  });
  const own = `/apis/${apiVersion}`;
  const fabric = { nodeSelector: {}, asn: 64512, services: { proxyHealthPort: 0 }, readiness: { timeout: 1 } };
  await create(server, `${own}/fabrics`, { apiVersion, kind: "Fabric", metadata: { name: "all" }, spec: fabric });
  const peer = { nodeSelector: {}, address: "192.0.2.2", asn: 65002, passive: true, import: { default: "Reject" } };
  await create(server, `${own}/peers`, { apiVersion, kind: "Peer", metadata: { name: "raw" }, spec: peer });
  const spec = { nodeSelector: {}, type: "Service", peers: ["raw"], service: { addresses: ["ClusterIP"], selector: {} } };
  await create(server, `${own}/advertisements`, { apiVersion, kind: "Advertisement", metadata: { name: "vips" }, spec });
  const pool = { apiVersion, kind: "AddressPool", metadata: { name: "public" }, spec: { addresses: [POOL] } };
  if (hasPool) await create(server, `${own}/addresspools`, pool);
}

const nodeOf = (service: number, endpoint: number) => `node${2 + ((service * 7 + endpoint * 131) % (NODES - 1))}`;

function slice(service: number, endpoints: number, state: { here?: boolean; turn?: number } = {}) {
  const all = Array.from({ length: endpoints }, (_, i) => ({
    addresses: [`10.${128 + (service >> 8)}.${service & 255}.${i + 1}`],
    nodeName: i === 0 && service < MOVING ? "node1" : nodeOf(service, i),
    conditions: { ready: i === 0 && service < MOVING ? state.here !== false : i !== 1 || (state.turn ?? 0) % 2 === 0 },
    targetRef: {
      kind: "Pod",
      namespace: "default",
      name: `web-${service}-${i}`,
      uid: `00000000-0000-4000-8000-${String(service * 100 + i).padStart(12, "0")}`,
    },
  }));
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `s${service}-x`, labels: { "kubernetes.io/service-name": `s${service}` } },
    addressType: "IPv4",
    endpoints: all,
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
  };
}

/** Returns the cluster addresses of those that come and go. */
async function makeServices(client: ApiClient, { services, endpoints, pool }: Task): Promise<string[]> {
  // There are fewer node ports than Services.
  const balanced = pool ? { type: "LoadBalancer", allocateLoadBalancerNodePorts: false } : {};
  const addresses: string[] = [];
  for (let first = 0; first < services; first += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, services - first) }, (_, i) => first + i);
    const made = await Promise.all(
      numbers.map(number => {
        const spec = { internalTrafficPolicy: number < MOVING ? "Local" : "Cluster", ports: [{ name: "http", port: 80 }], ...balanced };
        return client.create(SERVICES, { metadata: { name: `s${number}`, labels: { app: `web-${number}` } }, spec });
      }),
    );
    for (const { spec } of made) if (addresses.length < MOVING) addresses.push((spec as { clusterIP: string }).clusterIP);
    await Promise.all(numbers.map(number => client.create(SLICES, slice(number, endpoints))));
  }
  return addresses;
}

/** Nothing has come any more for some seconds. */
async function atRest(peer: RawPeer): Promise<void> {
  const octets = () => peer.messages.reduce((sum, one) => sum + (one[18] === Type.Update ? one.length : 0), 0);
  const end = performance.now() + PATIENCE * 1000;
  for (let [quiet, before] = [0, octets()]; quiet < 5 && performance.now() < end; await delay(1000)) {
    const now = octets();
    quiet = now === before && now > 1000 ? quiet + 1 : 0;
    before = now;
  }
}

async function change(client: ApiClient, peer: RawPeer, { services, endpoints, rate, seconds }: Task, addresses: readonly string[]) {
  const [answered, seen]: [number[], number[]] = [[], []];
  const here = addresses.map(() => true);
  const pending: Promise<unknown>[] = [];
  const start = performance.now();
  let moves = 0;
  const changes = rate * seconds;
  for (let turn = 0; turn < changes; turn++) {
    const due = start + (turn * 1000) / rate;
    if (due > performance.now()) await delay(due - performance.now());
    const from = performance.now();
    if (turn % TURN === 0) {
      const service = moves++ % addresses.length;
      here[service] = !here[service];
      const told = tells(peer, addresses[service], from).then(at => seen.push(at - from));
      const put = client
        .replace(`${SLICES}/s${service}-x`, slice(service, endpoints, { here: here[service] }))
        .then(() => answered.push(performance.now() - from));
      pending.push(told, put);
    } else {
      const service = MOVING + ((turn * 37) % (services - MOVING));
      pending.push(client.replace(`${SLICES}/s${service}-x`, slice(service, endpoints, { turn })));
    }
  }
  await Promise.all(pending);
  return { answered, seen, changes, moves };
}

/** When an UPDATE with the address came. */
async function tells(peer: RawPeer, address: string, from: number): Promise<number> {
  const wanted = Buffer.from([32, ...parseAddress(address)]);
  let next = peer.times.findIndex(at => at >= from);
  let found = -1;
  await peer.until(
    () => {
      if (next < 0) next = peer.times.findIndex(at => at >= from);
      for (; next >= 0 && next < peer.messages.length; next++) {
        const one = peer.messages[next];
        if (one[18] !== Type.Update || Buffer.from(one.buffer, one.byteOffset, one.length).indexOf(wanted) < 0) continue;
        found = next;
        return true;
      }
      return false;
    },
    `an UPDATE of ${address}`,
    30_000,
  );
  return peer.times[found];
}

async function run(values: Values): Promise<void> {
  needRoot();
  const [services, endpoints] = [count(values, "services", 10_000, 10_000, 200), count(values, "endpoints", 5, 100)];
  const [rate, seconds] = [count(values, "rate", 100, 1000, 10), count(values, "seconds", 60, 600, 10)];
  const pool = values.pool === true;
  const leader = pool || values.leader === true;
  const facts = machine();
  const folder = mkdtempSync(join(tmpdir(), "podlane-services-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  await build(join(folder, "built"));
  const main = join(folder, "built/main.js");
  const pair = new Pair(main);
  let text: string;
  try {
    const task: Task = { folder: pair.folder, names: pair.names, main, services, endpoints, rate, seconds, leader, pool };
    text = runInside(import.meta.filename, pair.names[0], task);
  } finally {
    await pair.close();
  }
  const result = JSON.parse(text) as Result;
  const { led } = result;
  const figures = {
    services,
    endpoints: services * endpoints,
    changes: result.changes,
    moves: result.moves,
    updates: result.updates,
    cpuPercent: round((result.cpuSeconds * 100) / seconds, 1),
    cpuSecondsAtStart: round(result.cpuAtStart, 1),
    megabytesAtRest: round(result.restMB, 1),
    megabytesPeak: round(result.peakMB, 1),
    answered: { p50: percentile(result.answered, 0.5), p99: percentile(result.answered, 0.99) },
    update: { p50: percentile(result.seen, 0.5), p99: percentile(result.seen, 0.99) },
    ...led,
  };
  if (values.json) {
    console.log(JSON.stringify({ bench: "services", machine: facts, seconds, rate, figures }));
    return;
  }
  console.log(
    `${describeMachine(facts)}\n${services} Services, ${services * endpoints} endpoints on ${NODES} nodes; ${rate} slices changed a second for ${seconds} s\n`,
  );
  printTable(
    ["what", "value"],
    [
      ["slices changed, of them some that concern this node", `${figures.changes}, ${figures.moves}`],
      ["UPDATEs at the neighbour", String(figures.updates)],
      ["CPU of the agent, percent of one core", String(figures.cpuPercent)],
      ["CPU of the agent until it was at rest, s", String(figures.cpuSecondsAtStart)],
      ["largest resident memory until at rest, and in all, MB", `${figures.megabytesAtRest}, ${figures.megabytesPeak}`],
      ["slice changed -> the API server has answered, ms: p50, p99", `${figures.answered.p50}, ${figures.answered.p99}`],
      ["slice changed -> UPDATE at the neighbour, ms: p50, p99", `${figures.update.p50}, ${figures.update.p99}`],
      ...(led?.seconds ? [["start of the agent -> each Service has an address, s", String(round(led.seconds, 1))]] : []),
      ...(led ? [["Services with the condition Announced before the changes, and after", led.told.join(", ")]] : []),
    ],
  );
}

const task = given<Task>();
if (task) console.log(JSON.stringify(await inside(task)));
else if (import.meta.main) {
  const options = {
    services: { type: "string" },
    endpoints: { type: "string" },
    rate: { type: "string" },
    seconds: { type: "string" },
    leader: { type: "boolean" },
    pool: { type: "boolean" },
  } as const;
  await program("services", USAGE, options, run);
}
