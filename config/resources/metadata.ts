/** The parts of ObjectMeta that are read, with their faults. */
import type { Metadata } from "./core.ts";
import type { Fault, Path } from "./validate.ts";

export function readMetadata(value: unknown, faults: Fault[]): Metadata | undefined {
  const name = isMapping(value) ? value.name : undefined;
  if (!isMapping(value) || typeof name !== "string" || name.length > 253 || !/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(name)) {
    const message = name === undefined ? "metadata.name is missing" : "metadata.name is not a DNS name";
    faults.push({
      path: isMapping(value) ? ["metadata", "name"] : ["metadata"],
      message,
      remedy: "use lower-case letters, digits, - and .",
    });
    return undefined;
  }
  const labels = textMap(value.labels, ["metadata", "labels"], faults);
  const annotations = textMap(value.annotations, ["metadata", "annotations"], faults);
  const generation = typeof value.generation === "number" ? value.generation : undefined;
  return {
    name,
    ...(labels ? { labels } : {}),
    ...(annotations ? { annotations } : {}),
    ...(generation === undefined ? {} : { generation }),
  };
}

function textMap(value: unknown, path: Path, faults: Fault[]): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isMapping(value)) {
    faults.push({ path, message: "must be a mapping of text to text", remedy: "write key: value pairs" });
    return undefined;
  }
  for (const [key, text] of Object.entries(value)) {
    if (typeof text === "string") continue;
    faults.push({ path: [...path, key], message: "must be text", remedy: `put it in quotes: ${key}: "${String(text)}"` });
  }
  return value as Record<string, string>;
}

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
