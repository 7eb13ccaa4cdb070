/** Calls of a container runtime while the agent is replaced: none may fail. Real agents, the real plugin. Needs root on Linux. */
import { execFileSync, spawnSync } from "node:child_process";
import path from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { AttachmentsView, StatusView } from "../../agent/api/views.ts";
import { Pair, type RunningAgent } from "../../agent/testing/agents.ts";
import { buildPlugin } from "../../cni/plugin/build.ts";
import { type Outcome, requireRoot, runPlugin } from "./harness.ts";

const within = { timeout: 30_000, interval: 100 };

let pair: Pair;
let plugin: string;
let made: string[] = [];
beforeAll(requireRoot);
beforeEach(() => {
  made = [];
  pair = new Pair();
  plugin = buildPlugin(path.join(pair.folder, "bin"));
});
afterEach(async () => {
  await pair?.close();
  for (const name of made) spawnSync("ip", ["netns", "delete", name]);
});

function pod(container: string): string {
  const name = `${pair.names[0]}-${container}`;
  execFileSync("ip", ["netns", "add", name]);
  made.push(name);
  return container;
}

function call(command: string, container: string): Promise<Outcome> {
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_IFNAME: "eth0",
    CNI_NETNS: `/run/netns/${pair.names[0]}-${container}`,
    CNI_PATH: path.dirname(plugin),
  };
  const queue = path.join(pair.state(0), "del-queue");
  return runPlugin(plugin, env, JSON.stringify({ cniVersion: "1.1.0", name: "pods", type: "podlane", socket: pair.socket(0), queue }));
}

const attached = async () => (await pair.ask<AttachmentsView>(0, "pods"))?.attachments.map(({ containerId }) => containerId).sort();

async function started(): Promise<RunningAgent> {
  const agent = pair.start(0);
  await expect.poll(async () => (await pair.ask<StatusView>(0, "status"))?.pid, within).toBe(agent.process.pid);
  return agent;
}

test("an ADD that begins while there is no agent succeeds when there is one; a DEL is carried out then; STATUS says so meanwhile", async () => {
  const agent = await started();
  expect((await call("ADD", pod("a"))).status).toBe(0);
  agent.process.kill("SIGKILL");
  await agent.ended;
  const adding = call("ADD", pod("b"));
  expect(await call("STATUS", "x")).toMatchObject({ status: 1, json: { code: 50 } });
  expect(await call("DEL", "a")).toMatchObject({ status: 0, stdout: "" });
  pair.start(0);
  expect(await adding).toMatchObject({ status: 0, json: { ips: [{ address: expect.stringMatching(/^10\.244\.1\./) }] } });
  await expect.poll(attached, within).toEqual(["b"]);
});

test.each(["SIGTERM", "SIGKILL"] as const)(
  "pods that come and go while the agent is replaced by %s: no call fails",
  async signal => {
    let agent = await started();
    const outcomes: Outcome[] = [];
    const done: Record<string, number> = { a: 0, b: 0, c: 0 };
    /** One pod after the other, the former one leaving, until all replacements are over. */
    let over = false;
    const runtime = async (name: string) => {
      for (let at = 0; !over; at++) {
        const container = pod(`${name}${at}`);
        outcomes.push(await call("ADD", container));
        outcomes.push(await call("DEL", container));
        done[name]++;
      }
    };
    const runtimes = Object.keys(done).map(runtime);
    try {
      for (let round = 0; round < 3; round++) {
        // Each of them gets on in between: a call that two agents in turn did not outlive is given up.
        const before = { ...done };
        await expect.poll(() => Object.keys(done).every(name => done[name] > before[name]), within).toBe(true);
        agent.process.kill(signal);
        await agent.ended;
        agent = await started();
      }
    } finally {
      // A failure, too, must leave no pod behind that comes after the cleaning up.
      over = true;
      await Promise.all(runtimes);
    }
    expect(outcomes.filter(({ status }) => status !== 0).map(({ stdout }) => stdout)).toEqual([]);
    // A DEL may have been queued just after the agent read the queue, which it does each minute.
    await expect.poll(attached, { ...within, timeout: 90_000 }).toEqual([]);
  },
  240_000,
);
