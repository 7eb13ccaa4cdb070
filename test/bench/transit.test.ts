/** bench/transit.ts as its user runs it, with a small table: that every prefix arrives and the report is whole. Never how long it took. */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { missing } from "../neighbours.ts";

const bench = join(import.meta.dirname, "../../bench/transit.ts");
const cannot = missing("bird") ?? (spawnSync("cc", ["--version"]).error ? "there is no C compiler" : undefined);

function run(...args: string[]) {
  return spawnSync(process.execPath, [bench, ...args], { encoding: "utf8", timeout: 100_000 });
}

describe("bench transit", () => {
  it("carries a table to 1 and to 2 receivers and takes it back, by podlane and BIRD in one run", { timeout: 110_000 }, ctx => {
    if (cannot) ctx.skip(cannot);
    const table = ["--prefixes", "20000", "--sets", "3000", "--sinks", "1,2", "--duts", "podlane,bird", "--withdraw"];
    const { stdout, stderr, status } = run(...table, "--rounds", "1", "--json");
    expect(stderr).toBe("");
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ bench: "transit", prefixes: 20_000, sets: 3000, seed: 1, rounds: 1 });
    expect(report.machine).toMatchObject({
      cores: expect.any(Number),
      kernel: expect.any(String),
      load: [0, 1, 2].map(() => expect.any(Number)),
    });
    expect(report.versions).toMatchObject({ podlane: expect.stringContaining("v"), bird: expect.stringMatching(/^\d/) });
    const cases = ["announce", "withdraw"].flatMap(phase =>
      [1, 2].flatMap(sinks => ["podlane", "bird"].map(dut => ({ phase, sinks, dut }))),
    );
    // The receivers compare what they hold with the table that was fed; a prefix too few, too many or another one is a failure.
    expect(report.figures).toEqual(
      cases.map(one => ({
        ...one,
        rounds: 1,
        seconds: expect.any(Number),
        spread: [expect.any(Number), expect.any(Number)],
        cpuSeconds: expect.any(Number),
        peakMB: expect.any(Number),
        updates: expect.any(Number),
        failures: [],
      })),
    );
    // 3000 sets do not fit into fewer UPDATEs, and nothing is measured in no memory.
    for (const { phase, updates, peakMB } of report.figures) {
      if (phase === "announce") expect(updates).toBeGreaterThanOrEqual(3000);
      expect(peakMB).toBeGreaterThan(1);
    }
    expect(status).toBe(0);
  });

  it.each([
    [["--prefixes", "0"], "--prefixes 0: a whole number 1..4000000 is wanted"],
    [["--prefixes", "10", "--sets", "11"], "--sets 11: a whole number 1..10 is wanted"],
    [["--sinks", "1,x"], "--sinks 1,x: numbers 1..60 are wanted, divided by commas"],
    [["--sinks", "61"], "--sinks 61: numbers 1..60 are wanted"],
    [["--duts", "podlane,quagga"], "--duts podlane,quagga: podlane, bird, frr, gobgp, openbgpd are wanted"],
    [["--round", "1"], "Unknown option '--round'"],
  ])("refuses %j", (args, message) => {
    const { stderr, stdout, status } = run(...args);
    expect(stderr).toContain(`transit: ${message}`);
    expect(stdout).toBe("");
    expect(status).toBe(2);
  });

  it("leaves no namespace and no process behind after Ctrl-C", { timeout: 60_000 }, async ctx => {
    if (cannot) ctx.skip(cannot);
    const child = spawn(process.execPath, [bench, "--prefixes", "1000", "--sinks", "1", "--duts", "podlane,bird", "--rounds", "100"]);
    let progress = "";
    // A second round has begun: everything has been started at least once, and is being started again.
    await new Promise<void>((resolve, reject) => {
      child.once("error", reject).once("exit", () => reject(new Error(`ended early: ${progress}`)));
      child.stderr.on("data", chunk => {
        progress += chunk;
        if (progress.includes("round 2 ")) resolve();
      });
    });
    await expect.poll(() => processesWith(`PODLANE_BENCH=${child.pid}`)).not.toEqual([]);
    const ended = new Promise(resolve => child.removeAllListeners("exit").once("exit", (code, signal) => resolve(code ?? signal)));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    await expect.poll(() => namespaces(child.pid!), { timeout: 10_000 }).toEqual([]);
    await expect.poll(() => processesWith(`PODLANE_BENCH=${child.pid}`), { timeout: 10_000 }).toEqual([]);
  });
});

function namespaces(owner: number): string[] {
  return readdirSync("/run/netns").filter(name => name.startsWith(`plt-${owner}-`));
}

/** Those whose environment has this. */
function processesWith(entry: string): string[] {
  const { stdout } = spawnSync(
    "grep",
    [
      "-lszxF",
      entry,
      ...readdirSync("/proc")
        .filter(name => /^\d+$/.test(name))
        .map(pid => `/proc/${pid}/environ`),
    ],
    {
      encoding: "utf8",
    },
  );
  return stdout.split("\n").filter(line => line !== "");
}
