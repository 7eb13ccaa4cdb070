/** What a speaker counts, as numbers alone: for metrics, which are asked for often. */
import { Families, type Family, type FamilyIndex, familyIndex } from "./family.ts";
import type { Peer } from "./peer.ts";
import type { Rib } from "./rib/rib.ts";
import type { SessionTotals } from "./session/totals.ts";
import { SessionStates } from "./session/types.ts";
import type { SpeakerCounters } from "./snapshot.ts";

export function speakerCounters(peers: readonly Peer[], rib: Rib, totals: SessionTotals): SpeakerCounters {
  const byFamily = (count: (family: FamilyIndex) => number) =>
    Object.fromEntries(Families.map(family => [family, count(familyIndex(family))])) as Record<Family, number>;
  const states = Object.fromEntries(SessionStates.map(state => [state, 0])) as SpeakerCounters["states"];
  for (const { session } of peers) states[session.state]++;
  return {
    sessions: totals.sum(peers.map(({ session }) => session.counters)),
    states,
    entered: { ...totals.entered },
    ends: totals.ends(),
    undecided: byFamily(f => rib.tables[f].pending),
    unsent: byFamily(f => [...rib.groups[f].values()].reduce((sum, group) => sum + group.pending, 0)),
  };
}
