import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { machineStops } from "./shutdown.ts";

let folder: string;
const path = process.env.PATH;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "podlane-shutdown-"));
  process.env.PATH = `${folder}:${path}`;
});
afterEach(() => {
  process.env.PATH = path;
  rmSync(folder, { recursive: true });
});

function systemctl(script: string, name = "systemctl"): void {
  const file = join(folder, name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

test.each([
  ["stopping", 1, "systemd is stopping the machine"],
  ["running", 0, undefined],
  ["degraded", 1, undefined],
  ["offline", 1, undefined],
])("systemd that says %s", async (state, status, expected) => {
  systemctl(`[ "$1" = is-system-running ] && echo ${state}; exit ${status}`);
  expect(await machineStops(() => true)).toBe(expected);
});

test.each([
  ["b true", "systemd-logind is preparing to stop the machine"],
  ["b false", undefined],
  ["", undefined],
])("logind that says %o while the kubelet ends the node's pods", async (answer, expected) => {
  systemctl("echo running");
  systemctl(`[ "$5" = PreparingForShutdown ] && echo "${answer}"`, "busctl");
  expect(await machineStops(() => true)).toBe(expected);
});

test("no systemd, or one that does not answer, is a restart", async () => {
  expect(await machineStops(() => false)).toBeUndefined();
  systemctl("exec sleep 60");
  systemctl("exec sleep 60", "busctl");
  expect(await machineStops(() => true)).toBeUndefined();
});
