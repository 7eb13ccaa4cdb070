/** The objects of one collection as they can be used: of each its last good version, and what is wrong with its present one. */
import type { ApiObject } from "../../kubernetes/types.ts";
import type { Problem } from "../plan.ts";
import { checkObject } from "../resources/documents.ts";
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
    const { object, faults } = checkObject({ ...trimmed(given), apiVersion: this.#apiVersion, kind: this.#kind });
    const problems = faults.slice(0, MAX_FAULTS).map(({ path, reason = "InvalidValue", message, remedy }): Problem => {
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

  *problems(): Generator<Problem> {
    for (const { problems } of this.#entries.values()) yield* problems;
  }
}

/** What checkObject() looks at, without what a thousand nodes would carry along: images, conditions, managed fields. */
function trimmed({ metadata, spec, status, data }: ApiObject): Record<string, unknown> {
  const { name, labels, annotations, generation } = metadata;
  const kept = annotations && Object.fromEntries(Object.entries(annotations).filter(([, text]) => text.length <= MAX_ANNOTATION));
  const parts = { metadata: { name, labels, annotations: kept, generation }, spec, status, data };
  return Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined));
}
