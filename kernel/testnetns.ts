/** For tests: namespaces of their own, and what ip(8) says about them, to compare with. */
import { execFileSync } from "node:child_process";
import { describe, onTestFinished } from "vitest";
import { hexOf } from "../net/octets.ts";
import { checkRequirements } from "./requirements.ts";
import { openRtnetlink, type RtnetlinkSocket } from "./rtnetlink.ts";

const problems = checkRequirements({ netAdmin: true, sysAdmin: true, links: ["veth", "bridge", "vxlan"] });
if (problems.length > 0) console.warn(`kernel tests are skipped: ${problems.join("; ")}`);

/** describe(), skipped with a printed reason where the kernel cannot be used. */
export const describeKernel = describe.skipIf(problems.length > 0);

export interface TestNetns {
  name: string;
  path: string;
  netlink: RtnetlinkSocket;
  /** Runs `ip -n NAME …`. */
  ip(command: string): string;
  /** `ip -j -d -n NAME …`, parsed. */
  json<T = Record<string, unknown>>(command: string): T[];
  /** Any program in the namespace. */
  run(file: string, args: readonly string[], input?: string): string;
}

let count = 0;

/** A new namespace with its loopback up, removed when the test has finished. */
export function testNetns(): TestNetns {
  const name = `pl-${process.pid}-k${count++}`;
  const run = (file: string, args: readonly string[], input?: string) => {
    const stdio = ["pipe" as const, "pipe" as const, "pipe" as const];
    return execFileSync(file, args, { encoding: "utf8", input, stdio, maxBuffer: 1 << 28 });
  };
  run("ip", ["netns", "add", name]);
  onTestFinished(() => {
    netlink.close();
    run("ip", ["netns", "delete", name]);
  });
  const path = `/run/netns/${name}`;
  const netlink = openRtnetlink({ netns: path });
  netlink.setLink(1, { up: true });
  return {
    name,
    path,
    netlink,
    ip: command => run("ip", ["-n", name, ...command.split(" ")]),
    json: command => JSON.parse(run("ip", ["-j", "-d", "-n", name, ...command.split(" ")]) || "[]"),
    run: (file, args, input) => run("ip", ["netns", "exec", name, file, ...args], input),
  };
}

/** A veth pair v0, v1 in the namespace, both up; v0 has 10.1.1.2/24 and fd00:1::2/64. Returns the index of v0. */
export function addVeth(netns: TestNetns): number {
  const { index } = netns.netlink.addLink({ kind: "veth", name: "v0", up: true, peer: { name: "v1" } });
  netns.ip("link set v1 up");
  netns.ip("addr add 10.1.1.2/24 dev v0");
  netns.ip("addr add fd00:1::2/64 dev v0 nodad");
  return index;
}

/** "02:00:00:00:00:01" as octets. */
export function mac(text: string): Uint8Array {
  return Uint8Array.from(text.split(":"), part => Number.parseInt(part, 16));
}

export function macText(octets: Uint8Array): string {
  return hexOf(octets, ":");
}
