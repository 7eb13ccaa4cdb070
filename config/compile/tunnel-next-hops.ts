/** Next hops of a family in which two nodes have no addresses, only a tunnel between them: see tunnels.ts. */
import { type PolicyConfig, RouteKinds } from "../../bgpd/config.ts";
import { type Context, familyName } from "./context.ts";
import type { Lists } from "./neighbors.ts";
import type { Session } from "./sessions.ts";
import { firstAddresses } from "./tunnels.ts";

/** Adds to `named` what puts next hops into the routes of such families. */
export function nameTunnelNextHops(
  { self }: Context,
  sessions: readonly Session[],
  named: { policies: Record<string, PolicyConfig>; lists: Lists },
): void {
  for (const { beside, neighbor } of sessions) {
    const config = beside && neighbor.families[familyName(beside)];
    const own = config && named.lists.get(config);
    const [nextHop] = beside ? firstAddresses(self, beside) : [];
    if (!own || nextHop === undefined) continue;
    const name = `tunnel:${familyName(beside!)}`;
    if (own.exportPolicies[0] === name) continue;
    // Those that are reflected keep theirs.
    const kinds = RouteKinds.filter(kind => kind !== "learned");
    named.policies[name] = { rules: [{ name: "next hop", match: { kinds }, action: { result: "continue", set: { nextHop } } }] };
    named.lists.set(config, { ...own, exportPolicies: [name, ...own.exportPolicies] });
  }
}
