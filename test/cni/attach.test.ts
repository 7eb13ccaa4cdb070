/** Pods attached through the executable, as a runtime does it, on a node that is a real network namespace. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { afterEach, beforeAll, expect, test } from "vitest";
import type { PodPlan } from "../../cni/types.ts";
import { inNetns, pings, requireRoot, TestNode, until } from "./harness.ts";

beforeAll(requireRoot);

const open: TestNode[] = [];
afterEach(async () => {
  for (const node of open.splice(0)) await node.close();
});

async function start(...args: ConstructorParameters<typeof TestNode>): Promise<TestNode> {
  const node = new TestNode(...args);
  open.push(node);
  await node.start();
  return node;
}

const ipJson = (netns: string, ...args: string[]) => JSON.parse(inNetns(netns, "ip", "-j", ...args).stdout || "[]");
const podLinks = (node: TestNode): string[] =>
  ipJson(node.netns, "link")
    .map((link: { ifname: string }) => link.ifname)
    .filter((name: string) => /^pl[0-9a-f]{12}$/.test(name));
const sysctl = (netns: string, name: string) => inNetns(netns, "cat", `/proc/sys/${name}`).stdout.trim();

test("two pods reach each other and the node, in both families", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  const added = await node.call("ADD", { container: "a", netns: a });
  expect(added).toMatchObject({ status: 0, stderr: "" });
  const other = await node.call("ADD", { container: "b", netns: b });
  for (const ip of other.json.ips) {
    expect(pings(a, ip.address)).toBe(true);
    expect(pings(node.netns, ip.address)).toBe(true);
    expect(pings(b, ip.gateway)).toBe(true);
  }
}, 60_000);

test("the result says what the kernel has", async () => {
  const node = await start();
  const pod = node.pod();
  const { json } = await node.call("ADD", { container: "a", netns: pod });
  const [inside] = ipJson(pod, "-d", "addr", "show", "eth0");
  const [host] = ipJson(node.netns, "-d", "link", "show", json.interfaces[1].name);
  const [bridge] = ipJson(node.netns, "-d", "addr", "show", "podlane0");
  expect(json.interfaces).toEqual([
    { name: "podlane0", mac: bridge.address, mtu: bridge.mtu },
    { name: host.ifname, mac: host.address, mtu: host.mtu },
    { name: "eth0", mac: inside.address, mtu: inside.mtu, sandbox: pod },
  ]);
  expect(json.ips).toEqual([
    { interface: 2, address: "10.77.0.2/24", gateway: "10.77.0.1" },
    { interface: 2, address: "fd77::2/64", gateway: "fd77::1" },
  ]);
  const globals = (link: { addr_info: { scope: string; local: string; prefixlen: number }[] }) =>
    link.addr_info.filter(({ scope }) => scope === "global").map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  expect(globals(inside)).toEqual(["10.77.0.2/24", "fd77::2/64"]);
  expect(globals(bridge)).toEqual(["10.77.0.1/24", "fd77::1/64"]);
  expect(ipJson(pod, "route", "show", "default")).toMatchObject([{ gateway: "10.77.0.1", dev: "eth0" }]);
  expect(ipJson(pod, "-6", "route", "show", "default")).toMatchObject([{ gateway: "fd77::1", dev: "eth0" }]);
  expect(ipJson(node.netns, "route", "show", "10.77.0.0/24")).toMatchObject([{ dev: "podlane0", protocol: "kernel", scope: "link" }]);
  expect(ipJson(node.netns, "-6", "route", "show", "fd77::/64")).toMatchObject([{ dev: "podlane0", protocol: "kernel" }]);
  expect(host).toMatchObject({
    master: "podlane0",
    ifalias: "podlane pod pods a eth0 10.77.0.2/24,fd77::2/64",
    linkinfo: { info_slave_data: { hairpin: true } },
  });
  expect(bridge.ifalias).toBe("podlane bridge");
  // Or an answer from pod to pod would not pass kube-proxy's rules.
  expect(bridge.linkinfo.info_data).toMatchObject({ nf_call_iptables: 1, nf_call_ip6tables: 1 });
  expect(ipJson(pod, "link", "show", "lo")[0].flags).toContain("UP");
  expect(sysctl(node.netns, "net/ipv4/ip_forward")).toBe("1");
  expect(sysctl(node.netns, "net/ipv6/conf/all/forwarding")).toBe("1");
  expect(sysctl(pod, "net/ipv6/conf/eth0/accept_ra")).toBe("0");
  expect(sysctl(pod, "net/ipv6/conf/eth0/accept_dad")).toBe("0");
  expect(sysctl(pod, "net/ipv4/conf/eth0/arp_notify")).toBe("1");
});

test("a pod reaches itself through an address that the node translates (hairpin), and not without hairpin", async () => {
  for (const hairpin of [true, false]) {
    const node = await start({ hairpin, podCidrs: ["10.77.0.0/24"] });
    const pod = node.pod();
    await node.call("ADD", { container: "a", netns: pod });
    // As a bridge with br_netfilter does for a Service: the frame comes back through the port it left by.
    node.exec(
      "nft",
      "add table bridge t; add chain bridge t pre { type filter hook prerouting priority -300; }; add rule bridge t pre ip daddr 10.77.0.99 ip daddr set 10.77.0.2 ip saddr set 10.77.0.99 ether saddr set 02:00:00:00:00:99 ether daddr set " +
        ipJson(pod, "link", "show", "eth0")[0].address,
    );
    inNetns(pod, "ip", "neigh", "add", "10.77.0.99", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent");
    expect(pings(pod, "10.77.0.99")).toBe(hairpin);
    await node.close();
  }
}, 60_000);

test("DEL removes everything, again and again, with and without the namespace", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  await node.call("ADD", { container: "a", netns: a });
  await node.call("ADD", { container: "b", netns: b });
  node.removePod(b);
  for (const round of [1, 2]) {
    expect(await node.call("DEL", { container: "a", netns: a, config: { prevResult: round } })).toMatchObject({ status: 0, stdout: "" });
    expect(await node.call("DEL", { container: "b", netns: b, config: { prevResult: { interfaces: 5 } } })).toMatchObject({
      status: 0,
      stdout: "",
    });
  }
  expect(await node.call("DEL", { container: "never" })).toMatchObject({ status: 0, stdout: "" });
  expect(await node.attachments()).toEqual([]);
  expect(podLinks(node)).toEqual([]);
  expect(ipJson(a, "link").map((link: { ifname: string }) => link.ifname)).not.toContain("eth0");
});

test("DEL of another network leaves the attachment alone", async () => {
  const node = await start();
  const pod = node.pod();
  const { json } = await node.call("ADD", { container: "a", netns: pod });
  expect(await node.call("DEL", { container: "a", netns: pod, config: { name: "other" } })).toMatchObject({ status: 0 });
  expect(podLinks(node)).toHaveLength(1);
  expect(await node.call("CHECK", { container: "a", netns: pod, config: { prevResult: json } })).toMatchObject({ status: 0 });
});

test("what ADD refuses, and that nothing is left of it", async () => {
  const node = await start();
  const pod = node.pod();
  inNetns(pod, "ip", "link", "add", "taken", "type", "bridge");
  const refused: [object, number, RegExp][] = [
    [{ netns: pod, ifname: "taken" }, 101, /has an interface taken already/],
    [{ netns: node.netns }, 4, /node's own network namespace/],
    [{ netns: "/run/netns/pl-gone" }, 4, /is not a network namespace, or is gone/],
    [{ netns: "/etc/passwd" }, 4, /is not a network namespace/],
    [{ netns: "/proc/1/ns/mnt" }, 4, /is not a network namespace/],
    [{ netns: pod, config: { runtimeConfig: { ips: ["10.1.1.1"] } } }, 7, /10.1.1.1 is not in the node's pod CIDRs/],
    [{ netns: pod, config: { runtimeConfig: { ips: ["10.77.0.1"] } } }, 7, /network, gateway or broadcast/],
    [{ netns: pod, config: { prevResult: { ips: 5 } } }, 7, /prevResult.ips/],
    [{ netns: pod, config: { ipam: { type: "host-local" } } }, 2, /"ipam"/],
    [{ netns: pod, stdin: "{" }, 6, /not JSON/],
    [{ netns: pod, config: { cniVersion: "0.2.0" } }, 1, /0.2.0/],
  ];
  for (const [call, code, text] of refused) {
    const outcome = await node.call("ADD", { container: "a", ...call });
    expect(outcome.status).toBe(1);
    expect(outcome.json).toMatchObject({ code, msg: expect.stringMatching(text) });
  }
  await node.call("ADD", { container: "a", netns: pod });
  expect(await node.call("ADD", { container: "a", netns: pod })).toMatchObject({ status: 1, json: { code: 101 } });
  expect(await node.call("ADD", { container: "b", netns: node.pod(), args: "IP=10.77.0.2" })).toMatchObject({
    status: 1,
    json: { code: 101, msg: expect.stringContaining("belongs to container a") },
  });
  expect(await node.attachments()).toHaveLength(1);
  expect(podLinks(node)).toHaveLength(1);
});

test("an ADD that finds a foreign bridge is rolled back, and works once that is gone", async () => {
  const node = await start({ podCidrs: ["10.77.0.0/24"] });
  const pod = node.pod();
  node.exec("ip", "link", "add", "blocker", "type", "bridge");
  node.exec("ip", "link", "set", "podlane0", "down");
  node.exec("ip", "link", "del", "podlane0");
  node.exec("ip", "link", "set", "blocker", "name", "podlane0");
  const outcome = await node.call("ADD", { container: "a", netns: pod });
  expect(outcome).toMatchObject({
    status: 1,
    json: {
      code: 102,
      msg: expect.stringContaining("podlane0 (bridge) that podlane did not make"),
      details: expect.stringContaining("remove or rename it"),
    },
  });
  expect(await node.attachments()).toEqual([]);
  expect(podLinks(node)).toEqual([]);
  node.exec("ip", "link", "del", "podlane0");
  expect(await node.call("ADD", { container: "a", netns: pod })).toMatchObject({ status: 0 });
});

test("address, hardware address and pod name as asked for", async () => {
  const node = await start();
  const pod = node.pod();
  const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;FOO=bar";
  const config = {
    runtimeConfig: { ips: ["10.77.0.200/24", "fd77::abcd"], mac: "02:11:22:33:44:55" },
    dns: { nameservers: ["10.96.0.10"] },
  };
  const { json } = await node.call("ADD", { container: "a", netns: pod, ifname: "net-1", args, config });
  expect(json.ips.map((ip: { address: string }) => ip.address)).toEqual(["10.77.0.200/24", "fd77::abcd/64"]);
  expect(json.interfaces[2]).toMatchObject({ name: "net-1", mac: "02:11:22:33:44:55" });
  expect(json.dns).toEqual({ nameservers: ["10.96.0.10"] });
  expect(ipJson(pod, "link", "show", "net-1")[0].address).toBe("02:11:22:33:44:55");
  expect(await node.attachments()).toMatchObject([
    { pod: { namespace: "default", name: "web-0" }, addresses: ["10.77.0.200/24", "fd77::abcd/64"], state: "attached" },
  ]);
});

test("a second interface keeps the default route of the first", async () => {
  const node = await start();
  const pod = node.pod();
  await node.call("ADD", { container: "a", netns: pod });
  const second = await node.call("ADD", { container: "a", netns: pod, ifname: "net1", config: { name: "second" } });
  expect(second.json).toMatchObject({ routes: [], ips: [{ address: "10.77.0.3/24" }, { address: "fd77::3/64" }] });
  expect(ipJson(pod, "route", "show", "default")).toMatchObject([{ dev: "eth0" }]);
  expect(await node.call("ADD", { container: "a", netns: pod, ifname: "net1", config: { name: "third" } })).toMatchObject({
    status: 1,
    json: { code: 101 },
  });
  // Nor is it missed there when the first goes.
  await node.call("DEL", { container: "a", netns: pod });
  const check = await node.call("CHECK", {
    container: "a",
    netns: pod,
    ifname: "net1",
    config: { name: "second", prevResult: second.json },
  });
  expect(check).toMatchObject({ status: 0, stdout: "" });
});

test("a container with an id as long as a file's name", async () => {
  const node = await start();
  const call = { container: "c".repeat(255), netns: node.pod() };
  const added = await node.call("ADD", call);
  expect(added).toMatchObject({ status: 0, json: { ips: [{ address: "10.77.0.2/24" }, { address: "fd77::2/64" }] } });
  expect(await node.call("CHECK", { ...call, config: { prevResult: added.json } })).toMatchObject({ status: 0 });
  await node.kill();
  // Too long for the queue: the runtime has to try again.
  expect(await node.call("DEL", call)).toMatchObject({
    status: 1,
    json: { code: 11, details: expect.stringContaining("could not be queued") },
  });
  await node.start();
  expect(await node.call("DEL", call)).toMatchObject({ status: 0 });
  expect(await node.attachments()).toEqual([]);
  expect(podLinks(node)).toEqual([]);
});

test("CHECK finds default routes that a later plugin moved to another table", async () => {
  const node = await start();
  const pod = node.pod();
  const { json: prevResult } = await node.call("ADD", { container: "a", netns: pod });
  for (const [family, gateway] of [
    ["-4", "10.77.0.1"],
    ["-6", "fd77::1"],
  ]) {
    inNetns(pod, "ip", family, "route", "add", "default", "via", gateway, "dev", "eth0", "table", "100");
    inNetns(pod, "ip", family, "route", "del", "default", "table", "main");
  }
  expect(await node.call("CHECK", { container: "a", netns: pod, config: { prevResult } })).toMatchObject({ status: 0 });
});

test("CHECK sees what differs and overlooks what others add", async () => {
  const node = await start();
  const pod = node.pod();
  const { json: prevResult } = await node.call("ADD", { container: "a", netns: pod });
  const check = () => node.call("CHECK", { container: "a", netns: pod, config: { prevResult } });
  expect(await check()).toMatchObject({ status: 0, stdout: "" });
  const host = prevResult.interfaces[1].name;
  inNetns(pod, "ip", "addr", "add", "192.0.2.1/32", "dev", "eth0");
  inNetns(pod, "ip", "route", "add", "198.51.100.0/24", "via", "10.77.0.1");
  inNetns(pod, "ip", "link", "set", "eth0", "mtu", "1400");
  expect(await check()).toMatchObject({ status: 0 });
  const faults: [() => void, RegExp, () => void][] = [
    [
      () => node.exec("ip", "link", "set", host, "nomaster"),
      /is not on the bridge podlane0/,
      () => node.exec("ip", "link", "set", host, "master", "podlane0"),
    ],
    [
      () => inNetns(pod, "ip", "route", "del", "default"),
      /no default route for IPv4/,
      () => inNetns(pod, "ip", "route", "add", "default", "via", "10.77.0.1"),
    ],
    [
      () => inNetns(pod, "ip", "addr", "del", "fd77::2/64", "dev", "eth0"),
      /has no address fd77::2\/64/,
      () => inNetns(pod, "ip", "addr", "add", "fd77::2/64", "dev", "eth0", "nodad"),
    ],
    [
      () => inNetns(pod, "ip", "link", "set", "eth0", "down"),
      /interface eth0 is down/,
      () => inNetns(pod, "ip", "link", "set", "eth0", "up"),
    ],
  ];
  for (const [breakIt, text, mend] of faults) {
    breakIt();
    expect((await check()).json).toMatchObject({ code: 100, msg: expect.stringMatching(text) });
    mend();
    // Taking a link down takes its IPv6 addresses and its routes.
    inNetns(pod, "ip", "addr", "replace", "fd77::2/64", "dev", "eth0", "nodad");
    for (const gateway of ["10.77.0.1", "fd77::1"]) inNetns(pod, "ip", "route", "replace", "default", "via", gateway);
    expect(await check()).toMatchObject({ status: 0 });
  }
  expect(await node.call("CHECK", { container: "a", netns: pod })).toMatchObject({
    json: { code: 7, msg: expect.stringContaining("prevResult") },
  });
  expect(await node.call("CHECK", { container: "z", netns: pod, config: { prevResult } })).toMatchObject({ json: { code: 3 } });
  const other = { ...prevResult, ips: [{ ...prevResult.ips[0], address: "10.77.0.9/24" }] };
  expect(await node.call("CHECK", { container: "a", netns: pod, config: { prevResult: other } })).toMatchObject({
    json: { code: 100, msg: expect.stringContaining("10.77.0.2/24") },
  });
  node.exec("ip", "link", "del", host);
  expect((await check()).json).toMatchObject({ code: 100, msg: expect.stringContaining(`${host} is gone`) });
});

test("50 ADDs and 50 DELs at once, two of them for the same attachment", async () => {
  const node = await start();
  const pods = Array.from({ length: 50 }, () => node.pod());
  const added = await Promise.all(pods.map((netns, i) => node.call("ADD", { container: `c${i}`, netns })));
  expect(added.map(({ status }) => status)).toEqual(pods.map(() => 0));
  const addresses = added.flatMap(({ json }) => json.ips.map((ip: { address: string }) => ip.address));
  expect(new Set(addresses).size).toBe(100);
  expect(podLinks(node)).toHaveLength(50);
  expect(pings(pods[0], added[49].json.ips[1].address)).toBe(true);
  const twice = await Promise.all([0, 0, ...pods.keys()].map(i => node.call("DEL", { container: `c${i}`, netns: pods[i] })));
  expect(twice.every(({ status }) => status === 0)).toBe(true);
  expect(await node.attachments()).toEqual([]);
  expect(podLinks(node)).toEqual([]);
}, 60_000);

test("of two ADDs at once for one attachment exactly one succeeds", async () => {
  const node = await start();
  const netns = node.pod();
  const outcomes = await Promise.all([0, 1].map(() => node.call("ADD", { container: "a", netns })));
  expect(outcomes.map(({ status }) => status).sort()).toEqual([0, 1]);
  expect(await node.attachments()).toHaveLength(1);
});

test("killed in the middle of many ADDs: the runtime's DELs are kept, and the next agent starts clean", async () => {
  const node = await start();
  const pods = Array.from({ length: 24 }, () => node.pod());
  const calls = pods.map((netns, i) => node.call("ADD", { container: `c${i}`, netns }));
  await until("the first attachments", () => podLinks(node).length >= 4);
  await node.kill();
  const outcomes = await Promise.all(calls);
  const kept = outcomes.map(({ status }, i) => ({ status, i })).filter(({ status }) => status === 0);
  const lost = outcomes.map(({ status }, i) => ({ status, i })).filter(({ status }) => status !== 0);
  expect(kept.length + lost.length).toBe(24);
  expect(lost.length).toBeGreaterThan(0);
  for (const { i } of lost) expect(outcomes[i].json).toMatchObject({ code: 11 });
  for (const { i } of lost) expect(await node.call("DEL", { container: `c${i}`, netns: pods[i] })).toMatchObject({ status: 0 });
  expect(fs.readdirSync(node.queue).sort()).toEqual(lost.map(({ i }) => `c${i}@eth0`).sort());
  await node.start();
  expect(await node.call("STATUS")).toMatchObject({ status: 0 });
  expect(fs.readdirSync(node.queue)).toEqual([]);
  expect((await node.attachments()).map(({ containerId }) => containerId).sort()).toEqual(kept.map(({ i }) => `c${i}`).sort());
  expect(podLinks(node)).toHaveLength(kept.length);
  for (const { i } of kept)
    expect(await node.call("CHECK", { container: `c${i}`, netns: pods[i], config: { prevResult: outcomes[i].json } })).toMatchObject({
      status: 0,
    });
  for (const { i } of lost) expect(await node.call("ADD", { container: `n${i}`, netns: pods[i] })).toMatchObject({ status: 0 });
  const addresses = (await node.attachments()).flatMap(found => found.addresses);
  expect(new Set(addresses).size).toBe(addresses.length);
}, 60_000);

test("a killed agent leaves pods connected, also while it is away", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  await node.call("ADD", { container: "a", netns: a });
  const { json } = await node.call("ADD", { container: "b", netns: b });
  await node.kill();
  expect(pings(a, json.ips[0].address)).toBe(true);
  expect(await node.call("STATUS")).toMatchObject({ status: 1, json: { code: 50 } });
  await node.start();
  expect(pings(a, json.ips[1].address)).toBe(true);
  expect(await node.attachments()).toHaveLength(2);
});

test("the start releases what died meanwhile and removes interfaces that nobody owns", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  await node.call("ADD", { container: "a", netns: a });
  await node.call("ADD", { container: "b", netns: b });
  await node.kill();
  const before = podLinks(node);
  node.removePod(a);
  await until("the pair to go with its namespace", () => podLinks(node).length === 1);
  node.exec("ip", "link", "add", "pl0123456789ab", "type", "veth", "peer", "name", "orphan");
  node.exec("ip", "link", "set", "pl0123456789ab", "alias", "podlane pod pods gone eth0 10.77.0.9/24");
  node.exec("ip", "link", "add", "pl0123456789ac", "type", "veth", "peer", "name", "foreign");
  await node.start();
  expect(await node.call("STATUS")).toMatchObject({ status: 0 });
  expect((await node.attachments()).map(({ containerId }) => containerId)).toEqual(["b"]);
  expect(podLinks(node).sort()).toEqual(["pl0123456789ac", ...before.filter(name => podLinks(node).includes(name))].sort());
  expect(podLinks(node)).toHaveLength(2);
});

test("after a reboot nothing of the boot before is held, though its paths exist again", async () => {
  const node = await start();
  const pod = node.pod("again");
  await node.call("ADD", { container: "a", netns: pod });
  await node.kill();
  // A reboot takes every namespace and link; the ledger and the paths are there again.
  node.removePod(pod);
  await until("the pair to go with its namespace", () => podLinks(node).length === 0);
  node.pod("again");
  node.options = { quarantine: 0, bootId: "the-next-boot" };
  await node.start();
  await node.call("STATUS");
  expect(await node.attachments()).toEqual([]);
});

test("a lost ledger is made again from the interfaces of running pods", async () => {
  const node = await start();
  const [a, b] = [node.pod(), node.pod()];
  await node.call("ADD", { container: "a", netns: a });
  await node.kill();
  fs.rmSync(path.join(node.stateDir, "ledger"));
  await node.start();
  expect(await node.call("STATUS")).toMatchObject({ status: 0 });
  expect(await node.attachments()).toMatchObject([
    { network: "pods", containerId: "a", ifname: "eth0", addresses: ["10.77.0.2/24", "fd77::2/64"] },
  ]);
  const { json } = await node.call("ADD", { container: "b", netns: b });
  expect(json.ips.map((ip: { address: string }) => ip.address)).toEqual(["10.77.0.3/24", "fd77::3/64"]);
  expect(await node.call("DEL", { container: "a" })).toMatchObject({ status: 0 });
  expect(podLinks(node)).toHaveLength(1);
});

test("GC: a list keeps what it names, no list or null what lives, an empty list nothing", async () => {
  const node = await start();
  const pods = [0, 1, 2, 3].map(() => node.pod());
  for (const [i, netns] of pods.entries()) await node.call("ADD", { container: `c${i}`, netns });
  const other = node.pod();
  await node.call("ADD", { container: "x", netns: other, config: { name: "other" } });
  const names = async () => (await node.attachments()).map(({ containerId }) => containerId).sort();
  const gc = (valid: unknown) => node.call("GC", { config: valid === undefined ? {} : { "cni.dev/valid-attachments": valid } });

  expect(await gc(undefined)).toMatchObject({ status: 0, stdout: "" });
  expect(await names()).toEqual(["c0", "c1", "c2", "c3", "x"]);
  const valid = [0, 1, 2].map(i => ({ containerID: `c${i}`, ifname: "eth0" }));
  expect(await gc(valid)).toMatchObject({ status: 0, stdout: "" });
  expect(await names()).toEqual(["c0", "c1", "c2", "x"]);
  node.removePod(pods[0]);
  await until("the pair to go with its namespace", () => podLinks(node).length === 3);
  expect(await gc(undefined)).toMatchObject({ status: 0 });
  expect(await names()).toEqual(["c1", "c2", "x"]);
  node.removePod(pods[1]);
  await until("the pair to go with its namespace", () => podLinks(node).length === 2);
  expect(await gc(null)).toMatchObject({ status: 0 });
  expect(await names()).toEqual(["c2", "x"]);
  expect(await gc([])).toMatchObject({ status: 0 });
  expect(await names()).toEqual(["x"]);
  expect(podLinks(node)).toHaveLength(1);
});

test("without a pod CIDR: STATUS says 50 and why, ADD says try again; then a CIDR comes", async () => {
  const node = await start({ podCidrs: [] });
  const netns = node.pod();
  expect(await node.call("STATUS")).toMatchObject({ status: 1, json: { code: 50, msg: "no pod CIDR is assigned to this node yet" } });
  expect(await node.call("ADD", { container: "a", netns })).toMatchObject({ status: 1, json: { code: 11 } });
  expect(await node.setPlan({ podCidrs: ["10.78.0.0/24"] })).toEqual([]);
  expect(await node.call("STATUS")).toMatchObject({ status: 0 });
  expect(await node.call("ADD", { container: "a", netns })).toMatchObject({ status: 0, json: { ips: [{ address: "10.78.0.2/24" }] } });
});

test("a full range says so, and how to go on", async () => {
  const node = await start({ podCidrs: ["10.78.0.0/30"] });
  await node.call("ADD", { container: "a", netns: node.pod() });
  expect(await node.call("ADD", { container: "b", netns: node.pod() })).toMatchObject({
    status: 1,
    json: {
      code: 11,
      msg: "no IPv4 address is free in 10.78.0.0/30: 1 of 1 are in use and 0 rest after their last use",
      details: expect.stringContaining("larger range"),
    },
  });
  expect(podLinks(node)).toHaveLength(1);
});

test("a changed pod CIDR: pods of the old one go on, their addresses are known as such, the last one takes the gateway along", async () => {
  const node = await start({ podCidrs: ["10.77.0.0/24"] });
  const [a, b] = [node.pod(), node.pod()];
  await node.call("ADD", { container: "a", netns: a });
  expect(await node.setPlan({ podCidrs: ["10.99.0.0/24"] })).toEqual([]);
  expect(await node.held()).toEqual(["10.77.0.2/32"]);
  const { json } = await node.call("ADD", { container: "b", netns: b });
  expect(json.ips[0].address).toBe("10.99.0.2/24");
  expect(pings(a, "10.99.0.2")).toBe(true);
  expect(pings(b, "10.77.0.2")).toBe(true);
  await node.kill();
  await node.start();
  expect(pings(b, "10.77.0.2")).toBe(true);
  expect(await node.held()).toEqual(["10.77.0.2/32"]);
  await node.call("DEL", { container: "a", netns: a });
  expect(await node.held()).toEqual([]);
  const gateways = ipJson(node.netns, "-4", "addr", "show", "podlane0")[0].addr_info.map(({ local }: { local: string }) => local);
  expect(gateways).toEqual(["10.99.0.1"]);
});

test.each([
  [{ podCidrs: ["10.77.0.0/33"] }, "podCidrs[0]"],
  [{ podCidrs: ["10.77.0.0/24", "10.77.0.128/25"] }, "podCidrs[1]"],
  [{ podCidrs: ["10.77.0.0/31"] }, "podCidrs[0]"],
  [{ bridgeName: "a-name-far-too-long" }, "bridgeName"],
  [{ bridgeName: "lo" }, "bridgeName"],
  [{ mtu: 500 }, "mtu"],
  [{ mode: "tunnelled" as PodPlan["mode"] }, "mode"],
])("a plan that cannot be carried out is a problem with a remedy: %j", async (plan, field) => {
  const node = await start();
  const problems = await node.setPlan(plan);
  expect(problems).toMatchObject([{ severity: "error", field }]);
  expect(problems[0].remedy).not.toBe("");
  if (!field.startsWith("podCidrs")) {
    expect(await node.call("STATUS")).toMatchObject({ status: 1, json: { code: 50, msg: problems[0].message } });
    expect(await node.call("ADD", { container: "a", netns: node.pod() })).toMatchObject({
      status: 1,
      json: { code: 11, msg: problems[0].message },
    });
  }
});

test("the MTU is that of the way out, or as planned", async () => {
  const node = await start();
  node.exec("ip", "link", "add", "up0", "type", "bridge");
  node.exec("ip", "link", "set", "up0", "mtu", "1390", "up");
  node.exec("ip", "addr", "add", "192.0.2.2/24", "dev", "up0");
  node.exec("ip", "route", "add", "default", "via", "192.0.2.1");
  const first = await node.call("ADD", { container: "a", netns: node.pod() });
  expect(first.json.interfaces.map((entry: { mtu: number }) => entry.mtu)).toEqual([1390, 1390, 1390]);
  await node.setPlan({ mtu: 1300 });
  const second = await node.call("ADD", { container: "b", netns: node.pod() });
  expect(second.json.interfaces[2].mtu).toBe(1300);
});

test("the MTU is the least of those of the IPv4 and the IPv6 way out, among other routes", async () => {
  const node = await start();
  for (const [name, mtu] of [
    ["up4", "1400"],
    ["up6", "1390"],
    ["other", "1300"],
  ]) {
    node.exec("ip", "link", "add", name, "type", "bridge");
    node.exec("ip", "link", "set", name, "mtu", mtu, "up");
  }
  node.exec("ip", "addr", "add", "192.0.2.2/24", "dev", "up4");
  // More than one chunk of the kernel's answer.
  const routes = Array.from({ length: 2000 }, (_, i) => `route add 10.${100 + (i >> 8)}.${i & 255}.0/24 dev other\n`);
  const batch = ["route add 0.0.0.0/1 dev other\n", ...routes, "route add default via 192.0.2.1\n"];
  fs.writeFileSync(`${node.directory}/routes`, batch.join(""));
  node.exec("ip", "-batch", `${node.directory}/routes`);
  const mtu = async (container: string) => (await node.call("ADD", { container, netns: node.pod() })).json.interfaces[2].mtu;
  expect(await mtu("a")).toBe(1400);
  node.exec("ip", "-6", "route", "add", "default", "dev", "up6");
  expect(await mtu("b")).toBe(1390);
  node.exec("ip", "route", "del", "default");
  node.exec("ip", "link", "set", "up6", "mtu", "1410");
  expect(await mtu("c")).toBe(1410);
});

test("turning forwarding on does not make the node deaf to its router", async () => {
  const node = new TestNode();
  open.push(node);
  node.exec("ip", "link", "add", "up0", "type", "bridge");
  expect(sysctl(node.netns, "net/ipv6/conf/up0/accept_ra")).toBe("1");
  await node.start();
  expect(sysctl(node.netns, "net/ipv6/conf/up0/accept_ra")).toBe("2");
  expect(sysctl(node.netns, "net/ipv6/conf/podlane0/accept_ra")).toBe("0");
});

test("the plugin built for Node does the same", async () => {
  const node = await start({}, "node");
  const netns = node.pod();
  expect(await node.call("ADD", { container: "a", netns })).toMatchObject({
    status: 0,
    json: { ips: [{ address: "10.77.0.2/24" }, { address: "fd77::2/64" }] },
  });
  await node.kill();
  expect(await node.call("DEL", { container: "a", netns })).toMatchObject({ status: 0 });
  await node.start();
  await node.call("STATUS");
  expect(podLinks(node)).toEqual([]);
});

test("a read-only /proc/sys: problems and STATUS say it before any ADD, and the ADD that fails says the remedy", async () => {
  const node = new TestNode();
  open.push(node);
  const netns = node.pod();
  // What an agent before this one has set needs no writing any more.
  await node.start();
  await node.kill();
  await node.start("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
  const cause = { message: expect.stringContaining("EROFS"), remedy: expect.stringContaining("privileged container") };
  expect(await node.problems()).toMatchObject([{ severity: "error", ...cause }]);
  expect(await node.call("STATUS")).toMatchObject({ status: 1, json: { code: 50, msg: cause.message, details: cause.remedy } });
  expect(await node.call("ADD", { container: "a", netns })).toMatchObject({
    status: 1,
    json: { code: 5, msg: cause.message, details: cause.remedy },
  });
  expect(await node.attachments()).toEqual([]);
  expect(podLinks(node)).toEqual([]);
  await node.kill();
  await node.start();
  expect(await node.call("ADD", { container: "a", netns })).toMatchObject({ status: 0 });
  expect(await node.problems()).toEqual([]);
}, 30_000);

test("ADDs that fail are a problem until one succeeds", async () => {
  const node = await start({ podCidrs: ["10.78.0.0/30"] });
  await node.call("ADD", { container: "a", netns: node.pod() });
  for (const container of ["b", "c"]) expect(await node.call("ADD", { container, netns: node.pod() })).toMatchObject({ status: 1 });
  expect(await node.problems()).toMatchObject([
    { severity: "error", message: expect.stringMatching(/^the last 2 ADDs failed, the latest at .*: no IPv4 address is free/) },
  ]);
  await node.call("DEL", { container: "a" });
  expect(await node.call("ADD", { container: "b", netns: node.pod() })).toMatchObject({ status: 0 });
  expect(await node.problems()).toEqual([]);
});

test("nothing of a test is left", () => {
  expect(execFileSync("ip", ["netns", "list"], { encoding: "utf8" })).not.toContain(`pl-${process.pid}-`);
});
