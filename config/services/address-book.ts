/**
 * Which addresses are whose: pools, claims and Services as they are known, kept in step object by object. An address is in use while a claim has it or a
 * Service has it in its status: what clusters bring along from elsewhere is nobody else's from the start.
 */
import type { IpFamily } from "../../net/address.ts";
import { MAX_SHARING } from "../resources/address-pool.ts";
import type { AddressPool } from "../resources/kinds.ts";
import { type Refusal, Refusals } from "./address-texts.ts";
import type { BalancedService } from "./balanced.ts";
import { KeySets } from "./key-sets.ts";
import { admits, familyOf, isBuggyAddress, PoolSpace, type PoolUsage, servesClass } from "./pools.ts";

export interface ClaimedBy {
  namespace: string;
  name: string;
  uid: string;
  /** The version of the Service to which the address was last to be written. */
  resourceVersion?: string;
}

export interface Claim {
  address: string;
  pool: string;
  /** None: it is kept from being given away. */
  services: readonly ClaimedBy[];
  /** Absent: it is about to be made. */
  uid?: string;
  resourceVersion?: string;
}

export class AddressBook {
  #space = new PoolSpace(new Map());
  readonly #services = new Map<string, BalancedService>();
  readonly #namespaces = new Map<string, Record<string, string>>();
  readonly #claims = new Map<string, Claim>();
  /** Addresses by Service: claimed for it, under whatever uid, and in its status. */
  readonly #claimed = new KeySets();
  readonly #shown = new KeySets();
  /** Services by the key under which they share. */
  readonly #sharers = new KeySets();

  get space(): PoolSpace {
    return this.#space;
  }

  setPools(pools: ReadonlyMap<string, AddressPool>): void {
    this.#space = new PoolSpace(pools);
    for (const address of [...this.#claims.keys(), ...this.#shown.keys()]) this.#space.take(address);
  }

  usage(pool: string): PoolUsage {
    return this.#space.usage(pool);
  }

  service(key: string): BalancedService | undefined {
    return this.#services.get(key);
  }

  /** Those with addresses first: what they have is theirs before anybody gets a new one. */
  keys(): string[] {
    const has = (key: string) => Number(this.#claimed.has(key) || (this.#services.get(key)?.addresses.length ?? 0) > 0);
    const all = new Set([...this.#services.keys(), ...this.#claimed.keys()]);
    return [...all].sort((a, b) => has(b) - has(a) || (a < b ? -1 : 1));
  }

  keysOfNamespace(namespace: string): string[] {
    return [...this.#services.values()].flatMap(one => (one.namespace === namespace ? one.key : []));
  }

  setService(service: BalancedService): void {
    this.deleteService(service.key);
    const { key, addresses, request } = service;
    this.#services.set(key, service);
    for (const address of addresses) this.#show(address, key);
    if (request.sharingKey !== undefined && service.balanced) this.#sharers.add(request.sharingKey, key);
  }

  deleteService(key: string): void {
    const before = this.#services.get(key);
    if (!before) return;
    this.#services.delete(key);
    for (const address of before.addresses) this.#hide(address, key);
    if (before.request.sharingKey !== undefined) this.#sharers.delete(before.request.sharingKey, key);
  }

  /** False: nothing is another one. */
  setNamespace(name: string, labels: Record<string, string>): boolean {
    const before = this.#namespaces.get(name);
    this.#namespaces.set(name, labels);
    return JSON.stringify(before) !== JSON.stringify(labels);
  }

  deleteNamespace(name: string): void {
    this.#namespaces.delete(name);
  }

  claim(address: string): Claim | undefined {
    return this.#claims.get(address);
  }

  claimsOf(key: string): Claim[] {
    return this.#claimed.of(key).flatMap(address => this.#claims.get(address) ?? []);
  }

  setClaim(claim: Claim): void {
    const { address } = claim;
    for (const key of keysOf(this.#claims.get(address))) this.#claimed.delete(key, address);
    this.#claims.set(address, claim);
    for (const key of keysOf(claim)) this.#claimed.add(key, address);
    this.#space.take(address);
  }

  deleteClaim(address: string): void {
    for (const key of keysOf(this.#claims.get(address))) this.#claimed.delete(key, address);
    this.#claims.delete(address);
    if (!this.#shown.has(address)) this.#space.release(address);
  }

  /** In the order in which they are tried. */
  poolsOf(service: BalancedService): AddressPool[] {
    return this.#space.ordered.filter(pool => this.admits(pool, service));
  }

  servesClassOf({ loadBalancerClass }: BalancedService): boolean {
    return this.#space.ordered.some(pool => servesClass(pool, loadBalancerClass));
  }

  admits(pool: AddressPool, { loadBalancerClass, labels, namespace }: BalancedService): boolean {
    return servesClass(pool, loadBalancerClass) && admits(pool, labels, namespace, this.#namespaces.get(namespace));
  }

  /** Why this Service may not have the address, as others have it. `claimed`: only those count that have claimed it. */
  refusal(address: string, service: BalancedService, claimed: "claimed" | "all" = "all"): Refusal | undefined {
    const claim = this.#claims.get(address);
    if (claim?.services.length === 0) return Refusals.kept(address);
    const owners = (claim?.services ?? []).filter(one => one.uid !== service.uid);
    for (const owner of owners) {
      const other = this.#services.get(keyOf(owner));
      if (other?.uid !== owner.uid) return Refusals.leaving(address, keyOf(owner));
    }
    const others = new Set(owners.map(keyOf));
    if (claimed === "all") for (const key of this.#shown.of(address)) if (key !== service.key) others.add(key);
    if (others.size >= MAX_SHARING) return Refusals.crowded(address, MAX_SHARING);
    for (const key of others) {
      const other = this.#services.get(key);
      const refusal = other && sharingRefusal(address, service, other);
      if (refusal) return refusal;
    }
    return undefined;
  }

  /** An address that the Service can have from this pool: one that it may share, else the lowest that is free. */
  pick(pool: AddressPool, family: IpFamily, service: BalancedService): string | undefined {
    const { name } = pool.metadata;
    const { sharingKey } = service.request;
    if (sharingKey !== undefined) {
      const shared = this.#sharers
        .of(sharingKey)
        .filter(key => key !== service.key)
        .flatMap(key => [...this.#claimed.of(key), ...(this.#services.get(key)?.addresses ?? [])])
        .filter(address => familyOf(address) === family && this.#space.poolOf(address)?.metadata.name === name)
        .filter(address => !(pool.spec.avoidBuggyIPs && isBuggyAddress(address)));
      const found = [...new Set(shared)].sort().find(address => !this.refusal(address, service));
      if (found !== undefined) return found;
    }
    return this.#space.lowestFree(name, family);
  }

  #show(address: string, key: string): void {
    this.#shown.add(address, key);
    this.#space.take(address);
  }

  #hide(address: string, key: string): void {
    this.#shown.delete(address, key);
    if (!this.#shown.has(address) && !this.#claims.has(address)) this.#space.release(address);
  }
}

/** As MetalLB has it: one key, no port twice, and either no regard for where endpoints are or the same endpoints. */
function sharingRefusal(address: string, one: BalancedService, other: BalancedService): Refusal | undefined {
  const [key, otherKey] = [one.request.sharingKey, other.request.sharingKey];
  if (key === undefined || otherKey === undefined) return Refusals.inUse(address, other.key);
  if (key !== otherKey) return Refusals.otherKey(address, other.key);
  const port = one.ports.find(text => other.ports.includes(text));
  if (port !== undefined) return Refusals.samePort(address, other.key, port);
  return one.backend === other.backend ? undefined : Refusals.otherBackend(address, other.key);
}

export function keyOf({ namespace, name }: ClaimedBy): string {
  return `${namespace}/${name}`;
}

function keysOf(claim: Claim | undefined): string[] {
  return (claim?.services ?? []).map(keyOf);
}
