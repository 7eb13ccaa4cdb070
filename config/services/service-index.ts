/**
 * Services with what their endpoints come to on this node, kept in step object by object: one endpoint that changes costs one Service. Who listens hears of
 * a Service only when something that is read of it is another one.
 */
import type { IpFamily } from "../../net/address.ts";
import { keyOf, type RawObject, readLabels, readService, readSlice, type SliceView } from "./read.ts";
import type { Endpoints, ServiceLookup, ServiceView } from "./types.ts";

interface Entry {
  view?: ServiceView;
  /** JSON of it. */
  text: string;
  slices: Map<string, SliceView>;
  endpoints: Endpoints;
}

const nothing = { localReady: 0, localServing: 0, anyReady: false, anyServing: false };
const noEndpoints: Endpoints = { 4: nothing, 6: nothing };

export class ServiceIndex implements ServiceLookup {
  /** undefined: of none, as for what looks at the whole cluster. */
  readonly #node: string | undefined;
  readonly #entries = new Map<string, Entry>();
  /** The Service of each slice. */
  readonly #serviceOf = new Map<string, string>();
  readonly #namespaces = new Map<string, { labels: Record<string, string>; text: string }>();
  readonly #changed = new Set<string>();
  #listener: ((changed: ReadonlySet<string>) => void) | undefined;
  #complete = false;

  constructor(node: string | undefined) {
    this.#node = node;
  }

  *services(): Generator<ServiceView> {
    for (const { view } of this.#entries.values()) if (view) yield view;
  }

  service(key: string): ServiceView | undefined {
    return this.#entries.get(key)?.view;
  }

  endpoints(key: string): Endpoints {
    return this.#entries.get(key)?.endpoints ?? noEndpoints;
  }

  /** Nodes with ready endpoints, and how many, each counted once. */
  readyByNode(key: string, family: IpFamily): Map<string, number> {
    const seen = new Set<string>();
    const counts = new Map<string, number>();
    for (const slice of this.#entries.get(key)?.slices.values() ?? []) {
      if (slice.family !== family) continue;
      for (const { address, node, ready } of slice.endpoints) {
        if (!ready || node === undefined || seen.has(address)) continue;
        seen.add(address);
        counts.set(node, (counts.get(node) ?? 0) + 1);
      }
    }
    return counts;
  }

  namespaceLabels(name: string): Record<string, string> | undefined {
    return this.#namespaces.get(name)?.labels;
  }

  /** Replaces the one before. It hears keys of Services that are new, gone or others. */
  listen(listener: (changed: ReadonlySet<string>) => void): void {
    this.#listener = listener;
  }

  setService(object: RawObject): void {
    const view = readService(object);
    const entry = this.#entry(view.key);
    const text = JSON.stringify(view);
    if (entry.text === text) return;
    entry.view = view;
    entry.text = text;
    this.#changed.add(view.key);
  }

  deleteService(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry?.view) return;
    delete entry.view;
    entry.text = "";
    this.#changed.add(key);
    this.#forget(key, entry);
  }

  setSlice(object: RawObject): void {
    const key = keyOf(object);
    const slice = readSlice(object);
    const before = this.#serviceOf.get(key);
    if (before !== undefined && before !== slice?.service) this.deleteSlice(key);
    if (!slice) return;
    const entry = this.#entry(slice.service);
    entry.slices.set(key, slice);
    this.#serviceOf.set(key, slice.service);
    this.#count(slice.service, entry);
  }

  deleteSlice(key: string): void {
    const service = this.#serviceOf.get(key);
    const entry = service === undefined ? undefined : this.#entries.get(service);
    if (service === undefined || !entry) return;
    this.#serviceOf.delete(key);
    entry.slices.delete(key);
    this.#count(service, entry);
    this.#forget(service, entry);
  }

  setNamespace(object: RawObject): void {
    const labels = readLabels(object);
    const text = JSON.stringify(labels);
    const { name } = object.metadata;
    if (this.#namespaces.get(name)?.text === text) return;
    this.#namespaces.set(name, { labels, text });
    this.#namespaceChanged(name);
  }

  deleteNamespace(name: string): void {
    if (this.#namespaces.delete(name)) this.#namespaceChanged(name);
  }

  /** They are not known any more. */
  forgetNamespaces(): void {
    for (const name of [...this.#namespaces.keys()]) this.deleteNamespace(name);
  }

  /** Everything that is not among these is gone: after a reading of all. */
  keepOnly(services: ReadonlySet<string>, slices: ReadonlySet<string>, namespaces: ReadonlySet<string>): void {
    for (const key of [...this.#serviceOf.keys()]) if (!slices.has(key)) this.deleteSlice(key);
    for (const key of [...this.#entries.keys()]) if (!services.has(key)) this.deleteService(key);
    for (const name of [...this.#namespaces.keys()]) if (!namespaces.has(name)) this.deleteNamespace(name);
  }

  /** All that the source has was told, at least once: what is not in here is not there. */
  get complete(): boolean {
    return this.#complete;
  }

  /** Tells what has changed since; the first time, which comes when all was told, also where that is nothing. */
  settle(): void {
    if (this.#changed.size === 0 && this.#complete) return;
    this.#complete = true;
    const changed = new Set(this.#changed);
    this.#changed.clear();
    this.#listener?.(changed);
  }

  #entry(key: string): Entry {
    let entry = this.#entries.get(key);
    if (!entry) {
      entry = { text: "", slices: new Map(), endpoints: noEndpoints };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  #forget(key: string, { view, slices }: Entry): void {
    if (!view && slices.size === 0) this.#entries.delete(key);
  }

  #namespaceChanged(name: string): void {
    for (const [key, { view }] of this.#entries) if (view?.namespace === name) this.#changed.add(key);
  }

  #count(key: string, entry: Entry): void {
    const endpoints: Endpoints = { 4: this.#countsOf(entry, 4), 6: this.#countsOf(entry, 6) };
    if (JSON.stringify(endpoints) === JSON.stringify(entry.endpoints)) return;
    entry.endpoints = endpoints;
    if (entry.view) this.#changed.add(key);
  }

  #countsOf({ slices }: Entry, family: IpFamily) {
    const [ready, serving] = [new Set<string>(), new Set<string>()];
    let [anyReady, anyServing] = [false, false];
    for (const slice of slices.values()) {
      if (slice.family !== family) continue;
      for (const one of slice.endpoints) {
        anyReady ||= one.ready;
        anyServing ||= one.ready || one.serving;
        if (this.#node === undefined || one.node !== this.#node) continue;
        if (one.ready) ready.add(one.address);
        if (one.ready || one.serving) serving.add(one.address);
      }
    }
    return { localReady: ready.size, localServing: serving.size, anyReady, anyServing };
  }
}
