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
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(milliseconds, run) {
    const handle = setTimeout(run, milliseconds);
    return { cancel: () => clearTimeout(handle) };
  },
};

/** Milliseconds of work before sockets and timers get their turn: a keepalive is never late by more than a few of these. */
const SLICE = 4;

/** Whether the slice that begins now is over. */
export function sliceOf(clock: Pick<Clock, "monotonic">, milliseconds = SLICE): () => boolean {
  const end = clock.monotonic() + milliseconds;
  return () => clock.monotonic() >= end;
}
