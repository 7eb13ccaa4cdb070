/** bench/overlay.ts as its user runs it. Never how fast it was. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";

const run = (...args: string[]) =>
  spawnSync(process.execPath, [join(import.meta.dirname, "../../bench/overlay.ts"), ...args], { encoding: "utf8", timeout: 60_000 });

it("sends traffic by each way in each family, and refuses what it does not know", context => {
  context.skip(process.getuid?.() !== 0, "network namespaces need root");
  const { stdout, stderr, status } = run("--rounds", "1", "--milliseconds", "50", "--offload", "off", "--json");
  expect([stderr, status]).toEqual(["", 0]);
  const { figures } = JSON.parse(stdout) as { figures: { way: string; family: number; throughput: number }[] };
  const expected = ["plain routes", "podlane", "ip and bridge"].flatMap(way => [`${way} 4`, `${way} 6`]);
  expect(figures.map(({ way, family }) => `${way} ${family}`)).toEqual(expected);
  expect(figures.every(({ throughput }) => throughput > 0)).toBe(true);
  expect(run("--offload", "maybe")).toMatchObject({ status: 2, stderr: expect.stringContaining("on or off is wanted") });
}, 60_000);
