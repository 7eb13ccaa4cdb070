/** The table of kinds: names, columns and schemas. A new kind is one row here, from which its type and its place in Resources follow. */
import type { Static, TSchema } from "typebox";
import { addressClaimSpec, addressPoolSpec, addressPoolStatus } from "./address-pool.ts";
import { advertisementSpec, advertisementStatus } from "./advertisement.ts";
import type { apiVersion } from "./common.ts";
import { CoreKinds, type Metadata } from "./core.ts";
import { fabricSpec, fabricStatus } from "./fabric.ts";
import { nodeStateStatus } from "./node-state.ts";
import { peerSpec, peerStatus } from "./peer.ts";
import { podNetworkSpec, podNetworkStatus } from "./pod-network.ts";
import { policySpec, policyStatus } from "./policy.ts";

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
  /** Where its objects stand in Resources. Absent where nobody but podlane writes them (NodeState, AddressClaim): they are not read as configuration. */
  collection?: string;
  spec?: TSchema;
  status?: TSchema;
}

const accepted: PrinterColumn = { name: "Accepted", type: "string", jsonPath: ".status.conditions[?(@.type=='Accepted')].status" };
const resolved: PrinterColumn = {
  name: "Resolved",
  type: "string",
  jsonPath: ".status.conditions[?(@.type=='ResolvedRefs')].status",
  priority: 1,
};
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
      { name: "Nodes", type: "integer", jsonPath: ".status.nodes" },
      { name: "Ready", type: "integer", jsonPath: ".status.nodesReady" },
      accepted,
      { name: "Port", type: "integer", jsonPath: ".spec.listen.port", priority: 1 },
      resolved,
      age,
    ],
    collection: "fabrics",
    spec: fabricSpec,
    status: fabricStatus,
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
      accepted,
      { name: "Overlay", type: "string", jsonPath: ".spec.overlay", priority: 1 },
      resolved,
      age,
    ],
    collection: "podNetworks",
    spec: podNetworkSpec,
    status: podNetworkStatus,
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
      { name: "Sessions", type: "string", jsonPath: ".status.sessions" },
      accepted,
      { name: "Type", type: "string", jsonPath: ".spec.type", priority: 1 },
      { name: "From", type: "string", jsonPath: ".spec.from", priority: 1 },
      { name: "Shutdown", type: "boolean", jsonPath: ".spec.shutdown", priority: 1 },
      resolved,
      age,
    ],
    collection: "peers",
    spec: peerSpec,
    status: peerStatus,
  },
  Policy: {
    kind: "Policy",
    plural: "policies",
    singular: "policy",
    shortNames: ["bgppol"],
    description: "Ordered rules on routes, with examples of what they must do.",
    columns: [accepted, resolved, age],
    collection: "policies",
    spec: policySpec,
    status: policyStatus,
  },
  Advertisement: {
    kind: "Advertisement",
    plural: "advertisements",
    singular: "advertisement",
    shortNames: ["bgpadv"],
    description: "What the selected nodes announce to which peers.",
    columns: [{ name: "Type", type: "string", jsonPath: ".spec.type" }, accepted, resolved, age],
    collection: "advertisements",
    spec: advertisementSpec,
    status: advertisementStatus,
  },
  AddressPool: {
    kind: "AddressPool",
    plural: "addresspools",
    singular: "addresspool",
    shortNames: ["pap"],
    description: "Addresses that Services of type LoadBalancer get.",
    columns: [
      { name: "Auto", type: "boolean", jsonPath: ".spec.autoAssign" },
      { name: "Used4", type: "integer", jsonPath: ".status.ipv4.used" },
      { name: "Free4", type: "integer", jsonPath: ".status.ipv4.free" },
      { name: "Used6", type: "integer", jsonPath: ".status.ipv6.used" },
      { name: "Free6", type: "integer", jsonPath: ".status.ipv6.free" },
      accepted,
      { name: "Priority", type: "integer", jsonPath: ".spec.priority", priority: 1 },
      { name: "Class", type: "string", jsonPath: ".spec.loadBalancerClass", priority: 1 },
      age,
    ],
    collection: "addressPools",
    spec: addressPoolSpec,
    status: addressPoolStatus,
  },
  AddressClaim: {
    kind: "AddressClaim",
    plural: "addressclaims",
    singular: "addressclaim",
    shortNames: ["pac"],
    description:
      "An address that is given away: who creates it has the address for the Service. podlane writes it; one without Services keeps the address from being given to any.",
    columns: [
      { name: "Address", type: "string", jsonPath: ".spec.address" },
      { name: "Pool", type: "string", jsonPath: ".spec.pool" },
      { name: "Namespace", type: "string", jsonPath: ".spec.services[0].namespace" },
      { name: "Service", type: "string", jsonPath: ".spec.services[0].name", description: "The first of them." },
      age,
    ],
    spec: addressClaimSpec,
  },
  NodeState: {
    kind: "NodeState",
    plural: "nodestates",
    singular: "nodestate",
    shortNames: ["pns"],
    description: "What the agent of one node reports, where it takes its objects from the API server. The name is that of the node.",
    columns: [
      { name: "Sessions", type: "string", jsonPath: ".status.summary.sessions" },
      { name: "Routes", type: "integer", jsonPath: ".status.summary.routes" },
      { name: "Problems", type: "integer", jsonPath: ".status.summary.errors", description: "Those that are errors." },
      { name: "Ready", type: "string", jsonPath: ".status.conditions[?(@.type=='Ready')].status" },
      { name: "Reason", type: "string", jsonPath: ".status.conditions[?(@.type=='Ready')].message", priority: 1 },
      { name: "Warnings", type: "integer", jsonPath: ".status.summary.warnings", priority: 1 },
      { name: "ASN", type: "integer", jsonPath: ".status.asn", priority: 1 },
      { name: "RouterID", type: "string", jsonPath: ".status.routerID", priority: 1 },
      { name: "Version", type: "string", jsonPath: ".status.version", priority: 1 },
      { name: "Drain", type: "string", jsonPath: ".status.drain.state", priority: 1 },
      age,
    ],
    status: nodeStateStatus,
  },
} as const satisfies Record<string, KindRow>;

export const kindRows: readonly KindRow[] = Object.values(Kinds);

type Rows = typeof Kinds;
/** Kinds that are read. */
type ReadKind = { [K in keyof Rows]: Rows[K] extends { collection: string; spec: TSchema } ? K : never }[keyof Rows];

/** An object after validation: defaults are filled in. */
interface Podlane<K extends ReadKind> {
  apiVersion: typeof apiVersion;
  kind: K;
  metadata: Metadata;
  spec: Static<Rows[K]["spec"]>;
}

export type Fabric = Podlane<"Fabric">;
export type PodNetwork = Podlane<"PodNetwork">;
export type Peer = Podlane<"Peer">;
export type Policy = Podlane<"Policy">;
export type Advertisement = Podlane<"Advertisement">;
export type AddressPool = Podlane<"AddressPool">;
export type AddressClaimSpec = Static<Rows["AddressClaim"]["spec"]>;

export type Selector = NonNullable<Fabric["spec"]["nodeSelector"]>;

/** All objects, by name. */
export type Resources = Readonly<
  { [K in ReadKind as Rows[K]["collection"]]: ReadonlyMap<string, Podlane<K>> } & {
    [K in keyof typeof CoreKinds as (typeof CoreKinds)[K]["collection"]]: ReadonlyMap<string, ReturnType<(typeof CoreKinds)[K]["read"]>>;
  } & {
    /** There are nodes that are not in `nodes`: it has what neededNodes() (compile/needs.ts) says, and no more. Absent: all are in it. */
    partialNodes?: boolean;
  }
>;

export type AnyResource = { [K in ReadKind]: Podlane<K> }[ReadKind] | ReturnType<(typeof CoreKinds)[keyof typeof CoreKinds]["read"]>;

const collections = new Map<string, string>(
  [...Object.entries<{ collection: string }>(CoreKinds), ...kindRows.map(row => [row.kind, row] as const)].flatMap(
    ([kind, { collection }]) => (collection === undefined ? [] : [[kind, collection]]),
  ),
);

export function emptyResources(): Resources {
  return Object.fromEntries([...collections.values()].map(collection => [collection, new Map()])) as unknown as Resources;
}

/** Sorts objects into Resources. Of the same object twice the first stays; the others are returned. */
export function collect(objects: Iterable<AnyResource>): { resources: Resources; duplicates: AnyResource[] } {
  const resources = emptyResources();
  const maps = resources as unknown as Record<string, Map<string, AnyResource>>;
  const duplicates: AnyResource[] = [];
  for (const object of objects) {
    const map = maps[collections.get(object.kind) as string];
    if (map.has(object.metadata.name)) duplicates.push(object);
    else map.set(object.metadata.name, object);
  }
  return { resources, duplicates };
}
