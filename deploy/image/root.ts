/**
 * The root file system of podlane's image, from one list for Containerfile, `npm run image`, tests and lab: what `npm run build` makes, Node without
 * npm, the packet filters' tools that kernel/netfilter.ts asks, and the shared libraries that all of these load. No shell, no package manager.
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { build } from "../../scripts/build.ts";

/** How the image is run, here and in the Containerfile. */
export const entrypoint = ["/usr/bin/podlane"];
export const environment = ["PATH=/usr/bin:/usr/sbin"];

const project = join(import.meta.dirname, "../..");
const PODLANE = "usr/lib/podlane";

/** Programs of the machine that builds, and the names they answer to. */
const tools: Record<string, readonly string[]> = {
  nft: [],
  "xtables-nft-multi": ["iptables", "ip6tables", "iptables-nft", "ip6tables-nft"],
  "xtables-legacy-multi": ["iptables-legacy", "ip6tables-legacy"],
};

/** Those of a file system that is merged as Debian's; /var/run for runtimes that name network namespaces by it. */
const links: Record<string, string> = {
  bin: "usr/bin",
  sbin: "usr/sbin",
  lib: "usr/lib",
  lib64: "usr/lib64",
  "var/run": "../run",
};

/** Where the kernel and the DaemonSet mount something. */
const mountPoints = ["dev", "proc", "sys", "run/netns", "run/podlane", "tmp", "var/lib/podlane", "opt/cni/bin", "etc/cni/net.d"];

const texts: Record<string, string> = {
  "etc/passwd": "root:x:0:0:root:/:/usr/sbin/nologin\n",
  "etc/group": "root:x:0:\n",
};

/** The kernel gives an interpreter one argument; why this one: scripts/podlane. */
const launcher = `#!/usr/bin/node --max-semi-space-size=8\nimport("/${PODLANE}/main.js");\n`;

/**
 * Makes it in `root`, which must not exist, and returns what the operator should know, in sentences. Throws where something of it is missing here, with
 * what has it.
 */
export async function makeRoot(root: string): Promise<string[]> {
  const notes: string[] = [];
  for (const path of ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "var", ...mountPoints])
    mkdirSync(join(root, path), { recursive: true });
  for (const [path, target] of Object.entries(links)) symlinkSync(target, join(root, path));
  for (const [path, text] of Object.entries(texts)) writeFileSync(join(root, path), text);
  await build(join(root, PODLANE));
  // Of koffi's two builds the one for the C library that Node is made for.
  for (const path of globSync(join(root, PODLANE, "node_modules/@koromix/*/musl_*"))) rmSync(path, { recursive: true });
  if (!statSync(join(root, PODLANE, "cni/podlane")).isFile()) throw new Error("the CNI executable was not built");
  writeFileSync(join(root, "usr/bin/podlane"), launcher, { mode: 0o755 });
  const node = join(root, "usr/bin/node");
  copyFileSync(nodeOfProject(), node);
  if (!strip(node)) notes.push("Node keeps its symbols, 33 MB: install binutils to have them stripped");
  const programs = Object.keys(tools).map(name => copyTool(root, name));
  const extensions = copyExtensions(root);
  const native = globSync(join(root, PODLANE, "node_modules/@koromix/*/*/koffi.node"));
  const libraries = copyLibraries(root, [node, ...native, ...programs, ...extensions]);
  copyLicences(root, [...programs, ...libraries]);
  normalize(root);
  return notes;
}

function nodeOfProject(): string {
  const own = join(project, `node_modules/node-linux-${process.arch}/bin/node`);
  return existsSync(own) ? own : process.execPath;
}

function strip(file: string): boolean {
  return spawnSync("strip", ["--strip-all", file]).status === 0;
}

/** Returns its path here. */
function copyTool(root: string, name: string): string {
  const from = ["/usr/sbin", "/sbin", "/usr/bin"].map(folder => join(folder, name)).find(existsSync);
  if (!from) throw new Error(`the image needs ${name}: install the Debian packages nftables and iptables`);
  copy(from, join(root, "usr/sbin", name));
  for (const alias of tools[name]) symlinkSync(name, join(root, "usr/sbin", alias));
  return from;
}

/** What iptables loads to write the rules of others, which it lists together with ours. */
function copyExtensions(root: string): string[] {
  const found = globSync("/usr/lib/{*/,}xtables/lib{xt,ipt,ip6t}_*.so");
  if (found.length === 0)
    throw new Error("the image needs the extensions of iptables, /usr/lib/*/xtables: install the Debian package iptables");
  for (const from of found) copy(from, join(root, from));
  return found;
}

/** All that `files` load, by ldd(1), to the place where the loader found it here. Returns their paths here. */
function copyLibraries(root: string, files: string[]): string[] {
  const output = files.map(file => execFileSync("ldd", [file], { encoding: "utf8" })).join("\n");
  if (output.includes("not found")) throw new Error(`libraries are missing here:\n${output}`);
  const found = [...new Set([...output.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x/gm)].map(match => match[1]))];
  for (const from of found) copy(from, join(root, merged(from)));
  return found;
}

/** /lib is a link to /usr/lib in the image, wherever it is one here. */
function merged(path: string): string {
  return join("/usr", path.replace(/^\/usr/, ""));
}

/** The terms of what is handed on: of Node and of the Debian packages that the files come from. */
function copyLicences(root: string, files: string[]): void {
  const target = join(root, "usr/share/doc");
  copy(join(project, "LICENSE"), join(target, "podlane/LICENSE"));
  const node = join(dirname(nodeOfProject()), "../LICENSE");
  if (existsSync(node)) copy(node, join(target, "node/LICENSE"));
  for (const file of new Set(files.flatMap(path => [path, realpathSync(path), merged(path)]))) {
    const { status, stdout } = spawnSync("dpkg-query", ["--search", file], { encoding: "utf8" });
    const name = status === 0 ? stdout.split(":")[0] : undefined;
    const text = `/usr/share/doc/${name}/copyright`;
    if (name !== undefined && existsSync(text)) copy(text, join(target, basename(dirname(text)), "copyright"));
  }
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  chmodSync(to, (statSync(from).mode & 0o111) !== 0 ? 0o755 : 0o644);
}

/** Whatever mask and rights the build had. */
function normalize(root: string): void {
  chmodSync(root, 0o755);
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) chmodSync(path, 0o755);
    else if (entry.isFile()) chmodSync(path, (statSync(path).mode & 0o111) !== 0 ? 0o755 : 0o644);
  }
}
