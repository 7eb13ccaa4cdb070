/**
 * From the best path of a prefix to what an update group hears of it: may it be told at all (RFC 4271 section 9.2, RFC 4456 section 6,
 * RFC 1997), what does export policy say (RFC 8212), and what must be changed on the way (section 5.1). Answers are cached per attribute
 * set, because a full table has far fewer sets than prefixes.
 */
import { isLinkLocal, sameOctets } from "../../net/address.ts";
import type { NetworkAttributes, RouteKind } from "../config.ts";
import { AttributeCode, DEFAULT_LOCAL_PREF } from "../message/attribute-table.ts";
import { asPathContains, asPathHasSet, buildAttributes, CommunityFlag, OversizeError } from "../message/attributes.ts";
import { attributeValue } from "../message/canonical.ts";
import type { PathAttributes } from "../message/types.ts";
import { UpdateWriter, type UpdateWriterOptions } from "../message/update-writer.ts";
import type { CompiledPolicy, DecidingRule, TraceStep } from "../policy/types.ts";
import type { AttributeSets } from "../table/attribute-sets.ts";
import { grown } from "../table/growth.ts";
import { GivenOut } from "./given-out.ts";
import { toldAttributes } from "./network-attributes.ts";
import { type Rewrite, rewriteAttributes } from "./rewrite.ts";
import { LOCAL_SLOT } from "./slots.ts";
import type { RibTable } from "./table.ts";

/** What all members of a group have in common, as far as it changes what they hear. */
export interface ExportRules {
  policy: CompiledPolicy;
  internal: boolean;
  client: boolean;
  /** Our AS towards the members. */
  localAsn: number;
  clusterId: number;
  /** Our address for next-hop-self in this family; undefined = we have none, then routes that need it are not announced. */
  selfNextHop: Uint8Array | undefined;
  nextHopSelf: boolean;
  removePrivateAsn: boolean;
  /** The members want AS_SETs (RFC 9774). */
  allowAsSets: boolean;
  /** Policies that ask for the neighbour's name get this one; the group then has a single member. */
  neighbor: string;
  /** Whether a local route restricted to some neighbours may be told to this group. */
  mayHear(localPath: number): boolean;
  /** Whether the next hop lies in the subnet that we share with the members (RFC 4271 section 5.1.3). */
  onSharedSubnet(nextHop: Uint8Array): boolean;
}

/** What the exporter needs to know of local routes. */
export interface LocalRoutes {
  kind(path: number): RouteKind;
  /** The objects that announce it. */
  sources(path: number): readonly string[];
  /** The operator set MED or the next hop on the route itself. */
  keepsMed(path: number): boolean;
  /** What the operator gave it, in words. */
  given(path: number): NetworkAttributes | undefined;
}

/** What keeps a path from a neighbour before policy is asked, the policy or its default, and what is in the way behind it. */
export type ExportStep =
  | "NoAdvertise"
  | "NoExport"
  | "NoExportSubconfed"
  | "AsZero"
  | "AsSet"
  | "ForOthers"
  | "NotReflected"
  | "Policy"
  | "Default"
  | "NoOwnNextHop"
  | "TooLarge";

/** What export has to say of a path. */
export interface Answer {
  /** 0 = not to be announced. */
  attributes: number;
  /** What decided, and the same in words. */
  step: ExportStep;
  reason: string;
  /** The rule of a policy that decided. */
  rule?: DecidingRule;
  /** Only because no message can hold it. */
  tooLarge?: boolean;
}

/** Octets of an UPDATE that are neither attributes nor more than one prefix: header, lengths, MP_REACH_NLRI around the next hop, an IPv6 prefix. */
const AROUND_ATTRIBUTES = 64;
const UNKNOWN = 0;
const REFUSED = 0xffffffff;

export class Exporter {
  readonly rules: ExportRules;
  readonly #table: RibTable;
  readonly #attributes: AttributeSets;
  readonly #locals: LocalRoutes;
  /** Whether a member of the group has this address: it must not hear it as a next hop (RFC 4271 section 5.1.3). */
  readonly #isMember: (address: Uint8Array) => boolean;
  /** Next hops that were left as they came. */
  readonly #foreign = new GivenOut();
  /**
   * By attribute id of the source: id of the result, REFUSED or UNKNOWN. No references are held, so that the cache keeps no set alive;
   * an answer counts while source, slot and result are still the ones it was made for.
   */
  #cache: Uint32Array;
  #cacheSlot: Uint32Array;
  #cacheSource: Uint32Array;
  #cacheResult: Uint32Array;
  readonly #cacheable: boolean;
  /** Ids of the prefixes that the rules let through, but for which their attributes leave no room in a message (RFC 4271 section 9.2). */
  readonly tooLarge = new Set<number>();
  readonly #wire: UpdateWriterOptions;
  #measure: UpdateWriter | undefined;

  constructor(
    rules: ExportRules,
    table: RibTable,
    locals: LocalRoutes,
    isMember: (address: Uint8Array) => boolean,
    wire: UpdateWriterOptions,
  ) {
    this.rules = rules;
    this.#wire = wire;
    this.#table = table;
    this.#attributes = table.attributes;
    this.#locals = locals;
    this.#isMember = isMember;
    this.#cache = new Uint32Array(table.attributes.capacity);
    this.#cacheSlot = new Uint32Array(table.attributes.capacity);
    this.#cacheSource = new Uint32Array(table.attributes.capacity);
    this.#cacheResult = new Uint32Array(table.attributes.capacity);
    this.#cacheable = !rules.policy.usesPrefix;
  }

  /** Attribute id to announce, with one more reference, which the caller owns; 0 = do not announce. `path` 0 = there is none. */
  exported(prefix: number, path: number): number {
    if (this.tooLarge.size > 0) this.tooLarge.delete(prefix);
    if (path === 0) return 0;
    const slot = this.#table.pathSlot[path];
    if (!this.#cacheable || slot === LOCAL_SLOT) return this.#note(prefix, this.compute(prefix, path));
    const source = this.#table.pathAttributes[path];
    const serial = this.#table.slots.serial[slot];
    const known = this.#cached(source, serial);
    if (known !== UNKNOWN) {
      if (known === REFUSED) return 0;
      this.#attributes.retain(known);
      return known;
    }
    const answer = this.compute(prefix, path);
    const length = this.#attributes.end(answer.attributes) - this.#attributes.start(answer.attributes);
    // Of a set near the limit the prefix's length may decide.
    if (!answer.tooLarge && !this.#mayBeTooLarge(length)) this.#remember(source, serial, answer.attributes);
    return this.#note(prefix, answer);
  }

  /** The answer with its reason; the caller owns one reference of `attributes`. */
  compute(prefix: number, path: number, trace?: TraceStep[]): Answer {
    try {
      return this.#compute(prefix, path, trace);
    } catch (error) {
      if (error instanceof OversizeError) return { attributes: 0, step: "TooLarge", reason: error.message, tooLarge: true };
      throw error;
    }
  }

  /** Throws OversizeError. */
  #compute(prefix: number, path: number, trace: TraceStep[] | undefined): Answer {
    const refusal = this.#refusal(path);
    if (refusal) return { attributes: 0, ...refusal };
    const table = this.#table;
    const slotId = table.pathSlot[path];
    const local = slotId === LOCAL_SLOT;
    const source = table.slots.get(slotId);
    const from = table.pathAttributes[path];
    const { policy, internal } = this.rules;
    const rewrite: Rewrite = {
      prepend: internal ? undefined : this.rules.localAsn,
      dropMed: !internal && !(local && this.#locals.keepsMed(path)),
      external: !internal,
      localPref: DEFAULT_LOCAL_PREF,
      removePrivateAsn: this.rules.removePrivateAsn && !internal,
    };
    if (internal && source && !source.external) rewrite.reflect = { originatorId: source.routerId, clusterId: this.rules.clusterId };
    const told = local ? this.#told(path, from) : undefined;
    let octets = told ? buildAttributes(told) : this.#attributes.octets(from);
    let reason = "accepted by default";
    let rule: DecidingRule | undefined;
    let policyNextHop: Uint8Array | undefined;
    if (policy.trivial === "reject") return { attributes: 0, step: "Default", reason: this.#evaluate(prefix, path, trace).decidedBy };
    if (policy.trivial === undefined) {
      const input = told ?? this.#policyInput(from, rewrite.dropMed && !local);
      const result = this.#evaluate(prefix, path, trace, input);
      reason = result.decidedBy;
      rule = result.rule;
      if (!result.accepted) return { attributes: 0, step: rule ? "Policy" : "Default", reason, rule };
      if (result.attributes !== input) {
        if (!sameOctets(result.attributes.nextHop, input.nextHop)) policyNextHop = result.attributes.nextHop;
        if (result.attributes.med !== input.med) rewrite.dropMed = false;
        octets = buildAttributes(result.attributes);
      }
    }
    const nextHop = this.#nextHop(path, policyNextHop);
    if (nextHop === "none")
      return { attributes: 0, step: "NoOwnNextHop", reason: "no address of our own in this family to put into NEXT_HOP" };
    rewrite.nextHop = nextHop;
    const rewritten = rewriteAttributes(octets, 0, octets.length, rewrite);
    const needed = this.#mayBeTooLarge(rewritten.length) ? this.#messageLength(prefix, rewritten) : 0;
    if (needed > this.#wire.maxMessageLength) {
      const text = `its attributes make an UPDATE of ${needed} octets, and the session allows ${this.#wire.maxMessageLength}`;
      return { attributes: 0, step: "TooLarge", reason: text, tooLarge: true };
    }
    return { attributes: this.#attributes.intern(rewritten, 0, rewritten.length), step: rule ? "Policy" : "Default", reason, rule };
  }

  /** Whether this address may have been given out as a next hop: then a new member that has it needs other answers. */
  hasGivenOut(address: Uint8Array): boolean {
    return this.#foreign.has(address);
  }

  /** Forgets all answers: membership changed what a next hop may be. */
  clear(): void {
    this.#cache.fill(UNKNOWN);
    this.#foreign.clear();
  }

  #note(prefix: number, { attributes, tooLarge }: Answer): number {
    if (tooLarge) this.tooLarge.add(prefix);
    return attributes;
  }

  /** By its canonical length alone: on the wire a set is shorter, but where AS numbers have 2 octets AS4_PATH may repeat AS_PATH. */
  #mayBeTooLarge(length: number): boolean {
    return 2 * length + AROUND_ATTRIBUTES > this.#wire.maxMessageLength;
  }

  /** Octets of the UPDATE with nothing but this prefix. */
  #messageLength(prefix: number, set: Uint8Array): number {
    this.#measure ??= new UpdateWriter(this.#wire);
    const room = this.#measure.announce(this.#table.family, set, 0, set.length);
    return this.#wire.maxMessageLength - room + 1 + ((this.#table.prefixes.length(prefix) + 7) >> 3);
  }

  #cached(source: number, serial: number): number {
    if (source >= this.#cache.length || this.#cacheSlot[source] !== serial) return UNKNOWN;
    const { generation } = this.#attributes;
    const known = this.#cache[source];
    if (known === UNKNOWN || this.#cacheSource[source] !== generation[source]) return UNKNOWN;
    return known === REFUSED || this.#cacheResult[source] === generation[known] ? known : UNKNOWN;
  }

  #remember(source: number, serial: number, result: number): void {
    const { capacity, generation } = this.#attributes;
    if (source >= this.#cache.length) {
      this.#cache = grown(this.#cache, capacity);
      this.#cacheSlot = grown(this.#cacheSlot, capacity);
      this.#cacheSource = grown(this.#cacheSource, capacity);
      this.#cacheResult = grown(this.#cacheResult, capacity);
    }
    this.#cache[source] = result === 0 ? REFUSED : result;
    this.#cacheSlot[source] = serial;
    this.#cacheSource[source] = generation[source];
    this.#cacheResult[source] = generation[result];
  }

  /** Why the rules of the protocol, before any policy, keep the path from this group; undefined = they do not. */
  #refusal(path: number): Omit<Answer, "attributes"> | undefined {
    const table = this.#table;
    const source = table.slots.get(table.pathSlot[path]);
    const communities = this.#attributes.wellKnown[table.pathAttributes[path]];
    if ((communities & CommunityFlag.NoAdvertise) !== 0) return { step: "NoAdvertise", reason: "community no-advertise (RFC 1997)" };
    if (!this.rules.internal && (communities & CommunityFlag.NoExport) !== 0)
      return { step: "NoExport", reason: "community no-export (RFC 1997)" };
    if (!this.rules.internal && (communities & CommunityFlag.NoExportSubconfed) !== 0)
      return { step: "NoExportSubconfed", reason: "community no-export-subconfed (RFC 1997)" };
    if (!this.rules.internal && this.#hasAsZero(table.pathAttributes[path]))
      return { step: "AsZero", reason: "AS number 0 in its AS path (RFC 7607)" };
    if (!this.rules.allowAsSets && this.#hasAsSet(table.pathAttributes[path]))
      return { step: "AsSet", reason: "an AS_SET in its AS path (RFC 9774)" };
    if (!source) return this.rules.mayHear(path) ? undefined : { step: "ForOthers", reason: "the route names other neighbours" };
    if (this.rules.internal && !source.external && !source.client && !this.rules.client) {
      return {
        step: "NotReflected",
        reason: "learned from an internal neighbour, and neither side is a route reflector client (RFC 4456)",
      };
    }
    return undefined;
  }

  #hasAsZero(attributes: number): boolean {
    const table = this.#attributes;
    return asPathContains(table.buffer(attributes), table.start(attributes), table.end(attributes), 0) > 0;
  }

  #hasAsSet(attributes: number): boolean {
    const table = this.#attributes;
    return asPathHasSet(table.buffer(attributes), table.start(attributes), table.end(attributes));
  }

  /** Of a route of our own: with what is added for these neighbours; undefined where that is nothing. */
  #told(path: number, from: number): PathAttributes | undefined {
    const given = this.#locals.given(path);
    if (given?.prepend === undefined && given?.linkBandwidth === undefined) return undefined;
    const { internal, localAsn } = this.rules;
    return toldAttributes(this.#attributes.parse(from), given, { external: !internal, asn: localAsn });
  }

  /** A MED learned from another AS is not policy's business any more: it would never be sent (RFC 4271 section 5.1.4). */
  #policyInput(from: number, withoutMed: boolean): PathAttributes {
    const attributes = this.#attributes.parse(from);
    return withoutMed && attributes.med !== undefined ? { ...attributes, med: undefined } : attributes;
  }

  #evaluate(prefix: number, path: number, trace: TraceStep[] | undefined, attributes?: PathAttributes) {
    const local = this.#table.pathSlot[path] === LOCAL_SLOT;
    return this.rules.policy.evaluate(
      {
        prefix: this.#table.prefixes.prefix(prefix),
        attributes: attributes ?? this.#attributes.parse(this.#table.pathAttributes[path]),
        neighbor: this.rules.neighbor,
        kind: local ? this.#locals.kind(path) : "learned",
        sources: local ? this.#locals.sources(path) : undefined,
        self: { asn: this.rules.localAsn, address: this.rules.selfNextHop ?? new Uint8Array(4) },
      },
      trace,
    );
  }

  /** RFC 4271 section 5.1.3; undefined = leave it as it is. */
  #nextHop(path: number, chosen: Uint8Array | undefined): Uint8Array | undefined | "none" {
    if (chosen && chosen.length > 0 && !this.#isMember(chosen)) return chosen;
    const source = this.#table.slots.get(this.#table.pathSlot[path]);
    const current = this.#currentNextHop(this.#table.pathAttributes[path]);
    const global = current.length === 32 ? current.subarray(0, 16) : current;
    const { internal, nextHopSelf, selfNextHop: self = "none" } = this.rules;
    // A link-local address means something on one link only.
    if (current.length === 0 || isLinkLocal(global)) return self;
    // A reflector leaves the next hop alone (RFC 4456 section 10), whatever nextHopSelf says for what was learned outside.
    if (internal && source && !source.external) return undefined;
    if (nextHopSelf || !(internal || this.rules.onSharedSubnet(global))) return self;
    // Its own address goes to no neighbour. The route's source is none of those who hear it.
    if (!(source && sameOctets(source.address, global)) && this.#isMember(global)) return self;
    this.#foreign.add(global);
    // RFC 2545 section 3: the link-local address goes along only to those on the link.
    return internal && current.length === 32 ? global : undefined;
  }

  #currentNextHop(id: number): Uint8Array {
    const sets = this.#attributes;
    return attributeValue(sets.buffer(id), sets.start(id), sets.end(id), AttributeCode.NextHop);
  }
}
