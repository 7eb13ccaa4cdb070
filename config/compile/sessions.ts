/** The neighbours of this node: the mesh of its fabric, and its Peers. Policies and advertisements are tied on afterwards. */
import type { NeighborConfig, NeighborFamilyConfig } from "../../bgpd/config.ts";
import { contains, formatAddress, type IpFamily, isLinkLocal, parseAddress, parsePrefix } from "../../net/address.ts";
import { selects } from "../../platform/label-selector.ts";
import type { Fabric, Peer } from "../resources/kinds.ts";
import { type Context, familyName, familyOfText, type NodeView, type ResolvedPeer, someOf } from "./context.ts";
import { meshOf } from "./fabrics.ts";
import { gatewayEnds } from "./gateways.ts";
import { asnIn, type End, endsFrom, endsText, withAsnOf } from "./node-values.ts";
import { resolvePassword } from "./secrets.ts";
import { familyBeside } from "./tunnels.ts";

const DEFAULT_PORT = 179;
const EXTERNAL_PREFIX_LIMIT = 10000;
/** Enough for the routes of some ten thousand nodes, or of a rack; little enough that a neighbour gone mad fills no memory. */
const LEAST_RECEIVED_LIMIT = 100_000;
const LEAST_ATTRIBUTE_OCTETS = 64 * 1024 * 1024;
/** Octets of attributes for a prefix, where many are expected: Internet routes have 60 and share them. */
const ATTRIBUTE_OCTETS_EACH = 256;
const defaults = { holdTime: 90, keepaliveTime: 0, connectRetryTime: 5, advertisementInterval: 0, prefixWarning: 75 };

/** As it stands in the objects; policies by the names there. */
export type FamilyConfig = Readonly<NeighborFamilyConfig> & {
  readonly importPolicies: readonly string[];
  readonly exportPolicies: readonly string[];
};

/** A neighbour together with what later steps need to know of it. No step changes it: neighbors.ts puts together what they return. */
export interface Session {
  readonly neighbor: Readonly<Omit<NeighborConfig, "families">> & {
    readonly families: Readonly<Partial<Record<keyof NeighborConfig["families"], FamilyConfig>>>;
  };
  /** By what the neighbour is known, where that is known already. */
  end?: string;
  /** Absent for mesh sessions. */
  peer?: ResolvedPeer;
  /** The node at the other end, of mesh sessions. */
  node?: string;
  /** A family that it carries beside that of its addresses, as the nodes have a tunnel. */
  beside?: IpFamily;
  /** The node at the other end, of a Peer with peerSelector. */
  peerNode?: string;
  external: boolean;
}

const short = (family: IpFamily) => (family === 4 ? "ipv4" : "ipv6");

export function compileSessions(context: Context, fabric: Fabric): Session[] {
  const { memory, peers } = context;
  // In the order in which they came; a mesh has thousands.
  const byEnd = new Map<string, Session>();
  const left: { kept: Session; out: Session }[] = [];
  for (const session of [...meshSessions(context, fabric), ...peers.flatMap(peer => peerSessions(context, fabric, peer))]) {
    const end = session.end ?? endOf(session.neighbor);
    const other = byEnd.get(end);
    // Who had the address keeps it: a mistake elsewhere ends no session.
    const keeps = !other || memory.before("neighbors", end) === session.neighbor.name ? session : other;
    byEnd.set(end, keeps);
    if (other) left.push({ kept: keeps, out: keeps === session ? other : session });
  }
  // Not before all are known: the address that it had may be another's now.
  for (const { kept, out } of left) {
    const former = formerSession(context, fabric, out, byEnd);
    if (former) byEnd.set(endOf(former.neighbor), former);
    reportSecond(context, kept, out, former);
  }
  for (const [end, { neighbor }] of byEnd) memory.remember("neighbors", end, neighbor.name);
  return [...byEnd.values()];
}

/** Of a Peer that was given another's address: the session that it had, where nobody has that by now. */
function formerSession(context: Context, fabric: Fabric, { peer }: Session, taken: ReadonlyMap<string, Session>): Session | undefined {
  const address = peer && context.memory.before("peers", peer.name)?.address;
  if (!peer?.spec.address || address === undefined || address === peer.spec.address) return undefined;
  if (taken.has(endOf({ address, interface: peer.spec.bindInterface }))) return undefined;
  const own = withAsnOf(context, peer);
  if (!own) return undefined;
  context.memory.remember("peers", peer.name, { ...peer.spec, address });
  // As it is now in all else, and still this Peer's for whoever asks for it.
  const { spec } = own;
  return { ...peerSession(context, fabric, { ...own, spec: { ...spec, address } }, peer.name, address, spec.port ?? DEFAULT_PORT), peer };
}

function reportSecond({ self, problems }: Context, kept: Session, { neighbor, peer }: Session, former: Session | undefined): void {
  const effect = former ? `the session with ${former.neighbor.address}, which was there before, goes on` : "this one is left out";
  const message = `${neighbor.address} is a neighbour of node ${self.name} already, as ${kept.neighbor.name}; ${effect}`;
  const remedy = "keep one session per neighbour address, or set mesh type None in the fabric";
  problems.error("DuplicateNeighbor", neighbor.source ?? neighbor.name, peer?.whoField ?? "status.addresses", message, remedy);
}

/** By what a neighbour is known, in one spelling. */
export function endOf({ address, interface: link }: Pick<NeighborConfig, "address" | "interface">): string {
  const octets = parseAddress(address);
  return isLinkLocal(octets) ? `${formatAddress(octets)}%${link ?? ""}` : formatAddress(octets);
}

/** Full: all other nodes of the fabric; RouteReflectors: pairs of which at least one reflects. */
function meshSessions(context: Context, fabric: Fabric): Session[] {
  const { self, problems } = context;
  const { mesh } = fabric.spec;
  const object = `Fabric/${fabric.metadata.name}`;
  if (mesh.type === "None") return [];
  const { all: members = [], reflectors = [] } = meshOf(context, fabric) ?? {};
  const selector = mesh.routeReflectors?.nodeSelector;
  if (selector && !members.some(({ labels }) => selects(selector, labels))) {
    const former = reflectors.map(({ name }) => name);
    const effect = former.length > 0 ? `${someOf(former)} go on reflecting` : "nobody reflects, and no session comes up";
    problems.error(
      "SelectsNothing",
      object,
      "spec.mesh.routeReflectors.nodeSelector",
      `selects no node of the fabric${fabric.spec.asnFrom ? ` with AS ${self.asn}` : ""}: ${effect}`,
      "label at least one node, better two",
    );
  }
  // A problem already.
  if (fabric.spec.listen.port === 0 && members.length > 1) return [];
  if (members.length > 1 && Object.keys(self.address).length === 0) {
    const remedy = "give the Node object an InternalIP (kubelet --node-ip)";
    problems.error("NoInternalIP", `Node/${self.name}`, "status.addresses", "has no InternalIP: there is no mesh session", remedy);
    return [];
  }
  const others = mesh.type === "Full" || self.reflects ? members : reflectors;
  const molds: Molds = [];
  // Also where nobody of a common family is there yet: what it was stays known.
  if (others.some(other => other !== self)) meshPassword(context, fabric);
  const sessions = others.flatMap(other => (other === self ? [] : meshPair(context, fabric, other, molds)));
  if (
    mesh.ttlSecurity &&
    context.facts.addresses.length > 0 &&
    !sessions.some(({ neighbor }) => neighbor.ttlSecurity) &&
    sessions.length > 0
  ) {
    const message = `has no effect on node ${self.name}: no other node is on a network that it is connected to`;
    problems.warning("NoEffect", object, "spec.mesh.ttlSecurity", message, "give the number of hops between the nodes, or take it out");
  }
  return sessions;
}

function meshPair(context: Context, fabric: Fabric, other: NodeView, molds: Molds): Session[] {
  const { self, problems } = context;
  const common = bothFamilies.filter(family => self.address[family] && other.address[family]);
  // Two nodes with one address are a problem already; a session with oneself would be another.
  const families = common.filter(family => self.canonical[family] !== other.canonical[family]);
  if (common.length === 0) {
    problems.error(
      "NoCommonFamily",
      `Node/${other.name}`,
      "status.addresses",
      `nodes ${self.name} and ${other.name} have no InternalIP of a common family: no session between them`,
      "give both an InternalIP of the same family",
    );
  }
  const beside = familyBeside(context, other, common);
  const client = self.reflects && !other.reflects;
  const external = other.asn !== self.asn;
  if (client && external) {
    problems.error(
      "ClientOfAnotherAS",
      `Node/${other.name}`,
      'metadata.annotations["podlane.io/asn"]',
      `node ${other.name} has AS ${other.asn} and cannot be a client of the reflector ${self.name} in AS ${self.asn}`,
      "reflection is for nodes of one AS: take the annotation off, or use mesh type Full",
    );
  }
  return families.map(family => {
    const address = other.address[family] as string;
    const mold = moldOf(molds, context, fabric, family, beside, external, client && !external);
    const neighbor = { ...mold, name: `${other.name}/${short(family)}`, source: `Node/${other.name}`, address, remoteAsn: other.asn };
    // Hops depend on where the node is.
    if (external || fabric.spec.mesh.ttlSecurity !== undefined)
      Object.assign(
        neighbor,
        hopsOf(fabric, external, () => isOnLink(context.facts, parseAddress(address))),
      );
    return { node: other.name, end: other.canonical[family] as string, external, neighbor, ...(beside && { beside }) };
  });
}

const bothFamilies = [4, 6] as const;

/** What sessions of one kind share, its objects too: thousands of a mesh differ in the other end alone. */
type Mold = Omit<NeighborConfig, "name" | "source" | "address" | "remoteAsn">;
/** By the four things that they may differ in. */
type Molds = Mold[];

function meshPassword(context: Context, { metadata, spec }: Fabric): Partial<ReturnType<typeof resolvePassword>> {
  const { passwordSecretRef } = spec.mesh;
  return passwordSecretRef ? resolvePassword(context, passwordSecretRef, `Fabric/${metadata.name}`, "spec.mesh.passwordSecretRef") : {};
}

function meshFamily(mesh: Fabric["spec"]["mesh"]): NeighborFamilyConfig {
  return {
    importPolicies: [...(mesh.importPolicies ?? [])],
    exportPolicies: [...(mesh.exportPolicies ?? [])],
    // Who asks for a mesh permits it, also where the nodes' ASes differ.
    importDefault: "accept",
    exportDefault: "accept",
    prefixLimit: 0,
    receivedLimit: LEAST_RECEIVED_LIMIT,
    prefixWarning: defaults.prefixWarning,
    nextHopSelf: mesh.nextHopSelf,
    allowAsIn: 0,
  };
}

function moldOf(
  molds: Molds,
  context: Context,
  fabric: Fabric,
  family: IpFamily,
  beside: IpFamily | undefined,
  external: boolean,
  client: boolean,
): Mold {
  const place = (beside ? 8 : 0) + (family === 4 ? 0 : 4) + (external ? 2 : 0) + (client ? 1 : 0);
  const known = molds[place];
  if (known) return known;
  const { mesh, listen, timers } = fabric.spec;
  const mold: Mold = {
    port: listen.port,
    localAddress: context.self.address[family] as string,
    ...meshPassword(context, fabric),
    passive: false,
    ...timersOf(timers, undefined),
    families: Object.fromEntries([family, ...(beside ? [beside] : [])].map(one => [familyName(one), meshFamily(mesh)])),
    attributeOctetsLimit: LEAST_ATTRIBUTE_OCTETS,
    ...(fabric.spec.allowASSets ? { allowAsSets: true } : {}),
    mesh: true,
    routeReflectorClient: client,
  };
  molds[place] = mold;
  return mold;
}

/**
 * With ttlSecurity 1 where the nodes share a link: further away nothing would arrive with TTL 255. Both ends send 255 whatever they expect, so that
 * it does not matter when each hears of the change. Without it nodes with an AS each may still stand in different subnets.
 */
function hopsOf({ spec }: Fabric, external: boolean, isNear: () => boolean): Pick<NeighborConfig, "ttlSecurity" | "multihop"> {
  const { ttlSecurity } = spec.mesh;
  if (ttlSecurity !== undefined && (ttlSecurity > 1 || isNear())) return { ttlSecurity };
  return external ? { multihop: 255 } : {};
}

export function isOnLink({ addresses }: Context["facts"], address: Uint8Array): boolean {
  return isLinkLocal(address) || addresses.some(own => contains(parsePrefix(`${own.address}/${own.prefixLength}`, "clear"), address));
}

function timersOf(fabric: Fabric["spec"]["timers"], peer: Peer["spec"]["timers"]) {
  const restartTime = peer?.restartTime ?? fabric?.restartTime;
  const pick = (field: "holdTime" | "keepaliveTime" | "connectRetryTime" | "advertisementInterval") =>
    peer?.[field] ?? fabric?.[field] ?? defaults[field];
  return {
    holdTime: pick("holdTime"),
    keepaliveTime: pick("keepaliveTime"),
    ...(restartTime === undefined ? {} : { restartTime }),
    connectRetryTime: pick("connectRetryTime"),
    advertisementInterval: pick("advertisementInterval"),
  };
}

function peerSessions(context: Context, fabric: Fabric, peer: ResolvedPeer): Session[] {
  if (!peer.nodes.has(context.self)) return [];
  const own = withAsnOf(context, peer);
  // Still this Peer's for whoever asks for it.
  return own ? sessionsOf(context, fabric, own).map(session => ({ ...session, peer })) : [];
}

function sessionsOf(context: Context, fabric: Fabric, peer: ResolvedPeer): Session[] {
  const { self, problems } = context;
  const { spec } = peer;
  const object = `Peer/${peer.name}`;
  if (spec.interface)
    problems.error(
      "NotSupported",
      object,
      "spec.interface",
      "unnumbered peers are not supported yet: there is no session",
      "give the neighbour's address instead",
    );
  if (spec.passive && fabric.spec.listen.port === 0) {
    problems.error(
      "PortZero",
      object,
      "spec.passive",
      `waits for a connection, but Fabric/${fabric.metadata.name} has listen.port 0`,
      "set spec.listen.port of the fabric, or passive: false",
    );
  }
  if (spec.address) return [peerSession(context, fabric, peer, peer.name, spec.address, spec.port ?? DEFAULT_PORT)];
  if (spec.addressFrom) return endSessions(context, fabric, peer, endsFrom(context, peer, spec.addressFrom));
  if (spec.gateway) return endSessions(context, fabric, peer, gatewayEnds(context, peer));
  const { peerSelector } = spec;
  if (!peerSelector) return [];
  const others = context.nodes.filter(node => node !== self && selects(peerSelector, node.labels));
  if (others.length === 0)
    problems.warning(
      "SelectsNothing",
      object,
      "spec.peerSelector",
      `selects no node other than ${self.name}`,
      "correct the selector or label the nodes",
    );
  const sessions = others.flatMap(other =>
    ([4, 6] as const)
      .filter(family => self.address[family] && other.address[family])
      .map(family => {
        const port = spec.port ?? other.fabric?.spec.listen.port ?? DEFAULT_PORT;
        const name = `${peer.name}/${other.name}/${short(family)}`;
        return { ...peerSession(context, fabric, peer, name, other.address[family] as string, port), peerNode: other.name };
      }),
  );
  if (others.length > 0 && sessions.length === 0) {
    problems.error(
      "NoCommonFamily",
      object,
      "spec.peerSelector",
      `${self.name} has no InternalIP of a common family with ${someOf(others.map(({ name }) => name))}`,
      "give the nodes InternalIPs of the same family",
    );
  }
  return sessions;
}

/** Of a Peer whose neighbours the node itself tells, or its kernel. */
function endSessions(context: Context, fabric: Fabric, peer: ResolvedPeer, ends: readonly End[]): Session[] {
  const { spec } = peer;
  return ends.flatMap(end => {
    const { address, link } = end;
    const { localAddress } = spec;
    if (localAddress !== undefined && familyOfText(localAddress) !== familyOfText(address)) {
      const message = `is of another family than ${address} of node ${context.self.name}: there is no session between them`;
      context.problems.error("NoCommonFamily", `Peer/${peer.name}`, "spec.localAddress", message, "take it out: the kernel chooses one");
      return [];
    }
    const bound = link === undefined ? peer : { ...peer, spec: { ...spec, bindInterface: link } };
    return peerSession(context, fabric, bound, `${peer.name}/${endsText([end])}`, address, spec.port ?? DEFAULT_PORT);
  });
}

function peerSession(context: Context, fabric: Fabric, peer: ResolvedPeer, name: string, address: string, port: number): Session {
  const { self, problems } = context;
  const { spec } = peer;
  const object = `Peer/${peer.name}`;
  const external = isExternal(spec, self);
  if (spec.routeReflectorClient && external)
    problems.error(
      "ClientOfAnotherAS",
      object,
      "spec.routeReflectorClient",
      `is for internal peers; AS ${spec.asn} is not AS ${self.asn} of node ${self.name}`,
      "take it out, or use type: Internal",
    );
  if (external) reportUnreachable(context, peer, address);
  const password = spec.passwordSecretRef ? resolvePassword(context, spec.passwordSecretRef, object, "spec.passwordSecretRef") : {};
  const shutdown = spec.shutdown ? { shutdown: spec.shutdownMessage ? { message: spec.shutdownMessage } : {} } : {};
  const families = peerFamilies(spec, familyOfText(address), external);
  const neighbor: NeighborConfig = {
    name,
    source: object,
    ...(spec.description ? { description: spec.description } : {}),
    address,
    port,
    ...(spec.localAddress ? { localAddress: spec.localAddress } : {}),
    ...(spec.bindInterface ? { interface: spec.bindInterface } : {}),
    ...(spec.multihop === undefined ? {} : { multihop: spec.multihop }),
    ...(spec.ttlSecurity === undefined ? {} : { ttlSecurity: spec.ttlSecurity }),
    remoteAsn: spec.asn ?? (spec.type === "Internal" ? "internal" : "external"),
    ...(spec.localASN === undefined ? {} : { localAsn: spec.localASN }),
    ...password,
    passive: spec.passive ?? false,
    ...timersOf(fabric.spec.timers, spec.timers),
    families,
    attributeOctetsLimit: spec.attributeOctetsLimit ?? defaultAttributeOctets(families),
    ...((spec.allowASSets ?? fabric.spec.allowASSets) ? { allowAsSets: true } : {}),
    ...(spec.enforceFirstAS === false ? { enforceFirstAs: false } : {}),
    routeReflectorClient: !external && (spec.routeReflectorClient ?? false),
    ...shutdown,
  };
  return { neighbor, peer, external };
}

export function isExternal(spec: Peer["spec"], node: NodeView): boolean {
  const asn = spec.asn ?? (spec.asnFrom && asnIn(spec.asnFrom, node));
  return asn === undefined ? spec.type !== "Internal" : asn !== (spec.localASN ?? node.asn);
}

/** What a family entry sets goes before what the peer sets for all; policy lists are tied on later. */
function peerFamilies(spec: Peer["spec"], family: IpFamily, external: boolean): NeighborConfig["families"] {
  const result: NeighborConfig["families"] = {};
  for (const entry of spec.families ?? [{ name: familyName(family) }]) {
    const importDefault = (entry.import ?? spec.import)?.default;
    const exportDefault = (entry.export ?? spec.export)?.default;
    const restart = entry.prefixLimitRestart ?? spec.prefixLimitRestart;
    const prefixLimit = entry.prefixLimit ?? spec.prefixLimit;
    result[entry.name] = {
      importPolicies: [...((entry.import ?? spec.import)?.policies ?? [])],
      exportPolicies: [...((entry.export ?? spec.export)?.policies ?? [])],
      ...(importDefault ? { importDefault: importDefault === "Accept" ? "accept" : "reject" } : {}),
      ...(exportDefault ? { exportDefault: exportDefault === "Accept" ? "accept" : "reject" } : {}),
      prefixLimit: prefixLimit ?? (external ? EXTERNAL_PREFIX_LIMIT : 0),
      receivedLimit: entry.receivedLimit ?? spec.receivedLimit ?? defaultReceivedLimit(prefixLimit),
      ...(restart === undefined ? {} : { prefixLimitRestart: restart }),
      prefixWarning: entry.prefixWarning ?? spec.prefixWarning ?? defaults.prefixWarning,
      nextHopSelf: entry.nextHopSelf ?? spec.nextHopSelf ?? false,
      allowAsIn: entry.allowASIn ?? spec.allowASIn ?? 0,
      ...((entry.removePrivateASN ?? spec.removePrivateASN) ? { removePrivateAsn: true } : {}),
    };
  }
  return result;
}

function defaultReceivedLimit(prefixLimit: number | undefined): number {
  return prefixLimit === 0 ? 0 : Math.max(LEAST_RECEIVED_LIMIT, 10 * (prefixLimit ?? 0));
}

function defaultAttributeOctets(families: NeighborConfig["families"]): number {
  const limits = Object.values(families).map(({ receivedLimit = 0 }) => receivedLimit);
  return limits.includes(0) ? 0 : Math.max(LEAST_ATTRIBUTE_OCTETS, ATTRIBUTE_OCTETS_EACH * Math.max(...limits));
}

/** An external session has TTL 1 unless told otherwise (RFC 4271 section 5.1.3): a neighbour off-link never answers. */
function reportUnreachable({ facts, self, problems }: Context, { name, spec, whoField }: ResolvedPeer, address: string): void {
  const offLink = !isOnLink(facts, parseAddress(address));
  if (facts.addresses.length === 0 || !offLink || (spec.multihop ?? 1) > 1 || (spec.ttlSecurity ?? 1) > 1) return;
  problems.warning(
    "NeighborOffLink",
    `Peer/${name}`,
    whoField,
    `${address} is on no network that node ${self.name} is connected to, and an external session crosses no router`,
    "set spec.multihop, or correct the address",
  );
}
