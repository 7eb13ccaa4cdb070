/**
 * What a lab remembers on disk, under /run/podlane-lab/ID: enough for another process to look at it, repair it or take it away. The file is
 * written before the thing it names is made, so a crash leaves nothing that is not listed; what still slips through is found by the
 * namespaces' prefix.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { labIdPattern } from "../topology/plan.ts";
import type { Topology } from "../topology/schema.ts";
import { isAlive, type ProcessId } from "./system.ts";

/** /run is emptied at boot, as are the namespaces. */
export const STATE_ROOT = "/run/podlane-lab";
/** Of what is too large for memory: images, and what nodes of a cluster keep in /var/lib. */
const DATA_ROOT = "/var/tmp/podlane-lab";

export interface LabState {
  version: 1;
  id: string;
  instance: string;
  topology: Topology;
  /** Where the topology was read from. */
  file: string;
  /** RFC 3339. */
  created: string;
  phase: "building" | "up" | "removing";
  /** The process that builds or removes; another one keeps its hands off while it lives. */
  owner?: ProcessId;
  namespaces: string[];
  /** By machine and program: "tor-a/bgpd", "node1/agent". */
  processes: Record<string, ProcessId>;
  /** CNI results by pod. */
  pods: Record<string, PodState>;
}

export interface PodState {
  containerId: string;
  /** Of the pod's interface, `ADDRESS/LENGTH`. */
  addresses: string[];
}

export function labFolder(id: string): string {
  if (!labIdPattern.test(id)) throw new Error(`"${id}" is no lab name`);
  return `${STATE_ROOT}/${id}`;
}

export function dataFolder(id: string): string {
  if (!labIdPattern.test(id)) throw new Error(`"${id}" is no lab name`);
  return `${DATA_ROOT}/${id}`;
}

/** Undefined when there is no such lab, or nothing readable of it is left. */
export function readState(id: string): LabState | undefined {
  try {
    const state = JSON.parse(readFileSync(`${labFolder(id)}/state.json`, "utf8")) as LabState;
    return state.version === 1 && state.id === id ? state : undefined;
  } catch {
    return undefined;
  }
}

/** Atomic: a reader sees the old or the new state, never half of one. */
export function writeState(state: LabState): void {
  const folder = labFolder(state.id);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const temporary = `${folder}/state.json.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`);
  renameSync(temporary, `${folder}/state.json`);
}

export function removeState(id: string): void {
  rmSync(labFolder(id), { recursive: true, force: true });
}

/** Ids of all labs that left a folder. */
export function listStates(): string[] {
  try {
    return readdirSync(STATE_ROOT)
      .filter(name => labIdPattern.test(name))
      .sort();
  } catch {
    return [];
  }
}

/** Whether another living process is at work on this lab. */
export function busyWith(state: LabState): boolean {
  return state.owner !== undefined && state.owner.pid !== process.pid && isAlive(state.owner);
}
