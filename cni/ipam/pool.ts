/**
 * One pod range: which of its addresses may be handed out next. Never-used addresses come first, in order; then the ones
 * freed longest ago, and none before its rest (quarantine) is over, so that connections and endpoints that still name a pod
 * of yesterday do not reach one of today.
 */
import { type Address, contains, formatPrefix, type IpFamily, type Prefix } from "../../net/address.ts";

/** Offsets above this are never handed out of their own accord: memory and journal stay bounded also for an IPv6 /64. */
const LAST_OFFSET = 65535;
/** Below it: the network (or subnet-router anycast) address and the gateway. */
export const FIRST_OFFSET = 2;

export interface PoolRecord {
  op: "range";
  prefix: string;
  retired: boolean;
  /** The lowest offset that was never handed out. */
  cursor: number;
  /** [offset, milliseconds since the epoch], longest free first. */
  freed: [number, number][];
}

export class Pool {
  readonly prefix: Prefix;
  readonly text: string;
  /** No longer assigned to this node; kept while pods have addresses of it. */
  retired = false;
  cursor = FIRST_OFFSET;
  /** Insertion order is the order of freeing. */
  readonly freed = new Map<number, number>();
  readonly #last: number;

  constructor(prefix: Prefix) {
    this.prefix = prefix;
    this.text = formatPrefix(prefix);
    const bits = prefix.address.length * 8 - prefix.length;
    const size = bits >= 17 ? LAST_OFFSET + 1 : 2 ** bits;
    // The last address of an IPv4 subnet is its broadcast address.
    this.#last = prefix.family === 4 && bits < 17 ? size - 2 : size - 1;
  }

  get family(): IpFamily {
    return this.prefix.family;
  }

  /** How many addresses can be handed out in all. */
  get capacity(): number {
    return Math.max(0, this.#last - FIRST_OFFSET + 1);
  }

  /** The first address: on the bridge, the pods' way out. */
  get gateway(): Address {
    return this.addressAt(1);
  }

  addressAt(offset: number): Address {
    const address = Uint8Array.from(this.prefix.address);
    let rest = offset;
    for (let i = address.length - 1; rest > 0; i--) {
      rest += address[i];
      address[i] = rest & 255;
      rest >>>= 8;
    }
    return address;
  }

  /** undefined: not in the range, or above what is handed out of its own accord. */
  offsetOf(address: Address): number | undefined {
    if (!contains(this.prefix, address)) return undefined;
    let offset = 0;
    for (let i = 0; i < address.length; i++) {
      offset = offset * 256 + (address[i] - this.prefix.address[i]);
      if (offset > LAST_OFFSET) return undefined;
    }
    return offset;
  }

  /** Network (or subnet-router anycast), gateway and broadcast addresses belong to nobody. */
  isReserved(address: Address): boolean {
    const offset = this.offsetOf(address);
    if (offset !== undefined && offset < FIRST_OFFSET) return true;
    return this.family === 4 && address.every((octet, i) => octet === this.#broadcastOctet(i));
  }

  /** The offset to hand out next, without taking it; undefined = none now. */
  next(now: number, quarantine: number, isTaken: (address: Address) => boolean): number | undefined {
    while (this.cursor <= this.#last) {
      if (!this.freed.has(this.cursor) && !isTaken(this.addressAt(this.cursor))) return this.cursor;
      this.cursor++;
    }
    for (const [offset, at] of this.freed) {
      if (isTaken(this.addressAt(offset))) continue;
      return isRested(at, now, quarantine) ? offset : undefined;
    }
    return undefined;
  }

  /** How many addresses were freed too short a while ago. */
  resting(now: number, quarantine: number): number {
    let count = 0;
    for (const at of this.freed.values()) if (!isRested(at, now, quarantine)) count++;
    return count;
  }

  /** Marks an address as used; `requested` ones leave the order of the others as it is. */
  take(address: Address, requested: boolean): void {
    const offset = this.offsetOf(address);
    if (offset === undefined) return;
    this.freed.delete(offset);
    if (!requested && offset >= this.cursor) this.cursor = offset + 1;
  }

  give(address: Address, at: number): void {
    const offset = this.offsetOf(address);
    if (offset === undefined || offset > this.#last) return;
    this.freed.delete(offset);
    this.freed.set(offset, at);
  }

  record(): PoolRecord {
    return { op: "range", prefix: this.text, retired: this.retired, cursor: this.cursor, freed: [...this.freed] };
  }

  restore(record: PoolRecord): void {
    this.retired = record.retired;
    this.cursor = Math.max(FIRST_OFFSET, record.cursor);
    this.freed.clear();
    for (const [offset, at] of record.freed) this.freed.set(offset, at);
  }

  #broadcastOctet(i: number): number {
    const bits = Math.min(8, Math.max(0, this.prefix.length - i * 8));
    return this.prefix.address[i] | (0xff >> bits);
  }
}

/** A clock that was set back must not keep addresses resting for ever. */
function isRested(at: number, now: number, quarantine: number): boolean {
  return now - at >= quarantine || at > now + quarantine;
}
