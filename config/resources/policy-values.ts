/** What policies of all kinds are made of: label selectors and ports. What cannot be read is a fault, and undefined. */
import type { LabelSelector, PolicyPort, PolicyProtocol } from "../../netfilter/policy/types.ts";
import { isMapping } from "./metadata.ts";
import { isSet, list, mapping, show } from "./raw.ts";
import type { Fault, Path } from "./validate.ts";

/** Entries of one list: far more than etcd's bound of an object lets in. */
export const MAX_ENTRIES = 20_000;
const operators = ["In", "NotIn", "Exists", "DoesNotExist"] as const;
const protocols = ["TCP", "UDP", "SCTP"] as const;

/** Of meta/v1 LabelSelector. */
export function readSelector(value: unknown, path: Path, faults: Fault[]): LabelSelector | undefined {
  const before = faults.length;
  const { matchLabels, matchExpressions, ...others } = mapping(value, path, faults);
  for (const key of Object.keys(others))
    faults.push({ path: [...path, key], message: `unknown field "${key}"`, remedy: "a selector has matchLabels and matchExpressions" });
  const labels = mapping(matchLabels, [...path, "matchLabels"], faults);
  for (const [key, text] of Object.entries(labels))
    if (typeof text !== "string") faults.push({ path: [...path, "matchLabels", key], message: "must be text", remedy: "put it in quotes" });
  const at = [...path, "matchExpressions"];
  const expressions = list(matchExpressions, at, MAX_ENTRIES, faults).map((one, i) => readExpression(one, [...at, i], faults));
  if (faults.length > before) return undefined;
  return {
    ...(Object.keys(labels).length > 0 && { matchLabels: labels as Record<string, string> }),
    ...(expressions.length > 0 && { matchExpressions: expressions as NonNullable<LabelSelector["matchExpressions"]> }),
  };
}

function readExpression(value: unknown, path: Path, faults: Fault[]): object {
  const { key, operator, values } = mapping(value, path, faults);
  if (typeof key !== "string" || key === "")
    faults.push({ path: [...path, "key"], message: "is no label", remedy: "write the label's key" });
  if (!operators.some(one => one === operator))
    faults.push({ path: [...path, "operator"], message: `${show(operator)} is not known`, remedy: `write ${operators.join(", ")}` });
  const all = list(values, [...path, "values"], MAX_ENTRIES, faults);
  const wantsValues = operator === "In" || operator === "NotIn";
  if (wantsValues !== all.length > 0 || all.some(one => typeof one !== "string"))
    faults.push({
      path: [...path, "values"],
      message: "does not fit the operator",
      remedy: "In and NotIn have values, the others have none",
    });
  return { key, operator, ...(wantsValues && { values: all }) };
}

export function readProtocol(value: unknown, path: Path, faults: Fault[]): PolicyProtocol | undefined {
  const found = isSet(value) ? protocols.find(one => one === value) : "TCP";
  if (!found) faults.push({ path, message: `${show(value)} is not known`, remedy: `write ${protocols.join(", ")}` });
  return found;
}

/** A number, or the name of a port of the destination pod. */
export function readPort(value: unknown, path: Path, faults: Fault[]): number | string | undefined {
  if (isPort(value) || (typeof value === "string" && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(value) && value.length <= 63)) return value;
  faults.push({ path, message: `${show(value)} is no port`, remedy: "write a number from 1 to 65535, or the name of a container's port" });
  return undefined;
}

/** `from` and `to`: how they are called. */
export function readRange(protocol: PolicyProtocol, from: unknown, to: unknown, path: Path, faults: Fault[]): PolicyPort | undefined {
  if (isPort(from) && isPort(to) && from <= to) return { protocol, port: from, endPort: to };
  faults.push({ path, message: `${show(from)} to ${show(to)} is no range of ports`, remedy: "write two numbers, the lower one first" });
  return undefined;
}

function isPort(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value < 65536;
}

/** The one field that is set, of those that a choice may have; undefined: none, or one that a newer version of the API has. */
export function chosen(value: unknown, fields: readonly string[]): string | undefined {
  if (!isMapping(value)) return undefined;
  const set = Object.keys(value).filter(field => isSet(value[field]));
  return set.length === 1 && fields.includes(set[0]) ? set[0] : undefined;
}

/** What a newer version of the API has is no fault of the object: it lets nothing through. */
export function notUnderstood(path: Path, value: unknown, effect: string): Fault {
  const fields = isMapping(value) ? Object.keys(value).slice(0, 5).join(", ") : show(value);
  const remedy = "write it in another way, or see whether a newer podlane knows it";
  return { path, reason: "NotSupported", message: `${fields || "an empty entry"} is not understood: ${effect}`, remedy };
}
