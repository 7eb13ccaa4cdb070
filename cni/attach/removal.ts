/**
 * Pod interfaces go away without the event loop waiting for the kernel: that takes about 20 ms for each request, however many
 * links it names. So what comes while the kernel is busy goes together into the next request, as fdatasync(2) does for the
 * journal. DEL goes on once the interface is gone, about 1 ms after its request, and not only when the kernel has freed it.
 */
import type { LinkDeletion, Rtnetlink } from "../../kernel/types.ts";

/** Requests at a time. Each holds one of the four threads that libuv has for files too; with two, a call rarely waits 20 ms. */
const MAXIMUM_RUNNING = 2;

export class LinkRemover {
  readonly #netlink: Rtnetlink;
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();
  #running = 0;

  constructor(netlink: Rtnetlink) {
    this.#netlink = netlink;
  }

  /** Resolves when the link, and its peer, is in no namespace any more; one that is gone already is no error. Rejects with NetlinkError. */
  remove(index: number): Promise<void> {
    const waiting = this.#waiting.get(index) ?? Promise.withResolvers<void>();
    this.#waiting.set(index, waiting);
    this.#next();
    return waiting.promise;
  }

  #next(): void {
    if (this.#running >= MAXIMUM_RUNNING || this.#waiting.size === 0) return;
    const batch = [...this.#waiting.values()];
    const indexes = [...this.#waiting.keys()];
    this.#waiting.clear();
    let deletion: LinkDeletion;
    try {
      deletion = this.#netlink.deleteLinks(indexes);
    } catch (error) {
      for (const { reject } of batch) reject(error);
      return;
    }
    this.#running++;
    deletion.gone.then(
      () => batch.forEach(({ resolve }) => void resolve()),
      error => batch.forEach(({ reject }) => void reject(error)),
    );
    void deletion.finished.then(() => {
      this.#running--;
      this.#next();
    });
  }
}
