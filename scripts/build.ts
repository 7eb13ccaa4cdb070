/**
 * What is installed: podlane as a few JavaScript files with the packages that it uses in them, without TypeScript to strip at each start, and beside them
 * the native part of koffi and the CNI executable. With PODLANE_SOURCE_MAPS=1 errors name lines of the source.
 *
 *     npm run build [DIRECTORY]          default: build
 *     DIRECTORY/podlane --help           on the Node.js that $PODLANE_NODE or PATH has, 24 or newer
 *     DIRECTORY/kubectl-podlane          the same as a plugin: `kubectl podlane`, where a folder of PATH has it or a link to it
 */
import { chmodSync, cpSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { rolldown } from "rolldown";
import { buildPlugin } from "../cni/plugin/build.ts";

const root = join(import.meta.dirname, "..");
/** Builds into `directory`; what was there goes, once all is ready. Rejects where something cannot be bundled. */
export async function build(directory: string): Promise<void> {
  const target = resolve(directory);
  const fresh = `${target}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  try {
    await bundle(fresh);
    copyKoffi(fresh);
    for (const file of ["podlane.c", "podlane.ts"]) cpSync(join(root, "cni/plugin", file), join(fresh, file));
    buildPlugin(join(fresh, "cni"));
    writeFileSync(join(fresh, "podlane"), launcher);
    chmodSync(join(fresh, "podlane"), 0o755);
    symlinkSync("podlane", join(fresh, "kubectl-podlane"));
    rmSync(target, { recursive: true, force: true });
    renameSync(fresh, target);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

async function bundle(directory: string): Promise<void> {
  const made = await rolldown({
    cwd: root,
    input: { main: "cli/main.ts", "reading-worker": "config/sources/reading-worker.ts" },
    platform: "node",
    external: ["koffi"],
  });
  try {
    await made.write({
      dir: directory,
      format: "esm",
      sourcemap: true,
      entryFileNames: "[name].js",
      chunkFileNames: "[name]-[hash].js",
      // V8 keeps the source: with a single character beyond Latin-1 it takes two octets for each, and comments as well. Lines and names stay for traces.
      charset: "ascii",
      comments: false,
    });
  } finally {
    await made.close();
  }
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }\n');
}

/** What of it is loaded: its package holds the source for all platforms besides. */
function copyKoffi(directory: string): void {
  const [from, to] = [join(root, "node_modules"), join(directory, "node_modules")];
  const isLoaded = (path: string) => statSync(path).isDirectory() || /(\.c?js|package\.json|LICENSE\.txt)$/.test(path);
  cpSync(join(from, "koffi"), join(to, "koffi"), { recursive: true, filter: path => !/(doc|vendor)$/.test(path) && isLoaded(path) });
  cpSync(join(from, "@koromix"), join(to, "@koromix"), { recursive: true });
}

/** V8's young generation: see scripts/podlane. Reading the source maps takes 30 MB, so they are for who looks for something. */
const launcher = `#!/bin/sh
self="$(readlink -f "$0")"
export PODLANE_CALLED="\${0##*/}"
exec "\${PODLANE_NODE:-node}" \${PODLANE_SOURCE_MAPS:+--enable-source-maps} --max-semi-space-size=8 "$(dirname "$self")/main.js" "$@"
`;

if (import.meta.main) {
  const directory = process.argv[2] ?? join(root, "build");
  await build(directory);
  console.log(`built ${join(directory, "podlane")}`);
}
