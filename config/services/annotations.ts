/** What a Service says of its own routes by annotations, as far as the Advertisements that announce it let it. Pure; what cannot be used is said, and ignored. */
import { community, largeCommunity } from "../resources/common.ts";
import type { SchemaNode } from "../resources/schema.ts";
import type { ServiceAnnotation, ServiceRoute, ServiceRule, ServiceView } from "./types.ts";

type Attributes = NonNullable<ServiceRoute["attributes"]>;

interface Row {
  /** Behind "podlane.io/". */
  name: string;
  allowed: ServiceAnnotation;
  /** undefined: it is not written as it must be. */
  read(text: string): Attributes | undefined;
  remedy: string;
}

/** As many as an Advertisement may add. */
const MAX_COMMUNITIES = 32;
const MAX_UINT32 = 4294967295;

const Rows: readonly Row[] = [
  {
    name: "communities",
    allowed: "Communities",
    read: text => list(text, community(), 65535, communities => ({ communities })),
    remedy: "write ASN:VALUE or a well-known name, several with commas between",
  },
  {
    name: "large-communities",
    allowed: "LargeCommunities",
    read: text => list(text, largeCommunity(), MAX_UINT32, largeCommunities => ({ largeCommunities })),
    remedy: "write ASN:VALUE:VALUE, several with commas between",
  },
  {
    name: "local-pref",
    allowed: "LocalPref",
    read: text => whole(text, 0, MAX_UINT32, localPref => ({ localPref })),
    remedy: `write a number from 0 to ${MAX_UINT32}`,
  },
  {
    name: "med",
    allowed: "MED",
    read: text => whole(text, 0, MAX_UINT32, med => ({ med })),
    remedy: `write a number from 0 to ${MAX_UINT32}`,
  },
  {
    name: "prepend",
    allowed: "Prepend",
    read: text => whole(text, 1, 16, prepend => ({ prepend })),
    remedy: "write a number from 1 to 16",
  },
];

/** All of `rules` must allow what is said: their neighbours hear the same route. */
export function ownAttributes(
  { annotations }: Pick<ServiceView, "annotations">,
  rules: readonly Pick<ServiceRule, "source" | "annotations">[],
): { attributes?: Attributes; notes: string[] } {
  const notes: string[] = [];
  const found: Attributes = {};
  for (const { name, allowed, read, remedy } of Rows) {
    const key = `podlane.io/${name}`;
    if (!Object.hasOwn(annotations, key)) continue;
    const against = rules.filter(rule => !rule.annotations.includes(allowed)).map(({ source }) => source);
    const text = annotations[key].trim();
    const value = read(text);
    if (against.length > 0)
      notes.push(`${key} is ignored: ${against.join(", ")} would have to name ${allowed} in spec.service.annotations`);
    else if (!value) notes.push(`${key} is ignored: ${JSON.stringify(text.slice(0, 64))} cannot be read: ${remedy}`);
    else Object.assign(found, value);
  }
  return { ...(Object.keys(found).length > 0 ? { attributes: found } : {}), notes };
}

function list(text: string, { pattern = "" }: SchemaNode, limit: number, make: (items: string[]) => Attributes): Attributes | undefined {
  const form = new RegExp(pattern, "u");
  const items = [...new Set(text.split(",").map(item => item.trim()))];
  const good = items.every(item => form.test(item) && (!item.includes(":") || item.split(":").every(part => Number(part) <= limit)));
  return good && items.length <= MAX_COMMUNITIES ? make(items) : undefined;
}

function whole(text: string, min: number, max: number, make: (value: number) => Attributes): Attributes | undefined {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : -1;
  return value >= min && value <= max ? make(value) : undefined;
}
