/** Real agents: when a node serves pods, as STATUS, status and events say it. Needs root on Linux. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { buildPlugin } from "../cni/plugin/build.ts";
import type { ProblemsView, StatusView } from "./api/views.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 30_000, interval: 100 };

let pair: Pair;
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
});
afterEach(() => pair?.close());

const fabric = (readiness: string) =>
  `{apiVersion: podlane.io/v1alpha1, kind: Fabric, metadata: {name: all}, spec: {nodeSelector: {}, asn: 64512, readiness: ${readiness}}}`;
const serving = async () => (await pair.ask<StatusView>(0, "status"))?.serving;

/** The error code of CNI's STATUS; 0: pods can come. */
function statusCode(): number {
  const plugin = buildPlugin(join(pair.folder, "bin"));
  const { status, stdout } = spawnSync(plugin, {
    input: JSON.stringify({ cniVersion: "1.1.0", name: "podlane", type: "podlane", socket: pair.socket(0) }),
    env: { CNI_COMMAND: "STATUS", CNI_PATH: "/opt/cni/bin" },
    encoding: "utf8",
  });
  return status === 0 ? 0 : JSON.parse(stdout).code;
}

test("a node serves when the other's routes are in, and no more when all sessions are gone for the hold-down", async () => {
  pair.write("fabric.yaml", fabric("{timeout: 600, holdDown: 1}"));
  pair.start(0);
  await expect.poll(serving, within).toMatchObject({ ready: false, reason: expect.stringMatching(/^0 of 1 sessions/) });
  expect(statusCode()).toBe(50);
  const other = pair.start(1);
  await expect.poll(serving, within).toEqual({ ready: true, reason: "the routes are in" });
  expect(statusCode()).toBe(0);
  other.process.kill("SIGKILL");
  await expect.poll(serving, within).toMatchObject({ ready: false });
  expect(statusCode()).toBe(51);
  const { problems } = (await pair.ask<ProblemsView>(0, "problems"))!;
  expect(problems.map(({ reason }) => reason)).toContain("SessionsLost");
  pair.start(1);
  await expect.poll(serving, within).toMatchObject({ ready: true });
});

test("without the other the timeout makes it serve; the next agent serves by the routes that are in the kernel", async () => {
  pair.write("fabric.yaml", fabric("{timeout: 1, holdDown: 600}"));
  const first = pair.start(0);
  await expect.poll(serving, within).toMatchObject({ ready: true, reason: expect.stringMatching(/^only 0 of 1/) });
  const { problems } = (await pair.ask<ProblemsView>(0, "problems"))!;
  expect(problems.map(({ reason }) => reason)).toContain("RoutesLate");
  expect(first.log.map(({ msg }) => msg)).toContainEqual(expect.stringMatching(/^this node serves pods: only 0 of 1/));
  const other = pair.start(1);
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
  other.process.kill("SIGKILL");
  first.process.kill("SIGTERM");
  await first.ended;
  pair.write("fabric.yaml", fabric("{timeout: 600, holdDown: 600}"));
  pair.start(0);
  await expect.poll(serving, within).toMatchObject({ ready: true, reason: expect.stringMatching(/routes stay in use$/) });
});
