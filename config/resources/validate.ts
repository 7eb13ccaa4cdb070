/**
 * Checks a value against a kind's schema the way the API server checks a custom resource: shape, bounds, lists, defaults, then the CEL
 * rules. Other than the API server it refuses unknown fields, naming the nearest known one, and says for each fault what to do.
 */
import type { Static, TSchema } from "typebox";
import type { Reason } from "../../platform/problem.ts";
import { holds } from "./cel.ts";
import type { SchemaNode } from "./schema.ts";
import { nearest } from "./suggest.ts";

export type Path = readonly (string | number)[];

export interface Fault {
  path: Path;
  /** Absent: InvalidValue. */
  reason?: Reason;
  message: string;
  remedy: string;
  /** The fault is about the field's name (unknown, missing), not about its value. */
  about?: "key";
}

const MAX_FAULTS = 50;

/** The remedy where the schema says nothing of the field. */
export const NO_HELP = "see docs/objects.md";

/** A copy of `value` with defaults filled in, which has the schema's type where there are no faults, and what is wrong with it (at most 50 faults). */
export function validate<T extends TSchema>(schema: T, value: unknown, at: Path = []): { value: Static<T>; faults: Fault[] } {
  const node = schema as unknown as SchemaNode;
  const faults: Fault[] = [];
  const result = checkNode(node, value, at, faults);
  if (faults.length === 0) checkRules(node, result, at, faults);
  return { value: result as Static<T>, faults: faults.slice(0, MAX_FAULTS) };
}

/** "spec.rules[2].match.prefixes[0]" */
export function formatPath(path: Path): string {
  return path.map((part, i) => (typeof part === "number" ? `[${part}]` : formatKey(part, i === 0))).join("");
}

function formatKey(key: string, first: boolean): string {
  if (!/^[A-Za-z_][\w-]*$/.test(key)) return `[${JSON.stringify(key)}]`;
  return first ? key : `.${key}`;
}

function checkNode(schema: SchemaNode, value: unknown, path: Path, faults: Fault[]): unknown {
  if (faults.length >= MAX_FAULTS) return value;
  switch (schema.type) {
    case "object":
      if (typeof value !== "object" || value === null || Array.isArray(value)) return wrongType(value, "a mapping", path, faults);
      return checkObject(schema, value as Record<string, unknown>, path, faults);
    case "array":
      if (!Array.isArray(value)) return wrongType(value, "a list", path, faults);
      return checkList(schema, value, path, faults);
    case "string":
      if (typeof value !== "string") return wrongType(value, "text", path, faults);
      checkText(schema, value, path, faults);
      return value;
    case "integer":
      if (typeof value !== "number" || !Number.isInteger(value)) return wrongType(value, "a whole number", path, faults);
      checkNumber(schema, value, path, faults);
      return value;
    case "number":
      if (typeof value !== "number" || !Number.isFinite(value)) return wrongType(value, "a number", path, faults);
      checkNumber(schema, value, path, faults);
      return value;
    case "boolean":
      return typeof value === "boolean" ? value : wrongType(value, "true or false", path, faults);
    default:
      throw new Error(`schema of ${formatPath(path)} has no type`);
  }
}

function wrongType(value: unknown, wanted: string, path: Path, faults: Fault[]): unknown {
  faults.push({ path, message: `must be ${wanted}, not ${describe(value)}`, remedy: remedyForType(value, wanted) });
  return value;
}

function remedyForType(value: unknown, wanted: string): string {
  if (wanted === "text" && (typeof value === "number" || typeof value === "boolean")) return `put it in quotes: "${value}"`;
  if (wanted === "a whole number" && typeof value === "string" && /^\d+$/.test(value)) return `take the quotes off: ${value}`;
  if (wanted === "a list" && value !== null && value !== undefined) return 'put "- " in front of each entry';
  if (value === null) return "give a value, or take the field out";
  return `write ${wanted} here`;
}

/** The value in words, never at length. */
function describe(value: unknown): string {
  if (value === null || value === undefined) return "empty";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  if (typeof value === "string") return `the text ${quote(value)}`;
  return String(value);
}

function quote(value: string): string {
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
}

function checkObject(schema: SchemaNode, value: Record<string, unknown>, path: Path, faults: Fault[]): unknown {
  const result: Record<string, unknown> = {};
  const free = schema.patternProperties ? Object.values(schema.patternProperties)[0] : undefined;
  const properties = schema.properties ?? {};
  const keys = Object.keys(value);
  if (schema.maxProperties !== undefined && keys.length > schema.maxProperties) {
    faults.push({ path, message: `has ${keys.length} entries, at most ${schema.maxProperties} are allowed`, remedy: "take some out" });
    return value;
  }
  for (const key of keys) {
    const child = Object.hasOwn(properties, key) ? properties[key] : free;
    if (child) result[key] = checkNode(child, value[key], [...path, key], faults);
    else if (schema.additionalProperties === true) result[key] = value[key];
    else unknownField(key, Object.keys(properties), path, faults);
  }
  for (const [key, child] of Object.entries(properties)) {
    if (Object.hasOwn(value, key)) continue;
    if (child.default !== undefined) result[key] = checkNode(child, structuredClone(child.default), [...path, key], faults);
    else if (schema.required?.includes(key)) missingField(key, child, path, faults);
  }
  return result;
}

function unknownField(key: string, known: string[], path: Path, faults: Fault[]): void {
  const near = nearest(key, known);
  faults.push({
    path: [...path, key],
    about: "key",
    reason: "UnknownField",
    message: `unknown field ${quote(key)}`,
    remedy: near ? `did you mean ${JSON.stringify(near)}?` : `known fields: ${known.join(", ") || "none"}`,
  });
}

function missingField(key: string, child: SchemaNode, path: Path, faults: Fault[]): void {
  const what = child.description ? ` (${child.description.replace(/\.$/, "")})` : "";
  faults.push({
    path: [...path, key],
    about: "key",
    reason: "MissingField",
    message: `field ${JSON.stringify(key)} is missing`,
    remedy: `add ${key}${what}`,
  });
}

function checkList(schema: SchemaNode, value: unknown[], path: Path, faults: Fault[]): unknown {
  const { minItems = 0, maxItems = Number.POSITIVE_INFINITY, items = {} } = schema;
  if (value.length < minItems) faults.push({ path, message: `needs at least ${minItems} entries`, remedy: "add an entry" });
  if (value.length > maxItems) {
    faults.push({ path, message: `has ${value.length} entries, at most ${maxItems} are allowed`, remedy: "take some out" });
    return value;
  }
  const result = value.map((item, i) => checkNode(items, item, [...path, i], faults));
  checkDistinct(schema, result, path, faults);
  return result;
}

/** List types map and set: no entry twice. */
function checkDistinct(schema: SchemaNode, value: unknown[], path: Path, faults: Fault[]): void {
  const type = schema["x-kubernetes-list-type"];
  const key = schema["x-kubernetes-list-map-keys"]?.[0];
  if (type !== "map" && type !== "set") return;
  const seen = new Map<unknown, number>();
  for (const [i, item] of value.entries()) {
    const identity = key === undefined ? item : (item as Record<string, unknown> | null)?.[key];
    const first = seen.get(identity);
    if (first === undefined) seen.set(identity, i);
    else if (identity !== undefined) {
      const what = key === undefined ? describe(item) : `${key} ${describe(identity)}`;
      faults.push({ path: [...path, i], message: `${what} is there twice, first as entry ${first + 1}`, remedy: "take one out" });
    }
  }
}

function checkText(schema: SchemaNode, value: string, path: Path, faults: Fault[]): void {
  // The API server counts code points.
  const length = [...value].length;
  if (schema.enum && !schema.enum.includes(value)) {
    const near = nearest(value, schema.enum);
    const remedy = near ? `did you mean ${near}?` : "use one of these";
    faults.push({ path, message: `${quote(value)} is not one of ${schema.enum.join(", ")}`, remedy });
    return;
  }
  if (schema.minLength !== undefined && length < schema.minLength) {
    faults.push({ path, message: `${quote(value)} is too short: at least ${schema.minLength} characters`, remedy: shortHelp(schema) });
  } else if (schema.maxLength !== undefined && length > schema.maxLength) {
    faults.push({ path, message: `is too long: ${length} characters, at most ${schema.maxLength}`, remedy: shortHelp(schema) });
  } else if (schema.pattern && !new RegExp(schema.pattern, "u").test(value)) {
    faults.push({ path, message: `${quote(value)} does not have the right form`, remedy: shortHelp(schema) });
  }
}

function checkNumber(schema: SchemaNode, value: number, path: Path, faults: Fault[]): void {
  const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = schema;
  if (value >= minimum && value <= maximum) return;
  const range = maximum === Number.POSITIVE_INFINITY ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
  faults.push({ path, message: `${value} is out of range`, remedy: `give a number ${range}` });
}

function shortHelp(schema: SchemaNode): string {
  return schema.description ? `wanted: ${schema.description}` : NO_HELP;
}

/** CEL rules, innermost first; only asked when the shape is right, as in the API server. */
function checkRules(schema: SchemaNode, value: unknown, path: Path, faults: Fault[]): void {
  if (schema.type === "object" && schema.properties) {
    for (const [key, part] of Object.entries(value as Record<string, unknown>)) {
      if (schema.properties[key]) checkRules(schema.properties[key], part, [...path, key], faults);
    }
  }
  if (schema.type === "array" && schema.items) {
    for (const [i, item] of (value as unknown[]).entries()) checkRules(schema.items, item, [...path, i], faults);
  }
  for (const { rule, message, fieldPath } of schema["x-kubernetes-validations"] ?? []) {
    if (holds(rule, value, schema)) continue;
    const full = fieldPath ? [...path, ...fieldPath.slice(1).split(".")] : path;
    const text = typeof value === "string" ? `${quote(value)}: ${message}` : message;
    faults.push({
      path: full,
      reason: "RuleViolated",
      message: text,
      remedy: schema.type === "object" ? "correct these fields; docs/objects.md describes them" : shortHelp(schema),
    });
  }
}
