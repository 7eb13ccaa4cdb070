import { expect, test } from "vitest";
import { Turns } from "./turns.ts";

test("a turn that lasts is known, and stays known when the next period begins", async () => {
  const turns = new Turns(0);
  try {
    turns.next(1000);
    // Again and again, as the clock of the histogram has to have begun.
    const block = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    await expect.poll(() => block() && turns.view(2000).now, { timeout: 10_000 }).toBeGreaterThan(200);
    const { longest, at } = turns.view(3000);
    expect(at).toBe(new Date(2000).toISOString());
    expect(turns.next(4000)).toBe(longest);
    expect(turns.view(5000)).toMatchObject({ longest });
    expect(turns.view(5000).now).toBeLessThan(longest);
    // Who asks now still hears of the period that just ended, and not of the one before it.
    expect(turns.lateness().all).toBe(longest);
    expect(turns.lateness().most).toBeGreaterThanOrEqual(turns.lateness().half);
    turns.next(6000);
    expect(turns.lateness().all).toBeLessThan(longest);
  } finally {
    turns.close();
  }
});
