/** Follows whether the node can serve pods (serving.ts): looks when told to and when time alone may change it, and says each change. */
import type { Clock, Timer } from "../platform/clock.ts";
import type { Problem } from "../platform/problem.ts";
import { followRoutes, judge, nextChange, noRoutesYet, type RoutesState, routesProblem, type Seen, type Serving } from "./serving.ts";

export interface ServingParts {
  clock: Clock;
  /** undefined: there is no plan yet. */
  see(): Omit<Seen, "now"> | undefined;
  /** Why no pod can be attached. */
  obstacle(): string | undefined;
  /** Told when `ready` or `limited` has changed. */
  changed(serving: Serving): void;
}

export class ServingWatch {
  readonly #parts: ServingParts;
  #routes: RoutesState | undefined;
  #serving: Serving = { ready: false, reason: "there is no plan for this node yet", limited: false };
  #problem: Problem | undefined;
  #timer: Timer | undefined;
  #closed = false;

  constructor(parts: ServingParts) {
    this.#parts = parts;
  }

  /** As of the last look. */
  get serving(): Serving {
    return this.#serving;
  }

  problems(): Problem[] {
    return this.#problem ? [this.#problem] : [];
  }

  look(): Serving {
    const view = this.#parts.see();
    if (this.#closed || !view) return this.#serving;
    const seen = { ...view, now: this.#parts.clock.monotonic() };
    this.#routes = followRoutes(this.#routes ?? noRoutesYet(seen.now), seen);
    this.#problem = routesProblem(this.#routes, seen);
    this.#timer?.cancel();
    const wait = nextChange(this.#routes, seen);
    this.#timer = wait === undefined ? undefined : this.#parts.clock.after(Math.ceil(wait), () => this.look());
    const before = this.#serving;
    this.#serving = judge(this.#routes, seen, this.#parts.obstacle());
    if (before.ready !== this.#serving.ready || before.limited !== this.#serving.limited) this.#parts.changed(this.#serving);
    return this.#serving;
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}
