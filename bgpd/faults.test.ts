/**
 * An exception at each place where callbacks of the event loop enter the speaker: it costs the one route or session that it came with, is counted and
 * logged with what it was about, and everything else goes on. The places are poisoned by replacing one method for one call.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { systemClock } from "../platform/clock.ts";
import { Faults, guardedClock, guardedKernel } from "./faults.ts";
import { createFib } from "./fib/fib.ts";
import { createNextHopTracker } from "./fib/next-hop.ts";
import { eventually, PROTOCOL, prefix as parse, silent, TestNamespace } from "./fib/testing.ts";
import { FibWriter } from "./fib/writer.ts";
import { MessageFramer } from "./message/header.ts";
import { UpdateDecoder } from "./message/update-decoder.ts";
import { UpdateWriter } from "./message/update-writer.ts";
import { Exporter } from "./rib/exporter.ts";
import { RibTable } from "./rib/table.ts";
import { UpdateGroup } from "./rib/update-group.ts";
import { MemoryLog } from "./session/testing.ts";
import { FakeClock } from "./testing/fake-clock.ts";
import { type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const US = "10.0.0.1";
const SOURCE = "10.0.0.2";
const THIRD = "10.0.0.3";
const LISTENER = "10.0.0.4";

let world: MemoryWorld;
let us: MemorySpeaker;
let source: MemorySpeaker;
let third: MemorySpeaker;
let listener: MemorySpeaker;

beforeEach(async () => {
  world = new MemoryWorld();
  const asns: Record<string, number> = { [US]: 65001, [SOURCE]: 65002, [THIRD]: 65003, [LISTENER]: 65004 };
  const towardsUs = (address: string) => world.speaker(address, { asn: asns[address], neighbors: [neighborAt(US, 65001)] });
  const neighbors = [SOURCE, THIRD, LISTENER].map(address => neighborAt(address, asns[address]));
  us = world.speaker(US, { asn: 65001, neighbors });
  [source, third, listener] = [SOURCE, THIRD, LISTENER].map(towardsUs);
  for (const speaker of [us, source, third, listener]) speaker.apply();
  await world.run(10);
});

afterEach(async () => {
  vi.restoreAllMocks();
  await world.close();
});

/** The next call of the method throws; where a test is given, the next for which it holds. */
function poison<Target extends object>(
  target: Target,
  method: keyof Target & string,
  when: (...args: unknown[]) => boolean = () => true,
): void {
  const original = target[method] as (...args: unknown[]) => unknown;
  let left = 1;
  vi.spyOn(target, method as never).mockImplementation(function (this: unknown, ...args: unknown[]) {
    if (left > 0 && when.apply(this, args)) {
      left--;
      throw new TypeError(`poisoned ${method}`);
    }
    return original.apply(this, args);
  } as never);
}

const FIRST = "192.0.2.0/24";
const OTHER = "198.51.100.0/24";

describe("a fault costs one route", () => {
  it.each<[place: string, poison: () => void]>([
    ["decision", () => poison(RibTable.prototype, "isEligible")],
    ["export", () => poison(Exporter.prototype, "compute")],
    ["encoding", () => poison(UpdateWriter.prototype, "announce")],
  ])("in the %s", async (place, poisonIt) => {
    // Of the four speakers only ours has neighbours that hear of it; the others' own tables are out of the way.
    poisonIt();
    const announced = [network(FIRST, { attributes: { med: 1 } }), network(OTHER, { attributes: { med: 2 } })];
    const mine = us.speaker;
    us.apply({ networks: announced });
    await world.run(2);
    const faults = mine.snapshot().faults;
    expect(faults).toMatchObject({ count: 1, byPlace: { [place]: 1 }, last: { place, text: expect.stringContaining("poisoned") } });
    expect(us.log.lines).toContainEqual(expect.stringContaining(`error fault of podlane: ${place}`));
    expect(mine.problems()).toContainEqual(expect.objectContaining({ field: "faults", severity: "error" }));
    const heard = [source, third, listener].map(({ best }) => Object.keys(best).length);
    // One route is missing at somebody; the other is everywhere.
    for (const { best } of [source, third, listener]) expect(Object.keys(best)).toContain(OTHER);
    expect(Math.min(...heard)).toBe(1);
    expect(us.speaker.snapshot().neighbors.map(({ state }) => state)).toEqual(["Established", "Established", "Established"]);
    // Whatever comes next works, also for the prefix that was given up.
    us.apply({ networks: [network(FIRST, { attributes: { med: 3 } }), network(OTHER, { attributes: { med: 2 } })] });
    await world.run(2);
    for (const { best } of [source, third, listener]) expect(Object.keys(best).sort()).toEqual([FIRST, OTHER]);
    expect(mine.snapshot().faults?.count).toBe(1);
  });
});

describe("a fault costs one session", () => {
  it.each<[what: string, text: string, poison: () => void]>([
    ["decoding an UPDATE", "poisoned decode", () => poison(UpdateDecoder.prototype, "decode")],
    ["taking its routes in", "poisoned announce", () => poison(RibTable.prototype, "announce", (_prefix, slot) => slot !== 0)],
    ["the framing of its octets", "poisoned push", () => poison(MessageFramer.prototype, "push")],
  ])("in %s", async (_what, text, poisonIt) => {
    third.apply({ networks: [network(OTHER)] });
    await world.run(2);
    poisonIt();
    source.apply({ networks: [network(FIRST)] });
    await world.run(2);
    const hurt = [us, source, third, listener].flatMap(({ speaker }) => speaker.snapshot().faults ?? []);
    expect(hurt).toMatchObject([{ count: 1, byPlace: { session: 1 }, last: { text, octets: expect.stringMatching(/^f{32}/) } }]);
    // It stays down for a minute and then works; nobody else noticed.
    expect(Object.keys(listener.best)).toContain(OTHER);
    expect(us.neighbor(SOURCE).lastDown?.text).toContain(`internal error: ${text}`);
    expect(us.neighbor(THIRD).state).toBe("Established");
    await world.run(30);
    expect(us.neighbor(SOURCE).state).not.toBe("Established");
    await world.run(90);
    expect(us.neighbor(SOURCE).state).toBe("Established");
    expect(Object.keys(listener.best).sort()).toEqual([FIRST, OTHER]);
  });
});

describe("a fault costs one piece of work", () => {
  it("in an update group, and in a walk through the table", async () => {
    poison(UpdateGroup.prototype, "run");
    us.apply({ networks: [network(FIRST)] });
    await world.run(1);
    poison(RibTable.prototype, "eachPath");
    expect(us.speaker.snapshot().faults?.byPlace).toMatchObject({ "update group": 1 });
    us.apply({ networks: [network(FIRST), network(OTHER)], decision: { alwaysCompareMed: true, preferOldest: false } });
    await world.run(2);
    expect(us.speaker.snapshot().faults?.byPlace).toMatchObject({ "table walk": 1 });
    for (const { best } of [source, third, listener]) expect(Object.keys(best).sort()).toEqual([FIRST, OTHER]);
  });

  it("in a timer and in a listener of kernel events", () => {
    const clock = new FakeClock();
    const log = new MemoryLog();
    const faults = new Faults(clock, log);
    let ran = 0;
    const guarded = guardedClock(clock, faults);
    guarded.after(1000, () => {
      throw new Error("poisoned timer");
    });
    guarded.after(1000, () => ran++);
    clock.advance(1000);
    let deliver: (events: []) => void = () => {};
    const kernel = guardedKernel(
      {
        netlink: {} as never,
        watch: listener => {
          deliver = listener as never;
          return () => {};
        },
      },
      faults,
    );
    kernel.watch(() => {
      throw new Error("poisoned listener");
    });
    deliver([]);
    expect(ran).toBe(1);
    expect(faults.snapshot()).toMatchObject({ count: 2, byPlace: { timer: 1, "kernel event": 1 } });
  });

  it("in a listener of the speaker's own events", async () => {
    let heard = 0;
    us.speaker.on(() => {
      throw new Error("poisoned");
    });
    us.speaker.on(() => heard++);
    us.speaker.reset(SOURCE, "test");
    await world.run(1);
    expect(heard).toBeGreaterThan(0);
    expect(us.speaker.snapshot().faults?.byPlace["event listener"]).toBe(heard);
    expect(us.neighbor(THIRD).state).toBe("Established");
  });
});

describe("the log of faults", () => {
  it("has one line a second for each place, with a count of what was left out", () => {
    const clock = new FakeClock();
    const log = new MemoryLog();
    const faults = new Faults(clock, log);
    for (let n = 0; n < 1000; n++) faults.note("export", new Error("x"), { octets: Uint8Array.of(1, 2) });
    clock.advance(1000);
    faults.note("export", new Error("x"));
    expect(log.lines).toEqual([
      "error fault of podlane: export: x",
      "error fault of podlane: export: x (999 more there since the last such line)",
    ]);
    expect(faults.snapshot()?.count).toBe(1001);
  });
});

describe.skipIf(process.getuid?.() !== 0)("with a kernel", () => {
  it("a route whose writing throws is tried again, and the others go in", async () => {
    const ns = new TestNamespace();
    const faults = new Faults(systemClock, silent);
    const fib = createFib({ kernel: ns.kernel(), table: 254, protocol: PROTOCOL, metric: 20, clock: systemClock, log: silent, faults });
    try {
      const write = FibWriter.prototype.write;
      let poisoned = true;
      vi.spyOn(FibWriter.prototype, "write").mockImplementation(function (this: FibWriter, tasks) {
        const bad = tasks.some(({ state, id }) => state.prefixes.word(id, 0) === 0xc0000200);
        if (bad && poisoned) throw new TypeError("poisoned write");
        return write.call(this, tasks);
      });
      const hop = { type: "unicast" as const, nextHops: [{ gateway: Uint8Array.of(10, 0, 0, 2), ifindex: ns.ifindex("v0") }] };
      fib.want(parse(FIRST), hop);
      fib.want(parse(OTHER), hop);
      await fib.settled();
      expect([ns.routes(FIRST).length, ns.routes(OTHER).length]).toEqual([0, 1]);
      expect(faults.snapshot()?.last).toMatchObject({ place: "kernel route", about: FIRST });
      expect(fib.counters()).toMatchObject({ failed: 1, lastError: "poisoned write" });
      poisoned = false;
      await eventually(() => expect(ns.routes(FIRST)).toHaveLength(1));
    } finally {
      await fib.close({ flush: false });
      ns.remove();
    }
  });

  it("events that throw make the tracker and the FIB read the kernel again", async () => {
    const ns = new TestNamespace();
    const faults = new Faults(systemClock, silent);
    const kernel = guardedKernel(ns.kernel(), faults);
    const tracker = createNextHopTracker({ kernel, protocols: [PROTOCOL], table: 254, metric: 0, clock: systemClock, log: silent });
    try {
      const id = tracker.track(Uint8Array.of(203, 0, 113, 1), 0);
      let poisoned = true;
      tracker.onChange(() => {
        if (!poisoned) return;
        poisoned = false;
        throw new Error("poisoned listener");
      });
      ns.ip("route add 203.0.113.0/24 via 10.0.0.2");
      await eventually(() => expect(faults.snapshot()?.byPlace).toEqual({ "kernel event": 1 }));
      ns.ip("route add 203.0.113.0/25 via 10.0.0.3");
      await eventually(() => expect(tracker.resolution(id).hops[0].gateway).toEqual(Uint8Array.of(10, 0, 0, 3)));
    } finally {
      tracker.close();
      ns.remove();
    }
  });
});
