/**
 * The attachments of this node: the ledger, and the interface of each. Calls for the same attachment follow one another; others do not wait for them,
 * except that kernel work other than removing is synchronous.
 */
import { isNetns, netnsInode } from "../../kernel/index.ts";
import type { Link, Rtnetlink } from "../../kernel/types.ts";
import type { Logger } from "../../platform/log.ts";
import { AllocationError, type Key, keyText, type Reservation } from "../ipam/book.ts";
import type { Ledger, NewReservation } from "../ipam/ledger.ts";
import { KeyedLock } from "./lock.ts";
import { hostInterfaceName, isPodLink, parsePodAlias } from "./names.ts";
import { findPodLink } from "./pod.ts";
import { queueFile, removeQueued } from "./queue.ts";
import { LinkRemover } from "./removal.ts";

export interface AttachmentsParts {
  ledger: Ledger;
  netlink: Rtnetlink;
  /** Of DELs that came while no agent answered. */
  queueDirectory: string;
  log: Omit<Logger, "child">;
  /** The last pod of a range that is not ours any more is gone, or just another one: `forgotten` says whether the range went with it. */
  retiredChanged(forgotten: boolean): void;
  /** The interface is gone, and its addresses are free. */
  released(hostInterface: string): void;
}

export class Attachments {
  readonly #parts: AttachmentsParts;
  readonly #remover: LinkRemover;
  readonly #locks = new KeyedLock();

  constructor(parts: AttachmentsParts) {
    this.#parts = parts;
    this.#remover = new LinkRemover(parts.netlink);
  }

  /** `work`, when what was begun for this attachment before has ended. */
  inTurn<Result>(key: Key, work: () => Promise<Result>): Promise<Result> {
    return this.#locks.run(keyText(key), work);
  }

  /**
   * Where no address is free, attachments that are dead give theirs, and then those that have rested longest need not rest to the end. Rejects with
   * AllocationError, JournalError.
   */
  async reserve(wanted: NewReservation): Promise<Reservation> {
    const { ledger, log } = this.#parts;
    try {
      return ledger.reserve(wanted);
    } catch (error) {
      if (!(error instanceof AllocationError && error.reason === "exhausted")) throw error;
    }
    const released = await this.releaseDead();
    const reservation = ledger.reserve(wanted, 0);
    const { addresses } = reservation;
    log.warn({ addresses, released }, "no address had rested long enough: gave out the one that has rested longest");
    return reservation;
  }

  /** Whatever is there of it goes; what is not there is no error. In turn. */
  async remove(key: Key): Promise<undefined> {
    const { ledger, queueDirectory } = this.#parts;
    const found = ledger.get(key);
    const failures: unknown[] = [];
    const attempt = async (step: () => unknown) => {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    };
    if (found || this.#isOurs(key)) await attempt(() => this.removeInterface(hostInterfaceName(key)));
    // While the interface is there, its addresses are in use.
    if (failures.length === 0) {
      ledger.release(key);
      this.#parts.released(hostInterfaceName(key));
      await attempt(() => this.#forgetRanges());
    }
    removeQueued(queueFile(queueDirectory, key));
    // A release that is lost with the power costs nothing: the sweep repeats it. So DEL does not wait for the disk.
    ledger.flush();
    if (failures.length > 0) throw failures[0];
  }

  /** Its being gone is no error; a foreign link of that name is left alone. */
  async removeInterface(hostInterface: string): Promise<void> {
    const index = findPodLink(this.#parts.netlink, hostInterface);
    if (index !== undefined) await this.#remover.remove(index);
  }

  removeLink(index: number): Promise<void> {
    return this.#remover.remove(index);
  }

  /** Returns how many. */
  async releaseDead(): Promise<number> {
    const dead = this.#parts.ledger.reservations().filter(reservation => !this.isLive(reservation));
    const released = await Promise.all(dead.map(reservation => this.releaseIfDead(reservation)));
    return released.filter(Boolean).length;
  }

  releaseIfDead(reservation: Key): Promise<boolean> {
    return this.inTurn(reservation, async () => {
      const now = this.#parts.ledger.get(reservation);
      if (!now || this.isLive(now)) return false;
      await this.remove(now);
      this.#parts.log.info(
        { container: now.containerId, ifname: now.ifname, addresses: now.addresses },
        "released an attachment whose namespace is gone",
      );
      return true;
    });
  }

  /** The node's end of a pair lives exactly as long as the pod's; where it was removed by hand, the namespace itself decides. */
  isLive({ hostInterface, netns, netnsInode: inode, bootId }: Reservation): boolean {
    const { ledger, netlink } = this.#parts;
    const link: Link | undefined = netlink.link(hostInterface);
    if (link && isPodLink(link)) return true;
    // Namespaces do not survive a reboot; a number that matches would be chance.
    if (bootId !== ledger.bootId || !isNetns(netns)) return false;
    return String(netnsInode(netns)) === inode;
  }

  /** DEL names a network too: an interface that another of our networks made stays. */
  #isOurs(key: Key): boolean {
    const link = this.#parts.netlink.link(hostInterfaceName(key));
    return link !== undefined && isPodLink(link) && (parsePodAlias(link.alias)?.network ?? key.network) === key.network;
  }

  #forgetRanges(): void {
    const { ledger, retiredChanged } = this.#parts;
    const before = ledger.pools();
    if (!before.some(pool => pool.retired)) return;
    ledger.forgetEmptyRanges();
    retiredChanged(ledger.pools().length < before.length);
  }
}
