/** What leaves this node's pods beside plain routes: through tunnels to other nodes, and with another source out of the cluster. */

import { formatPrefix, parseAddress, parsePrefix } from "../../net/address.ts";
import type { MasqueradePlan } from "../../netfilter/types.ts";
import type { OverlayPlan } from "../../overlay/types.ts";
import type { PodNetwork } from "../resources/kinds.ts";
import { podNetworkSpec } from "../resources/pod-network.ts";
import { validate } from "../resources/validate.ts";
import { type Context, type NodeView, someOf } from "./context.ts";
import { isOnLink } from "./sessions.ts";
import { firstAddresses, haveTunnel } from "./tunnels.ts";

export interface EgressPlans {
  masquerade?: MasqueradePlan;
  overlay?: OverlayPlan;
  networkPolicy?: true;
}

export function compileEgress(context: Context): EgressPlans {
  const spec = context.podNetworks.get(context.self)?.spec ?? validate(podNetworkSpec, { nodeSelector: {} }).value;
  const overlay = overlayPlan(context, spec);
  return {
    ...(spec.masquerade?.mode === "External" && { masquerade: masqueradePlan(context, spec.masquerade) }),
    ...(overlay && { overlay }),
    ...(spec.networkPolicy === "Enforced" && { networkPolicy: true }),
  };
}

function masqueradePlan(
  { self, facts, nodes, resources }: Context,
  { exceptions = [] }: NonNullable<PodNetwork["spec"]["masquerade"]>,
): MasqueradePlan {
  const prefixes = (texts: readonly string[]) => [...new Set(texts.map(text => formatPrefix(parsePrefix(text))))].sort();
  const host = (text: string) => formatPrefix({ address: parseAddress(text), length: text.includes(":") ? 128 : 32 });
  const addresses = [...resources.nodes.values()].flatMap(({ status }) => status.addresses.map(({ address }) => host(address)));
  const ranges = nodes.flatMap(({ podCidrs }) => podCidrs.map(({ prefix }) => prefix));
  const sources = [...self.podCidrs.map(({ prefix }) => prefix), ...(facts.held ?? [])];
  return { sources: prefixes(sources), exempt: prefixes([...ranges, ...sources, ...addresses, ...exceptions]) };
}

function overlayPlan(context: Context, spec: PodNetwork["spec"]): OverlayPlan | undefined {
  if (spec.overlay === "Never") return undefined;
  const { self, nodes } = context;
  const { vni, port, checksumOffload } = spec.vxlan;
  const local = Object.values(self.canonical);
  if (local.length === 0) {
    const remedy = "give the Node object an InternalIP (kubelet --node-ip)";
    context.problems.error("NoInternalIP", `Node/${self.name}`, "status.addresses", "has no InternalIP: it has no end of tunnels", remedy);
    return undefined;
  }
  const isLike = (node: NodeView) => haveTunnel(context, self, node);
  const others = nodes.filter(node => node !== self);
  const ends = others.filter(isLike);
  const plain = spec.overlay === "Always" ? ends.find(node => sendsPlain(context, node)) : undefined;
  reportOneSided(
    context,
    others.filter(node => !isLike(node)),
  );
  return {
    mode: spec.overlay,
    vni,
    port,
    checksumOffload,
    local,
    sources: firstAddresses(self),
    nodes: ends.map(node => ({ name: node.name, addresses: Object.values(node.canonical), ...aliasesOf(context, node) })),
    ...(plain && { plain: plain.name }),
  };
}

/** Whether it reaches this node without a tunnel over IPv4. */
function sendsPlain({ facts, podNetworks }: Context, node: NodeView): boolean {
  const end = node.canonical[4];
  return end !== undefined && podNetworks.get(node)?.spec.overlay === "CrossSubnet" && isOnLink(facts, parseAddress(end));
}

/** The first addresses of its pod subnets in families in which it has no end for this node, as next hops have them then. */
function aliasesOf({ self }: Context, node: NodeView): { aliases?: string[] } {
  const aliases = ([4, 6] as const)
    .filter(family => !(self.canonical[family] && node.canonical[family]))
    .flatMap(family => firstAddresses(node, family));
  return aliases.length > 0 ? { aliases } : {};
}

/** Routers between know no pods, or there would be no overlay. */
function reportOneSided({ self, facts, podNetworks, problems }: Context, others: readonly NodeView[]): void {
  const isFar = ({ podCidrs, canonical }: NodeView) =>
    podCidrs.length > 0 && !Object.values(canonical).some(address => isOnLink(facts, parseAddress(address)));
  const far = facts.addresses.length > 0 ? others.filter(isFar) : [];
  if (far.length === 0) return;
  const object = `PodNetwork/${podNetworks.get(self)?.metadata.name}`;
  const names = someOf(far.map(({ name }) => name));
  problems.warning(
    "OverlayOneSided",
    object,
    "spec.overlay",
    `${names}: not on a segment with node ${self.name}, and without an overlay of the same vxlan.vni and vxlan.port: packets for their pods go to the routers between as they are`,
    "let the PodNetworks of all nodes say the same, or let these routers know the pods",
  );
}
