/** Ledgers that do not fit the node: of a backup, of another node, cut, unreadable, on a full disk. Real pods, which must not notice. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { afterEach, beforeAll, expect, test } from "vitest";
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

const file = (node: TestNode) => path.join(node.stateDir, "ledger");
const names = async (node: TestNode) => (await node.attachments()).map(({ containerId }) => containerId).sort();
const asked = (...ips: string[]) => ({ runtimeConfig: { ips } });

async function add(node: TestNode, container: string, config: object = {}): Promise<{ netns: string; addresses: string[] }> {
  const netns = node.pod(container);
  const { status, json } = await node.call("ADD", { container, netns, config });
  expect({ status, json }).toMatchObject({ status: 0 });
  return { netns, addresses: json.ips.map(({ address }: { address: string }) => address) };
}

/** Stops the agent, changes the ledger's text, and starts it again. */
async function restartWith(node: TestNode, change: (text: string) => string): Promise<void> {
  await node.kill();
  fs.writeFileSync(file(node), change(fs.readFileSync(file(node), "utf8")));
  await node.start();
  expect(await node.call("STATUS")).toMatchObject({ status: 0 });
}

test("a ledger of a backup: pods that it lacks go on, pods that are gone are forgotten, addresses are those of the interfaces", async () => {
  const node = await start();
  await add(node, "gone", asked("10.77.0.50", "fd77::50"));
  const moved = await add(node, "moved", asked("10.77.0.60", "fd77::60"));
  const backup = fs.readFileSync(file(node), "utf8");
  for (const container of ["gone", "moved"]) await node.call("DEL", { container });
  node.removePod(`/run/netns/${node.id}-gone`);
  // What the backup gives to a pod that is gone, and what it gives to one that lives with another address.
  const heir = await add(node, "heir", asked("10.77.0.50", "fd77::50"));
  const other = await add(node, "other", asked("10.77.0.60", "fd77::60"));
  const again = await node.call("ADD", { container: "moved", netns: moved.netns, config: asked("10.77.0.61", "fd77::61") });
  expect(again).toMatchObject({ status: 0 });
  await restartWith(node, () => backup);
  const found = new Map((await node.attachments()).map(({ containerId, addresses }) => [containerId, addresses]));
  expect(Object.fromEntries(found)).toEqual({
    heir: ["10.77.0.50/24", "fd77::50/64"],
    moved: ["10.77.0.61/24", "fd77::61/64"],
    other: ["10.77.0.60/24", "fd77::60/64"],
  });
  for (const address of [...heir.addresses, ...other.addresses, "10.77.0.61"]) expect(pings(node.netns, address)).toBe(true);
  const check = { container: "moved", netns: moved.netns, config: { prevResult: again.json } };
  expect(await node.call("CHECK", check)).toMatchObject({ status: 0 });
  expect(await node.call("DEL", { container: "heir" })).toMatchObject({ status: 0 });
  expect(await names(node)).toEqual(["moved", "other"]);
});

test("an interface that claims what a living pod has goes, and no other", async () => {
  const node = await start();
  const pod = await add(node, "a");
  const impostor = node.pod("impostor");
  node.exec("ip", "link", "add", "pl0123456789ab", "type", "veth", "peer", "name", "eth0", "netns", path.basename(impostor));
  node.exec("ip", "link", "set", "pl0123456789ab", "alias", `podlane pod pods impostor eth0 ${pod.addresses[0]}`);
  await restartWith(node, text => text);
  expect(await names(node)).toEqual(["a"]);
  expect(inNetns(impostor, "ip", "link", "show", "eth0").status).not.toBe(0);
  expect(pings(node.netns, pod.addresses[0])).toBe(true);
  expect(node.log).toContain("eth0 of container a has 10.77.0.2/24");
});

test("a ledger cut or damaged anywhere costs no pod its interface", async () => {
  const node = await start();
  const pods = [await add(node, "a"), await add(node, "b"), await add(node, "c")];
  const whole = fs.readFileSync(file(node), "utf8");
  const lines = whole.split("\n");
  for (const text of [
    "",
    whole.slice(0, whole.length / 3),
    whole.slice(whole.length / 2),
    [...lines.slice(0, 2), ...lines.slice(4)].join("\n"),
    "not a ledger\n",
  ]) {
    await restartWith(node, () => text);
    expect(await names(node)).toEqual(["a", "b", "c"]);
    for (const { addresses } of pods) expect(pings(node.netns, addresses[1])).toBe(true);
  }
  const late = await add(node, "d");
  expect(pods.flatMap(pod => pod.addresses)).not.toContain(late.addresses[0]);
}, 60_000);

test("a lost ledger and an alias too long to say whose the interface is: it stays, as a problem, and DEL finds it", async () => {
  const node = await start();
  const container = "c".repeat(255);
  const netns = node.pod();
  const { json } = await node.call("ADD", { container, netns });
  await restartWith(node, () => "");
  expect(pings(netns, "10.77.0.1")).toBe(true);
  const name = json.interfaces[1].name;
  expect(await node.problems()).toMatchObject([{ severity: "warning", field: name, remedy: "recreate that pod" }]);
  expect(await node.call("DEL", { container, netns })).toMatchObject({ status: 0 });
  await node.sweep();
  expect(await node.problems()).toEqual([]);
  expect(inNetns(netns, "ip", "link", "show", "eth0").status).not.toBe(0);
});

test("the ledger of another node: its pods are forgotten, ours are kept, also those of a range that we had before", async () => {
  const other = await start({ podCidrs: ["10.99.0.0/24", "fd99::/64"] });
  await add(other, "foreign");
  other.removePod(`/run/netns/${other.id}-foreign`);
  await other.kill();
  const node = await start();
  const old = await add(node, "old");
  await node.setPlan({ podCidrs: ["10.78.0.0/24", "fd78::/64"] });
  const pod = await add(node, "new");
  await restartWith(node, () => fs.readFileSync(file(other), "utf8"));
  expect(await names(node)).toEqual(["new", "old"]);
  for (const { netns } of [old, pod]) expect(pings(netns, "10.78.0.1")).toBe(true);
  expect(pings(old.netns, "10.77.0.1")).toBe(true);
  const gateways = () => node.exec("ip", "-4", "-o", "addr", "show", "podlane0").match(/10\.\d+\.0\.1/g);
  expect(gateways()).toEqual(["10.77.0.1", "10.78.0.1"]);
  await node.call("DEL", { container: "old" });
  expect(gateways()).toEqual(["10.78.0.1"]);
});

test("where no address is free, the dead give theirs, and the longest at rest comes first", async () => {
  const node = new TestNode({ podCidrs: ["10.77.0.0/29"] });
  open.push(node);
  node.options = { quarantine: 600_000 };
  await node.start();
  for (const container of ["a", "b", "c", "d", "e"]) await add(node, container);
  await node.call("DEL", { container: "c" });
  await node.call("DEL", { container: "b" });
  expect((await add(node, "f")).addresses).toEqual(["10.77.0.4/29"]);
  expect((await add(node, "g")).addresses).toEqual(["10.77.0.3/29"]);
  node.removePod(`/run/netns/${node.id}-e`);
  await until("the pair to go with its namespace", () => node.exec("ip", "-o", "link", "show", "type", "veth").split("\n").length === 5);
  expect((await add(node, "h")).addresses).toEqual(["10.77.0.6/29"]);
  expect(await node.call("ADD", { container: "i", netns: node.pod() })).toMatchObject({
    status: 1,
    json: { code: 11, msg: "no IPv4 address is free in 10.77.0.0/29: 5 of 5 are in use and 0 rest after their last use" },
  });
  expect(await node.problems()).toMatchObject([
    {
      severity: "error",
      message: expect.stringMatching(/^the last ADD failed at .*: no IPv4 address is free/),
      remedy: expect.any(String),
    },
  ]);
  await node.call("DEL", { container: "a" });
  await add(node, "i");
  expect(await node.problems()).toEqual([]);
});

test("a full disk: DEL succeeds, ADD fails and leaves nothing, STATUS and problems say it; room is found by itself", async () => {
  const node = new TestNode();
  open.push(node);
  fs.mkdirSync(node.stateDir);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "podlane-test", node.stateDir]);
  try {
    await node.start();
    const [a, b] = [await add(node, "a"), await add(node, "b")];
    const filler = path.join(node.stateDir, "filler");
    expect(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20))).toThrow(/ENOSPC/);
    // The last page of the ledger itself may have room for a few more records.
    fs.appendFileSync(file(node), "x".repeat(4096 - (fs.statSync(file(node)).size % 4096)));
    expect(await node.call("DEL", { container: "a", netns: a.netns })).toMatchObject({ status: 0, stdout: "" });
    expect(await names(node)).toEqual(["b"]);
    const failed = await node.call("ADD", { container: "c", netns: a.netns });
    expect(failed).toMatchObject({
      status: 1,
      json: { code: 5, msg: expect.stringMatching(/ledger: .*no space left/i), details: expect.stringContaining("make room") },
    });
    expect(await names(node)).toEqual(["b"]);
    expect(inNetns(a.netns, "ip", "link", "show", "eth0").status).not.toBe(0);
    expect(await node.call("STATUS")).toMatchObject({
      status: 1,
      json: { code: 50, msg: expect.stringContaining("no pod can be attached") },
    });
    expect(await node.problems()).toMatchObject([
      { severity: "error", field: file(node), message: expect.stringMatching(/no space left/i) },
    ]);
    // Found dead by the next agent, although the file still has it.
    node.removePod(a.netns);
    await node.kill();
    await node.start();
    expect(await node.call("STATUS")).toMatchObject({ status: 1, json: { code: 50 } });
    expect(await names(node)).toEqual(["b"]);
    expect(pings(b.netns, "10.77.0.1")).toBe(true);
    fs.rmSync(filler);
    expect(await node.call("STATUS")).toMatchObject({ status: 0 });
    expect(await node.problems()).toEqual([]);
    await add(node, "c");
    await node.kill();
    await node.start();
    expect(await node.call("STATUS")).toMatchObject({ status: 0 });
    expect(await names(node)).toEqual(["b", "c"]);
  } finally {
    await node.kill();
    execFileSync("umount", [node.stateDir]);
  }
}, 60_000);

test("a state directory that cannot be written: what runs is known, ADD says why, and goes on once it can be", async () => {
  const node = new TestNode();
  open.push(node);
  fs.mkdirSync(node.stateDir);
  execFileSync("mount", ["-t", "tmpfs", "podlane-test", node.stateDir]);
  const remount = (how: string) => execFileSync("mount", ["-o", `remount,${how}`, node.stateDir]);
  try {
    await node.start();
    await add(node, "a");
    await node.kill();
    remount("ro");
    await node.start();
    expect(await names(node)).toEqual(["a"]);
    expect(await node.call("STATUS")).toMatchObject({ status: 1, json: { code: 50, msg: expect.stringMatching(/read-only/i) } });
    expect(await node.call("ADD", { container: "b", netns: node.pod() })).toMatchObject({ status: 1, json: { code: 5 } });
    expect(await node.call("DEL", { container: "a" })).toMatchObject({ status: 0 });
    remount("rw");
    await add(node, "b");
    expect(await node.problems()).toEqual([]);
    expect(await names(node)).toEqual(["b"]);
  } finally {
    await node.kill();
    execFileSync("umount", [node.stateDir]);
  }
}, 60_000);
