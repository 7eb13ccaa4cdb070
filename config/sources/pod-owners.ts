/**
 * Which of two watches a pod was last seen by: that of this node's pods, or that of all others. A pod that is created anew under its name may be on another
 * node, and the two watches say what became of the old and of the new one in any order.
 */
export class PodOwners {
  /** Resource version of what was seen, doubled, and one more where it is this node's: one number for each of many thousand pods. */
  readonly #seen = new Map<string, number>();

  /** False: the other watch has said something newer. */
  claim(key: string, resourceVersion: string | undefined, own: boolean): boolean {
    const version = /^\d{1,15}$/.test(resourceVersion ?? "") ? Number(resourceVersion) : 0;
    const before = this.#seen.get(key);
    if (before !== undefined && isOwn(before) !== own && Math.floor(before / 2) > version) return false;
    this.#seen.set(key, version * 2 + Number(own));
    return true;
  }

  /** False: it is the other watch's by now, or nobody's. */
  release(key: string, own: boolean): boolean {
    const before = this.#seen.get(key);
    if (before === undefined || isOwn(before) !== own) return false;
    return this.#seen.delete(key);
  }

  /** The other nodes' pods, which are followed no more. */
  clearOthers(): string[] {
    const others = [...this.#seen].filter(([, seen]) => !isOwn(seen)).map(([key]) => key);
    for (const key of others) this.#seen.delete(key);
    return others;
  }

  clear(): void {
    this.#seen.clear();
  }
}

function isOwn(seen: number): boolean {
  return seen % 2 === 1;
}
