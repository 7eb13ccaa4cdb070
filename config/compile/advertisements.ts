/** What this node originates, and which external peers may hear it: an Advertisement permits exactly its own prefixes (RFC 8212). */
import type { NetworkConfig } from "../../bgpd/config.ts";
import { formatAddress, formatPrefix, maskAddress, parseAddress, parsePrefix } from "../../net/address.ts";
import { selects } from "../../platform/label-selector.ts";
import type { Advertisement, Fabric } from "../resources/kinds.ts";
import type { ServicesPlan } from "../services/types.ts";
import { type Announcement, byName, type Cluster, type Context, compareText, type ResolvedPeer, someOf } from "./context.ts";
import { announcedHeld } from "./held.ts";
import { astray } from "./memory.ts";
import type { Lists } from "./neighbors.ts";
import { type Grant, type Item, permit } from "./permits.ts";
import { lengthOf, terminal } from "./policies.ts";
import { compileServices } from "./services.ts";
import type { Session } from "./sessions.ts";

/** Whom each Advertisement selects, in the order of their names. */
export function resolveAdvertisements(cluster: Pick<Cluster, "resources" | "nodes" | "peers" | "memory" | "problems">): Announcement[] {
  const { problems, resources } = cluster;
  return byName(cluster.resources.advertisements).map(advertisement => {
    const { metadata, spec } = advertisement;
    const object = `Advertisement/${metadata.name}`;
    const peers = new Set(choosePeers(cluster, advertisement));
    const nodes = new Set(cluster.nodes.filter(({ labels }) => selects(spec.nodeSelector, labels)));
    if (nodes.size === 0 && !resources.partialNodes)
      problems.warning(
        "SelectsNothing",
        object,
        "spec.nodeSelector",
        "selects no node",
        "correct the selector or label the nodes; {} selects all",
      );
    const hasAll = nodes.size > 0 && !resources.partialNodes;
    if (hasAll && peers.size > 0 && !spec.mesh && ![...peers].some(peer => [...peer.nodes].some(node => nodes.has(node)))) {
      problems.warning(
        "NoSession",
        object,
        "spec.nodeSelector",
        "no selected node has a session with a selected peer: nothing is announced",
        "select nodes that hold the sessions",
      );
    }
    return { advertisement, peers, nodes };
  });
}

/** Networks of this node; and the export policies that let them out, who asks them after those in `before`, and who hears what. */
export function compileAdvertisements(
  context: Context,
  fabric: Fabric,
  sessions: readonly Session[],
  before: Lists,
): { networks: NetworkConfig[]; services: ServicesPlan | undefined } & ReturnType<typeof permit> {
  const { self } = context;
  const networks = new Map<string, NetworkConfig>();
  for (const { prefix, source } of self.podCidrs) {
    // The connected route of the bridge is better than the discard route; while there is no bridge, packets must not loop.
    networks.set(prefix, { prefix, kind: "pod", source, discard: true });
  }
  const held = announcedHeld(context);
  for (const prefix of held) networks.set(prefix, { prefix, kind: "pod", source: `Node/${self.name}`, discard: false });
  const own = context.advertisements.filter(({ nodes }) => nodes.has(self));
  const grants = own.flatMap(({ advertisement, peers }) => announce(context, advertisement, peers, sessions, networks) ?? []);
  const permitted = permit(context, grants, sessions, before);
  reportSilentPeers(context, sessions, new Set(own.flatMap(({ peers }) => [...peers])));
  const heard = new Set(grants.map(({ name }) => name));
  const services = compileServices(
    context,
    fabric,
    own.map(({ advertisement }) => advertisement).filter(({ metadata }) => heard.has(metadata.name)),
    sessions,
  );
  return { networks: [...networks.values()].sort((a, b) => compareText(a.prefix, b.prefix)), services, ...permitted };
}

/** Peers that selector or names choose, by name. */
function choosePeers(
  { problems, resources, memory, peers }: Pick<Cluster, "problems" | "resources" | "memory" | "peers">,
  { metadata, spec }: Advertisement,
): ResolvedPeer[] {
  const object = `Advertisement/${metadata.name}`;
  const at = `${object} spec.peers`;
  const last = memory.before("names", at);
  const hasSessions = (name: string) => resources.peers.has(name) && !resources.peers.get(name)?.spec.template;
  const stray = astray(spec.peers ?? [], last, hasSessions);
  // Where a name leads nowhere, those that it may stand for go on hearing.
  const named =
    stray.length === 0 ? spec.peers : [...new Set([...(spec.peers ?? []).filter(name => !stray.includes(name)), ...(last ?? [])])];
  if (named) memory.remember("names", at, named);
  for (const [i, name] of (spec.peers ?? []).entries()) {
    const peer = resources.peers.get(name);
    const effect = stray.includes(name)
      ? `${someOf((last ?? []).filter(one => !spec.peers?.includes(one)))}, named before, goes on hearing it`
      : "nothing is announced there";
    if (!peer) {
      const { message, remedy } = memory.absence("Peer", name);
      problems.because("ReferenceNotFound", { object: `Peer/${name}`, message }, object, `spec.peers[${i}]`, effect, remedy);
    }
    if (peer?.spec.template)
      problems.error(
        "TemplateReferenced",
        object,
        `spec.peers[${i}]`,
        `Peer ${name} is a template and has no session: ${effect}`,
        "name the peers that take from it",
      );
  }
  const { peerSelector } = spec;
  const chosen = peers.filter(({ name, labels }) => named?.includes(name) || (peerSelector && selects(peerSelector, labels)));
  if (chosen.length === 0 && !spec.mesh) {
    problems.warning(
      "SelectsNothing",
      object,
      peerSelector ? "spec.peerSelector" : "spec.peers",
      "selects no peer: nothing is announced",
      "correct the selector or label the Peer objects; {} selects all",
    );
  }
  return chosen;
}

function announce(
  context: Context,
  { metadata, spec }: Advertisement,
  peers: ReadonlySet<ResolvedPeer>,
  sessions: readonly Session[],
  networks: Map<string, NetworkConfig>,
): Grant | undefined {
  const object = `Advertisement/${metadata.name}`;
  const mesh = spec.mesh === true;
  if (!sessions.some(({ peer }) => (peer ? peers.has(peer) : mesh))) return undefined;
  const items = itemsOf(context, object, spec);
  for (const item of items) addNetwork(networks, item, object);
  const dynamic = spec.service;
  if (items.length === 0 && !dynamic) return undefined;
  return { name: metadata.name, attributes: spec.attributes ?? {}, items, peers, mesh, ...(dynamic ? { dynamic } : {}) };
}

function itemsOf(context: Context, object: string, spec: Advertisement["spec"]): Item[] {
  const { self, problems } = context;
  switch (spec.type) {
    case "PodCIDR":
      if (self.podCidrs.length === 0 && (context.facts.held ?? []).length === 0)
        problems.warning(
          "NoPodSubnet",
          object,
          "spec.type",
          `node ${self.name} has no pod subnet to announce`,
          "see the problem of the Node",
        );
      return [
        ...aggregate(
          context,
          object,
          spec,
          self.podCidrs.map(({ prefix }) => ({ prefix, kind: "pod", discard: true })),
        ),
        ...announcedHeld(context).map((prefix): Item => ({ prefix, kind: "pod", discard: false })),
      ];
    case "Interface":
      return aggregate(context, object, spec, interfaceItems(context, object, spec.interface));
    case "Static":
      return (spec.static?.prefixes ?? []).map(({ prefix, discard }) => ({
        prefix: formatPrefix(parsePrefix(prefix)),
        kind: "static",
        discard,
      }));
    case "Service":
      return [];
  }
}

function interfaceItems({ facts, self, problems }: Context, object: string, wanted: Advertisement["spec"]["interface"]): Item[] {
  const items = new Map<string, Item>();
  for (const [i, name] of (wanted?.names ?? []).entries()) {
    const usable = facts.addresses.filter(one => one.interface === name && !/^(fe[89ab][0-9a-f]:|127\.|::1$)/i.test(one.address));
    if (usable.length === 0)
      problems.warning(
        "InterfaceNotFound",
        object,
        `spec.interface.names[${i}]`,
        `node ${self.name} has no interface ${name} with an address to announce`,
        "correct the name, or give the interface an address",
      );
    for (const { address, prefixLength } of usable) {
      const octets = parseAddress(address);
      const length = wanted?.announce === "Address" ? octets.length * 8 : prefixLength;
      const prefix = `${formatAddress(maskAddress(octets, length))}/${length}`;
      items.set(prefix, { prefix, kind: "interface", discard: false });
    }
  }
  return [...items.values()];
}

/** The covering prefixes of the wanted length, each with a discard route. */
function aggregate({ problems }: Context, object: string, { aggregation }: Advertisement["spec"], items: Item[]): Item[] {
  const result = new Map<string, Item>();
  for (const item of items) {
    const family = item.prefix.includes(":") ? "ipv6" : "ipv4";
    const length = aggregation?.[family];
    if (length === undefined || length === lengthOf(item.prefix)) result.set(item.prefix, item);
    else if (length > lengthOf(item.prefix)) {
      problems.error(
        "AggregationTooLong",
        object,
        `spec.aggregation.${family}`,
        `/${length} is longer than ${item.prefix}, which is announced as it is`,
        "give a shorter length",
      );
      result.set(item.prefix, item);
    } else {
      const prefix = formatPrefix(parsePrefix(`${item.prefix.slice(0, item.prefix.lastIndexOf("/"))}/${length}`, "clear"));
      result.set(prefix, { prefix, kind: "aggregate", discard: true });
    }
  }
  return [...result.values()];
}

/** Of two objects with the same prefix the first gives kind and source; both's listeners hear it. A pod subnet may be told to all. */
function addNetwork(networks: Map<string, NetworkConfig>, { prefix, kind, discard }: Item, source: string): void {
  const known = networks.get(prefix);
  if (!known) networks.set(prefix, { prefix, kind, source, discard, sources: [source], restricted: true });
  else {
    known.discard ||= discard;
    known.sources = [...(known.sources ?? []), source];
  }
}

/** External peers to which nothing is sent, from which nothing is taken, or whose policies leave no advertisement a chance. */
function reportSilentPeers(
  { self, resources, problems, peers }: Context,
  sessions: readonly Session[],
  heard: ReadonlySet<ResolvedPeer>,
): void {
  const external = new Map(sessions.map(session => [session.peer, session.external]));
  for (const peer of peers) {
    const { name, spec } = peer;
    if (!external.get(peer)) continue;
    const object = `Peer/${name}`;
    const settings = [spec, ...(spec.families ?? [])];
    const sends = settings.some(one => one.export?.policies?.length || one.export?.default);
    if (!sends && !heard.has(peer)) {
      problems.warning(
        "NothingAnnounced",
        object,
        "",
        `no Advertisement selects this external peer: node ${self.name} sends it nothing (RFC 8212)`,
        "add an Advertisement that selects it, or set spec.export.default: Reject to say that this is meant",
      );
    }
    const takes = settings.some(one => one.import?.policies?.length || one.import?.accept?.length || one.import?.default);
    if (!takes) {
      problems.warning(
        "NothingAccepted",
        object,
        "spec.import",
        `nothing is accepted from this external peer on node ${self.name} (RFC 8212)`,
        "list prefixes in spec.import.accept, or set spec.import.default: Reject to say that this is meant",
      );
    }
    const blocked = spec.export?.policies?.find(policy => terminal(resources.policies.get(policy)));
    if (blocked && heard.has(peer)) {
      problems.warning(
        "AdvertisementShadowed",
        object,
        "spec.export.policies",
        `Policy ${blocked} decides about every route, so that no Advertisement has an effect here`,
        "give its last rule a match, or let it end without one",
      );
    }
  }
}
