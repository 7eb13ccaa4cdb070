/**
 * The last good plan on disk, so that an agent can start and forward while its configuration is broken or out of reach. It holds
 * passwords: mode 0600.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { NetworkConfig, SpeakerConfig } from "../bgpd/config.ts";
import { type LastGood, readLastGood } from "../config/compile/memory.ts";
import { endOf } from "../config/compile/sessions.ts";
import type { NodePlan } from "../config/plan.ts";
import type { AnyResource } from "../config/resources/kinds.ts";
import { replaceFile } from "./atomic-file.ts";
import { readObjects } from "./former-objects.ts";

export interface SavedPlan {
  /** RFC 3339. */
  savedAt: string;
  plan: NodePlan;
  lastGood: LastGood;
  /** Of ours, that were in force. Absent: not known. */
  objects?: AnyResource[];
}

const FORMAT = 1;
/** A plan with 1000 neighbours and 10,000 networks is about 5 MB. */
const MAX_OCTETS = 64 << 20;

export function planPath(stateDirectory: string): string {
  return join(stateDirectory, "plan.json");
}

/** Throws what the file system throws, such as ENOSPC; the old file is then still there. */
export function savePlan(path: string, { plan, lastGood, objects }: Omit<SavedPlan, "savedAt">, now: Date): void {
  replaceFile(path, JSON.stringify({ format: FORMAT, savedAt: now.toISOString(), plan: { ...plan, problems: [] }, lastGood, objects }));
}

/** undefined where there is none. Throws an Error in words when it cannot be used. */
export function loadPlan(path: string, node: string): SavedPlan | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return undefined;
  if (found.size > MAX_OCTETS) throw new Error(`${path} has ${found.size} octets, more than a plan can have`);
  let saved: { format?: unknown; savedAt?: unknown; plan?: Partial<NodePlan>; lastGood?: unknown; objects?: unknown };
  try {
    saved = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(`${path} cannot be read: ${(error as Error).message}`);
  }
  const plan = saved?.plan;
  if (saved?.format !== FORMAT || typeof saved.savedAt !== "string" || typeof plan !== "object" || plan === null || !plan.pods) {
    throw new Error(`${path} was not written by this version of podlane`);
  }
  if (plan.node !== node) throw new Error(`${path} is the plan of node "${plan.node}", not of "${node}"`);
  const lastGood = saved.lastGood === undefined ? fromPlan(plan as NodePlan) : readLastGood(saved.lastGood);
  if (plan.speaker) bySource(plan.speaker);
  const { speaker, pods, readiness, services, masquerade, overlay, networkPolicy } = plan;
  const parts = {
    ...(masquerade && { masquerade }),
    ...(overlay && { overlay }),
    ...(networkPolicy && { networkPolicy }),
    ...(readiness && { readiness }),
    ...(services && { services }),
  };
  const objects = readObjects(saved.objects);
  return {
    savedAt: saved.savedAt,
    plan: { node, speaker, pods, ...parts, problems: [] },
    lastGood,
    ...(objects && { objects }),
  };
}

/** A former version wrote the plan alone: what can be seen from it. */
function fromPlan({ node, speaker, pods }: NodePlan): LastGood {
  const result: Record<string, Record<string, unknown>> = { ranges: {}, asns: {}, neighbors: {}, passwords: {} };
  for (const prefix of pods.podCidrs ?? []) result.ranges[prefix] = node;
  for (const { name, asn, ranges } of speaker?.origins?.nodes ?? []) {
    result.asns[name] = asn;
    for (const prefix of ranges) result.ranges[prefix] = name;
  }
  for (const { name, address, interface: link, source, password } of speaker?.neighbors ?? []) {
    result.neighbors[endOf({ address, interface: link })] = name;
    // Sessions of the mesh are from nodes, and have the password of the fabric, of which the plan does not tell the name.
    if (password !== undefined && source?.startsWith("Peer/")) result.passwords[source] = password;
  }
  return readLastGood(result);
}

/** A former version wrote with each network who may hear it. Its policies name prefixes, which go on to hold. */
function bySource({ networks = [], neighbors }: SpeakerConfig): void {
  for (const network of networks as (NetworkConfig & { neighbors?: string[] })[]) {
    const { neighbors: listeners, prefix } = network;
    if (!listeners) continue;
    delete network.neighbors;
    Object.assign(network, { sources: [prefix], restricted: true });
    for (const neighbor of neighbors) if (listeners.includes(neighbor.name)) neighbor.hears = [...(neighbor.hears ?? []), prefix];
  }
}
