/**
 * The address book on disk. A promise (an address for a pod) is appended to the journal before it is made in memory, so that at any
 * instant a killed process finds it again. What promises nothing (giving back, ranges) is also done where the disk takes no more: a
 * journal that lags behind is rewritten before the next promise, and what it still holds too much is found dead after a restart.
 * Power loss ends all pods with it; the boot id tells the sweep so.
 */
import fs from "node:fs";
import path from "node:path";
import { type Address, formatPrefix, type Prefix, parsePrefix } from "../../net/address.ts";
import type { Bandwidth, PodName, PortMapping } from "../types.ts";
import { AddressBook, addressOf, type Key, type LedgerRecord, type Reservation } from "./book.ts";
import { Journal, JournalError } from "./journal.ts";
import { FIRST_OFFSET, type Pool } from "./pool.ts";

export interface LedgerOptions {
  /** Milliseconds since the epoch. */
  now: () => number;
  /** Milliseconds that a freed address rests. */
  quarantine?: number;
  /** Default: that of the running kernel. */
  bootId?: string;
}

export interface NewReservation extends Key {
  netns: string;
  netnsInode: string;
  hostInterface: string;
  requested: readonly Address[];
  /** Addresses that links of the node have, and which: not for pods. */
  foreign?: ReadonlyMap<string, string>;
  pod?: PodName;
  bandwidth?: Bandwidth;
  /** Of the pod's end, to be known after a restart. */
  mac?: string;
  ports?: PortMapping[];
}

const FORMAT_VERSION = 1;
const DEFAULT_QUARANTINE = 30_000;

export class Ledger {
  readonly file: string;
  readonly bootId: string;
  /** What was lost when the file was read, in words. */
  readonly damage: readonly string[];
  readonly #book = new AddressBook();
  readonly #journal: Journal;
  readonly #now: () => number;
  readonly #quarantine: number;
  /** Why the journal lags behind the memory. */
  #behind: JournalError | undefined;

  /** Reads or creates `DIRECTORY/ledger`. Throws JournalError. */
  constructor(directory: string, options: LedgerOptions) {
    this.file = path.join(directory, "ledger");
    this.#now = options.now;
    this.#quarantine = options.quarantine ?? DEFAULT_QUARANTINE;
    this.bootId = options.bootId ?? fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    this.#journal = new Journal(this.file);
    const damage = [...this.#journal.content.damage];
    for (const raw of this.#journal.content.records) {
      const record = raw as LedgerRecord;
      if (record.op === "podlane-ledger" && record.version > FORMAT_VERSION) {
        throw new JournalError(
          `${this.file} was written by a newer podlane (format ${record.version}); install that version again, or drain the node and remove the file`,
        );
      }
      try {
        this.#book.apply(record);
      } catch (error) {
        damage.push(`record ${JSON.stringify(record).slice(0, 120)} is not usable: ${(error as Error).message}`);
      }
    }
    this.damage = damage;
    if (damage.length > 0 || this.#journal.content.records.length === 0) this.#attempt(() => this.#compact());
  }

  /** Why addresses can be given back but not promised; undefined = they can. Tries to write what the file lags behind, so asking mends it. */
  obstacle(): string | undefined {
    if (this.#behind || this.#journal.isBroken) this.#attempt(() => this.#compact());
    return this.#behind?.message ?? this.#journal.fullness();
  }

  pools(): Pool[] {
    return this.#book.pools();
  }

  usedIn(pool: Pool): number {
    return this.#book.usedIn(pool);
  }

  usage(pool: Pool): { used: number; resting: number; free?: number } {
    const used = this.usedIn(pool);
    const resting = pool.resting(this.#now(), this.#quarantine);
    return { used, resting, ...(!pool.retired && { free: Math.max(0, pool.capacity - used - resting) }) };
  }

  /** Addresses of attachments that no range of the node explains any more. */
  held(): Address[] {
    return this.#book.held();
  }

  get(key: Key): Reservation | undefined {
    return this.#book.get(key);
  }

  reservations(): Reservation[] {
    return this.#book.reservations();
  }

  /**
   * The ranges of this node from now on. One that is no longer among them is retired, and forgotten as soon as no pod has an
   * address of it.
   */
  setRanges(prefixes: readonly Prefix[]): void {
    const wanted = new Set(prefixes.map(formatPrefix));
    const records: LedgerRecord[] = [];
    for (const pool of this.pools()) {
      if (!wanted.has(pool.text) && !pool.retired) records.push({ ...pool.record(), retired: true });
      if (wanted.has(pool.text) && pool.retired) records.push({ ...pool.record(), retired: false });
      wanted.delete(pool.text);
    }
    for (const prefix of wanted) records.push({ op: "range", prefix, retired: false, cursor: FIRST_OFFSET, freed: [] });
    this.#note(records);
    this.forgetEmptyRanges();
  }

  forgetEmptyRanges(): void {
    const empty = this.pools().filter(pool => pool.retired && this.#book.givenFrom(pool) === 0);
    this.#note(empty.map(pool => ({ op: "drop", prefix: pool.text })));
  }

  /**
   * Takes one address of each family, or none. In the file when this returns; await `durable` before telling anybody.
   * An attachment that has a reservation already keeps its addresses. `quarantine`: milliseconds that an address must have rested, where
   * fewer shall do than is the rule. Throws AllocationError, JournalError.
   */
  reserve({ requested, foreign, ...rest }: NewReservation, quarantine = this.#quarantine): Reservation {
    const existing = this.get(rest);
    const addresses = existing?.addresses ?? this.#choose(requested, quarantine, foreign);
    const reservation: Reservation = {
      ...rest,
      addresses,
      requested: requested.length > 0,
      confirmed: false,
      at: this.#now(),
      bootId: this.bootId,
    };
    this.#promise([{ op: "reserve", ...reservation }]);
    return reservation;
  }

  /**
   * Takes over an attachment that the ledger does not know, and ranges that its addresses are of. Addresses that another attachment has
   * stay with that one: it is returned, and nothing was done.
   */
  adopt(found: Omit<Reservation, "confirmed" | "requested" | "at" | "bootId">): Reservation | undefined {
    for (const text of found.addresses) {
      const owner = this.#book.ownerOf(addressOf(text));
      if (owner) return owner;
    }
    const known = new Set(this.pools().map(pool => pool.text));
    const ranges = found.addresses.map(text => formatPrefix(parsePrefix(text, "clear"))).filter(text => !known.has(text));
    this.#note([
      ...ranges.map(prefix => ({ op: "range" as const, prefix, retired: true, cursor: FIRST_OFFSET, freed: [] })),
      { op: "reserve", ...found, confirmed: true, requested: true, at: this.#now(), bootId: this.bootId },
    ]);
    return undefined;
  }

  /** The attachment is complete. Throws JournalError. */
  confirm(key: Key): void {
    this.#promise([{ op: "confirm", ...keyOf(key) }]);
  }

  /** Gives the addresses back; undefined = there was nothing. */
  release(key: Key): Reservation | undefined {
    const found = this.get(key);
    if (!found) return undefined;
    this.#note([{ op: "release", ...keyOf(key), at: this.#now() }]);
    return found;
  }

  /** Resolves when all changes so far are on the disk. Rejects with JournalError. */
  durable(): Promise<void> {
    return this.#journal.durable();
  }

  /** Begins to write to the disk without waiting. */
  flush(): void {
    this.#journal.flush();
  }

  close(): void {
    this.#journal.close();
  }

  #choose(requested: readonly Address[], quarantine: number, foreign: NewReservation["foreign"]): string[] {
    const chosen = this.#book.choose(requested, this.#now(), quarantine, foreign);
    return chosen.map(({ address, pool }) => formatPrefix({ address, length: pool.prefix.length }));
  }

  /** In the file, or not at all. Throws JournalError. */
  #promise(records: LedgerRecord[]): void {
    if (this.#behind || this.#journal.isBroken) this.#compact();
    this.#journal.append(records);
    for (const record of records) this.#book.apply(record);
    if (this.#journal.isMostlyHistory) this.#attempt(() => this.#compact());
  }

  /** In memory in any case. */
  #note(records: LedgerRecord[]): void {
    if (records.length === 0) return;
    for (const record of records) this.#book.apply(record);
    this.#attempt(() => {
      if (this.#behind || this.#journal.isBroken || this.#journal.isMostlyHistory) this.#compact();
      else this.#journal.append(records);
    });
  }

  #attempt(write: () => void): void {
    try {
      write();
    } catch (error) {
      if (!(error instanceof JournalError)) throw error;
      this.#behind = error;
    }
  }

  #compact(): void {
    this.#journal.compact([{ op: "podlane-ledger", version: FORMAT_VERSION }, ...this.#book.records()]);
    this.#behind = undefined;
  }
}

function keyOf({ network, containerId, ifname }: Key): Key {
  return { network, containerId, ifname };
}
