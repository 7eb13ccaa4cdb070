/**
 * Events that contradict what the FIB knows of a route of ours: somebody removed or changed it, or the event is older than what we wrote since.
 * So an event is believed only after a while in which nothing else came, the longer the oftener the same route was repaired.
 */
import type { Route } from "../../kernel/types.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import { type Entries, NONE } from "./entries.ts";
import type { FamilyState, Suspect } from "./family-state.ts";

/** Milliseconds. */
const DELAY = 100;
const DELAY_MAX = 30_000;
/** Repairs of one prefix that are no further apart than this are counted together. */
const REPAIR_MEMORY = 60_000;
const MAX_REMEMBERED = 10_000;

export interface SuspicionsOptions {
  clock: Clock;
  entries: Entries;
  states: readonly FamilyState[];
  /** What the event said is now in the state. */
  onBelieved(state: FamilyState, id: number): void;
}

export class Suspicions {
  readonly #options: SuspicionsOptions;
  readonly #repairs = new Map<string, { count: number; at: number }>();
  #timer: { handle: Timer; due: number } | undefined;

  constructor(options: SuspicionsOptions) {
    this.#options = options;
  }

  /** Takes an event of a route of ours; later events of it may clear it of suspicion again. */
  observe(state: FamilyState, action: "new" | "delete", route: Route): void {
    const id = state.prefixes.internPrefix(state.prefixOf(route));
    const before = state.suspects.get(id);
    const suspect: Suspect = { ...before, due: before?.due ?? this.#due(state, id) };
    if (route.type === "blackhole") suspect.discard = (action === "new") === state.hasDiscard(id) ? undefined : action === "new";
    else suspect.unicast = this.#observeUnicast(state, id, action, route, before?.unicast);
    if (suspect.unicast === undefined && suspect.discard === undefined) {
      state.suspects.delete(id);
      state.forget(id);
    } else {
      state.suspects.set(id, suspect);
      this.#wake(suspect.due);
    }
  }

  /** Counts a repair, which makes the next one of the same route slower. */
  repaired(state: FamilyState, id: number): void {
    if (this.#repairs.size >= MAX_REMEMBERED) this.#repairs.clear();
    this.#repairs.set(keyOf(state, id), { count: this.#count(state, id) + 1, at: this.#options.clock.monotonic() });
  }

  close(): void {
    this.#timer?.handle.cancel();
  }

  /** The entry that the kernel seems to hold now, if it is not the one we know of. */
  #observeUnicast(state: FamilyState, id: number, action: "new" | "delete", route: Route, before: number | undefined): number | undefined {
    const { entries } = this.#options;
    if (before !== undefined) entries.release(before);
    if (action === "delete") return state.have(id) === NONE ? undefined : NONE;
    const observed = entries.intern({ type: "unicast", nextHops: route.nextHops });
    if (!entries.equivalent(observed, state.have(id))) return observed;
    entries.release(observed);
    return undefined;
  }

  #count(state: FamilyState, id: number): number {
    const repairs = this.#repairs.get(keyOf(state, id));
    return repairs && this.#options.clock.monotonic() - repairs.at < REPAIR_MEMORY ? repairs.count : 0;
  }

  #due(state: FamilyState, id: number): number {
    return this.#options.clock.monotonic() + Math.min(DELAY * 2 ** this.#count(state, id), DELAY_MAX);
  }

  #wake(due: number): void {
    if (this.#timer && this.#timer.due <= due) return;
    this.#timer?.handle.cancel();
    const delay = Math.max(0, due - this.#options.clock.monotonic());
    this.#timer = { due, handle: this.#options.clock.after(delay, () => this.#believe()) };
  }

  #believe(): void {
    this.#timer = undefined;
    const now = this.#options.clock.monotonic();
    let next = Number.POSITIVE_INFINITY;
    for (const state of this.#options.states) {
      for (const [id, suspect] of state.suspects) {
        if (suspect.due > now) {
          next = Math.min(next, suspect.due);
          continue;
        }
        state.suspects.delete(id);
        if (suspect.unicast !== undefined) state.setHave(id, suspect.unicast);
        if (suspect.discard !== undefined) state.setDiscard(id, suspect.discard);
        this.#options.onBelieved(state, id);
      }
    }
    if (next < Number.POSITIVE_INFINITY) this.#wake(next);
  }
}

function keyOf(state: FamilyState, id: number): string {
  return `${state.family} ${id}`;
}
