/**
 * One agent per state directory: two that share an address ledger would give one address to two pods. The lock is flock(2), which the
 * kernel releases however the process ends.
 */
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { tryLock } from "../kernel/index.ts";

export class LockError extends Error {
  override readonly name = "LockError";
}

/** Creates the directory (0700) where it is missing. Returns how to release. Throws LockError while another process holds it. */
export function lockStateDirectory(directory: string): () => void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, "agent.lock");
  const fd = openSync(path, "a+", 0o600);
  if (!tryLock(fd)) {
    const holder = readFileSync(path, "utf8").trim();
    closeSync(fd);
    const who = /^\d{1,10}$/.test(holder) ? `the agent with process id ${holder}` : "another process";
    throw new LockError(`${who} uses the state directory ${directory}: stop it, or choose another one with --state`);
  }
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
  let held = true;
  return () => {
    if (held) closeSync(fd);
    held = false;
  };
}
