/**
 * deploy/podlane.yaml out of the kustomize base, for `kubectl apply -f` (npm run crds): the files that the base names, one after the other, with the image's tag.
 * Whoever has kustomize gets the same objects from the base.
 */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parse } from "yaml";

const root = join(import.meta.dirname, "..");
const HEAD =
  "# podlane for a cluster: kubectl apply --server-side -f deploy/podlane.yaml. Generated from deploy/base and crds by `npm run crds`.\n";

interface Kustomization {
  resources: string[];
  images?: { name: string; newName?: string; newTag?: string }[];
}

/** The text of deploy/podlane.yaml. */
export function manifest(): string {
  return `${HEAD}${collect(join(root, "deploy/base")).join("---\n")}`;
}

/** The files of a base, those of the bases in it among them, with its images named. */
function collect(folder: string): string[] {
  const { resources, images = [] } = parse(readFileSync(join(folder, "kustomization.yaml"), "utf8")) as Kustomization;
  const texts = resources.flatMap(name => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? collect(path) : [readFileSync(path, "utf8").replace(/^---\n/, "")];
  });
  return texts.map(text =>
    images.reduce(
      (all, { name, newName = name, newTag }) => all.replaceAll(`image: ${name}\n`, `image: ${newName}${newTag ? `:${newTag}` : ""}\n`),
      text,
    ),
  );
}

if (import.meta.main) {
  const file = join(root, "deploy/podlane.yaml");
  writeFileSync(file, manifest());
  process.stdout.write(`${relative(root, file)}\n`);
}
