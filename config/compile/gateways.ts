/**
 * Neighbours that are the node's default gateways. The kernel's routing table says who they are, and may for a moment say nothing, while a link
 * flaps or DHCP renews: who was there last stays until another one is there.
 */
import { isLinkLocal, parseAddress } from "../../net/address.ts";
import type { Context, ResolvedPeer } from "./context.ts";
import { type End, endsText, MAX_ENDS, recallEnds, rememberEnds } from "./node-values.ts";

export function gatewayEnds({ facts, self, memory, problems }: Context, { name, spec }: ResolvedPeer): End[] {
  const object = `Peer/${name}`;
  const family = spec.gateway === "IPv6" ? 6 : 4;
  const found = (facts.gateways ?? [])
    .filter(one => one.family === family)
    .map(({ address, interface: link }) => ({ address, ...(isLinkLocal(parseAddress(address)) ? { link } : {}) }));
  const ends = [...new Map(found.map(end => [endsText([end]), end])).values()].slice(0, MAX_ENDS);
  if (ends.length > 0) return rememberEnds(memory, `${object} ${self.name}`, ends);
  const last = recallEnds(memory, `${object} ${self.name}`);
  const remedy = `add an IPv${family} default route to the main table, or give spec.address`;
  const none = `node ${self.name} has no IPv${family} default gateway`;
  if (last)
    problems.error(
      "GatewayUnknown",
      object,
      "spec.gateway",
      `${none}: ${endsText(last)}, which it had, stays until there is another`,
      remedy,
    );
  else if (facts.gateways) problems.error("GatewayUnknown", object, "spec.gateway", `${none}: there is no session`, remedy);
  else {
    const message = "default gateways are known on the node alone: the sessions with them are not among these";
    problems.warning("GatewayUnknown", object, "spec.gateway", message, "ask the node's agent: podlane plan, podlane peers");
  }
  return last ?? [];
}
