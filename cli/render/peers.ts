/** `podlane peers` and `podlane peer NAME`. */
import type { NeighborSnapshot, RejectedReason } from "../../bgpd/snapshot.ts";
import { count, duration, type Paint, printable, type Tone } from "./paint.ts";
import { compareNames, pairs, table } from "./table.ts";

/** Milliseconds since the epoch; given, so that output can be tested. */
type Now = number;

export function renderPeers(peers: readonly NeighborSnapshot[], now: Now, paint: Paint): string {
  if (peers.length === 0) return "no neighbours are configured\n";
  const lines = table(
    [...peers].sort((a, b) => compareNames(a.name, b.name)),
    [
      { title: "NEIGHBOR", text: peer => peer.name, tone: () => "strong" },
      { title: "ADDRESS", text: addressOf },
      { title: "AS", align: "right", text: peer => String(peer.asn) },
      { title: "STATE", text: peer => peer.state, tone: stateTone },
      { title: "FOR", align: "right", text: peer => duration(now - Date.parse(peer.since)) },
      { title: "RECEIVED", align: "right", text: peer => sum(peer, "received") },
      { title: "ACCEPTED", align: "right", text: peer => sum(peer, "accepted") },
      { title: "SENT", align: "right", text: peer => sum(peer, "sent") },
      { title: "REASON", text: reasonOf, tone: () => "dim" },
    ],
    paint,
  );
  return `${lines.join("\n")}\n`;
}

export function renderPeer(peer: NeighborSnapshot, now: Now, paint: Paint): string {
  const { lastDown, malformed } = peer;
  const tooLarge = Object.values(peer.families).reduce((total, family) => total + (family.tooLarge ?? 0), 0);
  const kind = peer.internal === undefined ? "" : peer.internal ? " (internal)" : " (external)";
  const lines = [
    `${paint("strong", printable(peer.name))}  ${addressOf(peer)}  AS ${peer.asn}${kind}`,
    "",
    ...pairs(
      [
        ["state", `${paint(stateTone(peer), peer.state)} for ${duration(now - Date.parse(peer.since))}`],
        ["reason", printable(peer.reason)],
        ["next attempt", peer.nextAttempt && inFuture(Date.parse(peer.nextAttempt) - now)],
        ["from", peer.source],
        ["description", peer.description && printable(peer.description)],
        ["local", [peer.localAddress, `AS ${peer.localAsn}`].filter(Boolean).join("  ")],
        ["router id", peer.routerId],
        ["timers", peer.holdTime === undefined ? undefined : `hold ${peer.holdTime} s, keepalive ${peer.keepaliveTime ?? 0} s`],
        ["capabilities", peer.capabilities?.map(printable).join(", ")],
        ["last down", lastDown && `${lastDown.at}  ${printable(lastDown.text)}`],
        ["notification", lastDown?.code === undefined ? undefined : `${lastDown.direction} ${lastDown.code}/${lastDown.subcode ?? 0}`],
        ["offending", lastDown?.offending && wrapHex(lastDown.offending)],
        ["too large", tooLarge === 0 ? undefined : `${count(tooLarge)} routes are not sent: no message holds them with their attributes`],
        ["rejected", rejections(peer)],
        ["not kept", peer.refused === undefined ? undefined : `${count(peer.refused)} routes, beyond a limit`],
        ["attributes", attributeOctets(peer)],
        ["malformed", malformed && `${count(malformed.withdrawn)} UPDATEs withdrawn, ${count(malformed.discarded)} attributes discarded`],
        ["last", malformed && `${malformed.last.at}  ${printable(malformed.last.text)}`],
        ["octets", malformed && wrapHex(malformed.last.offending)],
      ],
      paint,
      "  ",
    ),
    ...blankBefore(
      table(
        Object.entries(peer.families),
        [
          { title: "FAMILY", text: ([family]) => family },
          { title: "RECEIVED", align: "right", text: ([, one]) => count(one.received) },
          { title: "ACCEPTED", align: "right", text: ([, one]) => count(one.accepted) },
          { title: "REJECTED", align: "right", text: ([, one]) => count(one.rejected) },
          { title: "SENT", align: "right", text: ([, one]) => count(one.sent) },
          { title: "LIMIT", align: "right", text: ([, one]) => (one.prefixLimit === 0 ? "none" : count(one.prefixLimit)) },
          { title: "KEPT AT MOST", align: "right", text: ([, one]) => (one.receivedLimit ? count(one.receivedLimit) : "") },
          { title: "END-OF-RIB", text: ([, one]) => (one.endOfRib ? "yes" : "no") },
        ],
        paint,
        "  ",
      ),
    ),
    "",
    ...messageTable(peer, paint),
  ];
  return `${lines.join("\n")}\n`;
}

function inFuture(milliseconds: number): string {
  return milliseconds > 0 ? `in ${duration(milliseconds)}` : "now";
}

function attributeOctets({ attributeOctets: octets, attributeOctetsLimit: limit }: NeighborSnapshot): string | undefined {
  return octets === undefined || limit === undefined ? undefined : `${count(octets)} of at most ${count(limit)} octets`;
}

const rejectedWords: Record<string, string> = {
  Policy: "import policy",
  AsLoop: "our own AS in the AS path",
  ReflectionLoop: "reflected back to us",
  Protected: "protected prefix",
  TooLarge: "too large after import policy",
  AsSet: "AS_SET in the AS path",
  FirstAs: "AS path of another AS than the neighbour's",
  EmptyPath: "empty AS path",
  Origin: "not the neighbour's to announce",
  Originator: "ORIGINATOR_ID of another node",
} satisfies Record<RejectedReason, string>;

/** "3 import policy, 1 protected prefix"; of all families. An agent of another version may know more reasons. */
function rejections({ families }: NeighborSnapshot): string | undefined {
  const counts = new Map<string, number>();
  for (const { rejectedBecause = {} } of Object.values(families)) {
    for (const [reason, amount] of Object.entries(rejectedBecause)) counts.set(reason, (counts.get(reason) ?? 0) + amount);
  }
  return counts.size === 0
    ? undefined
    : [...counts].map(([reason, amount]) => `${count(amount)} ${rejectedWords[reason] ?? reason}`).join(", ");
}

function blankBefore(lines: string[]): string[] {
  return lines.length > 0 ? ["", ...lines] : [];
}

function messageTable(peer: NeighborSnapshot, paint: Paint): string[] {
  const { messagesIn, messagesOut } = peer.counters;
  const kinds = [
    ["OPEN", "open"],
    ["UPDATE", "update"],
    ["NOTIFICATION", "notification"],
    ["KEEPALIVE", "keepalive"],
    ["ROUTE-REFRESH", "routeRefresh"],
  ] as const;
  const rows = [
    ...kinds.map(([title, key]) => ({ title, received: messagesIn[key], sent: messagesOut[key] })),
    { title: "octets", received: peer.counters.octetsIn, sent: peer.counters.octetsOut },
  ];
  return table(
    rows,
    [
      { title: "MESSAGE", text: row => row.title },
      { title: "IN", align: "right", text: row => count(row.received) },
      { title: "OUT", align: "right", text: row => count(row.sent) },
    ],
    paint,
    "  ",
  );
}

function addressOf(peer: NeighborSnapshot): string {
  return peer.interface ? `${peer.address}%${peer.interface}` : peer.address;
}

function reasonOf({ state, reason, leaving }: NeighborSnapshot): string {
  if (leaving) return "leaves when others carry its routes";
  return state === "Established" ? "" : reason;
}

function stateTone(peer: Pick<NeighborSnapshot, "state">): Tone {
  if (peer.state === "Established") return "good";
  return peer.state === "OpenSent" || peer.state === "OpenConfirm" ? "warn" : "bad";
}

function sum(peer: NeighborSnapshot, key: "received" | "accepted" | "sent"): string {
  if (peer.state !== "Established") return "-";
  return count(Object.values(peer.families).reduce((total, family) => total + family[key], 0));
}

/** 32 octets to a line. */
function wrapHex(hex: string): string {
  return (printable(hex).match(/.{1,64}/g) ?? []).join("\n");
}
