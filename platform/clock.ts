/** Time, behind an interface that tests replace, and the turns of the event loop that work is cut into. */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the epoch: for people. */
  now(): number;
  /** Milliseconds that never jump: for measuring. */
  monotonic(): number;
  after(milliseconds: number, run: () => void): Timer;
  /** Milliseconds of work before sockets and timers get their turn; absent: 4, so that a keepalive is never late by more than a few of these. */
  readonly slice?: number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(milliseconds, run) {
    const handle = setTimeout(run, milliseconds);
    return { cancel: () => clearTimeout(handle) };
  },
};

const SLICE = 4;

/** Whether the slice that begins now is over. */
export function sliceOf(clock: Pick<Clock, "monotonic" | "slice">): () => boolean {
  const end = clock.monotonic() + (clock.slice ?? SLICE);
  return () => clock.monotonic() >= end;
}
