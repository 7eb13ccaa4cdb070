/** Fake time for code that waits for answers in between. */
import { setImmediate as turn } from "node:timers/promises";

/** A clock that goes when told. */
interface SteppedClock {
  /** Milliseconds until something is due; undefined: nothing is. */
  readonly next: number | undefined;
  advance(milliseconds: number): void;
}

/** Goes on by steps, and lets what was answered be read after each. */
export async function pass(clock: SteppedClock, milliseconds: number): Promise<void> {
  await turn();
  for (let left = milliseconds; left > 0; ) {
    const step = Math.min(left, Math.max(1, clock.next ?? left));
    clock.advance(step);
    left -= step;
    await turn();
  }
}
