/** What is wrong with a neighbour while the speaker runs, beside its session being down, which its state says: each with its remedy. */
import { formatPrefix } from "../net/address.ts";
import type { Reason } from "../platform/problem.ts";
import { Families, type Family, familyIndex } from "./family.ts";
import { MAX_LENGTH } from "./message/header.ts";
import { excessText, type Peer } from "./peer.ts";
import type { Rib } from "./rib/rib.ts";
import type { SpeakerProblem } from "./snapshot.ts";

export function peerProblems(peer: Peer, rib: Rib): SpeakerProblem[] {
  const object = peer.config.source ?? peer.config.name;
  const families = Families.filter(family => peer.config.families[family]);
  return families
    .flatMap(family => [
      ...prefixLimitProblems(peer, family),
      ...tooLargeProblems(peer, rib, family),
      ...overgrownProblems(peer, family),
      ...pathProblems(peer, family),
    ])
    .concat(limitProblems(peer), malformedProblems(peer))
    .map(problem => ({ ...problem, object }));
}

type Finding = Omit<SpeakerProblem, "object">;

function prefixLimitProblems(peer: Peer, family: Family): Finding[] {
  const { config, slot, negotiated } = peer;
  if (!slot || !negotiated) return [];
  const { prefixLimit = 0, receivedLimit = 0, prefixWarning = 0 } = config.families[family] ?? {};
  const f = familyIndex(family);
  const near = (field: string, count: number, limit: number, what: string): Finding[] =>
    limit === 0 || prefixWarning === 0 || count * 100 < limit * prefixWarning
      ? []
      : [
          {
            severity: "warning",
            reason: "LimitNear",
            field: `${field} (${family})`,
            message: `${count} of at most ${limit} ${family} prefixes ${what}${config.name}`,
            remedy: "raise the limit before it closes the session",
          },
        ];
  return [
    ...near("prefixLimit", slot.accepted[f], prefixLimit, "from "),
    ...near("receivedLimit", slot.paths[f], receivedLimit, "kept, accepted or not, from "),
  ];
}

function limitProblems(peer: Peer): Finding[] {
  const { config, overLimit, negotiated } = peer;
  if (!overLimit || negotiated) return [];
  const fields = { accepted: "prefixLimit", received: "receivedLimit", octets: "attributeOctetsLimit" };
  const field = fields[overLimit.limit] + (overLimit.limit === "octets" ? "" : ` (${overLimit.family})`);
  const subcode = overLimit.limit === "octets" ? 8 : 1;
  const seconds = peer.limitRestart(overLimit);
  const again = seconds === 0 ? "it stays down until the limit changes or it is reset" : `it is tried again after ${seconds} s`;
  const message = `${config.name} brought ${excessText(config, overLimit)}; the session was closed (Cease/${subcode})`;
  return [
    {
      severity: "error",
      reason: "LimitExceeded",
      field,
      message,
      remedy: `raise the limit, or find out what the neighbour leaks; ${again}`,
    },
  ];
}

function tooLargeProblems(peer: Peer, rib: Rib, family: Family): Finding[] {
  const f = familyIndex(family);
  const group = rib.groupOf(f, peer.index);
  const prefixes = group?.tooLarge(peer.index) ?? [];
  if (!group || prefixes.length === 0) return [];
  const { maxMessageLength } = group.options;
  const example = formatPrefix(rib.tables[f].prefixes.prefix(prefixes[0]));
  const routes = prefixes.length === 1 ? `${example} is` : `${prefixes.length} routes, ${example} among them, are`;
  const message = `${routes} not sent to ${peer.config.name}: with their attributes no message of ${maxMessageLength} octets can hold them`;
  const longer = maxMessageLength === MAX_LENGTH ? ", or give it longer messages (RFC 8654), which it does not announce" : "";
  const remedy = `remove communities by an export policy of this neighbour${longer}; podlane explain ${example} shows the attributes`;
  return [{ severity: "error", reason: "RouteTooLarge", field: `export (${family})`, message, remedy }];
}

function overgrownProblems({ config, slot }: Peer, family: Family): Finding[] {
  const count = slot?.rejected[familyIndex(family)].TooLarge ?? 0;
  if (count === 0) return [];
  const message = `${count} routes of ${config.name} are not used: import policy makes an attribute longer than 65535 octets`;
  return [
    {
      severity: "error",
      reason: "RouteTooLarge",
      field: `import (${family})`,
      message,
      remedy: "reject routes with so many communities or so long a path by policy",
    },
  ];
}

/** What no policy was asked about, because of the AS path. Each with what would let the routes in, where that can be right. */
function pathProblems({ config, slot, negotiated }: Peer, family: Family): Finding[] {
  const rejected = slot?.rejected[familyIndex(family)] ?? {};
  const finding = (reason: Reason, count: number | undefined, why: string, remedy: string): Finding[] =>
    count
      ? [
          {
            severity: "warning",
            reason,
            field: `import (${family})`,
            message: `${count} routes of ${config.name} are not used: ${why}`,
            remedy: `${remedy}; podlane routes --neighbor ${config.name} shows them`,
          },
        ]
      : [];
  const asn = negotiated?.remoteAsn ?? config.remoteAsn;
  return [
    ...finding(
      "ASSetRefused",
      rejected.AsSet,
      "their AS paths have an AS_SET or AS_CONFED_SET, which RFC 9774 deprecates",
      "let the neighbour's operator aggregate without one, or set allowASSets",
    ),
    ...finding(
      "FirstASRefused",
      rejected.FirstAs,
      `their AS paths do not begin with ${asn}, the neighbour's own AS`,
      "set enforceFirstAS: false if it is a route server, else show its operator",
    ),
    ...finding(
      "EmptyASPath",
      rejected.EmptyPath,
      "their AS paths are empty, and an external neighbour puts its own AS there",
      "show its operator: the routes are told as if we were in one AS",
    ),
  ];
}

function malformedProblems({ config, malformed }: Peer): Finding[] {
  if (malformed.withdrawn === 0) return [];
  const message = `${malformed.withdrawn} malformed UPDATEs from ${config.name}: their routes are not used (RFC 7606)`;
  return [
    {
      severity: "warning",
      reason: "MalformedUpdates",
      field: "",
      message,
      remedy: "show its operator what podlane peer shows of the last one",
    },
  ];
}
