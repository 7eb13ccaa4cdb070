/**
 * deploy/podlane.yaml out of the kustomize base, for `kubectl apply -f` (npm run crds): the files that the base names, one after the other, with the image's tag.
 * Whoever has kustomize gets the same objects from the base. And deploy/uninstall.yaml out of the DaemonSet in it, so that what takes podlane off a node sees
 * the same of the node as what put it there.
 */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments, stringify } from "yaml";

const root = join(import.meta.dirname, "..");
const HEAD =
  "# podlane for a cluster: kubectl apply --server-side -f deploy/podlane.yaml. Generated from deploy/base and crds by `npm run crds`.\n";

const UNINSTALL_HEAD = `# Takes podlane off every node, one pod each, Ready when it is done: docs/kubernetes.md. A node whose pods are still attached is tried again until they are gone;
# \`args: [uninstall, --force]\` does not wait for that. Generated from deploy/base by \`npm run crds\`.
`;
/** Until it is told to go. */
const HOLD = "process.on('SIGTERM', () => process.exit()); setInterval(() => {}, 1e9)";

interface Kustomization {
  resources: string[];
  images?: { name: string; newName?: string; newTag?: string }[];
}

/** The text of deploy/podlane.yaml. */
export function manifest(): string {
  return `${HEAD}${collect(join(root, "deploy/base")).join("---\n")}`;
}

/** The text of deploy/uninstall.yaml. */
export function uninstaller(): string {
  const found = parseAllDocuments(manifest()).find(document => document.get("kind") === "DaemonSet");
  if (!found) throw new Error("deploy/base has no DaemonSet");
  const { metadata, spec, ...head } = found.toJS();
  const [{ name: _name, image, securityContext, volumeMounts }] = spec.template.spec.containers;
  const { serviceAccountName: _account, ...pod } = spec.template.spec;
  const labels = { "app.kubernetes.io/name": "podlane", "app.kubernetes.io/component": "uninstall" };
  const containers = [
    { name: "done", image, command: ["/usr/bin/node", "--eval", HOLD], securityContext: { readOnlyRootFilesystem: true } },
  ];
  const initContainers = [{ name: "uninstall", image, args: ["uninstall"], securityContext, volumeMounts }];
  const template = {
    metadata: { labels },
    spec: { ...pod, automountServiceAccountToken: false, terminationGracePeriodSeconds: 1, initContainers, containers },
  };
  return `${UNINSTALL_HEAD}${stringify(
    {
      ...head,
      metadata: { ...metadata, name: "podlane-uninstall" },
      spec: {
        selector: { matchLabels: labels },
        updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "100%" } },
        template,
      },
    },
    { lineWidth: 0, aliasDuplicateObjects: false },
  )}`;
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
  const texts = { "deploy/podlane.yaml": manifest(), "deploy/uninstall.yaml": uninstaller() };
  for (const [path, text] of Object.entries(texts)) {
    writeFileSync(join(root, path), text);
    process.stdout.write(`${path}\n`);
  }
}
