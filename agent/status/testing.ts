/** A node's report, for tests. */
import type { NeighborSnapshot } from "../../bgpd/snapshot.ts";
import type { NodeReport } from "./node-state.ts";

const messages = { open: 1, update: 0, notification: 0, keepalive: 0, routeRefresh: 0 };

export function neighbor(name: string, given: Partial<NeighborSnapshot> = {}): NeighborSnapshot {
  return {
    name,
    source: `Peer/${name}`,
    address: "192.0.2.1",
    asn: 65001,
    localAsn: 64512,
    state: "Established",
    reason: "received KEEPALIVE",
    since: "2026-01-01T00:00:00.000Z",
    families: { "ipv4-unicast": { received: 7, accepted: 6, rejected: 1, sent: 2, endOfRib: true, prefixLimit: 1000 } },
    counters: { messagesIn: messages, messagesOut: messages, octetsIn: 0, octetsOut: 0, connectAttempts: 1, establishedCount: 1 },
    ...given,
  };
}

export const down: Partial<NeighborSnapshot> = {
  state: "Active",
  reason: "next attempt in 3 s",
  since: "2026-01-01T00:09:00.000Z",
  downSince: "2026-01-01T00:05:00.000Z",
  lastDown: { at: "2026-01-01T00:05:00.000Z", text: "hold timer expired" },
};

export function nodeReport(neighbors: NeighborSnapshot[], given: { ready?: boolean; problems?: NodeReport["problems"] } = {}): NodeReport {
  const { ready = true, problems = [] } = given;
  const table = { prefixes: 0, paths: 0, best: 0 };
  return {
    neighbors,
    problems,
    plan: undefined,
    status: {
      node: "n1",
      version: "1.2.3",
      pid: 1,
      memory: { resident: 0, heapTotal: 0, heapUsed: 0, external: 0 },
      turns: { longest: 0, lastMinute: 0 } as never,
      startedAt: "2026-01-01T00:00:00.000Z",
      config: { source: "https://192.0.2.9:6443", inUse: "source" },
      speaker: {
        asn: 64512,
        routerId: "192.0.2.2",
        listening: [],
        tables: { "ipv4-unicast": { ...table, best: 5 }, "ipv6-unicast": { ...table, best: 3 } },
        attributeSets: 0,
        updateGroups: 0,
        fib: { installed: 8, adopted: 0, pending: 0, failed: 0, swept: 0, repaired: 0, written: 8, removed: 0, refused: 0 },
        converged: true,
        sessions: { established: 0, configured: 0, overdue: [] },
      },
      attachments: 0,
      services: 0,
      serving: { ready, reason: ready ? "the routes are in" : "all 2 sessions are gone for more than 60 s" },
      problems: { errors: problems.filter(({ severity }) => severity === "error").length, warnings: 0 },
    },
  };
}
