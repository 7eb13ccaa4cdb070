/**
 * A lab: built from a plan, looked at, hurt on purpose, taken away. All that is made is written to the state first, so any later process
 * can finish the work of one that died.
 */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { isDeepStrictEqual } from "node:util";
import { stringify } from "yaml";
import { isRouter, type LabPlan, type MachinePlan, namespacePrefix, planLab, type RouterMachine } from "../topology/plan.ts";
import type { Topology } from "../topology/schema.ts";
import { agentPaths, agentSessions, startAgent } from "./agents.ts";
import {
  agentProcesses,
  applyObjects,
  awaitAgent,
  controlOf,
  deployPods,
  makeImages,
  missingFor,
  removeCluster,
  startNode,
} from "./cluster.ts";
import { makeLinks, makeNamespaces, power } from "./network.ts";
import { addPod, buildCniPlugin } from "./pods.ts";
import { RouterKinds } from "./router-kinds.ts";
import type { PathView, SessionView } from "./router-types.ts";
import { ownerOf, routerPaths, routerSessions, startRouter } from "./routers.ts";
import { busyWith, type LabState, labFolder, readState, removeState, STATE_ROOT, writeState } from "./state.ts";
import { isAlive, listNamespaces, type ProcessId, processesIn, removeNamespaces, run, runIn, signal, until } from "./system.ts";
import { writeTools } from "./tools.ts";

/** Where the engine says what it does. */
export interface Progress {
  /** Runs a piece of work under a title; `detail` replaces the text behind the title when it is done. */
  step<T>(title: string, work: (detail: (text: string) => void) => Promise<T>): Promise<T>;
  note(text: string): void;
}

export const silentProgress: Progress = { step: (_title, work) => work(() => {}), note: () => {} };

export interface UpOptions {
  instance?: string;
  /** Where the topology came from, for people. */
  file?: string;
  progress?: Progress;
  abort?: AbortSignal;
}

export type UpAction = "built" | "kept" | "repaired" | "rebuilt";

/** A route in a kernel table, as `ip -j route` has it. */
export interface KernelRoute {
  prefix: string;
  protocol: string;
  type: string;
  /** Gateway (absent: on the link) and device of each next hop. */
  hops: { via?: string; dev: string; down: boolean }[];
}

export class Lab {
  readonly plan: LabPlan;
  readonly folder: string;
  readonly state: LabState;

  constructor(state: LabState) {
    this.state = state;
    this.plan = planLab(state.topology, state.instance);
    this.folder = labFolder(state.id);
  }

  get id(): string {
    return this.plan.id;
  }

  /** Throws when there is no machine of that name. */
  machine(name: string): MachinePlan {
    const machine = this.plan.machines.find(each => each.name === name);
    if (machine === undefined) {
      throw new Error(`lab ${this.id} has no machine "${name}"; it has ${this.plan.machines.map(each => each.name).join(", ")}`);
    }
    return machine;
  }

  /** Namespace of a machine, switch or pod. Throws when there is none. */
  namespace(name: string): string {
    const found = [namespacePrefix(this.id) + name, `${namespacePrefix(this.id)}pod-${name}`].find(each =>
      this.plan.namespaces.includes(each),
    );
    if (found !== undefined) return found;
    const names = this.plan.namespaces.map(each => each.slice(namespacePrefix(this.id).length).replace(/^pod-/, ""));
    throw new Error(`lab ${this.id} has no "${name}"; it has ${names.join(", ")}`);
  }

  /** Without lengths; none before the pod is attached. */
  podAddresses(pod: string): string[] {
    return (this.state.pods[pod]?.addresses ?? []).map(text => text.slice(0, text.lastIndexOf("/")));
  }

  /** The address of `to` in each family that both have, and that of `from` in the same family. */
  addressPairs(from: string, to: string): { family: 4 | 6; own: string; address: string }[] {
    const family = (address: string) => (address.includes(":") ? 6 : 4);
    const mine = this.podAddresses(from);
    return this.podAddresses(to).flatMap(address => {
      const own = mine.find(each => family(each) === family(address));
      return own === undefined ? [] : [{ family: family(address), own, address }];
    });
  }

  sessions(machine: MachinePlan): Promise<SessionView[]> {
    return machine.kind === "node"
      ? agentSessions(machine, this.folder, ownerOf(this.plan))
      : routerSessions(this.plan, machine, this.folder);
  }

  paths(machine: MachinePlan): Promise<PathView[]> {
    return machine.kind === "node" ? agentPaths(machine, this.folder) : routerPaths(this.plan, machine, this.folder);
  }

  /** Routes of a machine's main table, both families. */
  async kernelRoutes(machine: MachinePlan): Promise<KernelRoute[]> {
    const [ipv4, ipv6] = await Promise.all(["-4", "-6"].map(family => run("ip", ["-n", machine.namespace, "-j", family, "route", "show"])));
    return [...parseKernelRoutes(ipv4, "0.0.0.0/0", 32), ...parseKernelRoutes(ipv6, "::/0", 128)];
  }

  /** Programs of a machine that run: "agent", "bgpd", "zebra", "bird". */
  running(machine: MachinePlan): string[] {
    return this.programs(machine).flatMap(([program, id]) => (isAlive(id) ? [program] : []));
  }

  private programs(machine: MachinePlan): [string, ProcessId][] {
    const prefix = `${machine.name}/`;
    return Object.entries(this.state.processes).flatMap(([key, id]) =>
      key.startsWith(prefix) ? [[key.slice(prefix.length), id] as [string, ProcessId]] : [],
    );
  }

  /** Sends a signal to all programs of a machine and waits for their end (bounded). Of a cluster's node only the agent, which its kubelet starts again. */
  async end(machine: MachinePlan, name: "SIGKILL" | "SIGTERM"): Promise<void> {
    const isPod = machine.kind === "node" && controlOf(this.plan) !== undefined;
    const ids = isPod ? (await agentProcesses(machine)).map(pid => ({ pid, started: "" })) : this.programs(machine).map(([, id]) => id);
    for (const id of ids) signal(id, name);
    const gone = await until(() => ids.every(id => !isAlive(id)), 15_000, 5);
    if (!gone) throw new Error(`${machine.name} still runs 15 s after ${name}`);
  }

  async start(machine: MachinePlan, abort?: AbortSignal): Promise<void> {
    writeTools(this.folder, machine);
    const record = (program: string, id: ProcessId) => {
      this.state.processes[`${machine.name}/${program}`] = id;
      writeState(this.state);
    };
    if (machine.kind === "node" && controlOf(this.plan)) {
      if (!this.running(machine).includes("machine")) await startNode(this.plan, machine, this.folder, record);
      else await awaitAgent(machine, this.folder, abort);
    } else if (machine.kind === "node") await startAgent(machine, this.folder, record, abort);
    else await startRouter(this.plan, machine, this.folder, record, abort);
  }

  /** As abrupt for the neighbours as a power cut: silence, and no carrier. */
  async powerOff(machine: MachinePlan): Promise<void> {
    // Links first: the kernel of a process killed before would still say goodbye to its neighbours (FIN), which no power cut does.
    await power(this.plan, machine, false);
    await this.end(machine, "SIGKILL");
    // Nor does it say goodbye when the links are back. A kernel without SOCK_DESTROY leaves the sockets; then it does.
    await runIn(machine.namespace, "ss", ["--kill", "--no-header", "--tcp"]);
  }

  async powerOn(machine: MachinePlan): Promise<void> {
    await power(this.plan, machine, true);
    await this.start(machine);
  }
}

function parseKernelRoutes(text: string, defaultPrefix: string, hostLength: number): KernelRoute[] {
  interface Hop {
    gateway?: string;
    via?: { host: string };
    dev?: string;
    flags?: string[];
  }
  const routes = JSON.parse(text === "" ? "[]" : text) as (Hop & { dst: string; type?: string; protocol?: string; nexthops?: Hop[] })[];
  return routes.map(route => ({
    prefix: route.dst === "default" ? defaultPrefix : route.dst.includes("/") ? route.dst : `${route.dst}/${hostLength}`,
    protocol: route.protocol ?? "",
    type: route.type ?? "unicast",
    hops: (route.nexthops ?? (route.dev === undefined ? [] : [route])).map(hop => ({
      via: hop.gateway ?? hop.via?.host,
      dev: hop.dev ?? "",
      down: (hop.flags ?? []).some(flag => flag === "dead" || flag === "linkdown"),
    })),
  }));
}

/**
 * Builds the lab, or makes good what is missing of a running one. When building fails or is aborted, all of it is removed again before
 * the error is thrown.
 */
export async function up(topology: Topology, options: UpOptions = {}): Promise<{ lab: Lab; action: UpAction; reason?: string }> {
  const progress = options.progress ?? silentProgress;
  const plan = planLab(topology, options.instance);
  const found = readState(plan.id);
  if (found !== undefined && busyWith(found)) {
    throw new Error(`process ${found.owner?.pid} is at work on lab ${plan.id} (${found.phase}); wait for it, or end it`);
  }
  const reason = found === undefined ? undefined : unusable(found, topology, plan);
  if (found !== undefined && reason === undefined) return repair(new Lab(found), progress, options.abort);
  const missing = missingFor(topology);
  if (missing !== undefined) throw new Error(`this topology cannot be built here: ${missing}`);
  const leftovers = listNamespaces(namespacePrefix(plan.id));
  if (found !== undefined || leftovers.length > 0) {
    await progress.step(`remove the old lab (${reason ?? "left by a crash"})`, () => remove(plan.id));
  }
  const lab = new Lab(newState(plan, options));
  try {
    await build(lab, progress, options.abort);
  } catch (error) {
    await progress.step("remove what was made", () => remove(plan.id));
    throw error;
  }
  return { lab, action: found === undefined ? "built" : "rebuilt", reason };
}

function newState(plan: LabPlan, options: UpOptions): LabState {
  return {
    version: 1,
    id: plan.id,
    instance: options.instance ?? "",
    topology: plan.topology,
    file: options.file ?? "",
    created: new Date().toISOString(),
    phase: "building",
    owner: { pid: process.pid, started: "" },
    namespaces: plan.namespaces,
    processes: {},
    pods: {},
  };
}

function unusable(state: LabState, topology: Topology, plan: LabPlan): string | undefined {
  if (state.phase !== "up") return `it was left while ${state.phase}`;
  if (!isDeepStrictEqual(state.topology, JSON.parse(JSON.stringify(topology)))) return "the topology has changed";
  const present = new Set(listNamespaces(namespacePrefix(plan.id)));
  const missing = plan.namespaces.filter(name => !present.has(name));
  if (missing.length > 0) return `namespace ${missing.join(", ")} is gone`;
  const lab = new Lab(state);
  // A router can be started again for itself; control plane and nodes of a cluster cannot.
  const dead = controlOf(plan) ? plan.machines.filter(machine => !isRouter(machine) && stopped(lab, machine).length > 0) : [];
  return dead.length > 0 ? `${dead.map(({ name }) => name).join(", ")} of the cluster did not run` : undefined;
}

async function repair(lab: Lab, progress: Progress, abort?: AbortSignal): Promise<{ lab: Lab; action: UpAction; reason?: string }> {
  const broken = lab.plan.machines.filter(machine => stopped(lab, machine).length > 0);
  for (const machine of broken) {
    await progress.step(`start ${machine.name} again`, async () => {
      await lab.end(machine, "SIGKILL");
      await lab.start(machine, abort);
    });
  }
  const names = broken.map(machine => machine.name).join(", ");
  return broken.length === 0 ? { lab, action: "kept" } : { lab, action: "repaired", reason: `${names} did not run` };
}

/** Programs of a machine that should run and do not. */
function stopped(lab: Lab, machine: MachinePlan): string[] {
  const ofNode = controlOf(lab.plan) ? ["machine"] : ["agent"];
  const expected = machine.kind === "node" ? ofNode : RouterKinds[machine.kind].programs;
  return expected.filter(program => !lab.running(machine).includes(program));
}

async function build(lab: Lab, progress: Progress, abort?: AbortSignal): Promise<void> {
  const { plan, state } = lab;
  writeState(state);
  const options = { signal: abort };
  const control = controlOf(plan);
  await progress.step("network namespaces", async detail => {
    // Those of a cluster's pods are its container runtime's.
    const pods = control ? plan.pods.map(({ namespace }) => namespace) : [];
    const made = { ...plan, namespaces: plan.namespaces.filter(name => !pods.includes(name)) };
    await makeNamespaces(made, options);
    detail(`${made.namespaces.length}`);
  });
  await progress.step("links and addresses", async detail => {
    await makeLinks(plan, options);
    detail(namesOf(plan.links.map(link => link.spec.name)));
  });
  const routers = plan.machines.filter(machine => machine.kind !== "node");
  const nodes = plan.machines.filter(machine => machine.kind === "node");
  if (routers.length > 0) {
    await progress.step("routers", async detail => {
      await each(routers, machine => lab.start(machine, abort));
      detail(namesOf(routers.map(machine => `${machine.name} (${RouterKinds[machine.kind].title})`)));
    });
  }
  if (control) await buildCluster(lab, control, nodes, progress, abort);
  else if (nodes.length > 0) {
    await progress.step("podlane agents", async detail => {
      writeObjects(lab);
      await each(nodes, machine => lab.start(machine, abort));
      detail(namesOf(nodes.map(machine => machine.name)));
    });
  }
  if (plan.pods.length > 0 && !control) {
    await progress.step("pods, attached by the CNI executable", async detail => {
      const plugin = await buildCniPlugin(`${STATE_ROOT}/${lab.id}/bin`);
      await each(plan.pods, async pod => {
        state.pods[pod.name] = await addPod(lab, pod, plugin, abort);
      });
      detail(`${plan.pods.length}`);
    });
  }
  abort?.throwIfAborted();
  state.phase = "up";
  state.owner = undefined;
  writeState(state);
}

async function buildCluster(
  lab: Lab,
  control: RouterMachine,
  nodes: MachinePlan[],
  progress: Progress,
  abort?: AbortSignal,
): Promise<void> {
  const { plan, state, folder } = lab;
  await progress.step("images, made here", async detail => detail(`${(await makeImages(lab.id)).length}`));
  await progress.step("kubectl apply: nodes, podlane, objects", () => applyObjects(folder, control, plan.topology));
  await progress.step("nodes: containerd, kubelet, kube-proxy", async detail => {
    await each(nodes, machine => lab.start(machine, abort));
    detail(namesOf(nodes.map(machine => machine.name)));
  });
  await progress.step("podlane agents, pods of the DaemonSet", () => each(nodes, machine => awaitAgent(machine, folder, abort)));
  if (plan.pods.length === 0) return;
  await progress.step("pods of a Deployment", async detail => {
    Object.assign(state.pods, await deployPods(plan, folder, abort));
    detail(`${plan.pods.length}`);
  });
}

function namesOf(names: string[]): string {
  return names.length <= 6 ? names.join(", ") : `${names.length}`;
}

/** How many programs start at once: sixty agents on two processors would all be too slow. */
const starters = Math.max(4, 2 * availableParallelism());

/** All of them, some at a time. When one fails no other is begun, and those at work are waited for: nothing may run on while the lab is removed. */
async function each<Item>(items: Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const waiting = [...items];
  const errors: unknown[] = [];
  const worker = async () => {
    for (let item = waiting.shift(); item !== undefined && errors.length === 0; item = waiting.shift()) {
      await work(item).catch(error => errors.push(error));
    }
  };
  await Promise.all(Array.from({ length: starters }, worker));
  if (errors.length > 0) throw errors[0];
}

/** The agents' configuration directory: one for all nodes, as one cluster has one API server. Written whole, then renamed. */
function writeObjects(lab: Lab): void {
  const folder = `${lab.folder}/config`;
  mkdirSync(folder, { recursive: true });
  const documents = (lab.plan.topology.objects ?? []).map(object => stringify(object)).join("---\n");
  writeFileSync(`${lab.folder}/objects.tmp`, documents);
  renameSync(`${lab.folder}/objects.tmp`, `${folder}/objects.yaml`);
}

/** Removes a lab, also one that is half made or whose state is lost. Returns how many namespaces went away. */
export async function down(id: string): Promise<number> {
  const state = readState(id);
  if (state !== undefined && busyWith(state)) {
    throw new Error(`process ${state.owner?.pid} is at work on lab ${id} (${state.phase}); end it first`);
  }
  return remove(id);
}

async function remove(id: string): Promise<number> {
  const state = readState(id);
  if (state !== undefined) {
    writeState({ ...state, phase: "removing", owner: { pid: process.pid, started: "" } });
    for (const process of Object.values(state.processes)) signal(process, "SIGKILL");
  }
  const removed = await removeNamespaces(listNamespaces(namespacePrefix(id)));
  await removeCluster(id);
  removeState(id);
  return removed;
}

/** Programs that run in a lab's namespaces, for `list`. */
export function populationOf(id: string): { namespaces: number; processes: number } {
  const namespaces = listNamespaces(namespacePrefix(id));
  return { namespaces: namespaces.length, processes: processesIn(namespaces).length };
}

/** For tests and --once: nothing of the lab may be left. */
export function leftovers(id: string): string[] {
  return listNamespaces(namespacePrefix(id));
}
