/** The next hops that an update group left as they came: a new member must not hear its own address (RFC 4271 section 5.1.3). */

/** Beyond so many it is taken for granted that an address is among them. */
export const MAX_GIVEN_OUT = 1024;

export class GivenOut {
  readonly #addresses = new Set<string>();
  #any = false;

  add(address: Uint8Array): void {
    if (this.#any) return;
    this.#addresses.add(String(address));
    if (this.#addresses.size <= MAX_GIVEN_OUT) return;
    this.#addresses.clear();
    this.#any = true;
  }

  /** Whether it may have been given out: never a wrong no. */
  has(address: Uint8Array): boolean {
    return this.#any || this.#addresses.has(String(address));
  }

  clear(): void {
    this.#addresses.clear();
    this.#any = false;
  }
}
