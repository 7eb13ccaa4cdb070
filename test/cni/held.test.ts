/** Pods that outlive a change of their node's pod subnet: two agents with sessions between them, pods by the real plugin, traffic by ping. */
import { execFileSync, spawnSync } from "node:child_process";
import path from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { ProblemsView } from "../../agent/api/views.ts";
import { Pair } from "../../agent/testing/agents.ts";
import { buildPlugin } from "../../cni/plugin/build.ts";
import { inNetns, pings, requireRoot, runPlugin } from "./harness.ts";

const within = { timeout: 60_000, interval: 100 };

let pair: Pair;
let made: string[];
beforeAll(requireRoot);
beforeEach(() => {
  made = [];
  pair = new Pair();
  for (const [at, name] of pair.names.entries())
    execFileSync("ip", ["-n", name, "address", "add", `2001:db8::${at + 1}/64`, "dev", "eth0", "nodad"]);
});
afterEach(async () => {
  await pair?.close();
  for (const name of made) spawnSync("ip", ["netns", "delete", name]);
});

/** Each node with the pod subnets 10.244.N.0/24 and fd00:N::/64. */
function writeNodes(...numbers: (number | undefined)[]): void {
  const nodes = numbers.map((number, at) => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node${at + 1}` },
    spec: number === undefined ? {} : { podCIDRs: [`10.244.${number}.0/24`, `fd00:${number}::/64`] },
    status: { addresses: [`192.0.2.${at + 1}`, `2001:db8::${at + 1}`].map(address => ({ type: "InternalIP", address })) },
  }));
  pair.write("nodes.yaml", nodes.map(node => JSON.stringify(node)).join("\n---\n"));
}

const netnsOf = (at: 0 | 1) => `/run/netns/${pair.names[at]}`;

async function call(command: string, container: string): Promise<string[]> {
  const name = `${pair.names[0]}-${container}`;
  if (command === "ADD") {
    execFileSync("ip", ["netns", "add", name]);
    made.push(name);
  }
  const plugin = buildPlugin(path.join(pair.folder, "bin"));
  const env = {
    PATH: process.env.PATH!,
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_IFNAME: "eth0",
    CNI_NETNS: `/run/netns/${name}`,
    CNI_PATH: path.dirname(plugin),
  };
  const config = { cniVersion: "1.1.0", name: "pods", type: "podlane", socket: pair.socket(0), queue: path.join(pair.folder, "queue") };
  const { status, stdout, json } = await runPlugin(plugin, env, JSON.stringify(config));
  expect(status, stdout).toBe(0);
  return (json?.ips ?? []).map(({ address }: { address: string }) => address.split("/")[0]);
}

/** Destinations of routes that node2 has in its kernel. */
function routes(): string[] {
  const all = [[], ["-6"]].flatMap(family => JSON.parse(inNetns(netnsOf(1), "ip", ...family, "-j", "route").stdout) as { dst: string }[]);
  return all.map(({ dst }) => dst).filter(dst => /^(10\.244|fd00)/.test(dst));
}

const reached = (addresses: string[]) => addresses.map(address => pings(netnsOf(1), address));
const about = async () =>
  ((await pair.ask<ProblemsView>(0, "problems"))?.problems ?? [])
    .filter(({ message }) => message.includes("former pod subnet"))
    .map(({ severity, message }) => `${severity}: ${message}`);

test("their addresses are announced one by one, over restarts too, until the last is gone", async () => {
  writeNodes(1, 2);
  pair.start(0);
  const other = pair.start(1);
  await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
  const a = await call("ADD", "a");
  const b = await call("ADD", "b");
  await expect.poll(() => reached([...a, ...b]), within).toEqual([true, true, true, true]);
  const { stdout } = await pair.podlane(0, "pods");
  expect(stdout.split("\n").map(line => line.replace(/pl[0-9a-f]{12}/, "HOST").replace(/ +/g, " "))).toEqual([
    "POD INTERFACE ADDRESSES MODE NODE SIDE STATE FOR",
    expect.stringMatching(`^container a eth0 ${a.join(", ")} bridge HOST attached \\d+ s$`),
    expect.stringMatching(`^container b eth0 ${b.join(", ")} bridge HOST attached \\d+ s$`),
    "",
  ]);

  writeNodes(7, 2);
  await expect.poll(routes, within).toEqual(expect.arrayContaining(["10.244.7.0/24", "fd00:7::/64", ...a, ...b]));
  expect(routes()).not.toContain("10.244.1.0/24");
  expect(reached([...a, ...b])).toEqual([true, true, true, true]);
  expect(await about()).toEqual([
    `warning: 4 pod addresses of a former pod subnet, ${a[0]}, ${b[0]}, ${a[1]} and 1 more: each is announced by itself until it is gone`,
  ]);
  const c = await call("ADD", "c");
  expect(c[0]).toMatch(/^10\.244\.7\./);
  await expect.poll(() => reached(c), within).toEqual([true, true]);

  // The ledger knows here, the last plan there.
  other.process.kill("SIGKILL");
  await other.ended;
  inNetns(netnsOf(1), "ip", "route", "flush", "proto", "201");
  inNetns(netnsOf(1), "ip", "-6", "route", "flush", "proto", "201");
  pair.start(1);
  await expect.poll(routes, within).toEqual(expect.arrayContaining([...a, ...b]));
  expect(reached([...a, ...b])).toEqual([true, true, true, true]);

  await call("DEL", "a");
  await expect.poll(routes, within).not.toContain(a[0]);
  await expect.poll(routes, within).not.toContain(a[1]);
  expect(reached(b)).toEqual([true, true]);
  expect(await about()).toEqual([expect.stringContaining(`2 pod addresses of a former pod subnet, ${b[0]}, ${b[1]}: `)]);
  await call("DEL", "b");
  await expect.poll(about, within).toEqual([]);
  await expect.poll(() => routes().filter(dst => /\.1\.|:1:/.test(dst)), within).toEqual([]);
}, 90_000);

test("what another node has now is not announced, and the problem names that node", async () => {
  writeNodes(1, 2);
  const agent = pair.start(0);
  pair.start(1);
  await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
  const a = await call("ADD", "a");
  writeNodes(7, 2);
  await expect.poll(routes, within).toEqual(expect.arrayContaining(a));
  // A restarted agent knows by its ledger.
  agent.process.kill("SIGKILL");
  await agent.ended;
  pair.start(0);
  await expect.poll(about, within).toEqual([expect.stringMatching(/^warning: 2 pod addresses /)]);
  expect(reached(a)).toEqual([true, true]);

  writeNodes(7, 1);
  await expect
    .poll(about, within)
    .toEqual([
      `error: 2 pod addresses of a former pod subnet, ${a.join(", ")}: node node2 has 10.244.1.0/24, fd00:1::/64 now, so they are cut off from all other nodes, and this one from pods of that node`,
    ]);
  await expect.poll(() => routes().filter(dst => a.includes(dst)), within).toEqual([]);
  writeNodes(undefined, 2);
  await expect.poll(routes, within).toEqual(expect.arrayContaining(a));
  expect(reached(a)).toEqual([true, true]);
  await call("DEL", "a");
  await expect.poll(about, within).toEqual([]);
}, 90_000);
