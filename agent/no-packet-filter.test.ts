/** A real agent on a node without nft: who is attached all the same, and who is not. Needs root on Linux. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { AgentClient } from "../cli/client.ts";
import { buildPlugin } from "../cni/plugin/build.ts";
import type { PoliciesView, ProblemsView } from "./api/views.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 30_000, interval: 100 };

const pod = (name: string) => ({
  ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "shop", labels: { app: name } } },
  spec: { nodeName: "node1", containers: [{ name: "c" }] },
});
const documents = [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
  ...[pod("web"), pod("api")],
  {
    ...{ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name: "shut", namespace: "shop" } },
    spec: { podSelector: { matchLabels: { app: "web" } }, policyTypes: ["Ingress"] },
  },
];

test("all pods while there is no policy; with one, those that it does not select, and STATUS says 50", async ctx => {
  if (missing) ctx.skip(missing);
  const pair = new Pair();
  const [node] = pair.names;
  const pods = ["first", "web", "api"].map(name => ({ name, netns: `${node}-${name}` }));
  const main = process.env.PODLANE_MAIN ?? join(import.meta.dirname, "../cli/main.ts");
  const words = ["--node", "node1", "--config", pair.config, "--state", pair.state(0), "--socket", pair.socket(0)];
  let agent: ChildProcess | undefined;
  try {
    for (const { netns } of pods) execFileSync("ip", ["netns", "add", netns]);
    // No program is found.
    const script = 'PATH=/nonexistent exec "$0" "$@"';
    agent = spawn("ip", ["netns", "exec", node, "/bin/sh", "-c", script, process.execPath, main, "agent", ...words], { stdio: "ignore" });
    await expect.poll(() => existsSync(pair.socket(0)), within).toBe(true);
    const client = new AgentClient(pair.socket(0));
    const plugin = buildPlugin(join(pair.folder, "bin"));
    const call = (command: string, name: string) => {
      const { netns } = pods.find(one => one.name === name)!;
      const args = { CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${name}`, CNI_NETNS: `/run/netns/${netns}` };
      const env = { ...args, CNI_COMMAND: command, CNI_CONTAINERID: name, CNI_IFNAME: "eth0", CNI_PATH: "/opt/cni/bin" };
      const input = JSON.stringify({ cniVersion: "1.1.0", name: "pods", type: "podlane", socket: pair.socket(0) });
      return JSON.parse(spawnSync(plugin, { env, input, encoding: "utf8" }).stdout || "{}");
    };
    const reasons = async () => (await client.get<ProblemsView>("/v1/problems")).problems.map(({ reason }) => reason);
    expect(call("ADD", "first")).toMatchObject({ ips: [{ address: expect.stringContaining("10.244.1.") }] });
    expect(await reasons()).toContain("PacketFilterMissing");
    expect(await reasons()).not.toContain("PacketFilterRefused");
    expect(JSON.stringify(call("STATUS", "first"))).not.toContain("packet filter");
    writeFileSync(join(pair.config, "policies.json"), JSON.stringify({ apiVersion: "v1", kind: "List", items: documents }));
    await expect.poll(async () => (await client.get<PoliciesView>("/v1/policies")).policies, within).toHaveLength(1);
    expect(call("ADD", "web")).toMatchObject({ code: 11, msg: expect.stringContaining("policies select pod shop/web") });
    expect(call("ADD", "api")).toMatchObject({ ips: [{ address: expect.stringContaining("10.244.1.") }] });
    expect(call("STATUS", "api")).toMatchObject({ code: 50, msg: expect.stringContaining("cannot be put into the packet filter") });
    expect(await reasons()).toContain("PacketFilterRefused");
  } finally {
    agent?.kill("SIGKILL");
    if (agent && agent.exitCode === null && agent.signalCode === null) await once(agent, "close");
    for (const { netns } of pods) spawnSync("ip", ["netns", "delete", netns]);
    await pair.close();
  }
}, 90_000);
