/** The objects of one collection as they can be used: of each its last good version, and what is wrong with its present one. */
import { Buffer, isUtf8 } from "node:buffer";
import type { ApiObject } from "../../kubernetes/types.ts";
import { isAddress } from "../../net/address.ts";
import type { Problem } from "../plan.ts";
import { checkObject } from "../resources/check-object.ts";
import type { AnyResource } from "../resources/kinds.ts";
import { formatPath } from "../resources/validate.ts";

interface Entry {
  good?: AnyResource;
  /** JSON of what was good, to see whether anything that is read has changed. */
  text: string;
  problems: Problem[];
}

/** Faults of one object that are told. */
const MAX_FAULTS = 50;
/** Characters. Longer annotations are tools' own, such as kubectl's last-applied-configuration, and are not kept for thousands of nodes. */
const MAX_ANNOTATION = 1024;

export class ObjectStore {
  readonly #apiVersion: string;
  readonly #kind: string;
  readonly #entries = new Map<string, Entry>();

  constructor(apiVersion: string, kind: string) {
    this.#apiVersion = apiVersion;
    this.#kind = kind;
  }

  /** True: what is read of it has changed. */
  set(given: ApiObject): boolean {
    const { name } = given.metadata;
    const before = this.#entries.get(name);
    // Lists leave out what all their items have in common.
    const parts = trimmed(given);
    const odd = this.#kind === "Node" ? dropOddAddresses(parts) : [];
    if (this.#kind === "Secret") dropBinary(parts);
    const { object, faults } = checkObject({ ...parts, apiVersion: this.#apiVersion, kind: this.#kind });
    const found = faults.slice(0, MAX_FAULTS).map(({ path, reason = "InvalidValue", message, remedy }): Problem => {
      const effect = before?.good ? "; its last good version stays in force" : "";
      return {
        severity: "error",
        reason,
        object: `${this.#kind}/${name}`,
        field: formatPath(path),
        message: `${message}${effect}`,
        remedy,
      };
    });
    const problems = [...found, ...odd.map(message => oddAddress(name, message))];
    const text = object ? JSON.stringify(object) : (before?.text ?? "");
    if (before && text === before.text && JSON.stringify(problems) === JSON.stringify(before.problems)) return false;
    const good = object ?? before?.good;
    this.#entries.set(name, { text, problems, ...(good && { good }) });
    return true;
  }

  delete(name: string): boolean {
    return this.#entries.delete(name);
  }

  *objects(): Generator<AnyResource> {
    for (const { good } of this.#entries.values()) if (good) yield good;
  }

  /** There is an object that was never a good one since this began. */
  get hasUnread(): boolean {
    return [...this.#entries.values()].some(({ good }) => !good);
  }

  *problems(): Generator<Problem> {
    for (const { problems } of this.#entries.values()) yield* problems;
  }
}

/** InternalIPs and ExternalIPs that a node may have. */
const MAX_ADDRESSES = 64;

/** A kubelet writes what it likes there, and the API server takes it: that must not cost the node, or those that read of it. Returns what is left out. */
function dropOddAddresses(parts: Record<string, unknown>): string[] {
  const { addresses } = (parts.status ?? {}) as { addresses?: unknown };
  if (!Array.isArray(addresses)) return [];
  const isRead = ({ type }: { type?: unknown; address?: unknown }) => type === "InternalIP" || type === "ExternalIP";
  const isOdd = (one: { type?: unknown; address?: unknown } | null) =>
    typeof one !== "object" || one === null || (isRead(one) && !(typeof one.address === "string" && isAddress(one.address)));
  const good = addresses.filter(one => !isOdd(one) && isRead(one));
  parts.status = { addresses: good.slice(0, MAX_ADDRESSES) };
  const odd = addresses.filter(isOdd).map(one => `${JSON.stringify(one?.address)?.slice(0, 80)} is not an IP address`);
  const beyond = good.length > MAX_ADDRESSES ? [`has ${good.length} addresses, at most ${MAX_ADDRESSES} are read`] : [];
  return [...odd.slice(0, MAX_FAULTS), ...beyond];
}

function oddAddress(name: string, message: string): Problem {
  const remedy = "see what the kubelet of this node reports; the others of its addresses are used";
  return { severity: "warning", reason: "InvalidValue", object: `Node/${name}`, field: "status.addresses", message, remedy };
}

/** Keys beside the password may hold anything. */
function dropBinary(parts: Record<string, unknown>): void {
  if (typeof parts.data !== "object" || parts.data === null) return;
  parts.data = Object.fromEntries(Object.entries(parts.data).filter(([, value]) => typeof value === "string" && isText(value)));
}

function isText(base64: string): boolean {
  return isUtf8(Buffer.from(base64, "base64"));
}

/** What checkObject() looks at, without what a thousand nodes would carry along: images, conditions, managed fields. */
function trimmed({ metadata, spec, status, data }: ApiObject): Record<string, unknown> {
  const { name, labels, annotations, generation } = metadata;
  const kept = annotations && Object.fromEntries(Object.entries(annotations).filter(([, text]) => text.length <= MAX_ANNOTATION));
  const parts = { metadata: { name, labels, annotations: kept, generation }, spec, status, data };
  return Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined));
}
