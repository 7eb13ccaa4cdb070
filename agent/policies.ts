/**
 * NetworkPolicy in the agent: source -> index of policies -> packet filter, and the gate that an ADD passes. A pod gets its network once it is known which
 * policies select it and their rules are in force; what cannot be known, or cannot be written, keeps it out and not open.
 */
import { CniError, ErrorCode } from "../cni/protocol/error.ts";
import type { AttachmentGuard, AttachmentView } from "../cni/types.ts";
import type { PolicyFeed } from "../config/sources/policy-feed.ts";
import { type Connection, UnknownEndError } from "../netfilter/policy/explain.ts";
import { PolicyIndex } from "../netfilter/policy/policy-index.ts";
import type { PolicyAttachment, PolicySink } from "../netfilter/policy/types.ts";
import type { RulesetChange, RulesetWriter } from "../netfilter/types.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Problem } from "../platform/problem.ts";
import { ApiError } from "./api/error.ts";
import type { ConnectionView, Drops, PoliciesView } from "./api/views.ts";
import { KnownPolicies } from "./known-policies.ts";
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
  /** Attachments as the ledger has them. */
  attachments(): AttachmentView[];
  /** See PolicyAttachment.bridge. */
  bridgeOf(hostInterface: string): string | null | undefined;
  /** Why packets between pods of this node do not come to our rules, in words; undefined: they do. */
  unfiltered(): string | undefined;
  /** Packets by named counter of our table. May reject. */
  counters(): Promise<ReadonlyMap<string, number>>;
}

/** Names of what policies have in our tables begin so. */
const PREFIX = "np-";
/** Milliseconds that ADD waits at most. */
const PATIENCE = 10_000;
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

/** All that one ADD waits for, together. */
interface Bound {
  within(work: Promise<void>, why: () => string): Promise<void>;
  /** What to do at its end. */
  cancelled(then: () => void): void;
  cancel(): void;
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
  readonly #refused = new Map<string, RulesetChange>();
  #failure: Error | undefined;
  #retry: Timer | undefined;
  #isComplete = false;
  #lastDropped: ReadonlyMap<string, Drops> = new Map();
  #closed = false;

  constructor(parts: PoliciesParts) {
    this.#parts = parts;
  }

  /** By the plan. What a former agent left stays in force until all was heard once. */
  apply(enforced: boolean): void {
    const { feed } = this.#parts;
    if (!enforced || !feed) this.#release();
    else if (!this.#index) this.#follow(feed);
  }

  #follow(feed: PolicyFeed): void {
    this.#index = new PolicyIndex({ ...(this.#parts.logDrops && { log: DROP_LOG }) });
    this.look();
    this.#index.listen(() => this.#changed());
    feed.follow(this.#sink(this.#index));
  }

  /** Brings the attachments in line with the ledger, and asks what was dropped. */
  look(): void {
    const index = this.#index;
    index?.setAttachments(this.#parts.attachments().flatMap(one => this.#placed(one)));
    if (!index || this.#refusal() !== undefined) return;
    this.#dropped(index).then(
      dropped => {
        this.#lastDropped = dropped;
      },
      (error: Error) => this.#parts.log.warn({}, error.message),
    );
  }

  async admit(attachment: AttachmentView): Promise<void> {
    const index = this.#index;
    const [wanted] = this.#placed(attachment);
    // Without the name of a pod it is none of Kubernetes', and no policy selects it.
    if (!index || !wanted) return;
    const { key, uid } = wanted;
    const namespace = key.slice(0, key.indexOf("/"));
    const isKnown = () => index.complete && (!this.#known.concern(namespace) || index.knows(key, uid));
    const bound = this.#bound();
    try {
      if (!isKnown()) await bound.within(this.#until(isKnown, bound), () => this.#unknown(key));
      // Nothing runs in the pod yet. One that is not known would be shut first, and judged by its labels a moment later.
      index.setAttachment(wanted);
      if (!this.#known.concern(namespace) || index.policiesOf(key).length === 0) return;
      await bound.within(this.#inForce(key), () => `policies select pod ${key}, and their rules could not be written in time`);
    } finally {
      bound.cancel();
    }
  }

  #placed(attachment: AttachmentView): PolicyAttachment[] {
    const bridge = this.#parts.bridgeOf(attachment.hostInterface);
    return attachmentOf(attachment).map(one => ({ ...one, ...(bridge !== undefined && { bridge }) }));
  }

  released(hostInterface: string): void {
    this.#index?.deleteAttachment(hostInterface);
  }

  /** Why no pod that policies select can be attached; undefined: none that is known of. */
  obstacle(): string | undefined {
    return this.#refusal() ?? this.#hole();
  }

  #refusal(): string | undefined {
    // Without policies there is nothing that they would keep out.
    if (this.#refused.size === 0 || !this.#failure || this.#known.size === 0) return undefined;
    return `rules of NetworkPolicies cannot be put into the packet filter: ${this.#failure.message}`;
  }

  #hole(): string | undefined {
    const why = this.#index && this.#known.size > 0 ? this.#parts.unfiltered() : undefined;
    return why === undefined ? undefined : `NetworkPolicies do not hold between pods of this node: ${why}`;
  }

  problems(): Problem[] {
    const about = { object: "NetworkPolicy", field: "" } as const;
    const found: Problem[] = [];
    const hole = this.#hole();
    if (hole !== undefined) {
      const message = `${hole}; pods that a policy selects are not attached`;
      const remedy = "modprobe br_netfilter, and at every boot; or set mode: Routed in the PodNetwork, which does without";
      found.push({ ...about, severity: "error", reason: "KernelLacks", message, remedy });
    }
    const refusal = this.#refusal();
    if (refusal === undefined) return found;
    const keys = [...this.#refused.keys()];
    const some = keys.length > 3 ? `${keys.slice(0, 3).join(", ")} and ${keys.length - 3} more` : keys.join(", ");
    const message = `${refusal} (${some}); what was in force before is still, and pods that a policy selects are not attached`;
    const remedy = "install nftables where nft is absent, see what else changes the table inet podlane; it is tried again by itself";
    return [...found, { ...about, severity: "error", reason: "PacketFilterRefused", message, remedy }];
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
    const isolated = this.#parts.attachments().filter(one => attachmentOf(one).some(({ key }) => index.policiesOf(key).length > 0));
    const inForce = this.#isComplete && this.#refused.size === 0 && this.#underway.size === 0 && this.#hole() === undefined;
    return { policies: this.#known.size, isolated: isolated.length, inForce };
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
    const keys = this.#parts.attachments().flatMap(one => attachmentOf(one).map(({ key }) => key));
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
    return {
      setPod: pod => both.forEach(one => void one.setPod(pod)),
      deletePod: key => both.forEach(one => void one.deletePod(key)),
      setNamespace: namespace => both.forEach(one => void one.setNamespace(namespace)),
      deleteNamespace: name => both.forEach(one => void one.deleteNamespace(name)),
      setNode: node => both.forEach(one => void one.setNode(node)),
      deleteNode: name => both.forEach(one => void one.deleteNode(name)),
      setPolicy(policy) {
        known.add(policy.key, policy.namespace);
        for (const one of both) one.setPolicy(policy);
      },
      deletePolicy(key) {
        known.delete(key);
        for (const one of both) one.deletePolicy(key);
      },
      setClusterPolicy(policy) {
        known.add(policy.key);
        for (const one of both) one.setClusterPolicy(policy);
      },
      deleteClusterPolicy(key) {
        known.delete(key);
        for (const one of both) one.deleteClusterPolicy(key);
      },
      settle: () => {
        index.settle();
        this.#lookAtWaiting();
      },
    };
  }

  #changed(): void {
    const index = this.#index;
    if (!index || this.#closed) return;
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
        for (const change of changes) this.#refused.set(change.key, change);
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
      this.#write([...this.#refused.values()]);
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

  #until(ready: () => boolean, bound: Bound): Promise<void> {
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

  #bound(): Bound {
    const { promise, reject } = Promise.withResolvers<never>();
    let reason = () => "";
    const ends: (() => void)[] = [];
    const timer = this.#parts.clock.after(PATIENCE, () => reject(refusal(`${reason()} (waited ${PATIENCE / 1000} s)`)));
    return {
      within(work, why) {
        reason = why;
        return Promise.race([work, promise]);
      },
      cancelled: then => void ends.push(then),
      cancel: () => {
        timer.cancel();
        for (const end of ends) end();
      },
    };
  }
}

function refusal(message: string): CniError {
  return new CniError(ErrorCode.tryAgainLater, message, "the pod stays out rather than open; podlane problems says more");
}

/** None: it is no pod of Kubernetes. */
function attachmentOf({ pod, addresses, hostInterface }: AttachmentView): PolicyAttachment[] {
  if (!pod) return [];
  const { namespace, name, uid } = pod;
  const plain = addresses.map(address => address.split("/")[0]);
  return [{ key: `${namespace}/${name}`, ...(uid && { uid }), addresses: plain, hostInterface }];
}
