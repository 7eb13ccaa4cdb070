/** Why a prefix is where it is: all candidates, the step that chose, the rule that rejected, who was told what, and the kernel's route. */
import { formatAddress, formatPrefix, isPrefix, maskAddress, type Prefix, parseAddress, parsePrefix } from "../net/address.ts";
import { Families } from "./config.ts";
import type { Fib } from "./fib/types.ts";
import type { Peer } from "./peer.ts";
import type { TraceStep } from "./policy/types.ts";
import { DecisionSteps } from "./rib/decision.ts";
import { evaluateImport, protectionOf } from "./rib/import.ts";
import type { Rib } from "./rib/rib.ts";
import { Rejected, type RibTable } from "./rib/table.ts";
import type { Explanation, RouteView } from "./snapshot.ts";
import { prefixViews, viewOf } from "./views.ts";

interface Modules {
  rib: Rib;
  peers: readonly Peer[];
  fib: Fib | undefined;
  /** Of a network device; undefined where it is gone. */
  linkName(ifindex: number): string | undefined;
}

export function explain(modules: Modules, question: string): Explanation {
  const { rib } = modules;
  const asked: Prefix = isPrefix(question)
    ? parsePrefix(question)
    : (address => ({ family: address.length === 4 ? 4 : 6, address, length: address.length * 8 }))(parseAddress(question));
  const table = rib.tables[asked.family === 4 ? 0 : 1];
  const id = find(table, asked);
  const name = formatPrefix(asked);
  if (id === 0) {
    return {
      prefix: name,
      matched: undefined,
      candidates: [],
      decision: "no neighbour announced it and nothing here originates it",
      sent: [],
      kernel: kernelPart(modules, asked),
      protectedBy: protectionOf(rib.context, asked),
    };
  }
  const prefix = table.prefixes.prefix(id);
  const views = prefixViews(rib, table, id);
  return {
    prefix: name,
    matched: formatPrefix(prefix) === name ? undefined : formatPrefix(prefix),
    candidates: views.map(view => withImport(rib, table, id, view)),
    decision: decisionText(views),
    sent: modules.peers.flatMap(peer => sentPart(rib, table, id, peer)),
    kernel: kernelPart(modules, prefix),
    protectedBy: protectionOf(rib.context, prefix),
  };
}

/** The prefix itself, else the longest one with a path that covers it. */
function find(table: RibTable, asked: Prefix): number {
  const exact = table.prefixes.findPrefix(asked);
  if (exact !== 0 && table.head[exact] !== 0) return exact;
  for (let length = asked.length - 1; length >= 0; length--) {
    const id = table.prefixes.findPrefix({ ...asked, address: maskAddress(asked.address, length), length });
    if (id !== 0 && table.head[id] !== 0) return id;
  }
  return 0;
}

function withImport(rib: Rib, table: RibTable, id: number, view: RouteView): Explanation["candidates"][number] {
  for (let path = table.head[id]; path !== 0; path = table.pathNext[path]) {
    const slot = rib.slots.get(table.pathSlot[path]);
    if (!slot || slot.neighbor !== view.from || table.pathRaw[path] === 0 || !slot.imports[Families[table.family]]) continue;
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
  const family = Families[table.family];
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
  const sent = group.sentAttributes[id] !== 0;
  return [{ neighbor, advertised: sent, reason: sent ? reason : "queued", attributes: view }];
}

function kernelPart({ fib, linkName }: Modules, prefix: Prefix): Explanation["kernel"] {
  if (!fib) return { installed: false, text: "this speaker writes no kernel routes" };
  const entry = fib.installed(prefix);
  if (!entry) return { installed: false, text: "not in the kernel from us" };
  if (entry.type === "blackhole") return { installed: true, text: "blackhole (discards what no longer prefix takes)" };
  const hops = entry.nextHops.map(
    hop => `${hop.gateway ? `via ${formatAddress(hop.gateway)} ` : ""}dev ${linkName(hop.ifindex) ?? `#${hop.ifindex}`}`,
  );
  return { installed: true, text: hops.join(", ") };
}
