/**
 * What each node of the mesh may originate, as the objects say: its pod subnets, what Advertisements give the mesh from it, what its Peers let in
 * from outside, what the fabric allows everybody. Nothing of it is taken from what the node itself says.
 */
import {
  FORMER_RANGES,
  type NetworkConfig,
  type NodeRole,
  type OriginConfig,
  type OriginRole,
  type OriginsConfig,
  type PrefixRangeConfig,
} from "../../bgpd/config.ts";
import { compilePrefixList } from "../../bgpd/policy/index.ts";
import { formatPrefix, parseAddress, parsePrefix } from "../../net/address.ts";
import type { NodeFacts } from "../plan.ts";
import type { Advertisement, Fabric } from "../resources/kinds.ts";
import { parseRange, prefixesOf } from "../services/ranges.ts";
import { byName, type Cluster, type Context, compareText, maxLength, type NodeView, type ResolvedPeer } from "./context.ts";
import type { Additions } from "./neighbors.ts";
import { compileRange, lengthOf } from "./policies.ts";
import { hasOtherRouterId, routerIdOf } from "./router-ids.ts";
import { isExternal, type Session } from "./sessions.ts";

const everything: PrefixRangeConfig[] = [
  { prefix: "0.0.0.0/0", ge: 0, le: 32 },
  { prefix: "::/0", ge: 0, le: 128 },
];

/** undefined: everybody is believed, or there is no mesh. */
export function compileOrigins(context: Context, fabric: Fabric): OriginsConfig | undefined {
  if (!context.origins.has(fabric)) context.origins.set(fabric, originsOf(context, fabric));
  const common = context.origins.get(fabric);
  if (!common || (!context.facts.rangesBefore && !hasOtherRouterId(context))) return common;
  const taken = new Set(context.nodes.flatMap(({ podCidrs }) => podCidrs.map(({ prefix }) => prefix)));
  const nodes = common.nodes.map(node => ({
    ...node,
    ...(node.name === context.self.name ? { routerId: routerIdOf(context.self, context.facts) } : {}),
    ...formerOf(context, node.name, taken),
  }));
  return { ...common, nodes };
}

/** As far as it is the same for all nodes of the fabric. */
function originsOf(cluster: Cluster, fabric: Fabric): OriginsConfig | undefined {
  const { mesh } = fabric.spec;
  if (mesh.type === "None" || mesh.trust === "Any") return undefined;
  const lists: OriginsConfig["lists"] = {};
  const common = `Fabric/${fabric.metadata.name}`;
  if (mesh.accept?.length) lists[common] = mesh.accept.map(compileRange);
  for (const peer of cluster.peers) lists[`Peer/${peer.name}`] = takenIn(cluster, peer);
  for (const { metadata, spec } of byName(cluster.resources.advertisements)) {
    if (!spec.mesh) continue;
    if (spec.type === "Static")
      lists[`Advertisement/${metadata.name}`] = (spec.static?.prefixes ?? []).map(({ prefix }) =>
        compileRange({ prefix: canonical(prefix) }),
      );
    if (spec.type === "Service") lists[`Advertisement/${metadata.name}`] = serviceRanges(cluster, fabric, spec);
  }
  const members = cluster.members.get(fabric)?.all ?? [];
  const nodes = members.map(node => originOf(cluster, node, common in lists ? [common] : []));
  const used = new Set(nodes.flatMap(node => node.lists));
  const entries = Object.entries(lists).filter(([name, list]) => used.has(name) && list.length > 0);
  const known = new Set(entries.map(([name]) => name));
  for (const node of nodes) node.lists = node.lists.filter(name => known.has(name));
  return { nodes, lists: Object.fromEntries(entries.sort(([a], [b]) => compareText(a, b))) };
}

/** How the neighbour of a session is judged: as a node of the fabric, or as one outside. */
export function roleAt({ nodeOf, peers, resources }: Cluster, fabric: Fabric, { node, peerNode }: Session): OriginRole {
  const view = nodeOf.get(node ?? peerNode ?? "");
  if (view?.fabric !== fabric) return "outside";
  const role = roleOf(view, peers);
  return role.reflects && resources.partialNodes ? { ...role, vouches: true } : role;
}

function roleOf(node: NodeView, peers: readonly ResolvedPeer[]): NodeRole {
  return { node: node.name, reflects: node.reflects || peers.some(peer => reflectsFor(peer, node)) };
}

function reflectsFor({ spec, nodes }: ResolvedPeer, node: NodeView): boolean {
  return spec.routeReflectorClient === true && nodes.has(node) && !isExternal(spec, node);
}

function originOf(cluster: Cluster, node: NodeView, common: readonly string[]): OriginConfig {
  const { peers } = cluster;
  const { reflects: passes } = roleOf(node, peers);
  // Internal peers' routes go to other internal peers only where the node reflects.
  const from = peers.filter(({ spec, nodes }) => nodes.has(node) && (passes || isExternal(spec, node)));
  const announced = cluster.advertisements
    .filter(({ advertisement, nodes }) => advertisement.spec.mesh && nodes.has(node))
    .map(({ advertisement }) => advertisement);
  const prefixes = announced.flatMap(({ spec }) => {
    if (spec.type === "PodCIDR") return node.podCidrs.flatMap(({ prefix }) => aggregateOf(prefix, spec.aggregation));
    return spec.type === "Interface" ? ownAddresses(cluster, node) : [];
  });
  return {
    name: node.name,
    // A problem with it is reported where the node's own session needs it.
    routerId: routerIdOf(node, undefined),
    asn: node.asn,
    ranges: node.podCidrs.map(({ prefix }) => prefix),
    prefixes: [...new Set(prefixes)].sort(compareText),
    lists: [
      ...common,
      ...from.map(({ name }) => `Peer/${name}`),
      ...announced
        .filter(({ spec }) => spec.type === "Static" || spec.type === "Service")
        .map(({ metadata }) => `Advertisement/${metadata.name}`),
    ],
  };
}

/** Where addresses of Services may lie: what the pools and the service ranges say. Others take external addresses by spec.mesh.accept only. */
function serviceRanges({ resources }: Cluster, fabric: Fabric, { service, aggregation }: Advertisement["spec"]): PrefixRangeConfig[] {
  const kinds = service?.addresses ?? [];
  const pools = kinds.includes("LoadBalancerIP")
    ? byName(resources.addressPools).flatMap(({ spec }) => spec.addresses.flatMap(poolPrefixes))
    : [];
  const clusters = kinds.includes("ClusterIP")
    ? [...(fabric.spec.serviceCIDRs ?? []), ...byName(resources.podNetworks).flatMap(({ spec }) => spec.serviceCIDRs ?? [])]
    : [];
  const covering = [...pools, ...clusters].map(canonical).flatMap(prefix => [prefix, ...aggregateOf(prefix, aggregation)]);
  return [...new Set(covering)].map(prefix => ({ prefix, ge: lengthOf(prefix), le: maxLength(prefix) }));
}

function poolPrefixes(text: string): string[] {
  const range = parseRange(text);
  return range ? prefixesOf(range) : [];
}

/** Not those that other nodes have now; only the latest ones. */
function formerOf({ facts }: Context, node: string, taken: ReadonlySet<string>): { former?: string[] } {
  const former = (facts.rangesBefore?.[node] ?? []).filter(prefix => !taken.has(prefix)).slice(-FORMER_RANGES);
  return former.length > 0 ? { former } : {};
}

/** NodeFacts.rangesBefore for the next compile(). */
export function rangesOf(origins: OriginsConfig | undefined): NodeFacts["rangesBefore"] {
  return origins && Object.fromEntries(origins.nodes.map(({ name, former = [], ranges }) => [name, [...former, ...ranges]]));
}

function aggregateOf(prefix: string, aggregation: { ipv4?: number; ipv6?: number } | undefined): string[] {
  const { address, length } = parsePrefix(prefix);
  const wanted = address.length === 4 ? aggregation?.ipv4 : aggregation?.ipv6;
  if (wanted === undefined || wanted >= length) return [];
  return [formatPrefix(parsePrefix(`${prefix.slice(0, prefix.lastIndexOf("/"))}/${wanted}`, "clear"))];
}

/** What others know of a node's interfaces: the addresses that its Node object names. */
function ownAddresses({ resources }: Cluster, { name }: NodeView): string[] {
  const addresses = resources.nodes.get(name)?.status.addresses ?? [];
  return addresses.map(({ address }) => canonical(`${address}/${parseAddress(address).length * 8}`));
}

/** What a node may learn from a Peer, and then tell the mesh. */
function takenIn(cluster: Cluster, { spec, nodes }: ResolvedPeer): PrefixRangeConfig[] {
  const settings = [spec.import, ...(spec.families ?? []).map(entry => entry.import)];
  const internal = [...nodes].some(node => !isExternal(spec, node));
  if (settings.some(one => one?.default === "Accept") || (internal && !settings.some(one => one?.default === "Reject"))) return everything;
  const ranges = settings.flatMap(one => [
    ...(one?.policies ?? []).flatMap(name => acceptedBy(cluster, name)),
    ...(one?.accept ?? []).map(compileRange),
  ]);
  return [...new Map(ranges.map(range => [JSON.stringify(range), range])).values()];
}

/** A rule that accepts without naming prefixes accepts any. */
function acceptedBy({ policies }: Cluster, name: string): PrefixRangeConfig[] {
  return (policies.get(name)?.spec.rules ?? []).flatMap(({ result, match }) => {
    if (result !== "Accept") return [];
    return match?.prefixes?.length ? match.prefixes.map(compileRange) : everything;
  });
}

/** What this node tells the mesh of its interfaces, and nobody there takes. */
export function reportUnbelieved(
  { self, problems }: Context,
  fabric: Fabric,
  { nodes, lists }: OriginsConfig,
  networks: readonly NetworkConfig[],
  hears: Additions["hears"],
): void {
  const own = nodes.find(({ name }) => name === self.name);
  const listed = compilePrefixList((own?.lists ?? []).flatMap(name => lists[name]));
  const heard = new Set(hears.get(undefined));
  for (const { prefix, kind, source, sources } of networks) {
    if (kind !== "interface" || !sources?.some(name => heard.has(name))) continue;
    if (own?.prefixes.includes(prefix) || listed.matches(parsePrefix(prefix))) continue;
    problems.warning(
      "NotBelieved",
      source,
      "spec.mesh",
      `no other node accepts ${prefix} of ${self.name}: what they know of its interfaces are the addresses of its Node object`,
      `add it to spec.mesh.accept of Fabric/${fabric.metadata.name}`,
    );
  }
}

function canonical(prefix: string): string {
  return formatPrefix(parsePrefix(prefix));
}
