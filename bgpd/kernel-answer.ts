/**
 * What the kernel itself does with a packet of this node, in words: the route that matched with its owner, and the policy rule (ip-rule(8)) by
 * which its table was asked. What BGP chose is one thing; which of all routes forwards is another.
 */
import type { Rtnetlink, Rule } from "../kernel/types.ts";
import { type Address, contains, formatAddress, formatPrefix, type Prefix } from "../net/address.ts";
import { hopsText } from "./fib/hops.ts";
import { protocolName } from "./fib/protocol-names.ts";
import type { KernelAnswer } from "./snapshot.ts";

export interface KernelQuestion {
  netlink: Pick<Rtnetlink, "match" | "rules">;
  /** Of a network device; undefined where it is gone. */
  linkName(ifindex: number): string | undefined;
  /** Where our routes are. Absent: none are written. */
  place: { table: number; protocols: readonly number[] } | undefined;
}

const discardWords = {
  blackhole: "discarded in silence: the route that matches is a blackhole",
  prohibit: "refused (administratively prohibited): the route that matches is a prohibit route",
  unreachable: "refused (host unreachable): the route that matches is an unreachable route",
  "no route": "refused (network unreachable): no route matches",
};

/** Asks the kernel. What it refuses to answer is in the text; never throws. */
export function kernelAnswer({ netlink, linkName, place }: KernelQuestion, address: Address): KernelAnswer {
  const to = formatAddress(address);
  try {
    const { route, ...match } = netlink.match(address);
    if (!route) return { to, text: discardWords["discard" in match ? match.discard : "no route"], ours: false, rulesBefore: [] };
    const family = address.length === 4 ? 4 : 6;
    // Without rules of others the kernel keeps the local table inside the main one (IPv4, CONFIG_IP_MULTIPLE_TABLES) and names the latter.
    const table = route.type === "local" && route.table === 254 ? 255 : route.table;
    const rules = [...netlink.rules(family)].sort((a, b) => a.priority - b.priority);
    const at = rules.findIndex(rule => rule.table === table && takesAll(rule, address));
    const text = route.type === "local" ? "delivered on this node" : hopsText(route.nextHops, linkName) || route.type;
    return {
      to,
      text: route.type === "local" || route.type === "unicast" ? text : `${route.type}: ${text}`,
      prefix: formatPrefix({ address: route.destination, length: route.length }),
      owner: ownerOf(route.protocol, table, place),
      ours: isOurs(route.protocol, table, place),
      metric: route.metric,
      table: tableName(table),
      rule: at < 0 ? undefined : ruleText(rules[at]),
      rulesBefore: rules
        .slice(0, Math.max(at, 0))
        .filter(rule => !takesAll(rule, address) && mayTake(rule, address))
        .map(ruleText),
    };
  } catch (error) {
    return { to, text: `not known: ${error instanceof Error ? error.message : String(error)}`, ours: false, rulesBefore: [] };
  }
}

/** Why the answer is not the route that BGP chose, in words; undefined where it is. `chosen` holds the address. */
export function conflictText(answer: KernelAnswer, chosen: Prefix, chosenTable: number): string | undefined {
  if (answer.prefix === undefined) return undefined;
  const name = formatPrefix(chosen);
  const length = Number(answer.prefix.split("/")[1]);
  if (answer.ours && length === chosen.length) return undefined;
  const theirs = `the ${answer.ours ? "" : `${answer.owner} `}route ${answer.prefix}`;
  if (answer.table !== tableName(chosenTable)) {
    return `${theirs} of table ${answer.table} takes the packet${answer.rule ? ` by rule ${answer.rule}` : ""}; ours are in table ${tableName(chosenTable)}`;
  }
  if (length > chosen.length) return `${theirs} is longer than ${name}`;
  if (length < chosen.length) return `${name} is not in the kernel; ${theirs} takes its packets`;
  return `${theirs} has the lower metric, or was there first (${answer.metric})`;
}

/** "main" for 254; the number itself where it has no name of the kernel's own. */
function tableName(table: number): string {
  return { 253: "default", 254: "main", 255: "local" }[table] ?? String(table);
}

export function ownerOf(protocol: number, table: number, place: KernelQuestion["place"]): string {
  return isOurs(protocol, table, place) ? "podlane" : protocolName(protocol);
}

function isOurs(protocol: number, table: number, place: KernelQuestion["place"]): boolean {
  return place !== undefined && place.table === table && place.protocols.includes(protocol);
}

/** Whether a packet of this node to the address, without a mark and of any source, meets it. Its packets come in by "lo" (ip-rule(8)). */
function takesAll(rule: Rule, address: Address): boolean {
  const { source, inputInterface = "lo", outputInterface, mark = 0, inverted = false, otherSelectors = false } = rule;
  const more = (source?.length ?? 0) > 0 || outputInterface !== undefined || mark !== 0;
  return !(more || inputInterface !== "lo" || inverted || otherSelectors) && mayTake(rule, address);
}

function mayTake({ destination, inverted = false }: Rule, address: Address): boolean {
  return inverted || destination === undefined || contains(destination, address);
}

function ruleText(rule: Rule): string {
  const { priority, source, destination, inputInterface, outputInterface, mark, inverted, otherSelectors, table } = rule;
  const words: string[] = [];
  if (source) words.push(`from ${formatPrefix(source)}`);
  if (destination) words.push(`to ${formatPrefix(destination)}`);
  if (inputInterface !== undefined) words.push(`in by ${inputInterface}`);
  if (outputInterface !== undefined) words.push(`out by ${outputInterface}`);
  if (mark !== undefined) words.push(`mark 0x${mark.toString(16)}`);
  if (otherSelectors) words.push("and more");
  const selected = words.join(", ") || "all packets";
  return `${priority} (${inverted ? `all but ${selected}` : selected} → ${table === 0 ? "no single table" : `table ${tableName(table)}`})`;
}
