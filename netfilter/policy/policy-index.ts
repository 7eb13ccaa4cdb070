/**
 * Policies, pods, namespaces and this node's attachments in, differences of the ruleset out, kept in step object by object: a pod that no rule in force finds
 * changes nothing. Pure.
 */
import { isDeepStrictEqual } from "node:util";
import { sameObject } from "../json.ts";
import { objectKey, type RulesetObject } from "../ruleset.ts";
import type { RulesetChange } from "../types.ts";
import { Assembler, type DropCounter, type LogOptions, type Subject } from "./assemble.ts";
import { type Connection, type Explanation, explain } from "./explain.ts";
import type { Direction } from "./names.ts";
import { NodeTable } from "./nodes.ts";
import { type PodEntry, PodTable } from "./pods.ts";
import { PolicyTable } from "./policies.ts";
import { SelectionTable } from "./selection.ts";
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
  /** What is dropped is logged too, at most so often for each set of policies that pods here have. Absent: nothing is. */
  log?: LogOptions;
}

/** Keys of the policies that select a pod in a direction, in the order in which they are asked. */
export interface SelectingPolicies {
  /** KIND/NAME. */
  admin: readonly string[];
  /** NAMESPACE/NAME. Any: the pod is isolated, and baseline is not asked. */
  networkPolicies: readonly string[];
  baseline: readonly string[];
}

export class PolicyIndex implements PolicySink {
  readonly #pods = new PodTable();
  readonly #namespaces = new Map<string, PolicyNamespace>();
  readonly #nodes = new NodeTable();
  readonly #policies = new PolicyTable(this.#namespaces);
  readonly #selections = new SelectionTable(this.#pods, this.#namespaces);
  readonly #assembler: Assembler;
  /** Told, and not settled yet: half a batch would open or shut what neither the old nor the new state does. */
  #told: (() => void)[] = [];
  #complete = false;
  #listener: (() => void) | undefined;
  /** By the node's end of the link. */
  readonly #subjects = new Map<string, Subject>();
  readonly #dirtySubjects = new Set<string>();
  /** Chains, maps or which sets there are may be others; else only elements of sets are. */
  #dirty = false;
  #taken = new Map<string, RulesetObject>();
  #counters: readonly DropCounter[] = [];

  constructor({ log }: PolicyOptions = {}) {
    this.#assembler = new Assembler(log);
  }

  setPod(pod: PolicyPod): void {
    this.#told.push(() => this.#setPod(pod));
  }

  deletePod(key: string): void {
    this.#told.push(() => this.#deletePod(key));
  }

  setNamespace(namespace: PolicyNamespace): void {
    this.#told.push(() => this.#setNamespace(namespace.name, namespace));
  }

  deleteNamespace(name: string): void {
    this.#told.push(() => this.#setNamespace(name, undefined));
  }

  setNode(node: PolicyNode): void {
    this.#told.push(() => this.#setNode(node.name, node));
  }

  deleteNode(name: string): void {
    this.#told.push(() => this.#setNode(name, undefined));
  }

  setPolicy(policy: NetworkPolicyObject): void {
    this.#told.push(() => this.#setPolicy(policy.key, policy));
  }

  deletePolicy(key: string): void {
    this.#told.push(() => this.#setPolicy(key, undefined));
  }

  setClusterPolicy(policy: ClusterPolicyObject): void {
    this.#told.push(() => this.#setClusterPolicy(policy.key, policy));
  }

  deleteClusterPolicy(key: string): void {
    this.#told.push(() => this.#setClusterPolicy(key, undefined));
  }

  /** What was told since takes effect, and the listener hears of it. */
  settle(): void {
    const told = this.#told;
    this.#told = [];
    for (const apply of told) apply();
    this.#complete = true;
    this.#listener?.();
  }

  /** Everything was told, at least once. Before, take() gives nothing and the kernel's rules stay as they are. */
  get complete(): boolean {
    return this.#complete;
  }

  /** Replaces the one before. It hears, after a settle() or a changed attachment, that take() may have something. */
  listen(listener: () => void): void {
    this.#listener = listener;
  }

  /** All of this node: what is not among them is gone. Takes effect at once. */
  setAttachments(list: readonly PolicyAttachment[]): void {
    const there = new Set(list.map(({ hostInterface }) => hostInterface));
    for (const name of [...this.#subjects.keys()]) if (!there.has(name)) this.#detach(name);
    for (const attachment of list) this.#attach(attachment);
    this.#listener?.();
  }

  setAttachment(attachment: PolicyAttachment): void {
    this.#attach(attachment);
    this.#listener?.();
  }

  /** By the node's end of the link. */
  deleteAttachment(hostInterface: string): void {
    this.#detach(hostInterface);
    this.#listener?.();
  }

  /** The pod is known, and is this one (uid absent: any of the name): its attachment is judged by its labels, and not shut. */
  knows(key: string, uid?: string): boolean {
    const pod = this.#pods.get(key)?.pod;
    return this.#complete && pod !== undefined && (uid === undefined || pod.uid === undefined || pod.uid === uid);
  }

  /** Differences since the last take. The first ones after a start make all that there shall be. */
  take(): RulesetChange[] {
    if (!this.#complete) return [];
    if (this.#dirtySubjects.size > 0 || this.#dirty) return this.#takeAll();
    return this.#selections.takeChanged().flatMap(set => {
      const key = objectKey(set);
      if (!this.#taken.has(key)) return [];
      this.#taken.set(key, set);
      return [{ key, object: set }];
    });
  }

  /** All there shall be, as of the last take(). */
  objects(): ReadonlyMap<string, RulesetObject> {
    return this.#taken;
  }

  /** Which policies select a pod, wherever it is; undefined: it is not known. */
  selected(key: string): Record<Direction, SelectingPolicies> | undefined {
    const pod = this.#pods.get(key)?.pod;
    const keys = (direction: Direction) => {
      const { admin, networkPolicies, baseline } = this.#policies.selecting(pod!, direction);
      return { admin: admin.map(keyOf), networkPolicies: networkPolicies.map(keyOf), baseline: baseline.map(keyOf) };
    };
    return pod && { ingress: keys("ingress"), egress: keys("egress") };
  }

  /** Keys of the policies that select it, in either direction. */
  policiesOf(key: string): string[] {
    const { ingress, egress } = this.selected(key) ?? {};
    const all = [ingress, egress].flatMap(one => (one ? [...one.admin, ...one.networkPolicies, ...one.baseline] : []));
    return [...new Set(all)].sort();
  }

  explain(connection: Connection): Explanation {
    return explain({ pods: this.#pods, nodes: this.#nodes, namespaces: this.#namespaces, policies: this.#policies }, connection);
  }

  /** Those in the ruleset as of the last take(). */
  counters(): readonly DropCounter[] {
    return this.#counters;
  }

  #setPod(pod: PolicyPod): void {
    const before = this.#pods.get(pod.key)?.pod;
    if (isDeepStrictEqual(before, pod)) return;
    const touched = this.#pods.set(pod);
    this.#selections.podChanged(this.#pods.get(pod.key)!);
    this.#moved(touched);
    if (before && isDeepStrictEqual([before.labels, before.ports, before.uid], [pod.labels, pod.ports, pod.uid])) return;
    for (const { attachment } of this.#pods.attachmentsOf(pod.key)) this.#dirtySubjects.add(attachment.hostInterface);
  }

  #deletePod(key: string): void {
    const entry = this.#pods.get(key);
    if (!entry) return;
    const touched = this.#pods.delete(key);
    this.#selections.podGone(entry);
    this.#moved(touched.filter(one => one !== entry));
  }

  #moved(entries: readonly PodEntry[]): void {
    for (const entry of entries) if (this.#pods.get(entry.key) === entry) this.#selections.podChanged(entry);
  }

  #setNamespace(name: string, namespace: PolicyNamespace | undefined): void {
    if (isDeepStrictEqual(this.#namespaces.get(name), namespace)) return;
    if (namespace) this.#namespaces.set(name, namespace);
    else this.#namespaces.delete(name);
    this.#selections.namespaceChanged(name);
    if (this.#policies.anyOfCluster) this.#touch(name);
  }

  #setNode(name: string, node: PolicyNode | undefined): void {
    if (isDeepStrictEqual(this.#nodes.get(name), node)) return;
    if (node) this.#nodes.set(node);
    else this.#nodes.delete(name);
    if (this.#policies.anyOfCluster) this.#dirty = true;
  }

  #setPolicy(key: string, policy: NetworkPolicyObject | undefined): void {
    const before = this.#policies.get(key);
    if (isDeepStrictEqual(before, policy)) return;
    this.#policies.set(key, policy);
    const namespaces = new Set([before, policy].flatMap(one => one?.namespace ?? []));
    for (const namespace of namespaces) this.#touch(namespace);
  }

  #setClusterPolicy(key: string, policy: ClusterPolicyObject | undefined): void {
    if (isDeepStrictEqual(this.#policies.getOfCluster(key), policy)) return;
    this.#policies.setOfCluster(key, policy);
    for (const name of this.#subjects.keys()) this.#dirtySubjects.add(name);
  }

  /** Pods of the namespace may be selected by others now. */
  #touch(namespace: string): void {
    for (const [name, { attachment }] of this.#subjects) if (namespaceOf(attachment) === namespace) this.#dirtySubjects.add(name);
  }

  #attach(attachment: PolicyAttachment): void {
    if (isDeepStrictEqual(this.#subjects.get(attachment.hostInterface)?.attachment, attachment)) return;
    this.#moved(this.#pods.attach(attachment));
    this.#subjects.set(attachment.hostInterface, this.#pods.attached(attachment.hostInterface)!);
    this.#dirtySubjects.add(attachment.hostInterface);
  }

  #detach(hostInterface: string): void {
    if (!this.#subjects.delete(hostInterface)) return;
    this.#moved(this.#pods.detach(hostInterface));
    this.#dirtySubjects.delete(hostInterface);
    this.#dirty = true;
  }

  #takeAll(): RulesetChange[] {
    for (const name of this.#dirtySubjects) this.#judge(this.#subjects.get(name)!);
    this.#dirtySubjects.clear();
    this.#dirty = false;
    const used = new Set<string>();
    const { objects, counters } = this.#assembler.assemble([...this.#subjects.values()], {
      pods: ({ name, spec, family, port }) => {
        used.add(spec.key);
        return this.#selections.set(name, spec, family, port);
      },
      nodes: ({ name, selector, family }) => this.#nodes.addresses(name, selector, family),
    });
    this.#selections.keepOnly(used);
    for (const set of this.#selections.takeChanged()) if (objects.has(objectKey(set))) objects.set(objectKey(set), set);
    this.#counters = counters;
    return this.#differences(objects);
  }

  #differences(objects: Map<string, RulesetObject>): RulesetChange[] {
    const changes: RulesetChange[] = [];
    for (const key of this.#taken.keys()) if (!objects.has(key)) changes.push({ key, object: undefined });
    for (const [key, object] of objects) {
      const before = this.#taken.get(key);
      if (before && sameObject(before, object)) objects.set(key, before);
      else changes.push({ key, object });
    }
    this.#taken = objects;
    return changes;
  }

  #judge(subject: Subject): void {
    const namespace = namespaceOf(subject.attachment);
    for (const direction of ["ingress", "egress"] as const) {
      const profile = this.#policies.profile(subject.subject, namespace, direction);
      if (profile) subject[direction] = profile;
      else delete subject[direction];
    }
  }
}

function keyOf({ key }: { key: string }): string {
  return key;
}

function namespaceOf({ key }: PolicyAttachment): string {
  return key.slice(0, key.indexOf("/"));
}
