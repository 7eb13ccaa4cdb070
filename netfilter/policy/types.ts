/**
 * NetworkPolicy in the vocabulary of those who carry it out: what was read of Kubernetes' objects, already checked and trimmed to what decides, and who
 * takes it. Sources (files, API server) fill a PolicySink; an index of policies is one.
 */
import type { LabelSelector } from "../../platform/label-selector.ts";

export type { LabelSelector };

export type PolicyProtocol = "TCP" | "UDP" | "SCTP";

/** Of core/v1 Pod. */
export interface PolicyPod {
  /** NAMESPACE/NAME. */
  key: string;
  namespace: string;
  name: string;
  /**
   * As the runtime says it to us: of the mirror of a static pod the annotation kubernetes.io/config.mirror, not metadata.uid. An attachment with another uid
   * is another pod of this name.
   */
  uid?: string;
  /** metadata.creationTimestamp. Where two pods claim an address, the later one has it: the runtime gave it away before the API heard that the first ended. */
  created?: string;
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
  /**
   * Of which bridge that is a port; null: of none, it is routed. Between ports a frame can lead around addresses, so some are dropped while a policy selects
   * the pod. Absent: not known, and then frames of every bridge of the machine are judged so.
   */
  bridge?: string | null;
}

/** What peers of cluster policies select by labels of nodes, and whose traffic with its own pods is allowed. */
export interface PolicyNode {
  name: string;
  labels: Readonly<Record<string, string>>;
  /** Those of status.addresses that are addresses, canonical. */
  addresses: readonly string[];
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
  /** Absent: the direction is not isolated by it (policyTypes). An empty list lets nothing pass. */
  ingress?: readonly PolicyRule[];
  egress?: readonly PolicyRule[];
}

/** Pods in the selected namespaces: all, or those that are selected as well. Host network is none of them. */
export type TierPods = { namespaces: LabelSelector } | { pods: { namespaces: LabelSelector; pods: LabelSelector } };

/**
 * Networks and nodes come in egress alone. A peer that the reader does not know (domain names, what a later version has) matches nothing in an Accept, so it
 * is left out; in Deny and Pass it makes the rule a Deny of the networks 0.0.0.0/0 and ::/0, as the API wants.
 */
export type TierPeer = TierPods | { networks: readonly string[] } | { nodes: LabelSelector };

export interface TierRule {
  name?: string;
  action: "Accept" | "Deny" | "Pass";
  /** None: it matches nothing. */
  peers: readonly TierPeer[];
  /** Absent: every port of every protocol. A named port without protocol is given as one of each. */
  ports?: readonly PolicyPort[];
}

/** policy.networking.k8s.io ClusterNetworkPolicy, or AdminNetworkPolicy and BaselineAdminNetworkPolicy as one. */
export interface ClusterPolicyObject {
  /** KIND/NAME. */
  key: string;
  name: string;
  tier: "Admin" | "Baseline";
  /** 0..1000, the lowest first; of equal ones the first by key. */
  priority: number;
  subject: TierPods;
  ingress: readonly TierRule[];
  egress: readonly TierRule[];
}

/** Takes what sources say, object by object. Nothing takes effect before settle(). */
export interface PolicySink {
  setPod(pod: PolicyPod): void;
  deletePod(key: string): void;
  setNamespace(namespace: PolicyNamespace): void;
  deleteNamespace(name: string): void;
  setNode(node: PolicyNode): void;
  deleteNode(name: string): void;
  setPolicy(policy: NetworkPolicyObject): void;
  deletePolicy(key: string): void;
  setClusterPolicy(policy: ClusterPolicyObject): void;
  deleteClusterPolicy(key: string): void;
  /** A batch is whole. Before all kinds were heard once, nothing is settled: who is not known yet would be shut out or let in. */
  settle(): void;
}
