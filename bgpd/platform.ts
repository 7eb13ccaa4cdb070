/**
 * What the speaker needs from the world, behind interfaces that tests replace: time, log, kernel, TCP.
 */
import type { KernelEvent, Rtnetlink } from "../kernel/types.ts";
import type { Faults } from "./faults.ts";
import type { RoutePlace } from "./fib/route-places.ts";

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the epoch: for people. */
  now(): number;
  /** Milliseconds that never jump: for measuring. */
  monotonic(): number;
  after(milliseconds: number, run: () => void): Timer;
}

/** The part of pino that podlane uses. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

export interface KernelAccess {
  netlink: Rtnetlink;
  /** Link, address, route and neighbour events of this namespace; returns how to stop. */
  watch(listener: (events: KernelEvent[]) => void): () => void;
}

export interface RoutePlaces {
  read(): RoutePlace[];
  /** Called before the first route is written to a place, and when all of a place are gone. Must not throw. */
  write(places: readonly RoutePlace[]): void;
}

export interface Platform {
  clock: Clock;
  log: Logger;
  /** Absent: no kernel at all (a pure route server in a test). */
  kernel?: KernelAccess;
  /** Remembers over restarts where routes of ours may be in the kernel; absent: nothing is remembered. */
  places?: RoutePlaces;
  /** Where exceptions of ours are counted; absent: the speaker keeps its own. */
  faults?: Faults;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(milliseconds, run) {
    const handle = setTimeout(run, milliseconds);
    return { cancel: () => clearTimeout(handle) };
  },
};
