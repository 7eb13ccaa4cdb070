/**
 * NetworkPolicy in the vocabulary of those who carry it out: what was read of Kubernetes' objects, already checked and trimmed to what decides, and who
 * takes it. Sources (files, API server) fill a PolicySink; an index of policies is one.
 */

/** Label selector of Kubernetes: all requirements hold; an empty one selects everything. */
export interface LabelSelector {
  matchLabels?: Readonly<Record<string, string>>;
  matchExpressions?: readonly { key: string; operator: "In" | "NotIn" | "Exists" | "DoesNotExist"; values?: readonly string[] }[];
}

export type PolicyProtocol = "TCP" | "UDP" | "SCTP";

/** Of core/v1 Pod. */
export interface PolicyPod {
  /** NAMESPACE/NAME. */
  key: string;
  namespace: string;
  name: string;
  uid?: string;
  labels: Readonly<Record<string, string>>;
  /** Absent: not scheduled yet. */
  node?: string;
  /** status.podIPs, in canonical spelling; empty until the runtime has told them. */
  addresses: readonly string[];
  /** It is its node: no policy selects it, and no selector of pods finds it. */
  hostNetwork: boolean;
  /** Succeeded or Failed: its addresses may be another's. */
  ended: boolean;
  /** Named ports of its containers. */
  ports: readonly { name: string; protocol: PolicyProtocol; port: number }[];
}

/** A pod of this node as it is attached, which is known before its status says so. */
export interface PolicyAttachment {
  /** NAMESPACE/NAME of the pod. */
  key: string;
  uid?: string;
  /** Canonical, without length. */
  addresses: readonly string[];
  /** The node's end of its link. */
  hostInterface: string;
}

export interface PolicyNamespace {
  name: string;
  labels: Readonly<Record<string, string>>;
}

export interface PolicyPort {
  protocol: PolicyProtocol;
  /** Number, or name of a port of the destination pod. Absent: every port of the protocol. */
  port?: number | string;
  /** Inclusive; with a number alone. */
  endPort?: number;
}

/** An address block, with what is taken out of it. */
export interface PolicyBlock {
  cidr: string;
  except: readonly string[];
}

/** Pods by both selectors (absent `pods`: all of the namespaces; absent `namespaces`: that of the policy), or addresses. */
export type PolicyPeer = { pods?: LabelSelector; namespaces?: LabelSelector; block?: undefined } | { block: PolicyBlock };

export interface PolicyRule {
  /** Absent: everybody. An empty list is read as absent, as the API wants. */
  peers?: readonly PolicyPeer[];
  /** Absent: every port. */
  ports?: readonly PolicyPort[];
}

/** networking.k8s.io/v1 NetworkPolicy. */
export interface NetworkPolicyObject {
  /** NAMESPACE/NAME. */
  key: string;
  namespace: string;
  name: string;
  pods: LabelSelector;
  /** Absent: the direction is not isolated by it. */
  ingress?: readonly PolicyRule[];
  egress?: readonly PolicyRule[];
}

export type TierPeer =
  | { namespaces: LabelSelector }
  | { pods: { namespaces: LabelSelector; pods: LabelSelector } }
  /** Egress only. */
  | { networks: readonly string[] }
  | { nodes: LabelSelector };

export interface TierRule {
  name?: string;
  action: "Accept" | "Deny" | "Pass";
  peers: readonly TierPeer[];
  /** Absent: every port. */
  ports?: readonly PolicyPort[];
}

/** policy.networking.k8s.io ClusterNetworkPolicy, or AdminNetworkPolicy and BaselineAdminNetworkPolicy as one. */
export interface ClusterPolicyObject {
  /** KIND/NAME. */
  key: string;
  name: string;
  tier: "Admin" | "Baseline";
  /** 0..1000, the lowest first; of equal ones the first by name. */
  priority: number;
  subject: { namespaces: LabelSelector } | { pods: { namespaces: LabelSelector; pods: LabelSelector } };
  ingress: readonly TierRule[];
  egress: readonly TierRule[];
}

/** Takes what sources say, object by object. Nothing takes effect before settle(). */
export interface PolicySink {
  setPod(pod: PolicyPod): void;
  deletePod(key: string): void;
  setNamespace(namespace: PolicyNamespace): void;
  deleteNamespace(name: string): void;
  setPolicy(policy: NetworkPolicyObject): void;
  deletePolicy(key: string): void;
  setClusterPolicy(policy: ClusterPolicyObject): void;
  deleteClusterPolicy(key: string): void;
  /** A batch is whole. Before all kinds were heard once, nothing is settled: who is not known yet would be shut out or let in. */
  settle(): void;
}
