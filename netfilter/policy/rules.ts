/** A policy's rules as a chain of nftables for one direction, with the sets that it refers to. Pure. */
import type { IpFamily } from "../../net/address.ts";
import type { LabelSelector } from "../../platform/label-selector.ts";
import type { Expression, NamedSet, Rule } from "../ruleset.ts";
import { isWhole, joined, rangeElements, rangesOf } from "./blocks.ts";
import { comment, type Direction, nameOf, Place } from "./names.ts";
import { canonical, type NamedPort, ofNamespace, ofNamespaces, type SelectionSpec, setName, setType } from "./selection.ts";
import type { ClusterPolicyObject, NetworkPolicyObject, PolicyBlock, PolicyPeer, PolicyPort, PolicyProtocol, TierPeer } from "./types.ts";

/** Sets that a chain needs beside itself, by the names that its rules have for them. */
export interface Needs {
  selections: { name: string; spec: SelectionSpec; family: IpFamily; port?: NamedPort }[];
  /** Address and number of the named port of each pod that is attached here. */
  local: { name: string; family: IpFamily; port: NamedPort }[];
  nodes: { name: string; family: IpFamily; selector: LabelSelector }[];
  /** Sets whose elements are known from the policy alone. */
  blocks: NamedSet[];
}

export interface RuleList {
  rules: Rule[];
  needs: Needs;
  /** Keys of the policies that have a Deny among these rules. */
  denying: Set<string>;
}

/** Which packets a part of a rule finds: all expressions hold. Several are alternatives. */
type Match = readonly Expression[];

interface Peers {
  specs: readonly SelectionSpec[];
  blocks: readonly PolicyBlock[];
  nodes: readonly LabelSelector[];
}

/**
 * Rules up to which each port of a policy's rule has its own. nft reads all sets of a table with each change, those without a name too, in a time that grows with
 * the square of their number: 20,000 rules of two ports, which one policy can have, would take it a minute as sets, and half a second spelt out.
 */
const MAX_SPELT_OUT = 32;

export const Accept: Expression = { accept: null };
const Return: Expression = { return: null };

const everyPod = ofNamespaces({});
const Protocols: readonly PolicyProtocol[] = ["TCP", "UDP", "SCTP"];

/** What passes is accepted; what runs through is for the next policy. */
export function networkPolicyRules(policy: NetworkPolicyObject, direction: Direction, families: readonly IpFamily[]): RuleList {
  const list = new Compiler(direction, families);
  for (const [at, { peers = [], ports }] of (policy[direction] ?? []).entries()) {
    const text = comment(`${policy.key} ${direction} rule ${at + 1}`);
    list.add(peers.length > 0 ? peersOf(peers, policy.namespace) : undefined, ports, [Accept], text);
  }
  return list;
}

/** The rules of one tier in order. Pass, and the end, is to return to who jumped here. `deny` gives what a Deny of the policy does. */
export function tierRules(
  policies: readonly ClusterPolicyObject[],
  direction: Direction,
  families: readonly IpFamily[],
  deny: (policy: ClusterPolicyObject) => readonly (readonly Expression[])[],
): RuleList {
  const list = new Compiler(direction, families);
  for (const policy of policies) {
    for (const [at, { name, action, peers, ports }] of policy[direction].entries()) {
      const text = comment(`${policy.key} ${direction} rule ${at + 1}${name ? ` (${name})` : ""}`);
      const verdicts = action === "Deny" ? deny(policy) : [[action === "Accept" ? Accept : Return]];
      const before = list.rules.length;
      for (const verdict of verdicts) list.add(tierPeersOf(peers), ports, verdict, text);
      if (action === "Deny" && list.rules.length > before) list.denying.add(policy.key);
    }
  }
  return list;
}

class Compiler implements RuleList {
  readonly rules: Rule[] = [];
  readonly denying = new Set<string>();
  readonly needs: Needs = { selections: [], local: [], nodes: [], blocks: [] };
  readonly #direction: Direction;
  readonly #families: readonly IpFamily[];

  constructor(direction: Direction, families: readonly IpFamily[]) {
    this.#direction = direction;
    this.#families = families;
  }

  /** No peers: everybody. */
  add(peers: Peers | undefined, ports: readonly PolicyPort[] | undefined, verdict: readonly Expression[], text: string): void {
    for (const match of this.#matches(peers, ports ?? [])) this.rules.push({ expressions: [...match, ...verdict], comment: text });
  }

  #matches(peers: Peers | undefined, ports: readonly PolicyPort[]): Match[] {
    const numbered = ports.filter(({ port }) => typeof port !== "string");
    const found: Match[] = [];
    // Only named ones: the sets of the peers alone are not needed.
    if (ports.length === 0 || numbered.length > 0) {
      const from = this.#peerMatches(peers);
      const plain = ports.length === 0 ? [[]] : portMatches(numbered, from.length * numbered.length <= MAX_SPELT_OUT);
      found.push(...from.flatMap(peer => plain.map(port => [...peer, ...port])));
    }
    for (const { protocol, port } of ports) {
      if (typeof port === "string") found.push(...this.#namedPort(peers, { protocol, name: port }));
    }
    return found;
  }

  #peerMatches(peers: Peers | undefined): Match[] {
    if (!peers) return [[]];
    return this.#families.flatMap(family => [...this.#selected(peers, family), ...this.#addressed(peers, family)]);
  }

  #selected({ specs }: Peers, family: IpFamily): Match[] {
    return specs.map(spec => {
      const name = setName(spec, family);
      this.needs.selections.push({ name, spec, family });
      return [equals(this.#peerAddress(family), `@${name}`)];
    });
  }

  /** By address: blocks and nodes. */
  #addressed({ blocks, nodes }: Peers, family: IpFamily): Match[] {
    const matches: Match[] = nodes.map(selector => {
      const name = nameOf(`nodes${family}`, canonical(selector));
      this.needs.nodes.push({ name, family, selector });
      return [equals(this.#peerAddress(family), `@${name}`)];
    });
    const ranges = rangesOf(blocks)[family];
    if (isWhole(ranges, family)) return [...matches, [equals(meta("nfproto"), `ipv${family}`)]];
    if (ranges.length === 0) return matches;
    const elements = rangeElements(ranges, family);
    // One alone needs no set, see MAX_SPELT_OUT.
    if (elements.size === 1) return [...matches, [equals(this.#peerAddress(family), [...elements.values()][0])]];
    const name = nameOf(`blocks${family}`, [...elements.keys()]);
    this.needs.blocks.push({ ...Place, kind: "set", name, type: setType(family, false), flags: ["interval"], elements });
    return [...matches, [equals(this.#peerAddress(family), `@${name}`)]];
  }

  /** In the destination pod it is a number: here that is a pod of this node, there one of the peers, or any pod that the peers' addresses have. */
  #namedPort(peers: Peers | undefined, port: NamedPort): Match[] {
    return this.#families.flatMap(family => {
      if (this.#direction === "ingress") {
        const name = nameOf(`local${family}`, [port.protocol, port.name]);
        const here = portOfAddress(family, port.protocol, name);
        const from = peers ? [...this.#selected(peers, family), ...this.#addressed(peers, family)] : [[]];
        if (from.length > 0) this.needs.local.push({ name, family, port });
        return from.map(match => [...match, here]);
      }
      const through = (spec: SelectionSpec) => {
        const name = setName(spec, family, port);
        this.needs.selections.push({ name, spec, family, port });
        return portOfAddress(family, port.protocol, name);
      };
      if (!peers) return [[through(everyPod)]];
      const addressed = this.#addressed(peers, family);
      return [...peers.specs.map(spec => [through(spec)]), ...addressed.map(match => [...match, through(everyPod)])];
    });
  }

  #peerAddress(family: IpFamily): Expression {
    return address(family, this.#direction === "ingress" ? "saddr" : "daddr");
  }
}

/** Of numbers: one for each protocol, or one for each of them. */
function portMatches(ports: readonly PolicyPort[], isSpeltOut: boolean): Expression[][] {
  return Protocols.flatMap(protocol => {
    const own = ports.filter(one => one.protocol === protocol);
    if (own.length === 0) return [];
    const name = protocol.toLowerCase();
    if (own.some(({ port }) => port === undefined)) return [[equals(meta("l4proto"), name)]];
    const ranges = own.map(({ port, endPort }) => ({ first: BigInt(port as number), last: BigInt(endPort ?? (port as number)) }));
    const numbers = joined(ranges).map(({ first, last }) => (first === last ? Number(first) : { range: [Number(first), Number(last)] }));
    const field = payload(name, "dport");
    if (isSpeltOut || numbers.length === 1) return numbers.map(one => [equals(field, one)]);
    return [[equals(field, { set: numbers })]];
  });
}

function peersOf(peers: readonly PolicyPeer[], namespace: string): Peers {
  const specs = peers.flatMap(peer => {
    if (peer.block) return [];
    const { pods = {}, namespaces } = peer as Exclude<PolicyPeer, { block: PolicyBlock }>;
    return [namespaces ? ofNamespaces(namespaces, pods) : ofNamespace(namespace, pods)];
  });
  return { specs: once(specs), blocks: peers.flatMap(({ block }) => block ?? []), nodes: [] };
}

function tierPeersOf(peers: readonly TierPeer[]): Peers {
  const specs = peers.flatMap(peer => ("namespaces" in peer || "pods" in peer ? tierSelection(peer) : []));
  const blocks = peers.flatMap(peer => ("networks" in peer ? peer.networks.map(cidr => ({ cidr, except: [] })) : []));
  return { specs: once(specs), blocks, nodes: peers.flatMap(peer => ("nodes" in peer ? peer.nodes : [])) };
}

export function tierSelection(peer: ClusterPolicyObject["subject"]): SelectionSpec {
  return "pods" in peer ? ofNamespaces(peer.pods.namespaces, peer.pods.pods) : ofNamespaces(peer.namespaces);
}

function once(specs: readonly SelectionSpec[]): SelectionSpec[] {
  return [...new Map(specs.map(spec => [spec.key, spec])).values()];
}

function portOfAddress(family: IpFamily, protocol: PolicyProtocol, set: string): Expression {
  return equals({ concat: [address(family, "daddr"), payload(protocol.toLowerCase(), "dport")] }, `@${set}`);
}

export function address(family: IpFamily, field: "saddr" | "daddr"): Expression {
  return payload(family === 4 ? "ip" : "ip6", field);
}

export function payload(protocol: string, field: string): Expression {
  return { payload: { protocol, field } };
}

export function meta(key: string): Expression {
  return { meta: { key } };
}

export function equals(left: Expression, right: unknown): Expression {
  return { match: { op: "==", left, right } };
}
