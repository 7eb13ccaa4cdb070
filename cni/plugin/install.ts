/**
 * Installs podlane as a node's network: the executable first, then the list that makes the runtime use it, each by rename(2), so that
 * whatever instant it is looked at, a list never names an executable that is not there. Uninstalling goes the other way.
 */
import fs from "node:fs";
import path from "node:path";
import { replaceFile } from "../replace-file.ts";
import { type PluginFile, pluginContents, pluginFiles } from "./build.ts";

export interface PluginPlaces {
  binDir: string;
  confDir: string;
}

export interface InstallOptions extends PluginPlaces {
  /** Of the agent; undefined = the executable's default. */
  socket?: string;
  /** Where the executable keeps DELs while there is no agent; undefined = its default. */
  queue?: string;
  /** Change nothing. */
  dryRun: boolean;
  /** What pluginContents(binDir) gave; absent: it is asked now, which may take a compiler some time. */
  plugin?: readonly PluginFile[];
}

export interface FileChange {
  file: string;
  change: "made" | "replaced" | "unchanged" | "removed" | "absent";
}

export interface InstallReport {
  files: FileChange[];
  /** What the operator should know, in sentences. */
  notes: string[];
}

/** A network of somebody else that the runtime takes in place of podlane's. */
export interface ForeignNetwork {
  file: string;
  /** Its name; undefined: the file cannot be read as a network. */
  network: string | undefined;
}

const CONFLIST_NAME = "10-podlane.conflist";
/** What libcni takes for network configurations. */
const configuration = /\.(conf|conflist|json)$/;
/** Of a file that is read to name its network. */
const MAX_OCTETS = 1 << 20;

/** Throws errors of the file system, which name the path. */
export function installPlugin(options: InstallOptions): InstallReport {
  const { binDir, confDir, dryRun } = options;
  const executables = options.plugin ?? pluginContents(binDir);
  const wanted = [
    ...executables.map(({ name, content, mode }) => ({ file: path.join(binDir, name), content, mode })),
    { file: path.join(confDir, CONFLIST_NAME), content: Buffer.from(conflist(options, hadPortmap(options))), mode: 0o644 },
  ];
  const files = wanted.map(({ file, content, mode }): FileChange => {
    const change = changeOf(file, content, mode);
    if (!dryRun && change !== "unchanged") replaceFile(file, content, mode);
    return { file, change };
  });
  const notes: string[] = [];
  const foreign = foreignNetwork(confDir);
  if (foreign) notes.push(`the runtime takes the first file, ${foreign.file}, and not podlane's: remove it when its pods are gone`);
  return { files, notes };
}

/** Throws errors of the file system, which name the path. */
export function uninstallPlugin({ binDir, confDir, dryRun }: PluginPlaces & { dryRun: boolean }): InstallReport {
  const own = [path.join(confDir, CONFLIST_NAME), ...pluginFiles.map(name => path.join(binDir, name))];
  const files = [...own, ...own.flatMap(halfWritten)].map((file): FileChange => {
    const present = fs.existsSync(file);
    if (present && !dryRun) fs.rmSync(file);
    return { file, change: present ? "removed" : "absent" };
  });
  return { files, notes: ["pods that are still attached can no longer be deleted by the runtime: drain the node first"] };
}

/** Beside a file, what replaceFile() left there when its process was killed. */
function halfWritten(file: string): string[] {
  const { dir: directory, base: name } = path.parse(file);
  if (!fs.existsSync(directory)) return [];
  const leftover = (found: string) => found.startsWith(`.${name}.`) && /^\d{1,10}\.new$/.test(found.slice(name.length + 2));
  return fs
    .readdirSync(directory)
    .filter(leftover)
    .map(found => path.join(directory, found));
}

/** Whether a network of somebody else is there. */
export function hasForeignNetwork(confDir: string): boolean {
  return readNames(confDir).some(name => name !== CONFLIST_NAME);
}

/** The first of those that sort before podlane's: containerd and the kubelet take one network, of the first file by name. */
export function foreignNetwork(confDir: string): ForeignNetwork | undefined {
  const [first] = readNames(confDir);
  if (first === undefined || first >= CONFLIST_NAME) return undefined;
  const file = path.join(confDir, first);
  return { file, network: networkOf(file) };
}

function networkOf(file: string): string | undefined {
  try {
    if (fs.statSync(file).size > MAX_OCTETS) return undefined;
    const { name, type, plugins } = JSON.parse(fs.readFileSync(file, "utf8"));
    const isNetwork = file.endsWith(".conflist") ? Array.isArray(plugins) && plugins.length > 0 : typeof type === "string" && type !== "";
    return isNetwork && typeof name === "string" ? name : undefined;
  } catch {
    return undefined;
  }
}

/** Former versions left hostPort to portmap, whose rules for pods of that time only its DEL takes away. */
function hadPortmap({ binDir, confDir }: PluginPlaces): boolean {
  const file = path.join(confDir, CONFLIST_NAME);
  return fs.existsSync(path.join(binDir, "portmap")) && pluginTypes(file).includes("portmap");
}

function pluginTypes(file: string): unknown[] {
  try {
    if (fs.statSync(file).size > MAX_OCTETS) return [];
    const { plugins } = JSON.parse(fs.readFileSync(file, "utf8"));
    return Array.isArray(plugins) ? plugins.map(plugin => plugin?.type) : [];
  } catch {
    return [];
  }
}

/** CNI 1.0.0, which containerd 1.6 knows. Ports are podlane's own; a portmap behind it, without the capability, is told of no new ones. */
function conflist({ socket, queue }: InstallOptions, withPortmap: boolean): string {
  const places = { ...(socket !== undefined && { socket }), ...(queue !== undefined && { queue }) };
  const plugins = [
    { type: "podlane", capabilities: { bandwidth: true, ips: true, mac: true, portMappings: true }, ...places },
    ...(withPortmap ? [{ type: "portmap" }] : []),
  ];
  return `${JSON.stringify({ cniVersion: "1.0.0", name: "podlane", plugins }, undefined, 2)}\n`;
}

function changeOf(file: string, content: Buffer, mode: number): FileChange["change"] {
  const found = fs.statSync(file, { throwIfNoEntry: false });
  if (!found) return "made";
  const same = found.isFile() && (found.mode & 0o777) === mode && found.size === content.length && fs.readFileSync(file).equals(content);
  return same ? "unchanged" : "replaced";
}

/** Of files, as libcni lists them. */
function readNames(directory: string): string[] {
  if (!fs.existsSync(directory)) return [];
  return fs
    .readdirSync(directory, { withFileTypes: true })
    .filter(entry => !entry.isDirectory() && configuration.test(entry.name))
    .map(({ name }) => name)
    .sort();
}
