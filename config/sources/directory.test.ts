import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Problem } from "../plan.ts";
import type { Resources } from "../resources/kinds.ts";
import { DirectorySource } from "./directory.ts";

let folder: string;
let source: DirectorySource | undefined;
let seen: { resources: Resources; problems: Problem[] }[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "podlane-directory-"));
  seen = [];
});

afterEach(async () => {
  await source?.close();
  source = undefined;
  await rm(folder, { recursive: true, force: true });
});

const node = (name: string, cidr = "10.244.1.0/24") =>
  `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}}\nspec: {podCIDRs: [${cidr}]}\n`;
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: 10_000 });
const write = (name: string, text: string) => writeFile(join(folder, name), text);
/** As a whole, at once: a scan never meets a part of it. */
async function replace(name: string, text: string): Promise<void> {
  const draft = join(folder, `.${name}.draft`);
  await writeFile(draft, text);
  await rename(draft, join(folder, name));
}
const last = () => seen.at(-1);
const names = () => [...(last()?.resources.nodes.keys() ?? [])];
const messages = () => last()?.problems.map(({ object, message }) => `${object}: ${message}`);

async function start(path = folder, options = { debounce: 5, interval: 0 }): Promise<DirectorySource> {
  source = new DirectorySource(path, options);
  await source.start((resources, problems) => seen.push({ resources, problems }));
  return source;
}

test("reads what is there; other files, dotfiles and folders do not count", async () => {
  await write("b.yaml", node("b"));
  await write("a.yml", `${node("a")}---\n${node("c")}`);
  await write("d.json", JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: "d" } }));
  await write(".hidden.yaml", node("hidden"));
  await write("notes.txt", "no yaml: [");
  await mkdir(join(folder, "sub.d"));
  await write("sub.d/e.yaml", node("e"));
  await start();
  expect(names().sort()).toEqual(["a", "b", "c", "d"]);
  expect(last()?.problems).toEqual([]);
});

test("what is no plain file holds nothing up: a FIFO nobody writes to, a device, a folder, a link to one of them", async () => {
  await write("a.yaml", node("a"));
  execFileSync("mkfifo", [join(folder, "fifo.yaml")]);
  await symlink("/dev/zero", join(folder, "device.yaml"));
  await symlink("fifo.yaml", join(folder, "link.yaml"));
  await mkdir(join(folder, "folder.yaml"));
  const running = await start();
  expect(names()).toEqual(["a"]);
  const held = ["device.yaml", "fifo.yaml", "folder.yaml", "link.yaml"];
  expect(last()?.problems.map(({ object }) => object)).toEqual(held);
  for (const message of messages() ?? []) expect(message).toContain("no plain file");
  // Neither a reload nor the end waits for them.
  await write("a.yaml", node("b"));
  await running.reload();
  expect(names()).toEqual(["b"]);
  await running.close();
});

test("a directory that is not there is an error with a remedy", async () => {
  await expect(start(join(folder, "none"))).rejects.toThrow(/cannot read the configuration directory .*none.*--config/);
});

test("changes, new files and deletions arrive by themselves", async () => {
  await write("a.yaml", node("a"));
  await start();
  await write("b.yaml", node("b"));
  await eventually(names).toEqual(["a", "b"]);
  await write("a.yaml", node("a", "10.244.9.0/24"));
  await eventually(() => last()?.resources.nodes.get("a")?.spec.podCIDRs).toEqual(["10.244.9.0/24"]);
  await unlink(join(folder, "b.yaml"));
  await eventually(names).toEqual(["a"]);
});

test("a half-written file keeps its last good documents until it is whole", async () => {
  await write("a.yaml", `${node("a")}---\n${node("b")}`);
  const running = await start();
  await write("a.yaml", `${node("c")}---\napiVersion: v1\nkind: {Node`);
  await running.reload();
  expect(names()).toEqual(["a", "b"]);
  expect(messages()?.[0]).toMatch(/^a\.yaml: not valid YAML/);
  await write("a.yaml", node("c"));
  await running.reload();
  expect(names()).toEqual(["c"]);
  expect(last()?.problems).toEqual([]);
});

test("an emptied file keeps what it said; deleting it removes it", async () => {
  await write("a.yaml", node("a"));
  const running = await start();
  await write("a.yaml", "");
  await running.reload();
  expect(names()).toEqual(["a"]);
  expect(messages()).toEqual(["a.yaml: is empty; what it said before stays in force"]);
  await unlink(join(folder, "a.yaml"));
  await running.reload();
  expect(names()).toEqual([]);
  expect(last()?.problems).toEqual([]);
});

test("a file written in pieces, each valid by itself, arrives only as a whole", async () => {
  const running = await start(folder, { debounce: 1000, interval: 0 });
  await write("a.yaml", node("a"));
  const reloaded = running.reload();
  await write("a.yaml", `${node("a")}---\n${node("b")}`);
  await reloaded;
  expect(seen.map(({ resources }) => resources.nodes.size)).toEqual([0, 2]);
});

test("a bad object keeps its own last good version; the others in the file are taken", async () => {
  await write("a.yaml", `${node("a")}---\n${node("b")}`);
  const running = await start();
  await write("a.yaml", `${node("a", "10.0.0.1/8")}---\n${node("b", "10.244.2.0/24")}`);
  await running.reload();
  expect([...(last()?.resources.nodes.values() ?? [])].map(({ metadata, spec }) => [metadata.name, ...spec.podCIDRs]).sort()).toEqual([
    ["a", "10.244.1.0/24"],
    ["b", "10.244.2.0/24"],
  ]);
  expect(messages()).toEqual([expect.stringMatching(/^Node\/a: "10\.0\.0\.1\/8" is not a prefix/)]);
});

test("the same object twice names both places, and the first file by name wins", async () => {
  await write("2.yaml", node("a", "10.244.2.0/24"));
  await write("1.yaml", node("a", "10.244.1.0/24"));
  await start();
  expect(last()?.resources.nodes.get("a")?.spec.podCIDRs).toEqual(["10.244.1.0/24"]);
  expect(messages()).toEqual([
    "Node/a: is there twice: 1.yaml, document 1, line 1:1 and 2.yaml, document 1, line 1:1; that of 1.yaml, document 1, line 1:1 is used",
  ]);
});

test("nothing new, nothing said", async () => {
  await write("a.yaml", node("a"));
  const running = await start();
  await write("a.yaml", node("a"));
  await running.reload();
  await running.reload();
  expect(seen.length).toBe(1);
});

test("a ConfigMap mount: ..data turns to another folder at once", async () => {
  for (const [version, cidr] of [
    ["v1", "10.244.1.0/24"],
    ["v2", "10.244.2.0/24"],
  ]) {
    await mkdir(join(folder, `..${version}`));
    await writeFile(join(folder, `..${version}`, "a.yaml"), node("a", cidr));
  }
  await symlink("..v1", join(folder, "..data"));
  await symlink("..data/a.yaml", join(folder, "a.yaml"));
  await start();
  expect(last()?.resources.nodes.get("a")?.spec.podCIDRs).toEqual(["10.244.1.0/24"]);
  await symlink("..v2", join(folder, "..data_tmp"));
  await rename(join(folder, "..data_tmp"), join(folder, "..data"));
  await eventually(() => last()?.resources.nodes.get("a")?.spec.podCIDRs).toEqual(["10.244.2.0/24"]);
});

test("a directory that is away for a while changes nothing but a problem", async () => {
  const path = join(folder, "conf");
  await mkdir(path);
  await writeFile(join(path, "a.yaml"), node("a"));
  const running = await start(path);
  await rename(path, `${path}.old`);
  await running.reload();
  expect(names()).toEqual(["a"]);
  expect(messages()?.[0]).toMatch(/cannot be read: .*the last good state stays in force/);
  await rename(`${path}.old`, path);
  await running.reload();
  expect(last()?.problems).toEqual([]);
  await writeFile(join(path, "b.yaml"), node("b"));
  await eventually(names).toEqual(["a", "b"]);
});

test("a file that is too large keeps what it said", async () => {
  await write("a.yaml", node("a"));
  const running = await start();
  await replace("a.yaml", `# ${"x".repeat(5 * 1024 * 1024)}`);
  await running.reload();
  expect(names()).toEqual(["a"]);
  expect(messages()?.[0]).toMatch(/larger than/);
});

test("of an object that comes up in a second file, the one that was there stays in use, whatever the files' names", async () => {
  await write("m.yaml", node("a", "10.244.1.0/24"));
  const running = await start();
  const cidr = () => last()?.resources.nodes.get("a")?.spec.podCIDRs;
  await replace("b.yaml", node("a", "10.244.2.0/24"));
  await running.reload();
  expect([cidr(), messages()]).toEqual([
    ["10.244.1.0/24"],
    [expect.stringMatching(/^Node\/a: is there twice: m\.yaml.* and b\.yaml.*; that of m\.yaml.* is used$/)],
  ]);
  await unlink(join(folder, "m.yaml"));
  await running.reload();
  expect([cidr(), messages()]).toEqual([["10.244.2.0/24"], []]);
});

test("Services are in the index and not among the objects, and of their changes it tells what changed", async () => {
  const web = (name: string, more = "") =>
    `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop}\nspec: {clusterIP: 10.96.0.10${more}}\n`;
  const slice = (address: string, name = "web") =>
    `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x, namespace: shop, labels: {kubernetes.io/service-name: ${name}}}\naddressType: IPv4\nendpoints: [{addresses: [${address}], nodeName: n1}]\n`;
  const space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n";
  await write("services.yaml", [web("web"), web("api"), slice("10.244.1.2"), space].join("---\n"));
  await write("web.yaml", `${node("web")}---\n${web("web").replace("shop", "other")}`);
  source = new DirectorySource(folder, { node: "n1", debounce: 5, interval: 0 });
  const { services: index } = source;
  const told: string[][] = [];
  index.listen(changed => void told.push([...changed].sort()));
  await source.start((resources, problems) => seen.push({ resources, problems }));
  expect([names(), last()?.problems, told]).toEqual([["web"], [], [["other/web", "shop/api", "shop/web"]]]);
  expect([index.endpoints("shop/web")[4].localReady, index.namespaceLabels("shop"), source.objects]).toEqual([1, { team: "a" }, 6]);

  await replace("services.yaml", [web("web", ", externalIPs: [x]"), web("api"), slice("10.244.1.3", "api")].join("---\n"));
  await source.reload();
  // Of one with an error its last good version stays, and is told as little as one that did not change.
  expect(messages()).toEqual([expect.stringMatching(/^Service\/shop\/web: "x" is not an IP address/)]);
  expect(told.slice(1)).toEqual([["other/web", "shop/api", "shop/web"].slice(1)]);
  expect([index.endpoints("shop/web")[4].localReady, index.endpoints("shop/api")[4].localReady]).toEqual([0, 1]);
  expect(index.namespaceLabels("shop")).toBeUndefined();

  await replace("services.yaml", [web("web"), web("api"), slice("10.244.1.3", "api")].join("---\n"));
  await source.reload();
  const before = seen.length;
  await replace("services.yaml", [slice("10.244.1.4", "api"), web("api")].join("---\n"));
  await source.reload();
  expect(told.slice(2)).toEqual([["shop/web"]]);
  expect(seen.length).toBe(before);
});

test("the same Service twice in one namespace names both places", async () => {
  const web = (address: string) => `apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: ${address}}\n`;
  await write("1.yaml", web("10.96.0.1"));
  await write("2.yaml", web("10.96.0.2"));
  const { services } = await start();
  expect(services.service("default/web")?.addresses.ClusterIP).toEqual(["10.96.0.1"]);
  expect(messages()).toEqual([expect.stringMatching(/^Service\/default\/web: is there twice: 1\.yaml.* and 2\.yaml/)]);
});
