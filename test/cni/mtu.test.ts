/** The MTU of pods: by which interface it goes, below what it never goes, and what runs follows. Needs root on Linux. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { basename } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { pings, TestNode } from "./harness.ts";

let node: TestNode;
beforeEach(ctx => {
  if (process.getuid?.() !== 0) ctx.skip("network namespaces need root");
});
afterEach(() => node?.close());

const ip = (...words: string[]) => node.exec("ip", ...words);
const mtuOf = (link: string, netns?: string): number => {
  const words = ["-j", "link", "show", "dev", link];
  const text = netns ? node.exec("nsenter", `--net=${netns}`, "ip", ...words) : ip(...words);
  return JSON.parse(text)[0].mtu;
};

/** A node whose addresses are on up0, and whose default route goes out by other0. */
async function start(plan: Partial<TestNode["plan"]> = {}, uplink = 1500): Promise<void> {
  node = new TestNode({ nodeAddresses: ["192.0.2.1", "2001:db8::1"], ...plan });
  for (const [name, mtu] of [
    ["up0", uplink],
    ["other0", 1400],
  ] as const) {
    ip("link", "add", name, "type", "veth", "peer", "name", `${name}-far`);
    ip("link", "set", `${name}-far`, "up");
    ip("link", "set", name, "up");
    // IPv6 addresses cannot be on a link below 1280 octets.
    if (name === "up0") {
      ip("address", "add", "192.0.2.1/24", "dev", name);
      ip("address", "add", "2001:db8::1/64", "dev", name, "nodad");
    } else {
      ip("address", "add", "198.51.100.1/24", "dev", name);
      ip("route", "add", "default", "via", "198.51.100.2", "dev", name);
    }
    ip("link", "set", name, "mtu", String(mtu));
  }
  await node.start();
}

async function add(container: string): Promise<{ netns: string; addresses: string[]; host: string }> {
  const netns = node.pod();
  const { json, status, stdout } = await node.call("ADD", { container, netns });
  expect(status, stdout).toBe(0);
  return { netns, addresses: json.ips.map(({ address }: { address: string }) => address), host: json.interfaces[1].name };
}

describe("auto", () => {
  test("is that of the interface with the node's addresses, not of the default route", async () => {
    await start({}, 1450);
    const pod = await add("a");
    expect([mtuOf("podlane0"), mtuOf(pod.host), mtuOf("eth0", pod.netns)]).toEqual([1450, 1450, 1450]);
    expect(await node.look()).toEqual([]);
  });

  test("is that of the default route where the node's addresses are on a loopback", async () => {
    await start({ nodeAddresses: ["203.0.113.1"] });
    ip("address", "add", "203.0.113.1/32", "dev", "lo");
    await node.look();
    expect(mtuOf("podlane0")).toBe(1400);
  });

  test("leaves room for a tunnel, and running pods follow when there is one", async () => {
    await start();
    const pod = await add("a");
    for (const [encapsulation, mtu] of [
      [50, 1450],
      [70, 1430],
      [undefined, 1500],
    ] as const) {
      expect(await node.setPlan({ encapsulation })).toEqual([]);
      expect([mtuOf("podlane0"), mtuOf(pod.host), mtuOf("eth0", pod.netns)]).toEqual([mtu, mtu, mtu]);
    }
  });

  test("running pods follow, up and down, both ends, and go on answering", async () => {
    await start();
    const [a, b] = [await add("a"), await add("b")];
    for (const mtu of [1380, 9000, 1500]) {
      ip("link", "set", "up0", "mtu", String(mtu));
      expect(await node.look()).toEqual([]);
      for (const pod of [a, b]) expect([mtuOf("podlane0"), mtuOf(pod.host), mtuOf("eth0", pod.netns)]).toEqual([mtu, mtu, mtu]);
      for (const address of [...b.addresses, "10.77.0.1", "fd77::1"]) expect(pings(a.netns, address), address).toBe(true);
    }
  });
});

describe("below 1280 octets", () => {
  test("pods with IPv6 stay at 1280 and a problem says so; they go on answering, new ones come, and all follows when it is over", async () => {
    await start();
    const a = await add("a");
    ip("link", "set", "up0", "mtu", "1000");
    expect(await node.look()).toEqual([
      {
        severity: "warning",
        reason: "MTUTooLarge",
        field: "mtu",
        message:
          "pods have an MTU of 1280, as IPv6 needs it, and up0, by which they reach other nodes, has 1000: larger packets are fragmented, refused or lost",
        remedy: expect.stringContaining("raise the MTU of up0 to 1280 at least"),
      },
    ]);
    const b = await add("b");
    for (const address of [...b.addresses, "10.77.0.1", "fd77::1"]) expect(pings(a.netns, address), address).toBe(true);
    expect([mtuOf("podlane0"), mtuOf("eth0", a.netns), mtuOf("eth0", b.netns)]).toEqual([1280, 1280, 1280]);
    ip("link", "set", "up0", "mtu", "1500");
    // Its IPv6 address went with IPv6; whoever gave it gives it again.
    expect(await node.look()).toEqual([]);
    expect([mtuOf("podlane0"), mtuOf("eth0", a.netns), mtuOf("eth0", b.netns)]).toEqual([1500, 1500, 1500]);
  });

  test("a bridge that was taken there loses its gateways, and gets them back with its MTU", async () => {
    await start();
    const a = await add("a");
    ip("link", "set", "podlane0", "mtu", "1000");
    const b = await add("b");
    for (const address of [...b.addresses, "10.77.0.1", "fd77::1"]) expect(pings(a.netns, address), address).toBe(true);
  });

  test("pods with IPv4 alone follow further down", async () => {
    await start({ podCidrs: ["10.77.0.0/24"] });
    const a = await add("a");
    ip("link", "set", "up0", "mtu", "1000");
    expect(await node.look()).toEqual([]);
    expect([mtuOf("podlane0"), mtuOf("eth0", a.netns), pings(a.netns, "10.77.0.1")]).toEqual([1000, 1000, true]);
  });
});

test("an MTU above that of the uplink is a problem that names both", async () => {
  await start({ mtu: 9000 });
  expect(await node.look()).toMatchObject([
    {
      severity: "warning",
      field: "mtu",
      message: expect.stringMatching(/^pods have an MTU of 9000, as spec\.mtu .*, and up0, .*, has 1500/),
    },
  ]);
  ip("link", "set", "up0", "mtu", "9000");
  expect(await node.look()).toEqual([]);
  const [problem] = await node.setPlan({ encapsulation: 50 });
  expect(problem.message).toMatch(/has 9000, of which a tunnel takes 50: larger packets/);
  expect(problem.remedy).toMatch(/set 8950 at most/);
});

test("a pod whose namespace cannot be entered is a problem that names its interface", async () => {
  await start();
  const a = await add("a");
  // The namespace lives on without a name.
  const holder = spawn("nsenter", [`--net=${a.netns}`, "sleep", "60"]);
  onTestFinished(() => void holder.kill());
  await once(holder, "spawn");
  await expect.poll(() => execFileSync("ip", ["netns", "pids", basename(a.netns)], { encoding: "utf8" })).not.toBe("");
  execFileSync("ip", ["netns", "delete", basename(a.netns)]);
  ip("link", "set", "up0", "mtu", "1400");
  expect(await node.look()).toMatchObject([{ severity: "warning", field: "mtu", message: expect.stringContaining(a.host) }]);
});
