/**
 * Objects from the API server: our kinds, this node's Node and as many others as the topology needs, and the Secrets that this node's sessions name; Services
 * while an Advertisement of this node is for them. What was last heard stays in force while the server is away; nothing is delivered before all of it was
 * heard once.
 */
import type { ApiClient } from "../../kubernetes/client.ts";
import { type Collection, ListWatch, type ListWatchParts } from "../../kubernetes/list-watch.ts";
import type { ApiObject } from "../../kubernetes/types.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { type NodeNeeds, neededServices, type ServiceNeeds } from "../compile/needs.ts";
import { apiVersion, GROUP } from "../resources/common.ts";
import { type AnyResource, collect, kindRows, type Resources } from "../resources/kinds.ts";
import { ServiceIndex } from "../services/service-index.ts";
import { Gatherer } from "./gatherer.ts";
import { labelSelectorText } from "./label-selector.ts";
import { neededSecrets } from "./needed-secrets.ts";
import { ObjectStore } from "./object-store.ts";
import { PolicyWatches } from "./policy-watches.ts";
import { ServiceWatches } from "./service-watches.ts";
import type { ResourceListener, ResourceSource } from "./source.ts";
import { failureText, watchProblems } from "./watch-problems.ts";

export interface KubernetesOptions {
  /** Name of this node. */
  node: string;
  /** Where the Secrets are. */
  namespace: string;
  needs(resources: Resources, node: string): NodeNeeds;
  /** This node's own Node object as it is, each time that it comes; undefined: it was deleted. */
  selfSeen?(node: ApiObject | undefined): void;
}

export interface KubernetesParts {
  client: ApiClient;
  clock: Clock;
  log: Logger;
  /** 0 up to 1. */
  random(): number;
}

/** Milliseconds of quiet after a change before it is told, and the longest that changes are gathered. */
const QUIET = 10;
const LONGEST = 1000;
/** Milliseconds until start() gives up waiting; the source goes on. */
const PATIENCE = 5000;
/** Milliseconds that reload() waits for new lists. */
const RELOAD_BOUND = 10_000;
/** Whole Node objects are 10 to 50 kB each, with their images and conditions. */
const NODES_OF_A_PAGE = 100;
/** So many selectors for nodes are a watch each; more are all nodes. */
const MAX_SELECTORS = 8;
/** A connection carries some hundred streams. Where more Secrets are needed, all of the namespace are followed, and those that are needed are used. */
const MAX_SECRET_WATCHES = 32;
const ALL_SECRETS = "";

/** A collection with what is known of it. */
interface Followed {
  watch: ListWatch;
  store: ObjectStore;
}

export class KubernetesSource implements ResourceSource {
  readonly authoritative = true;
  /** Empty while this node announces none. */
  readonly services: ServiceIndex;
  readonly policies: PolicyWatches;
  readonly #options: KubernetesOptions;
  readonly #parts: KubernetesParts;
  /** Kinds of our own, by kind. */
  readonly #kinds = new Map<string, Followed>();
  #self: Followed | undefined;
  /** Other nodes, by selector; those that are not needed any more stay until the new ones are known. */
  #nodes = new Map<string, Followed>();
  #nextNodes: Map<string, Followed> | undefined;
  /** Selectors that the server does not take, such as one with a key that is none: all nodes are followed, and the plan says what they select. */
  readonly #refused = new Set<string>();
  readonly #secrets = new Map<string, Followed>();
  /** Of those that are needed, in order. */
  #secretNames: readonly string[] = [];
  #services: ServiceWatches | undefined;
  /** By the present objects. */
  #serviceNeeds: ServiceNeeds | undefined;
  #listener: ResourceListener | undefined;
  #waiting: { resolve(): void; reject(error: Error): void } | undefined;
  readonly #gatherer: Gatherer;
  #delivered = "";
  /** What was delivered last. */
  #resources: Resources | undefined;
  /** Something that objects say has changed since the last delivery. */
  #dirty = true;
  /** While reload() waits for new lists. */
  #reloaded: (() => void) | undefined;
  #closed = false;

  constructor(options: KubernetesOptions, parts: KubernetesParts) {
    this.#options = options;
    this.#parts = parts;
    this.services = new ServiceIndex(options.node);
    this.policies = new PolicyWatches(parts, { node: options.node, changed: () => this.#changed() });
    this.#gatherer = new Gatherer(parts.clock, { quiet: QUIET, longest: LONGEST }, () => this.#tell());
  }

  /** Rejects at the first failure, or when the server is slow; it is tried for ever all the same, and may be started again to wait further. */
  async start(listener: ResourceListener): Promise<void> {
    this.#listener = listener;
    if (this.#resources || this.#closed) return;
    const first = !this.#self;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting = { resolve, reject };
    const patience = this.#parts.clock.after(PATIENCE, () => reject(new Error(this.#whyNot())));
    try {
      if (first) this.#open();
      else if (this.#blocking() !== undefined) reject(new Error(this.#whyNot()));
      await promise;
    } finally {
      patience.cancel();
      this.#waiting = undefined;
    }
  }

  async reload(): Promise<void> {
    this.policies.relook();
    const all = this.#watches();
    const { promise, resolve } = Promise.withResolvers<void>();
    const bound = this.#parts.clock.after(RELOAD_BOUND, resolve);
    const before = all.map(watch => watch.lists);
    for (const watch of all) watch.relist();
    this.#reloaded = () => {
      if (all.every((watch, i) => watch.failed || watch.lists > before[i])) resolve();
    };
    await promise;
    bound.cancel();
    this.#reloaded = undefined;
    this.#tell();
  }

  age(): number {
    const others = [...(this.#services?.watches ?? []), ...this.policies.watches].filter(({ synced }) => synced);
    return Math.max(0, ...[...this.#followed().map(({ watch }) => watch), ...others].map(watch => watch.age));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#gatherer.cancel();
    this.#waiting?.reject(new Error("the source was closed"));
    await Promise.all([...this.#followed().map(({ watch }) => watch.close()), this.#services?.close(), this.policies.close()]);
    this.#parts.client.close();
  }

  #open(): void {
    for (const { kind, plural, collection: isRead } of kindRows) {
      if (isRead === undefined) continue;
      const collection = { path: `/apis/${apiVersion}/${plural}`, name: `${plural}.${GROUP}` };
      this.#kinds.set(kind, this.#follow(collection, new ObjectStore(apiVersion, kind)));
    }
    this.#self = this.#followNodes({ fieldSelector: `metadata.name=${this.#options.node}` }, node => {
      this.policies.setSelf(node);
      this.#options.selfSeen?.(node);
    });
    for (const { watch } of this.#followed()) watch.start();
  }

  #follow(collection: Collection, store: ObjectStore, seen?: (object: ApiObject | undefined) => void): Followed {
    const parts: ListWatchParts = this.#parts;
    const changed = (really: boolean) => {
      this.#dirty ||= really;
    };
    const watch = new ListWatch(collection, parts, {
      set: object => {
        changed(store.set(object));
        seen?.(object);
      },
      delete: key => {
        // Secrets are all of one namespace.
        changed(store.delete(key.slice(key.indexOf("/") + 1)));
        seen?.(undefined);
      },
      settled: () => this.#changed(),
    });
    return { watch, store };
  }

  #followNodes(selectors: { labelSelector?: string; fieldSelector?: string }, seen?: (node: ApiObject | undefined) => void): Followed {
    const collection = { path: "/api/v1/nodes", name: "nodes", page: NODES_OF_A_PAGE, ...selectors };
    return this.#follow(collection, new ObjectStore("v1", "Node"), seen);
  }

  #followed(): Followed[] {
    const self = this.#self ? [this.#self] : [];
    return [...this.#kinds.values(), ...self, ...this.#nodes.values(), ...(this.#nextNodes?.values() ?? []), ...this.#secrets.values()];
  }

  #watches(): ListWatch[] {
    return [...this.#followed().map(({ watch }) => watch), ...(this.#services?.watches ?? []), ...this.policies.watches];
  }

  /** Gathers what comes at once. */
  #changed(): void {
    if (this.#closed) return;
    this.#reloaded?.();
    this.#gatherer.changed();
  }

  #tell(): void {
    if (this.#closed) return;
    this.#gatherer.cancel();
    this.#settleNeeds();
    if (!this.#isComplete()) {
      if (this.#blocking() !== undefined) this.#waiting?.reject(new Error(this.#whyNot()));
      if (!this.#resources) return;
    }
    this.#deliver();
    // A plan that needs them is in force until the listener has got these objects.
    if (!this.#dirty && !this.#isWaiting()) this.#releaseServices();
  }

  /** Follows what the present objects make needed, and no more what they do not; Services until that is delivered. */
  #settleNeeds(): void {
    if (![...this.#kinds.values()].every(({ watch }) => watch.synced) || !this.#self?.watch.synced) return;
    const known = collect([...this.#kinds.values(), this.#self].flatMap(({ store }) => [...store.objects()])).resources;
    const own = { ...known, partialNodes: true };
    this.#needSecrets(own);
    this.#needNodes(own);
    this.#needServices(own);
  }

  #needSecrets(own: Resources): void {
    const { node, namespace } = this.#options;
    const names = neededSecrets(own, own.nodes.get(node)?.metadata.labels ?? {});
    this.#dirty ||= names.join() !== this.#secretNames.join();
    this.#secretNames = names;
    const watched = names.length > MAX_SECRET_WATCHES ? [ALL_SECRETS] : names;
    for (const [name, { watch }] of this.#secrets) {
      if (watched.includes(name)) continue;
      this.#secrets.delete(name);
      this.#dirty = true;
      void watch.close();
    }
    for (const name of watched) {
      if (this.#secrets.has(name)) continue;
      const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
      const one = { name: `Secret ${namespace}/${name}`, fieldSelector: `metadata.name=${name}` };
      const collection = { path, ...(name === ALL_SECRETS ? { name: `Secrets of ${namespace}` } : one) };
      const followed = this.#follow(collection, new ObjectStore("v1", "Secret"));
      this.#secrets.set(name, followed);
      followed.watch.start();
    }
  }

  #needNodes(own: Resources): void {
    const needs = this.#options.needs(own, this.#options.node);
    const selectors = needs === "all" ? [""] : needs.selectors.map(labelSelectorText);
    for (const [selector, { watch }] of this.#nextNodes ?? []) if (watch.failed?.error.status === 400) this.#refused.add(selector);
    const wanted = new Set(selectors.length > MAX_SELECTORS || selectors.some(one => this.#refused.has(one)) ? [""] : selectors);
    const isSame = (nodes: ReadonlyMap<string, Followed>) => nodes.size === wanted.size && [...wanted].every(one => nodes.has(one));
    if (!this.#nextNodes && isSame(this.#nodes)) return;
    if (!this.#nextNodes || !isSame(this.#nextNodes)) this.#beginNodes(wanted);
    const next = this.#nextNodes;
    if (!next || ![...next.values()].every(({ watch }) => watch.synced)) return;
    for (const [selector, { watch }] of this.#nodes) if (next.get(selector)?.watch !== watch) void watch.close();
    this.#nodes = next;
    this.#nextNodes = undefined;
    this.#dirty = true;
  }

  #needServices(own: Resources): void {
    // One that cannot be read may be in force in a plan that was saved.
    const isUnread = this.#kinds.get("Advertisement")?.store.hasUnread;
    const needs = isUnread ? { namespaces: true } : neededServices(own, this.#options.node);
    this.#serviceNeeds = needs;
    if (!needs) return;
    if (this.#services) {
      if (needs.namespaces) this.#services.setNamespaces(true);
      return;
    }
    this.#services = new ServiceWatches(this.services, this.#parts, { ...needs, changed: () => this.#changed() });
    this.#services.start();
  }

  #releaseServices(): void {
    if (this.#serviceNeeds) {
      this.#services?.setNamespaces(this.#serviceNeeds.namespaces);
      return;
    }
    if (!this.#services) return;
    void this.#services.close();
    this.#services = undefined;
    this.services.forget();
  }

  /** What is needed of them is waited for. */
  #waitsForServices(): boolean {
    return this.#serviceNeeds !== undefined && this.#services?.ready === false;
  }

  #beginNodes(wanted: ReadonlySet<string>): void {
    for (const [selector, { watch }] of this.#nextNodes ?? [])
      if (!wanted.has(selector) && this.#nodes.get(selector)?.watch !== watch) void watch.close();
    const made = (selector: string) => {
      const followed = this.#followNodes(selector === "" ? {} : { labelSelector: selector });
      followed.watch.start();
      return followed;
    };
    const next = [...wanted].map(
      selector => [selector, this.#nextNodes?.get(selector) ?? this.#nodes.get(selector) ?? made(selector)] as const,
    );
    this.#nextNodes = new Map(next);
  }

  /** All that this node needs was heard once. A Secret that cannot be read is a problem of its sessions only. */
  #isComplete(): boolean {
    const self = this.#self?.watch.synced === true;
    const kinds = [...this.#kinds.values()].every(({ watch }) => watch.synced);
    const secrets = [...this.#secrets.values()].every(({ watch }) => watch.synced || watch.failed);
    return self && kinds && secrets && !this.#nextNodes && !this.#waitsForServices();
  }

  /** For nodes, Secrets or Services that the present objects need and that are not known yet. */
  #isWaiting(): boolean {
    return (
      this.#nextNodes !== undefined ||
      this.#waitsForServices() ||
      [...this.#secrets.values()].some(({ watch }) => !watch.synced && !watch.failed)
    );
  }

  #deliver(): void {
    const followed = this.#followed().map(({ watch }) => watch);
    const beside = { services: this.#services?.watches ?? [], policies: this.policies.watches };
    const failed = watchProblems(this.#parts.client.server, followed, beside);
    const problems = [...failed, ...this.#followed().flatMap(({ store }) => [...store.problems()]), ...this.policies.problems()];
    const text = JSON.stringify(problems);
    if (this.#resources && !this.#dirty && text === this.#delivered) return;
    this.#delivered = text;
    // Other objects may need other nodes, and these are not known yet.
    if (!this.#resources || !this.#isWaiting()) this.#resources = this.#collect();
    this.#listener?.(this.#resources, problems);
    this.#waiting?.resolve();
  }

  #collect(): Resources {
    this.#dirty = false;
    // Of a node that two watches show, the first is used: that of its own.
    const order = [...this.#kinds.values(), ...(this.#self ? [this.#self] : []), ...this.#nodes.values(), ...this.#secrets.values()];
    const isUsed = ({ kind, metadata }: AnyResource) => kind !== "Secret" || this.#secretNames.includes(metadata.name);
    const { resources } = collect(order.flatMap(({ store }): AnyResource[] => [...store.objects()].filter(isUsed)));
    return this.#nodes.has("") ? resources : { ...resources, partialNodes: true };
  }

  /** What fails of that which the first delivery waits for. */
  #blocking(): string | undefined {
    const services = this.#waitsForServices() ? (this.#services?.watches ?? []) : [];
    return failureText(this.#parts.client.server, [...this.#followed().map(({ watch }) => watch), ...services]);
  }

  #whyNot(): string {
    return this.#blocking() ?? `the API server ${this.#parts.client.server} has not sent all objects yet`;
  }
}
