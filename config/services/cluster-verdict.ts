/**
 * What comes of a Service in the cluster as a whole, as far as objects say it: whether its addresses are announced by some node, or the first broken link,
 * in the words that a node has for it (verdicts.ts). Whether a node's data path is ready only that node knows. Pure.
 */

import { byName, selects, someOf } from "../compile/context.ts";
import { ruleOf } from "../compile/services.ts";
import type { Resources } from "../resources/kinds.ts";
import type { ServiceIndex } from "./service-index.ts";
import { type Endpoints, EXCLUDED_LABEL, Links, type ServiceRule, type ServiceView } from "./types.ts";
import { type Judgement, judgeService } from "./verdicts.ts";

/** An Advertisement of type Service with the nodes that it selects. */
export interface ClusterRule {
  rule: ServiceRule;
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

const NODES_TOLD = 5;
const open = { confirmed: () => true };

/** Of all that have a peer or the mesh that hears it is for each node to see: it has the sessions. */
export function clusterRules({ advertisements, nodes }: Pick<Resources, "advertisements" | "nodes">): ClusterRule[] {
  return byName(advertisements).flatMap(({ metadata, spec }) => {
    if (!spec.service) return [];
    const rule = ruleOf(`Advertisement/${metadata.name}`, spec, spec.service);
    const selected = [...nodes.values()].filter(node => selects(spec.nodeSelector, node.metadata.labels ?? {}));
    const takes = (labels: Record<string, string> = {}) => rule.ignoreExclusion || !Object.hasOwn(labels, EXCLUDED_LABEL);
    const outside = rule.addresses.some(kind => kind !== "ClusterIP");
    const taking = selected.filter(node => !outside || takes(node.metadata.labels));
    const excluded = taking.length === 0;
    const eligible = new Set((excluded ? selected : taking).map(({ metadata: { name } }) => name));
    return [{ rule, selects: selected.length > 0, eligible, excluded }];
  });
}

/** undefined: nothing that is announced anywhere concerns it, as with cluster addresses where no Advertisement has these. */
export function clusterVerdict(rules: readonly ClusterRule[], index: ServiceIndex, view: ServiceView): ClusterVerdict | undefined {
  const wanted = rules.filter(({ rule }) => rule.addresses.some(kind => view.addresses[kind].length > 0 || waits(view, kind)));
  const judged = wanted.map(one => ({ one, judgements: judgeBy(one, index, view) }));
  const all = judged.flatMap(({ one, judgements }) => judgements.filter(({ verdict }) => one.rule.addresses.includes(verdict.kind)));
  const told = all.filter(({ verdict }) => verdict.announced);
  if (told.length > 0) {
    const by = judged.filter(({ judgements }) => judgements.some(({ verdict }) => verdict.announced));
    return {
      announced: true,
      reason: "Announced",
      message: announcedText(
        by.map(({ one }) => one),
        index,
        view,
        told,
      ),
    };
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
function judgeBy({ rule, selects: any, eligible, excluded }: ClusterRule, index: ServiceIndex, view: ServiceView): Judgement[] {
  if (!any) return judgeService({ plan: undefined, lookup: index, gates: open }, view);
  const lookup = {
    services: () => index.services(),
    service: index.service.bind(index),
    namespaceLabels: index.namespaceLabels.bind(index),
    namespacesKnown: index.namespacesKnown,
    endpoints: (key: string) => within(index, key, eligible),
  };
  const why = excluded ? { excluded: `all nodes that it selects have the label ${EXCLUDED_LABEL}` } : {};
  return judgeService({ plan: { rules: [rule], attached: [], proxyHealthPort: 0, timeout: 0, ...why }, lookup, gates: open }, view);
}

function within(index: ServiceIndex, key: string, eligible: ReadonlySet<string>): Endpoints {
  const counts = index.endpoints(key);
  const of = (family: 4 | 6) => {
    const here = [...index.readyByNode(key, family)].filter(([node]) => eligible.has(node)).reduce((sum, [, ready]) => sum + ready, 0);
    return { ...counts[family], localReady: here, localServing: here };
  };
  return { 4: of(4), 6: of(6) };
}

function announcedText(by: readonly ClusterRule[], index: ServiceIndex, view: ServiceView, told: readonly Judgement[]): string {
  const addresses = [...new Set(told.map(({ verdict }) => verdict.address))];
  const sources = [...new Set(by.map(({ rule }) => rule.source))];
  const local = view.externalTrafficPolicy === "Local" && told.some(({ verdict }) => verdict.kind !== "ClusterIP");
  const isEligible = (node: string) => by.some(({ eligible }) => eligible.has(node));
  const holders = new Set(([4, 6] as const).flatMap(family => [...index.readyByNode(view.key, family).keys()]).filter(isEligible));
  const all = by.length === 1 ? by[0].eligible.size : new Set(by.flatMap(({ eligible }) => [...eligible])).size;
  const from = local ? someOf([...holders].sort(), NODES_TOLD) : all === 1 ? "1 node" : `${all} nodes`;
  return `${someOf(addresses, NODES_TOLD)} by ${sources.join(", ")} from ${from}, where these are ready (podlane services ${view.key})`;
}
