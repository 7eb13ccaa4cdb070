/** The RIB as people read it: objects with names, made only when somebody asks. */
import { formatAddress, formatPrefix } from "../net/address.ts";
import { hexOf } from "../net/octets.ts";
import type { RouteKind } from "./config.ts";
import { Families, FamilyTable, familyIndex } from "./family.ts";
import { describeCapability } from "./message/capability.ts";
import { attributesView, formatId } from "./message/format.ts";
import type { AttributesView } from "./message/types.ts";
import type { Peer } from "./peer.ts";
import { Step } from "./rib/decision.ts";
import { protectionOf } from "./rib/import.ts";
import { Rejected, type RejectedReason } from "./rib/rejected.ts";
import type { Rib } from "./rib/rib.ts";
import { LOCAL_SLOT, type RejectedCounts } from "./rib/slots.ts";
import type { RibTable } from "./rib/table.ts";
import type { NeighborSnapshot, RouteView, SpeakerSnapshot } from "./snapshot.ts";

export function tableCounts(rib: Rib): SpeakerSnapshot["tables"] {
  const count = (table: RibTable) => ({ prefixes: table.prefixes.size, paths: table.pathCount, best: table.bestCount });
  return Object.fromEntries(Families.map(family => [family, count(rib.tables[familyIndex(family)])])) as SpeakerSnapshot["tables"];
}

export function neighborSnapshot(peer: Peer, rib: Rib): NeighborSnapshot {
  const { config, negotiated } = peer;
  const session = peer.session.snapshot();
  const families: NeighborSnapshot["families"] = {};
  for (const family of Families) {
    const settings = config.families[family];
    if (!settings) continue;
    const f = familyIndex(family);
    const group = rib.groupOf(f, peer.index);
    const received = peer.slot?.paths[f] ?? 0;
    const accepted = peer.slot?.accepted[f] ?? 0;
    families[family] = {
      received,
      accepted,
      rejected: received - accepted,
      rejectedBecause: rejectedCounts(peer.slot?.rejected[f]),
      sent: group?.sent.countOf(peer.index) ?? 0,
      tooLarge: group?.tooLarge(peer.index).length || undefined,
      endOfRib: peer.hasEndOfRib(family),
      prefixLimit: settings.prefixLimit,
      receivedLimit: settings.receivedLimit || undefined,
    };
  }
  const down = session.lastDown;
  return {
    name: config.name,
    source: config.source,
    description: config.description,
    address: config.address,
    interface: config.interface,
    asn: negotiated?.remoteAsn ?? config.remoteAsn,
    localAsn: peer.localAsn,
    internal: negotiated?.internal,
    routerId: negotiated ? formatId(negotiated.remoteId) : undefined,
    state: session.state,
    reason: session.reason,
    since: new Date(session.since).toISOString(),
    downSince: peer.downSince && new Date(peer.downSince.since).toISOString(),
    shutdown: config.shutdown ? true : undefined,
    nextAttempt: session.nextAttempt === undefined ? undefined : new Date(session.nextAttempt).toISOString(),
    lastDown: down && {
      at: new Date(down.at).toISOString(),
      text: down.text,
      code: down.notification?.code,
      subcode: down.notification?.subcode,
      direction: down.notification?.direction,
      offending: down.offending && hexOf(down.offending),
    },
    holdTime: negotiated?.holdTime,
    keepaliveTime: negotiated?.keepaliveTime,
    localAddress: negotiated ? formatAddress(negotiated.localAddress) : config.localAddress,
    capabilities: negotiated?.remoteCapabilities.raw.map(describeCapability),
    families,
    attributeOctets: peer.slot && rib.attributes.octetsOf(peer.slot.serial),
    attributeOctetsLimit: config.attributeOctetsLimit || undefined,
    refused: peer.slot?.refused || undefined,
    counters: session.counters,
    malformed: peer.malformed.snapshot(),
  };
}

function rejectedCounts(counts: RejectedCounts = {}): RejectedCounts | undefined {
  const found = Object.entries(counts).filter(([, amount]) => amount > 0);
  return found.length > 0 ? Object.fromEntries(found) : undefined;
}

type LosingStep = Exclude<keyof typeof Step, "Ineligible" | "Won">;

/** For a route that lost at the step. */
const stepWords: Record<LosingStep, string> = {
  Local: "a local route is preferred",
  LocalPref: "lower local preference",
  AsPathLength: "longer AS path",
  Origin: "worse origin",
  Med: "higher MED from the same neighbouring AS",
  External: "external is preferred over internal",
  InteriorCost: "higher interior cost to the next hop",
  Age: "younger external route",
  RouterId: "higher router id",
  ClusterList: "longer cluster list",
  Address: "higher neighbour address",
};
/** Whose places are their numbers. */
const stepNames = Object.keys(Step) as (keyof typeof Step)[];

/** The candidates for a prefix, the best first, each with its path in the table. */
export function prefixPaths(rib: Rib, table: RibTable, prefix: number): { path: number; view: RouteView }[] {
  const best = table.evaluate(prefix);
  const carriers = best === 0 ? [] : table.multipathSet(best);
  const found: { path: number; view: RouteView }[] = [];
  const only = table.pathNext[table.head[prefix]] === 0;
  for (let path = table.head[prefix]; path !== 0; path = table.pathNext[path]) {
    const multipath = carriers.length > 1 && carriers.includes(path);
    found.push({ path, view: pathView(rib, table, path, { best: path === best, only, multipath }) });
  }
  return found.sort((a, b) => Number(b.view.best) - Number(a.view.best) || Number(b.view.eligible) - Number(a.view.eligible));
}

export function prefixViews(rib: Rib, table: RibTable, prefix: number): RouteView[] {
  return prefixPaths(rib, table, prefix).map(({ view }) => view);
}

interface Place {
  best: boolean;
  /** There is no other route to the prefix. */
  only: boolean;
  multipath: boolean;
}

/** How the path fared, and why. */
function standing(rib: Rib, table: RibTable, path: number, { best, only, multipath }: Place): Pick<RouteView, "step" | "reason"> {
  const tunnel = best || multipath ? tunnelOf(rib, table, path) : "";
  if (best) return only ? { step: "OnlyRoute", reason: `only route${tunnel}` } : { step: "Best", reason: `best${tunnel}` };
  if (!table.isEligible(path)) return ineligibility(rib, table, path);
  const step = stepNames[table.lostAt(path)] as LosingStep;
  return { step, reason: `${stepWords[step]}${multipath ? `, shares the load${tunnel}` : ""}` };
}

/** ", through the tunnel to node n2". */
function tunnelOf(rib: Rib, table: RibTable, path: number): string {
  if (table.pathSlot[path] === LOCAL_SLOT || !FamilyTable[table.family].forwards) return "";
  const words = rib.tunnelWords(table.prefixes.prefix(table.pathPrefix[path]), rib.attributes.nextHop[table.pathAttributes[path]]);
  return words ? `, ${words}` : "";
}

function pathView(rib: Rib, table: RibTable, path: number, place: Place): RouteView {
  const network = table.pathSlot[path] === LOCAL_SLOT ? rib.locals[table.family].network(path) : undefined;
  return {
    prefix: formatPrefix(table.prefixes.prefix(table.pathPrefix[path])),
    family: FamilyTable[table.family].name,
    kind: network?.kind ?? ("learned" satisfies RouteKind),
    from: sourceOf(rib, table, path),
    best: place.best,
    multipath: place.multipath,
    eligible: table.isEligible(path),
    ...standing(rib, table, path, place),
    attributes: viewOf(rib, table.pathAttributes[path] || table.pathRaw[path]),
    since: new Date(rib.learnedAt(table.pathTime[path])).toISOString(),
  };
}

/** Neighbour name, or the object that a local route comes from. */
export function sourceOf(rib: Rib, table: RibTable, path: number): string {
  const slotId = table.pathSlot[path];
  const name = slotId === LOCAL_SLOT ? rib.locals[table.family].network(path)?.source : rib.slots.get(slotId)?.neighbor;
  return name ?? "?";
}

/** Why a path takes no part in the decision. */
export function ineligibility(rib: Rib, table: RibTable, path: number): Pick<RouteView, "step" | "reason"> {
  const flags = table.pathFlags[path];
  const step = told.find(name => flags & Rejected[name]);
  if (step) return { step, reason: rejectionWords[step](rib, table, path) };
  if (rib.slots.get(table.pathSlot[path])?.state === "dead") return { step: "SessionGone", reason: "its session is gone" };
  const resolution = rib.nextHops.resolution(rib.attributes.nextHop[table.pathAttributes[path]]);
  if (resolution?.reachable)
    return { step: "NextHopThroughItself", reason: `next hop only reachable through this route itself: ${resolution.reason}` };
  return { step: "NextHopUnreachable", reason: `next hop unreachable: ${resolution?.reason ?? "no route"}` };
}

/** Of several, the first is told. */
const told = [
  "AsLoop",
  "ReflectionLoop",
  "Protected",
  "Origin",
  "Originator",
  "TooLarge",
  "AsSet",
  "EmptyPath",
  "FirstAs",
  "Policy",
] as const satisfies RejectedReason[];

const rejectionWords: Record<RejectedReason, (rib: Rib, table: RibTable, path: number) => string> = {
  AsLoop: () => "our own AS is in its AS path",
  ReflectionLoop: () => "reflected back to us (ORIGINATOR_ID or CLUSTER_LIST is ours)",
  Protected: (rib, table, path) =>
    `protected prefix: ${protectionOf(rib.context, table.prefixes.prefix(table.pathPrefix[path])) ?? "no policy names it"}`,
  Origin: foreignOrigin,
  Originator: foreignOrigin,
  TooLarge: () => "too large: import policy makes an attribute longer than 65535 octets",
  AsSet: () => "an AS_SET in its AS path (RFC 9774); allowASSets would take it",
  EmptyPath: () => "an empty AS path, from an external neighbour",
  FirstAs(rib, table, path) {
    const wanted = rib.slots.get(table.pathSlot[path])?.imports[FamilyTable[table.family].name]?.firstAs;
    return `its AS path does not begin with ${wanted || "the neighbour's AS"}, as that of an external neighbour's route does; a route server needs enforceFirstAS: false`;
  },
  Policy: () => "rejected by import policy",
};

function foreignOrigin(rib: Rib, table: RibTable, path: number): string {
  const slot = rib.slots.get(table.pathSlot[path]);
  const prefix = table.prefixes.prefix(table.pathPrefix[path]);
  return `not the neighbour's to announce: ${slot ? rib.context.origins.describe(slot, prefix, table.pathRaw[path]) : "its session is gone"}`;
}

export function viewOf(rib: Rib, attributes: number): AttributesView {
  return attributesView(rib.attributes.parse(attributes));
}

export function sentRoutes(
  peer: Peer,
  rib: Rib,
  limit: number,
): { routes: { prefix: string; attributes: AttributesView }[]; total: number } {
  const routes: { prefix: string; attributes: AttributesView }[] = [];
  let total = 0;
  for (const table of rib.tables) {
    const group = rib.groupOf(table.family, peer.index);
    if (!group) continue;
    const held = group.heldBy(peer.index);
    for (let prefix = 1; prefix < table.prefixes.limit; prefix++) {
      if (!held[prefix]) continue;
      total++;
      if (routes.length < limit) {
        routes.push({ prefix: formatPrefix(table.prefixes.prefix(prefix)), attributes: viewOf(rib, group.sent.attributes[prefix]) });
      }
    }
  }
  return { routes, total };
}
