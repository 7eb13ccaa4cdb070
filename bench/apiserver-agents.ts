/**
 * Many agents' sources and sinks in one process, without speakers: what bench/apiserver.ts holds against the API server. Told by messages which agents
 * there are and what becomes of their sessions.
 */
import { ClusterStatus } from "../agent/status/cluster-status.ts";
import type { NodeReport } from "../agent/status/node-state.ts";
import { down, neighbor, nodeReport } from "../agent/status/testing.ts";
import { neededNodes } from "../config/compile/needs.ts";
import { KubernetesSource } from "../config/sources/kubernetes.ts";
import { ApiClient } from "../kubernetes/client.ts";
import { Http2Transport } from "../kubernetes/http2.ts";
import { systemClock } from "../platform/clock.ts";
import { quietLog } from "../platform/testing.ts";

export type Told =
  | { do: "start"; node: string; sessions: string[] }
  /** As a process that is killed. */
  | { do: "kill"; node: string }
  /** In order, as in an update. */
  | { do: "stop"; node: string }
  /** The sessions of these neighbours are gone. */
  | { do: "lose"; node: string; sessions: string[] }
  | { do: "count" };

export interface Said {
  /** Of the question. */
  id: number;
  /** Sent by all agents of this process so far. */
  requests: number;
}

interface Running {
  client: ApiClient;
  source: KubernetesSource;
  status: ClusterStatus;
  sessions: string[];
  lost: Set<string>;
}

const { PODLANE_API = "{}" } = process.env;
const { server, certificateAuthority } = JSON.parse(PODLANE_API) as { server: string; certificateAuthority: string };
const credentials = { server, namespace: "default", certificateAuthority: async () => certificateAuthority, token: async () => "test" };
const agents = new Map<string, Running>();
/** Of those that are gone. */
let former = 0;

async function start(node: string, sessions: string[]): Promise<void> {
  const client = new ApiClient(new Http2Transport(credentials), "bench");
  const parts = { client, clock: systemClock, log: quietLog, random: Math.random };
  const lost = new Set<string>();
  const report = (): NodeReport => nodeReport(sessions.map(name => neighbor(name, lost.has(name) ? down : {})));
  const status = new ClusterStatus(
    { node, namespace: credentials.namespace },
    { ...parts, report, serving: () => report().status.serving },
  );
  const selfSeen = (object: Parameters<ClusterStatus["nodeSeen"]>[0]) => status.nodeSeen(object);
  const source = new KubernetesSource({ node, namespace: credentials.namespace, needs: neededNodes, selfSeen }, parts);
  agents.set(node, { client, source, status, sessions, lost });
  // A server that is busy makes it slow, not wrong.
  for (let tries = 0; tries < 20; tries++) {
    try {
      await source.start(() => {});
      break;
    } catch {
      // It goes on by itself, and this waits further.
    }
  }
  for (const name of sessions) status.happened({ at: "", type: "neighbor", text: "", neighbor: name, state: "Established" });
  status.start();
}

async function end(node: string, killed: boolean): Promise<void> {
  const agent = agents.get(node);
  if (!agent) return;
  agents.delete(node);
  former += agent.client.requests;
  if (killed) agent.client.close();
  await agent.status.close();
  await agent.source.close();
}

function lose(node: string, sessions: string[]): void {
  const agent = agents.get(node);
  for (const name of sessions) {
    agent?.lost.add(name);
    agent?.status.happened({ at: "", type: "neighbor", text: "", neighbor: name, state: "Idle", reason: "hold timer expired" });
  }
}

process.on("message", async ({ id, ...told }: Told & { id: number }) => {
  if (told.do === "start") await start(told.node, told.sessions);
  else if (told.do === "lose") lose(told.node, told.sessions);
  else if (told.do !== "count") await end(told.node, told.do === "kill");
  const requests = [...agents.values()].reduce((sum, { client }) => sum + client.requests, former);
  process.send?.({ id, requests } satisfies Said);
});
process.once("disconnect", () => process.exit(0));
