/** What a speaker counts, as numbers alone: for metrics, which are asked for often. */
import { Families, type Family, type FamilyIndex, familyIndex } from "./family.ts";
import type { Peer } from "./peer.ts";
import type { Rib } from "./rib/rib.ts";
import type { SessionTotals } from "./session/totals.ts";
import type { SpeakerCounters } from "./snapshot.ts";

export function speakerCounters(peers: Iterable<Peer>, rib: Rib, totals: SessionTotals): SpeakerCounters {
  const byFamily = (count: (family: FamilyIndex) => number) =>
    Object.fromEntries(Families.map(family => [family, count(familyIndex(family))])) as Record<Family, number>;
  return {
    sessions: totals.sum([...peers].map(peer => peer.session.counters)),
    entered: { ...totals.entered },
    ends: totals.ends(),
    undecided: byFamily(f => rib.tables[f].pending),
    unsent: byFamily(f => [...rib.groups[f].values()].reduce((sum, group) => sum + group.pending, 0)),
  };
}
