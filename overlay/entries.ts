/**
 * What stands on a tunnel's device: for each remote node a permanent neighbour and a forwarding entry (FDB), so that nothing is learned, flooded or asked
 * for. Ours are known by their hardware address, which is that of an end; what others put there is left. Pure.
 */
import { NUD_PERMANENT } from "../kernel/constants.ts";
import type { Neighbour, NeighbourChange } from "../kernel/types.ts";
import { type Address, sameOctets } from "../net/address.ts";
import { isTunnelMac, tunnelGateway, tunnelMac } from "./names.ts";

/** Both entries of each end, on the device with this index. */
export function entriesFor(ends: readonly Address[], ifindex: number): Neighbour[] {
  const common = { ifindex, state: NUD_PERMANENT, flags: 0 };
  return ends.flatMap(end => {
    const linkAddress = tunnelMac(end);
    const family = end.length === 4 ? 4 : 6;
    return [
      { ...common, family: "bridge", linkAddress, destination: end },
      { ...common, family, address: tunnelGateway(end, end), linkAddress },
    ] as const;
  });
}

/** A next hop of the other family that stands for an end. */
export interface Alias {
  address: Address;
  end: Address;
}

/** What leads from such next hops to their ends. */
export function entriesForAliases(aliases: readonly Alias[], ifindex: number): Neighbour[] {
  return aliases.map(({ address, end }) => {
    const family = address.length === 4 ? 4 : 6;
    return { ifindex, state: NUD_PERMANENT, flags: 0, family, address: tunnelGateway(address, end), linkAddress: tunnelMac(end) };
  });
}

/** What makes `found` into `wanted`. */
export function differences(found: readonly Neighbour[], wanted: readonly Neighbour[]): NeighbourChange[] {
  const known = new Map(found.map(entry => [keyOf(entry), entry]));
  const keys = new Set(wanted.map(keyOf));
  const missing = wanted.filter(entry => !sameEntry(known.get(keyOf(entry)), entry));
  const left = found.filter(entry => isOurs(entry) && !keys.has(keyOf(entry)));
  return [
    ...missing.map((neighbour): NeighbourChange => ({ action: "set", neighbour })),
    ...left.map((neighbour): NeighbourChange => ({ action: "delete", neighbour })),
  ];
}

/** What the kernel tells entries of one device apart by. */
function keyOf({ family, address, linkAddress }: Neighbour): string {
  return `${family} ${(family === "bridge" ? linkAddress : address)?.join(".")}`;
}

function sameEntry(found: Neighbour | undefined, wanted: Neighbour): boolean {
  if (!found || (found.state & NUD_PERMANENT) === 0) return false;
  return same(found.linkAddress, wanted.linkAddress) && same(found.destination, wanted.destination);
}

function isOurs({ family, linkAddress, destination, state }: Neighbour): boolean {
  if ((state & NUD_PERMANENT) === 0 || !linkAddress) return false;
  return family === "bridge" ? destination !== undefined && same(linkAddress, tunnelMac(destination)) : isTunnelMac(linkAddress);
}

function same(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a && b ? sameOctets(a, b) : a === b;
}
