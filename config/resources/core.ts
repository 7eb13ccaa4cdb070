/**
 * The parts of core/v1 Node and Secret that podlane reads. Objects from `kubectl get -o yaml` are taken as they are: only what is read is
 * checked, everything else is ignored.
 */
import { Buffer } from "node:buffer";
import { isAddress, isPrefix } from "../../net/address.ts";
import type { Fault, Path } from "./validate.ts";

/** The parts of ObjectMeta that podlane reads. */
export interface Metadata {
  name: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  generation?: number;
}

/** The parts of core/v1 Node that podlane reads. */
export interface Node {
  apiVersion: "v1";
  kind: "Node";
  metadata: Metadata;
  spec: { podCIDRs: string[] };
  status: { addresses: { type: string; address: string }[] };
}

/** The parts of core/v1 Secret that podlane reads; values are text (base64 already decoded). */
export interface Secret {
  apiVersion: "v1";
  kind: "Secret";
  metadata: Metadata;
  data: Record<string, string>;
}

function readNode(value: Record<string, unknown>, metadata: Metadata, faults: Fault[]): Node {
  const spec = mapping(value.spec, ["spec"], faults);
  const status = mapping(value.status, ["status"], faults);
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata,
    spec: { podCIDRs: readPodCidrs(spec, faults) },
    status: { addresses: readAddresses(status, faults) },
  };
}

function readPodCidrs(spec: Record<string, unknown>, faults: Fault[]): string[] {
  const all = Array.isArray(spec.podCIDRs) ? [...spec.podCIDRs] : [];
  if (spec.podCIDRs !== undefined && !Array.isArray(spec.podCIDRs)) {
    faults.push({ path: ["spec", "podCIDRs"], message: "must be a list", remedy: 'put "- " in front of each prefix' });
  }
  if (spec.podCIDR !== undefined && !all.includes(spec.podCIDR)) all.unshift(spec.podCIDR);
  if (all.length > 16)
    faults.push({ path: ["spec", "podCIDRs"], message: `has ${all.length} entries, at most 16`, remedy: "take some out" });
  for (const [i, cidr] of all.entries()) {
    if (typeof cidr === "string" && isPrefix(cidr)) continue;
    const path = Array.isArray(spec.podCIDRs) && spec.podCIDRs.includes(cidr) ? ["spec", "podCIDRs", i] : ["spec", "podCIDR"];
    const message = `${JSON.stringify(cidr)} is not a prefix with no bits set beyond its length`;
    faults.push({ path, message, remedy: "write it like 10.244.1.0/24 or 2001:db8:1::/64" });
  }
  return all.filter(cidr => typeof cidr === "string");
}

function readAddresses(status: Record<string, unknown>, faults: Fault[]): { type: string; address: string }[] {
  const { addresses = [] } = status;
  if (!Array.isArray(addresses) || addresses.length > 64) {
    faults.push({
      path: ["status", "addresses"],
      message: "must be a list of at most 64 addresses",
      remedy: "see kubectl get node -o yaml",
    });
    return [];
  }
  const result: { type: string; address: string }[] = [];
  for (const [i, entry] of addresses.entries()) {
    const path: Path = ["status", "addresses", i];
    const { type, address } = mapping(entry, path, faults);
    if (type !== "InternalIP" && type !== "ExternalIP") continue;
    if (typeof address === "string" && isAddress(address)) result.push({ type, address });
    else
      faults.push({
        path: [...path, "address"],
        message: `${JSON.stringify(address)} is not an IP address`,
        remedy: "write it like 192.0.2.1",
      });
  }
  return result;
}

/** Kinds of Kubernetes' own that are read, with what checks them. */
export const CoreKinds = {
  Node: { collection: "nodes", read: readNode },
  Secret: { collection: "secrets", read: readSecret },
} as const;

const MAX_SECRET_ENTRIES = 256;

/** Faults never show a value. */
function readSecret(value: Record<string, unknown>, metadata: Metadata, faults: Fault[]): Secret {
  const data: Record<string, string> = Object.create(null);
  for (const field of ["data", "stringData"] as const) {
    const entries = Object.entries(mapping(value[field], [field], faults));
    if (entries.length > MAX_SECRET_ENTRIES) {
      faults.push({ path: [field], message: `has more than ${MAX_SECRET_ENTRIES} entries`, remedy: "take some out" });
    }
    for (const [key, text] of entries.slice(0, MAX_SECRET_ENTRIES)) {
      const decoded = typeof text !== "string" ? undefined : field === "data" ? fromBase64(text) : text;
      if (decoded !== undefined) data[key] = decoded;
      else {
        const message = field === "data" ? "is not the base64 of UTF-8 text" : "must be text";
        faults.push({
          path: [field, key],
          message,
          remedy: field === "data" ? "put plain text under stringData instead" : "put it in quotes",
        });
      }
    }
  }
  return { apiVersion: "v1", kind: "Secret", metadata, data };
}

function fromBase64(text: string): string | undefined {
  const compact = text.replace(/\s+/g, "");
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(compact) || compact.length % 4 !== 0) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(compact, "base64"));
  } catch {
    return undefined;
  }
}

function mapping(value: unknown, path: Path, faults: Fault[]): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  faults.push({ path, message: "must be a mapping", remedy: "write field: value pairs" });
  return {};
}
