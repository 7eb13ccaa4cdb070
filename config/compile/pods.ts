/** How this node's pods are attached: the PodNetwork that selects it, or the defaults. */

import type { PodPlan } from "../../cni/types.ts";
import { formatPrefix, overlaps, parsePrefix } from "../../net/address.ts";
import { Overhead } from "../../overlay/types.ts";
import { selects } from "../../platform/label-selector.ts";
import { podNetworkSpec } from "../resources/pod-network.ts";
import { validate } from "../resources/validate.ts";
import { byName, type Cluster, type Context, someOf } from "./context.ts";

export function compilePods(context: Context): PodPlan {
  const { self, problems } = context;
  const network = context.podNetworks.get(self);
  const spec = network?.spec ?? validate(podNetworkSpec, { nodeSelector: {} }).value;
  if (self.podCidrs.length === 0 && !self.contested) {
    problems.warning(
      "NoPodSubnet",
      `Node/${self.name}`,
      "spec.podCIDRs",
      "has no pod subnet: no pod can be attached",
      "let Kubernetes assign one (--allocate-node-cidrs), or list it under allocations of a PodNetwork",
    );
  }
  for (const { prefix, source } of self.podCidrs) {
    const clash = (spec.serviceCIDRs ?? []).find(range => overlaps(parsePrefix(prefix), parsePrefix(range)));
    if (clash)
      problems.error(
        "RangesOverlap",
        source,
        "spec",
        `pod subnet ${prefix} overlaps the service range ${clash}`,
        "choose ranges that do not overlap",
      );
  }
  return {
    podCidrs: self.podCidrs.map(({ prefix }) => prefix),
    mode: spec.mode === "Routed" ? "routed" : "bridge",
    bridgeName: spec.bridgeName,
    mtu: spec.mtu ?? "auto",
    ...(spec.overlay !== "Never" && Object.keys(self.canonical).length > 0 && { encapsulation: Overhead[self.canonical[6] ? 6 : 4] }),
    ...(Object.keys(self.address).length > 0 && { nodeAddresses: Object.values(self.address) }),
    hairpin: spec.hairpin,
    ...(spec.serviceCIDRs?.length ? { serviceCidrs: [...spec.serviceCIDRs].sort() } : {}),
  };
}

/** Of those that select a node the one that was used before, else the first by name. */
export function assignPodNetworks({
  resources,
  nodes,
  memory,
  problems,
}: Pick<Cluster, "resources" | "nodes" | "memory" | "problems">): Cluster["podNetworks"] {
  const owner = new Map<string, string>();
  const all = byName(resources.podNetworks);
  for (const { name, labels } of nodes) {
    const willing = all.filter(({ spec }) => selects(spec.nodeSelector, labels)).map(({ metadata }) => metadata.name);
    const former = memory.before("podNetworks", name);
    const chosen = former !== undefined && willing.includes(former) ? former : willing[0];
    if (chosen === undefined) continue;
    memory.remember("podNetworks", name, chosen);
    owner.set(name, `PodNetwork/${chosen}`);
  }
  const keepers = new Map(nodes.flatMap(({ name, podCidrs }) => podCidrs.map(({ prefix, source }) => [`${source} ${prefix}`, name])));
  for (const network of all) {
    const object = `PodNetwork/${network.metadata.name}`;
    const selected = nodes.filter(({ labels }) => selects(network.spec.nodeSelector, labels));
    if (selected.length === 0 && !resources.partialNodes)
      problems.warning(
        "SelectsNothing",
        object,
        "spec.nodeSelector",
        "selects no node",
        "correct the selector or label the nodes; {} selects all",
      );
    const taken = selected.filter(({ name }) => owner.has(name) && owner.get(name) !== object);
    for (const other of new Set(taken.map(({ name }) => owner.get(name)))) {
      const names = taken.filter(({ name }) => owner.get(name) === other).map(({ name }) => name);
      problems.error(
        "SelectedTwice",
        object,
        "spec.nodeSelector",
        `selects ${someOf(names)}, which ${other} selects too; ${other} is used`,
        "let every node be selected by one PodNetwork only",
      );
    }
    for (const [i, { node, podCIDRs }] of (network.spec.allocations ?? []).entries()) {
      if (resources.nodes.has(node) || resources.partialNodes) continue;
      const at = `spec.allocations[${i}].node`;
      const remedy = "correct the name or take the allocation out";
      const keeper = podCIDRs.map(prefix => keepers.get(`${object} ${formatPrefix(parsePrefix(prefix))}`)).find(Boolean);
      if (keeper === undefined) problems.warning("ReferenceNotFound", object, at, `there is no node ${node}`, remedy);
      else
        problems.error(
          "ReferenceNotFound",
          object,
          at,
          `there is no node ${node}: ${keeper}, which had ${podCIDRs.join(", ")}, keeps it`,
          remedy,
        );
    }
  }
  const byObject = new Map(all.map(network => [`PodNetwork/${network.metadata.name}`, network]));
  return new Map(
    nodes.flatMap(node => {
      const network = byObject.get(owner.get(node.name) ?? "");
      return network ? [[node, network]] : [];
    }),
  );
}
