import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { listGroups, makeGroups, missingGroups, removeGroups } from "./groups.ts";

const group = `podlane-${process.pid}-groups`;
const mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

test.for(mounts)("are made and removed under %s, with groups in them", async (mount, context) => {
  const unified = existsSync(join(mount, "cgroup.controllers"));
  context.skip(process.getuid?.() !== 0, "control groups need root");
  context.skip(!unified && missingGroups(mount) !== undefined, missingGroups(mount));
  makeGroups(group, mount);
  const top = unified ? join(mount, group) : join(mount, "pids", group);
  expect(existsSync(join(top, "cgroup.procs"))).toBe(true);
  expect(listGroups(`podlane-${process.pid}-`, mount)).toEqual([group]);
  mkdirSync(join(top, "pods/one"), { recursive: true });
  await removeGroups(group, mount);
  expect(existsSync(top)).toBe(false);
  expect(listGroups(group, mount)).toEqual([]);
});

test("of version 2 hand down the controllers that the kubelet asks for, and no other", () => {
  const mount = mkdtempSync(join(tmpdir(), "podlane-groups-"));
  onTestFinished(() => rmSync(mount, { recursive: true }));
  // Files of the kernel's, as it makes them.
  for (const folder of [mount, join(mount, group)]) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "cgroup.controllers"), "cpuset cpu io memory hugetlb pids\n");
    writeFileSync(join(folder, "cgroup.subtree_control"), "cpu memory\n");
  }
  expect(missingGroups(mount)).toBeUndefined();
  makeGroups(group, mount);
  for (const folder of [mount, join(mount, group)])
    expect(readFileSync(join(folder, "cgroup.subtree_control"), "utf8")).toBe("+cpuset +pids");
  writeFileSync(join(mount, "cgroup.controllers"), "cpu memory\n");
  expect(missingGroups(mount)).toContain("cpuset, pids");
});
