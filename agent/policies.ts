/**
 * NetworkPolicy in the agent: source -> index of policies -> packet filter, and the gate that an ADD passes. A pod gets its network once it is known which
 * policies select it and their rules are in force; what cannot be known, or cannot be written, keeps it out and not open.
 */
import type { AttachmentGuard, AttachmentView } from "../cni/types.ts";
import type { PolicyFeed } from "../config/sources/policy-feed.ts";
import { type Connection, UnknownEndError } from "../netfilter/policy/explain.ts";
import { PolicyIndex } from "../netfilter/policy/policy-index.ts";
import type { PolicyAttachment, PolicySink } from "../netfilter/policy/types.ts";
import type { RulesetChange, RulesetWriter } from "../netfilter/types.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Problem } from "../platform/problem.ts";
import { AddBound, refusal } from "./add-bound.ts";
import { ApiError } from "./api/error.ts";
import type { ConnectionView, Drops, PoliciesView } from "./api/views.ts";
import { KnownPolicies } from "./known-policies.ts";
import { attachmentOf, namedAttachments } from "./policy-attachments.ts";
import type { PolicyFigures } from "./policy-figures.ts";
import { PolicyMemory, type PolicyPreview, previewPolicies } from "./policy-preview.ts";

export interface PoliciesParts {
  clock: Clock;
  log: Logger;
  /** Absent: the source has no policies. */
  feed?: PolicyFeed;
  /** What is dropped goes to the kernel's log, too. */
  logDrops?: boolean;
  writer: RulesetWriter;
  /** Attachments as the ledger has them; undefined: it cannot be read. */
  attachments(): AttachmentView[] | undefined;
  /** Why packets between ports of a bridge pass by all rules; undefined: they do not. */
  bridgeLack(): string | undefined;
  /** Whether there were policies when they were last known, before this agent. */
  mark: { get(): boolean; set(had: boolean): void };
  /** See PolicyAttachment.bridge. */
  bridgeOf(hostInterface: string): string | null | undefined;
  /** Packets by named counter of our table. May reject. */
  counters(): Promise<ReadonlyMap<string, number>>;
}

const about = { object: "NetworkPolicy", field: "" } as const;
/** Names of what policies have in our tables begin so. */
const PREFIX = "np-";
/** Milliseconds after which what the packet filter did not take is asked for again. */
const RETRY = 30_000;

/** Policies by which drops are told to metrics. */
const MAX_SERIES = 500;
/** Of dropped packets, for each set of policies that pods here have. */
const DROP_LOG = { perSecond: 1, burst: 5 };

/** An ADD that waits until the index knows enough. */
interface Waiting {
  ready(): boolean;
  go(): void;
}

export class Policies implements Pick<AttachmentGuard, "admit" | "released"> {
  readonly #parts: PoliciesParts;
  /** Absent: policies are not carried out here. */
  #index: PolicyIndex | undefined;
  readonly #known = new KnownPolicies();
  readonly #memory = new PolicyMemory();
  readonly #waiting = new Set<Waiting>();
  /** What is on its way into the kernel. */
  readonly #underway = new Set<Promise<void>>();
  /** What the packet filter did not take, as of its last trial. */
  readonly #refused = new Set<string>();
  #failure: Error | undefined;
  #retry: Timer | undefined;
  #isComplete = false;
  /** apply() has said whether policies are carried out here. */
  #isPlanned = false;
  /** It is known what is attached here. Before, rules stay as they are: they may be those of pods that run. */
  #isPlaced = false;
  /** A policy was told, and is not settled yet. */
  #isTold = false;
  /** ADDs under way, by the node's end of the link. */
  readonly #admitting = new Map<string, AttachmentView>();
  #lastDropped: ReadonlyMap<string, Drops> = new Map();
  #closed = false;

  constructor(parts: PoliciesParts) {
    this.#parts = parts;
  }

  /** By the plan. What a former agent left stays in force until all was heard once. */
  apply(enforced: boolean): void {
    const { feed } = this.#parts;
    this.#isPlanned = true;
    if (!enforced || !feed) this.#release();
    else if (!this.#index) this.#follow(feed);
  }

  #follow(feed: PolicyFeed): void {
    const index = new PolicyIndex({ ...(this.#parts.logDrops && { log: DROP_LOG }) });
    this.#index = index;
    this.#isPlaced = false;
    this.#place(index);
    index.listen(() => this.#changed());
    feed.follow(this.#sink(index), this.#parts.mark.get());
  }

  #place(index: PolicyIndex): void {
    const named = this.#named();
    if (!named) return;
    this.#isPlaced = true;
    index.setAttachments(named.map(one => this.#onBridge(one)));
  }

  /** Attachments with their pods. */
  #named(): PolicyAttachment[] | undefined {
    const attachments = this.#parts.attachments();
    return attachments && namedAttachments(attachments, this.#memory);
  }

  /** Brings the attachments in line with the ledger, and asks what was dropped. */
  look(): void {
    const index = this.#index;
    if (!index) return;
    this.#place(index);
    if (this.obstacle() !== undefined) return;
    this.#dropped(index).then(
      dropped => {
        this.#lastDropped = dropped;
      },
      (error: Error) => this.#parts.log.warn({}, error.message),
    );
  }

  async admit(attachment: AttachmentView): Promise<void> {
    if (!this.#isPlanned) throw refusal("whether policies are carried out here is not known: the plan could not be applied");
    const index = this.#index;
    const [given] = attachmentOf(attachment);
    // Without the name of a pod it is none of Kubernetes', and no policy selects it.
    if (!index || !given) return;
    if (!this.#isPlaced) this.#place(index);
    const bound = new AddBound(this.#parts.clock);
    this.#admitting.set(attachment.hostInterface, attachment);
    try {
      await this.#admit(index, this.#onBridge(given), attachment, bound);
    } finally {
      bound.cancel();
      if (this.#admitting.get(attachment.hostInterface) === attachment) this.#admitting.delete(attachment.hostInterface);
    }
  }

  async #admit(index: PolicyIndex, wanted: PolicyAttachment, attachment: AttachmentView, bound: AddBound): Promise<void> {
    const { key, uid, hostInterface, bridge } = wanted;
    const namespace = key.slice(0, key.indexOf("/"));
    const isHeard = () => index.complete || (this.#parts.feed?.optional === true && !this.#parts.mark.get());
    const isKnown = () => isHeard() && (!this.#known.concern(namespace) || (!this.#isTold && index.knows(key, uid)));
    if (!isKnown()) await bound.within(this.#until(isKnown, bound), () => this.#unknown(key));
    if (this.#closed) throw refusal("the agent is about to end");
    // Another step of the ADD has failed, and everything was taken back.
    if (this.#admitting.get(hostInterface) !== attachment) throw refusal(`pod ${key} was released meanwhile`);
    // Nothing runs in the pod yet. One that is not known would be shut first, and judged by its labels a moment later.
    index.setAttachment(wanted);
    if (!this.#known.concern(namespace) || index.policiesOf(key).length === 0) return;
    const lack = bridge === null ? undefined : this.#parts.bridgeLack();
    if (lack !== undefined) throw refusal(`policies select pod ${key}, and packets between pods of this node would pass by them: ${lack}`);
    await bound.within(this.#inForce(key), () => `policies select pod ${key}, and their rules could not be written in time`);
  }

  #onBridge(attachment: PolicyAttachment): PolicyAttachment {
    const bridge = this.#parts.bridgeOf(attachment.hostInterface);
    return { ...attachment, ...(bridge !== undefined && { bridge }) };
  }

  released(hostInterface: string): void {
    this.#admitting.delete(hostInterface);
    this.#index?.deleteAttachment(hostInterface);
  }

  /** Why no pod that policies select can be attached; undefined: none that is known of. */
  obstacle(): string | undefined {
    if (this.#known.size === 0 || this.#refused.size === 0 || !this.#failure) return undefined;
    return `rules of NetworkPolicies cannot be put into the packet filter: ${this.#failure.message}`;
  }

  problems(): Problem[] {
    return [...this.#bypassed(), ...this.#notTaken()];
  }

  #bypassed(): Problem[] {
    const lack = this.#index && this.#known.size > 0 ? this.#parts.bridgeLack() : undefined;
    const isBridged = (name: string) => typeof this.#parts.bridgeOf(name) === "string";
    if (lack === undefined || !this.#isolated().some(({ hostInterface }) => isBridged(hostInterface))) return [];
    const message = `policies do not hold between pods of this node that are on its bridge, and pods that a policy selects are not attached: ${lack}`;
    const remedy = "modprobe br_netfilter, and at every boot";
    return [{ ...about, severity: "error", reason: "PolicyBypassed", message, remedy }];
  }

  #notTaken(): Problem[] {
    const obstacle = this.obstacle();
    if (obstacle === undefined) return [];
    const keys = [...this.#refused];
    const some = keys.length > 3 ? `${keys.slice(0, 3).join(", ")} and ${keys.length - 3} more` : keys.join(", ");
    const message = `${obstacle} (${some}); what was in force before is still, and pods that a policy selects are not attached`;
    const remedy = "install nftables where nft is absent, see what else changes the table inet podlane; it is tried again by itself";
    return [{ ...about, severity: "error", reason: "PacketFilterRefused", message, remedy }];
  }

  figures(): PolicyFigures | undefined {
    const summary = this.summary();
    const dropped = [...this.#lastDropped].slice(0, MAX_SERIES).map(([policy, sums]) => ({ policy, ...sums }));
    return summary && { ...summary, dropped };
  }

  /** undefined: policies are not carried out here. */
  summary(): Omit<PolicyFigures, "dropped"> | undefined {
    const index = this.#index;
    if (!index) return undefined;
    const isolated = this.#isolated();
    const inForce = this.#isComplete && this.#refused.size === 0 && this.#underway.size === 0 && this.#bypassed().length === 0;
    return { policies: this.#known.size, isolated: isolated.length, inForce };
  }

  /** Attachments that policies select. */
  #isolated(): PolicyAttachment[] {
    return (this.#named() ?? []).filter(({ key }) => (this.#index?.policiesOf(key).length ?? 0) > 0);
  }

  /** Throws ApiError. */
  explain(connection: Connection): ConnectionView {
    if (!this.#index) throw new ApiError(409, "NetworkPolicies are not carried out on this node", "see networkPolicy of its PodNetwork");
    const missing = this.#index.complete ? undefined : this.#parts.feed?.missing();
    if (missing !== undefined) throw new ApiError(409, `not all policies and pods are known yet: ${missing}`, "ask again, or another node");
    try {
      return { ...connection, ...this.#index.explain(connection) };
    } catch (error) {
      if (!(error instanceof UnknownEndError)) throw error;
      const isOpen = this.#known.size === 0;
      const remedy = isOpen
        ? "there is no policy, so nothing is dropped; without one an agent knows the pods of its own node alone"
        : "see kubectl get pods -A, or write an address";
      throw new ApiError(404, error.message, remedy);
    }
  }

  async view(): Promise<PoliciesView> {
    const index = this.#index;
    if (!index) return { enforced: false, policies: [] };
    const selected = new Map<string, string[]>();
    const keys = (this.#named() ?? []).map(({ key }) => key).sort();
    for (const pod of new Set(keys))
      for (const policy of index.policiesOf(pod)) selected.set(policy, [...(selected.get(policy) ?? []), pod]);
    // Without its answer the rest is still of use: problems() says why there is none.
    const dropped = await this.#dropped(index).catch(() => undefined);
    const view = (policy: string) => ({
      policy,
      pods: (selected.get(policy) ?? []).sort(),
      ...(dropped && { dropped: dropped.get(policy) ?? { ingress: 0, egress: 0 } }),
    });
    return { enforced: true, policies: this.#known.keys().map(view) };
  }

  /** What these policies would come to, beside those in use or in their place. undefined: there are none, or policies are not carried out here. */
  async preview(policies: PolicyFeed, conntrack: string | undefined): Promise<PolicyPreview | undefined> {
    return this.#index?.complete ? previewPolicies(this.#memory, policies, conntrack) : undefined;
  }

  async #dropped(index: PolicyIndex): Promise<Map<string, Drops>> {
    const found = new Map<string, Drops>();
    if (index.counters().length === 0) return found;
    const packets = await this.#parts.counters().catch((error: Error) => {
      throw new Error(`the packet filter's counters cannot be read: ${error.message}`);
    });
    for (const { name, policy, direction } of index.counters()) {
      if (policy === undefined) continue;
      const sum = found.get(policy) ?? { ingress: 0, egress: 0 };
      sum[direction] += packets.get(name) ?? 0;
      found.set(policy, sum);
    }
    return found;
  }

  /** What is in the kernel stays. */
  close(): void {
    this.#closed = true;
    this.#retry?.cancel();
    this.#parts.feed?.stop();
    for (const { go } of this.#waiting) go();
  }

  /** Policies are somebody else's, or nobody's: ours go, and those that a former agent left. */
  #release(): void {
    const { feed } = this.#parts;
    const index = this.#index;
    this.#index = undefined;
    this.#known.clear();
    this.#memory.clear();
    this.#refused.clear();
    this.#isComplete = false;
    this.#isTold = false;
    for (const { go } of this.#waiting) go();
    if (index) {
      feed?.stop();
      this.#write([...index.objects().keys()].map(key => ({ key, object: undefined })));
    }
    this.#letLeftoversGo();
  }

  /** Not before what replaces them is in force. */
  #letLeftoversGo(): void {
    const { writer, log } = this.#parts;
    Promise.all(this.#underway)
      .then(() => writer.complete(PREFIX))
      .catch((error: Error) => log.error({}, `rules of former NetworkPolicies are not removed: ${error.message}`));
  }

  #sink(index: PolicyIndex): PolicySink {
    const known = this.#known;
    const both = [this.#memory, index] as const;
    const told = () => {
      this.#isTold = true;
    };
    return {
      setPod: pod => both.forEach(one => void one.setPod(pod)),
      deletePod: key => both.forEach(one => void one.deletePod(key)),
      setNamespace: namespace => both.forEach(one => void one.setNamespace(namespace)),
      deleteNamespace: name => both.forEach(one => void one.deleteNamespace(name)),
      setNode: node => both.forEach(one => void one.setNode(node)),
      deleteNode: name => both.forEach(one => void one.deleteNode(name)),
      setPolicy(policy) {
        told();
        known.add(policy.key, policy.namespace);
        for (const one of both) one.setPolicy(policy);
      },
      deletePolicy(key) {
        known.delete(key);
        for (const one of both) one.deletePolicy(key);
      },
      setClusterPolicy(policy) {
        told();
        known.add(policy.key);
        for (const one of both) one.setClusterPolicy(policy);
      },
      deleteClusterPolicy(key) {
        known.delete(key);
        for (const one of both) one.deleteClusterPolicy(key);
      },
      settle: () => {
        this.#isTold = false;
        // Who has no name is known by what was told.
        if (!index.complete) this.#place(index);
        index.settle();
        this.#parts.mark.set(known.size > 0);
        this.#lookAtWaiting();
      },
    };
  }

  #changed(): void {
    const index = this.#index;
    if (!index || this.#closed || !this.#isPlaced) return;
    this.#write(index.take());
    this.#lookAtWaiting();
    if (this.#isComplete || !index.complete) return;
    this.#isComplete = true;
    this.#letLeftoversGo();
  }

  #write(changes: readonly RulesetChange[]): void {
    if (changes.length === 0) return;
    const done = this.#parts.writer.change(changes).then(
      () => {
        for (const { key } of changes) this.#refused.delete(key);
        if (this.#refused.size > 0 || !this.#failure) return;
        this.#failure = undefined;
        this.#letLeftoversGo();
      },
      (error: Error) => {
        for (const { key } of changes) this.#refused.add(key);
        this.#failure = error;
        this.#tryAgainLater();
        throw error;
      },
    );
    this.#underway.add(done);
    const over = () => void this.#underway.delete(done);
    done.then(over, over);
  }

  #tryAgainLater(): void {
    if (this.#closed) return;
    this.#retry ??= this.#parts.clock.after(RETRY, () => {
      this.#retry = undefined;
      const wanted = this.#index?.objects();
      // Some may be others by now than those that were refused.
      this.#write([...this.#refused].map(key => ({ key, object: wanted?.get(key) })));
    });
  }

  /** Resolves when what follows from all that is known is in the kernel. Rejects with CniError. */
  async #inForce(key: string): Promise<void> {
    this.#changed();
    try {
      await Promise.all(this.#underway);
    } catch (error) {
      throw refusal(`policies select pod ${key}, and their rules cannot be put into the packet filter: ${(error as Error).message}`);
    }
    const obstacle = this.obstacle();
    if (obstacle !== undefined) throw refusal(`policies select pod ${key}: ${obstacle}`);
  }

  #until(ready: () => boolean, bound: AddBound): Promise<void> {
    return new Promise(go => {
      const waiting = { ready, go };
      this.#waiting.add(waiting);
      bound.cancelled(() => this.#waiting.delete(waiting));
    });
  }

  #lookAtWaiting(): void {
    for (const one of this.#waiting) {
      if (!one.ready()) continue;
      this.#waiting.delete(one);
      one.go();
    }
  }

  #unknown(key: string): string {
    const missing = this.#parts.feed?.missing();
    if (missing !== undefined) return `which policies select pod ${key} is not known: ${missing}`;
    return `policies may select pod ${key}, and where objects come from nothing is said of this pod`;
  }
}
