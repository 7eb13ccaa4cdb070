/**
 * Where routes of ours are in the kernel: all those of a table that have a protocol number. A change of either moves them; what was left at
 * a former place, by this agent or one before it, is found by the place alone.
 */
import type { Route, RouteChange, Rtnetlink, Rule } from "../../kernel/types.ts";
import { rulesOfPlace, sameRule } from "./transit-rules.ts";

export interface RoutePlace {
  /** 254 = main. */
  table: number;
  /** rtm_protocol. */
  protocol: number;
}

export function samePlace(a: RoutePlace, b: RoutePlace): boolean {
  return a.table === b.table && a.protocol === b.protocol;
}

/** Our rules that lead to a place and stand there. */
export function rulesAt(netlink: Pick<Rtnetlink, "rules">, place: RoutePlace): Rule[] {
  const ours = rulesOfPlace(place);
  if (ours.length === 0) return [];
  return ([4, 6] as const).flatMap(family => netlink.rules(family).filter(rule => ours.some(one => sameRule(one, rule))));
}

/** Removes our rules that lead to a place, but for those that stay. Throws NetlinkError. */
export function removeRules(
  netlink: Pick<Rtnetlink, "rules" | "deleteRule">,
  place: RoutePlace,
  stays: (rule: Rule) => boolean = () => false,
): void {
  for (const rule of rulesAt(netlink, place)) if (!stays(rule)) netlink.deleteRule(rule);
}

/** Removes all our routes of a place, and the rules that lead there, in slices, unless `until` says stop. Returns how many went. Throws NetlinkError where it cannot be read. */
export async function removePlace(netlink: Rtnetlink, place: RoutePlace, until: () => boolean): Promise<number> {
  let gone = 0;
  if (!until()) removeRules(netlink, place);
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
