/**
 * Who reflects in a fabric. A selector that selects nobody leaves those that reflected before: without any, no session of the fabric would be left.
 */

import { selects } from "../../platform/label-selector.ts";
import type { Node } from "../resources/core.ts";
import type { Fabric, Resources } from "../resources/kinds.ts";
import type { NodeView } from "./context.ts";
import type { Memory } from "./memory.ts";

export function assignReflectors({ metadata, spec }: Fabric, members: readonly NodeView[], { nodes }: Resources, memory: Memory): void {
  const { routeReflectors } = spec.mesh;
  if (!routeReflectors) return;
  const selected = members.filter(({ labels }) => selects(routeReflectors.nodeSelector, labels));
  const names = selected.map(({ name }) => name);
  if (names.length > 0) memory.remember("reflectors", metadata.name, names);
  const reflectors = names.length > 0 ? names : (memory.recall("reflectors", metadata.name) ?? []);
  for (const node of members) {
    node.reflects = reflectors.includes(node.name);
    if (node.reflects) memory.remember("nodes", node.name, nodes.get(node.name) as Node);
  }
}

/** Who watches reflectors alone, by a selector that selects nobody any more, has lost those that go on: they are as they were. */
export function withFormerReflectors(resources: Resources, memory: Memory): Resources {
  if (!resources.partialNodes) return resources;
  const nodes = new Map(resources.nodes);
  const lost = (name: string) => {
    const node = nodes.has(name) ? undefined : memory.before("nodes", name);
    return node ? [node] : [];
  };
  for (const { metadata, spec } of resources.fabrics.values()) {
    const { nodeSelector } = spec.mesh.routeReflectors ?? {};
    if (!nodeSelector || [...resources.nodes.values()].some(node => selects(nodeSelector, node.metadata.labels ?? {}))) continue;
    for (const node of (memory.before("reflectors", metadata.name) ?? []).flatMap(lost)) nodes.set(node.metadata.name, node);
  }
  return { ...resources, nodes };
}
