/**
 * Graceful restart, RFC 4724: which routes of a neighbour survive the loss of its session, and what we say of ourselves in our OPEN.
 * Pure; the timers and the sweeping are the peer's (peer.ts).
 */
import type { NeighborConfig, SpeakerConfig } from "./config.ts";
import { Families, type Family, familyOf } from "./family.ts";
import type { Capabilities } from "./message/types.ts";
import type { DownReason, Negotiated } from "./session/types.ts";

/** Seconds a neighbour has to send its table again after a restart (RFC 4724 section 4.2 leaves the bound to us). */
export const STALE_ROUTES_TIME = 360;

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
export function neighborGracefulRestart({ gracefulRestart }: Capabilities): NeighborGracefulRestart | undefined {
  if (!gracefulRestart) return undefined;
  const families = gracefulRestart.families.flatMap(({ afi, safi, forwarding }) => {
    const family = familyOf(afi, safi);
    return family ? [{ family, forwarding }] : [];
  });
  return { ...gracefulRestart, families };
}

/** A neighbour's restarts, as we see them. */
export interface RestartState {
  /** "kept": it is away, and its routes are kept; "back": it is there again, and its old routes wait for the new ones. */
  readonly phase: "down" | "kept" | "up" | "back";
  /** What its last OPEN said. */
  readonly offer: NeighborGracefulRestart | undefined;
  /** Of its last session. */
  readonly families: Readonly<Partial<Record<Family, FamilyRestart>>>;
}

export interface FamilyRestart {
  /** Its End-of-RIB came: the table is in. */
  readonly complete: boolean;
  /** Routes of a session before are there. */
  readonly stale: boolean;
}

export type RestartEvent =
  | { type: "Up"; families: readonly Family[]; offer: NeighborGracefulRestart | undefined }
  | { type: "EndOfRib"; family: Family }
  | { type: "Down"; reason: Pick<DownReason, "notification"> }
  | { type: "TimerExpires" }
  /** What held the routes up is gone. */
  | { type: "Lost"; reason: string };

export type RestartAction =
  /** The session's routes go, or are kept as stale ones. */
  | { type: "End"; keep: boolean }
  /** Stale routes of these families go. */
  | { type: "Purge"; families: readonly Family[] }
  /** All stale routes go. */
  | { type: "Forget"; reason: string }
  | { type: "StartTimer"; seconds: number }
  | { type: "StopTimer" };

export const noRestart: RestartState = { phase: "down", offer: undefined, families: {} };

/** Pure, for any order of events; the timer is one, and its owner's. */
export function restart(state: RestartState, event: RestartEvent): [RestartState, RestartAction[]] {
  switch (event.type) {
    case "Up":
      return up(state, event.families, event.offer);
    case "EndOfRib":
      return endOfRib(state, event.family);
    case "Down":
      return down(state, event.reason);
    case "TimerExpires":
      if (state.phase === "kept") return forget(state, "the neighbour did not come back in time");
      return state.phase === "back" ? [withoutStale(state), [{ type: "Purge", families: Families }]] : [state, []];
    case "Lost":
      return state.phase === "kept" ? forget(state, event.reason) : [state, []];
  }
}

function up(state: RestartState, families: readonly Family[], offer: RestartState["offer"]): [RestartState, RestartAction[]] {
  const kept = state.phase === "kept";
  const dropped = familiesToDrop(offer);
  const entry = (family: Family): FamilyRestart => ({
    complete: false,
    stale: kept && state.families[family]?.stale === true && !dropped.includes(family),
  });
  const next: RestartState = {
    phase: kept ? "back" : "up",
    offer,
    families: Object.fromEntries(families.map(family => [family, entry(family)])),
  };
  if (!kept) return [next, []];
  return [next, [{ type: "StopTimer" }, { type: "Purge", families: dropped }, { type: "StartTimer", seconds: STALE_ROUTES_TIME }]];
}

function endOfRib(state: RestartState, family: Family): [RestartState, RestartAction[]] {
  if (state.phase !== "up" && state.phase !== "back") return [state, []];
  const families = { ...state.families, [family]: { complete: true, stale: false } };
  return [{ ...state, families }, state.phase === "back" ? [{ type: "Purge", families: [family] }] : []];
}

function down(state: RestartState, reason: Pick<DownReason, "notification">): [RestartState, RestartAction[]] {
  if (state.phase !== "up" && state.phase !== "back") return [state, []];
  const all = Object.keys(state.families) as Family[];
  const keep = familiesToKeep(state.offer, { families: all }, reason);
  const families = Object.fromEntries(all.map(family => [family, { complete: false, stale: keep.includes(family) }]));
  const end: RestartAction[] = [{ type: "End", keep: keep.length > 0 }, { type: "StopTimer" }];
  if (keep.length === 0) return [{ ...state, phase: "down", families }, end];
  const others = Families.filter(family => !keep.includes(family));
  const seconds = state.offer?.restartTime ?? 0;
  return [{ ...state, phase: "kept", families }, [...end, { type: "Purge", families: others }, { type: "StartTimer", seconds }]];
}

function forget(state: RestartState, reason: string): [RestartState, RestartAction[]] {
  return [{ ...withoutStale(state), phase: "down" }, [{ type: "StopTimer" }, { type: "Forget", reason }]];
}

function withoutStale(state: RestartState): RestartState {
  const entries = Object.entries(state.families).map(([family, entry]) => [family, { ...entry, stale: false }]);
  return { ...state, phase: state.phase === "back" ? "up" : state.phase, families: Object.fromEntries(entries) };
}

/**
 * It restarts itself, and may wait for our End-of-RIB before it sends its table (RFC 4724 section 4.1). Not so one that names no family:
 * it only helps others, as FRR does unless told otherwise, which says R all the same in its first two minutes.
 */
export function isRestarting({ phase, offer }: RestartState): boolean {
  return (phase === "up" || phase === "back") && offer?.restarted === true && offer.families.length > 0;
}

/** Its initial table is in. */
export function isComplete({ phase, families }: RestartState): boolean {
  return (phase === "up" || phase === "back") && Object.values(families).every(({ complete }) => complete);
}

/** Families whose routes are kept when the session ends like this (RFC 4724 section 4.2). */
export function familiesToKeep(
  offer: NeighborGracefulRestart | undefined,
  negotiated: Pick<Negotiated, "families">,
  down: Pick<DownReason, "notification">,
): Family[] {
  if (!offer || offer.restartTime === 0 || down.notification) return [];
  return negotiated.families.filter(family => offer.families.some(entry => entry.family === family));
}

/** Families whose stale routes must go at once, now that the neighbour is back: it does not take part any more, or lost its forwarding state. */
export function familiesToDrop(offer: NeighborGracefulRestart | undefined): Family[] {
  return Families.filter(family => !offer?.families.some(entry => entry.family === family && entry.forwarding));
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
