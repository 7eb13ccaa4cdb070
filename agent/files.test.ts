/** What the agent keeps on disk: the lock and the last good plan. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { NetworkConfig } from "../bgpd/config.ts";
import { mayBeTold } from "../bgpd/rib/local-routes.ts";
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
  problems: [{ severity: "warning", reason: "NoEffect", object: "Peer/a", field: "", message: "m", remedy: "r" }],
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
    savePlan(path, { plan, lastGood: nothingGood() }, new Date("2026-01-02T03:04:05Z"));
    expect(loadPlan(path, "node1")).toEqual({
      savedAt: "2026-01-02T03:04:05.000Z",
      plan: { ...plan, problems: [] },
      lastGood: nothingGood(),
    });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["plan.json"]);
  });

  test("of a former version tells what can be seen in it: ranges, AS numbers, neighbours, passwords", () => {
    const families = {};
    const neighbors = [
      { name: "tor", source: "Peer/tor", address: "192.0.2.1", password: "s3cret", families },
      { name: "node2/ipv6", source: "Node/node2", address: "2001:DB8::2", password: "m3sh", families },
    ];
    const nodes = [{ name: "node2", asn: 65002, ranges: ["10.244.2.0/24"] }];
    const networks = [
      { prefix: "10.244.1.0/24", kind: "pod" },
      { prefix: "203.0.113.0/24", kind: "static", neighbors: ["tor"] },
    ];
    const speaker = { neighbors, networks, origins: { nodes, lists: {} } };
    const former = { ...plan, pods: { ...plan.pods, podCidrs: ["10.244.1.0/24"] }, speaker };
    writeFileSync(planPath(folder), JSON.stringify({ format: 1, savedAt: "2026-01-02T03:04:05Z", plan: former }));
    const loaded = loadPlan(planPath(folder), "node1");
    // Who may hear what is not lost.
    const may = (network: NetworkConfig) => loaded?.plan.speaker?.neighbors.map(({ hears }) => mayBeTold(network, hears));
    expect(loaded?.plan.speaker?.networks.map(may)).toEqual([
      [true, true],
      [true, false],
    ]);
    expect(loaded?.lastGood).toEqual({
      ...nothingGood(),
      ranges: { "10.244.1.0/24": "node1", "10.244.2.0/24": "node2" },
      asns: { node2: 65002 },
      neighbors: { "192.0.2.1": "tor", "2001:db8::2": "node2/ipv6" },
      passwords: { "Peer/tor": "s3cret" },
    });
  });

  test("is refused in words when it is another node's, cut off or foreign", () => {
    const path = planPath(folder);
    savePlan(path, { plan, lastGood: nothingGood() }, new Date());
    expect(() => loadPlan(path, "node2")).toThrow('is the plan of node "node1", not of "node2"');
    writeFileSync(path, readFileSync(path, "utf8").slice(0, 40));
    expect(() => loadPlan(path, "node1")).toThrow(`${path} cannot be read`);
    for (const text of ["null", "[]", '{"format":99}', '{"format":1,"savedAt":"x","plan":null}']) {
      writeFileSync(path, text);
      expect(() => loadPlan(path, "node1"), text).toThrow("was not written by this version");
    }
  });
});
