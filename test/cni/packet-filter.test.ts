/** What the agent keeps in nftables for pods, through the life of a pod and of the agent. */
import { afterEach, beforeAll, expect, test } from "vitest";
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
  const before = [rules(node, "bridge"), rules(node, "inet")].map(text => text.replace(/packets.*/g, ""));
  await node.kill();
  await node.start();
  expect(await node.call("DEL", { container: "b", netns: b })).toMatchObject({ status: 0 });
  await until("the other pod's rules are gone", () => rules(node, "bridge").match(/chain spoof-pl/g)?.length === 1);
  expect(rules(node, "inet").replace(/packets.*/g, "")).toBe(before[1]);
  expect(before[0]).toContain(rules(node, "bridge").match(/ether saddr != .*/)![0]);
  expect(await node.call("DEL", { container: "a", netns: a })).toMatchObject({ status: 0 });
  await until("all is gone", () => inNetns(node.netns, "nft", "list", "tables").stdout.includes("podlane") === false);
}, 60_000);

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
