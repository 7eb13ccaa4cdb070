/**
 * The load that agents are to a real API server: requests a second while all is quiet, in a roll-out and when a rack dies, with its CPU and memory. The
 * agents' sources and sinks are real, each with a connection of its own, and their speakers are not there.
 */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { apiVersion } from "../config/resources/common.ts";
import { until } from "../lab/kubernetes/until.ts";
import { type ApiServer, missingApiServer, startApiServer } from "../test/kubernetes/api-server.ts";
import { installCrds } from "../test/kubernetes/install-crds.ts";
import type { Said, Told } from "./apiserver-agents.ts";
import { count, describeMachine, machine, nodeOptions, printTable, program, round, type Values } from "./common.ts";

const USAGE = `usage: npm run bench -- apiserver [--agents N] [--processes N] [--seconds N] [--json]

  --agents      nodes with an agent each, 40..5000; default 500
  --processes   that hold them, 1..16; default 4
  --seconds     of the quiet time that is measured, 10..3600; default 120
  --json        one JSON object instead of a table`;

const own = `/apis/${apiVersion}`;
const RACK = 40;
const REFLECTORS = 2;
/** Agents that are started at the same time. */
const AT_ONCE = 20;
/** Agents of a roll-out, one after the other. */
const ROLLED = 20;
/** Seconds after the last event of a phase in which its requests end. */
const SETTLE = 20;

interface Reading {
  at: number;
  /** By "VERB resource". */
  requests: Map<string, number>;
  cpu: number;
  residentMB: number;
  watchEvents: number;
}

class Agents {
  readonly #children: ChildProcess[];
  readonly #asked = new Map<number, (said: Said) => void>();
  #last = 0;

  constructor(processes: number, environment: Record<string, string>) {
    const file = join(import.meta.dirname, "apiserver-agents.ts");
    const env = { ...process.env, ...environment };
    this.#children = Array.from({ length: processes }, () => fork(file, { env, execArgv: nodeOptions }));
    for (const child of this.#children) {
      child.on("message", (said: Said) => {
        this.#asked.get(said.id)?.(said);
        this.#asked.delete(said.id);
      });
      child.once("exit", code => {
        console.error(`a process of agents ended with ${code}`);
        process.exit(1);
      });
    }
    process.once("exit", () => {
      for (const child of this.#children) child.kill("SIGKILL");
    });
  }

  tell(told: Told & { node: string }): Promise<Said> {
    return this.#ask(this.#children[hash(told.node) % this.#children.length], told);
  }

  async requests(): Promise<number> {
    const answers = await Promise.all(this.#children.map(child => this.#ask(child, { do: "count" })));
    return answers.reduce((sum, { requests }) => sum + requests, 0);
  }

  #ask(child: ChildProcess, told: Told): Promise<Said> {
    const id = ++this.#last;
    return new Promise(resolve => {
      this.#asked.set(id, resolve);
      child.send({ ...told, id });
    });
  }
}

function hash(text: string): number {
  return [...text].reduce((sum, character) => (sum * 31 + character.charCodeAt(0)) >>> 0, 7);
}

const nodeName = (index: number) => `node${index}`;
const rackOf = (index: number) => Math.floor(index / RACK);

function sessionsOf(index: number, nodes: number): string[] {
  const tor = `rack${rackOf(index)}`;
  if (index >= REFLECTORS) return [tor, ...Array.from({ length: REFLECTORS }, (_, i) => nodeName(i))];
  return [tor, ...Array.from({ length: nodes }, (_, i) => nodeName(i)).filter(name => name !== nodeName(index))];
}

async function createObjects(server: ApiServer, nodes: number): Promise<void> {
  const create = async (path: string, object: object) => {
    const { status, body } = await server.call("POST", path, object);
    if (status !== 201) throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
  };
  const mesh = { type: "RouteReflectors", routeReflectors: { nodeSelector: { matchLabels: { reflects: "yes" } } } };
  await create(`${own}/fabrics`, { apiVersion, kind: "Fabric", metadata: { name: "main" }, spec: { nodeSelector: {}, asn: 64512, mesh } });
  for (let rack = 0; rack * RACK < nodes; rack++) {
    const spec = { nodeSelector: { matchLabels: { rack: `${rack}` } }, address: `198.51.100.${rack + 1}`, asn: 65001 };
    await create(`${own}/peers`, { apiVersion, kind: "Peer", metadata: { name: `rack${rack}` }, spec });
  }
  for (let index = 0; index < nodes; index++) {
    const labels = { rack: String(rackOf(index)), ...(index < REFLECTORS && { reflects: "yes" }) };
    await create("/api/v1/nodes", {
      metadata: { name: nodeName(index), labels },
      spec: { podCIDRs: [`10.${index >> 8}.${index & 255}.0/24`] },
    });
  }
}

async function read(server: ApiServer): Promise<Reading> {
  const { body } = await server.call("GET", "/metrics");
  const requests = new Map<string, number>();
  let watchEvents = 0;
  const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(body)?.[1] ?? 0);
  for (const [, name, labels, number] of String(body).matchAll(
    /^(apiserver_request_total|apiserver_watch_events_total)\{(.*)\} (\S+)$/gm,
  )) {
    const label = (one: string) => new RegExp(`(?:^|,)${one}="([^"]*)"`).exec(labels)?.[1] ?? "";
    if (name === "apiserver_watch_events_total") watchEvents += Number(number);
    else if (isOurs(label("group"), label("resource"))) {
      const key = `${label("verb")} ${label("resource")}${label("subresource") && `/${label("subresource")}`}`;
      requests.set(key, (requests.get(key) ?? 0) + Number(number));
    }
  }
  const residentMB = value("process_resident_memory_bytes") / 2 ** 20;
  return { at: performance.now(), requests, cpu: value("process_cpu_seconds_total"), residentMB, watchEvents };
}

/** The API server asks itself for much, such as its own Services; of what agents ask for it asks for no Node, and has Leases of its own in kube-system. */
function isOurs(group: string, resource: string): boolean {
  return group === "podlane.io" || group === "events.k8s.io" || resource === "nodes" || resource === "leases";
}

interface Phase {
  name: string;
  seconds: number;
  requests: number;
  perSecond: number;
  watchEvents: number;
  cpuPercent: number;
  residentMB: number;
  /** Before the phase. */
  formerMB: number;
  byKind: Record<string, number>;
}

function difference(name: string, from: Reading, to: Reading, asked: number): Phase {
  const seconds = (to.at - from.at) / 1000;
  const kinds = [...to.requests]
    .map(([key, total]) => [key, total - (from.requests.get(key) ?? 0)] as const)
    .filter(([, more]) => more > 0);
  return {
    ...{ name, seconds: round(seconds, 0), requests: asked, perSecond: round(asked / seconds, 2) },
    watchEvents: to.watchEvents - from.watchEvents,
    cpuPercent: round(((to.cpu - from.cpu) / seconds) * 100, 1),
    residentMB: round(to.residentMB, 0),
    formerMB: round(from.residentMB, 0),
    byKind: Object.fromEntries(kinds.sort(([, a], [, b]) => b - a)),
  };
}

async function run(values: Values): Promise<void> {
  const nodes = count(values, "agents", 500, 5000, RACK);
  const processes = count(values, "processes", 4, 16);
  const quiet = count(values, "seconds", 120, 3600, 10);
  const missing = missingApiServer();
  if (missing) throw new Error(missing);
  const facts = machine();
  const server = await startApiServer({ watchCache: true });
  try {
    await installCrds(server);
    await createObjects(server, nodes);
    const phases = await measure(server, nodes, processes, quiet);
    report(values, facts, nodes, phases);
  } finally {
    await server.stop();
  }
  process.exit();
}

async function measure(server: ApiServer, nodes: number, processes: number, quiet: number): Promise<Phase[]> {
  const { server: url, certificateAuthority } = server.credentials();
  const agents = new Agents(processes, {
    PODLANE_API: JSON.stringify({ server: url, certificateAuthority: await certificateAuthority() }),
  });
  const phases: Phase[] = [];
  const phase = async (name: string, what: () => Promise<unknown>) => {
    const [from, before] = [await read(server), await agents.requests()];
    await what();
    const [to, after] = [await read(server), await agents.requests()];
    phases.push(difference(name, from, to, after - before));
  };
  const start = (index: number) => agents.tell({ do: "start", node: nodeName(index), sessions: sessionsOf(index, nodes) });
  await phase("all start", async () => {
    for (let from = 0; from < nodes; from += AT_ONCE)
      await Promise.all(Array.from({ length: Math.min(AT_ONCE, nodes - from) }, (_, i) => start(from + i)));
    await until("all have a NodeState", async () => (await states(server)) === nodes, 300_000);
    await until("the status of objects is there", async () => (await fabric(server)) === nodes, 120_000);
    await delay(SETTLE * 1000);
  });
  await phase("quiet", () => delay(quiet * 1000));
  await phase(`${ROLLED} agents updated, one after the other`, async () => {
    for (let index = nodes - ROLLED; index < nodes; index++) {
      await agents.tell({ do: "stop", node: nodeName(index) });
      await start(index);
    }
    await delay(SETTLE * 1000);
  });
  const rack = Array.from({ length: RACK }, (_, i) => nodes - RACK - ROLLED + i)
    .filter(index => index >= REFLECTORS)
    .map(nodeName);
  await phase(`a rack of ${rack.length} dies`, async () => {
    for (const node of rack) await agents.tell({ do: "kill", node });
    for (let index = 0; index < REFLECTORS; index++) await agents.tell({ do: "lose", node: nodeName(index), sessions: rack });
    // As the node lifecycle controller does when it has not heard of them.
    const conditions = [{ type: "Ready", status: "Unknown", reason: "NodeStatusUnknown", message: "" }];
    for (const node of rack) await server.call("PATCH", `/api/v1/nodes/${node}/status`, { status: { conditions } });
    await delay(SETTLE * 1000);
  });
  return phases;
}

async function states(server: ApiServer): Promise<number> {
  const { body } = await server.call("GET", `${own}/nodestates`);
  return body.items.filter(({ status }: { status?: { summary?: object } }) => status?.summary).length;
}

async function fabric(server: ApiServer): Promise<number> {
  return (await server.call("GET", `${own}/fabrics/main`)).body.status?.nodesReady ?? 0;
}

function report(values: Values, facts: ReturnType<typeof machine>, nodes: number, phases: Phase[]): void {
  if (values.json) {
    console.log(JSON.stringify({ bench: "apiserver", machine: facts, agents: nodes, phases }));
    return;
  }
  console.log(
    `${describeMachine(facts)}\n${nodes} agents, two reflectors, racks of ${RACK}; the API server had ${phases[0].formerMB} MB before\n`,
  );
  printTable(
    ["phase", "seconds", "requests", "a second", "events of watches", "API server's CPU", "resident"],
    phases.map(one => [
      ...[one.name, String(one.seconds), String(one.requests), String(one.perSecond), String(one.watchEvents)],
      ...[`${one.cpuPercent} %`, `${one.residentMB} MB`],
    ]),
  );
  for (const { name, byKind } of phases) {
    const parts = Object.entries(byKind).map(([key, number]) => `${key} ${number}`);
    console.log(`\n${name}, as the server counted (a watch when it ends): ${parts.join(", ")}`);
  }
}

if (import.meta.main) {
  const options = { agents: { type: "string" }, processes: { type: "string" }, seconds: { type: "string" } } as const;
  await program("apiserver", USAGE, options, run);
}
