/**
 * Where routes of ours are in the kernel: all those of a table that have a protocol number. A change of either moves them; what was left at
 * a former place, by this agent or one before it, is found by the place alone.
 */
import type { Route, RouteChange, Rtnetlink } from "../../kernel/types.ts";

export interface RoutePlace {
  /** 254 = main. */
  table: number;
  /** rtm_protocol. */
  protocol: number;
}

export function samePlace(a: RoutePlace, b: RoutePlace): boolean {
  return a.table === b.table && a.protocol === b.protocol;
}

/** Removes all our routes of a place in slices, unless `until` says stop. Returns how many went. Throws NetlinkError where it cannot be read. */
export async function removePlace(netlink: Rtnetlink, place: RoutePlace, until: () => boolean): Promise<number> {
  let gone = 0;
  for (const chunk of netlink.routes(place)) {
    if (until()) break;
    gone += removeRoutes(netlink, chunk);
    await turn();
  }
  return gone;
}

/** Returns how many went. */
export function removeRoutes(netlink: Rtnetlink, routes: readonly Route[]): number {
  const changes = routes.map(({ family, destination, length, type, table, protocol, metric }): RouteChange => {
    return { action: "delete", route: { family, destination, length, type, table, protocol, metric } };
  });
  return changes.length === 0 ? 0 : changes.length - netlink.batchRoutes(changes).length;
}

/** Lets the event loop do everything else that is due. */
export function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve));
}
