/**
 * Kubernetes' own programs and what they need of the machine: where they are, and why no cluster can be started where something is missing. Nothing is
 * downloaded. They are looked for where the ecosystem keeps them: $KUBEBUILDER_ASSETS, the folders of setup-envtest, PATH; and packed beside the repository.
 */
import { execFileSync } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { missingGroups } from "./groups.ts";
import { keptFolder } from "./kept.ts";

const names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"];
const DEBIAN_PLUGINS = "/usr/lib/cni";
/** Probe -> the Debian package that has it. */
const needed: Record<string, string> = {
  "/usr/bin/containerd": "containerd",
  "/usr/sbin/runc": "runc",
  "/bin/busybox": "busybox-static",
  [join(DEBIAN_PLUGINS, "portmap")]: "containernetworking-plugins",
  "/usr/sbin/iptables": "iptables",
  "/usr/sbin/nft": "nftables",
  "/usr/bin/curl": "curl",
};

/** Why no cluster can be started here; undefined where one can. */
export function missingCluster(): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "a cluster in namespaces needs root on Linux";
  if (!folderOfAll() && !existsSync(packed()))
    return `not all of ${names.join(", ")} are here: put them into one folder and name it in KUBEBUILDER_ASSETS, or into PATH (setup-envtest brings the first two and kubectl, Kubernetes' releases the rest)`;
  for (const [file, debian] of Object.entries(needed)) if (!existsSync(file)) return `no ${file}: install ${debian}`;
  return missingGroups();
}

/** The folder that has them all; where they are only there packed, they are unpacked into `folder`. */
export function programsFolder(folder: string): string {
  const found = folderOfAll();
  if (found !== undefined) return found;
  return unpackPrograms(folder);
}

/** Those that are packed beside the repository, into `folder`, or where they are kept. Returns the folder. */
export function unpackPrograms(folder: string): string {
  const target = keptFolder === undefined ? folder : join(keptFolder, "programs");
  // Others may be at it: the last that is unpacked says that all are.
  if (!existsSync(join(target, names.at(-1)!))) execFileSync(packed(), [target]);
  return target;
}

/** The reference plugins that a node has beside podlane's. */
export function referencePlugin(name: string): string {
  return join(DEBIAN_PLUGINS, name);
}

function folderOfAll(): string | undefined {
  const envtest = [
    join(process.env.XDG_DATA_HOME ?? join(homedir(), ".local/share"), "kubebuilder-envtest/k8s/*"),
    "/usr/local/kubebuilder/bin",
  ];
  const folders = [process.env.KUBEBUILDER_ASSETS, ...globSync(envtest), ...(process.env.PATH ?? "").split(":")];
  return folders.find(folder => folder && names.every(name => existsSync(join(folder, name))));
}

function packed(): string {
  const root = process.env.PODLANE_SHARED ?? join(import.meta.dirname, "../../../shared");
  return join(root, "kubernetes/unpack");
}
