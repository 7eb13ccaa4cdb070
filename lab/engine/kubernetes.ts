/** A control plane as a machine of a lab. It is no router: it has no sessions and no routes of BGP; all nodes of the lab are then nodes of its cluster (cluster.ts). */
import { existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { ApiServerAccess, type ControlPlane, startControlPlane } from "../kubernetes/control-plane.ts";
import { programsFolder } from "../kubernetes/programs.ts";
import type { RouterKind } from "./router-types.ts";
import { dataFolder } from "./state.ts";

/** By its folder alone, so that any later process finds it. */
export function controlPlaneIn(folder: string): ControlPlane {
  const [id, name] = folder.split("/").slice(-2);
  return { folder, programs: `${folder}/programs`, netns: `lab-${id}-${name}`, address: readFileSync(`${folder}/address`, "utf8") };
}

export const kubernetes: RouterKind = {
  title: "Kubernetes",
  programs: ["etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler"],
  /** Where the API server is to listen. */
  config: ({ routerId }) => routerId,
  async start({ folder, config }, start) {
    writeFileSync(`${folder}/address`, config);
    const [id] = folder.split("/").slice(-2);
    if (!existsSync(`${folder}/programs`)) symlinkSync(programsFolder(`${dataFolder(id)}/programs`), `${folder}/programs`);
    await startControlPlane(controlPlaneIn(folder), (program, [command, ...args]) => start(program, command, args));
  },
  async ask(folder) {
    const { status } = await new ApiServerAccess(controlPlaneIn(folder)).call("GET", "/readyz");
    if (status !== 200) throw new Error(`the API server answers ${status}`);
  },
  sessions: async () => [],
  paths: async () => [],
  tool: folder => ({ name: "kubectl", command: `${folder}/programs/kubectl --kubeconfig=${folder}/admin.conf` }),
  example: "kubectl get pods -A -o wide",
};
