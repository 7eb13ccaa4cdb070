import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { Ledger } from "./ledger.ts";

/** Lets the child work for so many lines, kills it, and returns all whole lines that it said. */
function runAndKill(directory: string, seed: number, lines: number): Promise<string[]> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, "crash-child.ts"), directory, String(seed)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  let errors = "";
  child.stderr.on("data", chunk => {
    errors += chunk;
  });
  child.stdout.on("data", chunk => {
    text += chunk;
    if (text.split("\n").length > lines) child.kill("SIGKILL");
  });
  return new Promise((resolve, reject) => {
    child.on("close", (_, signal) => {
      if (signal !== "SIGKILL") reject(new Error(`the child ended by itself: ${errors}`));
      else resolve(text.slice(0, text.lastIndexOf("\n")).split("\n"));
    });
  });
}

test("killed at any point, no address is with two pods, none promised is lost, and all can be released", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "podlane-crash-"));
  try {
    const promised = new Map<string, string>();
    let promises = 0;
    for (let round = 0; round < 16; round++) {
      const lines = await runAndKill(directory, round + 1, 1 + ((round * 97) % 400));
      for (const line of lines) {
        const [what, container, addresses] = line.split(" ");
        if (what === "A") {
          promised.set(container, addresses);
          promises++;
        } else if (what === "R") promised.delete(container);
      }
      const ledger = new Ledger(directory, { now: () => Date.now() });
      expect(ledger.damage).toEqual([]);
      const found = new Map(ledger.reservations().map(({ containerId, addresses }) => [containerId, addresses.join(",")]));
      for (const [container, addresses] of promised) expect(found.get(container)).toBe(addresses);
      const all = [...found.values()].flatMap(text => text.split(","));
      expect(new Set(all).size).toBe(all.length);
      // What was taken and not promised before the kill is still known by its key, so that DEL or GC finds it.
      for (const [container, addresses] of found) promised.set(container, addresses);
      ledger.close();
    }
    expect(promises).toBeGreaterThan(300);
    const ledger = new Ledger(directory, { now: () => Date.now() });
    for (const reservation of ledger.reservations()) ledger.release(reservation);
    for (const pool of ledger.pools()) expect(ledger.usedIn(pool)).toBe(0);
    ledger.close();
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);
