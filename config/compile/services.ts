/** Advertisements of type Service -> what the node does about Services: rules, by which their addresses are announced as they come and go (services/). */
import { contains, formatAddress, formatPrefix, parseAddress, parsePrefix } from "../../net/address.ts";
import type { Advertisement, Fabric } from "../resources/kinds.ts";
import { EXCLUDED_LABEL, type ServiceRule, type ServicesPlan } from "../services/types.ts";
import { type Context, compareText } from "./context.ts";
import { serviceRanges } from "./protect.ts";
import type { Session } from "./sessions.ts";

/** Where NodeLocal DNSCache puts the address of the cluster's DNS Service. */
const LOCAL_DNS_DEVICE = "nodelocaldns";

/** `heard`: of this node, with a listener. undefined: there is none. */
export function compileServices(
  context: Context,
  fabric: Fabric,
  heard: readonly Advertisement[],
  sessions: readonly Session[],
): ServicesPlan | undefined {
  const rules = heard.flatMap(({ metadata, spec }) => (spec.service ? [ruleOf(`Advertisement/${metadata.name}`, spec, spec.service)] : []));
  if (rules.length === 0) return undefined;
  const excluded = Object.hasOwn(context.self.labels, EXCLUDED_LABEL);
  if (excluded) reportExcluded(context, rules);
  return {
    rules: rules.sort((a, b) => compareText(a.source, b.source)),
    ...(excluded ? { excluded: `node ${context.self.name} has the label ${EXCLUDED_LABEL}` } : {}),
    attached: attachedNetworks(context),
    reserved: reservedPrefixes(context, fabric, sessions),
    ...fabric.spec.services,
  };
}

export function ruleOf(source: string, spec: Advertisement["spec"], service: NonNullable<Advertisement["spec"]["service"]>): ServiceRule {
  const { addresses, externalRanges, selector, namespaceSelector, loadBalancerClasses, annotations = [] } = service;
  return {
    source,
    addresses,
    ...(externalRanges ? { externalRanges: externalRanges.map(range => formatPrefix(parsePrefix(range))) } : {}),
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

/** Whose address a Service must not take over: that of a machine that is known, or of its pods. */
function reservedPrefixes(context: Context, fabric: Fabric, sessions: readonly Session[]): ServicesPlan["reserved"] {
  const { facts, nodes } = context;
  const ranges = serviceRanges(context, fabric).map(range => parsePrefix(range));
  // Some put addresses of Services on a link of the node.
  const own = facts.addresses
    .filter(one => one.interface !== LOCAL_DNS_DEVICE)
    .map(({ address }) => parseAddress(address))
    .filter(address => !ranges.some(range => contains(range, address)))
    .map(address => wholeOf(formatAddress(address)));
  const groups = [
    { reason: "an address of this node", prefixes: own },
    { reason: "the InternalIP of a node", prefixes: nodes.flatMap(({ canonical }) => Object.values(canonical).map(wholeOf)) },
    {
      reason: "the address of a neighbour",
      prefixes: sessions.map(({ neighbor }) => wholeOf(formatAddress(parseAddress(neighbor.address)))),
    },
    { reason: "a pod subnet", prefixes: nodes.flatMap(({ podCidrs }) => podCidrs.map(({ prefix }) => prefix)) },
  ];
  return groups.map(({ reason, prefixes }) => ({ reason, prefixes: [...new Set(prefixes)].sort(compareText) }));
}

function wholeOf(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}
