/** What outlives a machine's namespaces: the control groups of its pods (v1) and its folder. Made, removed, and swept where a test was killed. */
import { existsSync, globSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./until.ts";

const CONTROLLERS = "/sys/fs/cgroup";

/** Why pods cannot have control groups here; undefined where they can. */
export function missingGroups(): string | undefined {
  return existsSync(join(CONTROLLERS, "pids/cgroup.procs")) ? undefined : "pods need control groups v1, which this machine has not";
}

/** The kubelet wants its group to exist in every hierarchy, and cpuset groups start without processors. */
export function makeGroups(group: string): void {
  for (const hierarchy of globSync(`${CONTROLLERS}/*/cgroup.procs`)) mkdirSync(join(hierarchy, "..", group), { recursive: true });
  const cpuset = join(CONTROLLERS, "cpuset");
  for (const file of ["cpuset.cpus", "cpuset.mems"]) writeFileSync(join(cpuset, group, file), readFileSync(join(cpuset, file)));
}

/** Its processes are dead; the kernel takes them out of their groups a moment later. */
export async function removeGroups(group: string): Promise<void> {
  await until(`the control groups ${group} are gone`, () => {
    for (const directory of globSync(`${CONTROLLERS}/*/${group}/**/`)
      .concat(globSync(`${CONTROLLERS}/*/${group}`))
      .sort()
      .reverse()) {
      try {
        rmdirSync(directory);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") return false;
      }
    }
    return true;
  });
}

/** Groups and folders of test processes that were killed before they could clean up; their processes died with them. */
export function sweepLeftovers(): void {
  const leftovers = [...globSync(`${CONTROLLERS}/*/podlane-*`), ...globSync(join(tmpdir(), "podlane-cluster-*"))];
  for (const path of leftovers) {
    const owner = /podlane-(?:cluster-)?(\d+)-/.exec(path)?.[1];
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
    if (path.startsWith(CONTROLLERS)) void removeGroups(path.split("/").at(-1)!).catch(() => undefined);
    else rmSync(path, { recursive: true, force: true });
  }
}
