/** Before the first and after the last test of a run: the folder that lab/kubernetes/kept.ts and test/cni/harness.ts fill, each part when it is first needed. */
import { existsSync, globSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PREFIX = "podlane-kept-";

export default function setup(): () => void {
  // Of runs that were killed.
  for (const path of globSync(join(tmpdir(), `${PREFIX}*`))) {
    const owner = path.slice(join(tmpdir(), PREFIX).length).split("-")[0];
    if (!existsSync(`/proc/${owner}`)) rmSync(path, { recursive: true, force: true });
  }
  const folder = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
  process.env.PODLANE_KEPT = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
