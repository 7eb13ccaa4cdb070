/**
 * A lab whose nodes are those of a real Kubernetes: each a machine with containerd, kubelet and kube-proxy, podlane the pods of its DaemonSet, and the pods those of a
 * Deployment. What stands in the topology's objects goes to the API server. All that is large is in a folder of its own (state.ts).
 */
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { manifest } from "../../deploy/manifests.ts";
import { kubeconfig } from "../kubernetes/configuration.ts";
import { ApiServerAccess } from "../kubernetes/control-plane.ts";
import { listGroups, removeGroups } from "../kubernetes/groups.ts";
import { placeImage } from "../kubernetes/kept.ts";
import { KubernetesNode } from "../kubernetes/node.ts";
import { missingCluster } from "../kubernetes/programs.ts";
import { makeToolsImage, webServer } from "../kubernetes/tools-image.ts";
import type { LabPlan, MachinePlan, NodeMachine, RouterMachine } from "../topology/plan.ts";
import type { Topology } from "../topology/schema.ts";
import { answersOn } from "./agents.ts";
import { controlPlaneIn } from "./kubernetes.ts";
import { defaultRoutes } from "./network.ts";
import { routerFolder } from "./routers.ts";
import { dataFolder, type PodState } from "./state.ts";
import { ipBatch, netnsPath, type ProcessId, processesIn, run, runIn, until } from "./system.ts";

/** Milliseconds. */
const AGENT_BOUND = 90_000;
const PODS_BOUND = 120_000;
const APP = "web";
const DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments";

/** The control plane; undefined where the nodes are no cluster's. */
export function controlOf({ machines }: Pick<LabPlan, "machines">): RouterMachine | undefined {
  return machines.find((machine): machine is RouterMachine => machine.kind === "kubernetes");
}

/** Why this topology cannot be built here; undefined where it can. */
export function missingFor({ routers = {} }: Topology): string | undefined {
  return Object.values(routers).some(({ kind }) => kind === "kubernetes") ? missingCluster() : undefined;
}

function accessTo(folder: string, control: RouterMachine): ApiServerAccess {
  return new ApiServerAccess(controlPlaneIn(routerFolder(folder, control.name)));
}

/** The images that the nodes will have: podlane's, made of the source here, and that of the pods. Returns the archives. */
export async function makeImages(id: string): Promise<string[]> {
  const folder = join(dataFolder(id), "images");
  mkdirSync(folder, { recursive: true });
  const podlane = join(folder, "podlane.tar");
  await placeImage(podlane);
  return [podlane, makeToolsImage(folder)];
}

/** The objects of the topology and podlane itself, to the API server. Nodes come first: they bring their pod subnets. */
export async function applyObjects(folder: string, control: RouterMachine, { objects = [] }: Topology): Promise<void> {
  const access = accessTo(folder, control);
  const text = (some: object[]) => some.map(object => JSON.stringify(object)).join("\n---\n");
  const isNode = ({ kind }: { kind: string }) => kind === "Node";
  await access.kubectl(["create", "-f", "-"], text(objects.filter(isNode)));
  await access.applyManifest(manifest());
  const others = objects.filter(object => !isNode(object));
  if (others.length > 0) await access.kubectl(["apply", "-f", "-"], text(others));
}

/** Resolves when its kubelet runs. */
export async function startNode(
  plan: LabPlan,
  machine: NodeMachine,
  folder: string,
  record: (program: string, id: ProcessId) => void,
): Promise<void> {
  const control = controlOf(plan) as RouterMachine;
  const plane = controlPlaneIn(routerFolder(folder, control.name));
  const own = `${folder}/${machine.name}`;
  const data = join(dataFolder(plan.id), machine.name);
  // What the node's /run is stays in sight.
  for (const path of [`${own}/run`, data]) mkdirSync(path, { recursive: true });
  for (const [link, target] of [["podlane.sock", "run/podlane/agent.sock"] as const, ["log", join(data, "kubelet.log")] as const]) {
    rmSync(`${own}/${link}`, { force: true });
    symlinkSync(target, `${own}/${link}`);
  }
  // The control plane's own folder is not in the node's sight.
  copyFileSync(`${plane.folder}/apiserver.crt`, join(data, "apiserver.crt"));
  writeFileSync(join(data, "kubeconfig"), kubeconfig(plane.address, join(data, "apiserver.crt")), { mode: 0o600 });
  // Without any route a process of the node could not even try the address of a Service.
  await ipBatch(machine.namespace, defaultRoutes(plan, machine));
  const node = new KubernetesNode({
    name: machine.name,
    netns: machine.namespace,
    folder: data,
    addresses: addressesOf(machine),
    group: `${groupPrefix(plan.id)}${machine.name}`,
    programs: await run("readlink", ["-f", plane.programs]).then(text => text.trim()),
    kubeconfig: join(data, "kubeconfig"),
    images: ["podlane.tar", "tools.tar"].map(name => join(dataFolder(plan.id), "images", name)),
    run: `${own}/run`,
    outlives: true,
  });
  await node.up();
  record("machine", { pid: node.pid as number, started: "" });
}

/** Resolves when the agent, which is a pod, answers. */
export async function awaitAgent(machine: MachinePlan, folder: string, abort?: AbortSignal): Promise<void> {
  const up = await until(() => answersOn(folder, machine.name), AGENT_BOUND, 100, abort);
  if (!up) throw new Error(`the agent of ${machine.name} does not answer: kubectl -n podlane-system describe pods, and logs`);
}

/** Of a node's agent: what runs from the image. */
export function agentProcesses({ namespace }: Pick<MachinePlan, "namespace">): Promise<number[]> {
  const pids = processesIn([namespace]);
  return Promise.all(
    pids.map(async pid => ((await run("readlink", [`/proc/${pid}/exe`]).catch(() => "")).trim() === "/usr/bin/node" ? [pid] : [])),
  ).then(found => found.flat());
}

// biome-ignore lint/suspicious/noExplicitAny: objects as the API server gives them.
type Json = any;

/** A Deployment with as many pods on each node as the topology says. Each gets its name and its network namespace in the lab. */
export async function deployPods(plan: LabPlan, folder: string, abort?: AbortSignal): Promise<Record<string, PodState>> {
  const access = accessTo(folder, controlOf(plan) as RouterMachine);
  const replicas = plan.pods.length;
  const selector = { matchLabels: { app: APP } };
  const spread = { maxSkew: 1, topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "DoNotSchedule", labelSelector: selector };
  const names = { key: "kubernetes.io/hostname", operator: "In", values: [...new Set(plan.pods.map(pod => pod.node))] };
  const affinity = {
    nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: [names] }] } },
  };
  const template = webServer(APP, { pod: { affinity, topologySpreadConstraints: [spread] } });
  await access.call("POST", DEPLOYMENTS, { metadata: { name: APP }, spec: { replicas, selector, template } });
  const ready = await until(
    async () => (await access.call("GET", `${DEPLOYMENTS}/${APP}`)).body.status?.readyReplicas === replicas,
    PODS_BOUND,
    100,
    abort,
  );
  if (!ready) throw new Error(`the pods of the Deployment ${APP} do not get ready: kubectl describe pods`);
  const { items } = (await access.call("GET", `/api/v1/namespaces/default/pods?labelSelector=app%3D${APP}`)).body;
  const pods: Record<string, PodState> = {};
  for (const node of new Set(plan.pods.map(pod => pod.node))) {
    const real = items
      .filter((pod: Json) => pod.spec.nodeName === node)
      .sort((a: Json, b: Json) => (a.metadata.name < b.metadata.name ? -1 : 1));
    const planned = plan.pods.filter(pod => pod.node === node);
    if (real.length !== planned.length) throw new Error(`${node} has ${real.length} pods, not ${planned.length}`);
    const attached = await namespacesOf(plan, folder, node);
    for (const [at, { metadata, status }] of real.entries()) {
      writeFileSync(netnsPath(planned[at].namespace), "");
      await run("mount", ["--bind", attached.get(metadata.uid) ?? "", netnsPath(planned[at].namespace)]);
      const addresses = status.podIPs.map(({ ip }: { ip: string }) => `${ip}/${ip.includes(":") ? 128 : 32}`);
      pods[planned[at].name] = { containerId: metadata.name, addresses };
    }
  }
  return pods;
}

/** By the pods' uid: their network namespaces, by a path that the lab sees. */
async function namespacesOf(plan: LabPlan, folder: string, node: string): Promise<Map<string, string>> {
  const text = await run("curl", ["--silent", "--fail", "--unix-socket", `${folder}/${node}/podlane.sock`, "http://agent/v1/attachments"]);
  const machine = plan.machines.find(each => each.name === node) as MachinePlan;
  const [agent] = await agentProcesses(machine);
  const { attachments } = JSON.parse(text) as { attachments: { netns: string; pod?: { uid?: string } }[] };
  return new Map(attachments.map(({ netns, pod }) => [pod?.uid ?? "", `/proc/${agent}/root${netns.replace(/^\/var\/run/, "/run")}`]));
}

/** Machines that do not get an answer of the Deployment's pods, in words: every node and router asks every pod. */
export async function silentPods(plan: LabPlan, addressesOfPod: (pod: string) => string[]): Promise<string[]> {
  const askers = plan.machines.filter(machine => machine.kind !== "kubernetes");
  const failures = await Promise.all(
    askers.map(async ({ name, namespace }) => {
      const silent: string[] = [];
      for (const pod of plan.pods)
        for (const address of addressesOfPod(pod.name)) {
          const url = `http://${address.includes(":") ? `[${address}]` : address}/cgi-bin/who`;
          const answered = await runIn(namespace, "curl", ["--silent", "--fail", "--max-time", "2", url]).catch(() => undefined);
          if (answered === undefined) silent.push(`${name} gets no answer of ${pod.name}, ${address}`);
        }
      return silent;
    }),
  );
  return failures.flat();
}

/** What is not in a network namespace: control groups, and the large folder. */
export async function removeCluster(id: string): Promise<void> {
  for (const group of listGroups(groupPrefix(id))) await removeGroups(group);
  rmSync(dataFolder(id), { recursive: true, force: true });
}

function groupPrefix(id: string): string {
  return `podlane-lab-${id}-`;
}

function addressesOf(machine: MachinePlan): [string, string] {
  const all = machine.interfaces.flatMap(each => each.addresses.map(({ address }) => address));
  const [ipv4, ipv6] = [all.find(address => !address.includes(":")), all.find(address => address.includes(":"))];
  if (ipv4 === undefined || ipv6 === undefined)
    throw new Error(`${machine.name} is to be a node of a dual-stack cluster: give its link an IPv4 and an IPv6 subnet`);
  return [ipv4, ipv6];
}
