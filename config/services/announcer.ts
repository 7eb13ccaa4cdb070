/**
 * Rules of the plan, Services and the state of the data path -> what this node originates for Services, kept in step: a Service that changed costs that
 * Service, a plan or a state of the data path all of them once. Tells differences only. Pure.
 */
import { covers, formatPrefix, overlaps, type Prefix, parsePrefix } from "../../net/address.ts";
import { compareText } from "../compile/context.ts";
import { Bounds } from "./bounds.ts";
import { widthOf } from "./ranges.ts";
import type { AddressVerdict, Link, ServiceLookup, ServiceRoute, ServiceRouteChanges, ServicesPlan } from "./types.ts";
import { type Contribution, type Gates, judgeService, type State } from "./verdicts.ts";

/** What is kept of a Service. */
interface Told {
  contributions: readonly Contribution[];
  /** Addresses in each state. */
  counts: readonly [AddressState, number][];
}

/** Who adds to what is originated for a prefix. */
interface Origin {
  kind: ServiceRoute["kind"];
  /** Of an address: the few Services that share it. */
  services: Map<string, Contribution>;
  /** Of a covering prefix: how many Services want it by each Advertisement. There may be thousands. */
  wanted: Map<string, number>;
  route?: ServiceRoute;
}

export type AddressState = "announced" | Link;

const closed: Gates = { node: "the agent has just started", confirmed: () => false };

export class ServiceAnnouncer {
  readonly #lookup: ServiceLookup;
  #plan: ServicesPlan | undefined;
  #attached = new Attached([]);
  #bounds = new Bounds(undefined);
  #gates: Gates = closed;
  readonly #told = new Map<string, Told>();
  readonly #origins = new Map<string, Origin>();
  readonly #waiting = new Map<string, number>();
  readonly #counts = new Map<AddressState, number>();

  constructor(lookup: ServiceLookup) {
    this.#lookup = lookup;
  }

  /** From now on. All Services are judged anew. */
  use(plan: ServicesPlan | undefined, gates: Gates): ServiceRouteChanges {
    const attached = JSON.stringify(plan?.attached ?? []);
    const moved = attached !== JSON.stringify(this.#plan?.attached ?? []);
    if (plan !== this.#plan) this.#bounds = new Bounds(plan);
    this.#plan = plan;
    this.#gates = gates;
    if (moved) this.#attached = new Attached(plan?.attached ?? []);
    return this.#judge(this.#all(), moved ? new Set(this.#origins.keys()) : new Set());
  }

  /** From now on, with the plan as it is. Returns the Services for which change() is due, so that it can be called for some at a time. */
  open(gates: Gates): Iterable<string> {
    const before = this.#gates;
    this.#gates = gates;
    const isSame = (["node", "proxy", "ineligible"] as const).every(gate => (before[gate] === undefined) === (gates[gate] === undefined));
    // Other words alone are told by whoever asks.
    return isSame ? [] : this.#all();
  }

  /** These Services have changed, or what the proxy says of them. */
  change(keys: Iterable<string>): ServiceRouteChanges {
    return this.#judge(keys, new Set());
  }

  /** What is originated now, by prefix. */
  routes(): Map<string, ServiceRoute> {
    return new Map([...this.#origins].flatMap(([prefix, { route }]) => (route ? [[prefix, route]] : [])));
  }

  /** Covering prefixes that are not discarded here, because the node is attached to a network in them. */
  attachedAggregates(): ServiceRoute[] {
    return [...this.#origins.values()].flatMap(({ route }) => (route?.kind === "aggregate" && !route.discard ? [route] : []));
  }

  /** Services that only wait for what the proxy says of them, each with the port where it says so. */
  waiting(): ReadonlyMap<string, number> {
    return this.#waiting;
  }

  /** Addresses in each state. */
  counts(): ReadonlyMap<AddressState, number> {
    return this.#counts;
  }

  /** Of one Service; none where there is no such Service. */
  verdicts(key: string): AddressVerdict[] {
    const view = this.#lookup.service(key);
    if (!view) return [];
    return judgeService(this.#state(), view).map(({ verdict }) => verdict);
  }

  /** What it adds to what is originated: prefixes, each once. */
  prefixes(key: string): string[] {
    return (this.#told.get(key)?.contributions ?? []).map(({ prefix }) => prefix);
  }

  #state(): State {
    return { plan: this.#plan, bounds: this.#bounds, lookup: this.#lookup, gates: this.#gates };
  }

  #all(): Set<string> {
    const keys = new Set(this.#told.keys());
    for (const { key } of this.#lookup.services()) keys.add(key);
    return keys;
  }

  #judge(keys: Iterable<string>, touched: Set<string>): ServiceRouteChanges {
    for (const key of keys) this.#judgeOne(key, touched);
    const changes = new Map<string, ServiceRoute | undefined>();
    for (const prefix of touched) {
      const origin = this.#origins.get(prefix);
      if (!origin) continue;
      const route = this.#routeOf(prefix, origin);
      if (!route) this.#origins.delete(prefix);
      if (JSON.stringify(route) === JSON.stringify(origin.route)) continue;
      changes.set(prefix, route);
      origin.route = route;
    }
    return changes;
  }

  #judgeOne(key: string, touched: Set<string>): void {
    const view = this.#lookup.service(key);
    const judged = view ? judgeService(this.#state(), view) : [];
    const port = view?.healthCheckNodePort;
    if (port !== undefined && judged.some(({ waits }) => waits)) this.#waiting.set(key, port);
    else this.#waiting.delete(key);
    const before = this.#told.get(key);
    const counts = new Map<AddressState, number>();
    for (const { verdict } of judged) add(counts, verdict.link ?? "announced", 1);
    for (const [state, count] of before?.counts ?? []) add(this.#counts, state, -count);
    for (const [state, count] of counts) add(this.#counts, state, count);
    const contributions = merged(judged.flatMap(one => one.contributions));
    if (view) this.#told.set(key, { contributions, counts: [...counts] });
    else this.#told.delete(key);
    if (JSON.stringify(contributions) === JSON.stringify(before?.contributions ?? [])) return;
    for (const one of before?.contributions ?? []) this.#remove(key, one, touched);
    for (const one of contributions) this.#add(key, one, touched);
  }

  #add(key: string, contribution: Contribution, touched: Set<string>): void {
    const { prefix, kind, sources } = contribution;
    let origin = this.#origins.get(prefix);
    if (!origin) {
      origin = { kind, services: new Map(), wanted: new Map() };
      this.#origins.set(prefix, origin);
    }
    touched.add(prefix);
    if (kind === "service") origin.services.set(key, contribution);
    else for (const source of sources) add(origin.wanted, source, 1);
  }

  #remove(key: string, { prefix, kind, sources }: Contribution, touched: Set<string>): void {
    const origin = this.#origins.get(prefix);
    if (!origin) return;
    touched.add(prefix);
    if (kind === "service") origin.services.delete(key);
    else for (const source of sources) add(origin.wanted, source, -1);
  }

  #routeOf(prefix: string, { kind, services, wanted }: Origin): ServiceRoute | undefined {
    if (services.size === 0 && wanted.size === 0) return undefined;
    const discard = !this.#attached.touches(prefix);
    if (kind === "aggregate") return { prefix, kind, sources: [...wanted.keys()].sort(compareText), discard };
    const all = [...services].sort(([a], [b]) => compareText(a, b)).map(([, one]) => one);
    const sources = [...new Set(all.flatMap(one => one.sources))].sort(compareText);
    const weights = all.flatMap(({ weight }) => weight ?? []);
    // Who comes first by name speaks for all that share the address.
    const [{ attributes }] = all;
    return {
      prefix,
      kind,
      sources,
      ...(attributes ? { attributes } : {}),
      ...(weights.length > 0 ? { weight: weights.reduce((sum, one) => sum + one, 0) } : {}),
      discard,
    };
  }
}

/** One Service may come to a prefix by several addresses. */
function merged(all: readonly Contribution[]): Contribution[] {
  const byPrefix = new Map<string, Contribution>();
  for (const one of all) {
    const known = byPrefix.get(one.prefix);
    if (!known) byPrefix.set(one.prefix, one);
    else byPrefix.set(one.prefix, { ...known, sources: [...new Set([...known.sources, ...one.sources])].sort(compareText) });
  }
  return [...byPrefix.values()];
}

function add<Key>(counts: Map<Key, number>, key: Key, number: number): void {
  const count = (counts.get(key) ?? 0) + number;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
}

/** Networks that the node is connected to. With kube-proxy in mode ipvs these are all addresses of Services as well, one by one. */
class Attached {
  readonly #addresses = new Set<string>();
  readonly #networks: Prefix[] = [];

  constructor(networks: readonly string[]) {
    for (const text of networks) {
      const prefix = parsePrefix(text);
      if (prefix.length === widthOf(prefix.family)) this.#addresses.add(formatPrefix(prefix));
      else this.#networks.push(prefix);
    }
  }

  /** An address of the node itself inside a covering prefix is delivered before anything is discarded. */
  touches(text: string): boolean {
    if (this.#addresses.has(text)) return true;
    const prefix = parsePrefix(text);
    const isAddress = prefix.length === widthOf(prefix.family);
    return this.#networks.some(network => (isAddress ? covers(network, prefix) : overlaps(network, prefix)));
  }
}
