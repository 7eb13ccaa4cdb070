/** Sessions that stay down: after the hold time nobody can say any more that they are just coming up. Each with the reason, many with one reason together. */
import type { NeighborConfig } from "./config.ts";
import type { Peer } from "./peer.ts";
import type { SpeakerProblem } from "./snapshot.ts";

/** Seconds, where a neighbour has no hold time. */
const PATIENCE = 90;
/** From so many sessions on that are down for one reason they are one problem. */
const MANY = 4;
const NAMED = 3;

/** Wanted, and without a session for longer than its hold time. `now`: monotonic milliseconds. */
export function isOverdue({ config, downSince }: Peer, now: number): boolean {
  return downSince !== undefined && !config.shutdown && now - downSince.at >= 1000 * (config.holdTime || PATIENCE);
}

export function downProblems(peers: readonly Peer[], now: number): SpeakerProblem[] {
  const byReason = new Map<string, Peer[]>();
  for (const peer of peers) {
    // One that was closed by its limit is a problem of its own.
    if (!isOverdue(peer, now) || peer.overLimit) continue;
    const reason = reasonOf(peer).replaceAll(peer.config.address, "ADDRESS");
    byReason.set(reason, [...(byReason.get(reason) ?? []), peer]);
  }
  return [...byReason.values()].flatMap(alike => (alike.length < MANY ? alike.map(single) : [together(alike)]));
}

const remedy = (name: string, verb: string) =>
  `podlane peer ${name} shows the attempts; shutdown: true on a neighbour says that ${verb} meant`;

function single(peer: Peer): SpeakerProblem {
  const { config } = peer;
  return {
    severity: "error",
    reason: "SessionDown",
    object: config.source ?? config.name,
    field: "session",
    message: `no session with ${neighborText(config)} since ${sinceOf(peer)}: ${reasonOf(peer)}`,
    remedy: remedy(config.name, "this is"),
  };
}

function together(peers: readonly Peer[]): SpeakerProblem {
  const names = peers.map(({ config }) => config.name);
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
  const [first] = peers;
  return {
    severity: "error",
    reason: "SessionDown",
    object: "speaker",
    field: "sessions",
    message: `no session with ${peers.length} neighbours, ${names.slice(0, NAMED).join(", ")}${more}; with ${neighborText(first.config)} since ${sinceOf(first)}: ${reasonOf(first)}`,
    remedy: remedy(first.config.name, "they are"),
  };
}

function neighborText({ name, address }: NeighborConfig): string {
  return name === address ? name : `${name} (${address})`;
}

/** The moment, not how long ago: the text is the same at each look. */
function sinceOf({ downSince }: Peer): string {
  return new Date(downSince?.since ?? 0).toISOString();
}

/** What ended the session or the last attempt that told something; while there was none, what it waits for. */
function reasonOf({ session }: Peer): string {
  const { lastDown, reason } = session.snapshot();
  return lastDown?.text ?? reason;
}
