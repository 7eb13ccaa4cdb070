/**
 * Installs podlane as a node's network: the executable first, then the list that makes the runtime use it, each by rename(2), so that
 * whatever instant it is looked at, a list never names an executable that is not there. Uninstalling goes the other way.
 */
import fs from "node:fs";
import path from "node:path";
import { buildPlugin, pluginFiles } from "./build.ts";

export interface InstallOptions {
  binDir: string;
  confDir: string;
  /** Of the agent; undefined = the executable's default. */
  socket?: string;
  /** Change nothing. */
  dryRun: boolean;
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

const CONFLIST_NAME = "10-podlane.conflist";
/** What libcni takes for network configurations. */
const configuration = /\.(conf|conflist|json)$/;

/** Throws errors of the file system, which name the path. */
export function installPlugin(options: InstallOptions): InstallReport {
  const { binDir, confDir, dryRun } = options;
  const executable = path.join(binDir, pluginFiles[0]);
  const list = path.join(confDir, CONFLIST_NAME);
  const before = contentOf(executable);
  if (!dryRun) buildPlugin(binDir);
  const hasPortmap = fs.existsSync(path.join(binDir, "portmap"));
  const text = conflist(options.socket, hasPortmap);
  const files = [
    { file: executable, change: changeOf(before, dryRun ? before : contentOf(executable)) },
    { file: list, change: changeOf(contentOf(list), Buffer.from(text)) },
  ];
  if (!dryRun && files[1].change !== "unchanged") writeFile(list, text);
  const notes: string[] = [];
  if (!hasPortmap) notes.push(`hostPort of pods has no effect: there is no ${path.join(binDir, "portmap")}; install it, then this again`);
  const first = readNames(confDir).find(name => name !== CONFLIST_NAME);
  if (first !== undefined && first < CONFLIST_NAME)
    notes.push(`the runtime takes the first file, ${path.join(confDir, first)}, and not podlane's: remove it when its pods are gone`);
  return { files, notes };
}

/** Throws errors of the file system, which name the path. */
export function uninstallPlugin({ binDir, confDir, dryRun }: Omit<InstallOptions, "socket">): InstallReport {
  const files = [path.join(confDir, CONFLIST_NAME), ...pluginFiles.map(name => path.join(binDir, name))].map((file): FileChange => {
    const present = fs.existsSync(file);
    if (present && !dryRun) fs.rmSync(file);
    return { file, change: present ? "removed" : "absent" };
  });
  return { files, notes: ["pods that are still attached can no longer be deleted by the runtime: drain the node first"] };
}

/** CNI 1.0.0, which containerd 1.6 knows. */
function conflist(socket: string | undefined, hasPortmap: boolean): string {
  const plugins = [
    { type: "podlane", ...(socket !== undefined && { socket }) },
    ...(hasPortmap ? [{ type: "portmap", capabilities: { portMappings: true } }] : []),
  ];
  return `${JSON.stringify({ cniVersion: "1.0.0", name: "podlane", plugins }, undefined, 2)}\n`;
}

function changeOf(before: Buffer | undefined, after: Buffer | undefined): FileChange["change"] {
  if (before === undefined) return "made";
  return after !== undefined && before.equals(after) ? "unchanged" : "replaced";
}

function contentOf(file: string): Buffer | undefined {
  return fs.existsSync(file) ? fs.readFileSync(file) : undefined;
}

function readNames(directory: string): string[] {
  if (!fs.existsSync(directory)) return [];
  return fs
    .readdirSync(directory)
    .filter(name => configuration.test(name))
    .sort();
}

function writeFile(file: string, text: string): void {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  // A name that no runtime reads.
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.new`);
  try {
    fs.writeFileSync(temporary, text, { mode: 0o644, flush: true });
    fs.renameSync(temporary, file);
  } finally {
    fs.rmSync(temporary, { force: true });
  }
}
