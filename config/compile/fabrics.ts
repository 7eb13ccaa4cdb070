/** Which node is in which fabric: its AS number, its role in the mesh, and who shares it. */

import { selects } from "../../platform/label-selector.ts";
import { fabricSpec } from "../resources/fabric.ts";
import type { Fabric } from "../resources/kinds.ts";
import { validate } from "../resources/validate.ts";
import { byName, type Cluster, type Context, DEFAULT_ASN, type NodeView, type Problems, someOf } from "./context.ts";
import { fabricAsn } from "./node-values.ts";
import { withUsableLists } from "./references.ts";
import { assignReflectors } from "./reflectors.ts";

/** The fabric that stands in when no Fabric object exists: all nodes, full mesh. */
function defaultFabric(): Fabric {
  const { value } = validate(fabricSpec, { nodeSelector: {}, asn: DEFAULT_ASN });
  return { apiVersion: "podlane.io/v1alpha1", kind: "Fabric", metadata: { name: "default" }, spec: value };
}

/**
 * Gives each node its fabric and AS number. Of several fabrics that select a node, the one that it was in before is used, else the first by name.
 */
export function assignFabrics(nodes: NodeView[], parts: FabricParts): Members {
  const { resources, memory, problems } = parts;
  const none = resources.fabrics.size === 0;
  const fabrics = none ? [defaultFabric()] : byName(resources.fabrics).map(fabric => usableFabric(fabric, nodes, parts));
  for (const node of nodes) {
    const willing = fabrics.filter(({ spec }) => selects(spec.nodeSelector, node.labels));
    const former = memory.before("fabrics", node.name);
    node.fabric = willing.find(({ metadata }) => metadata.name === former) ?? willing[0];
    if (!node.fabric) {
      problems.warning(
        "NotSelected",
        `Node/${node.name}`,
        "metadata.labels",
        "no Fabric selects this node: it takes no part in BGP",
        "label it for a fabric, or add a fabric with nodeSelector {}",
      );
      continue;
    }
    memory.remember("fabrics", node.name, node.fabric.metadata.name);
    const asn = node.ownAsn ?? fabricAsn(node.fabric, node, parts);
    if (asn !== undefined) node.asn = asn;
    else delete node.fabric;
  }
  if (!none) for (const fabric of fabrics) reportFabric(fabric, nodes, problems);
  return new Map(
    fabrics.map(fabric => {
      const all = nodes.filter(node => node.fabric === fabric);
      assignReflectors(fabric, all, resources, memory);
      return [fabric, { all, reflectors: all.filter(({ reflects }) => reflects) }];
    }),
  );
}

type FabricParts = Pick<Cluster, "resources" | "memory" | "problems" | "policies"> & { held: Set<string> };

/** Who a node makes the mesh with: where nodes say their AS themselves, those of its own. */
export function meshOf({ members, self }: Pick<Context, "members" | "self">, fabric: Fabric): ReturnType<Members["get"]> {
  const mesh = members.get(fabric);
  if (!mesh || !fabric.spec.asnFrom) return mesh;
  const isMate = ({ asn }: NodeView) => asn === self.asn;
  return { all: mesh.all.filter(isMate), reflectors: mesh.reflectors.filter(isMate) };
}

type Members = Cluster["members"];

/** With former values in place of those that lead nowhere and would end every session of the fabric. */
function usableFabric(fabric: Fabric, nodes: readonly NodeView[], parts: FabricParts): Fabric {
  const { memory, problems } = parts;
  const { metadata, spec } = fabric;
  const object = `Fabric/${metadata.name}`;
  const others = byName(parts.resources.fabrics).filter(one => one.metadata.name !== metadata.name);
  // One that selected it all along, as {} does, has not taken it.
  const hasTaken = ({ metadata, spec }: Fabric, { labels }: NodeView) => {
    const former = memory.before("selectors", `Fabric/${metadata.name} spec.nodeSelector`);
    return selects(spec.nodeSelector, labels) && !(former && selects(former, labels));
  };
  const isElsewhere = (node: NodeView) => others.some(one => hasTaken(one, node));
  const selectsSome = (selector: Fabric["spec"]["nodeSelector"]) => nodes.some(({ labels }) => selects(selector, labels));
  // One whose nodes others take with the same change is retired, and nothing of it is to be held.
  const isOfUse = (selector: Fabric["spec"]["nodeSelector"]) =>
    selector === spec.nodeSelector ? selectsSome(selector) : nodes.some(node => selects(selector, node.labels) && !isElsewhere(node));
  const { partialNodes } = parts.resources;
  const nodeSelector = memory.hold("selectors", `${object} spec.nodeSelector`, spec.nodeSelector, isOfUse);
  const label = "correct the selector or label the nodes; {} selects all";
  if (nodeSelector !== spec.nodeSelector)
    problems.error(
      "SelectsNothing",
      object,
      "spec.nodeSelector",
      `selects no node${partialNodes ? " that is known here" : ""}: the nodes that it selected before stay`,
      `${label}; or delete the fabric`,
    );
  else if (!selectsSome(nodeSelector) && !partialNodes)
    problems.warning("SelectsNothing", object, "spec.nodeSelector", "selects no node", label);
  const alone = spec.mesh.type === "None" || nodes.filter(({ labels }) => selects(nodeSelector, labels)).length < 2;
  const port = memory.hold("ports", metadata.name, spec.listen.port, value => value !== 0 || alone);
  if (spec.listen.port === 0 && !alone) {
    const effect = port === 0 ? "no mesh session can come up" : `${port}, which was there before, stays in force`;
    problems.error("PortZero", object, "spec.listen.port", `port 0 accepts nothing: ${effect}`, "set a port, or mesh type None");
  }
  return { ...fabric, spec: { ...spec, nodeSelector, listen: { ...spec.listen, port }, mesh: withUsableLists(fabric, parts) } };
}

function reportFabric({ metadata, spec }: Fabric, nodes: NodeView[], problems: Problems): void {
  const object = `Fabric/${metadata.name}`;
  const selected = nodes.filter(({ labels }) => selects(spec.nodeSelector, labels));
  const taken = new Map<string, string[]>();
  for (const { name, fabric } of selected) {
    const other = fabric?.metadata.name;
    if (other !== undefined && other !== metadata.name) taken.set(other, [...(taken.get(other) ?? []), name]);
  }
  for (const [other, names] of taken) {
    const message = `selects ${someOf(names)}, which Fabric/${other} selects too; Fabric/${other} is used`;
    problems.error("SelectedTwice", object, "spec.nodeSelector", message, "let every node be selected by one fabric only");
  }
}
