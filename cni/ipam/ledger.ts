/**
 * The address book on disk. Every change is appended to the journal before it is made in memory, so that at any instant a
 * killed process finds again what it had promised. Power loss ends all pods with it; the boot id tells the sweep so.
 */
import fs from "node:fs";
import path from "node:path";
import { type Address, formatPrefix, type Prefix } from "../../net/address.ts";
import type { PodName } from "../types.ts";
import { AddressBook, addressOf, type Key, type LedgerRecord, type Reservation } from "./book.ts";
import { Journal, JournalError } from "./journal.ts";
import { firstOffset, type Pool } from "./pool.ts";

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
  pod?: PodName;
}

const formatVersion = 1;
export const defaultQuarantine = 30_000;

export class Ledger {
  readonly file: string;
  readonly bootId: string;
  /** What was lost when the file was read, in words. */
  readonly damage: readonly string[];
  /** There was no ledger before. */
  readonly isNew: boolean;
  readonly #book = new AddressBook();
  readonly #journal: Journal;
  readonly #now: () => number;
  readonly #quarantine: number;

  /** Reads or creates `DIRECTORY/ledger`. Throws JournalError. */
  constructor(directory: string, options: LedgerOptions) {
    this.file = path.join(directory, "ledger");
    this.#now = options.now;
    this.#quarantine = options.quarantine ?? defaultQuarantine;
    this.bootId = options.bootId ?? fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    this.#journal = new Journal(this.file);
    const damage = [...this.#journal.content.damage];
    for (const raw of this.#journal.content.records) {
      const record = raw as LedgerRecord;
      if (record.op === "podlane-ledger" && record.version > formatVersion) {
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
    this.isNew = this.#journal.content.records.length === 0;
    if (damage.length > 0 || this.isNew) this.#compact();
  }

  pools(): Pool[] {
    return this.#book.pools();
  }

  usedIn(pool: Pool): number {
    return this.#book.usedIn(pool);
  }

  get(key: Key): Reservation | undefined {
    return this.#book.get(key);
  }

  reservations(): Reservation[] {
    return this.#book.reservations();
  }

  /**
   * The ranges of this node from now on. One that is no longer among them is retired, and forgotten as soon as no pod has an
   * address of it. Throws JournalError.
   */
  setRanges(prefixes: readonly Prefix[]): void {
    const wanted = new Set(prefixes.map(formatPrefix));
    const records: LedgerRecord[] = [];
    for (const pool of this.pools()) {
      if (!wanted.has(pool.text) && !pool.retired) records.push({ ...pool.record(), retired: true });
      if (wanted.has(pool.text) && pool.retired) records.push({ ...pool.record(), retired: false });
      wanted.delete(pool.text);
    }
    for (const prefix of wanted) records.push({ op: "range", prefix, retired: false, cursor: firstOffset, freed: [] });
    this.#change(records);
    this.forgetEmptyRanges();
  }

  /** Throws JournalError. */
  forgetEmptyRanges(): void {
    const empty = this.pools().filter(pool => pool.retired && this.usedIn(pool) === 0);
    this.#change(empty.map(pool => ({ op: "drop", prefix: pool.text })));
  }

  /**
   * Takes one address of each family, or none. In the file when this returns; await `durable` before telling anybody.
   * An attachment that has a reservation already keeps its addresses. Throws AllocationError, JournalError.
   */
  reserve({ requested, ...rest }: NewReservation): Reservation {
    const existing = this.get(rest);
    const addresses = existing?.addresses ?? this.#choose(requested);
    const reservation: Reservation = {
      ...rest,
      addresses,
      requested: requested.length > 0,
      confirmed: false,
      at: this.#now(),
      bootId: this.bootId,
    };
    this.#change([{ op: "reserve", ...reservation }]);
    return reservation;
  }

  /** Takes over an attachment that the ledger lost; addresses that others have meanwhile stay with these. Throws JournalError. */
  adopt(found: Omit<Reservation, "confirmed" | "requested" | "at" | "bootId">): void {
    if (found.addresses.some(text => this.#book.ownerOf(addressOf(text)))) return;
    this.#change([{ op: "reserve", ...found, confirmed: true, requested: true, at: this.#now(), bootId: this.bootId }]);
  }

  /** The attachment is complete. Throws JournalError. */
  confirm(key: Key): void {
    this.#change([{ op: "confirm", ...keyOf(key) }]);
  }

  /** Gives the addresses back; undefined = there was nothing. Throws JournalError. */
  release(key: Key): Reservation | undefined {
    const found = this.get(key);
    if (!found) return undefined;
    this.#change([{ op: "release", ...keyOf(key), at: this.#now() }]);
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

  #choose(requested: readonly Address[]): string[] {
    const chosen = this.#book.choose(requested, this.#now(), this.#quarantine);
    return chosen.map(({ address, pool }) => formatPrefix({ address, length: pool.prefix.length }));
  }

  #change(records: LedgerRecord[]): void {
    if (records.length === 0) return;
    if (this.#journal.wantsCompaction) this.#compact();
    this.#journal.append(records);
    for (const record of records) this.#book.apply(record);
  }

  #compact(): void {
    this.#journal.compact([{ op: "podlane-ledger", version: formatVersion }, ...this.#book.records()]);
  }
}

function keyOf({ network, containerId, ifname }: Key): Key {
  return { network, containerId, ifname };
}
