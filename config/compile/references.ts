/** What fields with the names of policies lead to. One that leads nowhere keeps what it said before: a slip of the pen changes no route. */
import type { Fabric, Peer, Resources } from "../resources/kinds.ts";
import { byName, type Cluster } from "./context.ts";

type Settings = Pick<Peer["spec"], "import" | "export">;

export interface Reference {
  object: string;
  /** The list. */
  field: string;
  names: readonly string[];
}

/** Every list of policies, as it stands in the objects. */
export function references(resources: Resources): Reference[] {
  const fabrics = byName(resources.fabrics).flatMap(({ metadata, spec }) =>
    meshLists.map(list => ({
      object: `Fabric/${metadata.name}`,
      field: `spec.mesh.${list}`,
      names: spec.mesh[list] ?? [],
    })),
  );
  const peers = byName(resources.peers).flatMap(({ metadata, spec }) => {
    const object = `Peer/${metadata.name}`;
    return [
      ...directions.map(direction => referenceOf(object, "spec", spec, direction)),
      ...(spec.families ?? []).flatMap((entry, i) =>
        directions.map(direction => referenceOf(object, `spec.families[${i}]`, entry, direction)),
      ),
    ];
  });
  return [...fabrics, ...peers];
}

const directions = ["import", "export"] as const;
const meshLists = ["importPolicies", "exportPolicies"] as const;

function referenceOf(object: string, at: string, settings: Settings, direction: (typeof directions)[number]): Reference {
  return { object, field: `${at}.${direction}.policies`, names: settings[direction]?.policies ?? [] };
}

/** With the former lists of policies where those of now lead nowhere. */
export function withUsableLists(
  { metadata, spec }: Fabric,
  { policies, memory, held }: Pick<Cluster, "policies" | "memory"> & { held: Set<string> },
) {
  const mesh = { ...spec.mesh };
  for (const list of meshLists) {
    const at = `Fabric/${metadata.name} spec.mesh.${list}`;
    const names = memory.hold("names", at, spec.mesh[list] ?? [], all => all.every(name => policies.has(name)));
    if (names === (spec.mesh[list] ?? names)) continue;
    mesh[list] = names;
    held.add(at);
  }
  return mesh;
}

/**
 * A Peer's spec, inheritance done, with `import` and `export` of its last good version where the policies of now lead nowhere. `givers`: the Peer and
 * the templates that it takes from, nearest first.
 */
export function withUsablePolicies(
  spec: Peer["spec"],
  last: Peer["spec"] | undefined,
  givers: readonly Peer[],
  { policies, held, refusing }: Pick<Cluster, "policies"> & { held: Set<string>; refusing: Set<string> },
): Peer["spec"] {
  const isUsable = (settings: Settings[keyof Settings]) => (settings?.policies ?? []).every(name => policies.has(name));
  const nameOf = (field: "import" | "export" | "families") => givers.find(one => one.spec[field] !== undefined)?.metadata.name;
  const result = { ...spec };
  for (const direction of directions) {
    if (!isUsable(spec[direction])) {
      const keeps = last !== undefined && isUsable(last[direction]);
      if (keeps) replace(result, direction, last[direction]);
      (keeps ? held : refusing).add(`Peer/${nameOf(direction)} spec.${direction}.policies`);
    }
    for (const [i, entry] of (spec.families ?? []).entries()) {
      if (isUsable(entry[direction])) continue;
      const former = last?.families?.find(({ name }) => name === entry.name)?.[direction] ?? last?.[direction];
      const keeps = last !== undefined && isUsable(former);
      (keeps ? held : refusing).add(`Peer/${nameOf("families")} spec.families[${i}].${direction}.policies`);
      if (!keeps) continue;
      const families = [...(result.families ?? [])];
      families[i] = replace({ ...families[i] }, direction, former);
      result.families = families;
    }
  }
  return result;
}

function replace<Of extends Settings>(settings: Of, direction: (typeof directions)[number], value: Settings[keyof Settings]): Of {
  if (value === undefined) delete settings[direction];
  else Object.assign(settings, { [direction]: value });
  return settings;
}
