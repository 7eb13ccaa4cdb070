import { describe, expect, it } from "vitest";
import { parseAddress } from "../../net/address.ts";
import type { Clock } from "../../platform/clock.ts";
import { TrackedNextHops } from "./tracked.ts";
import type { Resolution } from "./types.ts";

/** Time passes by what is resolved alone: a millisecond each. */
class Work {
  time = 0;
  readonly resolved: string[] = [];
  readonly told: number[][] = [];
  /** What the next resolution of an address says; else it is reachable over link 1. */
  readonly answers = new Map<string, Partial<Resolution>>();
  readonly next = new TrackedNextHops({
    clock: { now: () => 0, monotonic: () => this.time, after: () => ({ cancel() {} }) } satisfies Clock,
    resolve: nextHop => {
      this.time++;
      const text = nextHop.join(".");
      this.resolved.push(text);
      return { reachable: true, metric: 0, hops: [], connected: true, reason: "", links: [1], ...this.answers.get(text) };
    },
    changed: ids => this.told.push(ids),
    guard: work => work(),
  });

  track(...addresses: string[]): number[] {
    const ids = addresses.map(text => this.next.track(parseAddress(text), 0));
    this.resolved.length = 0;
    return ids;
  }
}

const turn = () => new Promise(resolve => setImmediate(resolve));

describe("tracked next hops", () => {
  it("are looked at again only where a prefix, an address or a link can concern them", async () => {
    const work = new Work();
    work.answers.set("10.2.0.1", { links: [2, 3] });
    const [a, , c] = work.track("10.1.0.1", "10.1.0.2", "10.2.0.1", "192.0.2.1");
    const resolvedBy = async (touch: () => void) => {
      work.resolved.length = 0;
      touch();
      while (work.next.busy) {
        work.next.run();
        await turn();
      }
      return [...work.resolved].sort();
    };
    expect(await resolvedBy(() => work.next.touch(parseAddress("10.1.0.0"), 16))).toEqual(["10.1.0.1", "10.1.0.2"]);
    expect(await resolvedBy(() => work.next.touch(parseAddress("10.1.0.2"), 32))).toEqual(["10.1.0.2"]);
    expect(await resolvedBy(() => work.next.touch(parseAddress("172.16.0.0"), 12))).toEqual([]);
    expect(await resolvedBy(() => work.next.touch(parseAddress("2001:db8::"), 32))).toEqual([]);
    expect(await resolvedBy(() => work.next.touchLink(3))).toEqual(["10.2.0.1"]);
    expect(await resolvedBy(() => work.next.touchLink(9))).toEqual([]);
    expect(work.told).toEqual([]);
    // Nothing is told of those that are as before; of one that is released nothing is looked at.
    work.answers.set("10.1.0.1", { reachable: false });
    work.next.touch(parseAddress("0.0.0.0"), 0);
    work.next.release(c);
    expect(await resolvedBy(() => {})).toEqual(["10.1.0.1", "10.1.0.2", "192.0.2.1"]);
    expect(work.told).toEqual([[a]]);
  });

  it("are looked at in slices, and told together", async () => {
    const work = new Work();
    const ids = work.track(...Array.from({ length: 1000 }, (_, n) => `10.0.${n >> 8}.${n & 255}`));
    for (const text of [...Array(1000).keys()].map(n => `10.0.${n >> 8}.${n & 255}`)) work.answers.set(text, { metric: 7 });
    work.next.touchLink(1);
    work.next.touch(parseAddress("10.0.0.0"), 8);
    // The one that comes again before its turn is looked at once.
    work.next.touch(parseAddress("10.0.0.9"), 32);
    let turns = 0;
    let longest = 0;
    for (; work.next.busy; turns++) {
      const before = work.time;
      if (turns === 0) work.next.run();
      else await turn();
      longest = Math.max(longest, work.time - before);
    }
    expect(longest).toBeLessThanOrEqual(2 * 16);
    expect(turns).toBeGreaterThan(20);
    expect(new Set(work.resolved).size).toBe(1000);
    // Those of the first look at the prefix come twice.
    expect(work.resolved.length).toBeLessThan(1300);
    // Some ten times a second, not with every slice.
    expect(work.told.length).toBeLessThan(15);
    expect(work.told.flat().sort((a, b) => a - b)).toEqual(ids);
  });

  it("that passed over a route of ours are looked at whenever others are", async () => {
    const work = new Work();
    work.answers.set("10.1.0.1", { looped: true });
    work.track("10.1.0.1", "10.2.0.1", "10.3.0.1");
    work.next.touch(parseAddress("10.2.0.1"), 32);
    while (work.next.busy) work.next.run();
    expect(work.resolved).toEqual(["10.2.0.1", "10.1.0.1"]);
  });
});
