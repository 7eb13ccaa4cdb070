/**
 * Which of our addresses a session puts into NEXT_HOP (RFC 4271 section 5.1.3, RFC 2545 section 3), and why there is none. Pure: it is asked
 * again whenever addresses or their flags change (RFC 4862: tentative, duplicate, deprecated; RFC 8981: temporary).
 */
import {
  IFA_F_DADFAILED,
  IFA_F_DEPRECATED,
  IFA_F_OPTIMISTIC,
  IFA_F_SECONDARY,
  IFA_F_TEMPORARY,
  IFA_F_TENTATIVE,
  RT_SCOPE_UNIVERSE,
} from "../kernel/constants.ts";
import type { InterfaceAddress } from "../kernel/types.ts";
import { type Address, formatAddress, isLinkLocal, sameOctets } from "../net/address.ts";
import { type FamilyIndex, FamilyTable } from "./family.ts";

export interface OwnAddressQuestion {
  family: FamilyIndex;
  /** Our end of the session, of either family. */
  local: Address;
  /** The interface of the session; 0 = unknown. */
  ifindex: number;
  /** What was answered last: it stays while nothing is better. */
  current?: Address;
}

/** 4, 16 or 32 octets as on the wire, or the words that end "it is not announced: ". */
export type OwnAddress = { address: Address } | { obstacle: string };

/** `addresses`: all of ours, undefined where there is no kernel to ask: then the session's own address is all we have. */
export function ownAddress(
  question: OwnAddressQuestion,
  addresses: readonly InterfaceAddress[] | undefined,
  linkName: (ifindex: number) => string,
): OwnAddress {
  const { family, local, ifindex } = question;
  const { octets } = FamilyTable[family];
  const suits = local.length === octets && !isLinkLocal(local);
  if (!addresses)
    return suits ? { address: local } : (linkLocalTwice(question) ?? { obstacle: "the session has no address of this family" });
  const there = addresses.filter(one => one.address.length === octets && one.scope === RT_SCOPE_UNIVERSE);
  // The session uses an address that no interface has: one of a local route.
  if (suits && ifindex === 0) return { address: local };
  const isSession = (one: InterfaceAddress) => suits && sameOctets(one.address, local);
  const candidates = there.filter(one => (isSession(one) ? !isUnchecked(one) : one.ifindex === ifindex && flaw(one) === undefined));
  const isCurrent = ({ address }: InterfaceAddress) => question.current !== undefined && sameOctets(address, question.current);
  const rank = (one: InterfaceAddress) => [isTemporary(one), isDeprecated(one), !isSession(one), !isCurrent(one), isSecondary(one)];
  const [best] = candidates.sort((a, b) => compare(rank(a), rank(b)));
  if (best) return { address: best.address };
  return linkLocalTwice(question) ?? { obstacle: obstacle(question, there, linkName) };
}

/** An interface with nothing but its link-local address: it stands in both places (RFC 2545 section 3 knows no other way). */
function linkLocalTwice({ family, local }: OwnAddressQuestion): OwnAddress | undefined {
  return FamilyTable[family].ip === 6 && isLinkLocal(local) ? { address: Uint8Array.of(...local, ...local) } : undefined;
}

function obstacle({ family, ifindex }: OwnAddressQuestion, there: readonly InterfaceAddress[], linkName: (ifindex: number) => string) {
  const name = ifindex === 0 ? "the session's interface" : `interface ${linkName(ifindex)}`;
  const flaws = there.filter(one => one.ifindex === ifindex).map(one => `${formatAddress(one.address)} ${flaw(one)}`);
  return `${name} has no usable ${FamilyTable[family].label} address${flaws.length > 0 ? ` (${flaws.join(", ")})` : ""}`;
}

/** Why an address is no next hop; undefined = it can be one. */
function flaw(one: InterfaceAddress): string | undefined {
  if (!isUnchecked(one)) return isTemporary(one) ? "is temporary" : undefined;
  if ((one.flags & IFA_F_DADFAILED) !== 0) return "is another host's as well: duplicate address detection failed";
  return "is tentative: duplicate address detection has not ended";
}

// Of IPv4 addresses the same bits mean other things, or nothing.

function isUnchecked({ address, flags }: InterfaceAddress): boolean {
  if (address.length === 4) return false;
  return (flags & IFA_F_DADFAILED) !== 0 || ((flags & IFA_F_TENTATIVE) !== 0 && (flags & IFA_F_OPTIMISTIC) === 0);
}

function isTemporary({ address, flags }: InterfaceAddress): boolean {
  return address.length === 16 && (flags & IFA_F_TEMPORARY) !== 0;
}

function isDeprecated({ flags }: InterfaceAddress): boolean {
  return (flags & IFA_F_DEPRECATED) !== 0;
}

function isSecondary({ address, flags }: InterfaceAddress): boolean {
  return address.length === 4 && (flags & IFA_F_SECONDARY) !== 0;
}

/** False before true, the first difference decides. */
function compare(a: readonly boolean[], b: readonly boolean[]): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : Number(a[at]) - Number(b[at]);
}
