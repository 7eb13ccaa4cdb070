/**
 * Services, EndpointSlices and, where their labels are looked at, Namespaces of the API server, followed into a ServiceIndex: for an agent and for the leader.
 * Of the objects nothing is kept but what the index keeps. What was last heard stays while the server is away.
 */
import { type Collection, type Failure, ListWatch, type ListWatchParts } from "../../kubernetes/list-watch.ts";
import type { ApiObject } from "../../kubernetes/types.ts";
import type { Timer } from "../../platform/clock.ts";
import { keyOf } from "../services/read.ts";
import type { ServiceIndex } from "../services/service-index.ts";
import { Gatherer } from "./gatherer.ts";

export interface ServiceWatchOptions {
  /** Labels of namespaces are looked at. */
  namespaces: boolean;
  /** What can be asked of this has changed: synced, ready, failures, lists of a watch. Not each object: the index tells of these. */
  changed?(): void;
  /** Each Service as it comes. */
  seen?(service: ApiObject): void;
}

/**
 * What kube-proxy leaves out as well. Kubernetes puts the label on slices of headless Services, and on no Service: a headless one comes, and has no address.
 * Who labels a Service so takes it from kube-proxy, too.
 */
const NOT_HEADLESS = "!service.kubernetes.io/headless";
const Collections = {
  // With managed fields and annotations a Service has some kB, a slice of 100 endpoints 30 kB.
  services: { path: "/api/v1/services", name: "services", labelSelector: NOT_HEADLESS, page: 200 },
  slices: {
    path: "/apis/discovery.k8s.io/v1/endpointslices",
    name: "endpointslices.discovery.k8s.io",
    labelSelector: NOT_HEADLESS,
    page: 100,
  },
  namespaces: { path: "/api/v1/namespaces", name: "namespaces", page: 200 },
} as const satisfies Record<string, Collection>;

/**
 * Milliseconds of quiet after a change before the index tells it, and the longest that changes are gathered: an endpoint that goes from one slice to another
 * is not gone in between.
 */
const QUIET = 5;
const LONGEST = 50;
/** Milliseconds until a server that fails to give them is waited for no longer. A refusal is not waited for at all. */
const PATIENCE = 10_000;

/** The index is empty when this begins. It is settled once Services and slices are known: what was not heard is not gone. */
export class ServiceWatches {
  readonly #index: ServiceIndex;
  readonly #parts: ListWatchParts;
  readonly #options: ServiceWatchOptions;
  readonly #watches = new Map<keyof typeof Collections, ListWatch>();
  readonly #gatherer: Gatherer;
  #patience: Timer | undefined;
  #started = false;
  #isPatient = true;
  #isTold = false;

  constructor(index: ServiceIndex, parts: ListWatchParts, options: ServiceWatchOptions) {
    this.#index = index;
    this.#parts = parts;
    this.#options = options;
    index.forgetNamespaces();
    this.#gatherer = new Gatherer(parts.clock, { quiet: QUIET, longest: LONGEST }, () => this.#settle());
    const setService = (object: ApiObject) => {
      options.seen?.(object);
      index.setService(object);
    };
    this.#follow("services", setService, index.deleteService.bind(index));
    this.#follow("slices", object => this.#setSlice(object), index.deleteSlice.bind(index));
    if (options.namespaces) this.#followNamespaces();
  }

  get watches(): ListWatch[] {
    return [...this.#watches.values()];
  }

  /** All of them were said once. */
  get synced(): boolean {
    return this.watches.every(({ synced }) => synced);
  }

  /** Nothing else is to wait any longer: all was said once, or the server refuses the rest, or has failed to give it for some time. */
  get ready(): boolean {
    return this.watches.every(watch => watch.synced || isRefused(watch) || (watch.failed && !this.#isPatient));
  }

  get failures(): Failure[] {
    return this.watches.flatMap(({ failed }) => failed ?? []);
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    for (const watch of this.#watches.values()) watch.start();
    this.#bePatient();
  }

  /** From now on labels of namespaces are looked at, or no more. */
  setNamespaces(wanted: boolean): void {
    const watch = this.#watches.get("namespaces");
    if (wanted && !watch) {
      this.#followNamespaces();
      if (this.#started) this.#bePatient();
    }
    if (wanted || !watch) return;
    this.#watches.delete("namespaces");
    void watch.close();
    this.#index.forgetNamespaces();
    this.#gatherer.changed();
  }

  /** The index stays as it is. */
  async close(): Promise<void> {
    this.#patience?.cancel();
    this.#gatherer.cancel();
    await Promise.all(this.watches.map(watch => watch.close()));
    this.#gatherer.cancel();
  }

  /**
   * Slices have names that their controller draws. Where the store went back, it makes others for the endpoints of those that are missing: these would stay
   * for good, and what they say stays true of no pod.
   */
  #setSlice(object: ApiObject): void {
    this.#index.setSlice(object);
    const watch = this.#watches.get("slices");
    if (watch && watch.missing.size > 0) for (const key of this.#index.slicesBeside(keyOf(object))) watch.forget(key);
  }

  #bePatient(): void {
    this.#patience?.cancel();
    this.#isPatient = true;
    this.#patience = this.#parts.clock.after(PATIENCE, () => {
      this.#isPatient = false;
      this.#options.changed?.();
    });
  }

  #followNamespaces(): void {
    this.#follow("namespaces", object => this.#index.setNamespace(object), this.#index.deleteNamespace.bind(this.#index));
    if (this.#started) this.#watches.get("namespaces")?.start();
  }

  #follow(collection: keyof typeof Collections, set: (object: ApiObject) => void, forget: (key: string) => void): void {
    let before = "";
    const watch = new ListWatch(Collections[collection], this.#parts, {
      set: object => this.#watches.get(collection) === watch && set(object),
      delete: key => this.#watches.get(collection) === watch && forget(key),
      settled: () => {
        if (this.#watches.get(collection) !== watch) return;
        this.#gatherer.changed();
        const { lists, failed, missing } = watch;
        const state = `${lists} ${missing.size} ${failed?.since} ${failed?.error.message}`;
        if (state === before) return;
        before = state;
        this.#options.changed?.();
      },
    });
    this.#watches.set(collection, watch);
  }

  /** Before all is known a Service would seem to have no endpoints. Without namespaces all else is known: the index says that these are not. */
  #settle(): void {
    const isSynced = (collection: keyof typeof Collections) => this.#watches.get(collection)?.synced === true;
    if (isSynced("namespaces")) this.#index.knowNamespaces();
    this.#isTold ||= isSynced("services") && isSynced("slices");
    if (this.#isTold) this.#index.settle();
  }
}

/** Not known to the server, or not for us: as with roles of an older version. */
export function isRefused({ failed }: ListWatch): boolean {
  return failed?.error.status === 403 || failed?.error.status === 404;
}
