/**
 * Services with what their endpoints come to on this node, kept in step object by object: one endpoint that changes costs one Service. Who listens hears of
 * a Service only when something that is read of it is another one.
 */
import { isDeepStrictEqual } from "node:util";
import type { IpFamily } from "../../net/address.ts";
import { KeySets } from "./key-sets.ts";
import { type EndpointView, keyOf, type RawObject, readLabels, readService, readSlice, type SliceView } from "./read.ts";
import type { EndpointCounts, Endpoints, ServiceLookup, ServiceView } from "./types.ts";

interface Entry {
  key: string;
  view?: ServiceView;
  slices: StoredSlice[];
  endpoints: Endpoints;
  /** For who looks at the whole cluster. */
  nodes?: NodesByFamily;
}

/** Nodes with endpoints that take new connections, and with those that answer, though they may be about to end: each once, in order. */
export interface EndpointNodes {
  ready: readonly string[];
  serving: readonly string[];
}

type NodesByFamily = Record<IpFamily, EndpointNodes>;

/** Of a slice what is asked for. With 50,000 endpoints in a cluster an agent keeps its own alone. */
interface StoredSlice {
  key: string;
  family: IpFamily;
  anyReady: boolean;
  anyServing: boolean;
  /** Of this node. */
  endpoints: readonly EndpointView[];
  /** Where it is the index of none. Arrays, as sets of so few would take several times the memory. */
  nodes: EndpointNodes;
}

const nothing: EndpointCounts = { localReady: 0, localServing: 0, anyReady: false, anyServing: false };
/** What most Services come to on a node of many. */
const elsewhere: EndpointCounts = { localReady: 0, localServing: 0, anyReady: true, anyServing: true };
const noEndpoints: Endpoints = { 4: nothing, 6: nothing };
const onlyElsewhere: Endpoints = { 4: elsewhere, 6: nothing };
const nowhere: EndpointNodes = { ready: [], serving: [] };
const none: readonly EndpointView[] = [];

export class ServiceIndex implements ServiceLookup {
  /** undefined: of none, as for what looks at the whole cluster. */
  readonly #node: string | undefined;
  readonly #entries = new Map<string, Entry>();
  /** The Service of each slice. */
  readonly #entryOf = new Map<string, Entry>();
  readonly #namespaces = new Map<string, Record<string, string>>();
  /** Services by each of their load-balancer addresses, and of their external ones. */
  readonly #holders = new KeySets();
  readonly #claimants = new KeySets();
  readonly #changed = new Set<string>();
  #listener: ((changed: ReadonlySet<string>) => void) | undefined;
  #complete = false;
  #namespacesKnown = true;

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

  /** For who looks at the whole cluster: an index of a node does not know. */
  endpointNodes(key: string, family: IpFamily): EndpointNodes {
    return this.#entries.get(key)?.nodes?.[family] ?? nowhere;
  }

  /** A source that gives them later than the rest says so. */
  get namespacesKnown(): boolean {
    return this.#namespacesKnown;
  }

  namespaceLabels(name: string): Record<string, string> | undefined {
    return this.#namespaces.get(name);
  }

  holder(address: string, key: string): string | undefined {
    const holders = this.#holders.of(address);
    return holders.includes(key) ? undefined : holders.toSorted()[0];
  }

  /** Replaces the one before. It hears keys of Services that are new, gone or others, or whose external addresses another one has got or lost. */
  listen(listener: (changed: ReadonlySet<string>) => void): void {
    this.#listener = listener;
  }

  /** It is told as one that has changed, though nothing that is read here has. */
  touch(key: string): void {
    this.#changed.add(key);
  }

  setService(object: RawObject): void {
    const view = readService(object);
    const entry = this.#entry(view.key);
    if (isDeepStrictEqual(entry.view, view)) return;
    this.#follow(view.key, entry.view, view);
    entry.view = view;
    this.#changed.add(view.key);
  }

  deleteService(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry?.view) return;
    this.#follow(key, entry.view, undefined);
    delete entry.view;
    this.#changed.add(key);
    this.#forget(entry);
  }

  setSlice(object: RawObject): void {
    const key = keyOf(object);
    const slice = readSlice(object);
    const before = this.#entryOf.get(key);
    if (before && before.key !== slice?.service) this.deleteSlice(key);
    if (!slice) return;
    const entry = this.#entry(slice.service);
    const stored = this.#stored(key, slice);
    const at = entry.slices.findIndex(one => one.key === key);
    if (at < 0) entry.slices.push(stored);
    else entry.slices[at] = stored;
    this.#entryOf.set(key, entry);
    this.#count(entry);
  }

  deleteSlice(key: string): void {
    const entry = this.#entryOf.get(key);
    if (!entry) return;
    this.#entryOf.delete(key);
    entry.slices = entry.slices.filter(one => one.key !== key);
    this.#count(entry);
    this.#forget(entry);
  }

  /** Keys of the other slices of its Service and family. */
  slicesBeside(key: string): string[] {
    const slices = this.#entryOf.get(key)?.slices ?? [];
    const family = slices.find(one => one.key === key)?.family;
    return slices.flatMap(one => (one.key !== key && one.family === family ? [one.key] : []));
  }

  setNamespace(object: RawObject): void {
    const labels = readLabels(object);
    const { name } = object.metadata;
    if (isDeepStrictEqual(this.#namespaces.get(name), labels)) return;
    this.#namespaces.set(name, labels);
    this.#namespaceChanged(name);
  }

  deleteNamespace(name: string): void {
    if (this.#namespaces.delete(name)) this.#namespaceChanged(name);
  }

  /** All of them were told. */
  knowNamespaces(): void {
    if (this.#namespacesKnown) return;
    this.#namespacesKnown = true;
    this.#allChanged();
  }

  /** They are not known, or not any more. */
  forgetNamespaces(): void {
    this.#namespaces.clear();
    if (!this.#namespacesKnown) return;
    this.#namespacesKnown = false;
    this.#allChanged();
  }

  /** Nobody follows them any more: that nothing is in here says nothing, until all was told again. */
  forget(): void {
    this.keepOnly(new Set(), new Set(), new Set());
    this.forgetNamespaces();
    this.#complete = false;
    this.#listener?.(new Set(this.#changed));
  }

  /** Everything that is not among these is gone: after a reading of all. */
  keepOnly(services: ReadonlySet<string>, slices: ReadonlySet<string>, namespaces: ReadonlySet<string>): void {
    for (const key of [...this.#entryOf.keys()]) if (!slices.has(key)) this.deleteSlice(key);
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
      entry = { key, slices: [], endpoints: noEndpoints };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  #forget({ key, view, slices }: Entry): void {
    if (!view && slices.length === 0) this.#entries.delete(key);
  }

  #stored(key: string, { family, endpoints }: SliceView): StoredSlice {
    const own = this.#node === undefined ? none : endpoints.filter(one => one.node === this.#node);
    return {
      key,
      family,
      anyReady: endpoints.some(({ ready }) => ready),
      anyServing: endpoints.some(({ ready, serving }) => ready || serving),
      endpoints: own.length > 0 ? own : none,
      nodes: this.#node === undefined ? nodesOf(endpoints) : nowhere,
    };
  }

  #allChanged(): void {
    for (const [key, { view }] of this.#entries) if (view) this.#changed.add(key);
  }

  #follow(key: string, before: ServiceView | undefined, after: ServiceView | undefined): void {
    for (const address of move(this.#holders, key, heldBy(before), heldBy(after)))
      for (const claimant of this.#claimants.of(address)) this.#changed.add(claimant);
    move(this.#claimants, key, before?.addresses.ExternalIP ?? [], after?.addresses.ExternalIP ?? []);
  }

  #namespaceChanged(name: string): void {
    for (const [key, { view }] of this.#entries) if (view?.namespace === name) this.#changed.add(key);
  }

  #count(entry: Entry): void {
    const [four, six] = [this.#countsOf(entry, 4), this.#countsOf(entry, 6)];
    const { endpoints } = entry;
    const moved = this.#node === undefined && this.#findNodes(entry);
    if (!moved && isSame(four, endpoints[4]) && isSame(six, endpoints[6])) return;
    entry.endpoints = four === elsewhere && six === nothing ? onlyElsewhere : { 4: four, 6: six };
    if (entry.view) this.#changed.add(entry.key);
  }

  /** True: they are others. */
  #findNodes(entry: Entry): boolean {
    const nodes: NodesByFamily = { 4: allNodes(entry, 4), 6: allNodes(entry, 6) };
    const before = entry.nodes ?? { 4: nowhere, 6: nowhere };
    entry.nodes = nodes;
    return !isDeepStrictEqual(nodes, before);
  }

  #countsOf({ slices }: Entry, family: IpFamily): EndpointCounts {
    const [ready, serving] = [new Set<string>(), new Set<string>()];
    let [anyReady, anyServing] = [false, false];
    for (const slice of slices) {
      if (slice.family !== family) continue;
      anyReady ||= slice.anyReady;
      anyServing ||= slice.anyServing;
      if (this.#node === undefined) continue;
      for (const one of slice.endpoints) {
        if (one.ready) ready.add(one.address);
        if (one.ready || one.serving) serving.add(one.address);
      }
    }
    const counts = { localReady: ready.size, localServing: serving.size, anyReady, anyServing };
    // Of ten thousand Services most have the same ones.
    return [nothing, elsewhere].find(one => isSame(one, counts)) ?? counts;
  }
}

function nodesOf(endpoints: readonly EndpointView[]): EndpointNodes {
  const names = (counts: (one: EndpointView) => boolean) => inOrder(endpoints.flatMap(one => (one.node && counts(one) ? one.node : [])));
  const ready = names(one => one.ready);
  const serving = names(one => one.ready || one.serving);
  return { ready: ready.length === serving.length ? serving : ready, serving };
}

/** Of all slices of the family; most Services have one. */
function allNodes({ slices }: Entry, family: IpFamily): EndpointNodes {
  const all = slices.flatMap(one => (one.family === family ? one.nodes : []));
  if (all.length < 2) return all[0] ?? nowhere;
  return { ready: inOrder(all.flatMap(({ ready }) => ready)), serving: inOrder(all.flatMap(({ serving }) => serving)) };
}

function inOrder(names: readonly string[]): string[] {
  return [...new Set(names)].sort();
}

/** Also where a balancer outside takes its packets. */
function heldBy(view: ServiceView | undefined): readonly string[] {
  return view ? [...view.addresses.LoadBalancerIP, ...(view.proxied ?? [])] : [];
}

/** Returns the addresses that it has got or lost. */
function move(keysOf: KeySets, key: string, before: readonly string[], after: readonly string[]): string[] {
  const [lost, got] = [before.filter(one => !after.includes(one)), after.filter(one => !before.includes(one))];
  for (const address of lost) keysOf.delete(address, key);
  for (const address of got) keysOf.add(address, key);
  return [...lost, ...got];
}

function isSame(a: EndpointCounts, b: EndpointCounts): boolean {
  const local = a.localReady === b.localReady && a.localServing === b.localServing;
  return local && a.anyReady === b.anyReady && a.anyServing === b.anyServing;
}
