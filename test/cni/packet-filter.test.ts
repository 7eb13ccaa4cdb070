/** What the agent keeps in nftables for pods, through the life of a pod and of the agent. */
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { afterEach, beforeAll, expect, onTestFinished, test } from "vitest";
import { inNetns, pings, requireRoot, TestNode, until } from "./harness.ts";

beforeAll(requireRoot);

const open: TestNode[] = [];
afterEach(async () => {
  for (const node of open.splice(0)) await node.close();
});

function unstarted(): TestNode {
  const node = new TestNode();
  open.push(node);
  node.options = { quarantine: 0, netfilter: true };
  return node;
}

async function start(): Promise<TestNode> {
  const node = unstarted();
  await node.start();
  return node;
}

const ports = (hostPort = 8080) => ({ config: { runtimeConfig: { portMappings: [{ hostPort, containerPort: 80, protocol: "tcp" }] } } });
/** Answers each connection with the address that it comes from. */
const SERVER = `require("net").createServer(socket => socket.on("error", () => {}).end(socket.remoteAddress + "\\n"))
  .listen(Number(process.argv[1]), () => console.log("ready"))`;

function serve(netns: string, port: number): Promise<void> {
  const child = spawn("nsenter", [`--net=${netns}`, process.execPath, "-e", SERVER, String(port)]);
  onTestFinished(() => void child.kill("SIGKILL"));
  return new Promise((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("exit", code => reject(new Error(`the server ended with ${code}`)));
  });
}

/** What the server says; "" where nobody answers. */
function ask(netns: string, address: string, port: number): string {
  return inNetns(netns, "timeout", "3", "bash", "-c", `exec 3<>/dev/tcp/${address}/${port} && head -1 <&3`).stdout.trim();
}

/** With handles, which tell a rule that was written again. */
const rules = (node: TestNode, family: string) => inNetns(node.netns, "nft", "-a", "list", "table", family, "podlane").stdout;

test("a pod's rules come with it, outlive the agent untouched, and go with it", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  const added = await node.call("ADD", { container: "a", netns: a, ...ports() });
  expect(added).toMatchObject({ status: 0 });
  const [, host, inside] = added.json.interfaces;
  expect(rules(node, "bridge")).toContain(`chain spoof-${host.name}`);
  expect(rules(node, "bridge")).toContain(`ether saddr != ${inside.mac}`);
  expect(rules(node, "inet")).toContain("tcp . 8080 : 10.77.0.2");
  expect(inNetns(node.netns, "cat", "/proc/sys/net/ipv4/conf/podlane0/route_localnet").stdout.trim()).toBe("1");
  // An address that the pod takes by itself reaches nobody.
  expect(await node.call("ADD", { container: "b", netns: b })).toMatchObject({ status: 0 });
  inNetns(a, "ip", "addr", "add", "10.77.0.99/24", "dev", "eth0");
  const from = (address: string) => inNetns(a, "ping", "-c", "1", "-W", "1", "-I", address, "10.77.0.3").status === 0;
  expect([from("10.77.0.2"), from("10.77.0.99"), pings(b, "fd77::2")]).toEqual([true, false, true]);
  await until("what was dropped is counted", async () => (await node.spoofed()).source >= 1);
  const before = [rules(node, "bridge"), rules(node, "inet")].map(text => text.replace(/packets.*/g, ""));
  await node.kill();
  await node.start();
  expect(await node.call("DEL", { container: "b", netns: b })).toMatchObject({ status: 0 });
  await until("the other pod's rules are gone", () => rules(node, "bridge").match(/chain spoof-pl/g)?.length === 1);
  expect(rules(node, "inet").replace(/packets.*/g, "")).toBe(before[1]);
  expect(before[0]).toContain(rules(node, "bridge").match(/ether saddr != .*/)![0]);
  expect(await node.call("DEL", { container: "a", netns: a })).toMatchObject({ status: 0 });
  await until("all of pods is gone", () => inNetns(node.netns, "nft", "list", "tables").stdout.includes("inet podlane") === false);
  expect(rules(node, "bridge")).not.toContain("spoof-pl");
  expect(inNetns(node.netns, "cat", "/proc/sys/net/ipv4/conf/podlane0/route_localnet").stdout.trim()).toBe("0");
}, 60_000);

test("pods are kept from the node's loopback addresses also when the last one with ports went while no agent ran", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  expect(await node.call("ADD", { container: "a", netns: a, ...ports() })).toMatchObject({ status: 0 });
  expect(await node.call("ADD", { container: "b", netns: b })).toMatchObject({ status: 0 });
  await node.kill();
  node.removePod(a);
  await until("its link is gone", () => inNetns(node.netns, "ip", "link").stdout.match(/ pl[0-9a-f]{12}@/g)?.length === 1);
  await node.start();
  await until("its ports are gone", () => !rules(node, "inet").includes("chain port-prerouting"));
  expect(rules(node, "inet")).toMatch(/iifname @port-links ip daddr 127.0.0.0\/8 drop/);
}, 60_000);

for (const mode of ["bridge", "routed"] as const) {
  test(`in mode ${mode} a pod that was taken over from its link, after the ledger was lost, is guarded still`, async () => {
    const node = unstarted();
    node.plan = { ...node.plan, mode };
    await node.start();
    const [a, b] = [node.pod(), node.pod()];
    const added = await node.call("ADD", { container: "a", netns: a });
    expect(added).toMatchObject({ status: 0 });
    expect(await node.call("ADD", { container: "b", netns: b })).toMatchObject({ status: 0 });
    await node.kill();
    rmSync(node.stateDir, { recursive: true });
    node.exec("nft", "flush", "ruleset");
    await node.start();
    const inside = added.json.interfaces.at(-1);
    const table = mode === "bridge" ? "bridge" : "inet";
    await until("both are guarded", () => rules(node, table).match(/chain spoof-pl/g)?.length === 2);
    expect(rules(node, table)).toContain(`ether saddr != ${inside.mac}`);
    inNetns(a, "ip", "addr", "add", "10.77.0.99/32", "dev", "eth0");
    const from = (address: string) => inNetns(a, "ping", "-c", "1", "-W", "1", "-I", address, "10.77.0.3").status === 0;
    expect([from("10.77.0.2"), from("10.77.0.99")]).toEqual([true, false]);
    expect((await node.attachments()).map(one => [one.mode, one.mac])).toEqual([
      [mode, undefined],
      [mode, undefined],
    ]);
  }, 60_000);
}

test("where the ledger could be read late, an ADD takes nothing from the pods that run", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  const added = await node.call("ADD", { container: "a", netns: a, ...ports() });
  expect(added).toMatchObject({ status: 0 });
  await node.kill();
  node.options = { ...node.options, netfilter: "late" };
  await node.start();
  expect(await node.call("ADD", { container: "b", netns: b, ...ports(8081) })).toMatchObject({ status: 0 });
  const [, host] = added.json.interfaces;
  expect(rules(node, "bridge")).toMatch(new RegExp(`"${host.name}" : goto`));
  expect(rules(node, "inet")).toContain("tcp . 8080 : 10.77.0.2");
}, 60_000);

for (const mode of ["bridge", "routed"] as const) {
  test(`in mode ${mode} a port of the node leads to its pod from outside, from the node, from another pod and from the pod itself`, async () => {
    const node = unstarted();
    node.plan = { ...node.plan, mode };
    const [a, b, outside] = [node.pod(), node.pod(), node.pod("outside")];
    node.exec("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", outside.split("/").at(-1)!);
    for (const [netns, device, addresses] of [
      [node.netns, "up0", ["192.0.2.1/24", "2001:db8::1/64"]],
      [outside, "eth0", ["192.0.2.9/24", "2001:db8::9/64"]],
    ] as const) {
      for (const address of addresses)
        inNetns(netns, "ip", "addr", "add", address, "dev", device, ...(address.includes(":") ? ["nodad"] : []));
      inNetns(netns, "ip", "link", "set", device, "up");
    }
    inNetns(outside, "ip", "route", "add", "default", "via", "192.0.2.1");
    inNetns(outside, "ip", "-6", "route", "add", "default", "via", "2001:db8::1");
    await node.start();
    expect(await node.call("ADD", { container: "a", netns: a, ...ports() })).toMatchObject({ status: 0 });
    expect(await node.call("ADD", { container: "b", netns: b })).toMatchObject({ status: 0 });
    await serve(a, 80);
    for (const [from, address] of [
      [outside, "192.0.2.1"],
      [outside, "2001:db8::1"],
      [node.netns, "192.0.2.1"],
      [node.netns, "2001:db8::1"],
      [node.netns, "127.0.0.1"],
      [b, "192.0.2.1"],
      [b, "2001:db8::1"],
      [a, "192.0.2.1"],
      [a, "2001:db8::1"],
    ])
      expect([from, address, ask(from, address, 8080)]).toEqual([from, address, expect.stringMatching(/[.:]/)]);
    // Who asks keeps its address.
    expect([ask(outside, "192.0.2.1", 8080), ask(b, "192.0.2.1", 8080)]).toEqual(["::ffff:192.0.2.9", "::ffff:10.77.0.3"]);
  }, 60_000);
}

test("a port of the node is one pod's at a time", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  expect(await node.call("ADD", { container: "a", netns: a, ...ports() })).toMatchObject({ status: 0 });
  const refused = await node.call("ADD", { container: "b", netns: b, ...ports() });
  expect(refused.json).toMatchObject({ code: 11, msg: expect.stringContaining("tcp port 8080 leads to container a already") });
  expect(await node.call("DEL", { container: "a", netns: a })).toMatchObject({ status: 0 });
  expect(await node.call("ADD", { container: "b", netns: b, ...ports() })).toMatchObject({ status: 0 });
}, 60_000);

test("without nft pods are attached, but for those that want a port of the node", async () => {
  const node = unstarted();
  // Its mount namespace sees no later ones.
  const [a, b] = [node.pod(), node.pod()];
  await node.start('for nft in /usr/sbin/nft /sbin/nft /usr/bin/nft; do [ ! -e "$nft" ] || mount --bind /dev/null "$nft"; done');
  expect(await node.call("ADD", { container: "a", netns: a })).toMatchObject({ status: 0 });
  const refused = await node.call("ADD", { container: "b", netns: b, ...ports() });
  expect(refused.json).toMatchObject({ code: 102, msg: expect.stringContaining("hostPorts cannot be set up") });
  expect(inNetns(b, "ip", "link").stdout).not.toContain("eth0");
}, 60_000);
