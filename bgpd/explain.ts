/** Why a prefix is where it is: all candidates, the step that chose, the rule that rejected, who was told what, and the kernel's route. */
import type { Rtnetlink } from "../kernel/types.ts";
import { formatPrefix, isPrefix, maskAddress, type Prefix, parseAddress, parsePrefix } from "../net/address.ts";
import { FamilyTable, forwardingFamily } from "./family.ts";
import { hopsText } from "./fib/hops.ts";
import type { Fib, NextHopTracker } from "./fib/types.ts";
import { conflictText, kernelAnswer, ownerOf } from "./kernel-answer.ts";
import type { Peer } from "./peer.ts";
import type { TraceStep } from "./policy/types.ts";
import { DecisionSteps } from "./rib/decision.ts";
import { evaluateImport, protectionOf } from "./rib/import.ts";
import { Rejected } from "./rib/rejected.ts";
import type { Rib } from "./rib/rib.ts";
import { LOCAL_SLOT } from "./rib/slots.ts";
import type { RibTable } from "./rib/table.ts";
import type { Explanation, RouteView } from "./snapshot.ts";
import { prefixViews, viewOf } from "./views.ts";

interface Modules {
  rib: Rib;
  peers: readonly Peer[];
  fib: Fib | undefined;
  /** Absent: no kernel at all. */
  netlink: Pick<Rtnetlink, "match" | "rules"> | undefined;
  tracker: Pick<NextHopTracker, "foreignRoutes"> | undefined;
  /** Where our routes are. */
  place: { table: number; protocols: readonly number[] } | undefined;
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
  const views = id === 0 ? [] : prefixViews(rib, table, id);
  return {
    prefix: name,
    matched: id === 0 || formatPrefix(prefix) === name ? undefined : formatPrefix(prefix),
    candidates: views.map(view => withImport(rib, table, id, view)),
    decision: id === 0 ? "no neighbour announced it and nothing here originates it" : decisionText(views),
    passedOver: passedOver.map(other => ({
      prefix: formatPrefix(table.prefixes.prefix(other)),
      reason: [...new Set(prefixViews(rib, table, other).map(view => `${view.from}: ${withImport(rib, table, other, view).reason}`))].join(
        "; ",
      ),
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

function withImport(rib: Rib, table: RibTable, id: number, view: RouteView): Explanation["candidates"][number] {
  for (let path = table.head[id]; path !== 0; path = table.pathNext[path]) {
    const slot = rib.slots.get(table.pathSlot[path]);
    if (!slot || slot.neighbor !== view.from || table.pathRaw[path] === 0 || !slot.imports[FamilyTable[table.family].name]) continue;
    const trace: TraceStep[] = [];
    const { result } = evaluateImport(rib, slot, table.family, table.pathRaw[path], table.prefixes.prefix(id), trace);
    const barred = (table.pathFlags[path] & ~Rejected.Policy) !== 0;
    const policyText = (table.pathFlags[path] & Rejected.Policy) !== 0 ? `rejected by ${result.decidedBy}` : view.reason;
    return {
      ...view,
      reason: barred ? view.reason : policyText,
      import: { accepted: result.accepted && !barred, decidedBy: barred ? view.reason : result.decidedBy, trace },
    };
  }
  return view;
}

function decisionText(views: RouteView[]): string {
  const [best, next] = views;
  if (!best?.best) return "no eligible route";
  const rivals = views.filter(view => view.eligible && !view.best);
  if (rivals.length === 0) return `${best.from}: the only eligible route`;
  // The rival that came furthest tells which step decided.
  const furthest = rivals.reduce((a, b) => (stepOf(b) > stepOf(a) ? b : a), next);
  return `${best.from} chosen over ${rivals.map(view => view.from).join(", ")}; last decided by: ${furthest.reason}`;
}

function stepOf(view: RouteView): number {
  return DecisionSteps.findIndex(text => view.reason.startsWith(text));
}

function sentPart(rib: Rib, table: RibTable, id: number, peer: Peer): Explanation["sent"] {
  const neighbor = peer.config.name;
  const family = FamilyTable[table.family].name;
  if (!peer.config.families[family]) return [];
  if (!peer.negotiated) return [{ neighbor, advertised: false, reason: "the session is not Established" }];
  const group = rib.groupOf(table.family, peer.index);
  if (!group) return [{ neighbor, advertised: false, reason: `${family} was not negotiated with it` }];
  const best = table.best[id];
  if (best === 0) return [{ neighbor, advertised: false, reason: "no eligible route" }];
  const source = rib.slots.get(table.pathSlot[best]);
  if (source?.neighborIndex === peer.index) return [{ neighbor, advertised: false, reason: "the best route came from it" }];
  const { attributes, reason } = group.exporter.compute(id, best, []);
  if (attributes === 0) return [{ neighbor, advertised: false, reason }];
  const view = viewOf(rib, attributes);
  rib.attributes.release(attributes);
  const sent = group.sent.attributes[id] !== 0;
  return [{ neighbor, advertised: sent, reason: sent ? reason : "queued", attributes: view }];
}

function kernelPart({ fib, tracker, place, linkName }: Modules, prefix: Prefix): Explanation["kernel"] {
  const others = (tracker?.foreignRoutes(prefix) ?? []).map(({ type, protocol, table, metric, hops }) => {
    const hopText = hopsText(hops, linkName);
    const words = type === "unicast" ? hopText : `${type} ${hopText}`.trim();
    return `${ownerOf(protocol, table, place)}, metric ${metric}: ${words}`;
  });
  if (!fib) return { installed: false, text: "this speaker writes no kernel routes", others };
  const entry = fib.installed(prefix);
  if (!entry) return { installed: false, text: others.length > 0 ? "not from us; others hold it" : "not in the kernel", others };
  if (entry.type === "blackhole") return { installed: true, text: "blackhole (discards what no longer prefix takes)", others };
  return { installed: true, text: hopsText(entry.nextHops, linkName), others };
}

function forwardsPart(modules: Modules, asked: Prefix, matched: Prefix, learned: boolean): Explanation["forwards"] {
  const { netlink, place, linkName, fib } = modules;
  if (!netlink) return undefined;
  const answer = kernelAnswer({ netlink, linkName, place }, asked.address);
  return { ...answer, conflict: fib && learned && place ? conflictText(answer, matched, place.table) : undefined };
}
