/**
 * What was good when it was compiled last. An object can be right by itself and unusable all the same: a template was renamed, a policy is gone, two
 * nodes claim one range. What depends on such a thing keeps what it had, here and, with the plan, on the disk; a mistake costs what it is about and no more.
 */
import type { TSchema } from "typebox";
import { isAddress } from "../../net/address.ts";
import { checkObject } from "../resources/check-object.ts";
import { selector } from "../resources/common.ts";
import type { Node } from "../resources/core.ts";
import type { Peer, Policy, Selector } from "../resources/kinds.ts";
import { peerSpec } from "../resources/peer.ts";
import { policySpec } from "../resources/policy.ts";
import { validate } from "../resources/validate.ts";

/** Plain JSON. */
export interface LastGood {
  /** With what they take from templates. */
  peers: Record<string, Peer["spec"]>;
  policies: Record<string, Policy["spec"]>;
  /** By "SECRET/KEY", and by the object that uses it: "Peer/tor-a". */
  passwords: Record<string, string>;
  /** Of nodes that have one of their own; by "Fabric/main node1" and "Peer/tor node1" where those say it from labels and annotations. */
  asns: Record<string, number>;
  routerIds: Record<string, string>;
  /** Node by pod subnet. */
  ranges: Record<string, string>;
  /** Fabric by node. */
  fabrics: Record<string, string>;
  /** Nodes by fabric. */
  reflectors: Record<string, string[]>;
  /** Session by neighbour address (and link). */
  neighbors: Record<string, string>;
  /** PodNetwork by node. */
  podNetworks: Record<string, string>;
  /** Names in fields that lead to other objects, by "Fabric/main spec.mesh.importPolicies". */
  names: Record<string, string[]>;
  /** Those that selected something, by "Fabric/main spec.nodeSelector". */
  selectors: Record<string, Selector>;
  /** By fabric. */
  ports: Record<string, number>;
  /** InternalIPs by node. */
  addresses: Record<string, string[]>;
  /** Reflectors. */
  nodes: Record<string, Node>;
  /** Neighbours by "Peer/tor node1", as ADDRESS or ADDRESS%INTERFACE. */
  ends: Record<string, string[]>;
}

export type RememberedField = keyof LastGood;

export function nothingGood(): LastGood {
  return {
    peers: {},
    policies: {},
    passwords: {},
    asns: {},
    routerIds: {},
    ranges: {},
    fabrics: {},
    reflectors: {},
    neighbors: {},
    podNetworks: {},
    names: {},
    selectors: {},
    ports: {},
    addresses: {},
    nodes: {},
    ends: {},
  };
}

/** What is remembered while one plan is made: what was good before, and what is from now on. */
export class Memory {
  readonly now: LastGood = nothingGood();
  readonly #before: LastGood;
  readonly #unread: ReadonlySet<string>;
  #owned: Map<string, string[]> | undefined;

  /** For what one node adds. */
  fork(): Memory {
    return new Memory(this.#before, this.#unread);
  }

  /** What is good from now on: this and what the other has. */
  with({ now }: Memory): LastGood {
    const fields = Object.keys(this.now) as RememberedField[];
    return Object.fromEntries(fields.map(field => [field, { ...this.now[field], ...now[field] }])) as unknown as LastGood;
  }

  /** `unread`: objects that are there and have errors of their own, as "Peer/tor-a". */
  constructor(before: LastGood, unread: ReadonlySet<string>) {
    this.#before = before;
    this.#unread = unread;
  }

  remember<Field extends RememberedField>(field: Field, name: string, value: LastGood[Field][string]): void {
    (this.now[field] as Record<string, unknown>)[name] = value;
  }

  /** `value` where it is of use, else what was there when it last was, where there is such a thing. */
  hold<Field extends RememberedField>(
    field: Field,
    name: string,
    value: LastGood[Field][string],
    isOfUse: (value: LastGood[Field][string]) => boolean,
  ): LastGood[Field][string] {
    const last = this.before(field, name);
    const held = last === undefined || isOfUse(value) || !isOfUse(last) ? value : last;
    if (isOfUse(held)) this.remember(field, name, held);
    return held;
  }

  /** Back to what there was before. */
  forget<Field extends RememberedField>(field: Field, name: string, before: LastGood[Field][string] | undefined): void {
    if (before === undefined) delete (this.now[field] as Record<string, unknown>)[name];
    else this.remember(field, name, before);
  }

  /** The last good value, which stays remembered; undefined = there is none. */
  recall<Field extends RememberedField>(field: Field, name: string): LastGood[Field][string] | undefined {
    const value = this.before(field, name);
    if (value !== undefined) this.remember(field, name, value);
    return value;
  }

  /** The last good value, without remembering it further. */
  before<Field extends RememberedField>(field: Field, name: string): LastGood[Field][string] | undefined {
    const values = this.#before[field] as Record<string, LastGood[Field][string]>;
    return Object.hasOwn(values, name) ? values[name] : undefined;
  }

  /** Whether the node had a pod subnet. */
  knowsRangesOf(node: string): boolean {
    return this.rangesOf(node).length > 0;
  }

  /** The pod subnets that the node had. */
  rangesOf(node: string): readonly string[] {
    if (!this.#owned) {
      this.#owned = new Map();
      for (const [prefix, owner] of Object.entries(this.#before.ranges))
        this.#owned.set(owner, [...(this.#owned.get(owner) ?? []), prefix]);
    }
    return this.#owned.get(node) ?? [];
  }

  /** Why an object that is named cannot be had, and what to do. */
  absence(kind: string, name: string): { message: string; remedy: string } {
    if (this.#unread.has(`${kind}/${name}`)) return { message: `${kind} ${name} has errors`, remedy: "correct them" };
    return { message: `there is no ${kind} ${name}`, remedy: "correct the name" };
  }
}

/** Names that lead nowhere and stand where others stood that are no longer said: mistyped, as far as one can tell. */
export function astray(names: readonly string[], last: readonly string[] | undefined, exists: (name: string) => boolean): string[] {
  if (!last || last.every(name => names.includes(name))) return [];
  return names.filter(name => !last.includes(name) && !exists(name));
}

/** From the disk, where another version may have written it: what does not fit is left out. */
export function readLastGood(value: unknown): LastGood {
  const result = nothingGood();
  if (!isRecord(value)) return result;
  const take = <Field extends RememberedField>(field: Field, fits: (entry: unknown) => boolean) => {
    const entries = value[field];
    if (!isRecord(entries)) return;
    for (const [name, entry] of Object.entries(entries)) if (fits(entry)) (result[field] as Record<string, unknown>)[name] = entry;
  };
  const follows = (schema: TSchema) => (entry: unknown) => validate(schema, entry, []).faults.length === 0;
  const isText = (entry: unknown) => typeof entry === "string";
  take("peers", follows(peerSpec));
  take("policies", follows(policySpec));
  take("asns", entry => typeof entry === "number" && Number.isInteger(entry) && entry > 0 && entry <= 4294967295);
  take("selectors", follows(selector("")));
  take("ports", entry => typeof entry === "number" && Number.isInteger(entry) && entry > 0 && entry < 65536);
  take("addresses", entry => Array.isArray(entry) && entry.every(one => isText(one) && isAddress(one)));
  take("ends", entry => Array.isArray(entry) && entry.every(one => isText(one) && isAddress(one.split("%")[0])));
  take("nodes", entry => checkObject(entry).object?.kind === "Node");
  for (const field of ["reflectors", "names"] as const) take(field, entry => Array.isArray(entry) && entry.every(isText));
  for (const field of ["passwords", "routerIds", "ranges", "fabrics", "neighbors", "podNetworks"] as const) take(field, isText);
  return result;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
