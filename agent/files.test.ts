/** What the agent keeps on disk: the lock and the last good plan. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nothingGood } from "../config/compile/memory.ts";
import type { NodePlan } from "../config/plan.ts";
import { lockStateDirectory } from "./lock.ts";
import { loadPlan, planPath, savePlan } from "./saved-plan.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "podlane-files-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const plan: NodePlan = {
  node: "node1",
  speaker: undefined,
  pods: { podCidrs: ["10.244.1.0/24"], mode: "bridge", bridgeName: "podlane0", mtu: "auto", hairpin: true },
  problems: [{ severity: "warning", object: "Peer/a", field: "", message: "m", remedy: "r" }],
};

describe("the lock", () => {
  test("names the process that holds it, and is free after release", () => {
    const state = join(folder, "state");
    const release = lockStateDirectory(state);
    expect(statSync(state).mode & 0o777).toBe(0o700);
    expect(() => lockStateDirectory(state)).toThrow(`the agent with process id ${process.pid} uses the state directory ${state}`);
    release();
    lockStateDirectory(state)();
  });

  test("does not outlive a killed process", async () => {
    const source = `(await import(${JSON.stringify(join(import.meta.dirname, "lock.ts"))})).lockStateDirectory(${JSON.stringify(folder)}); console.log("locked"); setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ["--input-type=module", "-e", source], { stdio: ["ignore", "pipe", "inherit"] });
    await once(holder.stdout, "data");
    expect(() => lockStateDirectory(folder)).toThrow(`process id ${holder.pid}`);
    holder.kill("SIGKILL");
    await once(holder, "exit");
    lockStateDirectory(folder)();
  });
});

describe("the saved plan", () => {
  test("comes back without its problems, readable by its owner only, also over a leftover", () => {
    const path = planPath(folder);
    expect(loadPlan(path, "node1")).toBeUndefined();
    writeFileSync(`${path}.new`, "half", { mode: 0o644 });
    savePlan(path, plan, nothingGood(), new Date("2026-01-02T03:04:05Z"));
    expect(loadPlan(path, "node1")).toEqual({
      savedAt: "2026-01-02T03:04:05.000Z",
      plan: { ...plan, problems: [] },
      lastGood: nothingGood(),
    });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["plan.json"]);
  });

  test("is refused in words when it is another node's, cut off or foreign", () => {
    const path = planPath(folder);
    savePlan(path, plan, nothingGood(), new Date());
    expect(() => loadPlan(path, "node2")).toThrow('is the plan of node "node1", not of "node2"');
    writeFileSync(path, readFileSync(path, "utf8").slice(0, 40));
    expect(() => loadPlan(path, "node1")).toThrow(`${path} cannot be read`);
    for (const text of ["null", "[]", '{"format":99}', '{"format":1,"savedAt":"x","plan":null}']) {
      writeFileSync(path, text);
      expect(() => loadPlan(path, "node1"), text).toThrow("was not written by this version");
    }
  });
});
