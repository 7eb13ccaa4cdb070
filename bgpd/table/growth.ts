/**
 * Parallel arrays that grow without a standstill: doubling all of them at once would hold the event loop up for tens of milliseconds at a
 * million entries. From three quarters of the room on they are doubled one after the other, spread over the entries that are still free.
 */
export class Growth {
  /** What an array made now must have room for. */
  capacity: number;
  /** What all arrays have room for. */
  #room: number;
  /** The entry at which something is to be done next. */
  #next: number;
  #steps: (() => void)[] = [];
  readonly #collect: (capacity: number) => (() => void)[];

  /** `collect` returns one step for each array there is, to be run later, or never if the array was given up meanwhile. */
  constructor(capacity: number, collect: (capacity: number) => (() => void)[]) {
    this.capacity = capacity;
    this.#room = capacity;
    this.#next = capacity - capacity / 4;
    this.#collect = collect;
  }

  /** To be called before entry `id`, one above all others, is used. */
  reserve(id: number): void {
    if (id >= this.#next) this.#grow(id);
  }

  #grow(id: number): void {
    if (this.#steps.length === 0) {
      this.capacity *= 2;
      this.#steps = this.#collect(this.capacity);
    }
    const free = this.#room - id;
    const now = Math.ceil(this.#steps.length / Math.max(1, free));
    for (const step of this.#steps.splice(0, now)) step();
    if (this.#steps.length > 0) this.#next = id + Math.floor(free / (this.#steps.length + 1));
    else {
      this.#room = this.capacity;
      this.#next = this.#room - this.#room / 4;
    }
  }
}

/** A larger copy of a typed array. */
export function grown<T extends Uint8Array | Uint16Array | Uint32Array | Float64Array>(array: T, length: number): T {
  const larger = new (array.constructor as new (length: number) => T)(length);
  larger.set(array);
  return larger;
}
