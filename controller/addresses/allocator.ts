/**
 * The leader's part in load-balancer addresses: it follows AddressPools, AddressClaims, Services and namespaces, and has each Service settled that something
 * of concerns. Off while there is neither a pool nor a claim.
 */
import { apiVersion, GROUP } from "../../config/resources/common.ts";
import type { AddressPool } from "../../config/resources/kinds.ts";
import { AddressBook, keyOf } from "../../config/services/address-book.ts";
import { readBalanced } from "../../config/services/balanced.ts";
import { addressOfClaim, readClaim } from "../../config/services/claims.ts";
import type { PoolUsage } from "../../config/services/pools.ts";
import { readLabels } from "../../config/services/read.ts";
import { ObjectStore } from "../../config/sources/object-store.ts";
import type { ApiClient } from "../../kubernetes/client.ts";
import { type Collection, ListWatch } from "../../kubernetes/list-watch.ts";
import type { ApiError, ApiObject } from "../../kubernetes/types.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { Assigner } from "./assigner.ts";
import { Teller } from "./teller.ts";
import { WorkQueue } from "./work-queue.ts";

export interface AllocatorParts {
  client: ApiClient;
  clock: Clock;
  log: Logger;
  /** 0 up to 1. */
  random(): number;
}

export interface AllocatorOptions {
  /** Who tells Events. */
  instance: string;
  /** Addresses of pools were given away or got free. */
  changed?(): void;
}

/** Milliseconds from an address that got free until those that wait are looked at. */
const WAKE = 100;

export class AddressAllocator {
  readonly #parts: AllocatorParts;
  readonly #options: AllocatorOptions;
  readonly #book = new AddressBook();
  readonly #pools = new ObjectStore(apiVersion, "AddressPool");
  readonly #assigner: Assigner;
  readonly #teller: Teller;
  readonly #queue: WorkQueue;
  /** Of pools and claims; and, while there are any, of Services and namespaces. */
  readonly #always: ListWatch[];
  #watches: ListWatch[] = [];
  readonly #claims = new Set<string>();
  /** Services that may come to more when an address gets free. */
  readonly #waiting = new Set<string>();
  #poolsChanged = false;
  #ready = false;
  #wake: Timer | undefined;
  /** Of Services whose addresses were written a moment ago. */
  readonly #timers = new Map<string, Timer>();
  #closing: Promise<unknown>[] = [];
  #closed = false;

  constructor(options: AllocatorOptions, parts: AllocatorParts) {
    this.#parts = parts;
    this.#options = options;
    this.#teller = new Teller(options.instance, parts);
    const { client, clock } = parts;
    this.#assigner = new Assigner(this.#book, {
      ...{ client, clock },
      later: (key, milliseconds) => this.#later(key, milliseconds),
      written: (service, decision) => this.#teller.written(service, decision),
    });
    this.#queue = new WorkQueue(
      parts,
      key => this.#settle(key),
      (key, error) => this.#failed(key, error),
    );
    this.#always = [this.#followPools(), this.#followClaims()];
    for (const watch of this.#always) watch.start();
  }

  /** undefined: not known yet. */
  usage(pool: string): PoolUsage | undefined {
    return this.#ready ? this.#book.usage(pool) : undefined;
  }

  /** All is known, and nothing is left to do. */
  get idle(): boolean {
    return this.#ready && this.#queue.idle && !this.#wake && this.#timers.size === 0;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#assigner.close();
    this.#teller.close();
    this.#wake?.cancel();
    this.#cancelTimers();
    const watches = [...this.#always, ...this.#watches].map(watch => watch.close());
    await Promise.all([...watches, ...this.#closing, this.#queue.close()]);
  }

  #followPools(): ListWatch {
    const changed = (really: boolean) => {
      this.#poolsChanged ||= really;
    };
    return this.#follow(
      { path: `/apis/${apiVersion}/addresspools`, name: `addresspools.${GROUP}` },
      { set: object => changed(this.#pools.set(object)), delete: name => changed(this.#pools.delete(name)) },
    );
  }

  #followClaims(): ListWatch {
    return this.#follow(
      { path: `/apis/${apiVersion}/addressclaims`, name: `addressclaims.${GROUP}` },
      {
        set: object => {
          const claim = readClaim(object);
          if (!claim) return;
          this.#claims.add(claim.address);
          const before = this.#book.claim(claim.address);
          this.#book.setClaim(claim);
          this.#look(claim.services.map(keyOf));
          const lost = before?.services.filter(({ uid }) => !claim.services.some(one => one.uid === uid)) ?? [];
          if (lost.length > 0) this.#freed(lost.map(keyOf));
        },
        delete: name => {
          const address = addressOfClaim(name);
          if (address === undefined) return;
          this.#claims.delete(address);
          const before = this.#book.claim(address);
          this.#book.deleteClaim(address);
          this.#freed(before?.services.map(keyOf) ?? []);
        },
      },
    );
  }

  #followServices(): ListWatch {
    return this.#follow(
      { path: "/api/v1/services", name: "services" },
      {
        set: object => {
          const service = readBalanced(object);
          const before = this.#book.service(service.key);
          this.#book.setService(service);
          this.#look([service.key]);
          const isFreed = before?.addresses.some(address => !service.addresses.includes(address));
          // What it is now may allow others to share with it.
          const wasShared =
            before !== undefined && before.request.sharingKey !== undefined && before.resourceVersion !== service.resourceVersion;
          if (isFreed || wasShared) this.#freed([]);
        },
        delete: key => {
          this.#book.deleteService(key);
          this.#waiting.delete(key);
          this.#freed([key]);
        },
      },
    );
  }

  #followNamespaces(): ListWatch {
    return this.#follow(
      { path: "/api/v1/namespaces", name: "namespaces" },
      {
        set: object => {
          const { name } = object.metadata;
          if (this.#book.setNamespace(name, readLabels(object))) this.#look(this.#book.keysOfNamespace(name));
        },
        delete: name => this.#book.deleteNamespace(name),
      },
    );
  }

  #follow(collection: Collection, listener: { set(object: ApiObject): void; delete(key: string): void }): ListWatch {
    return new ListWatch(collection, this.#parts, { ...listener, settled: () => this.#settled() });
  }

  #settled(): void {
    if (this.#closed || !this.#always.every(({ synced }) => synced)) return;
    const arePools = this.#applyPools();
    if (!arePools && this.#claims.size === 0) {
      this.#sleep();
      return;
    }
    if (this.#watches.length === 0) {
      this.#watches = [this.#followServices(), this.#followNamespaces()];
      for (const watch of this.#watches) watch.start();
    }
    if (this.#ready || !this.#watches.every(({ synced }) => synced)) return;
    this.#ready = true;
    this.#look(this.#book.keys());
    this.#queue.start();
    this.#options.changed?.();
  }

  /** True: there are some. */
  #applyPools(): boolean {
    const pools = new Map([...this.#pools.objects()].map(one => [one.metadata.name, one as AddressPool]));
    if (!this.#poolsChanged) return pools.size > 0;
    this.#poolsChanged = false;
    this.#book.setPools(pools);
    if (this.#ready) this.#look(this.#book.keys());
    this.#options.changed?.();
    return pools.size > 0;
  }

  #sleep(): void {
    if (this.#watches.length === 0) return;
    this.#queue.stop();
    this.#cancelTimers();
    this.#ready = false;
    for (const watch of this.#watches) this.#closing.push(watch.close());
    this.#watches = [];
    this.#waiting.clear();
    for (const key of this.#book.keys()) this.#book.deleteService(key);
  }

  #later(key: string, milliseconds: number): void {
    if (this.#closed || this.#timers.has(key)) return;
    const timer = this.#parts.clock.after(milliseconds, () => {
      this.#timers.delete(key);
      this.#look([key]);
    });
    this.#timers.set(key, timer);
  }

  #cancelTimers(): void {
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  #look(keys: readonly string[]): void {
    if (!this.#ready) return;
    for (const key of keys) this.#queue.add(key);
  }

  /** Addresses, or what stands in the way of sharing them. */
  #freed(keys: readonly string[]): void {
    this.#look(keys);
    if (this.#closed || this.#waiting.size === 0) return;
    this.#wake ??= this.#parts.clock.after(WAKE, () => {
      this.#wake = undefined;
      this.#look([...this.#waiting]);
    });
  }

  async #settle(key: string): Promise<void> {
    const before = this.#book.claimsOf(key).length;
    const decision = await this.#assigner.settle(key);
    if (decision?.waits) this.#waiting.add(key);
    else this.#waiting.delete(key);
    const now = this.#book.claimsOf(key).length;
    if (now < before) this.#freed([]);
    if (now !== before) this.#options.changed?.();
  }

  #failed(key: string, error: ApiError): void {
    this.#parts.log.warn(
      { service: key, status: error.status },
      `the load-balancer addresses of Service ${key} are not settled: ${error.message}`,
    );
  }
}
