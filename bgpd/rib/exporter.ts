/**
 * From the best path of a prefix to what an update group hears of it: may it be told at all (RFC 4271 section 9.2, RFC 4456 section 6,
 * RFC 1997), what does export policy say (RFC 8212), and what must be changed on the way (section 5.1). Answers are cached per attribute
 * set, because a full table has far fewer sets than prefixes.
 */
import { sameOctets } from "../../net/address.ts";
import type { RouteKind } from "../config.ts";
import { buildAttributes, CommunityFlag } from "../message/attributes.ts";
import type { PathAttributes } from "../message/types.ts";
import type { CompiledPolicy, TraceStep } from "../policy/types.ts";
import type { AttributeTable } from "./attribute-table.ts";
import { DEFAULT_LOCAL_PREF } from "./attribute-table.ts";
import { grown } from "./prefix-table.ts";
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
  /** Policies that ask for the neighbour's name get this one; the group then has a single member. */
  neighbor: string;
  /** Whether a local route restricted to some neighbours may be told to this group. */
  mayHear(localPath: number): boolean;
  /** Addresses of the members: a third-party next hop must not be one of them. */
  isMember(address: Uint8Array): boolean;
  /** Whether the next hop lies in the subnet that we share with the members (RFC 4271 section 5.1.3). */
  onSharedSubnet(nextHop: Uint8Array): boolean;
}

/** What the exporter needs to know of local routes. */
export interface LocalRoutes {
  kind(path: number): RouteKind;
  /** The operator set MED or the next hop on the route itself. */
  keepsMed(path: number): boolean;
}

const UNKNOWN = 0;
const REFUSED = 0xffffffff;

export class Exporter {
  readonly rules: ExportRules;
  readonly #table: RibTable;
  readonly #attributes: AttributeTable;
  readonly #locals: LocalRoutes;
  /** By attribute id of the source: id of the result (one reference held), REFUSED, or UNKNOWN. */
  #cache: Uint32Array;
  /** Slot the cached answer was made for: another source may be treated differently. */
  #cacheSlot: Uint16Array;
  readonly #cacheable: boolean;

  constructor(rules: ExportRules, table: RibTable, locals: LocalRoutes) {
    this.rules = rules;
    this.#table = table;
    this.#attributes = table.attributes;
    this.#locals = locals;
    this.#cache = new Uint32Array(table.attributes.capacity);
    this.#cacheSlot = new Uint16Array(table.attributes.capacity);
    this.#cacheable = !rules.policy.usesPrefix;
  }

  /** Attribute id to announce, without a reference of its own (valid while the cache holds it); 0 = do not announce. */
  exported(prefix: number, path: number): number {
    const source = this.#table.pathAttributes[path];
    const slot = this.#table.pathSlot[path];
    const cacheable = this.#cacheable && slot !== LOCAL_SLOT;
    if (cacheable && source < this.#cache.length && this.#cacheSlot[source] === slot) {
      const known = this.#cache[source];
      if (known !== UNKNOWN) return known === REFUSED ? 0 : known;
    }
    const result = this.compute(prefix, path);
    this.#remember(source, slot, result.attributes === 0 ? REFUSED : result.attributes);
    return result.attributes;
  }

  /** The answer with its reason; the caller owns one reference of `attributes`. */
  compute(prefix: number, path: number, trace?: TraceStep[]): { attributes: number; reason: string } {
    const refusal = this.#refusal(path);
    if (refusal) return { attributes: 0, reason: refusal };
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
    let octets = this.#attributes.octets(from);
    let reason = "accepted by default";
    let policyNextHop: Uint8Array | undefined;
    if (policy.trivial === "reject") return { attributes: 0, reason: this.#evaluate(prefix, path, trace).decidedBy };
    if (policy.trivial === undefined) {
      const input = this.#policyInput(from, rewrite.dropMed && !local);
      const result = this.#evaluate(prefix, path, trace, input);
      reason = result.decidedBy;
      if (!result.accepted) return { attributes: 0, reason };
      if (result.attributes !== input) {
        if (!sameOctets(result.attributes.nextHop, input.nextHop)) policyNextHop = result.attributes.nextHop;
        if (result.attributes.med !== input.med) rewrite.dropMed = false;
        octets = buildAttributes(result.attributes);
      }
    }
    const nextHop = this.#nextHop(path, policyNextHop);
    if (nextHop === "none") return { attributes: 0, reason: "no address of our own in this family to put into NEXT_HOP" };
    rewrite.nextHop = nextHop;
    const rewritten = rewriteAttributes(octets, 0, octets.length, rewrite);
    return { attributes: this.#attributes.intern(rewritten, 0, rewritten.length), reason };
  }

  /** The source set is gone: drop what was cached for it. */
  forget(source: number): void {
    if (source >= this.#cache.length) return;
    const known = this.#cache[source];
    if (known === UNKNOWN) return;
    this.#cache[source] = UNKNOWN;
    if (known !== REFUSED) this.#attributes.release(known);
  }

  /** Gives all cached references back, when membership changed what a next hop may be or the group ends. */
  clear(): void {
    for (let source = 0; source < this.#cache.length; source++) this.forget(source);
  }

  #remember(source: number, slot: number, result: number): void {
    if (source >= this.#cache.length) {
      this.#cache = grown(this.#cache, this.#attributes.capacity);
      this.#cacheSlot = grown(this.#cacheSlot, this.#attributes.capacity);
    }
    const old = this.#cache[source];
    this.#cache[source] = result;
    this.#cacheSlot[source] = slot;
    if (old !== UNKNOWN && old !== REFUSED) this.#attributes.release(old);
  }

  /** Why the rules of the protocol, before any policy, keep the path from this group; undefined = they do not. */
  #refusal(path: number): string | undefined {
    const table = this.#table;
    const source = table.slots.get(table.pathSlot[path]);
    const communities = this.#attributes.wellKnown[table.pathAttributes[path]];
    if ((communities & CommunityFlag.NoAdvertise) !== 0) return "community no-advertise (RFC 1997)";
    if (!this.rules.internal && (communities & CommunityFlag.NoExport) !== 0) return "community no-export (RFC 1997)";
    if (!this.rules.internal && (communities & CommunityFlag.NoExportSubconfed) !== 0) return "community no-export-subconfed (RFC 1997)";
    if (!source) return this.rules.mayHear(path) ? undefined : "the route names other neighbours";
    if (this.rules.internal && !source.external && !source.client && !this.rules.client) {
      return "learned from an internal neighbour, and neither side is a route reflector client (RFC 4456)";
    }
    return undefined;
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
        self: { asn: this.rules.localAsn, address: this.rules.selfNextHop ?? new Uint8Array(4) },
      },
      trace,
    );
  }

  /** RFC 4271 section 5.1.3; undefined = leave it as it is. */
  #nextHop(path: number, chosen: Uint8Array | undefined): Uint8Array | undefined | "none" {
    if (chosen && chosen.length > 0) return chosen;
    const table = this.#table;
    const source = table.slots.get(table.pathSlot[path]);
    const current = this.#currentNextHop(table.pathAttributes[path]);
    const self = this.rules.selfNextHop ?? "none";
    if (current.length === 0) return self;
    if (this.rules.internal) {
      // A reflector leaves the next hop alone (RFC 4456 section 10), whatever nextHopSelf says for what it learned outside.
      return this.rules.nextHopSelf && (!source || source.external) ? self : undefined;
    }
    const global = current.length === 32 ? current.subarray(0, 16) : current;
    const thirdParty =
      !this.rules.nextHopSelf &&
      this.rules.onSharedSubnet(global) &&
      ((source !== undefined && sameOctets(source.address, global)) || !this.rules.isMember(global));
    return thirdParty ? undefined : self;
  }

  #currentNextHop(id: number): Uint8Array {
    const octets = this.#attributes.octets(id);
    for (let at = 0; at < octets.length; ) {
      const next = at + 4 + ((octets[at + 2] << 8) | octets[at + 3]);
      if (octets[at + 1] === 3) return octets.subarray(at + 4, next);
      at = next;
    }
    return new Uint8Array();
  }
}
