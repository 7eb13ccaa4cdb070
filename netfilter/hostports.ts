/**
 * Ports of the node that lead to pods (hostPort), without iptables and without a proxy: pure. Two lookups for each family turn (address of the node, protocol, port)
 * into the pod's address and port, in maps that change element by element. Done before kube-proxy looks, so that a pod's port is its own.
 */
import { match, meta, payload } from "./expressions.ts";
import { type Chain, type Expression, type NamedMap, type NamedSet, objectKey, type Rule, type RulesetObject } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import type { RulesetChange } from "./types.ts";

export const HOST_PORTS_PREFIX = "port-";

export interface PublishedPod {
  /** Canonical, without length. */
  addresses: readonly string[];
  /** The link by which the node reaches it. */
  link: string;
  ports: readonly { protocol: "tcp" | "udp" | "sctp"; hostPort: number; containerPort: number; hostIP?: string }[];
}

/** 5 before dstnat and 5 behind srcnat, where kube-proxy is; and before connection tracking. */
const DSTNAT = -105;
const SRCNAT = 105;
const RAW = -305;
/** What keeps pods from loopback addresses. */
const GuardObjects = [`${HOST_PORTS_PREFIX}links`, `${HOST_PORTS_PREFIX}guard`];
const ANY = ["0.0.0.0", "::"];

interface FamilyWords {
  protocol: "ip" | "ip6";
  type: "ipv4_addr" | "ipv6_addr";
  family: 4 | 6;
}
const families: readonly FamilyWords[] = [
  { protocol: "ip", type: "ipv4_addr", family: 4 },
  { protocol: "ip6", type: "ipv6_addr", family: 6 },
];

type Elements<T> = Map<string, T>;
type Entry = { key: unknown; value: unknown };

/**
 * What all pods with such ports come to; nothing where there is none. Of two that claim one port the first has it. `open`: links by which pods would reach
 * loopback addresses of the node whether one has ports or not (route_localnet). `services`: ranges of Services, whose addresses the node has as well where
 * kube-proxy uses IPVS: their ports are not the node's.
 */
export function hostPortChanges(
  pods: Iterable<PublishedPod>,
  { open = [], services = [] }: { open?: readonly string[]; services?: readonly string[] } = {},
): RulesetChange[] {
  const all = [...pods].filter(({ ports }) => ports.length > 0);
  const isWanted = ({ name }: RulesetObject) => all.length > 0 || (open.length > 0 && GuardObjects.includes(name));
  return hostPortObjects(all, open, services).map(object => ({ key: objectKey(object), object: isWanted(object) ? object : undefined }));
}

function hostPortObjects(pods: readonly PublishedPod[], open: readonly string[], services: readonly string[]): RulesetObject[] {
  const links = new Map([...pods.map(({ link }) => link), ...open].map(link => [link, link]));
  const translate = { jump: { target: `${HOST_PORTS_PREFIX}dnat` } };
  const isLocal = match({ fib: { result: "type", flags: ["daddr"] } }, "local");
  const loopback = match(payload("ip", "daddr"), { prefix: { addr: "127.0.0.0", len: 8 } });
  return [
    ...families.flatMap(words => mapsOf(words, pods)),
    { kind: "set", ...named("links"), type: "ifname", elements: links },
    chain("dnat", undefined, [...services.map(leftAlone), ...families.flatMap(translations)]),
    chain("prerouting", nat("prerouting", DSTNAT), [[isLocal, translate]]),
    chain("output", nat("output", DSTNAT), [[isLocal, translate]]),
    chain("postrouting", nat("postrouting", SRCNAT), families.flatMap(sourceTranslations)),
    // The node's loopback addresses lead to pods (route_localnet); from pods to the node they must not.
    chain("guard", { type: "filter", hook: "prerouting", priority: RAW }, [
      [match(meta("iifname"), "@port-links"), loopback, { drop: null }],
    ]),
  ];
}

function mapsOf({ family, type }: FamilyWords, pods: readonly PublishedPod[]): RulesetObject[] {
  const [addresses, targets, hostAddresses, hostTargets]: Elements<Entry>[] = [new Map(), new Map(), new Map(), new Map()];
  const hairpins: Elements<unknown> = new Map();
  for (const { addresses: own, ports } of pods) {
    const address = own.find(text => text.includes(":") === (family === 6));
    if (address === undefined) continue;
    hairpins.set(address, { concat: [address, address] });
    for (const { protocol, hostPort, containerPort, hostIP } of ports) {
      if (hostIP !== undefined && hostIP.includes(":") !== (family === 6)) continue;
      const any = hostIP === undefined || ANY.includes(hostIP);
      const concat = [...(any ? [] : [hostIP]), protocol, hostPort];
      const text = concat.join(" ");
      const into = any ? ([addresses, targets] as const) : ([hostAddresses, hostTargets] as const);
      if (into[0].has(text)) continue;
      into[0].set(text, { key: { concat }, value: address });
      into[1].set(text, { key: { concat }, value: containerPort });
    }
  }
  const ports = ["inet_proto", "inet_service"];
  const map = (name: string, key: string[], value: string, elements: Elements<Entry>): NamedMap => {
    return { kind: "map", ...named(`${name}${family}`), type: key, map: value, elements };
  };
  const hairpin: NamedSet = { kind: "set", ...named(`hairpin${family}`), type: [type, type], elements: hairpins };
  return [
    map("address", ports, type, addresses),
    map("target", ports, "inet_service", targets),
    map("host-address", [type, ...ports], type, hostAddresses),
    map("host-target", [type, ...ports], "inet_service", hostTargets),
    hairpin,
  ];
}

function leftAlone(range: string): Expression[] {
  const [addr, len] = range.split("/");
  return [match(payload(addr.includes(":") ? "ip6" : "ip", "daddr"), { prefix: { addr, len: Number(len) } }), { return: null }];
}

/** What is published on one address goes before what is on all. */
function translations({ protocol, family }: FamilyWords): Expression[][] {
  const port = [meta("l4proto"), payload("th", "dport")];
  const isFamily = match(meta("nfproto"), family === 4 ? "ipv4" : "ipv6");
  const found = (name: string, key: Expression[]) => ({ map: { key: { concat: key }, data: `@${HOST_PORTS_PREFIX}${name}${family}` } });
  const dnat = (prefix: string, key: Expression[]) => [
    isFamily,
    { dnat: { family: protocol, addr: found(`${prefix}address`, key), port: found(`${prefix}target`, key) } },
  ];
  return [dnat("host-", [payload(protocol, "daddr"), ...port]), dnat("", port)];
}

/** A pod that comes back to itself would answer itself without us; and no pod answers to a loopback address. */
function sourceTranslations({ protocol, family }: FamilyWords): Expression[][] {
  const pair = { concat: [payload(protocol, "saddr"), payload(protocol, "daddr")] };
  const hairpin = [match(pair, `@${HOST_PORTS_PREFIX}hairpin${family}`), { masquerade: null }];
  if (family === 6) return [hairpin];
  const loopback = match(payload("ip", "saddr"), { prefix: { addr: "127.0.0.0", len: 8 } });
  return [hairpin, [match(meta("oifname"), `@${HOST_PORTS_PREFIX}links`), loopback, { masquerade: null }]];
}

function nat(hook: string, priority: number): Chain["base"] {
  return { type: "nat", hook, priority };
}

function chain(name: string, base: Chain["base"], rules: readonly Expression[][]): Chain {
  return { kind: "chain", ...named(name), ...(base && { base }), rules: rules.map((expressions): Rule => ({ expressions })) };
}

function named(name: string): { family: "inet"; table: string; name: string } {
  return { family: "inet", table: TABLE, name: `${HOST_PORTS_PREFIX}${name}` };
}
