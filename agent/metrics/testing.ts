/** Test support: an agent as metrics see it, made of plain data, and asking over HTTP. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NeighborSnapshot } from "../../bgpd/snapshot.ts";
import { CniCalls } from "../cni-calls.ts";
import type { Figures, MetricsSubject } from "./figures.ts";

const byFamily = <T>(value: T) => ({ "ipv4-unicast": value, "ipv6-unicast": value });
const messages = (update: number) => ({ open: 1, update, notification: 0, keepalive: 5, routeRefresh: 0 });
const counters = {
  messagesIn: messages(7),
  messagesOut: messages(3),
  octetsIn: 700,
  octetsOut: 300,
  connectAttempts: 2,
  establishedCount: 1,
};

export function neighbor(name: string, change: Partial<NeighborSnapshot> = {}): NeighborSnapshot {
  const family = { received: 10, accepted: 8, rejected: 2, sent: 4, endOfRib: true, prefixLimit: 0 };
  return {
    name,
    address: "192.0.2.2",
    asn: 65001,
    localAsn: 65000,
    state: "Established",
    reason: "",
    since: "2026-01-02T03:04:05.000Z",
    families: { "ipv4-unicast": { ...family, prefixLimit: 100 }, "ipv6-unicast": family },
    counters,
    ...change,
  };
}

export async function figures(change: Partial<Figures> = {}): Promise<Figures> {
  const calls = new CniCalls(() => 0);
  await calls.count("ADD", async () => ({ status: 200, body: "", code: 0 }));
  return {
    version: "1.2.3",
    startedAt: 1_700_000_000,
    ready: true,
    plan: { inUse: "source", age: 30 },
    sourceAge: 1.5,
    faults: { count: 1, byPlace: { decision: 1 }, last: { at: "", place: "decision", text: "" } },
    turns: { longest: 50, at: "", now: 4 },
    lateness: { half: 0, most: 3, all: 4 },
    speaker: {
      asn: 65000,
      routerId: "192.0.2.1",
      listening: [],
      tables: byFamily({ prefixes: 9, paths: 12, best: 8 }),
      attributeSets: 3,
      updateGroups: 1,
      fib: { installed: 8, adopted: 1, pending: 0, failed: 0, swept: 0, written: 7, removed: 2, refused: 1, repaired: 0 },
      converged: true,
      sessions: counters,
      states: { Idle: 0, Connect: 0, Active: 1, OpenSent: 0, OpenConfirm: 0, Established: 1 },
      entered: { Idle: 1, Connect: 2, Active: 1, OpenSent: 1, OpenConfirm: 1, Established: 1 },
      ends: [{ what: "session", reason: "HoldTimerExpired", notification: "sent", count: 1 }],
      undecided: byFamily(0),
      unsent: byFamily(0),
    },
    services: { addresses: { announced: 2, NoEndpoints: 1 }, proxy: "Ready" },
    policies: { policies: 3, isolated: 2, inForce: true, dropped: [{ policy: "shop/deny", ingress: 7, egress: 0 }] },
    spoofed: { mac: 0, source: 4, arp: 0, neighbour: 0, router: 1, dhcp: 0, other: 0 },
    calls: { underway: 0, verbs: calls.view() },
    attachments: [],
    ranges: [{ prefix: "10.244.1.0/24", used: 3, resting: 1, free: 249 }],
    ...change,
  };
}

export async function subject(change: Partial<MetricsSubject> = {}): Promise<MetricsSubject> {
  const made = await figures();
  return {
    ready: () => undefined,
    figures: () => made,
    neighbors: () => [neighbor("tor-a"), neighbor('tor "b"\\\n', { state: "Active", overdue: true })],
    findProblems: () => [[{ severity: "error", reason: "SessionDown", object: "Peer/tor-b", field: "", message: "", remedy: "" }]],
    ...change,
  };
}

export interface Heard {
  status: number;
  text: string;
  headers: Record<string, unknown>;
  /** Of the certificate that was shown. */
  serial?: string;
}

/** Resolves with the answer; rejects where there is none. */
export function ask(port: number, path: string, options: RequestOptions & { tls?: boolean; body?: string } = {}): Promise<Heard> {
  const { tls = false, body, ...rest } = options;
  return new Promise((resolve, reject) => {
    const request = (tls ? httpsRequest : httpRequest)({ host: "127.0.0.1", port, path, agent: false, ...rest }, response => {
      let text = "";
      const serial = "getPeerCertificate" in response.socket ? certificateOf(response.socket) : undefined;
      response.setEncoding("utf8").on("data", chunk => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers, serial }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

function certificateOf(socket: object): string {
  return (socket as import("node:tls").TLSSocket).getPeerCertificate().serialNumber;
}

/** A folder with a CA and with certificates of it for a server and a client: ca.crt, server.crt, server.key, client.crt, client.key; and another.crt and another.key, which are of no CA. */
export function certificates(): string {
  const folder = mkdtempSync(join(tmpdir(), "podlane-metrics-"));
  const at = (name: string) => join(folder, name);
  const openssl = (...words: string[]) => execFileSync("openssl", words, { stdio: "pipe" });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const selfSigned = (name: string, serial: string) =>
    openssl(
      "req",
      "-x509",
      ...newKey,
      "-keyout",
      at(`${name}.key`),
      "-out",
      at(`${name}.crt`),
      "-subj",
      `/CN=${name}`,
      "-set_serial",
      serial,
    );
  selfSigned("ca", "1");
  selfSigned("another", "7");
  writeFileSync(at("names"), "subjectAltName=IP:127.0.0.1,IP:192.0.2.1");
  for (const [name, serial] of Object.entries({ server: "2", renewed: "3", client: "4" })) {
    openssl("req", ...newKey, "-keyout", at(`${name}.key`), "-out", at(`${name}.csr`), "-subj", `/CN=${name}`);
    const ca = ["-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-set_serial", serial];
    openssl("x509", "-req", "-in", at(`${name}.csr`), ...ca, "-out", at(`${name}.crt`), "-days", "2", "-extfile", at("names"));
  }
  return folder;
}
