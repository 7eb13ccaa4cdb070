/** Requests in words, in the style of ip(8), for error texts. Pure, and never throws: it runs when something has failed already. */
import { formatAddress } from "../net/address.ts";
import { hexOf } from "../net/octets.ts";
import type { LinkChange, Neighbour, NewAddress, NewLink, NextHop, RouteKey, Rule } from "./types.ts";

/** Names a link: its name where known, else "ifindex 7". */
export type NameOf = (ifindex: number) => string;

function address(octets: Uint8Array): string {
  return octets.length === 4 || octets.length === 16 ? formatAddress(octets) : `(${octets.length} octets)`;
}

/** "route 10.0.0.0/24 via 10.1.1.1 dev eth0 table 100 metric 5". */
export function describeRoute(route: RouteKey, nameOf: NameOf): string {
  const type = route.type === undefined || route.type === "unicast" ? "" : `${route.type} `;
  const words = [`route ${type}${address(route.destination)}/${route.length}`];
  const hops = route.nextHops ?? [];
  // A long multipath set does not fit an error text.
  for (const hop of hops.slice(0, 4)) words.push(`${hops.length > 1 ? "nexthop " : ""}${describeHop(hop, nameOf)}`);
  if (hops.length > 4) words.push(`and ${hops.length - 4} more`);
  if (route.table !== undefined && route.table !== 254) words.push(`table ${route.table}`);
  if (route.metric !== undefined && route.metric !== 0) words.push(`metric ${route.metric}`);
  return words.join(" ");
}

function describeHop(hop: NextHop, nameOf: NameOf): string {
  const words: string[] = [];
  if (hop.gateway !== undefined) words.push(`via ${address(hop.gateway)}`);
  if (hop.ifindex !== 0) words.push(`dev ${nameOf(hop.ifindex)}`);
  if (hop.onlink === true) words.push("onlink");
  return words.join(" ");
}

export function describeNewLink(link: NewLink): string {
  const peer = link.kind === "veth" ? ` peer ${link.peer.name}` : "";
  return `add ${link.kind} link ${link.name}${peer}`;
}

export function describeLinkChange(index: number, change: LinkChange, nameOf: NameOf): string {
  const words: string[] = [];
  if (change.netnsFd !== undefined) words.push("another network namespace");
  if (change.name !== undefined) words.push(`name ${change.name}`);
  if (change.up !== undefined) words.push(change.up ? "up" : "down");
  if (change.mtu !== undefined) words.push(`mtu ${change.mtu}`);
  if (change.master !== undefined) words.push(change.master === 0 ? "no master" : `master ${nameOf(change.master)}`);
  if (change.address !== undefined) words.push(`address ${hexOf(change.address, ":")}`);
  if (change.alias !== undefined) words.push(`alias "${change.alias}"`);
  if (change.group !== undefined) words.push(`group ${change.group}`);
  if (change.hairpin !== undefined) words.push(`hairpin ${change.hairpin ? "on" : "off"}`);
  if (change.netfilter !== undefined) words.push(`netfilter ${change.netfilter ? "on" : "off"}`);
  return `set link ${nameOf(index)} ${words.join(" ")}`;
}

export function describeAddress(entry: NewAddress, nameOf: NameOf): string {
  return `address ${address(entry.address)}/${entry.prefixLength} dev ${nameOf(entry.ifindex)}`;
}

export function describeNeighbour(neighbour: Neighbour, nameOf: NameOf): string {
  const words = [neighbour.family === "bridge" ? "forwarding entry" : "neighbour"];
  if (neighbour.address !== undefined) words.push(address(neighbour.address));
  if (neighbour.linkAddress !== undefined) words.push(`lladdr ${hexOf(neighbour.linkAddress, ":")}`);
  if (neighbour.destination !== undefined) words.push(`dst ${address(neighbour.destination)}`);
  words.push(`dev ${nameOf(neighbour.ifindex)}`);
  return words.join(" ");
}

export function describeRule(rule: Rule): string {
  const words = [`IPv${rule.family} rule ${rule.priority}`];
  if (rule.inverted) words.push("not");
  if (rule.source !== undefined) words.push(`from ${address(rule.source.address)}/${rule.source.length}`);
  if (rule.destination !== undefined) words.push(`to ${address(rule.destination.address)}/${rule.destination.length}`);
  if (rule.inputInterface !== undefined) words.push(`iif ${rule.inputInterface}`);
  if (rule.outputInterface !== undefined) words.push(`oif ${rule.outputInterface}`);
  if (rule.mark !== undefined) words.push(`fwmark 0x${rule.mark.toString(16)}`);
  const suppressed = rule.suppressPrefixLength === undefined ? "" : ` suppress_prefixlength ${rule.suppressPrefixLength}`;
  return `${words.join(" ")} lookup ${rule.table}${suppressed}`;
}
