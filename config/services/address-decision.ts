/**
 * Which addresses one Service is to have, out of what is known (AddressBook). What it has stays, whatever becomes of the pools, as long as it asks for nothing
 * else; what it asks for and cannot have is never replaced by something else. What others gave it, addresses of no pool and names, is left alone: who gave
 * it would put it back. Only a Service that asks for something else has it replaced. Pure: nothing is taken by deciding.
 */
import { formatAddress, type IpFamily, isAddress, parseAddress } from "../../net/address.ts";
import type { AddressPool } from "../resources/kinds.ts";
import type { AddressBook } from "./address-book.ts";
import { assignedCondition, Notes, type Refusal, Refusals, refusedCondition } from "./address-texts.ts";
import { type AddressCondition, type BalancedService, namesOf } from "./balanced.ts";
import { familyOf, isBuggyAddress, OWN_CLASS, servesClass } from "./pools.ts";

export interface Decision {
  /** What its status is to hold, in this order; undefined: nothing of it is ours. */
  addresses?: readonly string[];
  /** Names that it has in place of addresses go. */
  dropsNames?: true;
  /** Those of them that have to be claimed, with their pools. */
  claims: ReadonlyMap<string, string>;
  /** Absent: it is to have none. */
  condition?: AddressCondition;
  /** It may come to more when an address gets free. */
  waits: boolean;
}

/** An address that a Service has. */
interface Kept {
  address: string;
  /** Of AddressPool. */
  pool: string;
  claimed: boolean;
}

type ByFamily<T> = Map<IpFamily, T>;

export function decide(book: AddressBook, key: string): Decision {
  const service = book.service(key);
  const nothing: Decision = { claims: new Map(), waits: false };
  if (!service) return nothing;
  const claimed = book.claimsOf(key).filter(claim => claim.services.some(({ uid }) => uid === service.uid));
  if (!service.balanced) {
    if (claimed.length === 0) return nothing;
    const given = new Set(claimed.map(({ address }) => address));
    return { ...nothing, addresses: service.addresses.filter(address => !given.has(address)) };
  }
  const isOurs = claimed.length > 0 || service.loadBalancerClass === OWN_CLASS || book.servesClassOf(service);
  if (!isOurs) return nothing;
  return new Case(book, service).decide();
}

class Case {
  readonly #book: AddressBook;
  readonly #service: BalancedService;
  /** The families that it is to have, in its order. */
  readonly #families: readonly IpFamily[];
  readonly #kept: ByFamily<Kept>;
  /** What somebody else gave it: addresses, as they stand in its status, and names. */
  readonly #foreign: readonly string[];
  readonly #names: readonly string[];
  /** It asks for something that takes the place of these. */
  #replaces = false;

  constructor(book: AddressBook, service: BalancedService) {
    this.#book = book;
    this.#service = service;
    this.#families = service.policy === "SingleStack" ? service.families.slice(0, 1) : service.families;
    this.#kept = this.#keptOf();
    this.#foreign = service.addresses.filter(address => this.#isForeign(address));
    this.#names = namesOf(service);
  }

  decide(): Decision {
    const pins = this.#pins();
    if (!(pins instanceof Map)) return this.#refused(pins);
    const { request, ending } = this.#service;
    this.#replaces = !ending && (request.pool !== undefined || [...pins.values()].some(address => !this.#foreign.includes(address)));
    const isLeft = !this.#replaces && this.#foreign.length + this.#names.length > 0;
    if (this.#kept.size === 0) return isLeft ? this.#assigned(this.#kept) : this.#fresh(pins);
    return this.#isElsewhere(pins) ? this.#fresh(pins) : this.#stay(pins);
  }

  #isForeign(address: string): boolean {
    const { uid, loadBalancerClass } = this.#service;
    if (this.#book.claim(address)?.services.some(one => one.uid === uid)) return false;
    const pool = this.#book.space.poolOf(address);
    return !pool || !servesClass(pool, loadBalancerClass);
  }

  /** What it has of each family that is ours: what is claimed for it before what only stands in its status. */
  #keptOf(): ByFamily<Kept> {
    const { addresses, uid, key } = this.#service;
    const shown: Kept[] = [];
    for (const address of addresses) {
      const claim = this.#book.claim(address);
      const pool = this.#book.space.poolOf(address);
      if (claim?.services.some(one => one.uid === uid)) shown.push({ address, pool: pool?.metadata.name ?? claim.pool, claimed: true });
      else if (pool && !this.#isForeign(address) && !this.#book.refusal(address, this.#service, "claimed"))
        shown.push({ address, pool: pool.metadata.name, claimed: false });
    }
    const hidden = this.#book
      .claimsOf(key)
      .filter(claim => !addresses.includes(claim.address) && claim.services.some(one => one.uid === uid))
      .map(({ address, pool }): Kept => ({ address, pool: this.#book.space.poolOf(address)?.metadata.name ?? pool, claimed: true }));
    const kept: ByFamily<Kept> = new Map();
    for (const one of [...shown.sort((a, b) => Number(b.claimed) - Number(a.claimed)), ...hidden]) {
      const family = familyOf(one.address);
      if (this.#families.includes(family) && !kept.has(family)) kept.set(family, one);
    }
    return kept;
  }

  /** The addresses that it asks for, or what is wrong with them. */
  #pins(): ByFamily<string> | Refusal {
    const { addresses, field = "" } = this.#service.request;
    const pins: ByFamily<string> = new Map();
    for (const text of addresses) {
      if (!isAddress(text))
        return Refusals.invalid(field, text, "is no IP address; write one, or one of each family with a comma between them");
      const address = formatAddress(parseAddress(text));
      const family = familyOf(address);
      if (pins.has(family))
        return Refusals.invalid(field, addresses.join(","), `has two IPv${family} addresses; a Service has one of each family`);
      if (!this.#families.includes(family)) {
        const has = this.#families.map(one => `IPv${one}`).join(" and ");
        return Refusals.invalid(field, text, `the Service is for ${has}; see spec.ipFamilies and spec.ipFamilyPolicy`);
      }
      pins.set(family, address);
    }
    return pins;
  }

  /** It asks for something else than it has. */
  #isElsewhere(pins: ByFamily<string>): boolean {
    const { pool } = this.#service.request;
    const kept = [...this.#kept.values()];
    if (pool !== undefined && kept.some(one => one.pool !== pool)) return true;
    return [...pins].some(([family, address]) => this.#kept.get(family)?.address !== address && !this.#foreign.includes(address));
  }

  #stay(pins: ByFamily<string>): Decision {
    const { policy, addresses, ending } = this.#service;
    const pool = this.#keptPool();
    const others = this.#replaces ? [] : this.#foreign.map(familyOf);
    const lacking = this.#families.filter(family => !this.#kept.has(family) && !others.includes(family));
    const found = new Map(this.#kept);
    if (pool && !ending) {
      for (const family of lacking) {
        const address = this.#book.admits(pool, this.#service) ? this.#book.pick(pool, family, this.#service) : undefined;
        if (address !== undefined) found.set(family, { address, pool: pool.metadata.name, claimed: false });
      }
    }
    const still = lacking.filter(family => !found.has(family));
    if (still.length > 0 && policy === "RequireDualStack") {
      // Claimed by a leader that did not come to the second one, and told nobody.
      if (![...this.#kept.values()].some(({ address }) => addresses.includes(address))) return this.#fresh(pins, "without");
      if (pool) return this.#refused(this.#lacks([pool], still));
    }
    return this.#assigned(found, pool && still.length > 0 ? Notes.lacksFamily(pool.metadata.name, still[0]) : undefined);
  }

  /** The one pool of what it has, if it is still there. */
  #keptPool(): AddressPool | undefined {
    const [first] = this.#kept.values();
    return first && this.#book.space.pool(first.pool);
  }

  #fresh(pins: ByFamily<string>, keeping: "with" | "without" = "with"): Decision {
    const { ending, request } = this.#service;
    if (ending) return this.#assigned(this.#kept);
    const pools = this.#candidates(pins);
    if (!Array.isArray(pools)) return this.#refused(pools, keeping);
    const partial: ByFamily<Kept>[] = [];
    for (const pool of pools) {
      const found: ByFamily<Kept> = new Map();
      for (const family of this.#families) {
        const address = pins.get(family) ?? this.#own(pool, family) ?? this.#book.pick(pool, family, this.#service);
        if (address !== undefined) found.set(family, { address, pool: pool.metadata.name, claimed: false });
      }
      if (found.size === this.#families.length) return this.#assigned(found);
      if (found.size > 0) partial.push(found);
    }
    const [first] = this.#families;
    const second = partial.find(found => found.has(first)) ?? partial[0];
    if (second && this.#service.policy === "PreferDualStack") {
      const [{ pool }] = second.values();
      return this.#assigned(second, Notes.lacksFamily(pool, this.#families.find(family => !second.has(family)) ?? first));
    }
    const lacks = this.#lacks(pools, this.#families);
    return this.#refused(request.pool === undefined && pools.length === 0 ? Refusals.noPoolFor(this.#service) : lacks, keeping);
  }

  /** What it has of this pool already, where it changes only the other family. */
  #own(pool: AddressPool, family: IpFamily): string | undefined {
    const kept = this.#kept.get(family);
    return kept?.pool === pool.metadata.name ? kept.address : undefined;
  }

  /** Pools to be tried in turn, or why there is none. */
  #candidates(pins: ByFamily<string>): AddressPool[] | Refusal {
    const { request, loadBalancerClass } = this.#service;
    const book = this.#book;
    if (!book.servesClassOf(this.#service)) return Refusals.noPoolAtAll(loadBalancerClass);
    const wanted = request.pool === undefined ? undefined : book.space.pool(request.pool);
    if (request.pool !== undefined) {
      if (!wanted) return Refusals.unknownPool(request.pool);
      if (!book.admits(wanted, this.#service)) return Refusals.closedPool(request.pool);
    }
    if (pins.size === 0) return wanted ? [wanted] : book.poolsOf(this.#service).filter(({ spec }) => spec.autoAssign);
    const pools = new Map<string, AddressPool>();
    for (const address of pins.values()) {
      const pool = book.space.poolOf(address);
      const refusal = this.#pinRefusal(address, pool);
      if (refusal) return refusal;
      if (pool) pools.set(pool.metadata.name, pool);
    }
    const [first, second] = pools.values();
    if (second) return Refusals.inOtherPool([...pins.values()][1], second.metadata.name, `one of AddressPool ${first.metadata.name}`);
    return [first];
  }

  #pinRefusal(address: string, pool: AddressPool | undefined): Refusal | undefined {
    const { request } = this.#service;
    if (!pool) return Refusals.notInPool(address);
    const { name } = pool.metadata;
    if (request.pool !== undefined && request.pool !== name) return Refusals.inOtherPool(address, name, `AddressPool ${request.pool}`);
    if (!this.#book.admits(pool, this.#service)) return Refusals.notForIt(address, name);
    if (pool.spec.avoidBuggyIPs && isBuggyAddress(address)) return Refusals.buggy(address, name);
    return this.#book.refusal(address, this.#service);
  }

  #lacks(pools: readonly AddressPool[], families: readonly IpFamily[]): Refusal {
    const names = pools.map(({ metadata }) => metadata.name);
    const { policy } = this.#service;
    const able = pools.filter(({ metadata }) => this.#families.every(family => this.#book.space.has(metadata.name, family)));
    if (able.length === 0 && policy !== "PreferDualStack") return Refusals.noFamily(names, families, policy);
    return Refusals.exhausted(able.length > 0 ? able.map(({ metadata }) => metadata.name) : names, families);
  }

  #assigned(found: ByFamily<Kept>, note?: Refusal): Decision {
    const all = [...found.values()];
    const addresses = this.#inOrder(all, this.#replaces ? [] : this.#foreign);
    const names = this.#replaces ? { dropsNames: true as const } : {};
    const foreign = this.#replaces ? [] : [...this.#foreign, ...this.#names];
    if (all.length + foreign.length === 0) return { claims: new Map(), addresses, waits: false };
    const pools = addresses.flatMap(address => all.find(one => one.address === address)?.pool ?? []);
    const said = note ?? this.#changes(all);
    const condition =
      foreign.length > 0 ? { status: "False" as const, ...Notes.foreign(foreign) } : assignedCondition(addresses, pools, said);
    return { addresses, ...names, claims: claimsOf(all), condition, waits: note !== undefined };
  }

  #refused(refusal: Refusal, keeping: "with" | "without" = "with"): Decision {
    const kept = keeping === "with" ? [...this.#kept.values()] : [];
    const addresses = this.#inOrder(kept, this.#foreign);
    return { addresses, claims: claimsOf(kept), condition: refusedCondition(refusal, [...addresses, ...this.#names]), waits: true };
  }

  /** As they stand in its status, what is new after them; where that is something else anyway and all is ours, in the order of its families. */
  #inOrder(ours: readonly Kept[], foreign: readonly string[]): string[] {
    const { addresses } = this.#service;
    const own = [...ours].map(({ address }) => address).sort((a, b) => this.#rank(a) - this.#rank(b));
    const fresh = own.filter(address => !addresses.includes(address));
    if (fresh.length > 0 && foreign.length === 0) return own;
    return [...addresses.filter(address => own.includes(address) || foreign.includes(address)), ...fresh];
  }

  #rank(address: string): number {
    return this.#families.indexOf(familyOf(address));
  }

  /** What has become of the pools of what it has, and of those that share it. */
  #changes(all: readonly Kept[]): Refusal | undefined {
    for (const { address, pool, claimed } of all) {
      const now = this.#book.space.poolOf(address);
      if (!now) return Notes.outOfPool(address, pool);
      if (!this.#book.admits(now, this.#service)) return Notes.closed(address, pool);
      const refusal = claimed ? this.#book.refusal(address, this.#service, "claimed") : undefined;
      if (refusal && !refusal.passing) return refusal;
    }
    return undefined;
  }
}

function claimsOf(all: readonly Kept[]): Map<string, string> {
  return new Map(all.map(({ address, pool }) => [address, pool]));
}
