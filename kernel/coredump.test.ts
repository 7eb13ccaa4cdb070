import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

test("a process that forbids core dumps has none, and reads its own /proc", context => {
  if (process.platform !== "linux") context.skip("prctl is Linux's");
  const file = JSON.stringify(join(import.meta.dirname, "coredump.ts"));
  const script = `
    import { readFileSync } from "node:fs";
    import { forbidCoreDumps } from ${file};
    console.log(forbidCoreDumps(), readFileSync("/proc/self/mountinfo", "utf8").length > 0);`;
  expect(execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" })).toBe("true true\n");
});
