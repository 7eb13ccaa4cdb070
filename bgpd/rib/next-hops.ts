/**
 * The next hops of all paths as columns for the decision: reachable or not, and at what cost. Fed by the tracker (bgpd/fib), or, without a
 * kernel (a route server in a test), by nothing: then every next hop counts as reachable at cost 0.
 */
import { formatAddress, isLinkLocal } from "../../net/address.ts";
import { type FamilyIndex, forwardingFamily } from "../family.ts";
import type { NextHopTracker, Resolution } from "../fib/types.ts";
import { grown } from "../table/growth.ts";

const UNREACHABLE = 0;
const REACHABLE = 1;
/** Reachable, by routes that we learned: see leadsThrough(). */
export const THROUGH_OURS = 2;

export class NextHopColumns {
  /** By next-hop id: UNREACHABLE, REACHABLE or THROUGH_OURS. Id 0 = the route has none (it is ours). */
  reachable = new Uint8Array(64).fill(REACHABLE, 0, 1);
  cost = new Float64Array(64);
  readonly #tracker: NextHopTracker | undefined;
  /** Without a tracker: one id per next hop for good, as there is nobody to resolve it. */
  readonly #untracked = new Map<string, number>();

  constructor(tracker: NextHopTracker | undefined) {
    this.#tracker = tracker;
  }

  /** `ifindex`: the link of the session that told it; it counts only where the next hop is link-local. Tracker ids are moved up by one, as 0 means "none". */
  track(nextHop: Uint8Array, ifindex: number): number {
    if (this.#tracker) {
      const linkLocal = nextHop.length === 32 || isLinkLocal(nextHop);
      const id = this.#tracker.track(nextHop, linkLocal ? ifindex : 0) + 1;
      this.#set(id, this.#tracker.resolution(id - 1));
      return id;
    }
    const text = `${formatAddress(nextHop.subarray(0, nextHop.length === 4 ? 4 : 16))}%${ifindex}`;
    let id = this.#untracked.get(text);
    if (id === undefined) {
      id = this.#untracked.size + 1;
      this.#untracked.set(text, id);
    }
    this.#set(id, { reachable: true, metric: 0 });
    return id;
  }

  release(id: number): void {
    this.#tracker?.release(id - 1);
  }

  resolution(id: number): Resolution | undefined {
    return id === 0 ? undefined : this.#tracker?.resolution(id - 1);
  }

  /** Whether a next hop leads through our route to this prefix, and so cannot be that of a path to it. */
  leadsThrough(id: number, family: FamilyIndex, prefix: number): boolean {
    const ours = this.resolution(id)?.through ?? [];
    return ours.some(one => one.prefix === prefix && forwardingFamily(one.family) === family);
  }

  /** Takes over what the tracker reports; returns our ids. */
  changed(trackerIds: readonly number[]): number[] {
    const tracker = this.#tracker;
    if (!tracker) return [];
    return trackerIds.map(id => {
      this.#set(id + 1, tracker.resolution(id));
      return id + 1;
    });
  }

  #set(id: number, resolution: Pick<Resolution, "reachable" | "metric" | "through">): void {
    if (id >= this.reachable.length) {
      const length = Math.max(id + 1, this.reachable.length * 2);
      this.reachable = grown(this.reachable, length);
      this.cost = grown(this.cost, length);
    }
    this.reachable[id] = !resolution.reachable ? UNREACHABLE : resolution.through ? THROUGH_OURS : REACHABLE;
    this.cost[id] = resolution.metric;
  }
}
