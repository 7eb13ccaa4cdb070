/** Sets of keys, by a key. Most have one alone, which stands by itself: of ten thousand Services a set for each would take 2 MB. */
export class KeySets {
  readonly #sets = new Map<string, string | Set<string>>();

  /** Those that have any. */
  keys(): Iterable<string> {
    return this.#sets.keys();
  }

  has(key: string): boolean {
    return this.#sets.has(key);
  }

  of(key: string): readonly string[] {
    const found = this.#sets.get(key);
    if (found === undefined) return none;
    return typeof found === "string" ? [found] : [...found];
  }

  add(key: string, value: string): void {
    const found = this.#sets.get(key);
    if (found === undefined) this.#sets.set(key, value);
    else if (typeof found !== "string") found.add(value);
    else if (found !== value) this.#sets.set(key, new Set([found, value]));
  }

  /** False: it was not there. */
  delete(key: string, value: string): boolean {
    const found = this.#sets.get(key);
    if (found === value) return this.#sets.delete(key);
    if (typeof found !== "object" || !found.delete(value)) return false;
    if (found.size === 0) this.#sets.delete(key);
    return true;
  }
}

const none: readonly string[] = [];
