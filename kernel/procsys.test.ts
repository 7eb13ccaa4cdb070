import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ownReadOnlyMount } from "./procsys.ts";
import { describeKernel } from "./testnetns.ts";

const initial = "pid:[4026531836]";
const proc = "22 27 0:21 / /proc rw,relatime - proc proc rw";
const readOnly = "812 800 0:21 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw";

test("a read-only mount of /proc/sys that the host's process 1 does not have is ours, with its flags", () => {
  expect(ownReadOnlyMount(`${proc}\n${readOnly}\n`, proc, initial)).toEqual({ flags: 2 | 4 | 8 | (1 << 21) });
});

test("one that process 1 has is the host's, or ours where process 1 is a container's", () => {
  expect(ownReadOnlyMount(readOnly, readOnly, initial)).toMatch(/that of the host/);
  expect(ownReadOnlyMount(readOnly, readOnly, "pid:[4026532000]")).toHaveProperty("flags");
});

test("where process 1 cannot be looked at, nothing is changed on the machine itself", () => {
  expect(ownReadOnlyMount(readOnly, undefined, initial)).toMatch(/that of the host/);
  expect(ownReadOnlyMount(readOnly, undefined, "pid:[4026532000]")).toHaveProperty("flags");
});

test.each<[string, string]>([
  ["/proc as a whole", "22 27 0:21 / /proc ro,relatime - proc proc ro"],
  ["a part of it", "22 27 0:21 /sys/kernel /proc/sys/kernel ro - proc proc rw"],
  ["a mount under a writable one", `${readOnly}\n813 812 0:21 /sys /proc/sys rw - proc proc rw`],
  ["nothing", ""],
])("%s is not remounted", (_what, mounts) => {
  expect(ownReadOnlyMount(mounts, "", "pid:[4026532000]")).toMatch(/no read-only mount/);
});

describeKernel("in a mount namespace of its own", () => {
  const module = new URL("./procsys.ts", import.meta.url).href;
  const source = `import("${module}").then(m => console.log(JSON.stringify([m.makeSysctlWritable(), m.makeSysctlWritable()])))`;
  const setUp = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro,nosuid,noexec /proc/sys";
  /** What comes of it, and the options of the mount after it. */
  function inside(prefix: string, more: string[] = []): { states: { state: string; why?: string }[]; options: string } {
    const script = `${setUp} && ${prefix} "$0" -e "$1" && grep " /proc/sys " /proc/self/mountinfo`;
    const words = ["--mount", ...more, "sh", "-c", script, process.execPath, source];
    const [states, mount] = execFileSync("unshare", words, { encoding: "utf8" }).trim().split("\n");
    return { states: JSON.parse(states), options: mount.split(" ")[5] };
  }

  test("a read-only /proc/sys is remounted, with its other flags as they were; the second look finds it writable", () => {
    const { states, options } = inside("");
    expect(states).toEqual([{ state: "remounted" }, { state: "writable" }]);
    expect(options.split(",")).toEqual(expect.arrayContaining(["rw", "nosuid", "noexec"]));
  });

  test("so it is where process 1 is the container's own", () => {
    expect(inside("", ["--pid", "--fork", "--mount-proc"]).states[0]).toEqual({ state: "remounted" });
  });

  test("without CAP_SYS_ADMIN it stays as it is, and that is said", () => {
    const { states, options } = inside("setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin --");
    expect(states[0]).toEqual({ state: "refused", why: expect.stringMatching(/EROFS.*EPERM: it needs the capability CAP_SYS_ADMIN/) });
    expect(options.split(",")).toContain("ro");
  });

  test("the machine's own stays as it is", () => {
    const mounts = () =>
      readFileSync("/proc/self/mountinfo", "utf8")
        .split("\n")
        .filter(line => line.includes(" /proc"));
    const before = mounts();
    inside("");
    expect(mounts()).toEqual(before);
  });
});
