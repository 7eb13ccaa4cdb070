/** Which policies there are, and in which namespaces: where there is none, nobody has to wait to learn which pods they select. */

export class KnownPolicies {
  /** Namespace by key; "" for those of the whole cluster. */
  readonly #namespaces = new Map<string, string>();
  /** How many by namespace. */
  readonly #counts = new Map<string, number>();

  get size(): number {
    return this.#namespaces.size;
  }

  add(key: string, namespace = ""): void {
    if (this.#namespaces.has(key)) return;
    this.#namespaces.set(key, namespace);
    this.#counts.set(namespace, (this.#counts.get(namespace) ?? 0) + 1);
  }

  delete(key: string): void {
    const namespace = this.#namespaces.get(key);
    if (namespace === undefined) return;
    this.#namespaces.delete(key);
    const left = (this.#counts.get(namespace) ?? 1) - 1;
    if (left > 0) this.#counts.set(namespace, left);
    else this.#counts.delete(namespace);
  }

  /** A policy might select pods of this namespace. */
  concern(namespace: string): boolean {
    return this.#counts.has(namespace) || this.#counts.has("");
  }

  keys(): string[] {
    return [...this.#namespaces.keys()];
  }

  clear(): void {
    this.#namespaces.clear();
    this.#counts.clear();
  }
}
