/**
 * NetworkPolicy in the kernel: how many chains, rules and elements the policies of a cluster come to on a node, how long nft takes for the first transaction and for
 * a change of it, and how much kernel memory it holds.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { deleteTable, parseListing, transaction } from "../netfilter/json.ts";
import { nft } from "../netfilter/nft.ts";
import { PolicyIndex } from "../netfilter/policy/policy-index.ts";
import type { PolicyPod } from "../netfilter/policy/types.ts";
import { objectKey, type RulesetObject } from "../netfilter/ruleset.ts";
import { TABLE } from "../netfilter/tables.ts";
import { TestNetwork } from "../test/network.ts";
import { count, describeMachine, list, machine, median, needRoot, printTable, program, round, UsageError, type Values } from "./common.ts";
import { APPS, attachmentOf, namespaceOf, podOf, policyOf } from "./policy-cluster.ts";

const USAGE = `usage: npm run bench -- policy-kernel [--nodes PODS/LOCAL,…] [--policies N] [--namespaces N] [--rounds N] [--changes N] [--json]

  --nodes       pods of the cluster, and how many of them are on the node; default 1000/1000,1000/20,5000/110
  --policies    NetworkPolicies of the cluster, 10..5000; default 500
  --namespaces  that they are in, 1..1000; default 50
  --rounds      how often each is written to an empty namespace, 1..100; default 5
  --changes     of a pod's label, each a run of nft, 1..1000; default 20
  --json        one JSON object instead of a table

Needs root (it makes a network namespace) and nft.`;

interface Size {
  pods: number;
  local: number;
}

interface Figures extends Size {
  compileMs: number;
  /** Medians of the rounds. */
  firstMs: number;
  changeMs: number;
  /** As the kernel lists them. */
  chains: number;
  rules: number;
  sets: number;
  elements: number;
  counters: number;
  /** KiB that the kernel charges to who wrote the rules. Absent: there is no control group for memory. */
  chargedKB?: number;
  /** KiB by which all slabs of the machine grew. Others use them, too. */
  slabKB: number;
}

/** A control group of nft's own, since the kernel charges rules and sets to who asks for them. */
class Charged implements Disposable {
  readonly #folder: string | undefined;
  readonly #file: string = "";

  constructor() {
    const one = "/sys/fs/cgroup/memory";
    const two = "/sys/fs/cgroup";
    const name = `podlane-bench-${process.pid}`;
    if (existsSync(`${one}/memory.kmem.usage_in_bytes`)) [this.#folder, this.#file] = [`${one}/${name}`, "memory.kmem.usage_in_bytes"];
    else if (existsSync(`${two}/cgroup.subtree_control`) && readFileSync(`${two}/cgroup.subtree_control`, "utf8").includes("memory"))
      [this.#folder, this.#file] = [`${two}/${name}`, "memory.stat"];
    if (this.#folder) mkdirSync(this.#folder);
  }

  /** `program`, started as a member. */
  around(program: readonly string[]): string[] {
    return this.#folder ? ["sh", "-c", `echo $$ > ${this.#folder}/cgroup.procs && exec "$@"`, "sh", ...program] : [...program];
  }

  octets(): number | undefined {
    if (!this.#folder) return undefined;
    const text = readFileSync(`${this.#folder}/${this.#file}`, "utf8");
    return Number(this.#file === "memory.stat" ? /^kernel (\d+)/m.exec(text)?.[1] : text);
  }

  [Symbol.dispose](): void {
    if (this.#folder) rmdirSync(this.#folder);
  }
}

/** Octets in use of all caches. */
function slab(): number {
  return readFileSync("/proc/slabinfo", "utf8")
    .split("\n")
    .slice(2, -1)
    .map(line => line.split(/\s+/))
    .reduce((sum, [, active, , size]) => sum + Number(active) * Number(size), 0);
}

/** Until the kernel has freed what waited for a grace period. */
async function settled(octets: () => number): Promise<number> {
  for (let last = Number.NaN, at = 0; at < 20; at++) {
    const now = octets();
    if (now === last) return now;
    last = now;
    await delay(100);
  }
  return octets();
}

function clusterOf({ pods, local }: Size, policies: number, namespaces: number): { index: PolicyIndex; far: PolicyPod[] } {
  const index = new PolicyIndex();
  const all = Array.from({ length: pods }, (_, number) => podOf(number, namespaces));
  for (let at = 0; at < namespaces; at++) index.setNamespace(namespaceOf(at));
  for (const pod of all) index.setPod(pod);
  for (let at = 0; at < policies; at++) index.setPolicy(policyOf(at, namespaces));
  index.setAttachments(all.slice(0, local).map((pod, at) => attachmentOf(pod, `veth${at}`)));
  return { index, far: local < pods ? all.slice(local) : all };
}

async function measure(size: Size, policies: number, namespaces: number, rounds: number, changes: number): Promise<Figures> {
  const { index, far } = clusterOf(size, policies, namespaces);
  const begin = performance.now();
  index.settle();
  const made = index.take();
  const compileMs = performance.now() - begin;
  const objects = new Map(made.flatMap(({ key, object }) => (object ? [[key, object] as const] : [])));
  using network = new TestNetwork();
  const name = network.namespace("kernel");
  const first: number[] = [];
  const charged: number[] = [];
  const slabs: number[] = [];
  let listed = new Map<string, RulesetObject>();
  const plain = nft(["ip", "netns", "exec", name, "nft"]);
  for (let at = 0; at < rounds; at++) {
    using group = new Charged();
    const write = nft(group.around(["ip", "netns", "exec", name, "nft"]));
    const before = await settled(slab);
    const from = performance.now();
    await write(transaction([...objects.values()].map(after => ({ before: undefined, after }))));
    first.push(performance.now() - from);
    const held = group.octets();
    if (held !== undefined) charged.push(await settled(() => group.octets()!));
    slabs.push((await settled(slab)) - before);
    listed = parseListing(await plain([{ list: { table: { family: "inet", name: TABLE } } }]));
    if (at < rounds - 1) await plain([deleteTable("inet", TABLE)]);
  }
  if (listed.size !== objects.size) throw new Error(`the kernel lists ${listed.size} objects where ${objects.size} were written`);
  const changeMs = median(await change(index, far, objects, changes, plain));
  const all = [...listed.values()];
  const of = (...kinds: RulesetObject["kind"][]) => all.filter(({ kind }) => kinds.includes(kind)).length;
  return {
    ...size,
    ...{ compileMs: round(compileMs, 0), firstMs: round(median(first), 0), changeMs: round(changeMs, 1) },
    ...{ chains: of("chain"), sets: of("set", "map"), counters: of("counter") },
    rules: all.reduce((sum, one) => sum + (one.kind === "chain" ? one.rules.length : 0), 0),
    elements: all.reduce((sum, one) => sum + ("elements" in one ? one.elements.size : 0), 0),
    ...(charged.length > 0 && { chargedKB: round(median(charged) / 1024, 0) }),
    slabKB: round(median(slabs) / 1024, 0),
  };
}

/** Milliseconds from another label of a pod until nft has put the difference into the kernel. */
async function change(
  index: PolicyIndex,
  pods: readonly PolicyPod[],
  objects: Map<string, RulesetObject>,
  changes: number,
  write: ReturnType<typeof nft>,
): Promise<number[]> {
  const times: number[] = [];
  for (let at = 0; times.length < changes && at < pods.length * 2; at++) {
    const pod = pods[at % pods.length];
    const from = performance.now();
    index.setPod({ ...pod, labels: { ...pod.labels, app: APPS[(at + 1) % APPS.length] } });
    index.settle();
    const changed = index.take();
    // Some pods no rule finds.
    if (changed.length === 0) continue;
    await write(transaction(changed.map(({ key, object }) => ({ before: objects.get(key), after: object }))));
    times.push(performance.now() - from);
    for (const { object } of changed) if (object) objects.set(objectKey(object), object);
  }
  return times;
}

function readSize(word: string): Size | undefined {
  const [, pods, local] = (/^(\d+)\/(\d+)$/.exec(word) ?? []).map(Number);
  return pods >= 10 && pods <= 50_000 && local >= 1 && local <= pods ? { pods, local } : undefined;
}

async function run(values: Values): Promise<void> {
  const byDefault = ["1000/1000", "1000/20", "5000/110"].map(word => readSize(word)!);
  const sizes = list(values, "nodes", byDefault, "PODS/LOCAL (10..50000, 1..PODS)", readSize);
  const policies = count(values, "policies", 500, 5000, 10);
  const namespaces = count(values, "namespaces", 50, 1000);
  const rounds = count(values, "rounds", 5, 100);
  const changes = count(values, "changes", 20, 1000);
  if (sizes.length > 10) throw new UsageError("--nodes: ten at most");
  needRoot();
  const facts = machine();
  const figures: Figures[] = [];
  for (const size of sizes) figures.push(await measure(size, policies, namespaces, rounds, changes));
  if (values.json) {
    console.log(JSON.stringify({ bench: "policy-kernel", machine: facts, policies, namespaces, rounds, changes, figures }));
    return;
  }
  console.log(`${describeMachine(facts)}\n${policies} policies in ${namespaces} namespaces, IPv4 and IPv6; medians of ${rounds}\n`);
  printTable(
    [
      "pods",
      "here",
      "chains",
      "rules",
      "sets",
      "elements",
      "counters",
      "compiled, ms",
      "first nft, ms",
      "a change, ms",
      "kernel, KiB",
      "slab, KiB",
    ],
    figures.map(one =>
      [
        ...[one.pods, one.local, one.chains, one.rules, one.sets, one.elements, one.counters, one.compileMs, one.firstMs, one.changeMs],
        ...[one.chargedKB ?? "–", one.slabKB],
      ].map(String),
    ),
    0,
  );
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  await program("policy-kernel", USAGE, { nodes: text, policies: text, namespaces: text, rounds: text, changes: text }, run);
}
