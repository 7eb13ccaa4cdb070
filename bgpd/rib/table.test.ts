import { describe, expect, it } from "vitest";
import { parsePrefix } from "../../net/address.ts";
import { FamilyIndexes, forwardingFamily } from "../family.ts";
import type { Fib, FibEntry } from "../fib/types.ts";
import { attributes, policyOf, TestRib, TestTracker } from "./testing.ts";

const ipv4Unicast = forwardingFamily(4);

const P = "10.0.0.0/8";

/** What the kernel was asked for last, as text: gateways, "blackhole", or nothing. */
class RecordingFib implements Fib {
  readonly outlived = Promise.resolve(false);
  readonly wants = new Map<string, string>();
  calls = 0;
  want(prefix: { address: Uint8Array; length: number }, entry: FibEntry | undefined): void {
    this.calls++;
    const text = `${[...prefix.address].join(".")}/${prefix.length}`;
    if (!entry) this.wants.delete(text);
    else this.wants.set(text, entry.type === "blackhole" ? "blackhole" : entry.nextHops.map(hop => hop.gateway?.join(".")).join(" "));
  }
  async sweep(): Promise<void> {}
  async settled(): Promise<void> {}
  counters() {
    return { installed: 0, adopted: 0, pending: 0, failed: 0, swept: 0, written: 0, removed: 0, refused: 0, repaired: 0 };
  }
  installed(): undefined {
    return undefined;
  }
  async close(): Promise<void> {}
}

const counts = (test: TestRib) => [
  test.rib.tables[ipv4Unicast].prefixes.size,
  test.rib.tables[ipv4Unicast].pathCount,
  test.rib.tables[ipv4Unicast].bestCount,
];

describe("paths", () => {
  it("are counted per slot and table through announce, replace and withdraw", async () => {
    const test = new TestRib();
    const [a, b] = [test.neighbor({ listens: false }), test.neighbor({ listens: false })];
    a.announce(attributes(), P, "11.0.0.0/8");
    b.announce(attributes({ path: [1, 2] }), P);
    await test.settled();
    expect([counts(test), a.slot.paths, b.slot.paths, test.best(P)]).toEqual([[2, 3, 2], [2, 0], [1, 0], "n0"]);
    a.announce(attributes({ path: [1, 2, 3] }), P);
    await test.settled();
    expect([counts(test), test.best(P)]).toEqual([[2, 3, 2], "n1"]);
    a.withdraw(P, "11.0.0.0/8", "12.0.0.0/8");
    b.withdraw(P);
    await test.settled();
    expect([counts(test), a.slot.paths, a.slot.accepted, test.rib.attributes.size]).toEqual([[0, 0, 0], [0, 0], [0, 0], 0]);
  });

  it("of a dead session go, while those of another stay", async () => {
    const test = new TestRib();
    const [a, b] = [test.neighbor({ listens: false }), test.neighbor({ listens: false })];
    for (const neighbor of [a, b]) neighbor.announce(attributes({ path: neighbor === a ? [1] : [1, 2] }), P, "11.0.0.0/8");
    await test.settled();
    a.down();
    await test.settled();
    expect([counts(test), test.best(P), [...test.rib.slots].map(slot => slot.neighbor)]).toEqual([[2, 2, 2], "n1", ["n1"]]);
  });

  it("of a session that is back take the place of the stale ones without a change of the best", async () => {
    const test = new TestRib();
    const a = test.neighbor({ listens: false });
    const listener = test.neighbor();
    a.announce(attributes(), P, "11.0.0.0/8");
    await test.settled();
    listener.updates = [];
    a.down(true);
    a.up();
    const stale = test.rib.slots.get(a.slot.staleSlot);
    a.announce(attributes(), P);
    await test.settled();
    expect([a.slot.paths, stale?.paths, counts(test), listener.updates]).toEqual([[1, 0], [1, 0], [2, 2, 2], []]);
    for (const family of FamilyIndexes) test.rib.purgeStale(stale!, family);
    await test.settled();
    expect([a.slot.staleSlot, counts(test), listener.updates]).toEqual([-1, [1, 1, 1], [["-11.0.0.0/8"]]]);
  });

  it("are withdrawn from the stale slot by the session that is back", async () => {
    const test = new TestRib();
    const a = test.neighbor({ listens: false });
    a.announce(attributes(), P);
    a.down(true);
    a.up();
    a.withdraw(P);
    await test.settled();
    expect(counts(test)).toEqual([0, 0, 0]);
  });

  it("taken over by a session with another BGP Identifier are judged by that", async () => {
    const test = new TestRib();
    const a = test.neighbor({ listens: false, routerId: 1 });
    const b = test.neighbor({ listens: false, routerId: 2 });
    for (const neighbor of [a, b]) neighbor.announce(attributes(), P);
    await test.settled();
    expect(test.best(P)).toBe("n0");
    a.down(true);
    Object.assign(a.options, { routerId: 3 });
    a.up();
    a.announce(attributes(), P);
    await test.settled();
    expect(test.best(P)).toBe("n1");
  });
});

describe("slot ids", () => {
  it("are used again only when nothing refers to them: late purges do not touch their next owner", async () => {
    const test = new TestRib();
    const a = test.neighbor({ listens: false });
    await test.settled();
    a.down(true);
    const stale = a.slot;
    for (const family of FamilyIndexes) test.rib.purgeStale(stale, family);
    await test.settled();
    const b = test.neighbor({ listens: false });
    expect(b.slot.id).toBe(stale.id);
    b.announce(attributes(), P);
    for (const family of FamilyIndexes) test.rib.purgeStale(stale, family);
    test.rib.closeSlot(stale, false);
    test.rib.reimport(stale);
    await test.settled();
    expect([test.best(P), b.slot.paths]).toEqual(["n1", [1, 0]]);
  });

  it("do not carry cached answers from one owner to the next", async () => {
    const test = new TestRib();
    const keeper = test.neighbor({ listens: false, external: false, client: true, routerId: 1 });
    const inside = test.neighbor({ external: false });
    const outside = test.neighbor({ listens: false, external: true });
    keeper.announce(attributes(), "11.0.0.0/8");
    outside.announce(attributes(), P);
    await test.settled();
    const { id } = outside.slot;
    outside.down();
    await test.settled();
    // A non-client inside: what it tells is not passed on to another non-client.
    const next = test.neighbor({ listens: false, external: false });
    expect(next.slot.id).toBe(id);
    next.announce(attributes(), P);
    await test.settled();
    expect([...inside.table.keys()]).toEqual(["11.0.0.0/8"]);
  });

  it("flap quickly without a trace", async () => {
    const test = new TestRib();
    const a = test.neighbor();
    const b = test.neighbor();
    for (let round = 0; round < 20; round++) {
      a.announce(attributes({ path: [round + 1] }), P, "11.0.0.0/8");
      if (round % 3 === 0) await test.settled();
      a.down(round % 2 === 0);
      a.up();
    }
    a.down();
    await test.settled();
    expect([counts(test), [...b.table], [...test.rib.slots].map(slot => slot.neighbor), test.rib.attributes.size]).toEqual([
      [0, 0, 0],
      [],
      ["n1"],
      0,
    ]);
  });
});

describe("the best route", () => {
  it("is never a rejected one", async () => {
    const test = new TestRib();
    const policy = policyOf([{ match: { communities: { any: ["1:1"] } }, action: { result: "reject" } }]);
    const [a, b] = [test.neighbor({ listens: false, imports: { policy } }), test.neighbor({ listens: false })];
    const listener = test.neighbor();
    a.announce(attributes({ communities: [0x10001] }), P);
    await test.settled();
    expect([counts(test), a.slot.accepted, test.best(P)]).toEqual([[1, 1, 0], [0, 0], undefined]);
    a.announce(attributes(), P);
    b.announce(attributes({ path: [1, 2] }), P);
    await test.settled();
    expect([test.best(P), listener.table.size]).toEqual(["n0", 1]);
    a.announce(attributes({ communities: [0x10001] }), P);
    await test.settled();
    expect([test.best(P), a.slot.accepted, listener.table.get(P)?.asPath[0].asns]).toEqual(["n1", [0, 0], [65000, 1, 2]]);
  });

  it("follows the reachability and cost of next hops", async () => {
    const tracker = new TestTracker();
    const test = new TestRib({ tracker });
    const [a, b] = [test.neighbor({ listens: false, routerId: 1 }), test.neighbor({ listens: false, routerId: 2 })];
    a.announce(attributes({ nextHop: "192.0.2.1" }), P);
    b.announce(attributes({ nextHop: "192.0.2.2" }), P);
    await test.settled();
    expect(test.best(P)).toBe("n0");
    tracker.metrics.set("192.0.2.1", 10);
    tracker.change("192.0.2.1");
    await test.settled();
    expect(test.best(P)).toBe("n1");
    tracker.unreachable.add("192.0.2.2");
    tracker.change("192.0.2.2");
    await test.settled();
    expect(test.best(P)).toBe("n0");
    tracker.unreachable.add("192.0.2.1");
    tracker.change("192.0.2.1");
    await test.settled();
    expect(test.best(P)).toBeUndefined();
    tracker.unreachable.clear();
    tracker.change("192.0.2.1", "192.0.2.2");
    await test.settled();
    expect(test.best(P)).toBe("n1");
    for (const neighbor of [a, b]) neighbor.down();
    await test.settled();
    expect(tracker.size).toBe(0);
  });

  it("a route of our own goes before all others", async () => {
    const test = new TestRib();
    test.neighbor({ listens: false }).announce(attributes({ localPref: 999, path: [1] }), P);
    test.rib.setNetworks([{ prefix: P, kind: "pod", source: "Advertisement/pods", discard: false }]);
    await test.settled();
    expect(test.best(P)).toBe("local");
    test.rib.setNetworks([]);
    await test.settled();
    expect(test.best(P)).toBe("n0");
  });
});

describe("several next hops", () => {
  async function wants(
    multipath: { ebgp: number; ibgp: number; asPathRelax: boolean },
    routes: { nextHop: string; path?: number[]; external?: boolean; med?: number }[],
  ): Promise<string | undefined> {
    const fib = new RecordingFib();
    const test = new TestRib({ fib, tracker: new TestTracker() });
    test.configure({ multipath });
    for (const { external = true, ...route } of routes) {
      test.neighbor({ listens: false, external }).announce(attributes(route), P);
      await test.settled();
    }
    return fib.wants.get(P);
  }
  const two = { ebgp: 2, ibgp: 1, asPathRelax: false };

  it("share the load up to the limit of their kind", async () => {
    const routes = ["10.9.0.1", "10.9.0.2", "10.9.0.3"].map(nextHop => ({ nextHop }));
    expect(await wants({ ...two, ebgp: 1 }, routes)).toBe("10.9.0.1");
    expect((await wants(two, routes))?.split(" ").length).toBe(2);
    expect(await wants({ ...two, ebgp: 8 }, routes)).toBe("10.9.0.1 10.9.0.2 10.9.0.3");
    expect(
      await wants(
        { ...two, ebgp: 8 },
        routes.map(route => ({ ...route, external: false })),
      ),
    ).toBe("10.9.0.1");
    expect(
      await wants(
        { ebgp: 1, ibgp: 2, asPathRelax: false },
        routes.slice(1).map(route => ({ ...route, external: false })),
      ),
    ).toBe("10.9.0.2 10.9.0.3");
  });

  it("must differ, and must be equal in what decides before them", async () => {
    expect(await wants({ ...two, ebgp: 8 }, [{ nextHop: "10.9.0.1" }, { nextHop: "10.9.0.1" }])).toBe("10.9.0.1");
    expect(await wants({ ...two, ebgp: 8 }, [{ nextHop: "10.9.0.1" }, { nextHop: "10.9.0.2", med: 1 }])).toBe("10.9.0.1");
    expect(await wants({ ebgp: 8, ibgp: 8, asPathRelax: true }, [{ nextHop: "10.9.0.1" }, { nextHop: "10.9.0.2", external: false }])).toBe(
      "10.9.0.1",
    );
  });

  it("must have the same AS_PATH unless that is relaxed to its length", async () => {
    const routes = [
      { nextHop: "10.9.0.1", path: [1, 9] },
      { nextHop: "10.9.0.2", path: [2, 9] },
    ];
    expect(await wants({ ...two, ebgp: 8 }, routes)).toBe("10.9.0.1");
    expect(await wants({ ...two, ebgp: 8, asPathRelax: true }, routes)).toBe("10.9.0.1 10.9.0.2");
  });

  it("are written anew when one of them is another address under the id of the former", async () => {
    const fib = new RecordingFib();
    const test = new TestRib({ fib, tracker: new TestTracker() });
    test.configure({ multipath: { ebgp: 8, ibgp: 1, asPathRelax: false } });
    const [a, b] = [test.neighbor({ listens: false }), test.neighbor({ listens: false })];
    a.announce(attributes({ nextHop: "10.9.0.1" }), P);
    b.announce(attributes({ nextHop: "10.9.0.2" }), P);
    await test.settled();
    b.withdraw(P);
    b.announce(attributes({ nextHop: "10.9.0.3" }), P);
    await test.settled();
    expect(fib.wants.get(P)).toBe("10.9.0.1 10.9.0.3");
  });

  it("change with the configuration", async () => {
    const fib = new RecordingFib();
    const test = new TestRib({ fib, tracker: new TestTracker() });
    for (const nextHop of ["10.9.0.1", "10.9.0.2"]) test.neighbor({ listens: false }).announce(attributes({ nextHop }), P);
    await test.settled();
    expect(fib.wants.get(P)).toBe("10.9.0.1");
    test.configure({ multipath: { ebgp: 4, ibgp: 1, asPathRelax: false } });
    await test.settled();
    expect(fib.wants.get(P)).toBe("10.9.0.1 10.9.0.2");
  });
});

it("asks the kernel for nothing where nothing changed", async () => {
  const fib = new RecordingFib();
  const test = new TestRib({ fib, tracker: new TestTracker() });
  const a = test.neighbor({ listens: false });
  a.announce(attributes(), P);
  await test.settled();
  const before = fib.calls;
  a.announce(attributes(), P);
  test.neighbor({ listens: false }).announce(attributes({ path: [1, 2, 3] }), P);
  await test.settled();
  expect(fib.calls).toBe(before);
});

it("installs a blackhole for a range of ours, and for nothing else of ours", async () => {
  const fib = new RecordingFib();
  const test = new TestRib({ fib });
  const network = { kind: "aggregate" as const, source: "Advertisement/a" };
  test.rib.setNetworks([
    { ...network, prefix: P, discard: true },
    { ...network, prefix: "11.0.0.0/8", discard: false },
  ]);
  await test.settled();
  expect([...fib.wants]).toEqual([[P, "blackhole"]]);
  test.rib.setNetworks([]);
  await test.settled();
  expect([...fib.wants]).toEqual([]);
});

it("leaves nothing behind after a full feed and its withdrawal", async () => {
  const tracker = new TestTracker();
  const test = new TestRib({ tracker });
  const [feeder, listener] = [test.neighbor(), test.neighbor()];
  const inside = test.neighbor({ external: false });
  for (let set = 0; set < 200; set++) {
    const prefixes = Array.from({ length: 50 }, (_, n) => `${20 + (set >> 6)}.${set & 63}.${n}.0/24`);
    feeder.announce(attributes({ path: [1, set + 1], localPref: 100 }), ...prefixes);
  }
  await test.settled();
  expect([test.rib.tables[ipv4Unicast].prefixes.size, listener.table.size, inside.table.size]).toEqual([10_000, 10_000, 10_000]);
  feeder.down();
  await test.settled();
  expect([test.rib.tables[ipv4Unicast].prefixes.size, listener.table.size, inside.table.size]).toEqual([0, 0, 0]);
  expect([test.rib.attributes.size, tracker.size]).toEqual([0, 0]);
  feeder.up();
  feeder.announce(attributes(), P);
  await test.settled();
  expect(test.rib.tables[ipv4Unicast].prefixes.findPrefix(parsePrefix(P))).toBeGreaterThan(0);
  expect([...listener.table.keys()]).toEqual([P]);
});
