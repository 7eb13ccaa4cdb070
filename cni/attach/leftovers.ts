/** What podlane has on a node for its pods, known by its marks: for who takes podlane away, with or without an agent. */
import { readSysctl, writeSysctl } from "../../kernel/index.ts";
import type { Link, Rtnetlink } from "../../kernel/types.ts";
import { formatPrefix } from "../../net/address.ts";
import { type FormerSysctl, formerSysctls } from "./former-sysctls.ts";
import { ForwardPolicy } from "./forward-policy.ts";
import { BRIDGE_ALIAS, isPodLink, parsePodAlias } from "./names.ts";
import { dropRangeDiscard, rangeDiscards } from "./routed/range-discards.ts";

export interface PodLink {
  index: number;
  name: string;
  /** Of whom, in words. */
  pod: string;
}

export function podLinks(netlink: Rtnetlink): PodLink[] {
  return netlink.links().filter(isPodLink).map(podOf);
}

function podOf({ index, name, alias }: Link): PodLink {
  const { containerId, ifname, addresses = [] } = parsePodAlias(alias) ?? {};
  const pod = containerId === undefined ? "an unknown pod" : `container ${containerId} ${ifname} ${addresses.join(", ")}`;
  return { index, name, pod };
}

/** Whether it is on the pods' side of the node: its addresses are gateways. */
export function isPodSide(link: Link): boolean {
  return isPodLink(link) || (link.kind === "bridge" && link.alias === BRIDGE_ALIAS);
}

/** Removes the routes that refuse what is for addresses that no pod has; says in words which. */
export function takeBackRangeDiscards(netlink: Rtnetlink, dryRun: boolean): string[] {
  const found = rangeDiscards(netlink);
  if (!dryRun) for (const prefix of found) dropRangeDiscard(netlink, prefix);
  return found.map(prefix => `unreachable ${formatPrefix(prefix)} in table main`);
}

/** Bridges of ours, and the names of ports that others put there. */
export function podBridges(netlink: Rtnetlink): { index: number; name: string; foreign: string[] }[] {
  const links = netlink.links();
  return links
    .filter(({ kind, alias }) => kind === "bridge" && alias === BRIDGE_ALIAS)
    .map(({ index, name }) => ({
      index,
      name,
      foreign: links.filter(link => link.master === index && !isPodLink(link)).map(port => port.name),
    }));
}

/** Removes our rules from packet filters of others; says in words where there were some. */
export async function takeBackForwardRules(dryRun: boolean): Promise<string[]> {
  const policy = new ForwardPolicy();
  const chains = await policy.ownChains();
  if (chains.length > 0 && !dryRun) await policy.clear();
  return chains;
}

/** Those that still have the value that podlane gave them, the last one changed first. */
export function changedSysctls(stateDirectory: string): FormerSysctl[] {
  const stands = ({ name, value }: FormerSysctl) => {
    try {
      return readSysctl(name) === value;
    } catch {
      // Its interface is gone.
      return false;
    }
  };
  return formerSysctls(stateDirectory).filter(stands).reverse();
}

/** Throws like writeSysctl. */
export function setBack({ name, before }: FormerSysctl): void {
  writeSysctl(name, before);
}
