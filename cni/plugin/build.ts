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
import path from "node:path";

const here = import.meta.dirname;
/** The executable, and what the script runs. */
export const pluginFiles = ["podlane", ".podlane.mjs"] as const;
const compilers = ["cc", "gcc", "clang"];

/** Installs `DIRECTORY/podlane` and returns its path. `kind` forces one of the two. Throws where a compiler that was asked for fails. */
export function buildPlugin(directory: string, kind?: "cc" | "node"): string {
  fs.mkdirSync(directory, { recursive: true });
  const target = path.join(directory, pluginFiles[0]);
  const temporary = path.join(directory, `.podlane.${process.pid}`);
  try {
    if (kind === "node" || !compile(temporary, kind === "cc")) writeScript(directory, temporary);
    fs.chmodSync(temporary, 0o755);
    fs.renameSync(temporary, target);
  } finally {
    fs.rmSync(temporary, { force: true });
  }
  return target;
}

/** Static where the C library allows it: then the file runs on any Linux of this architecture. */
function compile(target: string, required: boolean): boolean {
  let failure = "there is no C compiler";
  for (const compiler of compilers) {
    for (const link of ["-static", "-s"]) {
      const run = spawnSync(compiler, ["-O2", "-Wall", "-Wextra", link, "-o", target, path.join(here, "podlane.c")], { encoding: "utf8" });
      if (run.status === 0) return true;
      if (!run.error) failure = `${compiler}: ${run.stderr}`;
    }
  }
  if (required) throw new Error(`cannot build the CNI plugin: ${failure}; install gcc and libc6-dev`);
  return false;
}

function writeScript(directory: string, target: string): void {
  const program = path.join(path.resolve(directory), pluginFiles[1]);
  const source = stripTypeScriptTypes(fs.readFileSync(path.join(here, "podlane.ts"), "utf8"));
  fs.writeFileSync(`${program}.new`, source);
  fs.renameSync(`${program}.new`, program);
  const node = projectNode();
  fs.writeFileSync(
    target,
    `#!/bin/sh\nif [ -x ${quote(node)} ]; then exec ${quote(node)} ${quote(program)}; fi\nexec node ${quote(program)}\n`,
  );
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
