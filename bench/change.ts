/**
 * From a change of an object in a real API server to what it is for: an UPDATE at a neighbour, and a route in the kernel. The clock starts when the request
 * is sent, so that the time of the API server and of etcd is in it, and is told beside.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Pair } from "../agent/testing/agents.ts";
import { apiVersion } from "../config/resources/common.ts";
import { openKernel } from "../kernel/index.ts";
import { formatAddress } from "../net/address.ts";
import { build } from "../scripts/build.ts";
import { asPath, KEEPALIVE, message, nextHop, octets, open, origin, Type, u16 } from "../test/conformance/octets.ts";
import { type ApiServer, startApiServer } from "../test/kubernetes/api-server.ts";
import { installCrds } from "../test/kubernetes/install-crds.ts";
import { count, describeMachine, machine, needRoot, percentile, printTable, program, type Values } from "./common.ts";
import { connected, create, given, runInside, startInCluster } from "./inside.ts";

const USAGE = `usage: npm run bench -- change [--rounds N] [--json]

  --rounds   changes of each kind, 10..1000; default 100
  --json     one JSON object instead of a table

Needs root (it makes network namespaces), and kube-apiserver and etcd (CONTRIBUTING.md says where they are looked for).`;

/** Milliseconds of rest after each change, so that none is gathered with the next. */
const REST = 50;
/** Milliseconds for one change. */
const PATIENCE = 5000;
const OFFERED = "203.0.113.0/24";
const PEERS = `/apis/${apiVersion}/peers`;
const ADVERTISEMENTS = `/apis/${apiVersion}/advertisements`;

interface Task {
  folder: string;
  names: [string, string];
  main: string;
  rounds: number;
}

/** Milliseconds from the request, of each round. */
interface Times {
  answered: number[];
  done: number[];
}

/** Changes an object and waits until `seen` says when that had its effect. Both times are of performance.now(). */
async function measure(
  rounds: number,
  change: (turn: number) => Promise<unknown>,
  seen: (from: number) => Promise<number>,
): Promise<Times> {
  const times: Times = { answered: [], done: [] };
  for (let turn = 0; turn < rounds; turn++) {
    const from = performance.now();
    const effect = seen(from);
    await change(turn);
    times.answered.push(performance.now() - from);
    times.done.push((await effect) - from);
    await delay(REST);
  }
  return times;
}

async function inside({ folder, names, main, rounds }: Task): Promise<Record<"update" | "route", Times>> {
  const server = await startApiServer({ watchCache: true });
  await installCrds(server);
  await writeObjects(server);
  const agent = await startInCluster(main, folder, server, [
    "--node",
    "node1",
    "--state",
    join(folder, "s"),
    "--socket",
    join(folder, "a.sock"),
  ]);
  const kernel = openKernel();
  try {
    const peer = await connected(names[1], 30);
    await peer.establish(open({ holdTime: 0 }));
    const attributes = octets(origin(), asPath(65002), nextHop("192.0.2.2"));
    peer.send(
      message(Type.Update, octets(u16(0), u16(attributes.length), attributes, [24, 203, 0, 113])),
      message(Type.Update, octets(u16(0), u16(0))),
    );
    peer.send(KEEPALIVE);
    await peer.until(() => peer.messages.some(one => one[18] === Type.Update && one.length > 23), "the first routes");
    await delay(2000);
    const advertise = (turn: number) =>
      server.call("PATCH", `${ADVERTISEMENTS}/more`, { spec: { static: { prefixes: [{ prefix: `198.51.100.${turn % 250}/32` }] } } });
    const update = await measure(rounds, advertise, async from => {
      const isNew = (one: Uint8Array, at: number) => one[18] === Type.Update && peer.times[at] > from;
      await peer.until(() => peer.messages.some(isNew), "an UPDATE", PATIENCE);
      return peer.times[peer.messages.findIndex(isNew)];
    });
    const accept = (turn: number) =>
      server.call("PATCH", `${PEERS}/raw`, { spec: { import: { accept: [{ prefix: turn % 2 === 0 ? OFFERED : "192.0.2.128/25" }] } } });
    const route = await measure(rounds, accept, () => routeEvent(kernel));
    return { update, route };
  } finally {
    agent.kill("SIGKILL");
    kernel.close();
    await server.stop();
  }
}

function routeEvent(kernel: ReturnType<typeof openKernel>): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no change of the route to ${OFFERED} within ${PATIENCE} ms`)), PATIENCE);
    const stop = kernel.watch(
      events => {
        const at = performance.now();
        if (!events.some(event => event.type === "route" && formatAddress(event.route.destination) === OFFERED.split("/")[0])) return;
        clearTimeout(timer);
        stop();
        resolve(at);
      },
      ["route"],
    );
  });
}

async function writeObjects(server: ApiServer): Promise<void> {
  await create(server, "/api/v1/nodes", {
    metadata: { name: "node1" },
    spec: { podCIDRs: ["10.244.1.0/24"] },
    status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] },
  });
  const peer = { nodeSelector: {}, address: "192.0.2.2", asn: 65002, passive: true, import: { accept: [{ prefix: "192.0.2.128/25" }] } };
  await create(server, PEERS, { apiVersion, kind: "Peer", metadata: { name: "raw" }, spec: peer });
  const advertisement = { nodeSelector: {}, type: "Static", peers: ["raw"], static: { prefixes: [{ prefix: "198.51.100.255/32" }] } };
  await create(server, ADVERTISEMENTS, { apiVersion, kind: "Advertisement", metadata: { name: "more" }, spec: advertisement });
}

async function run(values: Values): Promise<void> {
  needRoot();
  const rounds = count(values, "rounds", 100, 1000, 10);
  const facts = machine();
  const folder = mkdtempSync(join(tmpdir(), "podlane-change-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  await build(join(folder, "built"));
  const main = join(folder, "built/main.js");
  const pair = new Pair(main);
  let text: string;
  try {
    text = runInside(import.meta.filename, pair.names[0], { folder: pair.folder, names: pair.names, main, rounds } satisfies Task);
  } finally {
    await pair.close();
  }
  const { update, route } = JSON.parse(text) as Awaited<ReturnType<typeof inside>>;
  const figures = [
    { what: "the API server has answered", times: [...update.answered, ...route.answered] },
    { what: "UPDATE at the neighbour", times: update.done },
    { what: "kernel route", times: route.done },
  ].map(({ what, times }) => ({ what, p50: percentile(times, 0.5), p99: percentile(times, 0.99) }));
  if (values.json) {
    console.log(JSON.stringify({ bench: "change", machine: facts, rounds, figures }));
    return;
  }
  console.log(`${describeMachine(facts)}\nmilliseconds from the request that changes an object, ${rounds} changes of each kind\n`);
  printTable(
    ["until", "p50", "p99"],
    figures.map(({ what, p50, p99 }) => [what, String(p50), String(p99)]),
  );
}

const task = given<Task>();
if (task) console.log(JSON.stringify(await inside(task)));
else if (import.meta.main) await program("change", USAGE, { rounds: { type: "string" } }, run);
