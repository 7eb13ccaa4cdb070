/**
 * Writes slices of the FIB's wishes. Two rounds: first what is new or changed, then what is to go, so that a prefix is never without a
 * route meanwhile. A first route is added with NLM_F_EXCL: where another owner's route stands, the kernel itself refuses. A known one of ours is
 * replaced, which is atomic, also between plain, multipath and other next hops of IPv6.
 */
import type { NewRoute, RouteChange, RouteKey, Rtnetlink } from "../../kernel/types.ts";
import { BLACKHOLE, type Entries, NONE } from "./entries.ts";
import { DISCARD_METRIC, type FamilyState, Flag } from "./family-state.ts";

/** One prefix that is to be written. */
export interface Task {
  state: FamilyState;
  id: number;
}

export interface TaskFailure extends Task {
  error: Error;
  /** EEXIST: a route that is not ours stands in this place. */
  taken?: string;
}

export interface WriterOptions {
  netlink: Rtnetlink;
  entries: Entries;
  table: number;
  protocol: number;
}

/** Lack of memory or buffers says nothing about the route: what the kernel holds may stay until it is tried again. */
const transient = new Set(["ENOMEM", "ENOBUFS", "EAGAIN", "EINTR", "EBUSY"]);

export class FibWriter {
  readonly #options: WriterOptions;
  /** Operations since the start: routes that the kernel took, those it removed, and what it refused, each time anew. */
  readonly counters = { written: 0, removed: 0, refused: 0 };

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  /** Brings the kernel to what is wanted for these prefixes; returns what failed. */
  write(tasks: readonly Task[]): TaskFailure[] {
    const failures: TaskFailure[] = [];
    const failed = new Map<Task, Error>();
    const fail = (task: Task, error: Error, taken?: string) => {
      failed.set(task, error);
      failures.push({ ...task, error, taken });
    };
    this.#install(tasks, fail);
    this.#remove(tasks, failed, fail);
    this.counters.refused += failures.length;
    return failures;
  }

  #install(tasks: readonly Task[], fail: (task: Task, error: Error, taken?: string) => void): void {
    const changes: RouteChange[] = [];
    const writing: Task[] = [];
    for (const task of tasks) {
      const { state, id } = task;
      const want = state.want(id);
      if (want === NONE) continue;
      if (want !== BLACKHOLE && this.#options.entries.hops(want).length === 0) {
        fail(task, new Error("a route without next hops"));
        continue;
      }
      const present = want === BLACKHOLE ? state.hasDiscard(id) : state.have(id) !== NONE;
      const right = want === BLACKHOLE ? present : this.#options.entries.equivalent(want, state.have(id));
      if (right && !state.hasFormerProtocol(id, want === BLACKHOLE)) continue;
      changes.push({ action: present ? "replace" : "add", route: this.#route(task) });
      writing.push(task);
    }
    const errors = this.#batch(changes);
    for (const [i, task] of writing.entries()) {
      const error = errors.get(i);
      if (!error) this.#holds(task);
      else if (codeOf(error) === "EEXIST") fail(task, error, this.#place(task));
      else fail(task, error);
    }
  }

  /** The routes that another has taken the place of, or that nobody wants; and one whose new next hops the kernel refused: it is not true any more. */
  #remove(tasks: readonly Task[], failed: ReadonlyMap<Task, Error>, fail: (task: Task, error: Error) => void): void {
    const changes: RouteChange[] = [];
    const removing: { task: Task; discard: boolean }[] = [];
    const remove = (task: Task, discard: boolean) => {
      changes.push({ action: "delete", route: this.#key(task, discard) });
      removing.push({ task, discard });
    };
    for (const task of tasks) {
      const { state, id } = task;
      const want = state.want(id);
      if (want === NONE ? (state.flags[id] & Flag.Adopted) !== 0 : failed.has(task) && want === BLACKHOLE) continue;
      const error = failed.get(task);
      const keepsUnicast = want > BLACKHOLE && (error === undefined || transient.has(codeOf(error)));
      if (state.have(id) !== NONE && !keepsUnicast) remove(task, false);
      if (state.hasDiscard(id) && want !== BLACKHOLE && !failed.has(task)) remove(task, true);
    }
    const errors = this.#batch(changes);
    for (const [i, { task, discard }] of removing.entries()) {
      const error = errors.get(i);
      // ESRCH: it is gone already, with its link perhaps.
      if (error && codeOf(error) !== "ESRCH") {
        fail(task, error);
        continue;
      }
      this.counters.removed++;
      if (discard) task.state.setDiscard(task.id, false);
      else task.state.setHave(task.id, NONE);
    }
  }

  #batch(changes: readonly RouteChange[]): Map<number, Error> {
    if (changes.length === 0) return new Map();
    return new Map(this.#options.netlink.batchRoutes(changes).map(({ index, error }) => [index, error]));
  }

  #holds({ state, id }: Task): void {
    const want = state.want(id);
    state.flags[id] |= want === BLACKHOLE ? Flag.SeenDiscard : Flag.Seen;
    state.clearSuspect(id);
    this.counters.written++;
    state.setProtocol(id, want === BLACKHOLE, undefined);
    if (want === BLACKHOLE) state.setDiscard(id, true);
    else state.setHave(id, this.#options.entries.retain(want));
  }

  #place({ state, id }: Task): string {
    const { address: destination, length } = state.prefixes.prefix(id);
    return state.place({ destination, length }, state.want(id) === BLACKHOLE ? DISCARD_METRIC : state.metric);
  }

  #route({ state, id }: Task): NewRoute {
    const discard = state.want(id) === BLACKHOLE;
    const nextHops = discard ? [] : this.#options.entries.hops(state.want(id));
    return { ...this.#key({ state, id }, discard), protocol: this.#options.protocol, nextHops };
  }

  #key({ state, id }: Task, discard: boolean): RouteKey {
    const { family, address: destination, length } = state.prefixes.prefix(id);
    const { table } = this.#options;
    const protocol = state.formerProtocol(id, discard) ?? this.#options.protocol;
    return {
      family,
      destination,
      length,
      table,
      protocol,
      type: discard ? "blackhole" : "unicast",
      metric: discard ? DISCARD_METRIC : state.metric,
    };
  }
}

function codeOf(error: Error): string {
  return "code" in error ? String(error.code) : "";
}
