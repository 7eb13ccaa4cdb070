import { existsSync } from "node:fs";
import { join } from "node:path";

/** Where data that others made stands: $PODLANE_SHARED, or `shared` beside the repository. */
export function sharedFile(...path: string[]): { path: string; exists: boolean } {
  const root = process.env.PODLANE_SHARED ?? join(import.meta.dirname, "..", "..", "shared");
  const file = join(root, ...path);
  return { path: file, exists: existsSync(file) };
}
