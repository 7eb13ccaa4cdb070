/**
 * Who may put packets into tunnels to this node: its fellow nodes alone, by the source of the outer packet, as VXLAN itself asks nobody who he is (RFC 7348 section
 * 7). What this node forwards to the tunnels of others is held to the same, before some program may give it the node's own address as its source. Pure. One
 * rule for each family and way; the nodes stand in sets, so that those that come and go are changes of elements. Tunnels of others on the same port, with another
 * identifier, are none of ours.
 */
import type { IpFamily } from "../net/address.ts";
import { countedDrop, match, payload } from "./expressions.ts";
import { type Chain, type Expression, type NamedSet, objectKey, type RulesetObject } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import type { RulesetChange, TunnelPlan } from "./types.ts";

export const OVERLAY_PREFIX = "overlay-";
/** Packets that came from elsewhere. */
const OVERLAY_COUNTER = "overlay-outsiders";

/** 5 before filter, where kube-proxy and most firewalls judge. */
const PRIORITY = -5;
/** The identifier, behind the headers of UDP and the flags of VXLAN: in bits. nft before 1.0.7 does not match it by name. */
const Identifier = { base: "th", offset: 96, len: 24 } as const;
const families: readonly IpFamily[] = [4, 6];

/** undefined: none of it shall be there. */
export function overlayGuardChanges(plan: TunnelPlan | undefined): RulesetChange[] {
  return guardObjects(plan ?? { vni: 0, port: 0, nodes: [] }).map(object => ({ key: objectKey(object), object: plan && object }));
}

function guardObjects({ vni, port, nodes }: TunnelPlan): RulesetObject[] {
  const ends = nodes.flatMap(({ addresses }) => addresses);
  const tunnel = [match(payload("udp", "dport"), port), match({ payload: Identifier }, vni)];
  return [
    { kind: "counter", ...named(OVERLAY_COUNTER) },
    ...families.map(family => nodeSet(family, ends)),
    guardChain("input", tunnel),
    guardChain("forward", tunnel),
  ];
}

function guardChain(hook: "input" | "forward", tunnel: readonly Expression[]): Chain {
  const rules = families.map(family => {
    const field = (name: string) => payload(family === 4 ? "ip" : "ip6", name);
    const nodes = `@${setName(family)}`;
    // Pods may well have tunnels of their own among themselves.
    const toNode = hook === "forward" ? [match(field("daddr"), nodes)] : [];
    return { expressions: [...tunnel, ...toNode, match(field("saddr"), nodes, "!="), ...countedDrop(OVERLAY_COUNTER)] };
  });
  return { kind: "chain", ...named(`${OVERLAY_PREFIX}${hook}`), base: { type: "filter", hook, priority: PRIORITY }, rules };
}

function nodeSet(family: IpFamily, ends: readonly string[]): NamedSet {
  const own = ends.filter(text => text.includes(":") === (family === 6)).sort();
  const elements = new Map(own.map(text => [text, text]));
  return { kind: "set", ...named(setName(family)), type: family === 4 ? "ipv4_addr" : "ipv6_addr", elements };
}

function setName(family: IpFamily): string {
  return `${OVERLAY_PREFIX}nodes${family}`;
}

function named(name: string): { family: "inet"; table: string; name: string } {
  return { family: "inet", table: TABLE, name };
}
