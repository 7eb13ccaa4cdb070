/**
 * What the speaker needs from the world, behind interfaces that tests replace: time, log, kernel, TCP.
 */
import type { KernelAccess } from "../kernel/index.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Faults } from "./faults.ts";
import type { RoutePlace } from "./fib/route-places.ts";
import type { Tunnels } from "./fib/types.ts";

export type { RoutePlace };

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
  /** Uniform in 0..1, for the jitter of timers; absent: Math.random. */
  random?: () => number;
  /** Remembers over restarts where routes of ours may be in the kernel; absent: nothing is remembered. */
  places?: RoutePlaces;
  /** Ways to next hops that are no routes; absent: there are none. */
  tunnels?: Tunnels;
  /** Where exceptions of ours are counted; absent: the speaker keeps its own. */
  faults?: Faults;
}
