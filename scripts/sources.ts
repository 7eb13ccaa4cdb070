import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Every .ts file of the project that is written by hand: path from its root -> source, by path. */
export function sources(): Map<string, string> {
  const root = join(import.meta.dirname, "..");
  const names = globSync("**/*.ts", { cwd: root, exclude: name => /^(?:node_modules|build|\.git)$/.test(name.split("/")[0]) });
  return new Map(names.sort().map(name => [name, readFileSync(join(root, name), "utf8")]));
}
