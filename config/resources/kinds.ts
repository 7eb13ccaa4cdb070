/** The table of kinds: names, columns and schemas. A new kind is one row here. */
import type { Static, TSchema } from "typebox";
import { advertisementSpec, advertisementStatus } from "./advertisement.ts";
import type { apiVersion } from "./common.ts";
import { fabricSpec, fabricStatus } from "./fabric.ts";
import { nodeStateStatus } from "./node-state.ts";
import { peerSpec, peerStatus } from "./peer.ts";
import { podNetworkSpec, podNetworkStatus } from "./pod-network.ts";
import { policySpec, policyStatus } from "./policy.ts";
import type { SchemaNode } from "./schema.ts";

export interface PrinterColumn {
  name: string;
  type: "string" | "integer" | "boolean" | "date";
  jsonPath: string;
  description?: string;
  /** 0 = always shown, 1 = with -o wide. */
  priority?: number;
}

export interface KindRow {
  kind: string;
  plural: string;
  singular: string;
  shortNames: string[];
  description: string;
  columns: PrinterColumn[];
  /** Absent: the object has no spec (NodeState). */
  spec?: SchemaNode;
  status: SchemaNode;
}

const node = (schema: TSchema) => schema as unknown as SchemaNode;
const age: PrinterColumn = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" };

export const Kinds = {
  Fabric: {
    kind: "Fabric",
    plural: "fabrics",
    singular: "fabric",
    shortNames: ["fab"],
    description: "A set of nodes with one AS: how they peer with each other, and the defaults of their sessions.",
    columns: [
      { name: "ASN", type: "integer", jsonPath: ".spec.asn" },
      { name: "Mesh", type: "string", jsonPath: ".spec.mesh.type" },
      { name: "Port", type: "integer", jsonPath: ".spec.listen.port", priority: 1 },
      age,
    ],
    spec: node(fabricSpec),
    status: node(fabricStatus),
  },
  PodNetwork: {
    kind: "PodNetwork",
    plural: "podnetworks",
    singular: "podnetwork",
    shortNames: ["podnet"],
    description: "How the pods of the selected nodes are attached.",
    columns: [
      { name: "Mode", type: "string", jsonPath: ".spec.mode" },
      { name: "MTU", type: "integer", jsonPath: ".spec.mtu" },
      { name: "Overlay", type: "string", jsonPath: ".spec.overlay", priority: 1 },
      age,
    ],
    spec: node(podNetworkSpec),
    status: node(podNetworkStatus),
  },
  Peer: {
    kind: "Peer",
    plural: "peers",
    singular: "peer",
    shortNames: ["bgppeer"],
    description: "Sessions of the selected nodes with a neighbour outside the mesh.",
    columns: [
      { name: "Address", type: "string", jsonPath: ".spec.address" },
      { name: "ASN", type: "integer", jsonPath: ".spec.asn" },
      { name: "Type", type: "string", jsonPath: ".spec.type" },
      { name: "From", type: "string", jsonPath: ".spec.from", priority: 1 },
      { name: "Shutdown", type: "boolean", jsonPath: ".spec.shutdown", priority: 1 },
      age,
    ],
    spec: node(peerSpec),
    status: node(peerStatus),
  },
  Policy: {
    kind: "Policy",
    plural: "policies",
    singular: "policy",
    shortNames: ["bgppol"],
    description: "Ordered rules on routes, with examples of what they must do.",
    columns: [age],
    spec: node(policySpec),
    status: node(policyStatus),
  },
  Advertisement: {
    kind: "Advertisement",
    plural: "advertisements",
    singular: "advertisement",
    shortNames: ["bgpadv"],
    description: "What the selected nodes announce to which peers.",
    columns: [{ name: "Type", type: "string", jsonPath: ".spec.type" }, age],
    spec: node(advertisementSpec),
    status: node(advertisementStatus),
  },
  NodeState: {
    kind: "NodeState",
    plural: "nodestates",
    singular: "nodestate",
    shortNames: ["pns"],
    description: "What the agent of one node reports. The name is that of the node. No agent writes it yet: podlane status shows the same.",
    columns: [
      { name: "ASN", type: "integer", jsonPath: ".status.asn" },
      { name: "RouterID", type: "string", jsonPath: ".status.routerID" },
      { name: "Ready", type: "string", jsonPath: ".status.conditions[?(@.type=='Ready')].status" },
      { name: "Drain", type: "string", jsonPath: ".status.drain.state", priority: 1 },
      age,
    ],
    status: node(nodeStateStatus),
  },
} as const satisfies Record<string, KindRow>;

export type Kind = keyof typeof Kinds;
export const kindRows: readonly KindRow[] = Object.values(Kinds);

/** The parts of ObjectMeta that podlane reads. */
export interface Metadata {
  name: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  generation?: number;
}

interface Podlane<K extends Kind, Spec> {
  apiVersion: typeof apiVersion;
  kind: K;
  metadata: Metadata;
  spec: Spec;
}

/** Objects after validation: defaults are filled in. */
export type Fabric = Podlane<"Fabric", Static<typeof fabricSpec>>;
export type PodNetwork = Podlane<"PodNetwork", Static<typeof podNetworkSpec>>;
export type Peer = Podlane<"Peer", Static<typeof peerSpec>>;
export type Policy = Podlane<"Policy", Static<typeof policySpec>>;
export type Advertisement = Podlane<"Advertisement", Static<typeof advertisementSpec>>;
export type NodeState = Omit<Podlane<"NodeState", never>, "spec"> & { status?: Static<typeof nodeStateStatus> };

/** The parts of core/v1 Node that podlane reads. */
export interface Node {
  apiVersion: "v1";
  kind: "Node";
  metadata: Metadata;
  spec: { podCIDRs: string[] };
  status: { addresses: { type: string; address: string }[] };
}

/** The parts of core/v1 Secret that podlane reads; values are text (base64 already decoded). */
export interface Secret {
  apiVersion: "v1";
  kind: "Secret";
  metadata: Metadata;
  data: Record<string, string>;
}

export type Selector = NonNullable<Fabric["spec"]["nodeSelector"]>;

/** All objects, by name. */
export interface Resources {
  nodes: ReadonlyMap<string, Node>;
  secrets: ReadonlyMap<string, Secret>;
  fabrics: ReadonlyMap<string, Fabric>;
  podNetworks: ReadonlyMap<string, PodNetwork>;
  peers: ReadonlyMap<string, Peer>;
  policies: ReadonlyMap<string, Policy>;
  advertisements: ReadonlyMap<string, Advertisement>;
}

export type AnyResource = Node | Secret | Fabric | PodNetwork | Peer | Policy | Advertisement;

export function emptyResources() {
  return {
    nodes: new Map<string, Node>(),
    secrets: new Map<string, Secret>(),
    fabrics: new Map<string, Fabric>(),
    podNetworks: new Map<string, PodNetwork>(),
    peers: new Map<string, Peer>(),
    policies: new Map<string, Policy>(),
    advertisements: new Map<string, Advertisement>(),
  } satisfies Resources;
}

/** Sorts objects into Resources. Of the same object twice the first stays; the others are returned. */
export function collect(objects: Iterable<AnyResource>): { resources: Resources; duplicates: AnyResource[] } {
  const resources = emptyResources();
  const duplicates: AnyResource[] = [];
  const maps: Record<AnyResource["kind"], Map<string, AnyResource>> = {
    Node: resources.nodes as Map<string, AnyResource>,
    Secret: resources.secrets as Map<string, AnyResource>,
    Fabric: resources.fabrics as Map<string, AnyResource>,
    PodNetwork: resources.podNetworks as Map<string, AnyResource>,
    Peer: resources.peers as Map<string, AnyResource>,
    Policy: resources.policies as Map<string, AnyResource>,
    Advertisement: resources.advertisements as Map<string, AnyResource>,
  };
  for (const object of objects) {
    const map = maps[object.kind];
    if (map.has(object.metadata.name)) duplicates.push(object);
    else map.set(object.metadata.name, object);
  }
  return { resources, duplicates };
}
