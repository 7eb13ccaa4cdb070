/**
 * Graceful restart, RFC 4724: which routes of a neighbour survive the loss of its session, and what we say of ourselves in our OPEN.
 * Pure; the timers and the sweeping are the peer's (peer.ts).
 */
import type { NeighborConfig, SpeakerConfig } from "./config.ts";
import { Families, type Family, familyOf } from "./family.ts";
import { decodeCapability } from "./message/capability.ts";
import type { Capabilities } from "./message/types.ts";
import type { DownReason, Negotiated } from "./session/types.ts";

const CAPABILITY = 64;

export interface NeighborGracefulRestart {
  /** It restarted and its routes are about to come again: we need not wait for its End-of-RIB. */
  restarted: boolean;
  /** RFC 8538: NOTIFICATIONs other than a hard reset do not end its forwarding. */
  notification: boolean;
  /** Seconds that it asks us to keep its routes. */
  restartTime: number;
  families: { family: Family; forwarding: boolean }[];
}

/** What the neighbour said in its OPEN; undefined = it does not take part. */
export function neighborGracefulRestart(negotiated: Pick<Negotiated, "remoteCapabilities">): NeighborGracefulRestart | undefined {
  const sent = negotiated.remoteCapabilities.find(capability => capability.code === CAPABILITY);
  if (!sent) return undefined;
  const into: Capabilities = { raw: [] };
  decodeCapability(sent.code, sent.value, into);
  if (!into.gracefulRestart) return undefined;
  const families = into.gracefulRestart.families.flatMap(({ afi, safi, forwarding }) => {
    const family = familyOf(afi, safi);
    return family ? [{ family, forwarding }] : [];
  });
  return { ...into.gracefulRestart, families };
}

/** Families whose routes are kept when the session ends like this (RFC 4724 section 4.2). */
export function familiesToKeep(restart: NeighborGracefulRestart | undefined, negotiated: Negotiated, down: DownReason): Family[] {
  if (!restart || restart.restartTime === 0 || down.notification) return [];
  return negotiated.families.filter(family => restart.families.some(entry => entry.family === family));
}

/** Families whose stale routes must go at once, now that the neighbour is back: it does not take part any more, or lost its forwarding state. */
export function familiesToDrop(restart: NeighborGracefulRestart | undefined): Family[] {
  return Families.filter(family => !restart?.families.some(entry => entry.family === family && entry.forwarding));
}

/**
 * Whether routes that we tell this neighbour lead its packets to us. Where they do not, as a reflector's with their next hops unchanged
 * (RFC 4456 section 10), no restart of ours can lose the state that forwards them.
 */
export function attractsTraffic({ asn, policies }: Pick<SpeakerConfig, "asn" | "policies">, neighbor: NeighborConfig): boolean {
  const { remoteAsn, localAsn = asn, families } = neighbor;
  if (remoteAsn !== "internal" && remoteAsn !== localAsn) return true;
  return Object.values(families).some(
    ({ nextHopSelf, exportPolicies }) =>
      nextHopSelf || exportPolicies.some(name => policies[name]?.rules.some(({ action }) => action.set?.nextHop === "self")),
  );
}
