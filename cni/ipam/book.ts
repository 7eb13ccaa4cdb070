/**
 * Who has which address, in memory: a pure state that changes only by records, so that replaying the journal gives the same
 * state as living through it. Addresses are unique over all networks of the node; attachments are unique within theirs.
 */
import { type Address, contains, formatAddress, formatPrefix, parseAddress, parsePrefix, sameOctets } from "../../net/address.ts";
import type { Bandwidth, PodName, PortMapping } from "../types.ts";
import { Pool, type PoolRecord } from "./pool.ts";

export interface Key {
  network: string;
  containerId: string;
  ifname: string;
}

export interface Reservation extends Key {
  netns: string;
  hostInterface: string;
  /** `ADDRESS/LENGTH`, the length being that of the range. */
  addresses: string[];
  /** Inode of the namespace (nsfs), which tells it from a later one at the same path. */
  netnsInode: string;
  /** false: ADD was begun and not finished. */
  confirmed: boolean;
  /** Some address was asked for by name. */
  requested: boolean;
  /** Milliseconds since the epoch. */
  at: number;
  /** Boot in which it was made. */
  bootId: string;
  pod?: PodName;
  /** As it was asked for. */
  bandwidth?: Bandwidth;
  /** Of the pod's end. Absent: of a version that did not keep it. */
  mac?: string;
  ports?: PortMapping[];
}

export type LedgerRecord =
  | { op: "podlane-ledger"; version: number }
  | ({ op: "reserve" } & Reservation)
  | ({ op: "confirm" } & Key)
  | ({ op: "release"; at: number } & Key)
  | PoolRecord
  | { op: "drop"; prefix: string };

/** What cannot be allocated, and why. */
export class AllocationError extends Error {
  override readonly name = "AllocationError";
  readonly reason: "exhausted" | "no-range" | "outside" | "reserved" | "taken" | "duplicate-family";
  readonly remedy: string;

  constructor(reason: AllocationError["reason"], message: string, remedy: string) {
    super(message);
    this.reason = reason;
    this.remedy = remedy;
  }
}

export class AddressBook {
  readonly #pools = new Map<string, Pool>();
  readonly #reservations = new Map<string, Reservation>();
  /** Address text to reservation key. */
  readonly #owners = new Map<string, string>();

  /** In the order they were assigned. */
  pools(): Pool[] {
    return [...this.#pools.values()];
  }

  reservations(): Reservation[] {
    return [...this.#reservations.values()];
  }

  get(key: Key): Reservation | undefined {
    return this.#reservations.get(keyText(key));
  }

  ownerOf(address: Address): Reservation | undefined {
    const owner = this.#owners.get(formatAddress(address));
    return owner === undefined ? undefined : this.#reservations.get(owner);
  }

  usedIn(pool: Pool): number {
    let used = 0;
    for (const { addresses } of this.#reservations.values())
      for (const text of addresses) if (contains(pool.prefix, addressOf(text))) used++;
    return used;
  }

  /** How many addresses were given out of it; one of another pool may lie in it as well, where ranges overlap. */
  givenFrom(pool: Pool): number {
    let given = 0;
    for (const { addresses } of this.#reservations.values())
      for (const text of addresses) if (formatPrefix(parsePrefix(text, "clear")) === pool.text) given++;
    return given;
  }

  /** Addresses of attachments that no range of the node explains any more. */
  held(): Address[] {
    const present = this.pools().filter(pool => !pool.retired);
    return this.reservations()
      .flatMap(({ addresses }) => addresses.map(addressOf))
      .filter(address => !present.some(({ prefix }) => contains(prefix, address)));
  }

  /**
   * One address of every family that has a range, or of none: `requested` ones as asked, the others chosen. Changes nothing. `foreign`: addresses
   * that links of the node have, and which. Throws AllocationError.
   */
  choose(
    requested: readonly Address[],
    now: number,
    quarantine: number,
    foreign: ReadonlyMap<string, string> = new Map(),
  ): { address: Address; pool: Pool }[] {
    const pools = this.pools().filter(pool => !pool.retired);
    if (pools.length === 0) throw new AllocationError("no-range", "no pod CIDR is assigned to this node", "wait for it, or assign one");
    const chosen = requested.map(address => this.#chooseRequested(address, pools, foreign));
    const families = new Set(chosen.map(({ pool }) => pool.family));
    if (families.size < chosen.length)
      throw new AllocationError(
        "duplicate-family",
        "more than one address of a family is asked for",
        "ask for one IPv4 and one IPv6 address at most",
      );
    for (const family of [4, 6] as const) {
      const candidates = pools.filter(pool => pool.family === family);
      if (candidates.length > 0 && !families.has(family)) chosen.push(this.#chooseNext(candidates, now, quarantine, foreign));
    }
    return chosen.sort((a, b) => a.pool.family - b.pool.family);
  }

  apply(record: LedgerRecord): void {
    if (record.op === "reserve") this.#reserve(record);
    else if (record.op === "release") this.#release(record, record.at);
    else if (record.op === "confirm") {
      const found = this.get(record);
      if (found) found.confirmed = true;
    } else if (record.op === "range") this.#range(record);
    else if (record.op === "drop") this.#pools.delete(record.prefix);
  }

  /** The records that make this state out of nothing. */
  records(): LedgerRecord[] {
    return [...this.pools().map(pool => pool.record()), ...this.reservations().map(found => ({ op: "reserve" as const, ...found }))];
  }

  #reserve({ op: _, ...reservation }: { op: "reserve" } & Reservation): void {
    // Only after a damaged journal: a lost release. The later record was checked against the state of its time.
    for (const text of reservation.addresses) {
      const owner = this.ownerOf(addressOf(text));
      if (owner) this.#release(owner, reservation.at);
    }
    this.#release(reservation, reservation.at);
    const key = keyText(reservation);
    this.#reservations.set(key, reservation);
    for (const text of reservation.addresses) {
      const address = addressOf(text);
      this.#owners.set(formatAddress(address), key);
      for (const pool of this.#pools.values()) pool.take(address, reservation.requested);
    }
  }

  #release(key: Key, at: number): void {
    const found = this.get(key);
    if (!found) return;
    this.#reservations.delete(keyText(key));
    for (const text of found.addresses) {
      const address = addressOf(text);
      this.#owners.delete(formatAddress(address));
      for (const pool of this.#pools.values()) pool.give(address, at);
    }
  }

  #range(record: PoolRecord): void {
    const pool = this.#pools.get(record.prefix) ?? new Pool(parsePrefix(record.prefix));
    pool.restore(record);
    this.#pools.set(record.prefix, pool);
  }

  /** Also that of a range on its way out, which may lie in the middle of its successor. */
  #isGateway(address: Address): boolean {
    return this.pools().some(pool => sameOctets(pool.gateway, address));
  }

  #chooseRequested(address: Address, pools: Pool[], foreign: ReadonlyMap<string, string>): { address: Address; pool: Pool } {
    const text = formatAddress(address);
    const pool = pools.find(candidate => contains(candidate.prefix, address));
    if (!pool) {
      throw new AllocationError(
        "outside",
        `${text} is not in the node's pod CIDRs`,
        `ask for an address in ${pools.map(candidate => candidate.text).join(", ")}`,
      );
    }
    if (pool.isReserved(address) || this.#isGateway(address))
      throw new AllocationError(
        "reserved",
        `${text} is the network, gateway or broadcast address of ${pool.text}`,
        "ask for another address",
      );
    const link = foreign.get(text);
    if (link !== undefined)
      throw new AllocationError(
        "taken",
        `${text} is an address of the node itself, on ${link}`,
        "take it off there, or ask for another address",
      );
    const owner = this.ownerOf(address);
    if (owner) {
      const name = owner.pod ? `pod ${owner.pod.namespace}/${owner.pod.name}` : `container ${owner.containerId}`;
      throw new AllocationError(
        "taken",
        `${text} belongs to ${name} (interface ${owner.ifname})`,
        "remove that pod first, or ask for another address",
      );
    }
    return { address, pool };
  }

  /** `pools`: of one family. */
  #chooseNext(pools: Pool[], now: number, quarantine: number, foreign: ReadonlyMap<string, string>): { address: Address; pool: Pool } {
    const isTaken = (address: Address) => {
      const text = formatAddress(address);
      return this.#owners.has(text) || foreign.has(text) || this.#isGateway(address);
    };
    for (const pool of pools) {
      const offset = pool.next(now, quarantine, isTaken);
      if (offset !== undefined) return { address: pool.addressAt(offset), pool };
    }
    const capacity = pools.reduce((sum, pool) => sum + pool.capacity, 0);
    const used = pools.reduce((sum, pool) => sum + this.usedIn(pool), 0);
    const resting = pools.reduce((sum, pool) => sum + pool.freed.size, 0);
    const names = pools.map(pool => pool.text).join(", ");
    throw new AllocationError(
      "exhausted",
      `no IPv${pools[0].family} address is free in ${names}: ${used} of ${capacity} are in use and ${resting} rest after their last use`,
      resting > 0
        ? `addresses rest for ${quarantine / 1000} s; try again later, or give the node a larger range`
        : "give the node a larger range, or run fewer pods on it",
    );
  }
}

export function keyText({ network, containerId, ifname }: Key): string {
  return `${network}/${containerId}/${ifname}`;
}

/** The address of `ADDRESS/LENGTH`. */
export function addressOf(text: string): Address {
  return parseAddress(text.slice(0, text.lastIndexOf("/")));
}
