/** Sessions with what each step adds to them: the neighbours as the speaker is told them. */
import type { NeighborConfig, OriginRole } from "../../bgpd/config.ts";
import type { ResolvedPeer } from "./context.ts";
import type { FamilyConfig, Session } from "./sessions.ts";

/** Names of policies by the family that they are for. Sessions of one kind share the family, and so the lists. */
export type Lists = Map<FamilyConfig, { importPolicies: string[]; exportPolicies: string[] }>;

export interface Additions {
  lists: Lists;
  /** Objects whose routes a Peer hears, or, of undefined, the mesh. */
  hears: ReadonlyMap<ResolvedPeer | undefined, string[]>;
  /** Absent: nobody's origins are looked at. */
  roleOf?: (session: Session) => OriginRole;
}

export function completeNeighbors(sessions: readonly Session[], { lists, hears, roleOf }: Additions): NeighborConfig[] {
  const completed = new Map<Session["neighbor"]["families"], NeighborConfig["families"]>();
  return sessions.map(session => {
    const { neighbor, peer } = session;
    let families = completed.get(neighbor.families);
    if (!families) {
      const entries = Object.entries(neighbor.families).map(([family, config]) => [family, { ...config, ...lists.get(config) }]);
      families = Object.fromEntries(entries) as NeighborConfig["families"];
      completed.set(neighbor.families, families);
    }
    const heard = hears.get(peer);
    const whole: NeighborConfig = { ...neighbor, families };
    if (heard) whole.hears = heard;
    if (roleOf) whole.origin = roleOf(session);
    return whole;
  });
}
