/** Links of the node that have addresses of the pod ranges: said with link and remedy, and no pod gets an address of the node. */
import { afterEach, beforeAll, expect, test } from "vitest";
import { pings, requireRoot, TestNode } from "./harness.ts";

beforeAll(requireRoot);

let node: TestNode;
afterEach(() => node?.close());

async function start(before: (node: TestNode) => void): Promise<void> {
  node = new TestNode();
  before(node);
  await node.start();
}

const status = async () => {
  const { status: code, json } = await node.call("STATUS");
  return code === 0 ? "ready" : `${json.code} ${json.msg}. ${json.details}`;
};
const given = (json: { ips: { address: string }[] }) => json.ips.map(({ address }) => address);

test("the bridge of a former plugin that has the gateways: STATUS 50 with the link and the remedy, until it is gone", async () => {
  await start(() => {
    node.exec("ip", "link", "add", "cni0", "type", "bridge");
    node.exec("ip", "link", "set", "cni0", "up");
    node.exec("ip", "address", "add", "10.77.0.1/24", "dev", "cni0");
    node.exec("ip", "address", "add", "fd77::1/64", "dev", "cni0", "nodad");
  });
  expect(await status()).toMatch(
    /^50 the link cni0 has 10\.77\.0\.1\/24, and so the gateway of the pod subnet 10\.77\.0\.0\/24: .*ip link delete cni0/,
  );
  const problems = await node.problems();
  expect(problems.filter(({ field }) => field === "cni0").map(({ severity, message }) => [severity, message])).toEqual([
    ["error", expect.stringContaining("10.77.0.1/24")],
    ["error", expect.stringContaining("fd77::1/64")],
  ]);
  node.exec("ip", "link", "set", "cni0", "down");
  expect(await status()).toBe("ready");
  expect(await node.look()).toContainEqual(
    expect.objectContaining({ severity: "warning", field: "cni0", message: expect.stringContaining("it is down") }),
  );
  node.exec("ip", "link", "delete", "cni0");
  expect([await status(), (await node.problems()).filter(({ field }) => field === "cni0")]).toEqual(["ready", []]);
});

test("the gateways on the device of a tunnel of ours are none", async () => {
  await start(() => {
    node.exec("ip", "link", "add", "podlane.vx4", "type", "vxlan", "id", "20179", "dstport", "4789", "local", "192.0.2.1", "nolearning");
    node.exec("ip", "link", "set", "podlane.vx4", "alias", "podlane overlay", "up");
    for (const address of ["10.77.0.1/32", "fd77::1/128"]) node.exec("ip", "address", "add", address, "dev", "podlane.vx4");
  });
  expect(await status()).toBe("ready");
  expect((await node.problems()).filter(({ field }) => field === "podlane.vx4")).toEqual([]);
  const [netns, other] = [node.pod(), node.pod()];
  const pods = [await node.call("ADD", { container: "a", netns }), await node.call("ADD", { container: "b", netns: other })];
  for (const address of ["10.77.0.1", "fd77::1", ...given(pods[1].json).map(text => text.split("/")[0])])
    expect(pings(netns, address), address).toBe(true);
});

test("single addresses in the ranges: no pod gets them, by itself, by name or a second time", async () => {
  await start(() => {
    for (const address of ["10.77.0.2/32", "fd77::2/128", "10.77.0.9/32"]) node.exec("ip", "address", "add", address, "dev", "lo");
  });
  expect(await status()).toMatch(
    /^50 the link lo has 10\.77\.0\.2\/32, and so an address of the pod subnet 10\.77\.0\.0\/24: .*ip address del 10\.77\.0\.2\/32 dev lo/,
  );
  const netns = node.pod();
  const { json } = await node.call("ADD", { container: "a", netns });
  expect(given(json)).toEqual(["10.77.0.3/24", "fd77::3/64"]);
  const named = await node.call("ADD", { container: "b", netns: node.pod(), config: { runtimeConfig: { ips: ["10.77.0.9"] } } });
  expect([named.status, named.json.msg]).toEqual([1, "10.77.0.9 is an address of the node itself, on lo"]);
  // One that was a pod's, and is the node's now, while no other is free.
  expect((await node.call("DEL", { container: "a", netns })).status).toBe(0);
  await node.setPlan({ podCidrs: ["10.77.5.0/29"] });
  for (let n = 0; n < 5; n++) {
    expect((await node.call("ADD", { container: `full${n}`, netns: node.pod() })).status).toBe(0);
  }
  for (const n of [0, 1]) await node.call("DEL", { container: `full${n}` });
  node.exec("ip", "address", "add", "10.77.5.2/32", "dev", "lo");
  const last = await node.call("ADD", { container: "last", netns: node.pod() });
  expect(given(last.json)).toEqual(["10.77.5.3/29"]);
  node.exec("ip", "address", "flush", "dev", "lo");
  expect(await status()).toBe("ready");
});

test("a route that leads the range away is a problem that names it, in either family; one that the bridge's goes before is none", async () => {
  await start(() => {
    node.exec("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0");
    for (const link of ["eth0", "far0"]) node.exec("ip", "link", "set", link, "up");
    node.exec("ip", "route", "add", "10.0.0.0/8", "dev", "eth0");
  });
  node.exec("ip", "route", "append", "10.77.0.0/24", "dev", "eth0");
  expect(await status()).toBe("ready");
  for (const [prefix, words] of [
    ["10.77.0.0/25", []],
    ["10.77.0.0/24", ["metric", "0"]],
    ["fd77::/64", ["metric", "1"]],
  ] as const) {
    const order = prefix === "10.77.0.0/24" ? "prepend" : "add";
    if (order === "prepend") node.exec("ip", "route", "del", prefix, "dev", "eth0");
    node.exec("ip", "route", order, prefix, "dev", "eth0", ...words);
    expect(await status()).toContain(`50 the route ${prefix} by the link eth0 leads packets for the pod subnet`);
    node.exec("ip", "route", "del", prefix, "dev", "eth0");
    expect(await status()).toBe("ready");
  }
});

test("a range that cannot be used is what STATUS says only where there is no other, and the others are served", async () => {
  await start(() => undefined);
  expect((await node.setPlan({ podCidrs: ["10.77.0.0/31"] })).length).toBe(1);
  expect(await status()).toMatch(/^50 10\.77\.0\.0\/31 is too small/);
  await node.setPlan({ podCidrs: ["10.77.0.0/31", "fd77::/64"] });
  expect(await status()).toBe("ready");
  node.exec("ip", "link", "set", "podlane0", "down");
  await node.look();
  expect(node.exec("ip", "-6", "address", "show", "dev", "podlane0")).toContain("fd77::1/64");
  expect(node.exec("ip", "link", "show", "dev", "podlane0", "up")).toContain("podlane0");
});

test("a network of the node inside the range is a problem, one around it is none, and neither is an address on the pods' bridge", async () => {
  await start(() => {
    node.exec("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0");
    node.exec("ip", "link", "set", "eth0", "up");
    node.exec("ip", "address", "add", "10.76.0.9/8", "dev", "eth0");
  });
  expect(await status()).toBe("ready");
  node.exec("ip", "address", "add", "10.77.0.65/26", "dev", "eth0");
  node.exec("ip", "address", "add", "192.0.2.9", "peer", "10.77.0.200", "dev", "eth0");
  await status();
  expect((await node.problems()).filter(({ field }) => field === "eth0").map(({ message }) => message)).toEqual([
    "the link eth0 has 10.77.0.65/26, and so a part of the pod subnet 10.77.0.0/24: packets for pods may go there",
    "the link eth0 has 10.77.0.200/32 at its other end, and so an address of the pod subnet 10.77.0.0/24: packets for pods may go there",
  ]);
  node.exec("ip", "address", "flush", "dev", "eth0");
  const [a, b] = [node.pod(), node.pod()];
  await node.call("ADD", { container: "a", netns: a });
  const { json } = await node.call("ADD", { container: "b", netns: b });
  expect(await status()).toBe("ready");
  for (const address of given(json)) expect(pings(a, address)).toBe(true);
});
