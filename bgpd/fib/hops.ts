/** Next hops of a route in words, as ip-route(8) writes them. */
import type { NextHop } from "../../kernel/types.ts";
import { formatAddress } from "../../net/address.ts";

/** "via 10.0.0.1 dev eth0, via 10.0.0.2 dev eth1". */
export function hopsText(hops: readonly NextHop[], linkName: (ifindex: number) => string | undefined): string {
  return hops
    .map(hop => `${hop.gateway ? `via ${formatAddress(hop.gateway)} ` : ""}dev ${linkName(hop.ifindex) ?? `#${hop.ifindex}`}`)
    .join(", ");
}
