/**
 * Pods: network namespaces that the CNI executable attaches, called exactly as a container runtime calls it: environment, configuration on
 * standard input, result on standard output (CNI SPEC "Execution protocol").
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { buildPlugin } from "../../cni/plugin/build.ts";
import type { PlannedPod } from "../topology/plan.ts";
import { agentSocket } from "./agents.ts";
import type { PodState } from "./state.ts";
import { CommandError, netnsPath, runIn } from "./system.ts";

interface PodLab {
  folder: string;
  /** Of a machine. */
  namespace(machine: string): string;
}

interface CniResult {
  ips?: { address?: string }[];
}

/** Builds the executable into the folder; returns its path. */
export async function buildCniPlugin(folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  return buildPlugin(folder);
}

/** ADD. Throws with the plugin's own error. The result is kept beside the node's files, as a runtime keeps it for CHECK and DEL. */
export async function addPod(lab: PodLab, pod: PlannedPod, plugin: string, abort?: AbortSignal): Promise<PodState> {
  const containerId = `${pod.name}-${randomUUID()}`;
  const folder = `${lab.folder}/${pod.node}/cni`;
  const config = {
    cniVersion: "1.1.0",
    name: "podlane",
    type: "podlane",
    socket: agentSocket(lab.folder, pod.node),
    queue: `${folder}/del-queue`,
  };
  const env = {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: containerId,
    CNI_NETNS: netnsPath(pod.namespace),
    CNI_IFNAME: "eth0",
    CNI_PATH: dirname(plugin),
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod.name};K8S_POD_INFRA_CONTAINER_ID=${containerId}`,
  };
  const output = await runIn(lab.namespace(pod.node), plugin, [], { stdin: JSON.stringify(config), env, signal: abort }).catch(error => {
    throw new Error(
      `CNI ADD of pod ${pod.name} on ${pod.node}: ${error instanceof CommandError ? pluginError(error) : (error as Error).message}`,
    );
  });
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/${pod.name}.json`, output);
  const addresses = ((JSON.parse(output) as CniResult).ips ?? []).flatMap(ip => (ip.address === undefined ? [] : [ip.address]));
  if (addresses.length === 0) throw new Error(`CNI ADD of pod ${pod.name} on ${pod.node} gave no address: ${output}`);
  return { containerId, addresses };
}

/** The plugin's error is JSON on standard output. */
function pluginError(error: CommandError): string {
  try {
    const { code, msg, details } = JSON.parse(error.stdout) as { code?: number; msg?: string; details?: string };
    return `code ${code}: ${msg}${details ? ` (${details})` : ""}`;
  } catch {
    return error.message;
  }
}
