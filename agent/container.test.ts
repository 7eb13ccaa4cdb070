/** A real agent as a container that is not privileged runs it: few capabilities, and /proc/sys read-only. Needs root on Linux. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildPlugin } from "../cni/plugin/build.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 30_000, interval: 100 };

/** What docs/install.md asks for. */
const capabilities = ["net_admin", "net_raw", "sys_admin", "net_bind_service"];

test("with the capabilities of docs/install.md it remounts /proc/sys for itself and attaches a pod", async ctx => {
  if (missing) ctx.skip(missing);
  const pair = new Pair();
  const [node] = pair.names;
  const pod = `${node}-pod`;
  const main = process.env.PODLANE_MAIN ?? join(import.meta.dirname, "../cli/main.ts");
  const words = ["--node", "node1", "--config", pair.config, "--state", pair.state(0), "--socket", pair.socket(0), "--log-format", "json"];
  const setUp = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys";
  const bounded = `setpriv --bounding-set=-all,${capabilities.map(one => `+${one}`).join(",")} --inh-caps=-all --`;
  const script = `${setUp} && exec ${bounded} "$0" "$@"`;
  let agent: ChildProcess | undefined;
  let log = "";
  try {
    execFileSync("ip", ["netns", "add", pod]);
    agent = spawn("ip", ["netns", "exec", node, "sh", "-c", script, process.execPath, main, "agent", ...words], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    agent.stderr!.setEncoding("utf8").on("data", text => {
      log += text;
    });
    await expect.poll(() => existsSync(pair.socket(0)), within).toBe(true);
    expect(log).toContain("remounted /proc/sys writable");
    const plugin = buildPlugin(join(pair.folder, "bin"));
    const env = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "a", CNI_IFNAME: "eth0", CNI_NETNS: `/run/netns/${pod}`, CNI_PATH: "/opt/cni/bin" };
    const input = JSON.stringify({ cniVersion: "1.1.0", name: "pods", type: "podlane", socket: pair.socket(0) });
    const { status, stdout } = spawnSync(plugin, { env, input, encoding: "utf8" });
    expect([status, stdout]).toEqual([0, expect.stringContaining("10.244.1.")]);
    expect(execFileSync("ip", ["netns", "exec", node, "sysctl", "-n", "net.ipv4.ip_forward"], { encoding: "utf8" })).toBe("1\n");
    expect(log).not.toMatch(/EPERM|EACCES|EROFS|"level":50/);
  } finally {
    agent?.kill("SIGKILL");
    if (agent && agent.exitCode === null && agent.signalCode === null) await once(agent, "close");
    spawnSync("ip", ["netns", "delete", pod]);
    await pair.close();
  }
}, 90_000);
