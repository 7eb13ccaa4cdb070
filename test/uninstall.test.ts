/** `podlane uninstall` after a real life of a node: what the kernel and the directories have before and after must be the same. Needs root on Linux. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { StatusView } from "../agent/api/views.ts";
import { Pair, type RunningAgent } from "../agent/testing/agents.ts";
import type { UninstallReport } from "../agent/uninstall.ts";
import { requireRoot, runPlugin } from "./cni/harness.ts";

const within = { timeout: 30_000, interval: 100 };

let pair: Pair;
let made: string[] = [];
const missing = ["nft", "iptables", "sysctl"].filter(tool => spawnSync(tool, ["--version"]).error);
beforeAll(requireRoot);
beforeEach(ctx => {
  if (missing.length > 0) ctx.skip(`${missing.join(", ")}: not installed`);
  made = [];
  pair = new Pair();
  for (const [at, name] of pair.names.entries()) ip("-n", name, "address", "add", `2001:db8::${at + 1}/64`, "dev", "eth0", "nodad");
  for (const folder of ["bin", "net.d"]) mkdirSync(join(pair.folder, folder));
  const nodes = [1, 2].map(number => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node${number}` },
    spec: { podCIDRs: [`10.244.${number}.0/24`, `fd00:${number}::/64`] },
    status: { addresses: [`192.0.2.${number}`, `2001:db8::${number}`].map(address => ({ type: "InternalIP", address })) },
  }));
  pair.write("nodes.yaml", nodes.map(node => JSON.stringify(node)).join("\n---\n"));
});
afterEach(async () => {
  await pair?.close();
  for (const name of made) spawnSync("ip", ["netns", "delete", name]);
});

function ip(...words: string[]): string {
  return execFileSync("ip", words, { encoding: "utf8" });
}

function inside(...words: string[]): string {
  return ip("netns", "exec", pair.names[0], ...words);
}

/** All that podlane could leave behind on node1, but for what the other node has in the same folder. */
function everything(): Record<string, string> {
  const questions = [
    "ip -d addr",
    "ip -d route show table all",
    "ip -6 -d route show table all",
    "ip rule",
    "ip -6 rule",
    "nft list ruleset",
    "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.accept_ra",
    `find ${pair.folder} -not -path */config* -not -path */*1 -not -path */*1/*`,
  ];
  return Object.fromEntries(questions.map(words => [words, inside(...words.split(" "))]));
}

/** Once the kernel has checked all addresses (RFC 4862). */
async function settled(): Promise<Record<string, string>> {
  await expect.poll(() => inside("ip", "addr"), within).not.toContain("tentative");
  return everything();
}

/** What the dry run must not touch, without what changes by itself. */
function ours(): string[] {
  const routes = inside("ip", "route", "show", "table", "all", "proto", "201");
  return [inside("ip", "-br", "link"), routes, inside("iptables", "-S"), inside("find", pair.folder)];
}

const places = () => ["--cni-bin-dir", join(pair.folder, "bin"), "--cni-conf-dir", join(pair.folder, "net.d")];

async function serving(): Promise<RunningAgent> {
  const agent = pair.start(0, ["--install-cni", ...places()]);
  pair.start(1);
  await expect.poll(() => existsSync(join(pair.folder, "net.d/10-podlane.conflist")), within).toBe(true);
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
  expect((await pair.ask<StatusView>(0, "status"))?.serving.ready).toBe(true);
  return agent;
}

/** As a container runtime does it: by the list and the executable that the agent installed. */
async function call(command: "ADD" | "DEL", container: string, more: object = {}): Promise<void> {
  const name = `${pair.names[0]}-${container}`;
  if (command === "ADD") {
    ip("netns", "add", name);
    made.push(name);
  }
  const { cniVersion, name: network, plugins } = JSON.parse(readFileSync(join(pair.folder, "net.d/10-podlane.conflist"), "utf8"));
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_IFNAME: "eth0",
    CNI_NETNS: `/run/netns/${name}`,
    CNI_PATH: join(pair.folder, "bin"),
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${container}`,
  };
  const { status, stdout } = await runPlugin(
    join(pair.folder, "bin/podlane"),
    env,
    JSON.stringify({ cniVersion, name: network, ...plugins[0], ...more }),
  );
  expect(status, stdout).toBe(0);
}

function uninstall(...more: string[]) {
  const main = process.env.PODLANE_MAIN ?? join(import.meta.dirname, "../cli/main.ts");
  const words = [main, "uninstall", "--state", pair.state(0), "--socket", pair.socket(0), ...places(), ...more];
  return spawnSync("ip", ["netns", "exec", pair.names[0], process.execPath, ...words], { encoding: "utf8" });
}

const report = (...more: string[]) => JSON.parse(uninstall("--json", ...more).stdout) as UninstallReport & { dryRun: boolean };

test("a drained node is as it was before podlane came, and a second time finds nothing", async () => {
  inside("iptables", "-P", "FORWARD", "DROP");
  const before = await settled();
  const agent = await serving();
  await call("ADD", "web");
  await expect.poll(() => inside("iptables", "-S", "FORWARD"), within).toContain("podlane pods");

  const refused = uninstall();
  expect([refused.status, refused.stdout, refused.stderr]).toEqual([
    1,
    "",
    expect.stringMatching(/1 pods are attached: shop\/web\n {2}drain/),
  ]);
  const during = ours();
  const dry = report("--dry-run");
  expect(dry.notes[0]).toMatch(/^1 pods are attached: shop\/web; .* needs --force$/);
  expect(ours()).toEqual(during);

  await call("DEL", "web");
  const { removals, notes, dryRun } = report();
  expect(dryRun).toBe(false);
  expect(await agent.ended).toBe(0);
  expect(everything()).toEqual(before);
  expect(new Set(removals.map(({ what }) => what))).toEqual(new Set(["agent", "file", "link", "routes", "rules", "sysctl", "directory"]));
  expect(removals).toContainEqual({ what: "link", name: "podlane0", change: "removed" });
  expect(removals).toContainEqual({ what: "sysctl", name: "net.ipv4.ip_forward = 0", change: "set back" });
  expect(notes).toEqual([expect.stringContaining("installs itself again")]);
  const again = uninstall();
  expect([again.status, again.stdout]).toEqual([0, "nothing of podlane is here\n"]);
});

test("discards of Services go with their rules and tables, also when their agent was killed", async () => {
  const before = await settled();
  const own = (kind: string, spec: object) =>
    JSON.stringify({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name: "all" }, spec: { nodeSelector: {}, ...spec } });
  const service = { addresses: ["LoadBalancerIP"], selector: {} };
  const metadata = { name: "web", namespace: "shop" };
  const ingress = ["198.51.100.7", "2001:db8:51::7"].map(ip => ({ ip }));
  const slices = ["IPv4", "IPv6"].map(addressType => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: addressType.toLowerCase(), namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
    addressType,
    endpoints: [{ addresses: [addressType === "IPv4" ? "10.244.2.5" : "fd00:2::5"], nodeName: "node2", conditions: { ready: true } }],
  }));
  const documents = [
    own("Fabric", { asn: 64512, services: { proxyHealthPort: 0 } }),
    own("Advertisement", { type: "Service", mesh: true, service, aggregation: { ipv4: 24 } }),
    JSON.stringify({ apiVersion: "v1", kind: "Service", metadata, spec: { type: "LoadBalancer" }, status: { loadBalancer: { ingress } } }),
    ...slices.map(one => JSON.stringify(one)),
  ];
  pair.write("services.yaml", documents.join("\n---\n"));
  const agent = await serving();
  const discards = () => [4, 6].map(family => inside("ip", `-${family}`, "route", "show", "table", "all", "type", "blackhole"));
  await expect.poll(discards, within).toEqual([expect.stringContaining("198.51.100.0/24"), expect.stringContaining("2001:db8:51::7")]);
  expect(inside("ip", "rule")).toContain("not from all iif lo lookup");
  agent.process.kill("SIGKILL");
  await agent.ended;
  expect(uninstall().status).toBe(0);
  expect(everything()).toEqual(before);
});

test.each([
  ["Bridge", "podlane0", [expect.stringMatching(/^pl/), "podlane0"], "bridge"],
  ["Routed", "pl+", [expect.stringMatching(/^pl/)], "inet"],
])("without an agent and with pods, by force: all goes, their interfaces too; mode %s", async (mode, pattern, links, guard) => {
  inside("iptables", "-P", "FORWARD", "DROP");
  const before = await settled();
  const spec = { nodeSelector: {}, mode, masquerade: { mode: "External" } };
  pair.write("network.yaml", JSON.stringify({ apiVersion: "podlane.io/v1alpha1", kind: "PodNetwork", metadata: { name: "pods" }, spec }));
  const agent = await serving();
  await call("ADD", "db", { runtimeConfig: { portMappings: [{ hostPort: 5432, containerPort: 5432, protocol: "tcp" }] } });
  await expect.poll(() => inside("iptables", "-S", "FORWARD"), within).toContain(`-i ${pattern} -m comment --comment "podlane pods"`);
  agent.process.kill("SIGKILL");
  await agent.ended;
  expect(inside("nft", "list", "map", guard, "podlane", "spoof-ports")).toMatch(/"pl[0-9a-f]{12}" : goto spoof-pl/);
  expect(inside("nft", "list", "map", "inet", "podlane", "port-address4")).toMatch(/tcp . 5432 : 10\.244\.1\./);
  expect(inside("nft", "list", "table", "inet", "podlane")).toMatch(/elements = \{ 10\.244\.1\.0\/24 \}[\s\S]*masquerade fully-random/);
  expect(uninstall().stderr).toMatch(/1 pods are attached: container db eth0 10\.244\.1\.\d+\/24, fd00:1::/);
  const { removals, notes } = report("--force");
  expect(removals.filter(({ what }) => what === "link").map(({ name }) => name)).toEqual(links);
  expect(removals).toContainEqual({ what: "rules", name: expect.stringContaining("FORWARD of iptables"), change: "removed" });
  for (const family of [guard, "inet"])
    expect(removals).toContainEqual({ what: "rules", name: `nftables table ${family} podlane`, change: "removed" });
  expect(inside("nft", "list", "tables")).not.toContain("podlane");
  expect(notes[0]).toMatch(/they lose their network$/);
  expect(everything()).toEqual(before);
  expect(ip("-n", made[0], "link")).not.toContain("eth0");
});

test("what others put beside ours stays, and is told: a port on the bridge, a network that may need forwarding, a route that is not ours", async () => {
  const agent = await serving();
  agent.process.kill("SIGKILL");
  await agent.ended;
  ip("-n", pair.names[0], "link", "add", "theirs", "master", "podlane0", "type", "veth");
  ip("-n", pair.names[0], "route", "add", "198.51.100.0/24", "via", "192.0.2.2", "table", "77", "proto", "201");
  inside("sh", "-c", `echo '{"name":"x","type":"y"}' > ${join(pair.folder, "net.d/20-other.conf")}`);
  const first = uninstall("--json");
  expect(first.status).toBe(1);
  const { removals } = JSON.parse(first.stdout) as UninstallReport;
  const stays = removals.filter(({ change }) => change === "stays").map(({ name }) => name);
  expect(stays).toEqual(expect.arrayContaining(["podlane0", "net.ipv4.ip_forward = 1", "net.ipv6.conf.all.forwarding = 1"]));
  expect(removals.filter(({ what, change }) => what === "link" && change === "removed")).toEqual([]);
  expect(inside("sysctl", "-n", "net.ipv4.ip_forward")).toBe("1\n");
  expect(ip("-n", pair.names[0], "route", "show", "table", "77")).toContain("198.51.100.0/24");
  ip("-n", pair.names[0], "link", "delete", "theirs");
  expect(report().removals).toEqual([{ what: "link", name: "podlane0", change: "removed" }]);
});

test("routes of our number that nothing on disk explains stay", async () => {
  ip("-n", pair.names[0], "route", "add", "198.51.100.0/24", "via", "192.0.2.2", "proto", "201");
  expect(report().removals).toEqual([{ what: "routes", name: "1 in table main with protocol 201", change: "stays" }]);
});

test("an agent that holds the state directory and is not the one asked is named", async () => {
  const agent = await serving();
  const { status, stderr } = uninstall("--socket", join(pair.folder, "other.sock"));
  expect([status, stderr]).toEqual([1, expect.stringContaining(`the agent with process id ${agent.process.pid}`)]);
  expect(existsSync(join(pair.folder, "net.d/10-podlane.conflist"))).toBe(true);
});

test("tunnels that are wanted no more are guarded to their end", async () => {
  const write = (overlay: string) =>
    pair.write(
      "overlay.yaml",
      JSON.stringify({
        apiVersion: "podlane.io/v1alpha1",
        kind: "PodNetwork",
        metadata: { name: "all" },
        spec: { nodeSelector: {}, overlay },
      }),
    );
  write("Always");
  await serving();
  const isGuarded = () => inside("sh", "-c", "nft list table inet podlane 2> /dev/null || true").includes("chain overlay-input");
  const hasTunnel = () => inside("ip", "-o", "link").includes("podlane.vx4");
  await expect.poll(() => [isGuarded(), hasTunnel()], within).toEqual([true, true]);
  let open = false;
  write("Never");
  const state = () => {
    const states = [isGuarded(), hasTunnel()];
    open ||= !states[0] && states[1];
    return states;
  };
  await expect.poll(state, within).toEqual([false, false]);
  expect(open).toBe(false);
});

test("tunnels to other nodes go with their entries, also when their agent was killed", async () => {
  const before = await settled();
  const podNetwork = {
    apiVersion: "podlane.io/v1alpha1",
    kind: "PodNetwork",
    metadata: { name: "all" },
    spec: { nodeSelector: {}, overlay: "Always" },
  };
  pair.write("overlay.yaml", JSON.stringify(podNetwork));
  const agent = await serving();
  await expect.poll(() => inside("ip", "route", "show", "10.244.2.0/24"), within).toContain("dev podlane.vx4");
  agent.process.kill("SIGKILL");
  await agent.ended;
  expect(inside("ip", "route", "show", "10.244.2.0/24")).toContain("dev podlane.vx4");
  // Who is no node puts nothing into them, agent or no agent.
  expect(inside("nft", "list", "set", "inet", "podlane", "overlay-nodes4")).toMatch(/elements = \{ [\d.]+ \}/);
  expect(inside("nft", "list", "chain", "inet", "podlane", "overlay-input")).toContain("@overlay-nodes4 counter");
  const { removals } = report();
  expect(removals).toContainEqual({ what: "rules", name: "nftables table inet podlane", change: "removed" });
  expect(removals).toContainEqual({ what: "link", name: "podlane.vx4", change: "removed" });
  expect(everything()).toEqual(before);
});
