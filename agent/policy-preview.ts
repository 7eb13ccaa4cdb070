/** What a change of policies would come to for connections that are open now. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { PolicyFeed } from "../config/sources/policy-feed.ts";
import { formatAddress, isAddress, parseAddress } from "../net/address.ts";
import { parseConntrack, type TrackedConnection } from "../netfilter/conntrack.ts";
import type { Explanation } from "../netfilter/policy/explain.ts";
import { PolicyIndex } from "../netfilter/policy/policy-index.ts";
import type {
  ClusterPolicyObject,
  NetworkPolicyObject,
  PolicyNamespace,
  PolicyNode,
  PolicyPod,
  PolicySink,
} from "../netfilter/policy/types.ts";

/** Connections that are told. */
const MAX_CONNECTIONS = 100;
/** Octets of what the kernel lists that are looked at in one turn of the event loop: some 200 connections. */
const PART = 40_000;

export interface PolicyPreview {
  /** That are open now, that the policies in use let begin, and that these would not: they go on, and cannot be begun anew. At most 100. */
  refused: (TrackedConnection & { by: string[] })[];
  /** How many of them there are. */
  count: number;
  /** How many are open and were asked about. Absent: the kernel does not list them. */
  open?: number;
}

/** What was told, to be told again to another index. The objects are those that the first one holds. */
export class PolicyMemory implements PolicySink {
  readonly #pods = new Map<string, PolicyPod>();
  readonly #namespaces = new Map<string, PolicyNamespace>();
  readonly #nodes = new Map<string, PolicyNode>();
  readonly #policies = new Map<string, NetworkPolicyObject>();
  readonly #clusterPolicies = new Map<string, ClusterPolicyObject>();

  setPod = (pod: PolicyPod) => void this.#pods.set(pod.key, pod);
  deletePod = (key: string) => void this.#pods.delete(key);
  setNamespace = (namespace: PolicyNamespace) => void this.#namespaces.set(namespace.name, namespace);
  deleteNamespace = (name: string) => void this.#namespaces.delete(name);
  setNode = (node: PolicyNode) => void this.#nodes.set(node.name, node);
  deleteNode = (name: string) => void this.#nodes.delete(name);
  setPolicy = (policy: NetworkPolicyObject) => void this.#policies.set(policy.key, policy);
  deletePolicy = (key: string) => void this.#policies.delete(key);
  setClusterPolicy = (policy: ClusterPolicyObject) => void this.#clusterPolicies.set(policy.key, policy);
  deleteClusterPolicy = (key: string) => void this.#clusterPolicies.delete(key);
  settle() {}

  clear(): void {
    for (const one of [this.#pods, this.#namespaces, this.#nodes, this.#policies, this.#clusterPolicies]) one.clear();
  }

  /** Whose these addresses are; of several that claim one, the pod that was created last. */
  byAddress(addresses: ReadonlySet<string>): Map<string, PolicyPod> {
    const found = new Map<string, PolicyPod>();
    for (const pod of this.#pods.values()) {
      if (pod.hostNetwork || pod.ended) continue;
      for (const address of pod.addresses) {
        const other = found.get(address);
        if (addresses.has(address) && (!other || (pod.created ?? "") > (other.created ?? ""))) found.set(address, pod);
      }
    }
    return found;
  }

  tell(sink: PolicySink): void {
    for (const pod of this.#pods.values()) sink.setPod(pod);
    for (const namespace of this.#namespaces.values()) sink.setNamespace(namespace);
    for (const node of this.#nodes.values()) sink.setNode(node);
    for (const policy of this.#policies.values()) sink.setPolicy(policy);
    for (const policy of this.#clusterPolicies.values()) sink.setClusterPolicy(policy);
  }
}

/**
 * `known`: what is in use; `other`: policies that come beside it, or in place of those of the same name; `conntrack`: what the kernel lists. There may be a
 * hundred thousand connections, so sessions are served between them. undefined: `other` has no policies.
 */
export async function previewPolicies(
  known: PolicyMemory,
  other: PolicyFeed,
  conntrack: string | undefined,
): Promise<PolicyPreview | undefined> {
  const after = new PolicyIndex();
  known.tell(after);
  let told = 0;
  other.follow(policiesOnly(after, () => told++));
  other.stop();
  if (told === 0) return undefined;
  if (conntrack === undefined) return { refused: [], count: 0 };
  after.settle();
  await nextTurn();
  const before = new PolicyIndex();
  known.tell(before);
  before.settle();
  await nextTurn();
  const refused: PolicyPreview["refused"] = [];
  const asked = new Set<string>();
  let count = 0;
  for (const part of partsOf(conntrack)) {
    for (const one of parseConntrack(part)) {
      if (asked.has(JSON.stringify(one)) || !isAddress(one.from) || !isAddress(one.to)) continue;
      asked.add(JSON.stringify(one));
      const connection = { ...one, from: formatAddress(parseAddress(one.from)), to: formatAddress(parseAddress(one.to)) };
      const then = after.explain(connection);
      if (then.allowed || !before.explain(connection).allowed) continue;
      count++;
      if (refused.length < MAX_CONNECTIONS) refused.push({ ...connection, by: deciding(then) });
    }
    await nextTurn();
  }
  return { refused, count, open: asked.size };
}

/** Whole lines. */
function* partsOf(text: string): Generator<string> {
  for (let from = 0; from < text.length; ) {
    const end = text.indexOf("\n", from + PART);
    yield text.slice(from, end < 0 ? undefined : end);
    from = end < 0 ? text.length : end + 1;
  }
}

/** Pods, namespaces and nodes are as they are. */
function policiesOnly(index: PolicyIndex, told: () => void): PolicySink {
  const nothing = () => {};
  return {
    setPod: nothing,
    deletePod: nothing,
    setNamespace: nothing,
    deleteNamespace: nothing,
    setNode: nothing,
    deleteNode: nothing,
    setPolicy(policy) {
      told();
      index.setPolicy(policy);
    },
    deletePolicy: nothing,
    setClusterPolicy(policy) {
      told();
      index.setClusterPolicy(policy);
    },
    deleteClusterPolicy: nothing,
    settle: nothing,
  };
}

/** The policies on which it fails. */
function deciding({ egress, ingress }: Explanation): string[] {
  const of = [egress, ingress].filter(({ allowed }) => !allowed);
  return [...new Set(of.flatMap(({ policy, isolatedBy = [] }) => (policy === undefined ? isolatedBy : [policy])))];
}
