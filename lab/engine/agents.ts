/** podlane's agents: one process per node, in its namespace, started as an operator starts it; asked through the local API on its socket. */
import { mkdirSync } from "node:fs";
import { request } from "node:http";
import { fileURLToPath } from "node:url";
import type { PeersView, RoutesView, StatusView } from "../../agent/api/views.ts";
import type { MachinePlan } from "../topology/plan.ts";
import type { PathView, SessionView } from "./router-types.ts";
import { logEnd } from "./routers.ts";
import { isAlive, type ProcessId, startDaemon, until } from "./system.ts";

const podlane = fileURLToPath(new URL("../../scripts/podlane", import.meta.url));

/** Milliseconds an agent may take from its start to its first answer. */
const START_BOUND = 30_000;

export function agentSocket(folder: string, node: string): string {
  return `${folder}/${node}/podlane.sock`;
}

export function agentLog(folder: string, node: string): string {
  return `${folder}/${node}/log`;
}

/** Resolves when the agent answers. Throws with the end of its log when it ends or stays silent. */
export async function startAgent(
  machine: MachinePlan,
  folder: string,
  record: (program: string, id: ProcessId) => void,
  abort?: AbortSignal,
): Promise<void> {
  const own = `${folder}/${machine.name}`;
  mkdirSync(`${own}/state`, { recursive: true });
  const socket = agentSocket(folder, machine.name);
  const log = agentLog(folder, machine.name);
  const args = ["agent", "--node", machine.name, "--config", `${folder}/config`, "--state", `${own}/state`, "--socket", socket];
  const id = startDaemon(machine.namespace, podlane, args, log);
  record("agent", id);
  let ended = false;
  const up = await until(
    async () => {
      ended = !isAlive(id);
      return ended || (await answers(socket, id.pid));
    },
    START_BOUND,
    50,
    abort,
  );
  if (up && !ended) return;
  const what = ended ? "ended at its start" : `does not answer on ${socket} within ${START_BOUND / 1000} s`;
  throw new Error(`the agent of ${machine.name} ${what}; the end of ${log}:\n${logEnd(log)}`);
}

/** Asked by process id too: a dying agent's socket must not pass for the new one's. */
async function answers(socket: string, pid: number): Promise<boolean> {
  try {
    return (await ask<StatusView>(socket, "/v1/status")).pid === pid;
  } catch {
    return false;
  }
}

/** Whether any agent does. */
export function answersOn(folder: string, node: string): Promise<boolean> {
  return ask<StatusView>(agentSocket(folder, node), "/v1/status").then(
    () => true,
    () => false,
  );
}

/** GET on an agent's socket. Throws when there is no answer within 5 s, or one that is not 200. */
function ask<View>(socket: string, path: string): Promise<View> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: socket, path, method: "GET", timeout: 5000 }, response => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode !== 200) return reject(new Error(`${path} on ${socket}: ${response.statusCode} ${text.trim()}`));
        try {
          resolve(JSON.parse(text) as View);
        } catch (error) {
          reject(error);
        }
      });
    });
    call.on("timeout", () => call.destroy(new Error(`no answer on ${socket} within 5 s`)));
    call.on("error", reject);
    call.end();
  });
}

export async function agentSessions(
  machine: MachinePlan,
  folder: string,
  owner: (address: string) => string | undefined,
): Promise<SessionView[]> {
  const { peers } = await ask<PeersView>(agentSocket(folder, machine.name), "/v1/peers");
  return peers.map(peer => {
    const families = Object.values(peer.families);
    return {
      machine: machine.name,
      neighbor: owner(peer.address) ?? peer.name,
      address: peer.address,
      asn: String(peer.asn),
      state: peer.state,
      received: families.reduce((sum, each) => sum + each.received, 0),
      sent: families.reduce((sum, each) => sum + each.sent, 0),
      reason: peer.state === "Established" ? undefined : peer.reason,
    };
  });
}

export async function agentPaths(machine: MachinePlan, folder: string): Promise<PathView[]> {
  const { routes } = await ask<RoutesView>(agentSocket(folder, machine.name), "/v1/routes?limit=10000");
  return routes
    .filter(route => route.eligible)
    .map(route => ({
      prefix: route.prefix,
      best: route.best,
      asPath: route.attributes.asPath,
      nextHops: [route.attributes.nextHop],
      from: route.from,
    }));
}
