/** The node's side of the pods when others change it: everything is put back, and what no range explains goes. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { pings, TestNode } from "./harness.ts";

let node: TestNode;
beforeEach(async ctx => {
  if (process.getuid?.() !== 0) ctx.skip("network namespaces need root");
  node = new TestNode();
  await node.start();
});
afterEach(() => node?.close());

const addresses = (link: string) =>
  (JSON.parse(node.exec("ip", "-j", "address", "show", "dev", link))[0].addr_info as { local: string; prefixlen: number; scope: string }[])
    .filter(({ scope }) => scope === "global")
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
    .sort();
const sysctl = (name: string, value?: string) =>
  value === undefined ? node.exec("cat", `/proc/sys/${name}`).trim() : node.exec("sh", "-c", `echo ${value} > /proc/sys/${name}`);
const links = () => (JSON.parse(node.exec("ip", "-j", "link")) as { ifname: string }[]).map(({ ifname }) => ifname);

async function add(container: string): Promise<{ netns: string; addresses: string[]; host: string }> {
  const netns = node.pod();
  const { json, status, stdout } = await node.call("ADD", { container, netns });
  expect(status, stdout).toBe(0);
  return { netns, addresses: json.ips.map(({ address }: { address: string }) => address), host: json.interfaces[1].name };
}

describe("what others undo", () => {
  test("each property of the bridge, of its ports and of forwarding is put back, and pods answer again", async () => {
    const [a, b] = [await add("a"), await add("b")];
    const undo: [what: string, undo: () => void][] = [
      ["the bridge is down", () => node.exec("ip", "link", "set", "podlane0", "down")],
      ["its addresses are flushed", () => node.exec("ip", "address", "flush", "dev", "podlane0")],
      ["its hardware address is another", () => node.exec("ip", "link", "set", "podlane0", "address", "02:00:00:00:00:01")],
      ["a port has no master", () => node.exec("ip", "link", "set", a.host, "nomaster")],
      ["a port is down", () => node.exec("ip", "link", "set", b.host, "down")],
      ["the bridge is gone", () => node.exec("ip", "link", "delete", "podlane0")],
    ];
    for (const [what, change] of undo) {
      change();
      expect(await node.look(), what).toEqual([]);
      for (const address of [...b.addresses, "10.77.0.1", "fd77::1"]) expect(pings(a.netns, address), `${what}: ${address}`).toBe(true);
    }
    sysctl("net/ipv4/ip_forward", "0");
    sysctl("net/ipv6/conf/all/forwarding", "0");
    expect(await node.look()).toEqual([]);
    expect([sysctl("net/ipv4/ip_forward"), sysctl("net/ipv6/conf/all/forwarding")]).toEqual(["1", "1"]);
  }, 60_000);

  test("a bridge that was adopted listens to no router advertisement, and a card that comes late goes on listening", async () => {
    sysctl("net/ipv6/conf/podlane0/accept_ra", "2");
    node.exec("ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1");
    expect(sysctl("net/ipv6/conf/late0/accept_ra")).toBe("1");
    await node.look();
    expect([sysctl("net/ipv6/conf/podlane0/accept_ra"), sysctl("net/ipv6/conf/late0/accept_ra")]).toEqual(["0", "2"]);
    // Also before an ADD, without a look at the whole.
    sysctl("net/ipv6/conf/podlane0/accept_ra", "1");
    await add("a");
    expect(sysctl("net/ipv6/conf/podlane0/accept_ra")).toBe("0");
  });

  test("STATUS tells of what cannot be put back, and of nothing once it can", async () => {
    expect((await node.call("STATUS")).status).toBe(0);
    node.exec("ip", "link", "delete", "podlane0");
    node.exec("ip", "link", "add", "podlane0", "type", "veth", "peer", "name", "other");
    const { json, status } = await node.call("STATUS");
    expect([status, json.code, json.msg]).toEqual([1, 50, expect.stringContaining("podlane0 (veth) that podlane did not make")]);
    node.exec("ip", "link", "delete", "podlane0");
    expect((await node.call("STATUS")).status).toBe(0);
    expect(addresses("podlane0")).toEqual(["10.77.0.1/24", "fd77::1/64"]);
  });
});

describe("what no range explains", () => {
  test("the gateway of a former range goes at once where it has no pods, also after a restart and with a lost ledger", async () => {
    await node.setPlan({ podCidrs: ["10.78.0.0/24"] });
    expect(addresses("podlane0")).toEqual(["10.78.0.1/24"]);
    node.exec("ip", "address", "add", "10.79.0.1/24", "dev", "podlane0");
    await node.kill();
    node.exec("rm", "-rf", node.stateDir);
    await node.start();
    expect(addresses("podlane0")).toEqual(["10.78.0.1/24"]);
    await node.setPlan({ podCidrs: [] });
    expect(addresses("podlane0")).toEqual([]);
  });

  test("the gateway of a range with pods stays until the last is gone", async () => {
    const pod = await add("a");
    expect(await node.setPlan({ podCidrs: ["10.78.0.0/24"] })).toEqual([]);
    expect(addresses("podlane0")).toEqual(["10.77.0.1/24", "10.78.0.1/24", "fd77::1/64"]);
    expect((await node.call("DEL", { container: "a", netns: pod.netns })).status).toBe(0);
    expect(addresses("podlane0")).toEqual(["10.78.0.1/24"]);
    expect(await node.look()).toEqual([]);
  });

  test("a bridge of another name takes the ports over, and the former one goes", async () => {
    const [a, b] = [await add("a"), await add("b")];
    const mac = (link: string) => JSON.parse(node.exec("ip", "-j", "link", "show", "dev", link))[0].address;
    const before = mac("podlane0");
    expect(await node.setPlan({ bridgeName: "pods1" })).toEqual([]);
    // Pods know their gateway by it, for a while without asking.
    expect(mac("pods1")).toBe(before);
    expect(links()).not.toContain("podlane0");
    expect(addresses("pods1")).toEqual(["10.77.0.1/24", "fd77::1/64"]);
    for (const address of [...b.addresses, "10.77.0.1", "fd77::1"]) expect(pings(a.netns, address)).toBe(true);
  });
});
