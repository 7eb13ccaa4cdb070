/** What is wrong with next hops while the speaker runs: ours towards a neighbour, and those that neighbours gave us. */

import { formatAddress, formatPrefix, parsePrefix } from "../net/address.ts";
import { Families, type Family, type FamilyIndex, familyIndex } from "./family.ts";
import type { Peer } from "./peer.ts";
import type { Rib } from "./rib/rib.ts";
import type { SpeakerProblem } from "./snapshot.ts";
import { ineligibility } from "./views.ts";

/** Prefixes that a problem names, at most. */
const NAMED = 3;

export function nextHopProblems(peer: Peer, rib: Rib): SpeakerProblem[] {
  const object = peer.config.source ?? peer.config.name;
  const found = Families.flatMap(family => [...ownProblems(peer, rib, family), ...unreachableProblems(peer, rib, family)]);
  return found.map(problem => ({ ...problem, object }));
}

type Finding = Omit<SpeakerProblem, "object">;

/** Routes of ours that the neighbour does not hear, because we have no address to put into NEXT_HOP. */
function ownProblems(peer: Peer, rib: Rib, family: Family): Finding[] {
  const obstacle = peer.nextHopObstacle(family);
  if (obstacle === undefined) return [];
  const prefixes = withoutNextHop(peer, rib, familyIndex(family));
  if (prefixes.length === 0) return [];
  const more = prefixes.length > NAMED ? ` and ${prefixes.length - NAMED} more` : "";
  const message = `${prefixes.slice(0, NAMED).join(", ")}${more} not announced to ${peer.config.name}: ${obstacle}`;
  const remedy = "give it one, which is used at once, or set a next hop in the export policy of this neighbour";
  return [{ severity: "error", reason: "NoOwnNextHop", field: `export (${family})`, message, remedy }];
}

/** Routes of the neighbour that are accepted, but not used, as nothing leads to their next hops. */
function unreachableProblems({ config, slot }: Peer, rib: Rib, family: Family): Finding[] {
  const f = familyIndex(family);
  const count = slot?.unreachable[f] ?? 0;
  if (!slot || count === 0) return [];
  const table = rib.tables[f];
  const path = table.findUnreachable(slot.id);
  if (path < 0) return [];
  const prefix = formatPrefix(table.prefixes.prefix(table.pathPrefix[path]));
  const { nextHop } = rib.attributes.parse(table.pathAttributes[path]);
  const example = `${prefix} by ${formatAddress(nextHop.subarray(0, 16))}: ${ineligibility(rib, table, path).reason}`;
  const message = `${count} of ${slot.accepted[f]} ${family} routes of ${config.name} have a next hop that cannot be reached, such as ${example}`;
  const remedy = "add a route to the next hop or let the neighbour tell one, or have it put its own address there (next-hop-self)";
  return [{ severity: "warning", reason: "NextHopUnreachable", field: `import (${family})`, message, remedy }];
}

function withoutNextHop(peer: Peer, rib: Rib, f: FamilyIndex): string[] {
  const table = rib.tables[f];
  const exporter = rib.groupOf(f, peer.index)?.exporter;
  return rib.locals[f].prefixes().filter(text => {
    const id = table.prefixes.findPrefix(parsePrefix(text));
    if (!exporter || table.best[id] === 0) return false;
    const { attributes, step } = exporter.compute(id, table.best[id]);
    if (attributes !== 0) rib.attributes.release(attributes);
    return step === "NoOwnNextHop";
  });
}
