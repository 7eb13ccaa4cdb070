/** What leaves this node's pods beside plain routes: through tunnels to other nodes, and with another source out of the cluster. */

import { formatPrefix, parseAddress, parsePrefix } from "../../net/address.ts";
import type { MasqueradePlan } from "../../netfilter/types.ts";
import type { OverlayPlan } from "../../overlay/types.ts";
import type { PodNetwork } from "../resources/kinds.ts";
import { podNetworkSpec } from "../resources/pod-network.ts";
import { validate } from "../resources/validate.ts";
import type { Context } from "./context.ts";

export interface EgressPlans {
  masquerade?: MasqueradePlan;
  overlay?: OverlayPlan;
  networkPolicy?: true;
}

export function compileEgress(context: Context): EgressPlans {
  const spec = context.podNetworks.get(context.self)?.spec ?? validate(podNetworkSpec, { nodeSelector: {} }).value;
  return {
    ...(spec.masquerade?.mode === "External" && { masquerade: masqueradePlan(context, spec.masquerade) }),
    ...(spec.overlay !== "Never" && { overlay: overlayPlan(context, spec) }),
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
  return {
    sources: prefixes([...self.podCidrs.map(({ prefix }) => prefix), ...(facts.held ?? [])]),
    exempt: prefixes([...ranges, ...addresses, ...exceptions]),
  };
}

function overlayPlan({ self, nodes, podNetworks }: Context, spec: PodNetwork["spec"]): OverlayPlan {
  const { vni, port } = spec.vxlan;
  const others = nodes.filter(node => node !== self && podNetworks.get(node)?.spec.overlay !== "Never" && podNetworks.has(node));
  return {
    mode: spec.overlay === "Always" ? "Always" : "CrossSubnet",
    vni,
    port,
    local: Object.values(self.canonical),
    nodes: others.map(({ name, canonical }) => ({ name, addresses: Object.values(canonical) })),
  };
}
