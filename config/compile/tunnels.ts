/**
 * Who has a tunnel with whom, and what the session between two nodes carries because of it. A session carries the family of its addresses; where two nodes have
 * addresses of one family alone and a tunnel between them, it carries the other one as well. The next hop is then the first address of the node's pod
 * subnet of that family, by which the other end knows the node again.
 */
import { formatAddress, type IpFamily, parsePrefix } from "../../net/address.ts";
import type { Cluster, Context, NodeView } from "./context.ts";

/** Both have an overlay, and say the same of it. */
export function haveTunnel({ podNetworks }: Pick<Cluster, "podNetworks">, a: NodeView, b: NodeView): boolean {
  const [one, other] = [a, b].map(node => podNetworks.get(node)?.spec);
  if (!one || !other || one.overlay === "Never" || other.overlay === "Never") return false;
  return one.vxlan.vni === other.vxlan.vni && one.vxlan.port === other.vxlan.port;
}

/** The family beside that of its addresses which the session of two nodes carries. */
export function familyBeside(
  context: Pick<Context, "self" | "podNetworks">,
  other: NodeView,
  common: readonly IpFamily[],
): IpFamily | undefined {
  if (common.length !== 1 || !haveTunnel(context, context.self, other)) return undefined;
  const family = common[0] === 4 ? 6 : 4;
  return [context.self, other].some(node => firstAddresses(node, family).length > 0) ? family : undefined;
}

/** Those of the pods' gateways, which no pod gets. */
export function firstAddresses({ podCidrs }: NodeView, family?: IpFamily): string[] {
  const prefixes = podCidrs.map(({ prefix }) => parsePrefix(prefix)).filter(one => family === undefined || one.family === family);
  return prefixes.flatMap(({ address, length }) => {
    if (length === 8 * address.length) return [];
    const first = Uint8Array.from(address);
    first[first.length - 1] |= 1;
    return [formatAddress(first)];
  });
}
