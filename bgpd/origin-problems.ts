/** Neighbours that announce what is not theirs: a node of the mesh beyond what it may originate, or an outsider pod subnets of nodes. */
import { formatPrefix } from "../net/address.ts";
import { FamilyIndexes, FamilyTable } from "./family.ts";
import type { Peer } from "./peer.ts";
import { Rejected } from "./rib/rejected.ts";
import type { Rib } from "./rib/rib.ts";
import type { SpeakerProblem } from "./snapshot.ts";
import { ineligibility } from "./views.ts";

/** One for each family, with an example in which both sides have their names. */
export function originProblems({ config, slot }: Peer, rib: Rib): SpeakerProblem[] {
  return FamilyIndexes.flatMap(f => {
    const family = FamilyTable[f].name;
    const { Origin = 0, Originator = 0 } = slot?.rejected[f] ?? {};
    const table = rib.tables[f];
    const path = slot && Origin + Originator > 0 ? table.findRejected(slot.id, Rejected.Origin | Rejected.Originator) : -1;
    if (path < 0) return [];
    const example = `${formatPrefix(table.prefixes.prefix(table.pathPrefix[path]))}: ${ineligibility(rib, table, path).reason}`;
    const outside = config.origin === "outside";
    return {
      severity: outside ? "error" : "warning",
      reason: "OriginRefused",
      object: config.source ?? config.name,
      field: `import (${family})`,
      message: `${Origin + Originator} ${family} routes of ${config.name} are refused, such as ${example}`,
      remedy: outside
        ? "find out why the neighbour announces pods of this cluster; spec.mesh.trust: Any of the Fabric believes it"
        : "find out why the node announces them, or allow them by spec.mesh.accept of the Fabric (trust: Any allows everything)",
    } satisfies SpeakerProblem;
  });
}
