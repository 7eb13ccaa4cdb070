/**
 * Which rule of which policy lets a connection pass, or drops it: asked of the policies as they are written, beside what was made of them for the kernel.
 * Pure.
 */
import { contains, formatAddress, isAddress, parseAddress, parsePrefix } from "../../net/address.ts";
import { selects } from "../../platform/label-selector.ts";
import type { Direction } from "./names.ts";
import type { NodeTable } from "./nodes.ts";
import type { PodTable } from "./pods.ts";
import type { PolicyTable } from "./policies.ts";
import { namespaceLabels } from "./selection.ts";
import type {
  ClusterPolicyObject,
  PolicyBlock,
  PolicyNamespace,
  PolicyNode,
  PolicyPeer,
  PolicyPod,
  PolicyPort,
  PolicyProtocol,
  TierPeer,
  TierRule,
} from "./types.ts";

/** Pods by NAMESPACE/NAME, anybody by address. */
export interface Connection {
  from: string;
  to: string;
  protocol: PolicyProtocol;
  /** Destination port behind all translation: the pod's own, not the Service's. */
  port: number;
}

export interface Verdict {
  allowed: boolean;
  /**
   * "rule": of a policy. "isolated": policies isolate the pod, and none of their rules matches. The others say that nothing was asked, or nothing matched:
   * "not-isolated", "not-a-pod", "host-network", "self", "own-node".
   */
  by: "rule" | "isolated" | "not-isolated" | "not-a-pod" | "host-network" | "self" | "own-node";
  /** Of by "rule": NAMESPACE/NAME, or KIND/NAME. */
  policy?: string;
  tier?: "Admin" | "NetworkPolicy" | "Baseline";
  /** Of by "rule": from 1, in its direction. */
  rule?: number;
  ruleName?: string;
  /** Of by "isolated": all that isolate it. */
  isolatedBy?: readonly string[];
}

export interface Explanation {
  /** At the node of the source. */
  egress: Verdict;
  /** At the node of the destination. */
  ingress: Verdict;
  /** Both do. */
  allowed: boolean;
}

export interface Known {
  pods: PodTable;
  nodes: NodeTable;
  namespaces: ReadonlyMap<string, PolicyNamespace>;
  policies: PolicyTable;
}

/** What is known of one end. */
interface End {
  /** Absent: a pod that has none yet. */
  address?: string;
  /** Whom selectors find: not on the host network. */
  pod?: PolicyPod;
  hostNetwork: boolean;
  /** Of a pod the one that it is on, also where the node itself is not known. */
  nodeName?: string;
  node?: PolicyNode;
}

/** One connection with both ends found, as one direction sees it. */
interface Question {
  known: Known;
  /** Who is asked about, and the pod whose policies are asked. */
  peer: End;
  self: End;
  destination: End;
  protocol: PolicyProtocol;
  port: number;
}

/** An end that is neither a known pod nor an address. */
export class UnknownEndError extends Error {
  override readonly name = "UnknownEndError";
}

/** Throws UnknownEndError. */
export function explain(known: Known, { from, to, protocol, port }: Connection): Explanation {
  const [source, destination] = [endOf(known, from), endOf(known, to)];
  // Of a pod with two families that which the other end has, too.
  const [a, b] = [addressOf(source, destination), addressOf(destination, source)];
  const common = { known, destination: b, protocol, port };
  const egress = judge({ ...common, self: a, peer: b }, "egress");
  const ingress = judge({ ...common, self: b, peer: a }, "ingress");
  return { egress, ingress, allowed: egress.allowed && ingress.allowed };
}

interface FoundEnd extends Omit<End, "address"> {
  addresses: readonly string[];
}

function endOf({ pods, nodes }: Known, text: string): FoundEnd {
  if (isAddress(text)) {
    const address = formatAddress(parseAddress(text));
    const pod = pods.owner(address)?.pod;
    const node = pod ? nodes.get(pod.node) : nodes.owner(address);
    const nodeName = pod?.node ?? node?.name;
    return {
      addresses: [address],
      ...(pod && { pod }),
      ...(nodeName !== undefined && { nodeName }),
      ...(node && { node }),
      hostNetwork: !pod && node !== undefined,
    };
  }
  const entry = pods.get(text);
  if (!entry) throw new UnknownEndError(`${text} is neither a pod that is known (NAMESPACE/NAME) nor an address`);
  const { pod, addresses } = entry;
  const node = nodes.get(pod.node);
  const about = { hostNetwork: pod.hostNetwork, ...(pod.node !== undefined && { nodeName: pod.node }), ...(node && { node }) };
  if (pod.hostNetwork) return { ...about, addresses: pod.addresses.length > 0 ? pod.addresses : (node?.addresses ?? []) };
  return { ...about, addresses, pod };
}

function addressOf({ addresses, ...end }: FoundEnd, other: FoundEnd): End {
  const isSix = (address: string) => address.includes(":");
  const address = addresses.find(one => other.addresses.length === 0 || other.addresses.some(two => isSix(one) === isSix(two)));
  return { ...end, ...(address !== undefined && { address }) };
}

function judge(question: Question, direction: Direction): Verdict {
  const { known, self, peer } = question;
  if (!self.pod) return { allowed: true, by: self.hostNetwork ? "host-network" : "not-a-pod" };
  if (peer.pod?.key === self.pod.key) return { allowed: true, by: "self" };
  if (!peer.pod && peer.nodeName !== undefined && peer.nodeName === self.nodeName) return { allowed: true, by: "own-node" };
  const { admin, networkPolicies, baseline } = known.policies.selecting(self.pod, direction);
  const first = tierVerdict(question, admin, direction);
  if (first) return first;
  for (const { key, namespace, [direction]: rules = [] } of networkPolicies) {
    const at = rules.findIndex(({ peers = [], ports }) => {
      return (peers.length === 0 || peers.some(one => isPeer(question, one, namespace))) && isPort(question, ports);
    });
    if (at >= 0) return { allowed: true, by: "rule", policy: key, tier: "NetworkPolicy", rule: at + 1 };
  }
  if (networkPolicies.length > 0) return { allowed: false, by: "isolated", isolatedBy: networkPolicies.map(({ key }) => key) };
  return tierVerdict(question, baseline, direction) ?? { allowed: true, by: "not-isolated" };
}

/** undefined: nothing matches, or what does says Pass. */
function tierVerdict(question: Question, policies: readonly ClusterPolicyObject[], direction: Direction): Verdict | undefined {
  for (const { key, tier, [direction]: rules } of policies) {
    for (const [at, rule] of rules.entries()) {
      if (!matches(question, rule)) continue;
      if (rule.action === "Pass") return undefined;
      const named = rule.name ? { ruleName: rule.name } : {};
      return { allowed: rule.action === "Accept", by: "rule", policy: key, tier, rule: at + 1, ...named };
    }
  }
  return undefined;
}

function matches(question: Question, { peers, ports }: TierRule): boolean {
  return peers.some(peer => isTierPeer(question, peer)) && isPort(question, ports);
}

function isPeer({ known, peer }: Question, one: PolicyPeer, namespace: string): boolean {
  if (one.block) return isInBlock(peer, one.block);
  const { pods = {}, namespaces } = one as Exclude<PolicyPeer, { block: PolicyBlock }>;
  if (!peer.pod) return false;
  const isThere = namespaces
    ? selects(namespaces, namespaceLabels(known.namespaces, peer.pod.namespace))
    : peer.pod.namespace === namespace;
  return isThere && selects(pods, peer.pod.labels);
}

function isTierPeer({ known, peer }: Question, one: TierPeer): boolean {
  if ("networks" in one) return one.networks.some(cidr => isInBlock(peer, { cidr, except: [] }));
  if ("nodes" in one) return !peer.pod && peer.node !== undefined && selects(one.nodes, peer.node.labels);
  if (!peer.pod) return false;
  const labels = namespaceLabels(known.namespaces, peer.pod.namespace);
  if ("namespaces" in one) return selects(one.namespaces, labels);
  return selects(one.pods.namespaces, labels) && selects(one.pods.pods, peer.pod.labels);
}

function isInBlock({ address }: End, { cidr, except }: PolicyBlock): boolean {
  if (address === undefined) return false;
  const octets = parseAddress(address);
  const isIn = (text: string) => contains(parsePrefix(text, "clear"), octets);
  return isIn(cidr) && !except.some(isIn);
}

function isPort({ destination, protocol, port }: Question, ports: readonly PolicyPort[] = []): boolean {
  if (ports.length === 0) return true;
  return ports.some(one => {
    if (one.protocol !== protocol) return false;
    if (typeof one.port !== "string") return one.port === undefined || (port >= one.port && port <= (one.endPort ?? one.port));
    return destination.pod?.ports.some(named => named.name === one.port && named.protocol === protocol && named.port === port) ?? false;
  });
}
