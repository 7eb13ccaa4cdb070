/** One object, wherever it comes from, checked by the row of its kind. Apart from documents.ts, so that who has its objects from the API server loads no YAML. */
import type { TSchema } from "typebox";
import { apiVersion, GROUP } from "./common.ts";
import type { Metadata } from "./core.ts";
import { CoreKinds } from "./core.ts";
import { type AnyResource, kindRows } from "./kinds.ts";
import { isMapping, readMetadata } from "./metadata.ts";
import { PolicyKinds } from "./policy-documents.ts";
import { ServiceKinds } from "./service-documents.ts";
import { nearest } from "./suggest.ts";
import { type Fault, validate } from "./validate.ts";

const coreKinds = new Map(Object.entries(CoreKinds));

/** Checks one object as it comes from YAML, JSON or the API server. `name` is "Kind/name" where both could be read. */
export function checkObject(value: unknown): { object?: AnyResource; name?: string; faults: Fault[] } {
  const faults: Fault[] = [];
  if (!isMapping(value)) {
    return { faults: [{ path: [], message: "is not an object", remedy: "a document has apiVersion, kind, metadata and spec" }] };
  }
  const { kind } = value;
  const row = kindRows.find(({ kind: known }) => known === kind);
  const core = coreKinds.get(String(kind));
  if ((!row?.collection && !core) || value.apiVersion !== (core ? "v1" : apiVersion)) return { faults: [unknownKind(value)] };

  const metadata = readMetadata(value.metadata, faults);
  const name = metadata && `${kind}/${metadata.name}`;
  if (!metadata) return { faults };
  if (row?.collection && row.spec) return { name, ...checkOwnKind(row.kind, row.spec, value, metadata, faults) };
  const object = core?.read(value, metadata, faults);
  return { name, faults, ...(faults.length === 0 ? { object } : {}) };
}

function checkOwnKind(kind: string, schema: TSchema, value: Record<string, unknown>, metadata: Metadata, faults: Fault[]) {
  const known = ["apiVersion", "kind", "metadata", "spec", "status"];
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    const near = nearest(key, known);
    const remedy = near ? `did you mean "${near}"?` : `known fields: ${known.join(", ")}`;
    faults.push({ path: [key], about: "key", reason: "UnknownField", message: `unknown field "${key}"`, remedy });
  }
  if (value.spec === undefined) {
    faults.push({ path: ["spec"], about: "key", reason: "MissingField", message: 'field "spec" is missing', remedy: "add spec" });
    return { faults };
  }
  const checked = validate(schema, value.spec, ["spec"]);
  faults.push(...checked.faults);
  if (faults.length > 0) return { faults };
  return { faults, object: { apiVersion, kind, metadata, spec: checked.value } as AnyResource };
}

function unknownKind({ apiVersion: version, kind }: Record<string, unknown>): Fault {
  const own = kindRows.filter(row => row.collection).map(row => row.kind);
  const names = [...own, ...coreKinds.keys()];
  const said = `kind ${show(kind)} with apiVersion ${show(version)}`;
  if (kindRows.some(row => row.kind === kind && !row.collection)) {
    return {
      path: ["kind"],
      reason: "UnknownKind",
      message: `${kind} is written by the agents, not read`,
      remedy: "take the document out",
    };
  }
  const others: Record<string, readonly string[]> = Object.fromEntries([
    ...Object.entries(ServiceKinds).map(([name, row]) => [name, [row.apiVersion]] as const),
    ...Object.entries(PolicyKinds).map(([name, row]) => [name, row.apiVersions] as const),
  ]);
  const all = [...names, ...Object.keys(others)];
  if (typeof kind === "string" && all.includes(kind)) {
    const row = Object.hasOwn(others, kind) ? others[kind] : undefined;
    const [wanted] = row ?? [coreKinds.has(kind) ? "v1" : apiVersion];
    // A lab's topology has no Services and policies, which files have.
    if (wanted === version || row?.some(one => one === version))
      return { path: ["kind"], reason: "UnknownKind", message: `${kind} is not taken here`, remedy: "take the document out" };
    return { path: ["apiVersion"], reason: "UnknownKind", message: `${said} is not known`, remedy: `write apiVersion: ${wanted}` };
  }
  const near = typeof kind === "string" ? nearest(kind, all) : undefined;
  const foreign = all.slice(own.length).join(", ");
  const remedy = near ? `did you mean "${near}"?` : `known are ${GROUP} ${own.join(", ")}, and of Kubernetes ${foreign}`;
  return { path: kind === undefined ? [] : ["kind"], reason: "UnknownKind", message: `${said} is not known`, remedy };
}

function show(value: unknown): string {
  return value === undefined ? "(missing)" : JSON.stringify(typeof value === "string" ? value.slice(0, 80) : typeof value);
}
