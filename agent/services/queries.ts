/** What the local API answers about Services: what comes of each address on this node, and who is told of it. */
import type { Explanation, NeighborSnapshot } from "../../bgpd/snapshot.ts";
import type { Speaker } from "../../bgpd/speaker.ts";
import { compareText } from "../../config/compile/context.ts";
import type { AddressPool, Resources } from "../../config/resources/kinds.ts";
import type { ServiceAnnouncer } from "../../config/services/announcer.ts";
import { parseRange, toNumber, widthOf } from "../../config/services/ranges.ts";
import type { ServiceIndex } from "../../config/services/service-index.ts";
import type { AddressVerdict, ServiceView } from "../../config/services/types.ts";
import { familyOf, formatAddress, isAddress, parseAddress, parsePrefix } from "../../net/address.ts";
import { ApiError } from "../api/error.ts";
import type { ExplainView, ServiceDetails, ServicesView } from "../api/views.ts";

export interface ServicesQuery {
  /** "web", or "shop/web". Absent: all. */
  name?: string;
  namespace?: string;
  limit: number;
  /** "shop/web": those behind it. */
  after?: string;
}

/** Who can be asked about single Services. `known`: where what is announced comes from. */
export interface ServicesSubject {
  announcer: ServiceAnnouncer;
  index: ServiceIndex;
  known: ServicesView["known"];
}

export interface QueryParts {
  node: string;
  services: { readonly subject: ServicesSubject | undefined; readonly announced: number };
  /** Throws ApiError where there is none. */
  speaker(): Pick<Speaker, "explain" | "snapshot">;
  resources(): Pick<Resources, "addressPools">;
}

/** Services that are shown with their neighbours: asked for by name, in several namespaces. */
const MAX_DETAILED = 16;
/** Of an address: Services that share it, and ranges that hold it. */
const MAX_OWNERS = 64;

export function serviceQueries(parts: QueryParts) {
  return {
    services: (query: ServicesQuery) => servicesView(parts, query),
    explain: (prefix: string): ExplainView => ({ ...parts.speaker().explain(prefix), ...ownersOf(parts, prefix) }),
  };
}

function servicesView(parts: QueryParts, query: ServicesQuery): ServicesView {
  const { subject, announced } = parts.services;
  const head = { node: parts.node, known: subject?.known ?? "none", announced } as const;
  if (subject?.known !== "source") return { ...head, counts: {}, services: [], total: 0 };
  const { announcer, index } = subject;
  const wanted = [...index.services()].filter(view => fits(view, query)).sort((a, b) => compareText(a.key, b.key));
  if (wanted.length === 0 && query.name !== undefined) throw unknown(query);
  const { after, limit } = query;
  const rest = after === undefined ? wanted : wanted.filter(({ key }) => compareText(key, after) > 0);
  const page = rest.slice(0, limit);
  const isDetailed = query.name !== undefined && wanted.length <= MAX_DETAILED;
  const downs = isDetailed ? downReasons(parts) : new Map();
  return {
    ...head,
    counts: Object.fromEntries(announcer.counts()),
    services: page.map(view => {
      const { key, type, externalTrafficPolicy, internalTrafficPolicy } = view;
      const verdicts = announcer.verdicts(key);
      const routes = isDetailed ? announcer.prefixes(key).map(prefix => routeView(parts, prefix, downs)) : undefined;
      return { service: key, type, externalTrafficPolicy, internalTrafficPolicy, verdicts, ...(routes ? { routes } : {}) };
    }),
    total: wanted.length,
    ...(rest.length > page.length ? { next: page.at(-1)?.key } : {}),
  };
}

function fits({ key, name, namespace }: ServiceView, query: ServicesQuery): boolean {
  if (query.namespace !== undefined && query.namespace !== namespace) return false;
  return query.name === undefined || query.name === name || query.name === key;
}

function unknown({ name = "", namespace }: ServicesQuery): ApiError {
  const where = namespace === undefined ? "" : ` in namespace ${namespace.slice(0, 64)}`;
  return new ApiError(
    404,
    `there is no Service "${name.slice(0, 128)}"${where}`,
    "kubectl get services --all-namespaces lists them; headless ones are not looked at, as no address leads to them",
  );
}

/** Why there is no session, where that is known: the words of the speaker for a single route do not say it. */
function downReasons({ speaker }: QueryParts): Map<string, string> {
  const reasonOf = ({ reason, lastDown, shutdown }: NeighborSnapshot) => (shutdown ? "it is shut down" : (lastDown?.text ?? reason));
  const down = speaker()
    .snapshot()
    .neighbors.filter(({ state }) => state !== "Established");
  return new Map(down.map(neighbor => [neighbor.name, reasonOf(neighbor)]));
}

function routeView(
  { speaker }: QueryParts,
  prefix: string,
  downs: ReadonlyMap<string, string>,
): NonNullable<ServiceDetails["routes"]>[number] {
  const { sent } = speaker().explain(prefix);
  return {
    prefix,
    sent: sent.map(({ neighbor, advertised, step, reason }: Explanation["sent"][number]) => {
      const why = step === "NotEstablished" ? downs.get(neighbor) : undefined;
      return { neighbor, advertised, step, reason: why === undefined ? reason : `${reason}: ${why}` };
    }),
  };
}

/** Whose an address is, by Services and by pools. */
function ownersOf({ services, resources }: QueryParts, prefix: string): Pick<ExplainView, "services" | "pools"> {
  const address = addressOf(prefix);
  if (address === undefined) return {};
  const { subject } = services;
  const verdicts: AddressVerdict[] = [];
  if (subject?.known === "source") {
    for (const { key, addresses } of subject.index.services()) {
      if (!Object.values(addresses).some(all => all.includes(address))) continue;
      verdicts.push(...subject.announcer.verdicts(key).filter(one => one.address === address));
      if (verdicts.length >= MAX_OWNERS) break;
    }
  }
  const pools = [...resources().addressPools.values()].flatMap(pool => rangesWith(pool, address)).slice(0, MAX_OWNERS);
  return { ...(verdicts.length > 0 ? { services: verdicts } : {}), ...(pools.length > 0 ? { pools } : {}) };
}

/** undefined: it is a network. */
function addressOf(question: string): string | undefined {
  if (isAddress(question)) return formatAddress(parseAddress(question));
  const { address, family, length } = parsePrefix(question);
  return length === widthOf(family) ? formatAddress(address) : undefined;
}

function rangesWith({ metadata, spec }: AddressPool, address: string): { pool: string; range: string }[] {
  const octets = parseAddress(address);
  const number = toNumber(octets);
  return spec.addresses.flatMap(text => {
    const range = parseRange(text);
    const isInside = range && range.family === familyOf(octets) && range.first <= number && number <= range.last;
    return isInside ? [{ pool: metadata.name, range: text }] : [];
  });
}
