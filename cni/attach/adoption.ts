/**
 * The ledger beside what the kernel has. Normally both say the same. After a ledger from a backup, of another node, cut or damaged, the
 * interfaces of running pods are the truth: each bears its network, container and addresses (alias). What they explain is taken over;
 * an interface goes only where it contradicts what is known.
 */
import type { Link } from "../../kernel/types.ts";
import { type Key, keyText, type Reservation } from "../ipam/book.ts";
import type { Ledger } from "../ipam/ledger.ts";
import { isPodLink, parsePodAlias } from "./names.ts";

export interface Adoption {
  adopted: (Key & { addresses: string[] })[];
  /** Interfaces that cannot be a pod's, and why. */
  contradictions: { link: Link; reason: string }[];
  /** Interfaces that nothing is known of: their aliases are too long to be whole. */
  unexplained: Link[];
}

/** Gives up reservations that the interface of this name contradicts. Only while no call is under way. Returns them. */
export function releaseOutdated(ledger: Ledger, links: readonly Link[]): Reservation[] {
  const aliases = new Map(links.filter(isPodLink).map(link => [link.name, parsePodAlias(link.alias)]));
  const outdated = ledger.reservations().filter(reservation => {
    const alias = aliases.get(reservation.hostInterface);
    return alias && (keyText(alias) !== keyText(reservation) || alias.addresses.join() !== reservation.addresses.join());
  });
  for (const reservation of outdated) ledger.release(reservation);
  return outdated;
}

/** Takes over what no reservation owns. */
export function adopt(ledger: Ledger, links: readonly Link[]): Adoption {
  const owned = new Set(ledger.reservations().map(({ hostInterface }) => hostInterface));
  const result: Adoption = { adopted: [], contradictions: [], unexplained: [] };
  for (const link of links) {
    if (!isPodLink(link) || owned.has(link.name)) continue;
    const found = parsePodAlias(link.alias);
    if (isInOneNamespace(link, links)) result.contradictions.push({ link, reason: "both of its ends are in the node's namespace" });
    else if (!found) result.unexplained.push(link);
    else {
      const owner = ledger.adopt({ ...found, netns: "", netnsInode: "", hostInterface: link.name });
      if (!owner) result.adopted.push(found);
      else {
        const holder = `${owner.ifname} of container ${owner.containerId}`;
        result.contradictions.push({ link, reason: `${holder} has ${owner.addresses.join(", ")}, and this one claims the same` });
      }
    }
  }
  return result;
}

function isInOneNamespace(link: Link, links: readonly Link[]): boolean {
  return link.peerNetnsId < 0 && links.some(peer => peer.index === link.peerIndex && peer.peerIndex === link.index);
}
