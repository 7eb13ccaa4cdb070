/**
 * Address families (RFC 4760 section 3, IANA address-family-numbers and SAFI registries): one row each. Everything else that there is
 * once for each family is a PerFamily, made from these rows: a new family is one row here.
 */
import type { IpFamily } from "../net/address.ts";

/** What writes prefixes into a message (UpdateWriter), and what holds them (PrefixTable). */
interface PrefixSink {
  prefix4(address: number, length: number): void;
  prefix6(w0: number, w1: number, w2: number, w3: number, length: number): void;
}
interface PrefixSource {
  word(id: number, n: number): number;
  length(id: number): number;
}

export interface FamilyRow {
  /** The key word of configuration, tables and logs. */
  readonly name: string;
  /** How people call its addresses. */
  readonly label: string;
  readonly afi: number;
  readonly safi: number;
  /** Of its prefixes and of addresses of ours as next hop. */
  readonly ip: IpFamily;
  /** Octets of an address. */
  readonly octets: 4 | 16;
  /** Bits of the longest prefix. */
  readonly maxLength: 32 | 128;
  /** Its prefixes stand in an UPDATE's own fields (RFC 4271 section 4.3), not in MP_REACH_NLRI, where the next hop has the length for it. One row. */
  readonly classic: boolean;
  /** Its routes are those of the kernel, and pods' subnets are announced in it. One row for each IP version. */
  readonly forwards: boolean;
  /** Octets that the next hop in MP_REACH_NLRI may have: RFC 4760, RFC 2545 section 3. */
  readonly nextHopLengths: readonly number[];
  /** The same once the extended next hop capability was negotiated (RFC 8950). */
  readonly extendedNextHopLengths: readonly number[];
  readonly write: (sink: PrefixSink, prefixes: PrefixSource, id: number) => void;
}

const ip4 = {
  ip: 4,
  octets: 4,
  maxLength: 32,
  nextHopLengths: [4],
  extendedNextHopLengths: [4, 16, 32],
  write: (sink: PrefixSink, p: PrefixSource, id: number) => sink.prefix4(p.word(id, 0), p.length(id)),
} as const;

const ip6 = {
  ip: 6,
  octets: 16,
  maxLength: 128,
  nextHopLengths: [16, 32],
  extendedNextHopLengths: [16, 32],
  write: (sink: PrefixSink, p: PrefixSource, id: number) =>
    sink.prefix6(p.word(id, 0), p.word(id, 1), p.word(id, 2), p.word(id, 3), p.length(id)),
} as const;

const rows = [
  { name: "ipv4-unicast", label: "IPv4", afi: 1, safi: 1, classic: true, forwards: true, ...ip4 },
  { name: "ipv6-unicast", label: "IPv6", afi: 2, safi: 1, classic: false, forwards: true, ...ip6 },
] as const satisfies readonly FamilyRow[];

/** The families the speaker carries, by name. */
export type Family = (typeof rows)[number]["name"];

declare const kind: unique symbol;
/** The place of a row in the table: by it hot code knows a family. */
export type FamilyIndex = number & { readonly [kind]: "family" };

/** One thing for each family, in the order of the table. */
export interface PerFamily<T> extends Pick<readonly T[], "map" | "flatMap" | "some" | "reduce">, Iterable<T> {
  [family: FamilyIndex]: T;
}

export const FamilyIndexes = rows.map((_, index) => index as FamilyIndex) as readonly FamilyIndex[];

export function perFamily<T>(make: (family: FamilyIndex) => T): PerFamily<T> {
  return FamilyIndexes.map(make) as unknown as PerFamily<T>;
}

export const FamilyTable: PerFamily<FamilyRow & { readonly name: Family }> = perFamily(family => rows[family]);
export const Families: readonly Family[] = rows.map(({ name }) => name);

const byName = new Map<string, FamilyIndex>(FamilyIndexes.map(family => [FamilyTable[family].name, family]));

export function familyIndex(name: Family): FamilyIndex {
  return byName.get(name) as FamilyIndex;
}

function theOne(wanted: (row: FamilyRow) => boolean): FamilyIndex {
  const found = FamilyIndexes.filter(family => wanted(FamilyTable[family]));
  if (found.length !== 1) throw new Error(`bgpd/family.ts: ${found.length} rows where one is needed`);
  return found[0];
}

/** The family whose prefixes have fields of their own in an UPDATE. */
export const classicFamily = theOne(({ classic }) => classic);

const forwarding = { 4: theOne(({ ip, forwards }) => forwards && ip === 4), 6: theOne(({ ip, forwards }) => forwards && ip === 6) };

/** The family in which the kernel's routes of this IP version are told. */
export function forwardingFamily(ip: IpFamily): FamilyIndex {
  return forwarding[ip];
}

/** What the wire names; undefined for a family this speaker does not know. */
export function familyIndexOf(afi: number, safi: number): FamilyIndex | undefined {
  for (const family of FamilyIndexes) if (FamilyTable[family].afi === afi && FamilyTable[family].safi === safi) return family;
  return undefined;
}

export function familyOf(afi: number, safi: number): Family | undefined {
  const family = familyIndexOf(afi, safi);
  return family === undefined ? undefined : FamilyTable[family].name;
}

/** The name of a family, or "AFI n/SAFI n" for one this speaker does not know. */
export function formatFamily(afi: number, safi: number): string {
  return familyOf(afi, safi) ?? `AFI ${afi}/SAFI ${safi}`;
}
