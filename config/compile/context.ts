/** What the parts of compile() share: the nodes as the objects describe them, and the list of problems. */
import type { OriginsConfig } from "../../bgpd/config.ts";
import { type Family, FamilyTable, forwardingFamily } from "../../bgpd/family.ts";
import { type IpFamily, parseAddress } from "../../net/address.ts";
import type { Problem, Reason } from "../../platform/problem.ts";
import type { NodeFacts } from "../plan.ts";
import type { Advertisement, Fabric, Peer, PodNetwork, Policy, Resources } from "../resources/kinds.ts";
import type { Memory } from "./memory.ts";

/** First private AS number (RFC 6996): what nodes use when there is no Fabric. */
export const DEFAULT_ASN = 64512;

export interface ResolvedPeer {
  name: string;
  labels: Record<string, string>;
  /** With what it takes from templates. */
  spec: Peer["spec"];
  /** The nodes that hold a session. */
  nodes: ReadonlySet<NodeView>;
  /** The field that says who the neighbour is. */
  whoField: string;
}

export interface NodeView {
  name: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  /** By annotation. */
  ownAsn?: number;
  routerId?: string;
  /** The one that its annotation says, and that is another node's. */
  twiceRouterId?: string;
  /** First InternalIP of each family, as the object has it, and in the one spelling by which addresses are compared. */
  address: Partial<Record<IpFamily, string>>;
  canonical: Partial<Record<IpFamily, string>>;
  /** At most one per family. */
  podCidrs: { prefix: string /** the object that assigns it */; source: string }[];
  /** A pod subnet that is assigned to it is another node's. */
  contested?: boolean;
  /** Absent: no fabric selects it. */
  fabric?: Fabric;
  /** 0 without a fabric. */
  asn: number;
  /** A reflector of its fabric. */
  reflects: boolean;
}

/** What the objects say of the cluster, whichever node asks: made once (cluster.ts), read by all. */
export interface Cluster {
  resources: Resources;
  /** All nodes, by name in order. */
  nodes: readonly NodeView[];
  nodeOf: ReadonlyMap<string, NodeView>;
  /** The nodes of each fabric, and those of them that reflect. */
  members: ReadonlyMap<Fabric, { all: readonly NodeView[]; reflectors: readonly NodeView[] }>;
  /** Those that can be used: as they are, else as they were when they could. */
  policies: UsablePolicies;
  /** Fields whose former value stays in force, as this one leads nowhere: "Peer/tor-a spec.import.policies". */
  held: ReadonlySet<string>;
  /** Fields that lead nowhere where nothing was before, for one of those that take from it at least. */
  refusing: ReadonlySet<string>;
  /** All Peers that are no templates and can be used, by name. */
  peers: readonly ResolvedPeer[];
  advertisements: readonly Announcement[];
  podNetworks: ReadonlyMap<NodeView, PodNetwork>;
  memory: Memory;
  problems: Problems;
  /** Computed for the first node that asks, and kept: what is the same for all nodes of a fabric, or of an AS number. */
  origins: Map<Fabric, OriginsConfig | undefined>;
  policyProblems: Map<number, Problems>;
}

/** An Advertisement with whom it selects. */
export interface Announcement {
  advertisement: Advertisement;
  peers: ReadonlySet<ResolvedPeer>;
  nodes: ReadonlySet<NodeView>;
}

/** One node's view of the cluster. `problems` and `memory` are its own. */
export interface Context extends Cluster {
  facts: NodeFacts;
  self: NodeView;
}

export interface UsablePolicies {
  get(name: string): Policy | undefined;
  has(name: string): boolean;
}

/** Collects problems; the result does not depend on the order of reports, and says nothing twice. */
export class Problems {
  readonly #found = new Map<string, Problem>();
  readonly #caused = new Map<string, (Problem & { effect: string })[]>();

  error(reason: Reason, object: string, field: string, message: string, remedy: string): void {
    this.#add({ severity: "error", reason, object, field, message, remedy });
  }

  /** `cause`: the object that is at fault, where that is another one: several with one cause are told together. */
  because(reason: Reason, cause: { object: string; message: string }, object: string, field: string, effect: string, remedy: string): void {
    const message = `${cause.message}: ${effect}`;
    const key = `${cause.object}\0${cause.message}`;
    const all = this.#caused.get(key) ?? [];
    this.#caused.set(key, all);
    if (!all.some(one => one.object === object && one.field === field))
      all.push({ severity: "error", reason, object, field, message, remedy, effect });
  }

  warning(reason: Reason, object: string, field: string, message: string, remedy: string): void {
    this.#add({ severity: "warning", reason, object, field, message, remedy });
  }

  /** All of another collection as well. */
  include(other: Problems): void {
    for (const problem of other.#found.values()) this.#add(problem);
    for (const [cause, all] of other.#caused) {
      const known = this.#caused.get(cause) ?? [];
      const more = all.filter(({ object, field }) => !known.some(one => one.object === object && one.field === field));
      this.#caused.set(cause, [...known, ...more]);
    }
  }

  add(problems: readonly Problem[]): void {
    for (const problem of problems) this.#add(problem);
  }

  #add(problem: Problem): void {
    this.#found.set(JSON.stringify(problem), problem);
  }

  /** Errors first, then by object, field and message. */
  list(): Problem[] {
    const key = ({ severity, object, field, message }: Problem) => `${severity}\0${object}\0${field}\0${message}`;
    const caused = [...this.#caused].map(([cause, all]) => underCause(cause, all));
    return [...this.#found.values(), ...caused].sort((a, b) => compareText(key(a), key(b)));
  }
}

/** One that stands alone names the cause in its text; of several, the cause is the problem. */
function underCause(cause: string, all: (Problem & { effect: string })[]): Problem {
  const [object, message] = cause.split("\0");
  const ordered = [...all].sort((a, b) => compareText(`${a.object} ${a.field}`, `${b.object} ${b.field}`));
  const [{ effect, ...first }] = ordered;
  const about = object === first.object ? {} : { cause: object };
  if (ordered.length === 1) return { ...first, ...about };
  const consequences = ordered.map(one => `${one.object} ${one.field}: ${one.effect}`);
  return {
    severity: "error",
    reason: first.reason,
    object,
    field: "",
    message: `${message}, and ${all.length} fields name it`,
    remedy: first.remedy,
    ...about,
    consequences,
  };
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The objects of a map in the order of their names. */
export function byName<T>(map: ReadonlyMap<string, T>): T[] {
  return [...map.entries()].sort(([a], [b]) => compareText(a, b)).map(([, object]) => object);
}

export function familyOfText(address: string): IpFamily {
  return address.includes(":") ? 6 : 4;
}

/** In which routes of an IP version are told. */
export function familyName(family: IpFamily): Family {
  return FamilyTable[forwardingFamily(family)].name;
}

export function familyOfPrefix(prefix: string): Family {
  return familyName(familyOfText(prefix));
}

export function maxLength(prefix: string): number {
  return prefix.includes(":") ? 128 : 32;
}

/** First address of each family, in the spelling that is given. */
export function firstOfEach(addresses: readonly string[]): NodeView["address"] {
  const result: NodeView["address"] = {};
  for (const address of addresses) result[familyOfText(address)] ??= address;
  return result;
}

/** "a, b, c and 4 more" */
export function someOf(names: readonly string[], limit = 3): string {
  const rest = names.length - limit;
  return rest > 0 ? `${names.slice(0, limit).join(", ")} and ${rest} more` : names.join(", ");
}

/** Same address in any spelling. */
export function sameAddress(a: string, b: string): boolean {
  const [x, y] = [parseAddress(a), parseAddress(b)];
  return x.length === y.length && x.every((octet, i) => octet === y[i]);
}
