/** Packet filters that drop what a node passes on: our rules where they help, the chain's name where they do not. Traffic to beyond the node. */
import { execFileSync, spawnSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Pair } from "../../agent/testing/agents.ts";
import { pings, requireRoot, TestNode, until } from "./harness.ts";

const lacks = (program: string) => spawnSync(program, ["--version"]).error !== undefined;

let node: TestNode;
let outside: string;
let pod: string;
let addresses: string[];
beforeEach(async ctx => {
  requireRoot();
  if (lacks("nft")) ctx.skip("nft is not installed");
  node = new TestNode();
  outside = node.pod("outside");
  node.exec("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", outside.split("/").at(-1)!);
  const at = (netns: string, ...args: string[]) => node.exec("nsenter", `--net=${netns}`, "ip", ...args);
  for (const [netns, number] of [
    [node.netns, 1],
    [outside, 2],
  ] as const) {
    at(netns, "address", "add", `192.0.2.${number}/24`, "dev", "eth0");
    at(netns, "address", "add", `2001:db8::${number}/64`, "dev", "eth0", "nodad");
    at(netns, "link", "set", "eth0", "up");
  }
  at(outside, "route", "add", "10.77.0.0/24", "via", "192.0.2.1");
  at(outside, "route", "add", "fd77::/64", "via", "2001:db8::1");
});
afterEach(() => node?.close());

async function attach(): Promise<void> {
  await node.start();
  pod = node.pod();
  const { status, json } = await node.call("ADD", { container: "a", netns: pod });
  expect(status).toBe(0);
  addresses = json.ips.map(({ address }: { address: string }) => address);
}

const passes = () => [...addresses.map(address => pings(outside, address)), pings(pod, "192.0.2.2"), pings(pod, "2001:db8::2")];
const all = [true, true, true, true];
const problems = async () => (await node.problems()).filter(({ field }) => field === "FORWARD").map(({ message }) => message);
const ruleset = () => node.exec("nft", "list", "ruleset");
const rules = (command: string) => node.exec(command, "-S", "FORWARD").trim().split("\n").slice(1);
const ours = ["-i", "-o"].map(direction => `-A FORWARD ${direction} podlane0 -m comment --comment "podlane pods" -j ACCEPT`);

test("nothing of ours is in the ruleset where nothing drops", async () => {
  await attach();
  await node.sweep();
  expect([passes(), ruleset(), await problems()]).toEqual([all, "", []]);
});

describe.each([["-nft"], ["-legacy"]])("iptables%s", variant => {
  const [four, six] = [`iptables${variant}`, `ip6tables${variant}`];
  beforeEach(ctx => {
    for (const command of [four, six]) {
      if (lacks(command)) ctx.skip(`${command} is not installed`);
      const { status, stderr } = spawnSync("nsenter", [`--net=${node.netns}`, command, "-P", "FORWARD", "DROP"], { encoding: "utf8" });
      if (status !== 0) ctx.skip(`${command} does not work here: ${stderr}`);
    }
  });

  test("policy DROP: rules at the end accept pods, a problem names the chain, and both go with the policy", async () => {
    node.exec(four, "-A", "FORWARD", "-s", "198.51.100.0/24", "-j", "DROP");
    await attach();
    await until("the rules", () => rules(six).length === 2 && rules(four).length === 3);
    expect([passes(), rules(four), rules(six)]).toEqual([all, ["-A FORWARD -s 198.51.100.0/24 -j DROP", ...ours], ours]);
    await until("the problems", async () => (await problems()).length === 2);
    expect(await problems()).toEqual([
      expect.stringContaining(
        `the chain FORWARD of ${four} (IPv4, table filter) drops what no rule accepts (policy DROP); podlane added rules`,
      ),
      expect.stringContaining(`the chain FORWARD of ${six} (IPv6, table filter)`),
    ]);
    expect((await node.call("STATUS")).status).toBe(0);
    // Once, also by the next agent; and put back when somebody flushes them.
    await node.kill();
    await node.start();
    await node.sweep();
    expect(rules(six)).toEqual(ours);
    node.exec(six, "-F", "FORWARD");
    await node.sweep();
    expect(rules(six)).toEqual(ours);
    // Of another bridge.
    await node.setPlan({ bridgeName: "pods1" });
    await until("rules for the other bridge", () => rules(six).join() === ours.join().replaceAll("podlane0", "pods1"));
    // Its hardware address is another, which pods that remember the former one find out in their own time.
    await until("traffic over it", () => {
      node.exec("nsenter", `--net=${pod}`, "ip", "neighbour", "flush", "dev", "eth0");
      return passes().every(Boolean);
    });

    // Pods on a bridge stay there; new ones have links of their own.
    await node.setPlan({ mode: "routed" });
    await until("rules for both kinds", () => rules(six).length === 4 && rules(six).join().includes("-i pl+ -m comment"));

    for (const command of [four, six]) node.exec(command, "-P", "FORWARD", "ACCEPT");
    await node.sweep();
    expect([rules(four), rules(six), await problems()]).toEqual([["-A FORWARD -s 198.51.100.0/24 -j DROP"], [], []]);
  }, 60_000);

  test("a node that leaves takes its rules back", async () => {
    await attach();
    await until("the rules", () => rules(four).length === 2 && rules(six).length === 2);
    await node.takeBack();
    await node.sweep();
    expect([rules(four), rules(six)]).toEqual([[], []]);
  });
});

test("podlane leave takes the rules back, a restart does not", async ctx => {
  if (lacks("iptables-nft")) ctx.skip("iptables-nft is not installed");
  const pair = new Pair();
  const inFirst = (...words: string[]) => execFileSync("ip", ["netns", "exec", pair.names[0], ...words], { encoding: "utf8" });
  try {
    inFirst("iptables-nft", "-P", "FORWARD", "DROP");
    const first = pair.start(0);
    const present = () => inFirst("iptables-nft", "-S", "FORWARD").includes("podlane pods");
    await until("the rules", present);
    first.process.kill("SIGTERM");
    expect([await first.ended, present()]).toEqual([0, true]);
    const second = pair.start(0);
    await until("an answer", async () => (await pair.podlane(0, "leave")).status === 0);
    expect([await second.ended, present()]).toEqual([0, false]);
  } finally {
    await pair.close();
  }
}, 60_000);

test("a chain of nftables that drops is named, and nothing is added; a rule about the bridge ends the problem", async () => {
  node.exec("nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 10; policy drop; }");
  const before = ruleset();
  await attach();
  await node.sweep();
  expect(await problems()).toEqual([
    expect.stringContaining(
      "the nftables chain pass of table inet fw (hook forward, priority 10) drops what no rule accepts and has none about podlane0: pods reach nothing beyond",
    ),
  ]);
  expect([passes(), ruleset()]).toEqual([[false, false, false, false], before]);
  node.exec("nft", 'add rule inet fw pass iifname "podlane0" accept; add rule inet fw pass oifname "podlane0" accept');
  await node.sweep();
  expect([passes(), await problems()]).toEqual([all, []]);
}, 60_000);
