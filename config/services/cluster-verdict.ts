/**
 * What comes of a Service in the cluster as a whole, as far as objects say it: whether its addresses are announced by some node, or the first broken link,
 * in the words that a node has for it (verdicts.ts). Whether a node's data path is ready only that node knows. Pure.
 */
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from "../../net/address.ts";
import { selects } from "../../platform/label-selector.ts";
import { byName, someOf } from "../compile/context.ts";
import { ruleOf } from "../compile/services.ts";
import type { Advertisement, Resources, Selector } from "../resources/kinds.ts";
import { Bounds } from "./bounds.ts";
import type { ServiceIndex } from "./service-index.ts";
import { type Endpoints, EXCLUDED_LABEL, Links, type ServiceRule, type ServicesPlan, type ServiceView } from "./types.ts";
import { type Judgement, judgeService } from "./verdicts.ts";

/** An Advertisement of type Service with the nodes that it selects. */
export interface ClusterRule {
  rule: ServiceRule;
  /** Of all rules, and of what nodes have. */
  bounds: Bounds;
  /** Any at all. */
  selects: boolean;
  /** Nodes that may announce it: those that take traffic from outside the cluster, where its addresses are for outside; of none, all. */
  eligible: ReadonlySet<string>;
  /** All are kept out of traffic from outside. */
  excluded: boolean;
}

/** Whether a Service is announced. */
export interface ClusterVerdict {
  announced: boolean;
  /** CamelCase: Announced, or the broken link. */
  reason: string;
  message: string;
}

const ADDRESSES_TOLD = 5;
const open = { confirmed: () => true };

/** A node counts where a Peer that hears it selects the node as well, or the mesh hears it. Whether the session is up that node knows. */
export function clusterRules({ advertisements, nodes, peers }: Pick<Resources, "advertisements" | "nodes" | "peers">): ClusterRule[] {
  const made = byName(advertisements).flatMap(({ metadata, spec }) =>
    spec.service ? [{ rule: ruleOf(`Advertisement/${metadata.name}`, spec, spec.service), spec }] : [],
  );
  if (made.length === 0) return [];
  const bounds = new Bounds({ rules: made.map(({ rule }) => rule), reserved: reservedBy(nodes) });
  return made.map(({ rule, spec }) => {
    const heardBy = listeners(spec, peers);
    const isHeard = (labels: Record<string, string>) => spec.mesh || heardBy.some(selector => selects(selector, labels));
    const selected = [...nodes.values()].filter(({ metadata: { labels = {} } }) => selects(spec.nodeSelector, labels) && isHeard(labels));
    const takes = (labels: Record<string, string> = {}) => rule.ignoreExclusion || !Object.hasOwn(labels, EXCLUDED_LABEL);
    const outside = rule.addresses.some(kind => kind !== "ClusterIP");
    const taking = selected.filter(node => !outside || takes(node.metadata.labels));
    const excluded = taking.length === 0;
    const eligible = new Set((excluded ? selected : taking).map(({ metadata: { name } }) => name));
    return { rule, bounds, selects: selected.length > 0, eligible, excluded };
  });
}

/** The nodeSelectors of the Peers that hear it. */
function listeners({ peers: named = [], peerSelector }: Advertisement["spec"], peers: Resources["peers"]): Selector[] {
  return [...peers.values()].flatMap(({ metadata: { name, labels = {} }, spec: { template, from, nodeSelector } }) => {
    const hears = named.includes(name) || (peerSelector !== undefined && selects(peerSelector, labels));
    // What it takes from a template is not looked up: it may be any node.
    const selector = nodeSelector ?? (from === undefined ? undefined : {});
    return hears && !template && selector ? selector : [];
  });
}

/** What else a node and its neighbours have only the node knows. */
function reservedBy(nodes: Resources["nodes"]): ServicesPlan["reserved"] {
  const all = [...nodes.values()];
  const internal = all.flatMap(({ status }) => status.addresses.filter(({ type }) => type === "InternalIP"));
  return [
    {
      reason: "the InternalIP of a node",
      prefixes: internal.map(({ address }) => parseAddress(address)).map(octets => `${formatAddress(octets)}/${octets.length * 8}`),
    },
    {
      reason: "a pod subnet",
      prefixes: all.flatMap(({ spec }) => spec.podCIDRs.map(prefix => formatPrefix(parsePrefix(prefix, "clear")))),
    },
  ];
}

/** undefined: nothing that is announced anywhere concerns it, as with cluster addresses where no Advertisement has these. */
export function clusterVerdict(rules: readonly ClusterRule[], index: ServiceIndex, view: ServiceView): ClusterVerdict | undefined {
  const wanted = rules.filter(({ rule }) => rule.addresses.some(kind => view.addresses[kind].length > 0 || waits(view, kind)));
  const judged = wanted.map(one => ({ one, judgements: judgeBy(one, index, view) }));
  const all = judged.flatMap(({ one, judgements }) => judgements.filter(({ verdict }) => one.rule.addresses.includes(verdict.kind)));
  const told = all.filter(({ verdict }) => verdict.announced);
  if (told.length > 0) {
    const by = judged.filter(({ judgements }) => judgements.some(({ verdict }) => verdict.announced));
    const sources = by.map(({ one }) => one.rule.source);
    return { announced: true, reason: "Announced", message: announcedText(sources, view, told) };
  }
  const interesting = all.filter(({ verdict }) => verdict.link !== "NoAdvertisement" || view.type === "LoadBalancer");
  if (interesting.length === 0) return undefined;
  const [{ verdict }] = interesting.sort(
    (a, b) => Links.indexOf(b.verdict.link ?? "NoAdvertisement") - Links.indexOf(a.verdict.link ?? "NoAdvertisement"),
  );
  return { announced: false, reason: verdict.link ?? "NoAdvertisement", message: `${verdict.message}. ${verdict.remedy}` };
}

function waits({ type }: ServiceView, kind: string): boolean {
  return kind === "LoadBalancerIP" && type === "LoadBalancer";
}

/** As one node would judge that has all endpoints of the nodes that may announce it. */
function judgeBy({ rule, bounds, selects: any, eligible, excluded }: ClusterRule, index: ServiceIndex, view: ServiceView): Judgement[] {
  if (!any) return judgeService({ plan: undefined, bounds, lookup: index, gates: open }, view);
  const lookup = {
    services: () => index.services(),
    service: index.service.bind(index),
    namespaceLabels: index.namespaceLabels.bind(index),
    namespacesKnown: index.namespacesKnown,
    holder: index.holder.bind(index),
    endpoints: (key: string) => within(index, key, eligible),
  };
  const why = excluded ? { excluded: `all nodes that it selects have the label ${EXCLUDED_LABEL}` } : {};
  return judgeService({ plan: { rules: [rule], attached: [], proxyHealthPort: 0, timeout: 0, ...why }, bounds, lookup, gates: open }, view);
}

function within(index: ServiceIndex, key: string, eligible: ReadonlySet<string>): Endpoints {
  const counts = index.endpoints(key);
  const of = (family: 4 | 6) => {
    const { ready, serving } = index.endpointNodes(key, family);
    const among = (nodes: readonly string[]) => Number(nodes.some(node => eligible.has(node)));
    return { ...counts[family], localReady: among(ready), localServing: among(serving) };
  };
  return { 4: of(4), 6: of(6) };
}

/** Neither nodes nor how many: each that comes or goes would have the conditions of all Services written anew. */
function announcedText(sources: readonly string[], { key }: ServiceView, told: readonly Judgement[]): string {
  const addresses = [...new Set(told.map(({ verdict }) => verdict.address))];
  return `${someOf(addresses, ADDRESSES_TOLD)} by ${sources.join(", ")}; podlane services ${key} --all-nodes says from where`;
}
