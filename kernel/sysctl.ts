/** Kernel parameters under /proc/sys/net. They belong to the calling thread's namespace: for another one, call inside withNetns(). */
import { readFileSync, writeFileSync } from "node:fs";

/**
 * `name` is "net.ipv4.ip_forward", or its parts where one may contain a dot: ["net", "ipv4", "conf", "eth0.100", "rp_filter"].
 * Throws an error that names the parameter; `code` ENOENT: the kernel has no such parameter or link.
 */
export function readSysctl(name: string | readonly string[]): string {
  return access(name, "read", path => readFileSync(path, "utf8").trim());
}

/** Sets it unless it has this value already, so that a read-only /proc/sys with the right value is no failure. */
export function writeSysctl(name: string | readonly string[], value: string): void {
  if (/[\n\0]/.test(value)) throw new TypeError(`sysctl value ${JSON.stringify(value)} has a line break`);
  access(name, `set to ${value}`, path => {
    if (readFileSync(path, "utf8").trim() !== value) writeFileSync(path, value);
  });
}

function access<T>(name: string | readonly string[], verb: string, run: (path: string) => T): T {
  const parts = typeof name === "string" ? name.split(".") : name;
  const label = parts.join(".");
  if (parts.length < 2 || parts[0] !== "net" || parts.some(part => part === "" || part === "." || part === ".." || /[/\0]/.test(part))) {
    throw new TypeError(`"${label}" is not a kernel parameter under net`);
  }
  try {
    return run(`/proc/sys/${parts.join("/")}`);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw Object.assign(new Error(`sysctl ${label}: cannot ${verb}: ${message}`, { cause: error }), { code });
  }
}
