/**
 * What the documents of the two APIs say of one connection, word by word, over plain lists: written to be read beside them, with nothing of what it is held
 * against but the types.
 */
import type {
  ClusterPolicyObject,
  LabelSelector,
  NetworkPolicyObject,
  PolicyNamespace,
  PolicyNode,
  PolicyPod,
  PolicyPort,
  PolicyProtocol,
  TierPeer,
} from "../types.ts";

export interface Cluster {
  namespaces: PolicyNamespace[];
  nodes: PolicyNode[];
  /** With addresses that are theirs alone. */
  pods: PolicyPod[];
  policies: NetworkPolicyObject[];
  clusterPolicies: ClusterPolicyObject[];
}

/** By address, as the packet has it. */
export interface Probe {
  source: string;
  destination: string;
  protocol: PolicyProtocol;
  port: number;
}

type Direction = "ingress" | "egress";

/** Of a pod, whether the policies that select it let the connection pass in the direction. Of an address that is no pod's: true. */
export function passes(cluster: Cluster, probe: Probe, direction: Direction): boolean {
  const source = podOf(cluster, probe.source);
  const destination = podOf(cluster, probe.destination);
  const pod = direction === "ingress" ? destination : source;
  if (!pod) return true;
  // A pod cannot block access to itself.
  if (source && source === destination) return true;
  const peer = direction === "ingress" ? source : destination;
  const peerAddress = direction === "ingress" ? probe.source : probe.destination;

  const admin = tier(cluster, "Admin", pod, peer, peerAddress, probe, destination, direction);
  if (admin === "Accept") return true;
  if (admin === "Deny") return false;

  const applying = cluster.policies.filter(
    policy => policy.namespace === pod.namespace && policy[direction] !== undefined && fits(policy.pods, pod.labels),
  );
  if (applying.length > 0) {
    return applying.some(policy =>
      policy[direction]!.some(rule => {
        const isPeer =
          rule.peers === undefined ||
          rule.peers.length === 0 ||
          rule.peers.some(one => {
            if (one.block) return inBlock(peerAddress, one.block.cidr) && !one.block.except.some(hole => inBlock(peerAddress, hole));
            if (!peer) return false;
            const { pods, namespaces } = one as { pods?: LabelSelector; namespaces?: LabelSelector };
            if (namespaces === undefined) return peer.namespace === policy.namespace && fits(pods ?? {}, peer.labels);
            return fits(namespaces, labelsOf(cluster, peer.namespace)) && fits(pods ?? {}, peer.labels);
          });
        return isPeer && portFits(rule.ports, probe, destination);
      }),
    );
  }
  return tier(cluster, "Baseline", pod, peer, peerAddress, probe, destination, direction) !== "Deny";
}

function tier(
  cluster: Cluster,
  name: "Admin" | "Baseline",
  pod: PolicyPod,
  peer: PolicyPod | undefined,
  peerAddress: string,
  probe: Probe,
  destination: PolicyPod | undefined,
  direction: Direction,
): "Accept" | "Deny" | "Pass" {
  const ordered = cluster.clusterPolicies
    .filter(policy => policy.tier === name)
    .sort((a, b) => a.priority - b.priority || (a.key < b.key ? -1 : 1));
  for (const policy of ordered) {
    const { subject } = policy;
    const isSubject =
      "namespaces" in subject
        ? fits(subject.namespaces, labelsOf(cluster, pod.namespace))
        : fits(subject.pods.namespaces, labelsOf(cluster, pod.namespace)) && fits(subject.pods.pods, pod.labels);
    if (!isSubject) continue;
    for (const rule of policy[direction]) {
      if (rule.peers.some(one => isTierPeer(cluster, one, peer, peerAddress)) && portFits(rule.ports, probe, destination))
        return rule.action;
    }
  }
  return "Pass";
}

function isTierPeer(cluster: Cluster, one: TierPeer, peer: PolicyPod | undefined, peerAddress: string): boolean {
  if ("networks" in one) return one.networks.some(network => inBlock(peerAddress, network));
  if ("nodes" in one) return cluster.nodes.some(node => fits(one.nodes, node.labels) && node.addresses.includes(peerAddress));
  if (!peer) return false;
  const labels = labelsOf(cluster, peer.namespace);
  if ("namespaces" in one) return fits(one.namespaces, labels);
  return fits(one.pods.namespaces, labels) && fits(one.pods.pods, peer.labels);
}

function portFits(ports: readonly PolicyPort[] | undefined, probe: Probe, destination: PolicyPod | undefined): boolean {
  if (ports === undefined || ports.length === 0) return true;
  for (const { protocol, port, endPort } of ports) {
    if (protocol !== probe.protocol) continue;
    if (port === undefined) return true;
    if (typeof port === "number") {
      if (endPort === undefined ? probe.port === port : probe.port >= port && probe.port <= endPort) return true;
    } else if (destination?.ports.some(one => one.name === port && one.protocol === protocol && one.port === probe.port)) return true;
  }
  return false;
}

/** Whom selectors find: no pod of the host network, none that has ended. */
function podOf(cluster: Cluster, address: string): PolicyPod | undefined {
  return cluster.pods.find(pod => !pod.hostNetwork && !pod.ended && pod.addresses.includes(address));
}

function labelsOf(cluster: Cluster, namespace: string): Readonly<Record<string, string>> {
  return cluster.namespaces.find(one => one.name === namespace)?.labels ?? {};
}

function fits({ matchLabels = {}, matchExpressions = [] }: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  const wanted = Object.entries(matchLabels).every(([key, value]) => labels[key] === value);
  return (
    wanted &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key] as string | undefined;
      switch (operator) {
        case "In":
          return value !== undefined && values.includes(value);
        case "NotIn":
          return value === undefined || !values.includes(value);
        case "Exists":
          return value !== undefined;
        case "DoesNotExist":
          return value === undefined;
      }
      throw new Error(`unknown operator ${operator}`);
    })
  );
}

function inBlock(address: string, block: string): boolean {
  const [network, length] = block.split("/");
  if (network.includes(":") !== address.includes(":")) return false;
  return bits(address).slice(0, Number(length)) === bits(network).slice(0, Number(length));
}

function bits(address: string): string {
  if (!address.includes(":")) {
    const octets = address.split(".").map(part => Number(part).toString(2).padStart(8, "0"));
    return octets.join("");
  }
  const [head, tail] = address.split("::").map(part => (part === "" ? [] : part.split(":")));
  const groups = tail ? [...head, ...Array<string>(8 - head.length - tail.length).fill("0"), ...tail] : head;
  return groups.map(group => Number.parseInt(group, 16).toString(2).padStart(16, "0")).join("");
}
