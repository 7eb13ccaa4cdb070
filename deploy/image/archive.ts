/**
 * Root file systems as container images: an OCI layout in a tar archive (OCI image specification 1.0), with the index that `docker load` reads beside it.
 * The same files give the same octets, whenever and by whomever they are packed.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { constants, gzipSync, zstdCompressSync } from "node:zlib";

export interface ImageOptions {
  /** With a tag. */
  name: string;
  entrypoint: readonly string[];
  environment: readonly string[];
  labels?: Record<string, string>;
  compression: "none" | "gzip";
}

/** Octets of the one layer. */
export interface ImageSizes {
  plain: number;
  /** As written. */
  written: number;
}

/** What a name without a host means to container runtimes; containerd knows images by the whole name only. */
const SHORT_NAMES = "docker.io/library/";
const OCI = "application/vnd.oci.image";

/** Writes the image of the files in `root` as one archive. */
export function writeImage(root: string, archive: string, options: ImageOptions): ImageSizes {
  mkdirSync(dirname(archive), { recursive: true });
  // Beside the archive, because a temporary folder may be small.
  const folder = mkdtempSync(join(dirname(archive), ".image-"));
  try {
    const layer = tarOf(root, ["."], folder);
    const written = options.compression === "gzip" ? gzipSync(layer, { level: 9 }) : layer;
    writeLayout(folder, layer, written, options);
    const packed = join(folder, "image.tar");
    writeFileSync(packed, tarOf(folder, ["oci-layout", "index.json", "manifest.json", "blobs"], folder));
    renameSync(packed, archive);
    return { plain: layer.length, written: written.length };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Octets of the layer as a registry would keep it with zstd at a level that is worth its time once for a release. */
export function zstdSize(root: string): number {
  const folder = mkdtempSync(join(dirname(root), ".image-"));
  try {
    return zstdCompressSync(tarOf(root, ["."], folder), { params: { [constants.ZSTD_c_compressionLevel]: 19 } }).length;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function writeLayout(folder: string, layer: Buffer, written: Buffer, options: ImageOptions): void {
  const blobs = join(folder, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const blob = (mediaType: string, content: Buffer | object) => {
    const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
    const digest = digestOf(bytes);
    writeFileSync(join(blobs, digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
  };
  const packed = blob(`${OCI}.layer.v1.tar${options.compression === "gzip" ? "+gzip" : ""}`, written);
  const config = blob(`${OCI}.config.v1+json`, {
    architecture: process.arch === "x64" ? "amd64" : process.arch,
    os: "linux",
    config: { Entrypoint: options.entrypoint, Env: options.environment, Labels: options.labels },
    rootfs: { type: "layers", diff_ids: [`sha256:${digestOf(layer)}`] },
  });
  const type = `${OCI}.manifest.v1+json`;
  const manifest = blob(type, { schemaVersion: 2, mediaType: type, config, layers: [packed] });
  const { name } = options;
  const annotations = {
    "io.containerd.image.name": name.includes("/") ? name : `${SHORT_NAMES}${name}`,
    "org.opencontainers.image.ref.name": name.split(":").at(-1),
  };
  const write = (file: string, content: object) => writeFileSync(join(folder, file), JSON.stringify(content));
  write("index.json", { schemaVersion: 2, manifests: [{ ...manifest, annotations }] });
  write("oci-layout", { imageLayoutVersion: "1.0.0" });
  const path = (digest: string) => digest.replace(":", "/").replace(/^/, "blobs/");
  write("manifest.json", [{ Config: path(config.digest), RepoTags: [name], Layers: [path(packed.digest)] }]);
}

/** In one order, of one owner and one time. */
function tarOf(folder: string, names: string[], scratch: string): Buffer {
  const file = join(scratch, "part.tar");
  const flat = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"];
  execFileSync("tar", ["-C", folder, ...flat, "-cf", file, ...names]);
  const octets = readFileSync(file);
  rmSync(file);
  return octets;
}

function digestOf(octets: Buffer): string {
  return createHash("sha256").update(octets).digest("hex");
}
