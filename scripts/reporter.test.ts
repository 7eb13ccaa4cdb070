import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { closingLines } from "./reporter.ts";

const root = join(import.meta.dirname, "..");

/** Runs vitest with our reporter on files of its own in a folder within the project, as its `vitest` is found from there. */
function runTests(files: Record<string, string>) {
  const folder = mkdtempSync(join(root, "node_modules", ".podlane-reporter-"));
  try {
    for (const [name, source] of Object.entries(files)) writeFileSync(join(folder, name), source);
    const vitest = join(root, "node_modules/vitest/vitest.mjs");
    const config = `export default { test: { include: ["*.test.ts"], exclude: [], reporters: ["${join(root, "scripts/reporter.ts")}"] } };`;
    writeFileSync(join(folder, "vitest.config.mjs"), config);
    const env = { PATH: process.env.PATH, NO_COLOR: "1" };
    const run = spawnSync(process.execPath, [vitest, "run", "--root", folder], { cwd: folder, env, encoding: "utf8" });
    return { status: run.status, text: run.stdout + run.stderr, lines: run.stdout.trimEnd().split("\n") };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const head = 'import { describe, expect, test, beforeAll } from "vitest";\n';

describe("the reporter", () => {
  test("ends with passed and failed alone when nothing is skipped", () => {
    const run = runTests({ "a.test.ts": `${head}test("one", () => {});\ntest("two", () => {});` });
    expect(run.lines.at(-1)).toBe("2 passed, 0 failed");
    expect(run.status).toBe(0);
  });

  test("counts failures, lists skips by reason, shows the failure", () => {
    const run = runTests({
      "a.test.ts": `${head}
        test("good", () => {});
        test("bad", () => expect(1).toBe(2));
        describe("kernel", () => {
          test("needs VRF", ctx => ctx.skip("this kernel has no VRF"));
          test("needs VRF too", ctx => ctx.skip("this kernel has no VRF"));
        });
        describe.skip("interop with FRR: frr is not installed", () => { test("session", () => {}); });`,
    });
    expect(run.lines.slice(-7)).toEqual([
      "skipped: no reason given",
      "    a.test.ts > interop with FRR: frr is not installed > session",
      "skipped: this kernel has no VRF",
      "    a.test.ts > kernel > needs VRF",
      "    a.test.ts > kernel > needs VRF too",
      "",
      "1 passed, 1 failed, 3 skipped",
    ]);
    expect(run.text).toContain("expected 1 to be 2");
    expect(run.status).toBe(1);
  });

  test("a file that cannot be loaded, a failing hook and an unhandled rejection are failures", () => {
    const run = runTests({
      "load.test.ts": 'throw new Error("cannot be loaded");',
      "hook.test.ts": `${head}describe("suite", () => { beforeAll(() => { throw new Error("hook"); }); test("never run", () => {}); });`,
      "late.test.ts": `${head}test("fine", async () => { Promise.reject(new Error("nobody waits")); await new Promise(r => setTimeout(r, 20)); });`,
    });
    expect(run.lines.at(-1)).toBe("1 passed, 3 failed, 1 skipped");
    for (const text of ["cannot be loaded", "Error: hook", "nobody waits"]) expect(run.text).toContain(text);
    expect(run.status).toBe(1);
  });

  test("no test at all is a failure", () => {
    const run = runTests({ "a.test.ts": "export {};" });
    expect(run.lines.at(-1)).toBe("0 passed, 1 failed");
    expect(run.status).toBe(1);
  });
});

test("the closing line names skips only when there are some", () => {
  expect(closingLines({ passed: 3, failed: 0, skipped: new Map() })).toEqual(["3 passed, 0 failed"]);
  expect(closingLines({ passed: 3, failed: 1, skipped: new Map([["no FRR", ["x"]]]) }).at(-1)).toBe("3 passed, 1 failed, 1 skipped");
});
