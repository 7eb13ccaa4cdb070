import { setTimeout as delay } from "node:timers/promises";

/** Waits until `condition` holds; throws after `limit` milliseconds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, limit = 30_000): Promise<void> {
  const deadline = Date.now() + limit;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${limit / 1000} s until ${what}`);
    await delay(100);
  }
}
