/**
 * The guard against pods that pretend to be others: pure. What comes in by a pod's link must have the pod's own hardware address and one of its own
 * addresses, in packets as in what ARP (RFC 826) and neighbour discovery (RFC 4861) claim; and nothing that only routers and DHCP servers say. Each
 * pod has a chain, found by the name of its link, so that a packet's way does not grow with the number of pods. On the bridge that is done as frames come
 * in; pods without one are judged where their packets come in, and their ARP where it is received.
 */
import { type Address, formatAddress, parseAddress } from "../net/address.ts";
import { hexOf } from "../net/octets.ts";
import { countedDrop, goto, match, meta, payload } from "./expressions.ts";
import { type Chain, type Expression, type NamedMap, objectKey, type Rule, type RulesetObject, type TableFamily } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import type { RulesetChange } from "./types.ts";

export const SPOOFING_PREFIX = "spoof-";

export interface GuardedPod {
  /** The node's end of its link. */
  hostInterface: string;
  /** Of the pod's end: "02:00:00:00:00:01". */
  mac: string;
  /** Canonical, without length. */
  addresses: readonly string[];
  /** The node's end is a port of a bridge. */
  bridged: boolean;
}

/** Counters of what was dropped, and why; each is in every table. */
export const SpoofingCounters = {
  mac: "spoof-mac",
  source: "spoof-source",
  arp: "spoof-arp",
  neighbour: "spoof-neighbour",
  router: "spoof-router",
  dhcp: "spoof-dhcp",
  other: "spoof-other",
} as const;

const PORTS = "spoof-ports";
const COMMON = "spoof-common";
/** ICMPv6 types. */
const MLD_REPORT = 131;
const MLD_DONE = 132;
const ROUTER_SOLICITATION = 133;
const ROUTER_ADVERTISEMENT = 134;
const NEIGHBOUR_SOLICITATION = 135;
const NEIGHBOUR_ADVERTISEMENT = 136;
const REDIRECT = 137;
const MLD2_REPORT = 143;

const drop = (what: keyof typeof SpoofingCounters) => countedDrop(SpoofingCounters[what]);

/** Where pods of a kind are judged. Before connection tracking and before all that others do: 5 before raw, and before dstnat of a bridge. */
const Places: Record<"bridge" | "inet" | "arp", NonNullable<Chain["base"]>> = {
  bridge: { type: "filter", hook: "prerouting", priority: -305 },
  inet: { type: "filter", hook: "prerouting", priority: -305 },
  arp: { type: "filter", hook: "input", priority: -5 },
};
type Place = keyof typeof Places;
const allPlaces = Object.keys(Places) as Place[];

/** The pods of this node, and what changes in the ruleset with each of them. */
export class Spoofing {
  readonly #pods: Record<Place, Map<string, Chain>> = { bridge: new Map(), inet: new Map(), arp: new Map() };
  #expected: readonly Place[] = [];

  /**
   * Where pods will come, what they have together is there before the first and stays when the last one goes: to make it takes a run of nft, which no ADD shall
   * wait for. undefined: none will come.
   */
  expectPods(bridged: boolean | undefined): RulesetChange[] {
    const former = this.#expected;
    this.#expected = bridged === undefined ? [] : placesOf(bridged);
    const isOther = (place: Place) => former.includes(place) !== this.#expected.includes(place);
    return allPlaces.filter(isOther).flatMap(place => this.#shared(place));
  }

  set(pod: GuardedPod): RulesetChange[] {
    const places = placesOf(pod.bridged);
    const others = allPlaces.filter(place => !places.includes(place));
    return [
      ...others.flatMap(place => this.#remove(place, pod.hostInterface)),
      ...places.flatMap(place => {
        const chain = podChain(place, pod);
        this.#pods[place].set(pod.hostInterface, chain);
        return [{ key: objectKey(chain), object: chain }, ...this.#shared(place)];
      }),
    ];
  }

  delete(hostInterface: string): RulesetChange[] {
    return allPlaces.flatMap(place => this.#remove(place, hostInterface));
  }

  has(hostInterface: string): boolean {
    return Object.values(this.#pods).some(pods => pods.has(hostInterface));
  }

  names(): string[] {
    return [...this.#pods.bridge.keys(), ...this.#pods.inet.keys()];
  }

  /** Whether there are counters, of which each goes on from what it has. */
  get isCounting(): boolean {
    return allPlaces.some(place => this.#isWanted(place));
  }

  #remove(place: Place, hostInterface: string): RulesetChange[] {
    const chain = this.#pods[place].get(hostInterface);
    if (!chain) return [];
    this.#pods[place].delete(hostInterface);
    return [{ key: objectKey(chain), object: undefined }, ...this.#shared(place)];
  }

  /** What all pods of a place have together, gone with the last of them where none is expected. */
  #shared(place: Place): RulesetChange[] {
    const pods = this.#pods[place];
    const elements = new Map([...pods].map(([key, { name }]) => [key, { key, value: goto(name) }]));
    const ports: NamedMap = { kind: "map", ...named(place, PORTS), type: "ifname", map: "verdict", elements };
    const wanted = this.#isWanted(place);
    return [ports, ...Shared[place]].map(object => ({ key: objectKey(object), object: wanted ? object : undefined }));
  }

  #isWanted(place: Place): boolean {
    return this.#pods[place].size > 0 || this.#expected.includes(place);
  }
}

function named(family: TableFamily, name: string): { family: TableFamily; table: string; name: string } {
  return { family, table: TABLE, name };
}

function placesOf(bridged: boolean): Place[] {
  return bridged ? ["bridge"] : ["inet", "arp"];
}

function podChain(place: Place, pod: GuardedPod): Chain {
  const rules = place === "arp" ? arpRules(pod) : packetRules(place, pod);
  return { kind: "chain", ...named(place, `${SPOOFING_PREFIX}${pod.hostInterface}`), rules };
}

function packetRules(place: "bridge" | "inet", pod: GuardedPod): Rule[] {
  const addresses = pod.addresses.map(parseAddress);
  const ipv4 = addresses.filter(({ length }) => length === 4).map(formatAddress);
  const ipv6 = [...addresses.filter(({ length }) => length === 16), linkLocal(pod.mac)];
  const isOthers = ipv6.map(address => match({ payload: { base: "th", offset: 64, len: 128 } }, hexNumber(address), "!="));
  const unspecified = match(payload("ip6", "saddr"), "::");
  const type = (number: number) => match(payload("icmpv6", "type"), number);
  return [
    rule(match(payload("ether", "saddr"), pod.mac, "!="), ...drop("mac")),
    rule(...noneOf(payload("ip", "saddr"), ipv4), ...(ipv4.length > 0 ? [] : [isIpv4(place)]), ...drop("source")),
    rule(...noneOf(payload("ip6", "saddr"), [...ipv6.map(formatAddress), "::"]), ...drop("source")),
    // Who has no address yet may ask whether his own is free, ask for routers, and say what groups he listens to.
    rule(unspecified, type(NEIGHBOUR_SOLICITATION), ...isOthers, ...drop("neighbour")),
    rule(type(NEIGHBOUR_ADVERTISEMENT), ...isOthers, ...drop("neighbour")),
    ...(place === "bridge" ? arpRules(pod).slice(0, -1) : []),
    rule(goto(COMMON)),
  ];
}

function arpRules({ mac, addresses }: GuardedPod): Rule[] {
  const ipv4 = addresses.filter(text => !text.includes(":"));
  const operation = payload("arp", "operation");
  const sender = payload("arp", "saddr ip");
  return [
    rule(match(payload("arp", "saddr ether"), mac, "!="), ...drop("arp")),
    // A probe (RFC 5227) has no sender address, and is a request.
    rule(...noneOf(sender, [...ipv4, "0.0.0.0"]), ...drop("arp")),
    rule(match(sender, "0.0.0.0"), match(operation, "request", "!="), ...drop("arp")),
    rule({ return: null }),
  ];
}

/** The base chain of each place, what follows in every pod's chain, and counters: the same objects always, so that nothing is compared. */
const Shared: Record<Place, readonly RulesetObject[]> = {
  bridge: [baseChain("bridge"), commonChain("bridge"), ...counters("bridge")],
  inet: [baseChain("inet"), commonChain("inet"), ...counters("inet")],
  arp: [baseChain("arp"), ...counters("arp")],
};

function baseChain(place: Place): Chain {
  const rules = [rule({ vmap: { key: meta("iifname"), data: `@${PORTS}` } })];
  return { kind: "chain", ...named(place, `${SPOOFING_PREFIX}${Places[place].hook}`), base: Places[place], rules };
}

function commonChain(place: "bridge" | "inet"): Chain {
  const unspecified = match(payload("ip6", "saddr"), "::");
  const harmless = [NEIGHBOUR_SOLICITATION, ROUTER_SOLICITATION, MLD_REPORT, MLD_DONE, MLD2_REPORT];
  const ports = (from: number, to: number) => [match(payload("udp", "sport"), from), match(payload("udp", "dport"), to)];
  const rules = [
    rule(match(payload("icmpv6", "type"), [ROUTER_ADVERTISEMENT, REDIRECT]), ...drop("router")),
    rule(match(payload("icmp", "type"), ["redirect", "router-advertisement"]), ...drop("router")),
    rule(...ports(67, 68), ...drop("dhcp")),
    rule(...ports(547, 546), ...drop("dhcp")),
    rule(unspecified, match(payload("icmpv6", "type"), harmless), { accept: null }),
    rule(unspecified, ...drop("source")),
    ...(place === "bridge" ? [rule(match(payload("ether", "type"), ["ip", "ip6", "arp"], "!="), ...drop("other"))] : []),
  ];
  return { kind: "chain", ...named(place, COMMON), rules };
}

function counters(family: Place): RulesetObject[] {
  return Object.values(SpoofingCounters).map(name => ({ kind: "counter", ...named(family, name) }));
}

function isIpv4(place: "bridge" | "inet"): Expression {
  return place === "bridge" ? match(payload("ether", "type"), "ip") : match(meta("nfproto"), "ipv4");
}

/** Without a set for each rule: nft reads all sets of a table, those without a name too, at each change. */
function noneOf(left: Expression, values: readonly string[]): Expression[] {
  return values.map(value => match(left, value, "!="));
}

function rule(...expressions: readonly Expression[]): Rule {
  return { expressions };
}

/** RFC 4291, appendix A: the address that Linux gives to the link by itself. */
export function linkLocal(mac: string): Address {
  const octets = mac.split(":").map(part => Number.parseInt(part, 16));
  return Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, octets[0] ^ 2, octets[1], octets[2], 0xff, 0xfe, octets[3], octets[4], octets[5]);
}

function hexNumber(address: Address): string {
  return `0x${hexOf(address)}`;
}
