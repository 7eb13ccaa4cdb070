/** Pods attached each by a link of its own, through the executable, on a node that is a real network namespace. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { inNetns, pings, requireRoot, TestNode, until } from "./harness.ts";

beforeAll(requireRoot);

let node: TestNode;
beforeEach(() => {
  node = new TestNode({ mode: "routed" });
});
afterEach(() => node?.close());

const ipJson = (netns: string, ...args: string[]) => JSON.parse(inNetns(netns, "ip", "-j", ...args).stdout || "[]");
const sysctl = (netns: string, name: string) => inNetns(netns, "cat", `/proc/sys/${name}`).stdout.trim();
const linkNames = (): string[] => ipJson(node.netns, "link").map(({ ifname }: { ifname: string }) => ifname);
/** Routes of the number that is for pods, in both families. */
const podRoutes = () =>
  [...ipJson(node.netns, "route", "show", "proto", "202"), ...ipJson(node.netns, "-6", "route", "show", "proto", "202")].map(
    ({ type, dst, dev }: { type?: string; dst: string; dev: string }) => (type ? `${type} ${dst}` : `${dst} ${dev}`),
  );

interface Pod {
  netns: string;
  addresses: string[];
  host: string;
  // biome-ignore lint/suspicious/noExplicitAny: a result of CNI
  json: any;
}

async function add(container: string, call: object = {}): Promise<Pod> {
  const netns = node.pod();
  const { json, status, stdout } = await node.call("ADD", { container, netns, ...call });
  expect(status, stdout).toBe(0);
  const addresses = json.ips.map(({ address }: { address: string }) => address.split("/")[0]);
  return { netns, addresses, host: json.interfaces.at(-2).name, json };
}

const check = (container: string, { netns, json }: Pod) => node.call("CHECK", { container, netns, config: { prevResult: json } });

/** Each of them reaches each other, and the node reaches them all. */
function expectAllConnected(pods: readonly Pod[], what = ""): void {
  const all = pods.flatMap(({ addresses }) => addresses);
  const script = `for one in ${all.join(" ")}; do { ping -c 1 -w 3 -n -q $one > /dev/null || echo $one; } & done; wait`;
  for (const from of [node.netns, ...pods.map(({ netns }) => netns)])
    expect(inNetns(from, "sh", "-c", script).stdout, `${what} ${from}`).toBe("");
}

test("pods reach one another, their gateway and the node, also before anybody asked for an address", async () => {
  await node.start();
  const [a, b] = [await add("a"), await add("b")];
  expectAllConnected([a, b]);
  for (const gateway of ["169.254.1.1", "fe80::1%eth0", "10.77.0.1", "fd77::1"]) expect(pings(a.netns, gateway), gateway).toBe(true);
  // The node speaks to its pods from the range's first address, as it does from a bridge.
  expect(ipJson(node.netns, "route", "get", b.addresses[0])).toMatchObject([{ dev: b.host, prefsrc: "10.77.0.1" }]);
  expect(ipJson(node.netns, "-6", "route", "get", b.addresses[1])).toMatchObject([{ dev: b.host, prefsrc: "fd77::1" }]);
});

test("the result says what the kernel has", async () => {
  await node.start();
  const { json, netns: pod } = await add("a");
  const [inside] = ipJson(pod, "-d", "addr", "show", "eth0");
  const [host] = ipJson(node.netns, "-d", "addr", "show", json.interfaces[0].name);
  expect(json.interfaces).toEqual([
    { name: host.ifname, mac: host.address, mtu: host.mtu },
    { name: "eth0", mac: inside.address, mtu: inside.mtu, sandbox: pod },
  ]);
  expect(json.ips).toEqual([
    { interface: 1, address: "10.77.0.2/32", gateway: "169.254.1.1" },
    { interface: 1, address: "fd77::2/128", gateway: "fe80::1" },
  ]);
  expect(json.routes).toEqual([
    { dst: "0.0.0.0/0", gw: "169.254.1.1" },
    { dst: "::/0", gw: "fe80::1" },
  ]);
  const texts = (link: { addr_info: { scope: string; local: string; prefixlen: number }[] }) =>
    link.addr_info.map(({ scope, local, prefixlen }) => `${local}/${prefixlen} ${scope}`);
  expect(texts(inside).slice(0, 2)).toEqual(["10.77.0.2/32 global", "fd77::2/128 global"]);
  expect(texts(host).sort()).toEqual(["10.77.0.1/32 global", "169.254.1.1/32 host", "fd77::1/128 global", "fe80::1/64 link"]);
  expect(ipJson(pod, "route")).toMatchObject([
    { dst: "default", gateway: "169.254.1.1", dev: "eth0" },
    { dst: "169.254.1.1", dev: "eth0", scope: "link" },
  ]);
  expect(ipJson(pod, "-6", "route", "show", "default")).toMatchObject([{ gateway: "fe80::1", dev: "eth0" }]);
  const neighbours = [...ipJson(pod, "-4", "neigh"), ...ipJson(pod, "-6", "neigh")];
  for (const dst of ["169.254.1.1", "fe80::1"])
    expect(neighbours).toContainEqual(expect.objectContaining({ dst, lladdr: host.address, state: ["PERMANENT"] }));
  expect(podRoutes().sort()).toEqual([
    `10.77.0.2 ${host.ifname}`,
    `fd77::2 ${host.ifname}`,
    "unreachable 10.77.0.0/24",
    "unreachable fd77::/64",
  ]);
  expect([host.master, host.ifalias]).toEqual([undefined, "podlane routed pods a eth0 10.77.0.2/24,fd77::2/64"]);
  expect(linkNames()).not.toContain("podlane0");
  for (const [name, value] of [
    [`net/ipv4/conf/${host.ifname}/rp_filter`, "1"],
    [`net/ipv4/conf/${host.ifname}/forwarding`, "1"],
    [`net/ipv6/conf/${host.ifname}/forwarding`, "1"],
    [`net/ipv6/conf/${host.ifname}/accept_ra`, "0"],
    [`net/ipv6/conf/${host.ifname}/accept_dad`, "0"],
    ["net/ipv4/ip_forward", "1"],
    ["net/ipv6/conf/all/forwarding", "1"],
  ] as const)
    expect(sysctl(node.netns, name), name).toBe(value);
  expect((await check("a", { netns: pod, addresses: [], host: "", json })).status).toBe(0);
});

test.each([
  ["IPv4", ["10.77.0.0/24"], "10.77.0.2"],
  ["IPv6", ["fd77::/64"], "fd77::2"],
])("pods with %s alone", async (_, podCidrs, first) => {
  node.plan.podCidrs = podCidrs;
  await node.start();
  const [a, b] = [await add("a"), await add("b")];
  expect(a.addresses).toEqual([first]);
  expectAllConnected([a, b]);
  expect((await check("a", a)).status).toBe(0);
});

test("an address that no pod has is refused by the node and does not go back where it came from", async () => {
  await node.start();
  node.exec("ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0");
  for (const link of ["up0", "far0"]) node.exec("ip", "link", "set", link, "up");
  node.exec("ip", "address", "add", "192.0.2.1/24", "dev", "up0");
  node.exec("ip", "route", "add", "default", "via", "192.0.2.2", "dev", "up0");
  const pod = await add("a");
  const refused = () => {
    const [names, values] = node.exec("grep", "^Icmp:", "/proc/net/snmp").split("\n");
    return Number(values.split(" ")[names.split(" ").indexOf("OutDestUnreachs")]);
  };
  const before = refused();
  const { stdout } = inNetns(pod.netns, "ping", "-c", "1", "-W", "10", "-n", "10.77.0.200");
  expect(stdout).toMatch(/From \S+ icmp_seq=1 Destination Host Unreachable/);
  expect(inNetns(pod.netns, "ping", "-c", "1", "-W", "10", "-n", "fd77::200").stdout).toMatch(/Destination unreachable: No route/);
  expect(refused()).toBe(before + 1);
});

test("a network of the node that holds the pods' gateway is said", async () => {
  node.exec("ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0");
  node.exec("ip", "link", "set", "up0", "up");
  node.exec("ip", "address", "add", "169.254.1.0/31", "dev", "up0");
  await node.start();
  const conflict = { severity: "warning", reason: "AddressConflict", field: "up0", message: expect.stringContaining("169.254.1.0/31") };
  expect(await node.look()).toEqual([expect.objectContaining(conflict)]);
  await add("a");
  node.exec("ip", "address", "del", "169.254.1.0/31", "dev", "up0");
  expect(await node.look()).toEqual([]);
});

test("a pod reaches itself through an address that the node translates", async () => {
  await node.start();
  const pod = await add("a");
  node.exec(
    "nft",
    "add table ip t; add chain ip t pre { type nat hook prerouting priority dstnat; }; add chain ip t post { type nat hook postrouting priority srcnat; }; add rule ip t pre ip daddr 10.96.0.1 dnat to 10.77.0.2; add rule ip t post ip saddr 10.77.0.2 ip daddr 10.77.0.2 masquerade",
  );
  expect(pings(pod.netns, "10.96.0.1")).toBe(true);
});

test("DEL leaves nothing, again and again, with and without the namespace; GC and a killed agent too", async () => {
  await node.start();
  const [a, b, c] = [await add("a"), await add("b"), await add("c")];
  node.removePod(b.netns);
  for (const round of [1, 2]) {
    expect(await node.call("DEL", { container: "a", netns: a.netns, config: { prevResult: round } })).toMatchObject({
      status: 0,
      stdout: "",
    });
    expect(await node.call("DEL", { container: "b", netns: b.netns })).toMatchObject({ status: 0, stdout: "" });
  }
  expect((await node.attachments()).map(({ containerId }) => containerId)).toEqual(["c"]);
  await node.kill();
  expect(pings(node.netns, c.addresses[0])).toBe(true);
  await node.start();
  expect((await check("c", c)).status).toBe(0);
  expect(await node.call("GC", { config: { "cni.dev/valid-attachments": [] } })).toMatchObject({ status: 0 });
  expect(await node.attachments()).toEqual([]);
  expect(linkNames().filter(name => name.startsWith("pl"))).toEqual([]);
  expect(podRoutes()).toEqual(["unreachable 10.77.0.0/24", "unreachable fd77::/64"]);
});

test("CHECK sees what differs, and a look puts back what others undo on the node's side", async () => {
  await node.start();
  const [a, b] = [await add("a"), await add("b")];
  const undo: [string, () => void, RegExp | undefined][] = [
    ["the link is down", () => node.exec("ip", "link", "set", a.host, "down"), /is down/],
    ["its addresses are flushed", () => node.exec("ip", "address", "flush", "dev", a.host), /has no address 169\.254\.1\.1/],
    ["its hardware address is another", () => node.exec("ip", "link", "set", a.host, "address", "02:00:00:00:00:01"), undefined],
    ["a route is gone", () => node.exec("ip", "route", "del", "10.77.0.2"), /no route to 10\.77\.0\.2 by pl/],
    ["a route of IPv6 is gone", () => node.exec("ip", "-6", "route", "del", "fd77::2"), /no route to fd77::2 by pl/],
    ["it listens to router advertisements", () => node.exec("sh", "-c", `echo 2 > /proc/sys/net/ipv6/conf/${a.host}/accept_ra`), undefined],
    ["forwarding is off", () => node.exec("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"), undefined],
    [
      "the rest of the range has no route",
      () => node.exec("ip", "route", "del", "unreachable", "10.77.0.0/24", "metric", "4294967293"),
      undefined,
    ],
  ];
  const before = () => [
    podRoutes().sort(),
    sysctl(node.netns, `net/ipv6/conf/${a.host}/accept_ra`),
    sysctl(node.netns, "net/ipv4/ip_forward"),
  ];
  const whole = before();
  for (const [what, change, text] of undo) {
    change();
    if (text) expect((await check("a", a)).json, what).toMatchObject({ code: 100, msg: expect.stringMatching(text) });
    expect(await node.look(), what).toEqual([]);
    expect(await check("a", a), what).toMatchObject({ status: 0 });
    expect(before(), what).toEqual(whole);
    for (const address of b.addresses) expect(pings(a.netns, address), `${what}: ${address}`).toBe(true);
  }
  expect((await node.call("STATUS")).status).toBe(0);
}, 60_000);

test("a lost ledger is made again from the links, and what is learned elsewhere about a pod's address does not take it away", async () => {
  await node.start();
  const a = await add("a");
  await node.kill();
  fs.rmSync(path.join(node.stateDir, "ledger"));
  await node.start();
  expect(await node.attachments()).toMatchObject([{ containerId: "a", addresses: ["10.77.0.2/24", "fd77::2/64"] }]);
  expect((await check("a", a)).status).toBe(0);
  // A route of BGP for the same address, as its FIB writes it.
  node.exec("ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0");
  node.exec("ip", "link", "set", "up0", "up");
  node.exec("ip", "route", "replace", "10.77.0.3", "dev", "up0", "proto", "201");
  node.exec("ip", "-6", "route", "add", "fd77::3", "dev", "up0", "proto", "201", "metric", "1023");
  const b = await add("b");
  expect(b.addresses).toEqual(["10.77.0.3", "fd77::3"]);
  expectAllConnected([a, b]);
});

test("a changed range: pods of the old one go on, and the rest of it is nobody's here", async () => {
  await node.start();
  const a = await add("a");
  expect(await node.setPlan({ podCidrs: ["10.99.0.0/24", "fd99::/64"] })).toEqual([]);
  expect(await node.held()).toEqual(["10.77.0.2/32", "fd77::2/128"]);
  const b = await add("b");
  expectAllConnected([a, b]);
  expect(podRoutes().filter(text => text.startsWith("unreachable"))).toEqual(["unreachable 10.99.0.0/24", "unreachable fd99::/64"]);
});

test("the MTU of the uplink is followed at both ends, below 1280 too", async () => {
  node.plan.nodeAddresses = ["192.0.2.1"];
  node.exec("ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0");
  for (const link of ["up0", "far0"]) node.exec("ip", "link", "set", link, "up");
  node.exec("ip", "address", "add", "192.0.2.1/24", "dev", "up0");
  await node.start();
  const [a, b] = [await add("a"), await add("b")];
  for (const mtu of [1400, 1000, 1500]) {
    node.exec("ip", "link", "set", "up0", "mtu", String(mtu));
    const problems = await node.look();
    expect(problems.map(({ reason }) => reason)).toEqual(mtu < 1280 ? ["MTUTooLarge"] : []);
    expect([ipJson(a.netns, "link", "show", "eth0")[0].mtu, ipJson(node.netns, "link", "show", a.host)[0].mtu]).toEqual(
      Array(2).fill(Math.max(mtu, 1280)),
    );
    for (const address of b.addresses) expect(pings(a.netns, address), `${mtu}`).toBe(true);
  }
});

test("addresses and hardware address as asked for, and why not", async () => {
  await node.start();
  const config = { runtimeConfig: { ips: ["10.77.0.200/24", "fd77::abcd"], mac: "02:11:22:33:44:55" } };
  const a = await add("a", { config });
  expect(a.json.ips).toMatchObject([{ address: "10.77.0.200/32" }, { address: "fd77::abcd/128" }]);
  expect(ipJson(a.netns, "link", "show", "eth0")[0].address).toBe("02:11:22:33:44:55");
  const b = await add("b", { args: "IgnoreUnknown=1;IP=fd77::7" });
  expect(b.addresses).toEqual(["10.77.0.2", "fd77::7"]);
  expectAllConnected([a, b]);
  for (const [ips, code, text] of [
    [["10.78.0.9"], 7, /is not in the node's pod CIDRs/],
    [["10.77.0.1"], 7, /network, gateway or broadcast/],
    [["10.77.0.200"], 101, /belongs to container a/],
    [["10.77.0.9", "10.77.0.10"], 7, /more than one address of a family/],
  ] as const) {
    const refused = await node.call("ADD", { container: "c", netns: node.pod(), config: { runtimeConfig: { ips } } });
    expect(refused.json, ips.join()).toMatchObject({ code, msg: expect.stringMatching(text) });
  }
});

describe.each(["routed", "bridge"] as const)("a bandwidth in mode %s", mode => {
  test("limits both directions, is checked and put back, also by the next agent, and goes with the pod", async () => {
    node.plan.mode = mode;
    await node.start();
    const bandwidth = { ingressRate: 20e6, ingressBurst: 2e6, egressRate: 10e6, egressBurst: 2 ** 31 - 1 };
    const pod = await add("a", { config: { runtimeConfig: { bandwidth } } });
    const buckets = () =>
      [node.netns, pod.netns].map(netns => /qdisc tbf .* rate (\S+) burst (\S+)/.exec(inNetns(netns, "tc", "qdisc").stdout)?.slice(1));
    // What runtimes write for "no limit" is none.
    const wanted = [
      ["20Mbit", expect.stringMatching(/^2(50000b|44Kb)$/)],
      ["10Mbit", expect.stringMatching(/^6/)],
    ];
    expect(buckets()).toEqual(wanted);
    expect(await check("a", pod)).toMatchObject({ status: 0 });
    inNetns(pod.netns, "tc", "qdisc", "del", "dev", "eth0", "root");
    expect(await check("a", pod)).toMatchObject({
      json: { code: 100, msg: expect.stringContaining("eth0 does not hold its packets to 10000000 bits") },
    });
    await node.kill();
    node.exec("tc", "qdisc", "replace", "dev", pod.host, "root", "tbf", "rate", "1mbit", "burst", "10kb", "limit", "20kb");
    await node.start();
    expect(buckets()).toEqual(wanted);
    expect(await check("a", pod)).toMatchObject({ status: 0 });
    expect(await node.call("DEL", { container: "a", netns: pod.netns })).toMatchObject({ status: 0 });
    expect(buckets()).toEqual([undefined, undefined]);
  });
});

describe.each(["routed", "bridge"] as const)("a second network of a pod in mode %s", mode => {
  test("takes addresses, leaves the default route, and what is sent from them goes out by it", async () => {
    node.plan.mode = mode;
    await node.start();
    const [a, other] = [await add("a"), await add("b")];
    const config = { name: "second" };
    const second = await node.call("ADD", { container: "a", netns: a.netns, ifname: "net1", config });
    expect(second.json).toMatchObject({ routes: [] });
    expect(ipJson(a.netns, "route", "show", "default")).toMatchObject([{ dev: "eth0" }]);
    for (const { address } of second.json.ips) {
      const source = address.split("/")[0];
      const family = source.includes(":") ? "-6" : "-4";
      expect(pings(other.netns, source), source).toBe(true);
      const [target] = other.addresses.filter(text => text.includes(":") === (family === "-6"));
      expect(ipJson(a.netns, family, "route", "get", target, "from", source)).toMatchObject([{ dev: "net1" }]);
    }
    const call = { container: "a", netns: a.netns, ifname: "net1", config: { ...config, prevResult: second.json } };
    expect(await node.call("CHECK", call)).toMatchObject({ status: 0 });
    expect(await check("a", a)).toMatchObject({ status: 0 });
    expect(await node.call("DEL", call)).toMatchObject({ status: 0 });
    for (const address of other.addresses) expect(pings(a.netns, address)).toBe(true);
  });
});

describe("a change of the mode", () => {
  test("moves nothing that runs: pods of both kinds reach one another, each is checked and removed as it was attached", async () => {
    node.plan.mode = "bridge";
    await node.start();
    const [a, b] = [await add("a"), await add("b")];
    expect(await node.setPlan({ mode: "routed" })).toEqual([]);
    const [c, d] = [await add("c"), await add("d")];
    expect([a.json.ips[0].address, c.json.ips[0].address]).toEqual(["10.77.0.2/24", "10.77.0.4/32"]);
    expectAllConnected([a, b, c, d], "routed");
    for (const [name, pod] of Object.entries({ a, b, c, d })) expect(await check(name, pod), name).toMatchObject({ status: 0 });
    expect(await node.setPlan({ mode: "bridge" })).toEqual([]);
    await node.kill();
    await node.start();
    const e = await add("e");
    expect(e.json.ips[0].address).toBe("10.77.0.6/24");
    expectAllConnected([a, c, e], "bridge");
    expect(await node.look()).toEqual([]);
    expect((await check("c", c)).status).toBe(0);
    // What undoes the bridge, or its answers for others, is put back as well.
    node.exec("ip", "link", "set", "podlane0", "down");
    expect(await node.look()).toEqual([]);
    expectAllConnected([e, d], "after a look");

    expect(await node.setPlan({ mode: "routed" })).toEqual([]);
    for (const name of ["a", "b", "e"]) expect(await node.call("DEL", { container: name })).toMatchObject({ status: 0 });
    await node.look();
    expect(linkNames()).not.toContain("podlane0");
    expectAllConnected([c, d], "alone");
    expect(await node.setPlan({ mode: "bridge" })).toEqual([]);
    for (const name of ["c", "d"]) expect(await node.call("DEL", { container: name })).toMatchObject({ status: 0 });
    await node.look();
    expect([podRoutes(), ipJson(node.netns, "neigh", "show", "proxy")]).toEqual([[], []]);
  }, 60_000);

  test("leaves the bridge to what others put there, and needs no name of it", async () => {
    node.exec("ip", "link", "add", "podlane0", "type", "veth", "peer", "name", "other");
    await node.start();
    expect(await node.problems()).toEqual([]);
    const [a, b] = [await add("a"), await add("b")];
    expectAllConnected([a, b]);
  });
});

test("50 ADDs and 50 DELs at once, with a kill in between", async () => {
  await node.start();
  const pods = Array.from({ length: 50 }, () => node.pod());
  const calls = pods.map((netns, i) => node.call("ADD", { container: `c${i}`, netns }));
  await until("the first attachments", () => linkNames().filter(name => name.startsWith("pl")).length >= 10);
  await node.kill();
  const outcomes = await Promise.all(calls);
  await node.start();
  const missing = outcomes.flatMap(({ status }, i) => (status === 0 ? [] : [i]));
  for (const i of missing) expect(await node.call("DEL", { container: `c${i}`, netns: pods[i] })).toMatchObject({ status: 0 });
  const again = await Promise.all(missing.map(i => node.call("ADD", { container: `c${i}`, netns: pods[i] })));
  expect(again.filter(({ status }) => status !== 0)).toEqual([]);
  const addresses = (await node.attachments()).flatMap(found => found.addresses);
  expect([addresses.length, new Set(addresses).size]).toEqual([100, 100]);
  expect(await node.look()).toEqual([]);
  expect(pings(pods[0], (await node.attachments())[49].addresses[1])).toBe(true);
  expect(podRoutes()).toHaveLength(102);
  const gone = await Promise.all(pods.map((netns, i) => node.call("DEL", { container: `c${i}`, netns })));
  expect(gone.filter(({ status }) => status !== 0)).toEqual([]);
  expect(podRoutes()).toHaveLength(2);
}, 60_000);

test("nothing of a test is left", async () => {
  await node.close();
  expect(execFileSync("ip", ["netns", "list"], { encoding: "utf8" })).not.toContain(`pl-${process.pid}-`);
});
