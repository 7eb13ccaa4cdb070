/** Reading objects of others, field by field: what is absent or null counts as empty, what has another shape is a fault. */
import { isMapping } from "./metadata.ts";
import type { Fault, Path } from "./validate.ts";

export function isSet(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** At most `longest` are read. */
export function list(value: unknown, path: Path, longest: number, faults: Fault[]): unknown[] {
  if (!isSet(value)) return [];
  if (!Array.isArray(value)) {
    faults.push({ path, message: "must be a list", remedy: 'put "- " in front of each' });
    return [];
  }
  if (value.length > longest) faults.push({ path, message: `has ${value.length} entries, at most ${longest}`, remedy: "take some out" });
  return value.slice(0, longest);
}

export function mapping(value: unknown, path: Path, faults: Fault[]): Record<string, unknown> {
  if (!isSet(value)) return {};
  if (isMapping(value)) return value;
  faults.push({ path, message: "must be a mapping", remedy: "write field: value pairs" });
  return {};
}

export function show(value: unknown): string {
  return JSON.stringify(typeof value === "string" ? value.slice(0, 80) : (value ?? null)).slice(0, 80);
}

/** Of metadata.namespace; undefined: it is none, and a fault says so. */
export function namespaceOf(metadata: unknown, faults: Fault[]): string | undefined {
  const { namespace = "default" } = metadata as Record<string, unknown>;
  if (typeof namespace === "string" && namespace.length <= 63 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(namespace)) return namespace;
  faults.push({ path: ["metadata", "namespace"], message: "is not a DNS label", remedy: "use lower-case letters, digits and -" });
  return undefined;
}
