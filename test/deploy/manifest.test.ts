/** deploy/podlane.yaml is what its base and the definitions say, also by kustomize's own reading, and names the image of this version. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { imageName } from "../../deploy/image.ts";
import { manifest, uninstaller } from "../../deploy/manifests.ts";
import { missingCluster, programsFolder } from "../../lab/kubernetes/programs.ts";

const root = join(import.meta.dirname, "../..");

interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
}

function objects(text: string): Map<string, Manifest> {
  const all = parseAllDocuments(text).map(document => document.toJS() as Manifest);
  return new Map(all.map(one => [`${one.kind} ${one.metadata.namespace ?? ""}/${one.metadata.name}`, one]));
}

test("deploy/podlane.yaml and deploy/uninstall.yaml are generated from the base: `npm run crds`", () => {
  expect(readFileSync(join(root, "deploy/podlane.yaml"), "utf8")).toBe(manifest());
  expect(readFileSync(join(root, "deploy/uninstall.yaml"), "utf8")).toBe(uninstaller());
  expect(manifest()).toContain(`image: ${imageName}\n`);
});

test("the agent knows each flag that the manifest gives it", () => {
  const help = execFileSync(process.execPath, [join(root, "cli/main.ts"), "agent", "--help"], { encoding: "utf8" });
  const flags = [...manifest().matchAll(/^ +- (--[a-z-]+)/gm)].map(match => match[1]);
  expect(flags).toContain("--kubernetes");
  for (const flag of flags) expect(help).toContain(`  ${flag} `);
});

test("each object is there once, and what has a namespace says which", () => {
  const documents = parseAllDocuments(manifest());
  const found = objects(manifest());
  expect(found.size).toBe(documents.length);
  const clusterWide = [
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
  ];
  for (const { kind, metadata } of found.values()) expect(metadata.namespace === undefined).toBe(clusterWide.includes(kind));
});

test("kustomize makes the same objects of the base", context => {
  const missing = missingCluster();
  context.skip(missing !== undefined, missing);
  const folder = mkdtempSync(join(tmpdir(), "podlane-kustomize-"));
  try {
    const kubectl = join(programsFolder(join(folder, "bin")), "kubectl");
    const built = execFileSync(kubectl, ["kustomize", join(root, "deploy/base")], { encoding: "utf8", maxBuffer: 64 << 20 });
    expect(objects(built)).toEqual(objects(manifest()));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
