/**
 * Which node may originate what: a route is judged by the node that it comes from, which is the one at the other end of the session or, through
 * a reflector, the one whose router id is ORIGINATOR_ID (RFC 4456 section 8). One table for all sessions; a change of one node concerns its
 * own routes and its own ranges alone.
 */
import {
  addressToUint32,
  covers,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  uint32ToAddress,
} from "../../net/address.ts";
import { FORMER_RANGES, type NodeRole, type OriginConfig, type OriginRole, type OriginsConfig } from "../config.ts";
import { type FamilyIndex, FamilyTable, forwardingFamily, type PerFamily, perFamily } from "../family.ts";
import { compilePrefixList, type PrefixList } from "../policy/prefix-list.ts";
import type { AttributeSets } from "../table/attribute-sets.ts";
import { PrefixTree } from "../table/prefix-tree.ts";
import { Rejected } from "./rejected.ts";
import type { Slot } from "./slots.ts";

interface Origin {
  name: string;
  text: string;
  asn: number;
  routerId: number;
  ranges: Prefix[];
  /** Ranges it had before: it goes on announcing what pods hold there, and may while no other node has them. */
  former: Prefix[];
  prefixes: Set<string>;
  lists: readonly string[];
}

interface Range {
  prefix: Prefix;
  origin: Origin;
}

type Trees<Value> = PerFamily<PrefixTree<Value>>;

/** A prefix as it stands in octets: `length` bits from `start` on. */
interface Asked {
  family: FamilyIndex;
  octets: Uint8Array;
  start: number;
  length: number;
}

/** What a change of the table concerns. */
export type Concerned = (slot: Slot, prefix: Prefix, raw: number) => boolean;

export class Origins {
  readonly #attributes: AttributeSets;
  #text: string | undefined;
  #nodes = new Map<string, Origin>();
  #byId = new Map<number, Origin>();
  #owners: Trees<Range> = trees();
  #lists = new Map<string, PrefixList>();
  #listsText = "";

  constructor(attributes: AttributeSets) {
    this.#attributes = attributes;
  }

  /** Takes another table over; returns which routes must be judged again, undefined = none. */
  update(config: OriginsConfig | undefined): Concerned | undefined {
    const text = JSON.stringify(config);
    if (text === this.#text) return undefined;
    this.#text = text;
    const { nodes = [], lists = {} } = config ?? {};
    const listsText = JSON.stringify(lists);
    const everything = listsText !== this.#listsText;
    if (everything) this.#lists = new Map(Object.entries(lists).map(([name, entries]) => [name, compilePrefixList(entries)]));
    this.#listsText = listsText;
    const before = this.#nodes;
    this.#nodes = new Map(nodes.map(node => [node.name, takeOver(node, before.get(node.name))]));
    this.#byId = new Map();
    for (const origin of this.#nodes.values()) if (!this.#byId.has(origin.routerId)) this.#byId.set(origin.routerId, origin);
    this.#owners = treesOf(this.#nodes.values());
    return everything ? () => true : this.#concernedBy(differing(before, this.#nodes));
  }

  #concernedBy(changed: readonly Origin[]): Concerned | undefined {
    if (changed.length === 0) return undefined;
    const names = new Set(changed.map(({ name }) => name));
    const ids = new Set(changed.map(({ routerId }) => routerId));
    const ranges = treesOf(changed);
    return ({ origin }, { family, address, length }, raw) => {
      if (origin !== "outside" && origin !== undefined) {
        if (names.has(origin.node)) return true;
        const { hasOriginator, originatorId } = this.#attributes;
        if (hasOriginator[raw] === 1 && ids.has(originatorId[raw])) return true;
      }
      return ranges[forwardingFamily(family)].longest(address, 0, length, () => true) !== undefined;
    };
  }

  /** A bit of `Rejected`, or 0: the route may come from there. */
  judge(role: OriginRole, family: FamilyIndex, octets: Uint8Array, start: number, length: number, raw: number): number {
    const asked = { family, octets, start, length };
    if (role === "outside") {
      const range = this.#ownerOf(asked);
      return range === undefined || this.#comesFrom(range.origin, raw) ? 0 : Rejected.Origin;
    }
    const who = this.#whose(role, raw);
    if (who === "foreign") return Rejected.Originator;
    if (who === "vouched") return this.#ownerOf(asked) === undefined ? 0 : Rejected.Origin;
    // A speaker with a session to a node that its table does not have is not told what to think of it.
    if (who === undefined || isOwn(who, asked)) return 0;
    const prefix = prefixOf(asked);
    if (who.prefixes.has(formatPrefix(prefix))) return 0;
    const range = this.#ownerOf(asked);
    if (range) return range.origin !== who && this.#passesOn(who, range, length, raw) ? 0 : Rejected.Origin;
    if (who.former.some(former => covers(former, prefix))) return 0;
    return who.lists.some(name => this.#lists.get(name)?.matches(prefix)) ? 0 : Rejected.Origin;
  }

  /** Whether the prefix lies in a range of the node that the route comes from. */
  isOwn(role: OriginRole, family: FamilyIndex, octets: Uint8Array, start: number, length: number, raw: number): boolean {
    const asked = { family, octets, start, length };
    const who = role === "outside" ? undefined : this.#whose(role, raw);
    if (who === "vouched") return this.#ownerOf(asked) === undefined;
    return who !== undefined && who !== "foreign" && isOwn(who, asked);
  }

  /** What judge() has against a route, in words. */
  describe({ origin: role, routerId }: Slot, prefix: Prefix, raw: number): string {
    const originator = formatAddress(uint32ToAddress(this.#attributes.originatorId[raw]));
    const asked = { family: forwardingFamily(prefix.family), octets: prefix.address, start: 0, length: prefix.length };
    const range = this.#ownerOf(asked);
    const pods = range && `${formatPrefix(range.prefix)} is a pod subnet of node ${range.origin.name}`;
    if (role === undefined) return "not the neighbour's to announce";
    if (role === "outside") {
      const { asn, text } = this.#lastAsn(raw);
      const end = asn === undefined ? "is empty" : `ends in ${text}, not in the node's AS ${range?.origin.asn}`;
      return `${pods ?? "it was a pod subnet of a node"}, and the AS path ${end}`;
    }
    const who = this.#whose(role, raw);
    if (who === "foreign") {
      const own = formatAddress(uint32ToAddress(routerId));
      return `ORIGINATOR_ID ${originator} is not that of node ${role.node}, ${own}, and it reflects no routes`;
    }
    const origin = who === "vouched" ? originator : (who?.name ?? role.node);
    const through = origin !== role.node ? `, which reflector ${role.node} names as its origin,` : "";
    const name = `node ${origin}${through}`;
    return pods
      ? `${pods}, not of ${name}`
      : `${name} may not originate it (spec.mesh.accept of the Fabric says what nodes may besides their own)`;
  }

  #ownerOf({ family, octets, start, length }: Asked): Range | undefined {
    return this.#owners[family].longest(octets, start, length, () => true);
  }

  /**
   * The node that a route comes from; "foreign": it names another, and who sent it does not reflect; "vouched": one that is not in the table, but in
   * that of the reflector.
   */
  #whose(role: NodeRole, raw: number): Origin | "foreign" | "vouched" | undefined {
    const sender = this.#nodes.get(role.node);
    const { hasOriginator, originatorId } = this.#attributes;
    if (hasOriginator[raw] === 0 || !sender || originatorId[raw] === sender.routerId) return sender;
    if (!role.reflects) return "foreign";
    // Of no node: a client of the reflector that is none, for which the reflector answers.
    return this.#byId.get(originatorId[raw]) ?? (role.vouches ? "vouched" : sender);
  }

  /** Nodes with an AS each tell each other what they learned: whole subnets, with the owner's AS at the end, which lose to the owner's own word. */
  #passesOn(who: Origin, { prefix, origin }: Range, length: number, raw: number): boolean {
    return prefix.length === length && who.asn !== origin.asn && this.#lastAsn(raw).asn === origin.asn;
  }

  /** By what reflectors and routers outside leave of it: ORIGINATOR_ID, which external neighbours cannot give (RFC 7606 section 7.9), or the AS at the path's end. */
  #comesFrom({ routerId, asn }: Origin, raw: number): boolean {
    const { hasOriginator, originatorId } = this.#attributes;
    return (hasOriginator[raw] === 1 && originatorId[raw] === routerId) || this.#lastAsn(raw).asn === asn;
  }

  #lastAsn(raw: number): { asn: number | undefined; text: string } {
    const segment = this.#attributes.parse(raw).asPath.at(-1);
    const asn = segment?.asns.at(-1);
    return { asn, text: `AS ${asn}` };
  }
}

function takeOver(node: OriginConfig, before: Origin | undefined): Origin {
  const text = JSON.stringify(node);
  if (before?.text === text) return before;
  const ranges = node.ranges.map(range => parsePrefix(range));
  const known = [...(node.former ?? []), ...[...(before?.former ?? []), ...(before?.ranges ?? [])].map(formatPrefix)];
  const former = [...new Set(known)].filter(old => !node.ranges.includes(old));
  return {
    name: node.name,
    text,
    asn: node.asn,
    routerId: addressToUint32(parseAddress(node.routerId)),
    ranges,
    former: former.slice(-FORMER_RANGES).map(range => parsePrefix(range)),
    prefixes: new Set(node.prefixes),
    lists: node.lists,
  };
}

/** Origins that are in one of them only, or not the same in both: as they were and as they are. */
function differing(before: ReadonlyMap<string, Origin>, after: ReadonlyMap<string, Origin>): Origin[] {
  const gone = [...before.values()].filter(origin => after.get(origin.name) !== origin);
  const come = [...after.values()].filter(origin => before.get(origin.name) !== origin);
  return [...gone, ...come];
}

function isOwn({ ranges }: Origin, { octets, start, length, family }: Asked): boolean {
  return ranges.some(range => forwardingFamily(range.family) === family && length >= range.length && begins(range, octets, start));
}

function begins({ address, length }: Prefix, octets: Uint8Array, start: number): boolean {
  for (let bit = 0; bit < length; bit += 8) {
    const mask = length - bit >= 8 ? 0xff : (0xff00 >> (length - bit)) & 0xff;
    if (((octets[start + (bit >> 3)] ^ address[bit >> 3]) & mask) !== 0) return false;
  }
  return true;
}

function prefixOf({ family, octets, start, length }: Asked): Prefix {
  const { ip, octets: size } = FamilyTable[family];
  const address = new Uint8Array(size);
  const count = (length + 7) >> 3;
  address.set(octets.subarray(start, start + count));
  if (length & 7) address[count - 1] &= 0xff00 >> (length & 7);
  return { family: ip, address, length };
}

function trees<Value>(): Trees<Value> {
  return perFamily(() => new PrefixTree<Value>());
}

function treesOf(origins: Iterable<Origin>): Trees<Range> {
  const made = trees<Range>();
  for (const origin of origins) for (const prefix of origin.ranges) made[forwardingFamily(prefix.family)].add(prefix, { prefix, origin });
  return made;
}
