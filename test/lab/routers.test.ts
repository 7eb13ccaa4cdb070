/** The engine without podlane: FRR and BIRD, real sessions, repair, removal, and that its measuring instruments can see what they look for. */
import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { awaitCondition, UnmetError, unmet } from "../../lab/check.ts";
import { down, type Lab, leftovers, silentProgress, up } from "../../lab/engine/lab.ts";
import { labFolder, readState, writeState } from "../../lab/engine/state.ts";
import { isAlive, listNamespaces, processesIn, run, runIn } from "../../lab/engine/system.ts";
import { awaitChecks } from "../../lab/inspect.ts";
import { judgeEnding, traceEnding } from "../../lab/probe/death.ts";
import { startStream } from "../../lab/probe/stream.ts";
import { runScenario } from "../../lab/scenario.ts";
import { loadTopology, parseTopology } from "../../lab/topology/load.ts";

const topology = loadTopology(new URL("./fixtures/routers.yaml", import.meta.url).pathname);
const instance = `r${process.pid}`;

describe("a lab of routers", () => {
  let lab: Lab;

  beforeAll(async () => {
    ({ lab } = await up(topology, { instance }));
    await awaitChecks(lab, silentProgress);
  });

  afterAll(async () => {
    await down(`routers_${instance}`);
  });

  test("all sessions stand, on both sides and in both families", async () => {
    const sessions = (await Promise.all(lab.plan.machines.map(machine => lab.sessions(machine)))).flat();
    expect(sessions.map(each => `${each.machine} ${each.neighbor} ${each.state}`).sort()).toEqual([
      ...Array(2).fill("east west Established"),
      ...Array(2).fill("north west Established"),
      ...Array(2).fill("west east Established"),
      ...Array(2).fill("west north Established"),
    ]);
  });

  test("up again keeps a healthy lab: the same processes", async () => {
    const before = readState(lab.id)?.processes;
    const again = await up(topology, { instance });
    expect(again.action).toBe("kept");
    expect(readState(lab.id)?.processes).toEqual(before);
  });

  test("up again starts what has died, and says what", async () => {
    await lab.end(lab.machine("north"), "SIGKILL");
    const again = await up(topology, { instance });
    expect([again.action, again.reason]).toEqual(["repaired", "north did not run"]);
    lab = again.lab;
    await awaitChecks(lab, silentProgress);
  });

  test("what does not hold is named, and a time-out says what is missing and where the logs are", async () => {
    const wrong = { sessions: { west: 9 }, routes: { east: ["198.18.0.0/15"] }, noRoutes: { east: ["203.0.113.0/25"] } };
    const missing = await unmet(lab, wrong);
    expect(missing).toEqual([
      "west has 4 established sessions, not 9",
      "east has no BGP route to 198.18.0.0/15",
      "east still has a BGP route to 203.0.113.0/25",
    ]);
    const kernel = {
      kernel: { east: [{ prefix: "203.0.113.0/25", via: ["192.0.2.9"], paths: 2 }] },
      noKernel: { east: ["203.0.113.0/25"] },
    };
    expect(await unmet(lab, kernel)).toEqual([
      "east's kernel has 1 next hops to 203.0.113.0/25, not 2",
      "east's kernel goes to 203.0.113.0/25 via 192.0.2.0, not via 192.0.2.9",
      "east's kernel still has a route to 203.0.113.0/25",
    ]);
    const error = await awaitCondition(lab, wrong, 0.1).catch(each => each);
    expect(error).toBeInstanceOf(UnmetError);
    expect(error.message).toContain("west has 4 established sessions, not 9");
    expect(error.message).toContain(`${lab.folder}/west/log`);
  });

  test("a packet that somebody answers, or that ends elsewhere, is told", async () => {
    const answered = await traceEnding(lab, "guest", "192.0.2.1");
    expect(judgeEnding(answered, { at: ["east"], hops: 2 })).toEqual(["a packet to 192.0.2.1 from guest is answered"]);
    const ended = await traceEnding(lab, "guest", "203.0.113.200", 80);
    expect(ended.seen).toEqual([
      { machine: "west", arrived: ended.sent, passed: ended.sent },
      { machine: "east", arrived: ended.sent, passed: 0 },
    ]);
    expect(judgeEnding(ended, { at: ["west"], hops: 1 })).toEqual([
      "a packet to 203.0.113.200:80 from guest comes to 2 machines, not 1",
      "packets to 203.0.113.200:80 from guest end at east, not at west",
      `west passed ${ended.sent} packets to 203.0.113.200:80 from guest on`,
    ]);
  });

  test("a withdrawal is seen, measured and reported", async () => {
    const result = await runScenario(
      lab,
      {
        name: "east dies",
        steps: [
          { kill: "east" },
          { await: { noKernel: { west: ["203.0.113.128/25"] } }, within: 20, measure: "gone" },
          { start: "east" },
          { await: { sessions: { west: 4 } }, within: 20 },
        ],
        expect: { undisturbed: ["west"] },
      },
      silentProgress,
    );
    expect(result.withdrawals.map(each => each.machine)).toContain("west");
    expect(result.problems.join("\n")).toMatch(/west withdrew a route: Deleted 203\.0\.113\.128\/25/);
    expect(result.steps.map(step => step.text)).toEqual(["kill -9 east", "await noKernel on west", "start east", "await sessions on west"]);
  });

  test("lost packets are counted", async () => {
    await awaitChecks(lab, silentProgress);
    const pair = { from: "north", to: "east", namespace: lab.namespace("north"), address: "192.0.2.1" };
    const stream = await startStream(pair, 20);
    await lab.powerOff(lab.machine("east"));
    await runIn(lab.namespace("north"), "ping", ["-n", "-c", "3", "-i", "0.2", "-W", "1", "192.0.2.1"]).catch(() => {});
    const result = await stream.stop();
    expect(result.lost).toBeGreaterThan(5);
    expect(Math.max(...result.gaps.map(gap => gap.duration))).toBeGreaterThanOrEqual(100);
    await lab.powerOn(lab.machine("east"));
    await awaitChecks(lab, silentProgress);
  });

  test("a scenario that does not come true says so instead of hanging", async () => {
    const steps = [{ await: { sessions: { west: 7 } }, within: 0.2 }];
    const result = await runScenario(lab, { name: "never", steps }, silentProgress);
    expect(result.problems.join()).toContain("west has 4 established sessions, not 7");
  });
});

describe("what a lab leaves behind", () => {
  const empty = parseTopology(
    "name: empty\ntitle: Two routers that say nothing\nrouters:\n  a: { kind: bird, asn: 65001 }\n  b: { kind: bird, asn: 65002 }\nlinks: [{ name: cable, subnets: [192.0.2.0/31], members: { a: 0, b: 1 } }]\n",
  );

  test("nothing: no namespace, process or folder, also for processes that it did not start", async () => {
    const { lab } = await up(empty, { instance: `d${process.pid}` });
    const guest = runIn(lab.namespace("a"), "sleep", ["60"]).catch(() => "killed");
    const ids = Object.values(lab.state.processes);
    expect(await down(lab.id)).toBe(2);
    expect(await guest).toBe("killed");
    expect([leftovers(lab.id), ids.filter(isAlive), existsSync(labFolder(lab.id))]).toEqual([[], [], false]);
  });

  test("nothing after an interruption: the error comes when all is removed", async () => {
    const abort = new AbortController();
    const progress = {
      ...silentProgress,
      step: <T>(title: string, work: (detail: (text: string) => void) => Promise<T>) => {
        if (title === "routers") abort.abort(new Error("interrupted"));
        return work(() => {});
      },
    };
    const id = `empty_i${process.pid}`;
    await expect(up(empty, { instance: `i${process.pid}`, progress, abort: abort.signal })).rejects.toThrow();
    expect([leftovers(id), existsSync(labFolder(id))]).toEqual([[], false]);
  });

  test("after a crash the next run builds anew, with or without the state of the old one", async () => {
    const instanceName = `c${process.pid}`;
    const { lab } = await up(empty, { instance: instanceName });
    try {
      // As a builder that was killed leaves it: its process is gone, its phase stands.
      writeState({ ...lab.state, phase: "building", owner: { pid: 2 ** 22 + 1, started: "1" } });
      const second = await up(empty, { instance: instanceName });
      expect([second.action, second.reason]).toEqual(["rebuilt", "it was left while building"]);
      await run("rm", ["-r", labFolder(lab.id)]);
      expect((await up(empty, { instance: instanceName })).action).toBe("built");
      expect(processesIn(listNamespaces(`lab-${lab.id}-`))).toHaveLength(2);
    } finally {
      await down(lab.id);
    }
  });

  test("a lab that another process is building is left alone", async () => {
    const { lab } = await up(empty, { instance: `b${process.pid}` });
    try {
      const started = readFileSync("/proc/1/stat", "latin1").split(") ")[1].split(" ")[19];
      writeState({ ...lab.state, phase: "building", owner: { pid: 1, started } });
      await expect(up(empty, { instance: `b${process.pid}` })).rejects.toThrow(/process 1 is at work on lab/);
      await expect(down(lab.id)).rejects.toThrow(/process 1 is at work/);
    } finally {
      writeState(lab.state);
      await down(lab.id);
    }
  });

  test("a daemon that does not start is an error with the end of its log, and nothing stays", async () => {
    const broken = structuredClone(empty);
    broken.routers = { ...broken.routers, a: { kind: "bird", config: "this is no configuration;\n" } };
    await expect(up(broken, { instance: `x${process.pid}` })).rejects.toThrow(/BIRD of a ended at its start[\s\S]*syntax error/);
    expect(leftovers(`empty_x${process.pid}`)).toEqual([]);
  });
});
