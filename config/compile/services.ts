/** Advertisements of type Service -> what the node does about Services: rules, by which their addresses are announced as they come and go (services/). */
import { formatPrefix, parsePrefix } from "../../net/address.ts";
import type { Advertisement, Fabric } from "../resources/kinds.ts";
import { EXCLUDED_LABEL, type ServiceRule, type ServicesPlan } from "../services/types.ts";
import { type Context, compareText } from "./context.ts";

/** `heard`: of this node, with a listener. undefined: there is none. */
export function compileServices(context: Context, fabric: Fabric, heard: readonly Advertisement[]): ServicesPlan | undefined {
  const rules = heard.flatMap(({ metadata, spec }) => (spec.service ? [ruleOf(`Advertisement/${metadata.name}`, spec, spec.service)] : []));
  if (rules.length === 0) return undefined;
  const excluded = Object.hasOwn(context.self.labels, EXCLUDED_LABEL);
  if (excluded) reportExcluded(context, rules);
  return {
    rules: rules.sort((a, b) => compareText(a.source, b.source)),
    ...(excluded ? { excluded: `node ${context.self.name} has the label ${EXCLUDED_LABEL}` } : {}),
    attached: attachedNetworks(context),
    ...fabric.spec.services,
  };
}

export function ruleOf(source: string, spec: Advertisement["spec"], service: NonNullable<Advertisement["spec"]["service"]>): ServiceRule {
  const { addresses, selector, namespaceSelector, loadBalancerClasses, annotations = [] } = service;
  return {
    source,
    addresses,
    selector,
    ...(namespaceSelector ? { namespaceSelector } : {}),
    ...(loadBalancerClasses ? { loadBalancerClasses } : {}),
    keepWithoutEndpoints: service.withoutEndpoints === "Keep",
    ignoreExclusion: service.excludedNodes === "Ignore",
    linkBandwidth: service.linkBandwidth === "Endpoints",
    annotations,
    ...(spec.aggregation ? { aggregation: spec.aggregation } : {}),
  };
}

/** kubeadm sets the label on nodes of the control plane, and in a small cluster nothing is announced then. */
function reportExcluded({ self, problems }: Context, rules: readonly ServiceRule[]): void {
  for (const rule of rules) {
    if (rule.ignoreExclusion || rule.addresses.every(kind => kind === "ClusterIP")) continue;
    const message = `node ${self.name} has the label ${EXCLUDED_LABEL}: it announces no external and no load-balancer address`;
    problems.warning(
      "NodeExcluded",
      rule.source,
      "spec.service.excludedNodes",
      message,
      "where this is not meant, take the label off the node, or set spec.service.excludedNodes: Ignore",
    );
  }
}

function attachedNetworks({ facts }: Context): string[] {
  const networks = facts.addresses.map(({ address, prefixLength }) => formatPrefix(parsePrefix(`${address}/${prefixLength}`, "clear")));
  return [...new Set(networks)].sort(compareText);
}
