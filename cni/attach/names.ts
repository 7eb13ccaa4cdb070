/** Names and marks of what podlane makes in the kernel: by them it knows its own links again, also after a crash. */
import { createHash, randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { Link } from "../../kernel/types.ts";
import { AddressError, parsePrefix } from "../../net/address.ts";
import type { Key } from "../ipam/book.ts";
import type { PodPlan } from "../types.ts";

/** IFLA_IFALIAS of the bridge. */
export const BRIDGE_ALIAS = "podlane bridge";
/** That of tunnels, which have the gateways' addresses as well (overlay/names.ts). */
export const OVERLAY_ALIAS = "podlane overlay";
/** How the alias of a pod's link begins, by the way in which the pod is attached: that stays as it was when the plan says another one. */
const podAliases: Readonly<Record<PodPlan["mode"], string>> = { bridge: "podlane pod", routed: "podlane routed" };
/** IFALIASZ - 1, less the octet that ends the text. */
const MAXIMUM_ALIAS = 254;

/** The node's end of a pod's veth pair: 14 octets, the same for the same container and interface. */
export function hostInterfaceName({ containerId, ifname }: Pick<Key, "containerId" | "ifname">): string {
  return `pl${createHash("sha256").update(`${containerId}\0${ifname}`).digest("hex").slice(0, 12)}`;
}

/** Says whose link it is, and enough to know the addresses again if the ledger is lost. */
export function podLinkAlias(mode: PodPlan["mode"], key: Key, addresses: readonly string[]): string {
  return [podAliases[mode], key.network, key.containerId, key.ifname, addresses.join(",")].join(" ").slice(0, MAXIMUM_ALIAS);
}

/** What podLinkAlias wrote; undefined for a foreign link, or where it did not fit. */
export function parsePodAlias(alias: string): (Key & { addresses: string[] }) | undefined {
  const [, , network, containerId, ifname, addresses] = alias.split(" ");
  if (!modeOfAlias(alias) || !addresses || alias.length >= MAXIMUM_ALIAS) return undefined;
  if (!addresses.split(",").every(isInterfaceAddress)) return undefined;
  return { network, containerId, ifname, addresses: addresses.split(",") };
}

/** `ADDRESS/LENGTH`. */
function isInterfaceAddress(text: string): boolean {
  try {
    parsePrefix(text, "clear");
    return true;
  } catch (error) {
    if (error instanceof AddressError) return false;
    throw error;
  }
}

export function isPodLink(link: Link): boolean {
  return podLinkMode(link) !== undefined;
}

/** How the pod behind this link is attached; undefined: it is no pod's. */
export function podLinkMode({ kind, alias }: Link): PodPlan["mode"] | undefined {
  return kind === "veth" ? modeOfAlias(alias) : undefined;
}

function modeOfAlias(alias: string): PodPlan["mode"] | undefined {
  return (["bridge", "routed"] as const).find(mode => alias === podAliases[mode] || alias.startsWith(`${podAliases[mode]} `));
}

/**
 * The hardware address of the pods' gateway, that is of the bridge and of the node's end of each routed pod. A fixed one: what the kernel derives from a
 * bridge's ports would change with them, and one of the bridge's name with that; running pods would lose their gateway until they ask for it again. And
 * udev leaves an address alone that was given.
 */
export function gatewayMac(): Uint8Array {
  const hash = createHash("sha256").update(`podlane bridge ${hostname()} podlane0`).digest();
  return Uint8Array.of(0x02, ...hash.subarray(0, 5));
}

/** For the pod's end of a pair, as the kernel would choose it: locally administered, unicast. Chosen here, so that packet filters can know it before. */
export function randomMac(): Uint8Array {
  const octets = Uint8Array.from(randomBytes(6));
  octets[0] = (octets[0] & 0xfc) | 2;
  return octets;
}
