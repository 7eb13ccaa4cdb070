/**
 * One of many does what is to be done once: a coordination.k8s.io Lease, held and taken as client-go's leader election does. Whether the holder lives is
 * judged by changes of the Lease that are seen here, never by the times in it: clocks may be wrong by days.
 *
 * Who does not hold it does not watch it. A watch would bring each renewal to everybody: with 5,000 candidates 1,000 events a second. It looks now and
 * then instead, the more seldom the more candidates there are (the holder writes how many into the Lease): one of them looks each second on average,
 * and that one finds a dead holder.
 */
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { ApiClient } from "./client.ts";
import { microTime } from "./conditions.ts";
import { ApiError, type ApiObject } from "./types.ts";

export interface ElectionOptions {
  namespace: string;
  /** Of the Lease. */
  name: string;
  /** Of this candidate; no other may have it. */
  identity: string;
  /** How many candidates there are, as far as the holder knows. */
  candidates(): number | undefined;
  started(): void;
  stopped(reason: string): void;
}

export interface ElectionParts {
  client: Pick<ApiClient, "get" | "create" | "replace">;
  clock: Clock;
  log: Logger;
  /** 0 up to 1. */
  random(): number;
}

/** Milliseconds without a change after which the holder is taken for dead, between two renewals, until one gives up, between tries. */
const LEASE = 15_000;
const RENEW = 5_000;
const RENEW_DEADLINE = 10_000;
const RETRY = 2_000;
/** Milliseconds for each candidate between the looks of one of them on average; the least and the longest, and how much longer one may be. */
const LOOK_EACH = 1_000;
const LOOK_LEAST = 10_000;
const LOOK_LONGEST = 2 * 3_600_000;
const LOOK_TAIL = 4;
/** Milliseconds within which a live holder has renewed once. */
const SECOND_LOOK = RENEW + RETRY;
/** Milliseconds over which those that start at once come with their first look. */
const FIRST_LOOK = 5_000;
/** Milliseconds that giving the Lease back may take. */
const RELEASE_BOUND = 2_000;
const CANDIDATES = "podlane.io/candidates";

interface LeaseSpec {
  holderIdentity?: string;
  leaseDurationSeconds?: number;
  acquireTime?: string;
  renewTime?: string;
  leaseTransitions?: number;
}

export class Election {
  readonly #options: ElectionOptions;
  readonly #parts: ElectionParts;
  readonly #path: string;
  #lease: ApiObject | undefined;
  /** Clock.monotonic() when this version of it was seen first. */
  #changedAt = 0;
  /** Clock.monotonic() of the last renewal; undefined: another one holds it. */
  #renewedAt: number | undefined;
  #timer: Timer | undefined;
  #deadline: Timer | undefined;
  #working: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: ElectionOptions, parts: ElectionParts) {
    this.#options = options;
    this.#parts = parts;
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(options.namespace)}/leases`;
  }

  get leading(): boolean {
    return this.#renewedAt !== undefined;
  }

  start(): void {
    this.#later(this.#parts.random() * FIRST_LOOK);
  }

  /** Gives it back, so that another one takes it at its next look. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    const led = this.leading;
    const bound = new Promise<void>(resolve => this.#parts.clock.after(RELEASE_BOUND, resolve));
    if (led) this.#stop("ending");
    await Promise.race([this.#working, bound]);
    if (!led || !this.#lease) return;
    const released = this.#replace({ holderIdentity: "", leaseDurationSeconds: 1, renewTime: this.#now() });
    await Promise.race([released.catch(() => {}), bound]);
  }

  #later(milliseconds: number): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#timer = this.#parts.clock.after(milliseconds, () => {
      this.#working = this.#turn().then(wait => this.#later(wait));
    });
  }

  /** Milliseconds until the next one. */
  async #turn(): Promise<number> {
    try {
      return this.leading ? await this.#renew() : await this.#look();
    } catch (error) {
      const { status, message } = error as ApiError;
      this.#parts.log.debug({ status }, `the lease cannot be asked for: ${message}`);
      return this.leading ? this.#retry() : this.#sleep();
    }
  }

  async #look(): Promise<number> {
    const lease = await this.#get();
    if (this.#closed) return RETRY;
    if (!lease) {
      const spec = { ...this.#held(), acquireTime: this.#now(), leaseTransitions: 0 };
      return this.#win(() => this.#create(spec));
    }
    const seen = this.#lease !== undefined;
    const changed = this.#see(lease);
    const { holderIdentity = "", leaseTransitions = 0 } = (lease.spec ?? {}) as LeaseSpec;
    const age = this.#parts.clock.monotonic() - this.#changedAt;
    if (holderIdentity === "" || (!changed && age >= LEASE)) {
      const spec = { ...this.#held(), acquireTime: this.#now(), leaseTransitions: leaseTransitions + 1 };
      return this.#win(() => this.#replace(spec));
    }
    // Of what changed since the last look nobody knows when.
    if (changed) return seen && this.#awake ? this.#sleep() : this.#rouse(SECOND_LOOK);
    return this.#rouse(this.#retry());
  }
  /** It looks more than once now, as the holder may be dead. */
  #awake = false;

  #rouse(wait: number): number {
    this.#awake = true;
    return wait;
  }

  #sleep(): number {
    this.#awake = false;
    const candidates = Number(this.#lease?.metadata.annotations?.[CANDIDATES]) || 1;
    const mean = Math.min(Math.max(LOOK_LEAST, candidates * LOOK_EACH), LOOK_LONGEST);
    // Drawn as waiting times are, so that looks are spread evenly also after all were started at once.
    return Math.max(RETRY, mean * Math.min(-Math.log(1 - this.#parts.random()), LOOK_TAIL));
  }

  #retry(): number {
    return RETRY * (1 + this.#parts.random() * 1.2);
  }

  async #win(write: () => Promise<ApiObject>): Promise<number> {
    const asked = this.#parts.clock.monotonic();
    try {
      this.#see(await write());
    } catch (error) {
      // Another one was faster.
      if ((error as ApiError).status === 409) return this.#sleep();
      throw error;
    }
    if (this.#closed) return RETRY;
    this.#awake = false;
    this.#renewed(asked);
    this.#parts.log.info({ lease: this.#options.name }, "this agent writes the cluster's status from now on");
    this.#options.started();
    return RENEW;
  }

  async #renew(): Promise<number> {
    const asked = this.#parts.clock.monotonic();
    try {
      const { acquireTime, leaseTransitions } = (this.#lease?.spec ?? {}) as LeaseSpec;
      this.#see(await this.#replace({ ...this.#held(), acquireTime, leaseTransitions }));
    } catch (error) {
      if ((error as ApiError).status !== 409 && (error as ApiError).status !== 404) throw error;
      return this.#reconsider();
    }
    if (this.leading) this.#renewed(asked);
    return RENEW;
  }

  /** Somebody else wrote it. */
  async #reconsider(): Promise<number> {
    const lease = await this.#get();
    if (lease) this.#see(lease);
    const { holderIdentity } = (lease?.spec ?? {}) as LeaseSpec;
    if (holderIdentity === this.#options.identity) return RETRY;
    this.#stop(holderIdentity ? `${holderIdentity} has taken the lease` : "the lease is gone");
    return this.#sleep();
  }

  #renewed(at: number): void {
    this.#renewedAt = at;
    this.#deadline?.cancel();
    const left = at + RENEW_DEADLINE - this.#parts.clock.monotonic();
    this.#deadline = this.#parts.clock.after(Math.max(0, left), () => this.#stop(`not renewed for ${RENEW_DEADLINE / 1000} s`));
  }

  #stop(reason: string): void {
    if (!this.leading) return;
    this.#deadline?.cancel();
    this.#renewedAt = undefined;
    this.#parts.log.info({ lease: this.#options.name }, `this agent writes the cluster's status no more: ${reason}`);
    this.#options.stopped(reason);
  }

  /** True: it is another version than the one seen before. */
  #see(lease: ApiObject): boolean {
    const changed = this.#lease?.metadata.resourceVersion !== lease.metadata.resourceVersion;
    if (changed) this.#changedAt = this.#parts.clock.monotonic();
    this.#lease = lease;
    return changed;
  }

  #held(): LeaseSpec {
    return { holderIdentity: this.#options.identity, leaseDurationSeconds: LEASE / 1000, renewTime: this.#now() };
  }

  #now(): string {
    return microTime(this.#parts.clock.now());
  }

  async #get(): Promise<ApiObject | undefined> {
    try {
      return await this.#parts.client.get(`${this.#path}/${this.#options.name}`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  #create(spec: LeaseSpec): Promise<ApiObject> {
    const metadata = { name: this.#options.name, ...this.#annotations(undefined) };
    return this.#parts.client.create(this.#path, { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata, spec });
  }

  #replace(spec: LeaseSpec): Promise<ApiObject> {
    const { metadata } = this.#lease as ApiObject;
    const { name, resourceVersion, annotations } = metadata;
    const lease = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name, resourceVersion, ...this.#annotations(annotations) },
    };
    return this.#parts.client.replace(`${this.#path}/${name}`, { ...lease, spec });
  }

  #annotations(before: Record<string, string> | undefined) {
    const candidates = this.leading ? this.#options.candidates() : undefined;
    const annotations = { ...before, ...(candidates !== undefined && { [CANDIDATES]: String(candidates) }) };
    return Object.keys(annotations).length > 0 ? { annotations } : {};
  }
}
