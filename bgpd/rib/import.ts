/**
 * From a decoded UPDATE to paths: checks of the AS path (RFC 9774, RFC 4271 section 6.3) and for loops (section
 * 9.1.2, RFC 4456 section 8), import policy, protected prefixes, prefix limit.
 * All but the protection is judged once per attribute set where the policy does not look at prefixes.
 */
import type { IpFamily, Prefix } from "../../net/address.ts";
import { type FamilyIndex, FamilyIndexes, FamilyTable, forwardingFamily, type PerFamily } from "../family.ts";
import { asPathContains, asPathHasSet, buildAttributes, clusterListContains, OversizeError } from "../message/attributes.ts";
import { unexpectedPrefix } from "../message/nlri.ts";
import type { PathAttributes } from "../message/types.ts";
import type { UpdateDecoder } from "../message/update-decoder.ts";
import type { PolicyResult, TraceStep } from "../policy/types.ts";
import type { AttributeSets } from "../table/attribute-sets.ts";
import type { Guards } from "./guards.ts";
import type { Origins } from "./origins.ts";
import { Rejected } from "./rejected.ts";
import type { Excess, Slot } from "./slots.ts";
import type { RibTable } from "./table.ts";

export interface ImportContext {
  attributes: AttributeSets;
  tables: PerFamily<RibTable>;
  localAsn: number;
  routerId: number;
  clusterId: number;
  guards: Guards;
  origins: Origins;
  /** Seconds since the start. */
  now(): number;
}

/** A path's verdict: attributes after policy (a reference that the caller owns; 0 = rejected) and flags of table.ts `Rejected`. */
interface Verdict {
  attributes: number;
  flags: number;
  namedPrefix: boolean;
}

/** Takes one UPDATE in. Returns which limit it exceeds, if any; the caller ends the session. */
export function importUpdate(context: ImportContext, slot: Slot, message: Uint8Array, update: UpdateDecoder): Excess | undefined {
  for (let i = 0; i < update.withdrawnCount; i++) {
    withdrawRange(context, slot, message, update.withdrawnFamily[i], update.withdrawnStart[i], update.withdrawnEnd[i]);
  }
  for (let i = 0; i < update.announcedCount; i++) {
    const family = update.announcedFamily[i];
    const start = update.announcedStart[i];
    const end = update.announcedEnd[i];
    if (update.treatAsWithdraw) {
      withdrawRange(context, slot, message, family, start, end);
      continue;
    }
    update.canonical(i);
    const nextHop = update.announcedNextHopStart[i];
    const ifindex = linkOf(slot, message[nextHop], message[nextHop + 1]);
    const raw = context.attributes.intern(update.octets, 0, update.octetsLength, ifindex, slot.serial);
    const excess = octetsExcess(context, slot);
    if (excess) slot.refused += countPrefixes(message, start, end);
    else announceRange(context, slot, message, family, start, end, raw);
    context.attributes.release(raw);
    if (excess) return excess;
  }
  return excessOf(context, slot);
}

/** Which limit a neighbour's routes exceed as they are now. */
export function excessOf(context: ImportContext, slot: Slot): Excess | undefined {
  for (const f of FamilyIndexes) {
    const family = FamilyTable[f].name;
    const rules = slot.imports[family];
    if (!rules) continue;
    if (rules.prefixLimit > 0 && slot.accepted[f] > rules.prefixLimit) return { limit: "accepted", family };
    // At the limit something was refused, or will be by the next new prefix.
    if (rules.receivedLimit > 0 && (slot.paths[f] > rules.receivedLimit || (slot.refused > 0 && slot.paths[f] === rules.receivedLimit)))
      return { limit: "received", family };
  }
  return octetsExcess(context, slot);
}

function octetsExcess({ attributes }: ImportContext, { attributeOctetsLimit, serial }: Slot): Excess | undefined {
  return attributeOctetsLimit > 0 && attributes.octetsOf(serial) > attributeOctetsLimit ? { limit: "octets" } : undefined;
}

function countPrefixes(message: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let at = start; at < end; at += 1 + ((message[at] + 7) >> 3)) count++;
  return count;
}

function announceRange(
  context: ImportContext,
  slot: Slot,
  message: Uint8Array,
  family: FamilyIndex,
  start: number,
  end: number,
  raw: number,
): void {
  const table = context.tables[family];
  const rules = slot.imports[FamilyTable[family].name];
  if (!rules) return;
  const { policy } = rules;
  const { ip } = table.prefixes;
  const now = context.now();
  const most = rules.receivedLimit || Number.POSITIVE_INFINITY;
  const shared = policy.usesPrefix ? undefined : judge(context, slot, family, raw, undefined);
  for (let at = start; at < end; ) {
    const full = slot.paths[family] >= most;
    const prefix = readPrefix(table, message, at, !full);
    if (full && !isStored(table, slot, prefix)) {
      slot.refused++;
      at += 1 + ((message[at] + 7) >> 3);
      continue;
    }
    const verdict = shared ?? judge(context, slot, family, raw, table.prefixes.prefix(prefix));
    const barred = barredBy(context, slot, family, ip, message, at + 1, message[at], raw, verdict);
    at += 1 + ((message[at] + 7) >> 3);
    table.announce(prefix, slot.id, slot.staleSlot, raw, barred === 0 ? verdict.attributes : 0, verdict.flags | barred, now);
    if (!shared && verdict.attributes !== 0) context.attributes.release(verdict.attributes);
  }
  if (shared && shared.attributes !== 0) context.attributes.release(shared.attributes);
}

/** The neighbour has a path for the prefix, which another one replaces. */
function isStored(table: RibTable, slot: Slot, prefix: number): boolean {
  if (prefix === 0) return false;
  return table.findPath(prefix, slot.id) !== 0 || (slot.staleSlot >= 0 && table.findPath(prefix, slot.staleSlot) !== 0);
}

function withdrawRange(context: ImportContext, slot: Slot, message: Uint8Array, family: FamilyIndex, start: number, end: number): void {
  const table = context.tables[family];
  for (let at = start; at < end; at += 1 + ((message[at] + 7) >> 3)) {
    const prefix = readPrefix(table, message, at, false);
    if (prefix === 0) continue;
    table.withdraw(prefix, slot.id);
    if (slot.staleSlot >= 0) table.withdraw(prefix, slot.staleSlot);
  }
}

/** What becomes of one path that is already in the table when the rules have changed (soft reconfiguration). */
export function reimportPath(context: ImportContext, slot: Slot, table: RibTable, path: number): void {
  const raw = table.pathRaw[path];
  const prefixId = table.pathPrefix[path];
  const prefix = table.prefixes.prefix(prefixId);
  context.attributes.retain(raw);
  const verdict = judge(context, slot, table.family, raw, prefix);
  const barred = barredBy(context, slot, table.family, prefix.family, prefix.address, 0, prefix.length, raw, verdict);
  table.announce(prefixId, slot.id, -1, raw, barred === 0 ? verdict.attributes : 0, verdict.flags | barred, table.pathTime[path]);
  if (verdict.attributes !== 0) context.attributes.release(verdict.attributes);
  context.attributes.release(raw);
}

function judge(context: ImportContext, slot: Slot, family: FamilyIndex, raw: number, prefix: Prefix | undefined): Verdict {
  const flags = pathFlags(context, slot, family, raw) | loopFlags(context, slot, family, raw);
  if (flags !== 0) return { attributes: 0, flags, namedPrefix: false };
  const policy = slot.imports[FamilyTable[family].name]!.policy;
  if (policy.trivial === "accept") {
    context.attributes.retain(raw);
    return { attributes: raw, flags: 0, namedPrefix: false };
  }
  if (policy.trivial === "reject") return { attributes: 0, flags: Rejected.Policy, namedPrefix: false };
  const { result, unchanged } = evaluateImport(context, slot, family, raw, prefix ?? anyPrefix(family));
  if (!result.accepted) return { attributes: 0, flags: Rejected.Policy, namedPrefix: result.namedPrefix };
  if (unchanged) {
    context.attributes.retain(raw);
    return { attributes: raw, flags: 0, namedPrefix: result.namedPrefix };
  }
  const octets = built(result.attributes);
  if (!octets) return { attributes: 0, flags: Rejected.TooLarge, namedPrefix: result.namedPrefix };
  const { nextHop } = result.attributes;
  return {
    attributes: context.attributes.intern(octets, 0, octets.length, linkOf(slot, nextHop[0], nextHop[1]), slot.serial),
    flags: 0,
    namedPrefix: result.namedPrefix,
  };
}

/** The interface of a next hop with these first octets: that of the session where it is bound to one, or where fe80::/10 needs one. */
function linkOf(slot: Slot, first: number, second: number): number {
  return slot.ifindex === 0 && first === 0xfe && (second & 0xc0) === 0x80 ? slot.link : slot.ifindex;
}

/** undefined: policy made an attribute longer than any can be. */
function built(attributes: PathAttributes): Uint8Array | undefined {
  try {
    return buildAttributes(attributes);
  } catch (error) {
    if (error instanceof OversizeError) return undefined;
    throw error;
  }
}

/** Runs import policy on the attributes as received, with a trace for `explain`. */
export function evaluateImport(
  context: Pick<ImportContext, "attributes">,
  slot: Slot,
  family: FamilyIndex,
  raw: number,
  prefix: Prefix,
  trace?: TraceStep[],
): { result: PolicyResult; unchanged: boolean } {
  const attributes = context.attributes.parse(raw);
  const policy = slot.imports[FamilyTable[family].name]!.policy;
  const result = policy.evaluate({ prefix, attributes, neighbor: slot.neighbor, kind: "learned", self: slot.self }, trace);
  return { result, unchanged: result.attributes === attributes };
}

/** A policy that does not look at the prefix gets this one. */
function anyPrefix(family: FamilyIndex): Prefix {
  const { ip, octets } = FamilyTable[family];
  return { family: ip, address: new Uint8Array(octets), length: 0 };
}

/**
 * What no policy is asked about. A route with an AS_SET counts as withdrawn (RFC 9774 section 3), one whose path does not begin with its external
 * neighbour may be treated so (RFC 4271 section 6.3), and one without any path has an origin that nobody can tell from our own.
 */
function pathFlags({ attributes }: ImportContext, slot: Slot, family: FamilyIndex, raw: number): number {
  const { allowAsSets = false, firstAs = 0 } = slot.imports[FamilyTable[family].name] ?? {};
  const hasSet = !allowAsSets && asPathHasSet(attributes.buffer(raw), attributes.start(raw), attributes.end(raw));
  const flags = hasSet ? Rejected.AsSet : 0;
  if (!slot.external) return flags;
  if (attributes.asPathLength[raw] === 0) return flags | Rejected.EmptyPath;
  return firstAs !== 0 && attributes.neighborAs[raw] !== firstAs ? flags | Rejected.FirstAs : flags;
}

function loopFlags(context: ImportContext, slot: Slot, family: FamilyIndex, raw: number): number {
  const { attributes } = context;
  const buffer = attributes.buffer(raw);
  const start = attributes.start(raw);
  const end = attributes.end(raw);
  const allowed = slot.imports[FamilyTable[family].name]?.allowAsIn ?? 0;
  if (asPathContains(buffer, start, end, slot.self.asn) > allowed) return Rejected.AsLoop;
  if (slot.self.asn !== context.localAsn && asPathContains(buffer, start, end, context.localAsn) > allowed) return Rejected.AsLoop;
  if (slot.external) return 0;
  if (attributes.hasOriginator[raw] && attributes.originatorId[raw] === context.routerId) return Rejected.ReflectionLoop;
  return clusterListContains(buffer, start, end, context.clusterId) ? Rejected.ReflectionLoop : 0;
}

/** Why a prefix is protected; undefined = it is not. From what can be no unicast route nothing releases it, no policy either. */
export function protectionOf(context: Pick<ImportContext, "guards">, { family, address, length }: Prefix): string | undefined {
  const unexpected = unexpectedPrefix(address, 0, length, family);
  if (unexpected !== undefined) return `${unexpected} are no destination of unicast routes (RFC 4271 section 6.3)`;
  return context.guards.find(forwardingFamily(family), address, 0, length)?.reason;
}

/**
 * Why a route is refused by its prefix alone, a bit of `Rejected`; 0 = it is not. A guard is told also where policy rejects the route, and
 * the origin where nothing else is against it.
 */
function barredBy(
  { guards, origins }: ImportContext,
  { origin }: Slot,
  family: FamilyIndex,
  ip: IpFamily,
  octets: Uint8Array,
  start: number,
  length: number,
  raw: number,
  { flags, attributes, namedPrefix }: Verdict,
): number {
  if (unexpectedPrefix(octets, start, length, ip) !== undefined) return Rejected.Protected;
  const guard = namedPrefix && attributes !== 0 ? undefined : guards.find(family, octets, start, length);
  if (guard && !(guard.yields && origin && origins.isOwn(origin, family, octets, start, length, raw))) return Rejected.Protected;
  return origin === undefined || flags !== 0 ? 0 : origins.judge(origin, family, octets, start, length, raw);
}

/** Reads one NLRI; bits beyond the length are ignored (RFC 4271 section 4.3). The decoder has checked its bounds. */
function readPrefix(table: RibTable, message: Uint8Array, at: number, make: boolean): number {
  const length = message[at];
  const octets = (length + 7) >> 3;
  if (table.prefixes.words === 1) {
    let word = 0;
    for (let n = 0; n < octets; n++) word |= message[at + 1 + n] << (24 - 8 * n);
    word = length === 0 ? 0 : (word & (-1 << (32 - length))) >>> 0;
    return make ? table.prefixes.intern(word, 0, 0, 0, length) : table.prefixes.find(word, 0, 0, 0, length);
  }
  const words: [number, number, number, number] = [0, 0, 0, 0];
  for (let n = 0; n < octets; n++) words[n >> 2] |= message[at + 1 + n] << (24 - 8 * (n & 3));
  for (let n = 0; n < 4; n++) {
    const bits = Math.max(0, Math.min(32, length - 32 * n));
    words[n] = bits === 0 ? 0 : (words[n] & (-1 << (32 - bits))) >>> 0;
  }
  return make ? table.prefixes.intern(...words, length) : table.prefixes.find(...words, length);
}
