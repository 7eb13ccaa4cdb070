/**
 * Installs the executable for container runtimes: built from podlane.c with the system's C compiler, or, where there is
 * none, a script that runs podlane.ts with the project's Node. Files are replaced by rename(2), because a runtime that finds the
 * file busy while it is written reports empty output and no error (libcni pkg/invoke/raw_exec.go).
 *
 *     node cni/plugin/build.ts DIRECTORY [cc|node]
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import os from "node:os";
import path from "node:path";
import { replaceFile } from "../replace-file.ts";

const here = import.meta.dirname;
/** The executable, and what the script runs. */
export const pluginFiles = ["podlane", ".podlane.mjs"] as const;
const compilers = ["cc", "gcc", "clang"];

export interface PluginFile {
  name: (typeof pluginFiles)[number];
  content: Buffer;
  mode: number;
}

/** Installs `DIRECTORY/podlane` and returns its path. `kind` forces one of the two. Throws where a compiler that was asked for fails. */
export function buildPlugin(directory: string, kind?: "cc" | "node"): string {
  for (const { name, content, mode } of pluginContents(directory, kind)) replaceFile(path.join(directory, name), content, mode);
  return path.join(directory, pluginFiles[0]);
}

/** What belongs into `directory`, in the order in which it is to be written. Throws like buildPlugin. */
export function pluginContents(directory: string, kind?: "cc" | "node"): PluginFile[] {
  const program = kind === "node" ? undefined : (kind === undefined && prebuilt()) || compile(kind === "cc");
  return program ? [{ name: pluginFiles[0], content: program, mode: 0o755 }] : script(directory);
}

/** Beside the bundle (scripts/build.ts), whose machine had a compiler. */
function prebuilt(): Buffer | undefined {
  const file = path.join(here, "cni", pluginFiles[0]);
  const content = fs.existsSync(file) ? fs.readFileSync(file) : undefined;
  return content?.subarray(0, 4).equals(Buffer.from("\x7fELF")) ? content : undefined;
}

/** Static where the C library allows it: then the file runs on any Linux of this architecture. */
function compile(required: boolean): Buffer | undefined {
  let failure = "there is no C compiler";
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "podlane-plugin-"));
  try {
    const target = path.join(folder, pluginFiles[0]);
    for (const compiler of compilers) {
      for (const link of ["-static", "-s"]) {
        const run = spawnSync(compiler, ["-O2", "-Wall", "-Wextra", link, "-o", target, path.join(here, "podlane.c")], {
          encoding: "utf8",
        });
        if (run.status === 0) return fs.readFileSync(target);
        if (!run.error) failure = `${compiler}: ${run.stderr}`;
      }
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
  if (required) throw new Error(`cannot build the CNI plugin: ${failure}; install gcc and libc6-dev`);
  return undefined;
}

function script(directory: string): PluginFile[] {
  const program = path.join(path.resolve(directory), pluginFiles[1]);
  const node = projectNode();
  const start = `#!/bin/sh\nif [ -x ${quote(node)} ]; then exec ${quote(node)} ${quote(program)}; fi\nexec node ${quote(program)}\n`;
  const source = stripTypeScriptTypes(fs.readFileSync(path.join(here, "podlane.ts"), "utf8"));
  return [
    { name: pluginFiles[1], content: Buffer.from(source), mode: 0o644 },
    { name: pluginFiles[0], content: Buffer.from(start), mode: 0o755 },
  ];
}

/** Not that of whoever calls, which may be the user's of today. */
function projectNode(): string {
  const own = path.resolve(here, `../../node_modules/node-linux-${process.arch}/bin/node`);
  return fs.existsSync(own) ? own : process.execPath;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

if (import.meta.main) {
  const [directory, kind] = process.argv.slice(2);
  if (!directory || (kind !== undefined && kind !== "cc" && kind !== "node")) {
    console.error("usage: node cni/plugin/build.ts DIRECTORY [cc|node]");
    process.exitCode = 2;
  } else console.log(buildPlugin(directory, kind));
}
