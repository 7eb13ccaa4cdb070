/**
 * What nodes say for themselves in labels and annotations that objects name: their AS number, their neighbours' addresses and AS number. One object
 * then serves a whole data hall. A value that is missing or wrong costs its node alone, and what was there before stays in force.
 */
import { formatAddress, isAddress, isLinkLocal, parseAddress } from "../../net/address.ts";
import type { Fabric, Peer, Resources } from "../resources/kinds.ts";
import { parseAsn } from "./annotations.ts";
import type { Context, NodeView, ResolvedPeer } from "./context.ts";
import type { Memory } from "./memory.ts";

type Key = NonNullable<Peer["spec"]["addressFrom"]>;
type Speaking = Pick<NodeView, "name" | "labels" | "annotations">;
type Parts = Pick<Context, "memory" | "problems">;

/** Neighbours of one node by one Peer. */
export const MAX_ENDS = 8;
/** Octets of a list of so many addresses with their interfaces. */
const MAX_TEXT = 8 * 64;
const INTERFACE = /^[^/:\s]{1,15}$/;

/** Where a neighbour is. */
export interface End {
  address: string;
  /** The interface to bind to. */
  link?: string;
}

/** Keys of annotations that objects name: they are known. */
export function namedAnnotations({ fabrics, peers }: Resources): ReadonlySet<string> {
  const keys = [
    ...[...fabrics.values()].map(({ spec }) => spec.asnFrom),
    ...[...peers.values()].flatMap(({ spec }) => [spec.asnFrom, spec.addressFrom]),
  ];
  return new Set(keys.flatMap(key => key?.annotation ?? []));
}

function textOf({ label = "", annotation }: Key, { labels, annotations }: Speaking): string | undefined {
  const [values, key] = annotation === undefined ? [labels, label] : [annotations, annotation];
  return Object.hasOwn(values, key) ? values[key] : undefined;
}

/** As it stands there, where it can be used. */
export function asnIn(key: Key, node: Speaking): number | undefined {
  return parseAsn(textOf(key, node)?.trim() ?? "");
}

/** The AS number that a fabric gives a node; undefined: there is none, now or before, and a problem says so. */
export function fabricAsn({ metadata, spec }: Fabric, node: Speaking, parts: Parts): number | undefined {
  const { memory } = parts;
  const object = `Fabric/${metadata.name}`;
  if (spec.asn !== undefined) memory.remember("asns", object, spec.asn);
  if (!spec.asnFrom) return spec.asn;
  // Of all nodes, before each had to say its own.
  const common = () => memory.recall("asns", object);
  return usableAsn(spec.asnFrom, node, parts, object, "it takes no part in BGP", common);
}

/** The Peer with the AS number that this node says; undefined: there is none, now or before, and a problem says so. */
export function withAsnOf(context: Context, peer: ResolvedPeer): ResolvedPeer | undefined {
  const { asnFrom, ...spec } = peer.spec;
  if (!asnFrom) return peer;
  const asn = usableAsn(asnFrom, context.self, context, `Peer/${peer.name}`, "there is no session");
  return asn === undefined ? undefined : { ...peer, spec: { ...spec, asn } };
}

function usableAsn(
  key: Key,
  node: Speaking,
  parts: Parts,
  object: string,
  otherwise: string,
  common = () => undefined as number | undefined,
) {
  const name = `${object} ${node.name}`;
  const asn = asnIn(key, node);
  if (asn !== undefined) parts.memory.remember("asns", name, asn);
  else {
    const last = parts.memory.recall("asns", name) ?? common();
    const effect = last === undefined ? otherwise : `${last}, which was there before, stays in force`;
    report(parts, key, node, `${object} takes an AS number from it`, "is not the AS number of a router", effect, ASN_REMEDY);
    return last;
  }
  return asn;
}

const ASN_REMEDY = "write a number from 1 to 4294967294 that is not reserved there, as 23456 and 65535 are";

/** The addresses that this node says; undefined: there are none, now or before, and a problem says so. */
export function endsFrom(context: Context, { name, spec }: ResolvedPeer, key: Key): End[] {
  const { self, memory } = context;
  const found = parseEnds(textOf(key, self), spec.bindInterface);
  if (Array.isArray(found)) return rememberEnds(memory, `Peer/${name} ${self.name}`, found);
  const last = recallEnds(memory, `Peer/${name} ${self.name}`);
  const effect = last ? `${endsText(last)}, which it said before, stays in force` : "there is no session";
  const remedy = `write up to ${MAX_ENDS} addresses there, with commas between them; more than one, and IPv6, take an annotation`;
  report(context, key, self, `Peer/${name} takes the neighbours' addresses from it`, found, effect, remedy);
  return last ?? [];
}

/** Or what is wrong, in words. */
function parseEnds(text: string | undefined, bindInterface: string | undefined): End[] | string {
  const parts = (text ?? "")
    .slice(0, MAX_TEXT + 1)
    .split(",")
    .map(part => part.trim());
  const ends = new Map<string, End>();
  if ((text ?? "").length > MAX_TEXT || parts.length > MAX_ENDS) return `has more than ${MAX_ENDS} addresses`;
  for (const part of parts) {
    const [address, zone, ...rest] = part.split("%");
    if (!isAddress(address) || rest.length > 0) return "is no list of addresses";
    const octets = parseAddress(address);
    if (zone !== undefined && !(INTERFACE.test(zone) && isLinkLocal(octets)))
      return "has an interface that is none, or behind an address that needs none";
    const link = zone ?? bindInterface;
    if (isLinkLocal(octets) && octets.length === 16 && link === undefined) return "has a link-local address without an interface";
    const end = { address: formatAddress(octets), ...(zone === undefined ? {} : { link: zone }) };
    ends.set(endsText([end]), end);
  }
  return [...ends.values()];
}

function report({ problems }: Parts, key: Key, node: Speaking, use: string, wrong: string, effect: string, remedy: string): void {
  const text = textOf(key, node);
  const field = key.annotation === undefined ? `metadata.labels["${key.label}"]` : `metadata.annotations["${key.annotation}"]`;
  const what = text === undefined ? "is missing" : `${JSON.stringify(text.slice(0, 40))} ${wrong}`;
  problems.error("NodeValueUnusable", `Node/${node.name}`, field, `${what}, and ${use}: ${effect}`, remedy);
}

export function endsText(ends: readonly End[]): string {
  return ends.map(toText).join(" and ");
}

function toText({ address, link }: End): string {
  return link === undefined ? address : `${address}%${link}`;
}

export function rememberEnds(memory: Memory, name: string, ends: End[]): End[] {
  memory.remember("ends", name, ends.map(toText));
  return ends;
}

export function recallEnds(memory: Memory, name: string): End[] | undefined {
  return memory.recall("ends", name)?.map(text => {
    const [address, link] = text.split("%");
    return { address, ...(link === undefined ? {} : { link }) };
  });
}
