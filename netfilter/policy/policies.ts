/** Policies by whom they select. Pure. */
import { selects } from "../../platform/label-selector.ts";
import type { Profile } from "./assemble.ts";
import { type Direction, Letters, nameOf } from "./names.ts";
import { tierSelection } from "./rules.ts";
import { namespaceLabels } from "./selection.ts";
import type { ClusterPolicyObject, NetworkPolicyObject, PolicyNamespace, PolicyPod } from "./types.ts";

/** Those that select a pod in a direction, in the order in which they are asked. */
export interface Selecting {
  admin: readonly ClusterPolicyObject[];
  /** Any: the pod is isolated, and baseline is not asked. */
  networkPolicies: readonly NetworkPolicyObject[];
  baseline: readonly ClusterPolicyObject[];
}

export class PolicyTable {
  readonly #policies = new Map<string, NetworkPolicyObject>();
  /** Ordered by key. */
  readonly #byNamespace = new Map<string, NetworkPolicyObject[]>();
  readonly #ofCluster = new Map<string, ClusterPolicyObject>();
  #ordered: ClusterPolicyObject[] = [];
  readonly #namespaces: ReadonlyMap<string, PolicyNamespace>;

  constructor(namespaces: ReadonlyMap<string, PolicyNamespace>) {
    this.#namespaces = namespaces;
  }

  get(key: string): NetworkPolicyObject | undefined {
    return this.#policies.get(key);
  }

  set(key: string, policy: NetworkPolicyObject | undefined): void {
    const before = this.#policies.get(key);
    if (before) this.#inNamespace(before.namespace, all => all.filter(one => one !== before));
    if (policy) {
      this.#policies.set(key, policy);
      this.#inNamespace(policy.namespace, all => [...all, policy].sort((a, b) => compare(a.key, b.key)));
    } else this.#policies.delete(key);
  }

  getOfCluster(key: string): ClusterPolicyObject | undefined {
    return this.#ofCluster.get(key);
  }

  setOfCluster(key: string, policy: ClusterPolicyObject | undefined): void {
    if (policy) this.#ofCluster.set(key, policy);
    else this.#ofCluster.delete(key);
    this.#ordered = [...this.#ofCluster.values()].sort((a, b) => a.priority - b.priority || compare(a.key, b.key));
  }

  get anyOfCluster(): boolean {
    return this.#ordered.length > 0;
  }

  selecting(pod: PolicyPod, direction: Direction): Selecting {
    if (pod.hostNetwork) return { admin: [], networkPolicies: [], baseline: [] };
    const ofCluster = this.#ordered.filter(policy => policy[direction].length > 0 && this.#selects(policy, pod));
    return {
      admin: ofCluster.filter(({ tier }) => tier === "Admin"),
      networkPolicies: (this.#byNamespace.get(pod.namespace) ?? []).filter(one => one[direction] && selects(one.pods, pod.labels)),
      baseline: ofCluster.filter(({ tier }) => tier === "Baseline"),
    };
  }

  /** `pod` absent: one of the namespace that is not known. undefined: nothing is asked. */
  profile(pod: PolicyPod | undefined, namespace: string, direction: Direction): Profile | undefined {
    if (!pod) {
      const closed = { name: `np-${Letters[direction]}-unknown`, admin: [], networkPolicies: [], baseline: [], closed: true } as const;
      return this.#mightSelect(namespace, direction) ? closed : undefined;
    }
    const { admin, networkPolicies, baseline: all } = this.selecting(pod, direction);
    const baseline = networkPolicies.length > 0 ? [] : all;
    if (admin.length + networkPolicies.length + baseline.length === 0) return undefined;
    const keys = [admin, networkPolicies, baseline].map(policies => policies.map(one => one.key));
    return { name: nameOf(Letters[direction], keys), admin, networkPolicies, baseline };
  }

  /** Some pod of the namespace, whatever its labels. */
  #mightSelect(namespace: string, direction: Direction): boolean {
    if (this.#byNamespace.get(namespace)?.some(policy => policy[direction])) return true;
    const labels = namespaceLabels(this.#namespaces, namespace);
    return this.#ordered.some(policy => policy[direction].length > 0 && selects(tierSelection(policy.subject).namespaces!, labels));
  }

  #selects({ subject }: ClusterPolicyObject, pod: PolicyPod): boolean {
    const labels = namespaceLabels(this.#namespaces, pod.namespace);
    if ("namespaces" in subject) return selects(subject.namespaces, labels);
    return selects(subject.pods.namespaces, labels) && selects(subject.pods.pods, pod.labels);
  }

  #inNamespace(name: string, change: (all: NetworkPolicyObject[]) => NetworkPolicyObject[]): void {
    const all = change(this.#byNamespace.get(name) ?? []);
    if (all.length > 0) this.#byNamespace.set(name, all);
    else this.#byNamespace.delete(name);
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
