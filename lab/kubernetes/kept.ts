/**
 * What is dear to make and alike for every lab and cluster of one run of tests: Kubernetes' programs unpacked, podlane's image. It is kept in
 * $PODLANE_KEPT, where test/setup.ts has made such a folder; else whoever needs it makes it for himself.
 */
import { copyFileSync, existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { makeImage } from "../../deploy/image.ts";

export const keptFolder = process.env.PODLANE_KEPT;

/** Writes podlane's image, made of the source here. */
export async function placeImage(archive: string): Promise<void> {
  if (keptFolder === undefined) {
    await makeImage(archive, false);
    return;
  }
  const kept = join(keptFolder, "podlane.tar");
  if (!existsSync(kept)) {
    const fresh = `${kept}.${process.pid}`;
    await makeImage(fresh, false);
    renameSync(fresh, kept);
  }
  copyFileSync(kept, archive);
}
