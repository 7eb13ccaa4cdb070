/** Ends of tunnels that happen to have one hardware address, which is made of the IP address (names.ts): said, as one of them is not reached. Pure. */
import { formatAddress, parseAddress } from "../net/address.ts";
import { hexOf } from "../net/octets.ts";
import type { Finding } from "../platform/problem.ts";
import { tunnelMac } from "./names.ts";
import type { OverlayPlan } from "./types.ts";

export function findTwins({ local, nodes }: Pick<OverlayPlan, "local" | "nodes">): Finding[] {
  const all = [{ name: "this node", addresses: local }, ...nodes.map(({ name, addresses }) => ({ name: `node ${name}`, addresses }))];
  const known = new Map<string, { name: string; address: string }>();
  const problems: Finding[] = [];
  for (const { name, addresses } of all) {
    // Those of IPv4 show it whole.
    for (const octets of addresses.map(parseAddress).filter(({ length }) => length === 16)) {
      const [mac, address] = [hexOf(tunnelMac(octets)), formatAddress(octets)];
      const other = known.get(mac);
      if (!other) known.set(mac, { name, address });
      // One InternalIP of two Node objects is a problem of its own.
      else if (other.address !== address)
        problems.push({
          severity: "error",
          reason: "OverlayConflict",
          field: "overlay",
          message: `the ends of tunnels ${other.address} (${other.name}) and ${address} (${name}) have the same hardware address by chance: pods of one of the two are not reached`,
          remedy: "give one of them another InternalIP",
        });
    }
  }
  return problems;
}
