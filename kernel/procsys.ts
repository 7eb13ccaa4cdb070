/**
 * /proc/sys is mounted read-only in a container that is not privileged (OCI runtime specification, readonlyPaths). With CAP_SYS_ADMIN it is made writable in the
 * container's own mount namespace, never in the host's: there, who made it read-only meant it.
 */
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import koffi from "koffi";

/** What became of it. "refused": it is read-only and stays so; `why`: in words. */
export type ProcSysState = { state: "writable" } | { state: "remounted" } | { state: "refused"; why: string };

/** PROC_PID_INIT_INO (linux/proc_ns.h): the PID namespace of the machine itself. */
const INITIAL_PID_NAMESPACE = "pid:[4026531836]";
/** mount(2). */
const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MountFlags: Readonly<Record<string, number>> = { nosuid: 2, nodev: 4, noexec: 8, noatime: 1024, nodiratime: 2048, relatime: 1 << 21 };

const ProbeFile = "/proc/sys/net/ipv4/ip_forward";

/** Looks, and remounts where that is needed and concerns nobody else. */
export function makeSysctlWritable(): ProcSysState {
  const failure = probe();
  if (failure === undefined) return { state: "writable" };
  const found = ownReadOnlyMount(readFileSync("/proc/self/mountinfo", "utf8"), mountsOfInit(), readlinkSync("/proc/self/ns/pid"));
  if (typeof found === "string") return { state: "refused", why: `${failure}; ${found}` };
  const errno = remountWritable(found.flags);
  if (errno !== 0) return { state: "refused", why: `${failure}; remounting it fails (${errnoName(errno)})` };
  const left = probe();
  return left === undefined ? { state: "remounted" } : { state: "refused", why: `${left}, though it was remounted` };
}

/**
 * The read-only mount of /proc/sys that may be remounted, with the flags that it keeps; else why there is none. Pure. `own`, `init`: mountinfo (proc(5)) of this
 * process and of process 1. Ids of mounts are unique on the machine: one that process 1 has too is in the same mount namespace.
 */
export function ownReadOnlyMount(own: string, init: string | undefined, pidNamespace: string): { flags: number } | string {
  // The last one covers those before it.
  const mount = readMounts(own).findLast(({ point }) => point === "/proc/sys");
  if (!mount?.options.includes("ro")) return "/proc/sys is no read-only mount of its own";
  const isMachine = pidNamespace === INITIAL_PID_NAMESPACE;
  if (isMachine && (init === undefined || readMounts(init).some(({ id }) => id === mount.id)))
    return "this mount is, as far as can be seen, that of the host, which the agent does not change";
  return { flags: mount.options.reduce((sum, option) => sum | (MountFlags[option] ?? 0), 0) };
}

function readMounts(mountinfo: string): { id: string; point: string; options: string[] }[] {
  return mountinfo.split("\n").flatMap(line => {
    const [id, , , , point, options] = line.split(" ");
    return options === undefined ? [] : [{ id, point, options: options.split(",") }];
  });
}

function mountsOfInit(): string | undefined {
  try {
    return readFileSync("/proc/1/mountinfo", "utf8");
  } catch {
    return undefined;
  }
}

/** Writes what stands there; undefined: that works. */
function probe(): string | undefined {
  try {
    writeFileSync(ProbeFile, readFileSync(ProbeFile));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Returns 0 or errno. A bind remount changes the flags of this one mount, and is passed on to no other. */
function remountWritable(flags: number): number {
  const mount = koffi
    .load(null)
    .func("int mount(const char *source, const char *target, const char *type, unsigned long flags, void *data)");
  return mount(null, "/proc/sys", null, MS_REMOUNT | MS_BIND | flags, null) === 0 ? 0 : koffi.errno();
}

function errnoName(errno: number): string {
  const names: Record<number, string> = {
    1: "EPERM: it needs the capability CAP_SYS_ADMIN",
    13: "EACCES: AppArmor or SELinux forbids mount",
  };
  return names[errno] ?? `errno ${errno}`;
}
