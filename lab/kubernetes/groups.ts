/**
 * The control groups of a node's pods, which outlive its namespaces (cgroups(7)): made before the kubelet starts, which wants its group to exist with every
 * controller, and removed when all is dead. Version 1 has a hierarchy for each controller, version 2 one for all.
 */
import { existsSync, globSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "./until.ts";

const MOUNT = "/sys/fs/cgroup";
/** What the kubelet asks for. */
const wanted = ["cpu", "cpuset", "memory", "pids"];

/** Why pods cannot have control groups here; undefined where they can. */
export function missingGroups(mount = MOUNT): string | undefined {
  if (!isUnified(mount)) {
    const lacking = wanted.filter(name => !existsSync(join(mount, name, "cgroup.procs")));
    return lacking.length > 0 ? `pods need the control groups ${lacking.join(", ")} under ${mount}` : undefined;
  }
  const lacking = wanted.filter(name => !controllers(mount, "cgroup.controllers").includes(name));
  return lacking.length > 0 ? `pods need the controllers ${lacking.join(", ")}, which ${mount}/cgroup.controllers has not` : undefined;
}

export function makeGroups(group: string, mount = MOUNT): void {
  if (!isUnified(mount)) {
    for (const hierarchy of globSync(`${mount}/*/cgroup.procs`)) mkdirSync(join(hierarchy, "..", group), { recursive: true });
    // They start without processors.
    const cpuset = join(mount, "cpuset");
    for (const file of ["cpuset.cpus", "cpuset.mems"]) writeFileSync(join(cpuset, group, file), readFileSync(join(cpuset, file)));
    return;
  }
  mkdirSync(join(mount, group), { recursive: true });
  // A group has the controllers that the one above hands down; the kubelet hands them further.
  for (const folder of [mount, join(mount, group)]) {
    const missing = controllers(folder, "cgroup.controllers").filter(
      name => wanted.includes(name) && !controllers(folder, "cgroup.subtree_control").includes(name),
    );
    if (missing.length > 0) writeFileSync(join(folder, "cgroup.subtree_control"), missing.map(name => `+${name}`).join(" "));
  }
}

/** Its processes are dead; the kernel takes them out of their groups a moment later. */
export async function removeGroups(group: string, mount = MOUNT): Promise<void> {
  await until(`the control groups ${group} are gone`, () => {
    const tops = isUnified(mount) ? [join(mount, group)] : globSync(`${mount}/*/${group}`);
    const below = tops.flatMap(top => globSync(`${top}/**/`));
    for (const directory of [...below, ...tops].sort().reverse()) {
      try {
        rmdirSync(directory);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") return false;
      }
    }
    return true;
  });
}

/** Names of the groups at the top of any hierarchy that begin so. */
export function listGroups(prefix: string, mount = MOUNT): string[] {
  const found = globSync([`${mount}/${prefix}*`, `${mount}/*/${prefix}*`]);
  return [...new Set(found.map(path => path.split("/").at(-1)!))];
}

function isUnified(mount: string): boolean {
  return existsSync(join(mount, "cgroup.controllers"));
}

function controllers(folder: string, file: string): string[] {
  return readFileSync(join(folder, file), "utf8").trim().split(" ").filter(Boolean);
}
