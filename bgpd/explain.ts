/** Why a prefix is where it is: all candidates, the step that chose, the rule that rejected, who was told what, and the kernel's route. */
import type { Rtnetlink } from "../kernel/types.ts";
import { formatPrefix, isPrefix, maskAddress, type Prefix, parseAddress, parsePrefix } from "../net/address.ts";
import { FamilyTable, forwardingFamily } from "./family.ts";
import { hopsText } from "./fib/hops.ts";
import { transitTable } from "./fib/transit-rules.ts";
import type { Fib, NextHopTracker, Tunnels } from "./fib/types.ts";
import { conflictText, kernelAnswer, ownerOf } from "./kernel-answer.ts";
import type { Peer } from "./peer.ts";
import type { TraceStep } from "./policy/types.ts";
import { evaluateImport, protectionOf } from "./rib/import.ts";
import { Rejected } from "./rib/rejected.ts";
import type { Rib } from "./rib/rib.ts";
import { LOCAL_SLOT } from "./rib/slots.ts";
import type { RibTable } from "./rib/table.ts";
import type { Explanation, SendStep } from "./snapshot.ts";
import { prefixPaths, viewOf } from "./views.ts";

type PathAndView = ReturnType<typeof prefixPaths>[number];

interface Modules {
  rib: Rib;
  peers: readonly Peer[];
  fib: Fib | undefined;
  /** Absent: no kernel at all. */
  netlink: Pick<Rtnetlink, "match" | "rules"> | undefined;
  tracker: Pick<NextHopTracker, "foreignRoutes"> | undefined;
  /** Where our routes are. */
  place: { table: number; protocols: readonly number[] } | undefined;
  tunnels: Pick<Tunnels, "words"> | undefined;
  /** Of a network device; undefined where it is gone. */
  linkName(ifindex: number): string | undefined;
}

export function explain(modules: Modules, question: string): Explanation {
  const { rib } = modules;
  const byAddress = !isPrefix(question);
  const asked: Prefix = byAddress
    ? (address => ({ family: address.length === 4 ? 4 : 6, address, length: address.length * 8 }))(parseAddress(question))
    : parsePrefix(question);
  const table = rib.tables[forwardingFamily(asked.family)];
  const { id, passedOver } = find(table, asked, byAddress);
  const name = formatPrefix(asked);
  const prefix = id === 0 ? asked : table.prefixes.prefix(id);
  const paths = id === 0 ? [] : prefixPaths(rib, table, id);
  return {
    prefix: name,
    matched: id === 0 || formatPrefix(prefix) === name ? undefined : formatPrefix(prefix),
    candidates: paths.map(one => withImport(rib, table, id, one)),
    ...(id === 0 ? { decision: "no neighbour announced it and nothing here originates it" } : decisionOf(table, paths)),
    passedOver: passedOver.map(other => ({
      prefix: formatPrefix(table.prefixes.prefix(other)),
      reason: [
        ...new Set(prefixPaths(rib, table, other).map(one => `${one.view.from}: ${withImport(rib, table, other, one).reason}`)),
      ].join("; "),
    })),
    sent: id === 0 ? [] : modules.peers.flatMap(peer => sentPart(rib, table, id, peer)),
    kernel: kernelPart(modules, prefix),
    forwards: asked.length === asked.address.length * 8 ? forwardsPart(modules, asked, prefix, isLearned(table, id)) : undefined,
    protectedBy: protectionOf(rib.context, prefix),
  };
}

/**
 * The prefix that was asked for, where it has a path. Else, and for an address always, the longest that covers it and has an eligible route;
 * where none has, the longest with any path.
 */
function find(table: RibTable, asked: Prefix, byAddress: boolean): { id: number; passedOver: number[] } {
  const passedOver: number[] = [];
  for (let length = asked.length; length >= 0; length--) {
    const id = table.prefixes.findPrefix({ ...asked, address: maskAddress(asked.address, length), length });
    if (id === 0 || table.head[id] === 0) continue;
    if (table.best[id] !== 0 || (length === asked.length && !byAddress)) return { id, passedOver };
    passedOver.push(id);
  }
  const [id = 0, ...others] = passedOver;
  return { id, passedOver: others };
}

/** Whether the best route is a neighbour's, so that it belongs into the kernel. */
function isLearned(table: RibTable, id: number): boolean {
  const best = id === 0 ? 0 : table.best[id];
  return best !== 0 && table.pathSlot[best] !== LOCAL_SLOT;
}

function withImport(rib: Rib, table: RibTable, id: number, { path, view }: PathAndView): Explanation["candidates"][number] {
  const slot = rib.slots.get(table.pathSlot[path]);
  if (!slot || table.pathRaw[path] === 0 || !slot.imports[FamilyTable[table.family].name]) return view;
  const trace: TraceStep[] = [];
  const { result } = evaluateImport(rib, slot, table.family, table.pathRaw[path], table.prefixes.prefix(id), trace);
  const barred = (table.pathFlags[path] & ~Rejected.Policy) !== 0;
  if (barred) return { ...view, import: { accepted: false, decidedBy: view.reason, trace } };
  const { accepted, decidedBy, rule } = result;
  const isRejected = (table.pathFlags[path] & Rejected.Policy) !== 0;
  return { ...view, ...(isRejected && { reason: `rejected by ${decidedBy}` }), import: { accepted, decidedBy, rule, trace } };
}

function decisionOf(table: RibTable, paths: readonly PathAndView[]): Pick<Explanation, "decision" | "decidedAt"> {
  const best = paths.at(0)?.view;
  if (!best?.best) return { decision: "no eligible route" };
  const rivals = paths.filter(({ view }) => view.eligible && !view.best);
  if (rivals.length === 0) return { decision: `${best.from}: the only eligible route` };
  // The rival that came furthest tells which step decided.
  const furthest = rivals.reduce((a, b) => (table.lostAt(b.path) > table.lostAt(a.path) ? b : a)).view;
  const names = rivals.map(({ view }) => view.from).join(", ");
  return { decision: `${best.from} chosen over ${names}; last decided by: ${furthest.reason}`, decidedAt: furthest.step };
}

function sentPart(rib: Rib, table: RibTable, id: number, peer: Peer): Explanation["sent"] {
  const neighbor = peer.config.name;
  const family = FamilyTable[table.family].name;
  const withheld = (step: SendStep, reason: string): Explanation["sent"] => [{ neighbor, advertised: false, step, reason }];
  if (!peer.config.families[family]) return [];
  if (!peer.negotiated) return withheld("NotEstablished", "the session is not Established");
  const group = rib.groupOf(table.family, peer.index);
  if (!group) return withheld("FamilyNotNegotiated", `${family} was not negotiated with it`);
  const best = table.best[id];
  if (best === 0) return withheld("NoEligibleRoute", "no eligible route");
  const source = rib.slots.get(table.pathSlot[best]);
  if (source?.neighborIndex === peer.index) return withheld("IsItsSource", "the best route came from it");
  const { attributes, step, reason, rule } = group.exporter.compute(id, best, []);
  if (attributes === 0) return [{ neighbor, advertised: false, step, reason, rule }];
  const view = viewOf(rib, attributes);
  rib.attributes.release(attributes);
  const sent = group.sent.attributes[id] !== 0;
  return [{ neighbor, advertised: sent, ...(sent ? { step, reason } : { step: "Queued", reason: "queued" }), rule, attributes: view }];
}

function kernelPart({ fib, tracker, place, linkName, tunnels }: Modules, prefix: Prefix): Explanation["kernel"] {
  const others = (tracker?.foreignRoutes(prefix) ?? []).map(({ type, protocol, table, metric, hops }) => {
    const hopText = hopsText(hops, linkName);
    const words = type === "unicast" ? hopText : `${type} ${hopText}`.trim();
    return `${ownerOf(protocol, table, place)}, metric ${metric}: ${words}`;
  });
  if (!fib) return { installed: false, text: "this speaker writes no kernel routes", others };
  const entry = fib.installed(prefix);
  if (!entry) return { installed: false, text: others.length > 0 ? "not from us; others hold it" : "not in the kernel", others };
  if (entry.type === "blackhole" && entry.transit) {
    const text = `blackhole for packets of others (table ${transitTable(prefix)}): what no proxy translates is discarded; packets of this node do not meet it`;
    return { installed: true, text, others };
  }
  if (entry.type === "blackhole") return { installed: true, text: "blackhole (discards what no longer prefix takes)", others };
  const through = entry.nextHops.flatMap(hop => tunnels?.words(hop) ?? []).join(", ");
  return { installed: true, text: `${hopsText(entry.nextHops, linkName)}${through && `: ${through}`}`, others };
}

function forwardsPart(modules: Modules, asked: Prefix, matched: Prefix, learned: boolean): Explanation["forwards"] {
  const { netlink, place, linkName, fib } = modules;
  if (!netlink) return undefined;
  const answer = kernelAnswer({ netlink, linkName, place }, asked.address);
  return { ...answer, conflict: fib && learned && place ? conflictText(answer, matched, place.table) : undefined };
}
