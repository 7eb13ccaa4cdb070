/**
 * From a change in a real API server to its rules in the kernel: a policy that is created, a label of a pod here, the address of a peer elsewhere; and how long an ADD
 * waits for its pod's rules, with and without policies. The clock starts when the request is sent, so that the API server's time is in it, and is told beside.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Policies } from "../agent/policies.ts";
import type { AttachmentView } from "../cni/types.ts";
import { PolicyWatches } from "../config/sources/policy-watches.ts";
import { ApiClient } from "../kubernetes/client.ts";
import { Http2Transport } from "../kubernetes/http2.ts";
import { nft } from "../netfilter/nft.ts";
import type { RulesetChange } from "../netfilter/types.ts";
import { Writer } from "../netfilter/writer.ts";
import { systemClock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { type ApiServer, startApiServer } from "../test/kubernetes/api-server.ts";
import { TestNetwork } from "../test/network.ts";
import { count, describeMachine, machine, needRoot, percentile, printTable, program, type Values } from "./common.ts";
import { create } from "./inside.ts";

const USAGE = `usage: npm run bench -- policy-change [--rounds N] [--json]

  --rounds   changes of each kind, 10..1000; default 100
  --json     one JSON object instead of a table

Needs root (it makes a network namespace), nft, and kube-apiserver and etcd (CONTRIBUTING.md says where they are looked for).`;

/** Milliseconds of rest after each change, so that none is gathered with the next. */
const REST = 70;
/** Milliseconds for one change. */
const PATIENCE = 5000;
const POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
const PODS = "/api/v1/namespaces/default/pods";
const quiet: Logger = { debug() {}, info() {}, warn() {}, error: (fields, text) => console.error(fields, text), child: () => quiet };

interface Figure {
  what: string;
  times: number[];
}

async function inside(server: ApiServer, netns: string, rounds: number): Promise<Figure[]> {
  const client = new ApiClient(new Http2Transport(server.credentials()), "bench");
  const parts = { client, clock: systemClock, log: quiet, random: Math.random };
  const feed = new PolicyWatches(parts, { node: "n1", changed() {} });
  const generation = () => {
    throw new Error("it is another namespace's");
  };
  const filter = new Writer({ nft: nft(["ip", "netns", "exec", netns, "nft"]), clock: systemClock, log: quiet, generation, mended() {} });
  let written = (_changes: readonly RulesetChange[]) => {};
  const writer = {
    change: (changes: readonly RulesetChange[]) => filter.change(changes).then(() => written(changes)),
    complete: (prefix: string) => filter.complete(prefix),
  };
  const attached = (name: string, host: number): AttachmentView => ({
    network: "podlane",
    containerId: name,
    ifname: "eth0",
    netns: "/",
    hostInterface: `veth${host}`,
    addresses: [`10.244.1.${host}/24`, `fd00:10:244:1::${host}/64`],
    state: "attached",
    since: 0,
    pod: { namespace: "default", name },
  });
  const policies = new Policies({
    clock: systemClock,
    log: quiet,
    feed,
    writer,
    attachments: () => [attached("mine", 2)],
    mark: { get: () => false, set() {} },
    bridgeLack: () => undefined,
    bridgeOf: () => "podlane0",
    counters: async () => new Map(),
  });
  const answered: number[] = [];
  const measure = async (
    what: string,
    change: (turn: number) => Promise<unknown>,
    undo: (turn: number) => Promise<unknown>,
  ): Promise<Figure> => {
    const times: number[] = [];
    for (let turn = 0; turn < rounds; turn++) {
      const from = performance.now();
      const done = Promise.withResolvers<number>();
      const bound = setTimeout(() => done.reject(new Error(`${what}: nothing within ${PATIENCE} ms`)), PATIENCE);
      written = () => done.resolve(performance.now());
      await change(turn);
      answered.push(performance.now() - from);
      times.push((await done.promise) - from);
      clearTimeout(bound);
      await undo(turn);
      await delay(REST);
    }
    return { what, times };
  };
  const admit = async (what: string): Promise<Figure> => {
    const times: number[] = [];
    for (let turn = 0; turn < rounds; turn++) {
      const from = performance.now();
      await policies.admit(attached("mine", 3 + (turn % 100)));
      times.push(performance.now() - from);
      policies.released(`veth${3 + (turn % 100)}`);
      await delay(REST);
    }
    return { what, times };
  };
  const post = async (path: string, object: object) => create(server, path, object);
  const patch = (path: string, object: object) => server.call("PATCH", path, object);
  const remove = (path: string) => server.call("DELETE", `${path}?gracePeriodSeconds=0`);
  const web = { podSelector: { matchLabels: { app: "mine" } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: "peer" } } }] }] };
  try {
    policies.apply(true);
    await delay(500);
    const before = await admit("ADD waits, no policy");
    const created = await measure(
      "policy created",
      () => post(POLICIES, { metadata: { name: "p" }, spec: web }),
      () => remove(`${POLICIES}/p`),
    );
    await post(POLICIES, { metadata: { name: "p" }, spec: web });
    await delay(500);
    const label = (turn: number) => patch(`${PODS}/mine`, { metadata: { labels: { app: turn % 2 === 0 ? "other" : "mine" } } });
    const labels = await measure("label of a pod here", label, async () => {});
    await patch(`${PODS}/mine`, { metadata: { labels: { app: "mine" } } });
    const address = (turn: number) => {
      const ip = `10.244.2.${1 + (turn % 250)}`;
      return patch(`${PODS}/peer/status`, { status: { phase: "Running", podIP: ip, podIPs: [{ ip }] } });
    };
    const peers = await measure("address of a peer elsewhere", address, async () => {});
    const after = await admit("ADD waits, a policy selects the pod");
    return [{ what: "the API server has answered", times: answered }, created, labels, peers, before, after];
  } finally {
    policies.close();
    await filter.close();
    await feed.close();
    client.close();
  }
}

async function run(values: Values): Promise<void> {
  needRoot();
  const rounds = count(values, "rounds", 100, 1000, 10);
  const facts = machine();
  using network = new TestNetwork();
  const server = await startApiServer({ watchCache: true });
  let found: Figure[];
  try {
    await create(server, "/api/v1/namespaces/default/serviceaccounts", { metadata: { name: "default" } });
    const pod = (name: string, nodeName: string) => ({
      metadata: { name, labels: { app: name } },
      spec: { nodeName, automountServiceAccountToken: false, containers: [{ name: "c", image: "i" }] },
    });
    await create(server, PODS, pod("mine", "n1"));
    await create(server, PODS, pod("peer", "n2"));
    found = await inside(server, network.namespace("policies"), rounds);
  } finally {
    await server.stop();
  }
  const figures = found.map(({ what, times }) => ({ what, p50: percentile(times, 0.5), p99: percentile(times, 0.99) }));
  if (values.json) {
    console.log(JSON.stringify({ bench: "policy-change", machine: facts, rounds, figures }));
    return;
  }
  console.log(
    `${describeMachine(facts)}\nmilliseconds from the request that changes an object until its rules are in force, ${rounds} of each kind\n`,
  );
  printTable(
    ["what", "p50", "p99"],
    figures.map(({ what, p50, p99 }) => [what, String(p50), String(p99)]),
  );
}

if (import.meta.main) await program("policy-change", USAGE, { rounds: { type: "string" } }, run);
