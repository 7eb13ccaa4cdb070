/**
 * Source NAT of what pods of this node send out of the cluster, by the address of the node: pure. One rule for each family; who sends and what keeps its
 * source stand in sets, so that nodes that come and go are changes of elements. A connection is judged by its first packet and stays as it is.
 */
import type { IpFamily } from "../net/address.ts";
import { match, payload } from "./expressions.ts";
import { disjoint } from "./json.ts";
import { type Chain, type NamedSet, objectKey, type RulesetObject } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import type { MasqueradePlan, RulesetChange } from "./types.ts";

export const MASQUERADE_PREFIX = "masq-";

/** 5 behind srcnat, where kube-proxy masquerades. Whoever of both changes a packet's source first, the other leaves it alone. */
const PRIORITY = 105;
const families: readonly IpFamily[] = [4, 6];

/** undefined: none of it shall be there. */
export function masqueradeChanges(plan: MasqueradePlan | undefined): RulesetChange[] {
  return masqueradeObjects(plan ?? { sources: [], exempt: [] }).map(object => ({ key: objectKey(object), object: plan && object }));
}

function masqueradeObjects({ sources, exempt }: MasqueradePlan): RulesetObject[] {
  const rules = families.map(family => {
    const protocol = family === 4 ? "ip" : "ip6";
    const expressions = [
      match(payload(protocol, "saddr"), `@${MASQUERADE_PREFIX}sources${family}`),
      match(payload(protocol, "daddr"), `@${MASQUERADE_PREFIX}exempt${family}`, "!="),
      { masquerade: { flags: "fully-random" } },
    ];
    return { expressions };
  });
  const chain: Chain = {
    kind: "chain",
    ...named("postrouting"),
    base: { type: "nat", hook: "postrouting", priority: PRIORITY },
    rules,
  };
  return [...families.flatMap(family => [prefixSet("sources", family, sources), prefixSet("exempt", family, exempt)]), chain];
}

function named(name: string): { family: "inet"; table: string; name: string } {
  return { family: "inet", table: TABLE, name: `${MASQUERADE_PREFIX}${name}` };
}

function prefixSet(name: string, family: IpFamily, prefixes: readonly string[]): NamedSet {
  const own = disjoint(prefixes.filter(text => text.includes(":") === (family === 6)));
  const elements = new Map(own.map(text => [text, element(text)]));
  return { kind: "set", ...named(`${name}${family}`), type: family === 4 ? "ipv4_addr" : "ipv6_addr", flags: ["interval"], elements };
}

function element(text: string): unknown {
  const [addr, length] = text.split("/");
  const len = Number(length);
  return len === (addr.includes(":") ? 128 : 32) ? addr : { prefix: { addr, len } };
}
