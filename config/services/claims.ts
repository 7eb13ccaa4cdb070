/** AddressClaims as objects of the API server: their names, and what is read of them. */
import { formatAddress, isAddress, parseAddress } from "../../net/address.ts";
import type { AddressClaimSpec } from "../resources/kinds.ts";
import type { Claim, ClaimedBy } from "./address-book.ts";

/** One name for each address, and one that the name of an object can be: "192.0.2.1", "fd00-0-0-0-0-0-0-5". */
export function claimName(address: string): string {
  const octets = parseAddress(address);
  if (octets.length === 4) return formatAddress(octets);
  return Array.from({ length: 8 }, (_, i) => (octets[i * 2] * 256 + octets[i * 2 + 1]).toString(16)).join("-");
}

/** undefined: no claim of ours has this name. */
export function addressOfClaim(name: string): string | undefined {
  const text = name.replaceAll("-", ":");
  if (!isAddress(text)) return undefined;
  const address = formatAddress(parseAddress(text));
  return claimName(address) === name ? address : undefined;
}

/** Its name says which address it is about. */
export function readClaim(object: {
  metadata: { name: string; uid?: string; resourceVersion?: string };
  spec?: unknown;
}): Claim | undefined {
  const { name, uid, resourceVersion } = object.metadata;
  const address = addressOfClaim(name);
  if (address === undefined) return undefined;
  // The API server has checked it.
  const { pool, services } = object.spec as AddressClaimSpec;
  return { address, pool, services, ...(uid !== undefined && { uid }), ...(resourceVersion !== undefined && { resourceVersion }) };
}

export function claimSpec({ address, pool, services }: Pick<Claim, "address" | "pool" | "services">): AddressClaimSpec {
  return { address, pool, services: services.map((one: ClaimedBy) => ({ ...one })) };
}
