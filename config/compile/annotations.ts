/** Annotations of Node objects that podlane reads. One that is wrong, or misspelt, keeps what it said when it was last right. */
import { isReservedAsn } from "../../bgpd/message/as-path.ts";
import { isAddress } from "../../net/address.ts";
import type { Node } from "../resources/core.ts";
import { nearest } from "../resources/suggest.ts";
import { familyOfText, type Problems } from "./context.ts";
import type { Memory } from "./memory.ts";

const ASN_ANNOTATION = "podlane.io/asn";
export const ROUTER_ID_ANNOTATION = "podlane.io/router-id";

const PREFIX = "podlane.io/";
const known = [ASN_ANNOTATION, ROUTER_ID_ANNOTATION];
const fields: Record<string, "asns" | "routerIds"> = { asn: "asns", "router-id": "routerIds" };

/** Absent where there is none that can be used, now or before. */
export interface AnnotatedNode {
  asn?: number;
  routerId?: string;
}

/** `named`: those that objects name. */
export function readAnnotations({ metadata }: Node, named: ReadonlySet<string>, memory: Memory, problems: Problems): AnnotatedNode {
  const { name, annotations = {} } = metadata;
  const misspelt = new Set<string>();
  for (const key of Object.keys(annotations)) {
    if (!key.startsWith(PREFIX) || known.includes(key) || named.has(key)) continue;
    const near = nearest(
      key.slice(PREFIX.length),
      known.map(one => one.slice(PREFIX.length)).filter(one => !(PREFIX + one in annotations)),
    );
    if (near) misspelt.add(PREFIX + near);
    const stays = near !== undefined && memory.before(fields[near], name);
    problems.error(
      "UnknownAnnotation",
      `Node/${name}`,
      fieldOf(key.slice(0, 80)),
      `podlane knows no such annotation: ${stays ? `${stays}, which ${PREFIX}${near} said before, stays in force` : "it has no effect"}`,
      near ? `did you mean ${PREFIX}${near}?` : `known are ${known.join(" and ")}`,
    );
  }
  return {
    asn: read("asns", ASN_ANNOTATION, parseAsn, "is not the AS number of a router", "the fabric's is used", ASN_REMEDY),
    routerId: read("routerIds", ROUTER_ID_ANNOTATION, routerIdOf, "is not a router id", "it is chosen without it", ROUTER_ID_REMEDY),
  };

  function read<Field extends "asns" | "routerIds", Value extends number | string>(
    field: Field,
    key: string,
    parse: (text: string) => Value | undefined,
    wrong: string,
    otherwise: string,
    remedy: string,
  ): Value | undefined {
    const text = Object.hasOwn(annotations, key) ? annotations[key] : undefined;
    if (text === undefined) return misspelt.has(key) ? (memory.recall(field, name) as Value | undefined) : undefined;
    const value = parse(text);
    if (value !== undefined) {
      memory.remember(field, name, value as never);
      return value;
    }
    const last = memory.recall(field, name) as Value | undefined;
    const effect = last === undefined ? otherwise : `${last}, which was there before, stays in force`;
    problems.error("InvalidAnnotation", `Node/${name}`, fieldOf(key), `${JSON.stringify(text.slice(0, 40))} ${wrong}; ${effect}`, remedy);
    return last;
  }
}

const ASN_REMEDY = "write a number from 1 to 4294967294 that is not reserved, as 23456 and 65535 are";
const ROUTER_ID_REMEDY = "write a dotted quad other than 0.0.0.0, such as 10.0.0.1";

function fieldOf(key: string): string {
  return `metadata.annotations["${key}"]`;
}

export function parseAsn(text: string): number | undefined {
  const asn = /^[1-9]\d{0,9}$/.test(text) ? Number(text) : 0;
  return asn > 0 && asn <= 4294967295 && !isReservedAsn(asn) ? asn : undefined;
}

function routerIdOf(text: string): string | undefined {
  return isAddress(text) && familyOfText(text) === 4 && text !== "0.0.0.0" ? text : undefined;
}
