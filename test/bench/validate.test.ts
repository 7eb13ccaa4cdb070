/** bench/validate.ts as its user runs it. Never how long it took. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";

const run = (...args: string[]) =>
  spawnSync(process.execPath, [join(import.meta.dirname, "../../bench/validate.ts"), ...args], { encoding: "utf8", timeout: 60_000 });

it("measures both shapes of the cluster, and refuses what is none", () => {
  const { stdout, stderr, status } = run("--nodes", "5", "--rounds", "1", "--json");
  expect([stderr, status]).toEqual(["", 0]);
  expect(JSON.parse(stdout)).toMatchObject({ nodes: 5, figures: [{ shape: "full mesh" }, { shape: "two reflectors" }] });
  expect(run("--nodes", "2")).toMatchObject({ status: 2, stderr: expect.stringContaining("a whole number 3..60000 is wanted") });
});
