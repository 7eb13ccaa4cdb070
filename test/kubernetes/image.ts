/** A container image of one layer out of a folder (OCI image format), for `ctr images import`. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Writes `FOLDER/image.tar` from `FOLDER/root`; `name` has a tag. Returns the path. */
export function writeImage(folder: string, name: string, command: string[]): string {
  const blobs = join(folder, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const blob = (mediaType: string, content: Buffer | object) => {
    const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
    const digest = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(blobs, digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
  };
  const flat = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
  execFileSync("tar", ["-C", join(folder, "root"), ...flat, "-cf", join(folder, "layer.tar"), "."]);
  const layer = blob("application/vnd.oci.image.layer.v1.tar", readFileSync(join(folder, "layer.tar")));
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  const config = blob("application/vnd.oci.image.config.v1+json", {
    architecture,
    os: "linux",
    config: { Entrypoint: command, Env: ["PATH=/bin"] },
    rootfs: { type: "layers", diff_ids: [layer.digest] },
  });
  const type = "application/vnd.oci.image.manifest.v1+json";
  const manifest = blob(type, { schemaVersion: 2, mediaType: type, config, layers: [layer] });
  const annotations = { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.split(":")[1] };
  writeFileSync(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }));
  writeFileSync(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const image = join(folder, "image.tar");
  execFileSync("tar", ["-C", folder, "-cf", image, "oci-layout", "index.json", "blobs"]);
  return image;
}
