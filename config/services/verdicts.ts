/**
 * What comes of the addresses of one Service on this node: announced, or the first broken link, and what is originated for it. Words and deeds come from
 * the same function, so that they cannot differ. Pure.
 */
import { formatPrefix, type IpFamily, parsePrefix } from "../../net/address.ts";
import { selects } from "../../platform/label-selector.ts";
import { someOf } from "../compile/context.ts";
import { ownAttributes } from "./annotations.ts";
import type { Bounds } from "./bounds.ts";
import { widthOf } from "./ranges.ts";
import { Texts } from "./texts.ts";
import {
  type AddressKind,
  type AddressVerdict,
  type EndpointCounts,
  type Link,
  Links,
  type ServiceLookup,
  type ServiceRoute,
  type ServiceRule,
  type ServicesPlan,
  type ServiceView,
  type TrafficPolicy,
} from "./types.ts";

/** The state of the data path on this node. */
export interface Gates {
  /** Why the node serves no pods. Absent: it does. */
  node?: string;
  /** Why the node's proxy is still waited for. */
  proxy?: string;
  /** Why the proxy says that the node shall get no more connections from outside. */
  ineligible?: string;
  /** The proxy has said that it has endpoints of this Service and family (ServiceView.healthCheckNodePort), or is waited for no more. */
  confirmed(service: string, family: IpFamily): boolean;
  /** While labels of namespaces are not known: the address was announced before that. Absent: none was. */
  held?(address: string): boolean;
}

export interface State {
  plan: ServicesPlan | undefined;
  /** Of the plan. */
  bounds: Bounds;
  lookup: ServiceLookup;
  gates: Gates;
}

/** What one Service adds to what is originated for a prefix. */
export type Contribution = Pick<ServiceRoute, "prefix" | "kind" | "attributes" | "weight"> & { sources: string[] };

export interface Judgement {
  verdict: AddressVerdict;
  contributions: Contribution[];
  /** Nothing but the proxy's word about its endpoints is missing. */
  waits: boolean;
}

interface Break {
  link: Link;
  detail?: string;
  /** It is the proxy's word about the Service's endpoints that is missing. */
  waits?: boolean;
}

/** The order in which they are shown. */
const Kinds: readonly AddressKind[] = ["LoadBalancerIP", "ExternalIP", "ClusterIP"];

const NO_NAMESPACES = "Advertisements of type Service look at labels of its namespace, and these are not known yet";
const NO_RULES = "no Advertisement of type Service selects this node and has a neighbour there";

export function judgeService(state: State, view: ServiceView): Judgement[] {
  const found = Kinds.flatMap(kind => {
    const all = view.addresses[kind];
    const others = kind === "LoadBalancerIP" ? (view.proxied ?? []).map(address => ofBalancer(view, kind, address)) : [];
    if (all.length === 0) return others.length > 0 ? others : withoutAddress(view, kind);
    const rules = rulesFor(state, view, kind);
    return [...all.map(address => judgeAddress(state, view, kind, address, rules)), ...others];
  });
  return found.length > 0 ? found : [broken(view, "ClusterIP", "", undefined, { link: "NoAddress", detail: noAddress(view) })];
}

function withoutAddress(view: ServiceView, kind: AddressKind): Judgement[] {
  return kind === "LoadBalancerIP" && view.type === "LoadBalancer" ? [broken(view, kind, "", undefined, { link: "NoAddress" })] : [];
}

function ofBalancer(view: ServiceView, kind: AddressKind, address: string): Judgement {
  const detail = `${address} has ipMode Proxy in status.loadBalancer: it is a balancer's outside the cluster, and kube-proxy takes no packets to it`;
  return broken(view, kind, address, undefined, { link: "NoAddress", detail });
}

function noAddress({ type }: ServiceView): string {
  return type === "ExternalName" ? "it stands for a name and has no address" : "it is headless: it has no address of its own";
}

function rulesFor({ plan, lookup }: State, view: ServiceView, kind: AddressKind): ServiceRule[] {
  return (plan?.rules ?? []).filter(rule => {
    if (!rule.addresses.includes(kind) || !selects(rule.selector, view.labels)) return false;
    const { loadBalancerClass } = view;
    if (rule.loadBalancerClasses && (loadBalancerClass === undefined || !rule.loadBalancerClasses.includes(loadBalancerClass)))
      return false;
    if (!rule.namespaceSelector) return true;
    if (!lookup.namespacesKnown) return true;
    const labels = lookup.namespaceLabels(view.namespace);
    return labels !== undefined && selects(rule.namespaceSelector, labels);
  });
}

function judgeAddress(state: State, view: ServiceView, kind: AddressKind, address: string, possible: readonly ServiceRule[]): Judgement {
  const family: IpFamily = address.includes(":") ? 6 : 4;
  const { plan, lookup, gates } = state;
  // What a rule that looks at namespaces would say is not known: it leaves what is announced, and adds nothing.
  const isUnknown = (rule: ServiceRule) => rule.namespaceSelector !== undefined && !lookup.namespacesKnown && !gates.held?.(address);
  const rules = possible.filter(rule => !isUnknown(rule));
  if (rules.length === 0) {
    const detail = !plan ? NO_RULES : possible.length > 0 ? NO_NAMESPACES : undefined;
    return broken(view, kind, address, family, { link: "NoAdvertisement", ...(detail === undefined ? {} : { detail }) });
  }
  const policy = policyOf(view, kind);
  const counts = state.lookup.endpoints(view.key)[family];
  const subject: Subject = { kind, address, family, policy, counts };
  const judged = rules.map(rule => ({ rule, fault: findFault(state, view, subject, rule) ?? findBreak(state, view, subject, rule) }));
  const announcing = judged.flatMap(({ rule, fault }) => (fault ? [] : [rule]));
  if (announcing.length === 0) {
    // The one that came furthest says what is missing.
    const [first] = judged.map(({ fault }) => fault as Break).sort((a, b) => Links.indexOf(b.link) - Links.indexOf(a.link));
    return broken(view, kind, address, family, first, ownAttributes(view, rules).notes);
  }
  return announced(state, view, subject, announcing);
}

function policyOf(view: ServiceView, kind: AddressKind): TrafficPolicy {
  return kind === "ClusterIP" ? view.internalTrafficPolicy : view.externalTrafficPolicy;
}

/** The address itself is not to be announced. In the order of Links. */
function findFault({ bounds, lookup }: State, view: ServiceView, { kind, address, family }: Subject, rule: ServiceRule): Break | undefined {
  const isExternal = kind === "ExternalIP";
  if (isExternal && !bounds.allows(rule, parsePrefix(`${address}/${widthOf(family)}`)))
    return { link: "OutsideRanges", detail: `${rule.source} has ${someOf(rule.externalRanges ?? ["none"])}` };
  const reserved = bounds.reserved(address);
  if (reserved !== undefined) return { link: "AddressReserved", detail: reserved };
  const holder = isExternal ? lookup.holder(address, view.key) : undefined;
  return holder === undefined ? undefined : { link: "AddressTaken", detail: `it is a load-balancer address of ${holder}` };
}

/** In the order of Links. undefined: this rule announces the address. */
function findBreak(
  { plan, gates }: State,
  view: ServiceView,
  { kind, family, policy, counts }: Subject,
  rule: ServiceRule,
): Break | undefined {
  const outside = kind !== "ClusterIP";
  const anywhere = counts.anyReady || counts.anyServing;
  if (!anywhere && !(policy === "Cluster" && rule.keepWithoutEndpoints)) return { link: "NoEndpoints" };
  if (policy === "Local" && endpointsHere(counts) === 0) return { link: "NoEndpointHere" };
  if (outside && plan?.excluded !== undefined && !rule.ignoreExclusion) return { link: "NodeExcluded", detail: plan.excluded };
  if (outside && policy === "Cluster" && gates.ineligible !== undefined) return { link: "NodeExcluded", detail: gates.ineligible };
  if (gates.proxy !== undefined) return { link: "ProxyNotReady", detail: gates.proxy };
  if (gates.node !== undefined) return { link: "NodeNotReady", detail: gates.node };
  const { healthCheckNodePort: port } = view;
  if (kind === "LoadBalancerIP" && policy === "Local" && port !== undefined && !gates.confirmed(view.key, family))
    return { link: "ProxyNotReady", detail: `it does not say on port ${port} that it has taken over the endpoints here`, waits: true };
  return undefined;
}

/** Those that end still serve, as kube-proxy has it, where none is ready anywhere: else they get no new connections. */
function endpointsHere({ localReady, localServing, anyReady }: EndpointCounts): number {
  return anyReady ? localReady : localServing;
}

function broken(
  { key: service }: ServiceView,
  kind: AddressKind,
  address: string,
  family: IpFamily | undefined,
  { link, detail, waits = false }: Break,
  notes: readonly string[] = [],
): Judgement {
  const words = Texts[link]({ kind, family, detail });
  const verdict = {
    service,
    kind,
    address,
    announced: false,
    sources: [],
    link,
    ...words,
    ...(notes.length > 0 ? { notes: [...notes] } : {}),
  };
  return { verdict, contributions: [], waits };
}

interface Subject {
  kind: AddressKind;
  address: string;
  family: IpFamily;
  policy: TrafficPolicy;
  counts: EndpointCounts;
}

/** A covering prefix stands for addresses that every node takes; where only some do, they stand beside it. */
function announced({ bounds }: State, view: ServiceView, subject: Subject, rules: readonly ServiceRule[]): Judgement {
  const { kind, address, family, policy, counts } = subject;
  const width = widthOf(family);
  const covering = new Map<string, string[]>();
  const alone: ServiceRule[] = [];
  const uncovered: string[] = [];
  for (const rule of rules) {
    const length = rule.aggregation?.[family === 4 ? "ipv4" : "ipv6"] ?? width;
    const whole = parsePrefix(`${address}/${length}`, "clear");
    const prefix = formatPrefix(whole);
    // What lies in it beside the address would be drawn here, and discarded.
    const tooWide = length < width && kind === "ExternalIP" && !bounds.allows(rule, whole);
    if (length === width || policy === "Local" || tooWide) alone.push(rule);
    if (tooWide) uncovered.push(`it does not make ${prefix} be announced: no range of ${rule.source} has all of that`);
    if (length === width || tooWide) continue;
    covering.set(prefix, [...(covering.get(prefix) ?? []), rule.source]);
  }
  const { attributes, notes } = ownAttributes(view, alone.length > 0 ? alone : rules);
  if (alone.length === 0 && attributes)
    notes.push(`annotations have no effect: it is announced as part of ${[...covering.keys()].join(", ")}`);
  notes.push(...uncovered);
  const contributions: Contribution[] = [...covering].map(([prefix, sources]) => ({ prefix, kind: "aggregate", sources }));
  if (alone.length > 0) {
    // With policy Cluster every node reaches all endpoints: their shares are the same anyway.
    const weighted = policy === "Local" && alone.some(({ linkBandwidth }) => linkBandwidth);
    contributions.push({
      prefix: `${address}/${width}`,
      kind: "service",
      sources: alone.map(({ source }) => source),
      ...(attributes ? { attributes } : {}),
      ...(weighted ? { weight: endpointsHere(counts) } : {}),
    });
  }
  const prefixes = alone.length > 0 ? [] : [...covering.keys()];
  const message = `${prefixes.length > 0 ? `announced as part of ${prefixes.join(", ")}` : "announced"}: ${whyAnnounced(subject)}`;
  const sources = rules.map(({ source }) => source);
  const verdict = { service: view.key, kind, address, announced: true, sources, message, ...(notes.length > 0 ? { notes } : {}) };
  return { verdict, contributions, waits: false };
}

function whyAnnounced({ policy, counts, family }: Subject): string {
  const { anyReady, anyServing } = counts;
  if (!anyReady && !anyServing) return `no IPv${family} endpoint is ready, and its Advertisement keeps it all the same`;
  const state = anyReady ? "ready" : "serving though about to end; none is ready";
  if (policy === "Cluster") return `traffic policy Cluster, and an IPv${family} endpoint is ${state}`;
  return `traffic policy Local, and IPv${family} endpoints on this node: ${endpointsHere(counts)}, ${state}`;
}
