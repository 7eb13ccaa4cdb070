/** Names and marks of what podlane makes in the kernel: by them it knows its own links again, also after a crash. */
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import type { Link } from "../../kernel/types.ts";
import { AddressError, parsePrefix } from "../../net/address.ts";
import type { Key } from "../ipam/book.ts";

/** IFLA_IFALIAS of the bridge. */
export const BRIDGE_ALIAS = "podlane bridge";
/** That of tunnels, which have the gateways' addresses as well (overlay/names.ts). */
export const OVERLAY_ALIAS = "podlane overlay";
const POD_ALIAS = "podlane pod";
/** IFALIASZ - 1, less the octet that ends the text. */
const MAXIMUM_ALIAS = 254;

/** The node's end of a pod's veth pair: 14 octets, the same for the same container and interface. */
export function hostInterfaceName({ containerId, ifname }: Pick<Key, "containerId" | "ifname">): string {
  return `pl${createHash("sha256").update(`${containerId}\0${ifname}`).digest("hex").slice(0, 12)}`;
}

/** Says whose link it is, and enough to know the addresses again if the ledger is lost. */
export function podLinkAlias(key: Key, addresses: readonly string[]): string {
  return [POD_ALIAS, key.network, key.containerId, key.ifname, addresses.join(",")].join(" ").slice(0, MAXIMUM_ALIAS);
}

/** What podLinkAlias wrote; undefined for a foreign link, or where it did not fit. */
export function parsePodAlias(alias: string): (Key & { addresses: string[] }) | undefined {
  const [program, kind, network, containerId, ifname, addresses] = alias.split(" ");
  if (`${program} ${kind}` !== POD_ALIAS || !addresses || alias.length >= MAXIMUM_ALIAS) return undefined;
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
  return link.kind === "veth" && (link.alias === POD_ALIAS || link.alias.startsWith(`${POD_ALIAS} `));
}

/**
 * A fixed hardware address: one that the kernel derives from the ports would change with them, and one of the bridge's name with that; running pods would
 * lose their gateway until they ask for it again.
 */
export function bridgeMac(): Uint8Array {
  const hash = createHash("sha256").update(`podlane bridge ${hostname()} podlane0`).digest();
  return Uint8Array.of(0x02, ...hash.subarray(0, 5));
}
