/** Policies, pods and namespaces in, differences of the ruleset out. Pure. */
import type { RulesetChange } from "../types.ts";
import type { Connection, Explanation } from "./explain.ts";
import type {
  ClusterPolicyObject,
  NetworkPolicyObject,
  PolicyAttachment,
  PolicyNamespace,
  PolicyNode,
  PolicyPod,
  PolicySink,
} from "./types.ts";

export interface PolicyOptions {
  /** What is dropped is logged too, at most so often for each set of policies. Absent: nothing is. */
  log?: { perSecond: number; burst: number };
}

/** Keys of the policies that select a pod in a direction: NAMESPACE/NAME, or KIND/NAME for those of the cluster, in the order in which they are asked. */
export interface SelectingPolicies {
  admin: readonly string[];
  /** Any: the pod is isolated. */
  networkPolicies: readonly string[];
  baseline: readonly string[];
}

/** What a named counter of the ruleset counts: packets that the policy dropped, or that were dropped at pods which it isolates. */
export interface DropCounter {
  name: string;
  policy: string;
  direction: "ingress" | "egress";
}

export class PolicyIndex implements PolicySink {
  /** undefined: of none, as for what only explains. */
  constructor(_node: string | undefined, _options: PolicyOptions = {}) {}

  setPod(_pod: PolicyPod): void {}
  deletePod(_key: string): void {}
  setNamespace(_namespace: PolicyNamespace): void {}
  deleteNamespace(_name: string): void {}
  setNode(_node: PolicyNode): void {}
  deleteNode(_name: string): void {}
  setPolicy(_policy: NetworkPolicyObject): void {}
  deletePolicy(_key: string): void {}
  setClusterPolicy(_policy: ClusterPolicyObject): void {}
  deleteClusterPolicy(_key: string): void {}

  /** What was told since takes effect, and the listener hears of it. */
  settle(): void {}

  /** Everything was told, at least once. Before, take() gives nothing and the kernel's rules stay as they are. */
  get complete(): boolean {
    return false;
  }

  /** Replaces the one before. It hears, after a settle() or a changed attachment, that take() may have something. */
  listen(_listener: () => void): void {}

  /** All of this node: what is not among them is gone. By the node's end of the link; takes effect at once. */
  setAttachments(_list: readonly PolicyAttachment[]): void {}
  setAttachment(_attachment: PolicyAttachment): void {}
  deleteAttachment(_hostInterface: string): void {}

  /** The pod is known, and is this one (uid absent: any of the name): its attachment is judged by its labels, not shut. */
  knows(_key: string, _uid?: string): boolean {
    return false;
  }

  /** Differences since the last take. The first ones after a start make all there shall be. */
  take(): RulesetChange[] {
    return [];
  }

  /** All objects as of the last take(), for who compares with the kernel. */
  objects(): RulesetChange[] {
    return [];
  }

  selected(_key: string): { ingress: SelectingPolicies; egress: SelectingPolicies } | undefined {
    return undefined;
  }

  /** Of all tiers and both directions. */
  policiesOf(_key: string): string[] {
    return [];
  }

  explain(_connection: Connection): Explanation {
    throw new Error("not there yet");
  }

  /** Those that are in the ruleset as of the last take(). */
  counters(): DropCounter[] {
    return [];
  }
}
