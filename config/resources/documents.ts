/**
 * From text (multi-document YAML, JSON) to checked objects. Every fault names file, document, line and column, object, field, what is
 * wrong and what to do. What a text may hold is bounded (yaml.ts).
 */
import { type Document, isNode, type LineCounter } from "yaml";
import type { Problem } from "../plan.ts";
import { checkObject } from "./check-object.ts";
import type { AnyResource } from "./kinds.ts";
import { isMapping } from "./metadata.ts";
import { checkPolicyObject, type PolicyObject } from "./policy-documents.ts";
import { checkServiceObject, type ServiceObject } from "./service-documents.ts";
import { type Fault, formatPath, type Path } from "./validate.ts";
import { documentFault, Limits, parseYaml } from "./yaml.ts";

/** Faults of one object that are told. */
const MAX_FAULTS = 50;

export interface ReadResult {
  /** Objects in the order of the text, each with where it stands. */
  objects: { object: AnyResource; place: string }[];
  /** Likewise. */
  services: { object: ServiceObject; place: string }[];
  /** Likewise. `closed`: what can be read of one with a fault, for when there is nothing better. */
  policies: { object: PolicyObject; place: string; closed?: true }[];
  problems: Problem[];
  /** The text is no YAML: it may be half-written. */
  broken: boolean;
}

/** Reads all objects of a text. `file` is named in problems. Never throws; an object with an error is left out. */
export function readDocuments(text: string, file: string): ReadResult {
  const result: ReadResult = { objects: [], services: [], policies: [], problems: [], broken: false };
  const fail = (message: string, remedy: string, place?: string) => {
    result.problems.push({
      severity: "error",
      reason: "UnreadableFile",
      object: file,
      field: "",
      message,
      remedy,
      ...(place ? { place } : {}),
    });
  };
  const { documents, lines, fault } = parseYaml(text);
  if (fault) {
    fail(fault.message, fault.remedy);
    result.broken = true;
    return result;
  }
  for (const [i, document] of documents.entries()) {
    const context: Context = { file, number: i + 1, lines, document };
    const wrong = documentFault(document);
    if (wrong) {
      fail(wrong.message, wrong.remedy, placeAt(context, wrong.offset ?? 0));
      result.broken = true;
    } else if (!isEmpty(document)) readDocument(context, result);
  }
  return result;
}

interface Context {
  file: string;
  number: number;
  lines: LineCounter;
  document: Document.Parsed;
}

/** A document of comments, or nothing at all. */
function isEmpty(document: Document.Parsed): boolean {
  const { contents } = document;
  return contents === null || (isNode(contents) && "value" in contents && contents.value === null);
}

function readDocument(context: Context, result: ReadResult): void {
  let value: unknown;
  try {
    value = context.document.toJS({ maxAliasCount: Limits.aliases });
  } catch (error) {
    const message = `cannot be resolved: ${error instanceof Error ? error.message : String(error)}`;
    result.problems.push(problemAt(context, context.file, { path: [], message, remedy: "write the parts out instead of using aliases" }));
    return;
  }
  if (depthOf(value, Limits.depth) > Limits.depth) {
    const message = `is nested deeper than ${Limits.depth} levels`;
    result.problems.push(problemAt(context, context.file, { path: [], message, remedy: "flatten it" }));
    return;
  }
  const items = listItems(value);
  if (items) for (const [i, item] of items.entries()) readObject(context, item, ["items", i], result);
  else readObject(context, value, [], result);
}

/** `kubectl get -o yaml` writes a v1 List. */
function listItems(value: unknown): unknown[] | undefined {
  if (!isMapping(value) || value.kind !== "List" || value.apiVersion !== "v1" || !Array.isArray(value.items)) return undefined;
  return value.items;
}

function readObject(context: Context, value: unknown, at: Path, result: ReadResult): void {
  const place = () => placeOf(context, at, "value");
  const service = checkServiceObject(value);
  if (service) {
    tellFaults(context, at, service, result);
    if (service.object) result.services.push({ object: service.object, place: place() });
    return;
  }
  const policy = checkPolicyObject(value);
  if (policy) {
    const { object = policy.closed, closed } = policy;
    tellFaults(context, at, policy, result);
    tellFaults(context, at, { name: policy.name, faults: policy.warnings }, result, "warning");
    if (object) result.policies.push({ object, place: place(), ...(object === closed && { closed: true }) });
    return;
  }
  const checked = checkObject(value);
  tellFaults(context, at, checked, result);
  if (checked.object) result.objects.push({ object: checked.object, place: place() });
}

function tellFaults(
  context: Context,
  at: Path,
  { name, faults }: { name?: string; faults: Fault[] },
  { problems }: ReadResult,
  severity: Problem["severity"] = "error",
): void {
  for (const fault of faults.slice(0, MAX_FAULTS)) {
    const told = problemAt(context, name ?? context.file, { ...fault, path: [...at, ...fault.path] }, formatPath(fault.path));
    problems.push({ ...told, severity });
  }
}

function problemAt(context: Context, object: string, fault: Fault, field = formatPath(fault.path)): Problem {
  const { message, remedy } = fault;
  return {
    severity: "error",
    reason: fault.reason ?? "InvalidValue",
    object,
    field,
    message,
    remedy,
    place: placeOf(context, fault.path, fault.about ?? "value"),
  };
}

/** Where a field stands; of one that is missing, the nearest parent. */
function placeOf(context: Context, path: Path, about: "key" | "value"): string {
  let offset = rangeStart(context.document.contents) ?? 0;
  for (let length = path.length; length > 0; length--) {
    const found = about === "key" && length === path.length ? keyOffset(context.document, path) : undefined;
    const start = found ?? rangeStart(context.document.getIn(path.slice(0, length), true));
    if (start === undefined) continue;
    offset = start;
    break;
  }
  return placeAt(context, offset);
}

function keyOffset(document: Document.Parsed, path: Path): number | undefined {
  const parent = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
  if (!parent || typeof parent !== "object" || !("items" in parent) || !Array.isArray(parent.items)) return undefined;
  for (const { key } of parent.items as { key?: { value?: unknown } }[]) if (key?.value === path.at(-1)) return rangeStart(key);
  return undefined;
}

function rangeStart(node: unknown): number | undefined {
  return isNode(node) && node.range ? node.range[0] : undefined;
}

function placeAt({ file, number, lines }: Context, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${file}, document ${number}, line ${line}:${col}`;
}

function depthOf(value: unknown, limit: number): number {
  if (limit < 0 || typeof value !== "object" || value === null) return 0;
  let deepest = 0;
  for (const part of Object.values(value)) deepest = Math.max(deepest, depthOf(part, limit - 1));
  return deepest + 1;
}
