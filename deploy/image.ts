/**
 * podlane's container image, without a container engine and without a pull:
 *
 *     npm run image [-- FILE]            an archive for `ctr -n k8s.io images import` and `docker load`; default: build/podlane.tar
 *     npm run image -- --root DIRECTORY  its files only: what the Containerfile copies
 */
import { mkdtempSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { version } from "../agent/version.ts";
import { writeImage, zstdSize } from "./image/archive.ts";
import { entrypoint, environment, makeRoot } from "./image/root.ts";

/** Of the DaemonSet. */
export const imageName = `podlane:${version}`;

const labels = {
  "org.opencontainers.image.title": "podlane",
  "org.opencontainers.image.version": version,
  "org.opencontainers.image.licenses": "Apache-2.0",
};

/** Writes the archive and returns the sizes of its layer. `small` is for handing on: it takes half a minute. */
export async function makeImage(
  archive: string,
  small: boolean,
): Promise<{ plain: number; written: number; zstd?: number; notes: string[] }> {
  const folder = mkdtempSync(`${resolve(dirname(archive))}/.podlane-root-`);
  try {
    const root = join(folder, "root");
    const notes = await makeRoot(root);
    const options = { name: imageName, entrypoint, environment, labels };
    const sizes = writeImage(root, archive, { ...options, compression: small ? "gzip" : "none" });
    return { ...sizes, zstd: small ? zstdSize(root) : undefined, notes };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ options: { root: { type: "string" } }, allowPositionals: true });
  const megabytes = (octets: number) => `${(octets / 1e6).toFixed(1)} MB`;
  if (values.root !== undefined) {
    const notes = await makeRoot(resolve(values.root));
    console.log([`made ${values.root}`, ...notes].join("\n"));
  } else {
    const archive = positionals[0] ?? join(import.meta.dirname, "../build/podlane.tar");
    const { plain, written, zstd = 0, notes } = await makeImage(archive, true);
    console.log([`wrote ${imageName} to ${archive}`, ...notes].join("\n"));
    console.log(`  ${megabytes(plain)} of files; ${megabytes(written)} with gzip -9, as written; ${megabytes(zstd)} with zstd -19`);
  }
}
