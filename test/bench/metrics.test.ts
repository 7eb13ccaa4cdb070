/** bench/metrics.ts as its user runs it. Never how long it took. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";

const run = (...args: string[]) =>
  spawnSync(process.execPath, [join(import.meta.dirname, "../../bench/metrics.ts"), ...args], { encoding: "utf8", timeout: 60_000 });

it("scrapes a node with so many neighbours, and refuses none", () => {
  const { stdout, stderr, status } = run("--neighbors", "3", "--rounds", "1", "--json");
  expect([stderr, status]).toEqual(["", 0]);
  const { figure } = JSON.parse(stdout);
  expect(figure.series).toBeGreaterThan(3 * 10);
  expect(run("--neighbors", "0")).toMatchObject({ status: 2, stderr: expect.stringContaining("a whole number 1..5000 is wanted") });
});
