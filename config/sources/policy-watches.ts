/**
 * NetworkPolicies, cluster policies where they are installed, and what they are about, followed at the API server for a PolicySink: pods of this node always,
 * since a pod is attached only once it is known which policies select it; other pods and namespaces only while there is a policy. Of an object nothing is kept
 * but what decides. What was last heard stays while the server is away.
 */
import { type Collection, ListWatch, type ListWatchParts } from "../../kubernetes/list-watch.ts";
import { Backoff } from "../../kubernetes/pace.ts";
import type { ApiError, ApiObject } from "../../kubernetes/types.ts";
import type { PolicyNode, PolicyPod, PolicySink } from "../../netfilter/policy/types.ts";
import type { Timer } from "../../platform/clock.ts";
import type { Problem } from "../plan.ts";
import { checkPolicyObject, type PolicyObject, readPod, readPolicyNode } from "../resources/policy-documents.ts";
import { formatPath } from "../resources/validate.ts";
import { type ClusterKind, clusterKinds, installedKinds } from "./cluster-policies.ts";
import { Gatherer } from "./gatherer.ts";
import { PodOwners } from "./pod-owners.ts";
import { deleteObject, type PolicyFeed, setObject } from "./policy-feed.ts";

/** Milliseconds of quiet after a change before it is told, and the longest that changes are gathered: a rolling update is one change and not twenty. */
const QUIET = 5;
const LONGEST = 50;
/** Milliseconds for which other pods are followed after the last policy is gone: one that is replaced is back at once. */
const LINGER = 60_000;
/** Milliseconds, on average, until it is looked again which kinds of cluster policies there are: for thousands of agents, some requests a second. */
const LOOK_AGAIN = 300_000;
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
/** A pod is some 5 to 15 kB. */
const PODS_OF_A_PAGE = 100;
/** Faults of one object that are told. */
const MAX_FAULTS = 50;
/** Sets of labels that are held in common by the pods that have them. */
const MAX_LABEL_SETS = 10_000;

const NAMESPACES: Collection = { path: "/api/v1/namespaces", name: "namespaces", page: 200 };
const NETWORK_POLICIES: Collection = {
  path: "/apis/networking.k8s.io/v1/networkpolicies",
  name: "networkpolicies.networking.k8s.io",
  page: 200,
};

export interface PolicyWatchOptions {
  node: string;
  /** What can be asked of this has changed: failures, problems, lists of a watch. */
  changed(): void;
}

/** A policy as it is known: in force, or not readable. */
interface Entry {
  object?: PolicyObject;
  /** A version of it was a good one. */
  isGood: boolean;
  problems: Problem[];
}

export class PolicyWatches implements PolicyFeed {
  readonly #options: PolicyWatchOptions;
  readonly #parts: ListWatchParts;
  #sink: PolicySink | undefined;
  readonly #cluster = new Map<ClusterKind, ListWatch>();
  /** Kinds that are followed in another version by now: what the former one knew may be gone. */
  readonly #replaced = new Set<ClusterKind>();
  #policies: ListWatch | undefined;
  #own: ListWatch | undefined;
  /** While there is a policy. */
  #others: ListWatch | undefined;
  #namespaces: ListWatch | undefined;
  /** While a cluster policy names nodes. */
  #nodes: ListWatch | undefined;
  #self: PolicyNode | undefined;
  /** By "Kind/key". */
  readonly #entries = new Map<string, Entry>();
  readonly #owners = new PodOwners();
  readonly #labels = new Map<string, PolicyPod["labels"]>();
  readonly #gatherer: Gatherer;
  readonly #backoff: Backoff;
  /** It is known which kinds of cluster policies there are; else, why not. */
  #discovered: true | ApiError | undefined;
  #lookAgain: Timer | undefined;
  #linger: Timer | undefined;

  constructor(parts: ListWatchParts, options: PolicyWatchOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#gatherer = new Gatherer(parts.clock, { quiet: QUIET, longest: LONGEST }, () => this.#settle());
    this.#backoff = new Backoff({ first: FIRST_PAUSE, longest: LONGEST_PAUSE, random: parts.random });
  }

  follow(sink: PolicySink): void {
    if (this.#sink) return;
    this.#sink = sink;
    if (this.#self) sink.setNode(this.#self);
    this.#policies = this.#followPolicies("NetworkPolicy", "networking.k8s.io/v1", NETWORK_POLICIES);
    const { node } = this.#options;
    this.#own = this.#followPods(`pods of ${node}`, `spec.nodeName=${node}`, true);
    void this.#discover();
  }

  stop(): void {
    if (!this.#sink) return;
    void this.close();
    this.#sink = undefined;
    this.#policies = undefined;
    this.#own = undefined;
    this.#others = undefined;
    this.#namespaces = undefined;
    this.#nodes = undefined;
    this.#cluster.clear();
    this.#replaced.clear();
    this.#entries.clear();
    this.#owners.clear();
    this.#labels.clear();
    this.#discovered = undefined;
    this.#options.changed();
  }

  /** The Node of this node, which the source follows anyway. */
  setSelf(node: ApiObject | undefined): void {
    if (!node) return;
    this.#self = readPolicyNode(node);
    this.#sink?.setNode(this.#self);
    this.#gatherer.changed();
  }

  /** The sink stays as it is. */
  async close(): Promise<void> {
    this.#gatherer.cancel();
    this.#lookAgain?.cancel();
    this.#linger?.cancel();
    await Promise.all(this.watches.map(watch => watch.close()));
    this.#gatherer.cancel();
  }

  get watches(): ListWatch[] {
    const all = [this.#policies, this.#own, this.#others, this.#namespaces, this.#nodes, ...this.#cluster.values()];
    return all.filter(watch => watch !== undefined);
  }

  missing(): string | undefined {
    if (!this.#sink) return "nobody follows policies";
    const failed = this.watches.flatMap(({ synced, failed: why, collection }) =>
      synced ? [] : [`${collection.name}: ${why?.error.message ?? "not all sent yet"}`],
    );
    const unknown = this.#discovered === true ? [] : [`cluster policies: ${this.#discovered?.message ?? "not asked yet"}`];
    const all = [...failed, ...unknown];
    return all.length > 0 ? `not heard from the API server: ${all.join("; ")}` : undefined;
  }

  problems(): Problem[] {
    return [...this.#entries.values()].flatMap(({ problems }) => problems);
  }

  /** Before its lists are asked for again. */
  relook(): void {
    if (!this.#sink) return;
    this.#backoff.reset();
    void this.#discover();
  }

  /** Until all is known nothing is settled, so that nobody is shut out, or let in, who is not known yet. */
  #settle(): void {
    for (const kind of this.#replaced) this.#dropUnknown(kind);
    this.#needOthers();
    if (this.missing() === undefined) this.#sink?.settle();
  }

  #needOthers(): void {
    const isWanted = this.#entries.size > 0;
    if (isWanted) {
      this.#linger?.cancel();
      this.#linger = undefined;
      const { node } = this.#options;
      // Of those that wait for a node, or have ended, no packet can come.
      const selector = `spec.nodeName!=,spec.nodeName!=${node},status.phase!=Succeeded,status.phase!=Failed`;
      this.#others ??= this.#followPods("pods of other nodes", selector, false);
      this.#namespaces ??= this.#followNamespaces();
      if (this.#namesNodes()) this.#nodes ??= this.#followNodes();
    } else if (this.#others && !this.#linger) this.#linger = this.#parts.clock.after(LINGER, () => this.#releaseOthers());
  }

  #releaseOthers(): void {
    this.#linger = undefined;
    if (this.#entries.size > 0) return;
    const closed = [this.#others, this.#namespaces, this.#nodes];
    const [, namespaces = [], nodes = []] = closed.map(watch => watch?.keys());
    for (const watch of closed) void watch?.close();
    this.#others = undefined;
    this.#namespaces = undefined;
    this.#nodes = undefined;
    for (const key of this.#owners.clearOthers()) this.#sink?.deletePod(key);
    for (const name of namespaces) this.#sink?.deleteNamespace(name);
    for (const name of nodes) this.#sink?.deleteNode(name);
    this.#gatherer.changed();
  }

  /** `isCurrent`: what it says still counts. */
  #follow(
    collection: Collection,
    isCurrent: (watch: ListWatch) => boolean,
    set: (object: ApiObject) => void,
    forget: (key: string) => void,
  ) {
    let before = "";
    const watch = new ListWatch(collection, this.#parts, {
      set: object => isCurrent(watch) && set(object),
      delete: key => isCurrent(watch) && forget(key),
      settled: () => {
        if (!isCurrent(watch)) return;
        this.#gatherer.changed();
        const { lists, failed, missing } = watch;
        const state = `${lists} ${missing.size} ${failed?.since} ${failed?.error.message}`;
        if (state === before) return;
        before = state;
        this.#options.changed();
      },
    });
    watch.start();
    return watch;
  }

  #followNamespaces(): ListWatch {
    const set = ({ metadata: { name, labels = {} } }: ApiObject) => this.#sink?.setNamespace({ name, labels });
    return this.#follow(
      NAMESPACES,
      watch => this.#namespaces === watch,
      set,
      name => this.#sink?.deleteNamespace(name),
    );
  }

  #followNodes(): ListWatch {
    const collection = { path: "/api/v1/nodes", name: "nodes", page: 100, fieldSelector: `metadata.name!=${this.#options.node}` };
    const set = (node: ApiObject) => this.#sink?.setNode(readPolicyNode(node));
    return this.#follow(
      collection,
      watch => this.#nodes === watch,
      set,
      name => this.#sink?.deleteNode(name),
    );
  }

  #namesNodes(): boolean {
    return [...this.#entries.values()].some(
      ({ object }) =>
        object &&
        object.kind !== "Pod" &&
        object.kind !== "NetworkPolicy" &&
        object.read.egress.some(({ peers }) => peers.some(peer => "nodes" in peer)),
    );
  }

  #followPods(name: string, fieldSelector: string, own: boolean): ListWatch {
    const collection = { path: "/api/v1/pods", name, fieldSelector, page: PODS_OF_A_PAGE };
    const isCurrent = (watch: ListWatch) => (own ? this.#own : this.#others) === watch;
    const forget = (key: string) => {
      if (this.#owners.release(key, own)) this.#sink?.deletePod(key);
    };
    const set = (object: ApiObject) => {
      const pod = readPod(object, []);
      if (!own && (pod.ended || pod.hostNetwork)) return forget(pod.key);
      if (this.#owners.claim(pod.key, object.metadata.resourceVersion, own))
        this.#sink?.setPod({ ...pod, labels: this.#shared(pod.labels) });
    };
    return this.#follow(collection, isCurrent, set, forget);
  }

  /** Pods of one Deployment have the same labels. */
  #shared(labels: PolicyPod["labels"]): PolicyPod["labels"] {
    const text = JSON.stringify(labels);
    if (this.#labels.size >= MAX_LABEL_SETS) this.#labels.clear();
    const found = this.#labels.get(text) ?? labels;
    this.#labels.set(text, found);
    return found;
  }

  #followPolicies(kind: PolicyObject["kind"], apiVersion: string, collection: Collection): ListWatch {
    const isCurrent = (watch: ListWatch) => this.#policies === watch || this.#cluster.get(kind as ClusterKind) === watch;
    return this.#follow(
      collection,
      isCurrent,
      object => this.#setPolicy(`${kind}/${keyOf(object)}`, { ...object, kind, apiVersion }),
      key => this.#deletePolicy(`${kind}/${key}`),
    );
  }

  #setPolicy(key: string, given: ApiObject): void {
    const before = this.#entries.get(key);
    const { object, closed, faults = [], warnings = [] } = checkPolicyObject(given) ?? {};
    const tell =
      (severity: Problem["severity"], effect: string) =>
      (one: (typeof faults)[number]): Problem => {
        const { path, reason = "InvalidValue", message, remedy } = one;
        return { severity, reason, object: key, field: formatPath(path), message: `${message}${effect}`, remedy };
      };
    const effect = before?.isGood
      ? "; its last good version stays in force"
      : closed
        ? "; the rest is in force, which lets less through"
        : "; nothing of it is in force";
    const problems = [...faults.slice(0, MAX_FAULTS).map(tell("error", effect)), ...warnings.slice(0, MAX_FAULTS).map(tell("warning", ""))];
    const used = object ?? (before?.isGood ? before.object : closed);
    this.#entries.set(key, { isGood: object !== undefined || before?.isGood === true, problems, ...(used && { object: used }) });
    if (used && used !== before?.object && this.#sink) setObject(this.#sink, used);
    if (problems.length > 0 || (before && before.problems.length > 0)) this.#options.changed();
  }

  #deletePolicy(key: string): void {
    const before = this.#entries.get(key);
    this.#entries.delete(key);
    if (before?.object && this.#sink) deleteObject(this.#sink, before.object);
    if (before && before.problems.length > 0) this.#options.changed();
  }

  /** Once all were said in the new version. */
  #dropUnknown(kind: ClusterKind): void {
    const watch = this.#cluster.get(kind);
    if (watch && !watch.synced) return;
    this.#replaced.delete(kind);
    const there = new Set(watch?.keys().map(key => `${kind}/${key}`));
    for (const key of this.#entries.keys()) if (key.startsWith(`${kind}/`) && !there.has(key)) this.#deletePolicy(key);
  }

  async #discover(): Promise<void> {
    const sink = this.#sink;
    this.#lookAgain?.cancel();
    let pause = LOOK_AGAIN * (0.5 + this.#parts.random());
    try {
      const installed = await installedKinds(this.#parts.client);
      if (this.#sink !== sink) return;
      this.#backoff.reset();
      this.#discovered = true;
      for (const kind of clusterKinds) this.#followKind(kind, installed.get(kind));
    } catch (error) {
      if (this.#sink !== sink) return;
      if (this.#discovered !== true) this.#discovered = error as ApiError;
      pause = this.#backoff.next(error as ApiError);
    }
    this.#gatherer.changed();
    this.#options.changed();
    this.#lookAgain?.cancel();
    this.#lookAgain = this.#parts.clock.after(pause, () => void this.#discover());
  }

  /** A server that starts does not know its kinds for a moment: what is in force stays until each object is said to be gone. */
  #followKind(kind: ClusterKind, installed: (Collection & { apiVersion: string }) | undefined): void {
    const present = this.#cluster.get(kind);
    if (installed && present?.collection.path !== installed.path) {
      const { path, name } = installed;
      void present?.close();
      if (present) this.#replaced.add(kind);
      this.#cluster.set(kind, this.#followPolicies(kind, installed.apiVersion, { path, name }));
    } else if (!installed && present && ![...this.#entries.keys()].some(key => key.startsWith(`${kind}/`))) {
      this.#cluster.delete(kind);
      void present.close();
    }
  }
}

function keyOf({ metadata: { namespace, name } }: ApiObject): string {
  return namespace ? `${namespace}/${name}` : name;
}
