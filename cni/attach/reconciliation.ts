/**
 * Makes the ledger, the kernel and the queue of DELs agree. The order of ADD is: address in the journal, interface, journal on the disk, answer; of DEL:
 * interface, address. So whatever instant a crash picks, an address is never with two pods, and what is left over is found here.
 */
import type { Rtnetlink } from "../../kernel/types.ts";
import type { Logger } from "../../platform/log.ts";
import { keyText } from "../ipam/book.ts";
import type { Ledger } from "../ipam/ledger.ts";
import { CniError, ErrorCode } from "../protocol/error.ts";
import { keyOf, parseRequest } from "../protocol/request.ts";
import type { AttachProblem } from "../types.ts";
import { type Adoption, adopt, releaseOutdated } from "./adoption.ts";
import type { Attachments } from "./attachments.ts";
import { readQueue, removeQueued } from "./queue.ts";

export interface ReconciliationParts {
  ledger: Ledger;
  netlink: Rtnetlink;
  attachments: Attachments;
  queueDirectory: string;
  log: Omit<Logger, "child">;
  /** Attachments were taken over from their interfaces. */
  adopted?: () => void;
}

export class Reconciliation {
  readonly #parts: ReconciliationParts;
  /** Interfaces of unknown pods. */
  #unexplained: string[] = [];

  constructor(parts: ReconciliationParts) {
    this.#parts = parts;
  }

  /** Makes the ledger fit the kernel before ranges and gateways follow from it. Only while no call is under way. */
  recover(): void {
    const { ledger, netlink, attachments, log } = this.#parts;
    const gone = ledger.reservations().filter(reservation => !attachments.isLive(reservation));
    for (const reservation of gone) ledger.release(reservation);
    if (gone.length > 0) log.info({ attachments: gone.map(keyText) }, "released attachments whose namespace is gone");
    for (const reservation of releaseOutdated(ledger, netlink.links()))
      log.warn({ ...reservation }, "the ledger is older than this attachment's interface, which says otherwise");
    this.#adopt();
  }

  /** Returns how many attachments and interfaces were removed. */
  async sweep(): Promise<number> {
    const { attachments, log } = this.#parts;
    await this.#replayQueue();
    const removed = await attachments.releaseDead();
    const contradictions = this.#adopt();
    await Promise.all(
      contradictions.map(async ({ link, reason }) => {
        await attachments.removeLink(link.index);
        log.error({ link: link.name, alias: link.alias }, `removed an interface that belongs to no attachment: ${reason}`);
      }),
    );
    return removed + contradictions.length;
  }

  problems(): AttachProblem[] {
    return this.#unexplained.map(name => ({
      severity: "warning",
      reason: "AddressUnknown",
      field: name,
      message: `the address ledger does not know the pod of the interface ${name}, and its alias is too long to say: its addresses may be given out again`,
      remedy: "recreate that pod",
    }));
  }

  async #replayQueue(): Promise<void> {
    const { attachments, queueDirectory, log } = this.#parts;
    for (const { file, request } of readQueue(queueDirectory)) {
      try {
        if (!request) throw new CniError(ErrorCode.decode, "it is not what the plugin writes");
        const parsed = parseRequest(request);
        if (parsed.command === "DEL") await attachments.inTurn(keyOf(parsed), () => attachments.remove(keyOf(parsed)));
        log.info({ file }, "carried out a DEL that was queued while the agent was away");
      } catch (error) {
        log.warn({ file, err: error }, "a queued DEL could not be carried out; its namespace going away will release it");
      }
      removeQueued(file);
    }
  }

  #adopt(): Adoption["contradictions"] {
    const { ledger, netlink, log } = this.#parts;
    const { adopted, contradictions, unexplained } = adopt(ledger, netlink.links());
    for (const found of adopted) log.warn(found, "the ledger did not know this attachment; took it over from its interface");
    this.#unexplained = unexplained.map(link => link.name);
    if (adopted.length > 0) this.#parts.adopted?.();
    return contradictions;
  }
}
