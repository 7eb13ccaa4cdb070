/** `npm run crds`: writes crds/*.yaml and docs/objects.md anew from the schema. A test holds the files to it. */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GROUP } from "./common.ts";
import { manifests } from "./manifests.ts";
import { reference } from "./reference.ts";

const root = join(import.meta.dirname, "../..");

/** All generated files: path from the repository's root -> content. */
export function generatedFiles(): Map<string, string> {
  return new Map([
    ...[...manifests()].map(([name, text]) => [join("crds", name), text] as const),
    [join("docs", "objects.md"), reference()],
  ]);
}

/** Generated manifests in crds/ that no kind stands behind any more. */
export async function staleFiles(): Promise<string[]> {
  const wanted = generatedFiles();
  const present = (await readdir(join(root, "crds"))).filter(name => name.startsWith(`${GROUP}_`) && name.endsWith(".yaml"));
  return present.map(name => join("crds", name)).filter(path => !wanted.has(path));
}

if (import.meta.main) {
  await mkdir(join(root, "crds"), { recursive: true });
  for (const path of await staleFiles()) await rm(join(root, path));
  for (const [path, text] of generatedFiles()) {
    await writeFile(join(root, path), text);
    process.stdout.write(`${path}\n`);
  }
}
