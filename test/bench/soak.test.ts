/** bench/soak.ts for a few rounds: that each of them is carried out and that nothing is left behind. */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

const bench = join(import.meta.dirname, "../../bench/soak.ts");
const cannot =
  process.getuid?.() === 0 ? (spawnSync("cc", ["--version"]).error ? "there is no C compiler" : undefined) : "network namespaces need root";

it("carries out its rounds: routes, pods, files, questions, rubbish and a neighbour that is killed", { timeout: 100_000 }, ctx => {
  if (cannot) ctx.skip(cannot);
  const words = ["--rounds", "7", "--prefixes", "500", "--pods", "3", "--pause", "0", "--json"];
  const child = spawnSync(process.execPath, [bench, ...words], { encoding: "utf8", timeout: 90_000 });
  expect([child.stderr, child.status]).toEqual(["", 0]);
  const report = JSON.parse(child.stdout);
  expect(report).toMatchObject({ bench: "soak", rounds: 7, prefixes: 500, pods: 3 });
  for (const part of report.parts) expect(part.least).toBeGreaterThan(10);
  // TestNetwork names namespaces after the process that made them.
  expect(readdirSync("/run/netns").filter(name => name.includes(`-${child.pid}-`))).toEqual([]);
});
