/**
 * Objects of ours as they were when they could last be read, over a restart. A source has the last good version of what it has seen; one that has just
 * started has none of an object that a newer podlane wrote, say. That object must cost neither what it said nor what all others say.
 */

import type { Problem } from "../config/plan.ts";
import { checkObject } from "../config/resources/check-object.ts";
import { type AnyResource, collect, kindRows, type Resources } from "../config/resources/kinds.ts";

const ownKinds = new Map(kindRows.flatMap(({ kind, collection }) => (collection === undefined ? [] : [[kind, collection] as const])));

/** To be kept: all but Nodes and Secrets, of which others take care. */
export function ownObjects(resources: Resources): AnyResource[] {
  const maps = resources as unknown as Record<string, ReadonlyMap<string, AnyResource>>;
  return [...ownKinds.values()].flatMap(collection => [...maps[collection].values()]);
}

/** What was kept, as far as this version of podlane can read it. undefined: a former version kept none. */
export function readObjects(saved: unknown): AnyResource[] | undefined {
  return Array.isArray(saved) ? saved.flatMap(one => checkObject(one).object ?? []) : undefined;
}

export interface Completed {
  resources: Resources;
  problems: Problem[];
  /** Something cannot be read of which it is not known what it said. */
  lacking: boolean;
}

/** With the former version of each object that cannot be read. One that is not among the former was in force never. `former`: undefined: not known. */
export function complete(resources: Resources, problems: readonly Problem[], former: readonly AnyResource[] | undefined): Completed {
  const maps = resources as unknown as Record<string, ReadonlyMap<string, AnyResource>>;
  const kept = new Map((former ?? []).map(one => [`${one.kind}/${one.metadata.name}`, one]));
  const used = new Map<string, AnyResource>();
  let lacking = false;
  const told = problems.map((problem): Problem => {
    const { object, severity, message } = problem;
    if (severity !== "error") return problem;
    const [kind, name] = [object.slice(0, object.indexOf("/")), object.slice(object.indexOf("/") + 1)];
    const collection = ownKinds.get(kind);
    if (collection === undefined || former === undefined) lacking = true;
    if (collection === undefined || maps[collection].has(name)) return problem;
    const one = kept.get(object);
    if (!one) return problem;
    used.set(object, one);
    return { ...problem, message: `${message}; its last good version stays in force` };
  });
  if (used.size === 0) return { resources, problems: told, lacking };
  const { resources: added } = collect(used.values());
  const both = [...ownKinds.values()].map(collection => {
    const more = (added as unknown as typeof maps)[collection];
    return [collection, more.size > 0 ? new Map([...maps[collection], ...more]) : maps[collection]] as const;
  });
  return { resources: { ...resources, ...Object.fromEntries(both) }, problems: told, lacking };
}
