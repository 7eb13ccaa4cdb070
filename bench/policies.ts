/**
 * NetworkPolicy as a node compiles it, without a kernel: milliseconds for all of a cluster, for one change, and for pods that no policy here finds; how many
 * objects of the ruleset that makes, and what the index holds in memory.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { PolicyIndex } from "../netfilter/policy/policy-index.ts";
import type { NetworkPolicyObject, PolicyPod } from "../netfilter/policy/types.ts";
import type { RulesetObject } from "../netfilter/ruleset.ts";
import { count, describeMachine, machine, percentile, printTable, program, round, type Values } from "./common.ts";
import { APPS, attachmentOf, namespaceOf, podOf, policyOf } from "./policy-cluster.ts";

const USAGE = `usage: npm run bench -- policies [--pods N] [--policies N] [--namespaces N] [--local N] [--json]

  --pods        in the cluster, 1000..50000; default 5000
  --policies    NetworkPolicies in the cluster, 10..5000; default 500
  --namespaces  that they are in, 1..1000; default 50
  --local       pods of this node, 1..pods; default 110
  --json        one JSON object instead of a table`;

/** How often each kind of change is made. */
const CHANGES = 50;
/** Pods that come in namespaces that no rule names. */
const STRANGERS = 10_000;

interface Figures {
  compileMs: number;
  compileCpuMs: number;
  /** `cpuMs`: of user and kernel, the mean. On a machine with other work it says more than the clock. */
  changes: Record<string, { p50: number; p99: number; cpuMs: number; objects: number }>;
  strangersMs: number;
  strangersObjects: number;
  objects: Record<string, number>;
  rules: number;
  elements: number;
  memoryMB: number;
}

function measure(pods: number, policies: number, namespaces: number, local: number): Figures {
  const allPods = Array.from({ length: pods }, (_, number) => podOf(number, namespaces));
  const allPolicies = Array.from({ length: policies }, (_, number) => policyOf(number, namespaces));
  const attachments = allPods.slice(0, local).map((pod, at) => attachmentOf(pod, `veth${at}`));
  const before = heapMB();
  const index = new PolicyIndex();
  const begin = performance.now();
  const busy = process.cpuUsage();
  for (let at = 0; at < namespaces; at++) index.setNamespace(namespaceOf(at));
  for (const pod of allPods) index.setPod(pod);
  for (const policy of allPolicies) index.setPolicy(policy);
  index.setAttachments(attachments);
  index.settle();
  index.take();
  const compileMs = performance.now() - begin;
  const compileCpuMs = cpuMs(busy);
  const memoryMB = heapMB() - before;
  const all = [...index.objects().values()];
  return {
    ...{ compileMs: round(compileMs, 0), compileCpuMs: round(compileCpuMs, 0) },
    ...{ changes: changes(index, allPods, allPolicies, local), ...strangers(index, pods) },
    objects: countKinds(all),
    rules: all.reduce((sum, one) => sum + (one.kind === "chain" ? one.rules.length : 0), 0),
    elements: all.reduce((sum, one) => sum + (one.kind === "set" || one.kind === "map" ? one.elements.size : 0), 0),
    memoryMB: round(memoryMB, 1),
  };
}

function changes(index: PolicyIndex, pods: PolicyPod[], policies: NetworkPolicyObject[], local: number): Figures["changes"] {
  const here = (at: number) => pods[at % local];
  const elsewhere = (at: number) => pods[Math.min(pods.length - 1, local + at)];
  const relabel = (pod: PolicyPod, at: number) => index.setPod({ ...pod, labels: { ...pod.labels, app: APPS[at % APPS.length] } });
  const kinds: Record<string, (at: number) => void> = {
    "labels of a pod here": at => relabel(here(at), at + 1),
    "labels of a pod elsewhere": at => relabel(elsewhere(at), at + 1),
    "a pod elsewhere goes": at => index.deletePod(elsewhere(at).key),
    "a pod elsewhere comes": at => index.setPod(elsewhere(at)),
    "a policy changes": at => index.setPolicy({ ...policies[at], ingress: [{ ports: [{ protocol: "TCP", port: 1000 + at }] }] }),
    "a policy goes": at => index.deletePolicy(policies[at].key),
    "a pod is attached": at => index.setAttachment(attachmentOf(elsewhere(at), `new${at}`)),
    "a pod is detached": at => index.deleteAttachment(`new${at}`),
  };
  const figures: Figures["changes"] = {};
  for (const [kind, change] of Object.entries(kinds)) {
    const times: number[] = [];
    let objects = 0;
    const busy = process.cpuUsage();
    for (let at = 0; at < CHANGES; at++) {
      const begin = performance.now();
      change(at);
      index.settle();
      objects += index.take().length;
      times.push(performance.now() - begin);
    }
    const mean = { cpuMs: round(cpuMs(busy) / CHANGES, 2), objects: round(objects / CHANGES, 1) };
    figures[kind] = { p50: percentile(times, 0.5), p99: percentile(times, 0.99), ...mean };
  }
  return figures;
}

function strangers(index: PolicyIndex, pods: number): Pick<Figures, "strangersMs" | "strangersObjects"> {
  const all = Array.from({ length: STRANGERS }, (_, at) => ({ ...podOf(pods + at, 1), namespace: "strangers", key: `strangers/${at}` }));
  const begin = performance.now();
  for (const pod of all) index.setPod(pod);
  index.settle();
  const strangersObjects = index.take().length;
  return { strangersMs: round(performance.now() - begin, 0), strangersObjects };
}

function cpuMs(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1000;
}

function countKinds(objects: readonly RulesetObject[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kind } of objects) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

function heapMB(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().heapUsed / 2 ** 20;
}

function run(values: Values): void {
  const pods = count(values, "pods", 5000, 50_000, 1000);
  const policies = count(values, "policies", 500, 5000, 10);
  const namespaces = count(values, "namespaces", 50, 1000);
  const local = count(values, "local", 110, pods);
  const facts = machine();
  const figures = measure(pods, policies, namespaces, local);
  if (values.json) {
    console.log(JSON.stringify({ bench: "policies", machine: facts, pods, policies, namespaces, local, ...figures }));
    return;
  }
  const { compileMs, compileCpuMs, strangersMs, strangersObjects, objects, rules, elements, memoryMB } = figures;
  console.log(`${describeMachine(facts)}\n${pods} pods, ${local} of them here, ${policies} policies in ${namespaces} namespaces\n`);
  console.log(
    `all of it: ${compileMs} ms, ${compileCpuMs} ms of CPU; memory of the index with what it was told: ${memoryMB} MB beside the objects told`,
  );
  const kinds = Object.entries(objects).map(([kind, number]) => `${number} ${kind}s`);
  console.log(`${kinds.join(", ")}; ${rules} rules, ${elements} elements`);
  console.log(`${STRANGERS} pods that no policy here finds: ${strangersMs} ms, ${strangersObjects} objects changed\n`);
  const row = ([kind, { p50, p99, cpuMs: cpu, objects: changed }]: [string, Figures["changes"][string]]) =>
    [kind, p50, p99, cpu, changed].map(String);
  printTable(["change", "p50 ms", "p99 ms", "CPU ms", "objects"], Object.entries(figures.changes).map(row));
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  await program("policies", USAGE, { pods: text, policies: text, namespaces: text, local: text }, run);
}
