/**
 * Address families (RFC 4760 section 3, IANA address-family-numbers and SAFI registries): one row each, in the order of `Families`,
 * whose place in the table is the small integer by which hot code knows a family. A new family is one row here and one name there.
 */
import { Families, type Family } from "../config.ts";

export interface FamilyRow {
  readonly name: Family;
  readonly afi: number;
  readonly safi: number;
  /** Bits of the longest prefix. */
  readonly maxLength: number;
  /** Octets that the next hop in MP_REACH_NLRI may have: RFC 4760, RFC 2545 section 3. */
  readonly nextHopLengths: readonly number[];
  /** The same once the extended next hop capability was negotiated (RFC 8950). */
  readonly extendedNextHopLengths: readonly number[];
}

export const FamilyTable: readonly FamilyRow[] = [
  { name: "ipv4-unicast", afi: 1, safi: 1, maxLength: 32, nextHopLengths: [4], extendedNextHopLengths: [4, 16, 32] },
  { name: "ipv6-unicast", afi: 2, safi: 1, maxLength: 128, nextHopLengths: [16, 32], extendedNextHopLengths: [16, 32] },
];

/** Row number of a family: 0 = ipv4-unicast, 1 = ipv6-unicast. */
export function familyIndex(family: Family): number {
  return Families.indexOf(family);
}

/** Row number of what the wire names, -1 for a family this speaker does not know. */
export function familyIndexOf(afi: number, safi: number): number {
  for (let i = 0; i < FamilyTable.length; i++) if (FamilyTable[i].afi === afi && FamilyTable[i].safi === safi) return i;
  return -1;
}

export function familyOf(afi: number, safi: number): Family | undefined {
  return FamilyTable[familyIndexOf(afi, safi)]?.name;
}

/** The name of a family, or "AFI n/SAFI n" for one this speaker does not know. */
export function formatFamily(afi: number, safi: number): string {
  return familyOf(afi, safi) ?? `AFI ${afi}/SAFI ${safi}`;
}
