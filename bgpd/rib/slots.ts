/**
 * Where paths come from. Every time a session becomes Established it gets a new slot, a small integer that its paths carry; the slot of the
 * former session can then be emptied in slices, or kept as stale (RFC 4724), while the new one fills. Slot 0 is this speaker itself.
 */
import { compareOctets } from "../../net/address.ts";
import type { OriginRole } from "../config.ts";
import { type Family, type PerFamily, perFamily } from "../family.ts";
import type { CompiledPolicy } from "../policy/types.ts";
import { grown } from "../table/growth.ts";
import type { RejectedReason } from "./rejected.ts";

export const LOCAL_SLOT = 0;

/** How routes of a neighbour are judged on arrival. */
export interface ImportRules {
  policy: CompiledPolicy;
  /** How often our own AS may appear in AS_PATH. */
  allowAsIn: number;
  /** AS_SETs and AS_CONFED_SETs are let in (RFC 9774). */
  allowAsSets: boolean;
  /** With which AS number every path must begin: the external neighbour's own (RFC 4271 section 6.3). 0 = whichever. */
  firstAs: number;
  /** Accepted prefixes before the session is closed with Cease/1; 0 = no limit. */
  prefixLimit: number;
  /** Stored prefixes, rejected ones included, likewise; what comes beyond is not stored. 0 = no limit. */
  receivedLimit: number;
}

/** What a neighbour has brought too much of. */
export type Excess = { limit: "accepted" | "received"; family: Family } | { limit: "octets" };

export interface Slot {
  readonly id: number;
  readonly neighbor: string;
  /** Stable index of the neighbour over all its sessions. */
  readonly neighborIndex: number;
  readonly external: boolean;
  /** As what its routes are judged by Origins; undefined = not. */
  origin: OriginRole | undefined;
  /** A client of ours (RFC 4456). */
  client: boolean;
  /** BGP Identifier, unsigned 32 bit. */
  readonly routerId: number;
  readonly address: Uint8Array;
  /** The interface that the session is bound to, 0 = none: next hops with a link-local half are on it. */
  readonly ifindex: number;
  /** The link that we share with the neighbour, bound to it or not, 0 = none: next hops that are link-local alone are on it. */
  readonly link: number;
  /** Our AS and address towards it, for policies. */
  readonly self: { asn: number; address: Uint8Array };
  /** Rank of the address among all neighbours, in numeric order. */
  addressRank: number;
  imports: Partial<Record<Family, ImportRules>>;
  /** Octets of attribute sets that the session may bring before it is closed with Cease/8; 0 = no limit. */
  attributeOctetsLimit: number;
  /** Of its session, unique for ever: whom attribute sets are charged to. */
  serial: number;
  /** Routes that were not stored, because a limit was reached. */
  refused: number;
  /** "live": a session feeds it; "stale": its session is gone but its routes are kept (graceful restart); "dead": being emptied. */
  state: "live" | "stale" | "dead";
  /** Stale slot of the neighbour's former session; its paths are taken over one by one. -1 = none. */
  staleSlot: number;
  /** How many paths. */
  paths: PerFamily<number>;
  accepted: PerFamily<number>;
  /** How many of them have a next hop that cannot be reached. */
  unreachable: PerFamily<number>;
  /** How many of its paths are rejected for each reason. */
  rejected: PerFamily<RejectedCounts>;
}

export type RejectedCounts = Partial<Record<RejectedReason, number>>;

export class Slots {
  readonly #slots: (Slot | undefined)[] = [];
  /** By slot id: 1 = its paths take part in the decision. */
  alive = new Uint8Array(256).fill(1, LOCAL_SLOT, LOCAL_SLOT + 1);
  /** By slot id: ids are reused, serials are not. */
  serial = new Uint32Array(256);
  #serials = 0;

  add(
    fields: Omit<
      Slot,
      "id" | "state" | "staleSlot" | "paths" | "accepted" | "unreachable" | "rejected" | "addressRank" | "serial" | "refused"
    >,
  ): Slot {
    let id = this.#slots.findIndex((slot, at) => slot === undefined && at > 0);
    if (id < 0) id = Math.max(1, this.#slots.length);
    if (id > 0xfffe) throw new Error("more than 65,534 sessions at once");
    if (id >= this.alive.length) {
      this.alive = grown(this.alive, this.alive.length * 2);
      this.serial = grown(this.serial, this.serial.length * 2);
    }
    const serial = ++this.#serials;
    const counts: Pick<Slot, "paths" | "accepted" | "unreachable" | "rejected" | "refused"> = {
      paths: perFamily(() => 0),
      accepted: perFamily(() => 0),
      unreachable: perFamily(() => 0),
      rejected: perFamily(() => ({})),
      refused: 0,
    };
    const slot: Slot = { ...fields, ...counts, id, serial, state: "live", staleSlot: -1, addressRank: 0 };
    this.#slots[id] = slot;
    this.alive[id] = 1;
    this.serial[id] = serial;
    this.#rank();
    return slot;
  }

  get(id: number): Slot | undefined {
    return this.#slots[id];
  }

  /** Whether the slot was not removed yet: its id may be another slot's by now. */
  has(slot: Slot): boolean {
    return this.#slots[slot.id] === slot;
  }

  /** Dead slots take no part in the decision from now on; the caller empties them and then calls remove(). */
  kill(slot: Slot): void {
    slot.state = "dead";
    this.alive[slot.id] = 0;
  }

  remove(slot: Slot): void {
    this.alive[slot.id] = 0;
    this.#slots[slot.id] = undefined;
  }

  *[Symbol.iterator](): Iterator<Slot> {
    for (const slot of this.#slots) if (slot) yield slot;
  }

  /** The last step of the decision compares addresses; ranks make that one number. */
  #rank(): void {
    const sorted = [...this].sort((a, b) => compareOctets(a.address, b.address));
    sorted.forEach((slot, rank) => {
      slot.addressRank = rank;
    });
  }
}
