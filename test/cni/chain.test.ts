/** Beside and together with other people's code: Debian's portmap, bridge and host-local plugins, and libcni itself. */
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { sharedFile } from "../shared.ts";
import { forgetResults, inNetns, node as nodeBinary, type Outcome, pings, requireRoot, runPlugin, TestNode, until } from "./harness.ts";

const debian = "/usr/lib/cni";
const hasDebian = fs.existsSync(`${debian}/portmap`) && fs.existsSync(`${debian}/bridge`);

const noDebian = `no ${debian}; install containernetworking-plugins`;

beforeAll(requireRoot);

const atEnd: string[] = [];
afterAll(() => {
  for (const directory of atEnd) fs.rmSync(directory, { recursive: true, force: true });
});

const closing: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(...args: ConstructorParameters<typeof TestNode>): Promise<TestNode> {
  const node = new TestNode(...args);
  closing.push(() => node.close());
  await node.start();
  return node;
}

/** A namespace beside the node, on one wire with it: 192.0.2.1 is the node. */
function neighbour(node: TestNode): string {
  const netns = node.pod("out");
  node.exec("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", path.basename(netns));
  node.exec("ip", "addr", "add", "192.0.2.1/24", "dev", "up0");
  node.exec("ip", "link", "set", "up0", "up");
  inNetns(netns, "ip", "addr", "add", "192.0.2.9/24", "dev", "eth0");
  inNetns(netns, "ip", "link", "set", "eth0", "up");
  return netns;
}

/** A TCP server in a pod that says one word. */
async function serve(netns: string, port: number): Promise<void> {
  const program = `require("net").createServer(s=>s.end("podlane")).listen(${port},"::",()=>console.log("up"))`;
  const child = spawn("nsenter", [`--net=${netns}`, nodeBinary, "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  closing.push(() => {
    child.kill("SIGKILL");
  });
  await new Promise(resolve => child.stdout.once("data", resolve));
}

function fetchWord(netns: string, address: string, port: number): string {
  const program = `const s=require("net").connect({host:"${address}",port:${port},timeout:1000});s.on("data",d=>process.stdout.write(d));s.on("error",()=>{});s.on("timeout",()=>s.destroy())`;
  return inNetns(netns, nodeBinary, "-e", program).stdout;
}

function podEnvironment(command: string, container: string, netns: string): Record<string, string> {
  return {
    PATH: process.env.PATH ?? "",
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: debian,
  };
}

test("portmap behind podlane: a port of the node leads to the pod; CHECK and DEL in a chain", async context => {
  context.skip(!hasDebian, noDebian);
  const node = await start();
  const netns = node.pod();
  const outside = neighbour(node);
  const word = () => fetchWord(outside, "192.0.2.1", 8080);
  const portmap = (command: string, prevResult: object): Promise<Outcome> => {
    const config = {
      cniVersion: "1.0.0",
      name: "pods",
      type: "portmap",
      snat: true,
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] },
      prevResult,
    };
    return runPlugin(`${debian}/portmap`, podEnvironment(command, "web", netns), JSON.stringify(config), node.netns);
  };
  const added = await node.call("ADD", { container: "web", netns, config: { cniVersion: "1.0.0" } });
  const chained = await portmap("ADD", added.json);
  expect(chained).toMatchObject({ status: 0, json: { ...added.json } });
  await serve(netns, 80);
  expect(word()).toBe("podlane");
  expect(await node.call("CHECK", { container: "web", netns, config: { cniVersion: "1.0.0", prevResult: chained.json } })).toMatchObject({
    status: 0,
  });
  expect(await portmap("DEL", chained.json)).toMatchObject({ status: 0 });
  expect(await node.call("DEL", { container: "web", netns, config: { cniVersion: "1.0.0", prevResult: chained.json } })).toMatchObject({
    status: 0,
  });
  expect(fetchWord(outside, "192.0.2.1", 8080)).toBe("");
});

/** libcni's own driver; undefined where it is not on this machine. */
function findCnitool(): string | undefined {
  if (process.env.CNITOOL) return process.env.CNITOOL;
  const packed = sharedFile("kubernetes", "cnitool.xz");
  if (!packed.exists) return undefined;
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "podlane-cnitool-"));
  atEnd.push(directory);
  const file = path.join(directory, "cnitool");
  fs.writeFileSync(file, execFileSync("xz", ["-dc", packed.path], { maxBuffer: 64 << 20 }), { mode: 0o755 });
  return file;
}

describe("through libcni", () => {
  const cnitool = findCnitool();
  beforeEach(context => context.skip(!cnitool, "no cnitool; set CNITOOL to containernetworking/cni's cnitool"));

  type Tool = (command: string, netns: string, capabilities?: object) => { status: number; text: string };

  function toolOf(node: TestNode, cniVersion: string, ...more: object[]): Tool {
    const network = `${node.id}-net`;
    const configurations = path.join(node.directory, "net.d");
    fs.mkdirSync(configurations);
    const list = { cniVersion, name: network, plugins: [{ type: "podlane", socket: node.socket, queue: node.queue }, ...more] };
    fs.writeFileSync(path.join(configurations, "10-podlane.conflist"), JSON.stringify(list));
    closing.push(() => forgetResults(network));
    const env = {
      PATH: process.env.PATH,
      PODLANE_WAIT: "0",
      NETCONFPATH: configurations,
      CNI_PATH: `${path.dirname(node.plugin)}:${debian}`,
    };
    return (command, netns, capabilities) => {
      try {
        const all = { ...env, ...(capabilities && { CAP_ARGS: JSON.stringify(capabilities) }) };
        const text = execFileSync("nsenter", [`--net=${node.netns}`, cnitool!, command, network, netns], {
          encoding: "utf8",
          env: all,
          stdio: ["ignore", "pipe", "pipe"],
        });
        return { status: 0, text };
      } catch (error) {
        const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
        return { status, text: stdout + stderr };
      }
    };
  }

  test("add, check, status, gc, del in version 1.1.0", async () => {
    const node = await start();
    const [a, b] = [node.pod(), node.pod()];
    const tool = toolOf(node, "1.1.0");
    expect(tool("status", a)).toEqual({ status: 0, text: "" });
    const added = tool("add", a);
    expect(added.status).toBe(0);
    expect(JSON.parse(added.text)).toMatchObject({
      cniVersion: "1.1.0",
      ips: [{ address: "10.77.0.2/24" }, { address: "fd77::2/64" }],
      interfaces: [{ mtu: 1500 }, { mtu: 1500 }, { name: "eth0", mtu: 1500 }],
    });
    expect(tool("check", a)).toEqual({ status: 0, text: "" });
    tool("add", b);
    expect(pings(b, "10.77.0.2")).toBe(true);
    expect(tool("del", a)).toEqual({ status: 0, text: "" });
    expect(tool("del", a)).toEqual({ status: 0, text: "" });
    expect(await node.attachments()).toHaveLength(1);
    // cnitool passes no list of valid attachments: libcni then DELs what its cache holds.
    expect(tool("gc", b)).toEqual({ status: 0, text: "" });
    expect(await node.attachments()).toEqual([]);
    await node.kill();
    expect(tool("status", a)).toMatchObject({ status: 1, text: expect.stringContaining("is the podlane agent running on this node") });
    expect(tool("add", a)).toMatchObject({ status: 1, text: expect.stringContaining(node.socket) });
    expect(tool("del", a)).toEqual({ status: 0, text: "" });
    expect(fs.readdirSync(node.queue)).toHaveLength(1);
  });

  test.for(["0.3.1", "0.4.0", "1.0.0"])("a list with portmap in version %s", async (version, context) => {
    context.skip(!hasDebian, noDebian);
    const node = await start();
    const netns = node.pod();
    const outside = neighbour(node);
    const word = () => fetchWord(outside, "192.0.2.1", 8080);
    const tool = toolOf(node, version, { type: "portmap", snat: true, capabilities: { portMappings: true } });
    const capabilities = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] };
    const added = tool("add", netns, capabilities);
    expect(added).toMatchObject({ status: 0, text: expect.stringContaining(`"cniVersion": "${version}"`) });
    await serve(netns, 80);
    expect(word()).toBe("podlane");
    expect(tool("del", netns, capabilities)).toEqual({ status: 0, text: "" });
    expect(await node.attachments()).toEqual([]);
    await until("the port to be closed", () => word() === "");
  });

  // Not with portmap: in CHECK, 1.1.1 looks for IPv4 rules among those of IPv6, behind Debian's own bridge plugin as well.
  test.for(["0.4.0", "1.0.0"])("CHECK of a list whose tuning plugin changed the interface, in version %s", async (version, context) => {
    context.skip(!hasDebian, noDebian);
    const node = await start();
    const netns = node.pod();
    const tool = toolOf(node, version, { type: "tuning", mtu: 1400, mac: "02:aa:bb:cc:dd:01", sysctl: { "net.core.somaxconn": "500" } });
    const added = tool("add", netns);
    expect(JSON.parse(added.text).interfaces[2]).toMatchObject({ name: "eth0", mac: "02:aa:bb:cc:dd:01" });
    expect(tool("check", netns)).toEqual({ status: 0, text: "" });
    inNetns(netns, "ip", "route", "del", "default");
    expect(tool("check", netns)).toMatchObject({ status: 1, text: expect.stringContaining("no default route for IPv4") });
    expect(tool("del", netns)).toEqual({ status: 0, text: "" });
    expect(await node.attachments()).toEqual([]);
  });
});

/** The form of a value: names and kinds, not what they are this time. */
function form(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(form);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(
      Object.entries(value).map(([key, entry]) => [key, key === "version" || key === "cniVersion" ? entry : form(entry)]),
    );
  if (typeof value !== "string") return value;
  if (/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(value)) return "MAC";
  if (/^[0-9.]+\/\d+$/.test(value)) return value.endsWith("/0") ? value : "IPv4/length";
  if (/^[0-9a-f:]+\/\d+$/.test(value)) return value.endsWith("/0") ? value : "IPv6/length";
  if (/^[0-9.]+$/.test(value)) return "IPv4";
  if (/^[0-9a-f:]+$/.test(value) && value.includes(":")) return "IPv6";
  return value.startsWith("/") ? "path" : "text";
}

describe("compared with Debian's bridge and host-local", () => {
  beforeEach(context => context.skip(!hasDebian, noDebian));

  function reference(node: TestNode, cniVersion: string): string {
    const ranges = [[{ subnet: "10.66.0.0/24" }], [{ subnet: "fd66::/64" }]];
    const ipam = { type: "host-local", ranges, dataDir: path.join(node.directory, "host-local") };
    return JSON.stringify({
      cniVersion,
      name: "reference",
      type: "bridge",
      bridge: "ref0",
      isDefaultGateway: true,
      hairpinMode: true,
      ipam,
    });
  }

  test.each(["0.3.1", "0.4.0", "1.0.0"])("the result of ADD has the same form in version %s", async version => {
    const node = await start();
    const [ours, theirs] = [node.pod(), node.pod()];
    const mine = await node.call("ADD", { container: "a", netns: ours, config: { cniVersion: version } });
    const other = await runPlugin(`${debian}/bridge`, podEnvironment("ADD", "b", theirs), reference(node, version), node.netns);
    expect([mine.status, other.status]).toEqual([0, 0]);
    expect(form(mine.json)).toEqual(form(other.json));
    expect(mine.json.ips.map((ip: { gateway: string }) => ip.gateway)).toEqual(["10.77.0.1", "fd77::1"]);
    expect(other.json.ips.map((ip: { gateway: string }) => ip.gateway)).toEqual(["10.66.0.1", "fd66::1"]);
  });

  test("that of a routed pod has the form of ptp's", async () => {
    const node = await start({ mode: "routed" });
    const [ours, theirs] = [node.pod(), node.pod()];
    const mine = await node.call("ADD", { container: "a", netns: ours, config: { cniVersion: "1.0.0" } });
    const { ipam, ...common } = JSON.parse(reference(node, "1.0.0"));
    const routes = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
    const ptp = JSON.stringify({ ...common, type: "ptp", ipam: { ...ipam, routes } });
    const other = await runPlugin(`${debian}/ptp`, podEnvironment("ADD", "b", theirs), ptp, node.netns);
    expect([mine.status, other.status]).toEqual([0, 0]);
    // There the gateway of a route is that of the address, unsaid.
    const said = { ...mine.json, routes: mine.json.routes.map(({ dst }: { dst: string }) => ({ dst })) };
    expect(form(said)).toEqual(form(other.json));
  });

  const faults: [string, Record<string, string | undefined>, object][] = [
    ["no container", { CNI_CONTAINERID: undefined }, {}],
    ["no interface name", { CNI_IFNAME: undefined }, {}],
    ["no namespace", { CNI_NETNS: undefined }, {}],
    ["a bad container", { CNI_CONTAINERID: "a/b" }, {}],
    ["a bad interface name", { CNI_IFNAME: "a/b" }, {}],
    ["an unknown command", { CNI_COMMAND: "FLY" }, {}],
    ["a version of the future", {}, { cniVersion: "9.9.9" }],
    ["a bad network name", {}, { name: "a b" }],
  ];
  test.each(faults)("the error of ADD with %s has the same code and form", async (_, env, config) => {
    const node = await start();
    const netns = node.pod();
    const all = { ...podEnvironment("ADD", "a", netns), ...env };
    const set = Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
    const mine = await runPlugin(node.plugin, set, JSON.stringify({ ...node.config({ cniVersion: "1.0.0" }), ...config }));
    const other = await runPlugin(
      `${debian}/bridge`,
      set,
      JSON.stringify({ ...JSON.parse(reference(node, "1.0.0")), ...config }),
      node.netns,
    );
    expect([mine.status, other.status]).toEqual([1, 1]);
    expect(mine.json).toMatchObject({ code: other.json.code, msg: expect.any(String) });
    expect(mine.stderr).toBe("");
  });

  test("VERSION has the same form", async () => {
    const node = await start();
    const mine = await node.call("VERSION", { stdin: '{"cniVersion":"1.0.0"}' });
    const other = await runPlugin(`${debian}/bridge`, { CNI_COMMAND: "VERSION" }, '{"cniVersion":"1.0.0"}');
    expect(Object.keys(mine.json)).toEqual(Object.keys(other.json));
    expect(mine.json.supportedVersions).toEqual(expect.arrayContaining(["0.3.1", "0.4.0", "1.0.0"]));
  });
});
