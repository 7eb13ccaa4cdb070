import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatPrefix, parseAddress } from "../../net/address.ts";
import { FamilyIndexes, forwardingFamily } from "../family.ts";
import type { PathAttributes } from "../message/types.ts";
import { attributes, policyOf, rejectAll, type TestNeighbor, TestRib } from "./testing.ts";

const ipv4Unicast = forwardingFamily(4);

/** What the export rules give a neighbour for every prefix, computed one by one without any memory, and never the neighbour's own routes. */
function expected(neighbor: TestNeighbor): Map<string, PathAttributes> {
  const { rib } = neighbor.test;
  const wanted = new Map<string, PathAttributes>();
  for (const table of rib.tables) {
    const group = rib.groupOf(table.family, neighbor.neighborIndex);
    for (let prefix = 1; prefix < table.prefixes.limit; prefix++) {
      const best = table.evaluate(prefix);
      if (!group || best === 0 || rib.slots.get(table.pathSlot[best])?.neighborIndex === neighbor.neighborIndex) continue;
      const { attributes: id } = group.exporter.compute(prefix, best);
      if (id === 0) continue;
      wanted.set(formatPrefix(table.prefixes.prefix(prefix)), rib.attributes.parse(id));
      rib.attributes.release(id);
    }
  }
  return wanted;
}

const sorted = (table: Map<string, PathAttributes>) => [...table].sort(([a], [b]) => (a < b ? -1 : 1));

/** After everything is undone nothing may be left: neither attribute sets nor prefix ids. */
async function expectEmpty(test: TestRib, neighbors: TestNeighbor[]): Promise<void> {
  for (const neighbor of neighbors) {
    neighbor.unblock();
    neighbor.down();
  }
  await test.settled();
  expect([test.rib.attributes.size, ...test.rib.tables.map(table => table.prefixes.size)]).toEqual([0, 0, 0]);
  expect([...test.rib.slots]).toEqual([]);
}

describe("any sequence of events", () => {
  const prefixes = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/24", "2001:db8:1::/48", "2001:db8:2::/48"];
  const sets = [
    attributes(),
    attributes({ path: [65001, 65002] }),
    attributes({ med: 5, localPref: 50 }),
    attributes({ localPref: 300, communities: [0xffffff01] }),
    attributes({ path: [1, 2, 3, 4], communities: [7] }),
    // With our AS in front of the path a message holds it and the /16, but not the /24; and not even the default route.
    attributes({ unknown: [{ flags: 0xe0, code: 99, value: new Uint8Array(4096 - 23 - 4 - 13 - 7 - 4 - 3) }] }),
    attributes({ unknown: [{ flags: 0xe0, code: 99, value: new Uint8Array(4096) }] }),
  ];
  const v6 = (set: PathAttributes): PathAttributes => ({ ...set, nextHop: parseAddress("2001:db8::99") });
  const moves = [
    { group: "a", rules: {} },
    { group: "b", rules: { policy: policyOf([{ action: { result: "accept", communities: { add: ["1:1"] } } }]) } },
    {
      group: "c",
      rules: { policy: policyOf([{ match: { prefixes: [{ prefix: "10.0.0.0/8", le: 16 }] }, action: { result: "reject" } }]) },
    },
    { group: "d", rules: { policy: rejectAll } },
  ];
  const command = fc.oneof(
    { weight: 6, arbitrary: fc.tuple(fc.constant("announce" as const), fc.nat(3), fc.nat(5), fc.nat(6)) },
    { weight: 3, arbitrary: fc.tuple(fc.constant("withdraw" as const), fc.nat(3), fc.nat(5), fc.constant(0)) },
    {
      weight: 2,
      arbitrary: fc.tuple(
        fc.constantFrom("block", "unblock", "refresh", "move", "both", "slow", "settle"),
        fc.nat(3),
        fc.nat(3),
        fc.nat(4),
      ),
    },
    { weight: 1, arbitrary: fc.tuple(fc.constantFrom("flap", "restart", "endOfRib"), fc.nat(3), fc.constant(0), fc.constant(0)) },
  );

  it.each([0, 5])("leaves each member with what the rules say (advertisement interval %i s)", async advertisementInterval => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 60 }), async commands => {
        const test = new TestRib();
        const common = { options: { advertisementInterval }, group: "a" };
        const neighbors = [
          test.neighbor(common),
          test.neighbor(common),
          test.neighbor({ options: common.options, external: false }),
          test.neighbor({ options: common.options, external: false, client: true }),
        ];
        for (const [what, n, which, how] of commands) {
          const neighbor = neighbors[n];
          const set = sets[how];
          if (what === "announce") neighbor.announce(which < 4 ? set : v6(set), prefixes[which]);
          else if (what === "withdraw") neighbor.withdraw(prefixes[which]);
          else if (what === "block") neighbor.room = which;
          else if (what === "unblock") neighbor.unblock();
          else if (what === "refresh") test.rib.groupOf(ipv4Unicast, n)?.refresh(n);
          else if (what === "move" && n < 2) neighbor.move(moves[which]);
          else if (what === "both") for (const one of neighbors.slice(0, 2)) one.move(moves[which]);
          else if (what === "settle") await test.settled();
          else if (what === "slow") {
            await test.settled();
            test.clock.advance(1500);
          } else if (what === "flap" || what === "restart") {
            neighbor.down(what === "restart");
            neighbor.up();
          } else if (what === "endOfRib") {
            const stale = test.rib.slots.get(neighbor.slot.staleSlot);
            if (stale) for (const family of FamilyIndexes) test.rib.purgeStale(stale, family);
          }
        }
        for (const neighbor of neighbors) neighbor.unblock();
        // Intervals follow one another while something waits.
        for (let n = 0; n < 4; n++) {
          await test.settled();
          test.clock.advance(6000);
        }
        await test.settled();
        for (const neighbor of neighbors) {
          expect(sorted(neighbor.table)).toEqual(sorted(expected(neighbor)));
          const held = FamilyIndexes.map(f => test.rib.groupOf(f, neighbor.neighborIndex)!.heldBy(neighbor.neighborIndex));
          expect(held.reduce((sum, bits) => sum + bits.reduce((a, b) => a + b, 0), 0)).toBe(neighbor.table.size);
          const counts = FamilyIndexes.map(f => test.rib.groupOf(f, neighbor.neighborIndex)!.sent.countOf(neighbor.neighborIndex));
          expect(counts.reduce((a, b) => a + b)).toBe(neighbor.table.size);
        }
        expect(test.rib.tables.map(table => table.bestCount)).toEqual(
          test.rib.tables.map(table => table.best.reduce((sum, best) => sum + (best === 0 ? 0 : 1), 0)),
        );
        await expectEmpty(test, neighbors);
      }),
      { numRuns: 150 },
    );
  });
});

describe("the initial table", () => {
  it("ends with one End-of-RIB per family, also when there is nothing to send", async () => {
    const test = new TestRib();
    const neighbor = test.neighbor();
    await test.settled();
    expect(neighbor.endOfRibs).toEqual(["ipv4-unicast", "ipv6-unicast"]);
    const late = test.neighbor();
    await test.settled();
    expect([neighbor.endOfRibs.length, late.endOfRibs.length]).toEqual([2, 2]);
  });

  it("comes before End-of-RIB, and End-of-RIB comes without any further event", async () => {
    const test = new TestRib();
    const feeder = test.neighbor();
    feeder.announce(attributes(), "10.0.0.0/8", "11.0.0.0/8");
    await test.settled();
    const late = test.neighbor();
    const order: string[] = [];
    const { send } = late;
    late.send = octets => {
      send.call(late, octets);
      order.push(late.endOfRibs.length === 0 ? "routes" : "end");
    };
    await test.settled();
    expect([order[0], late.table.size, late.endOfRibs.length]).toEqual(["routes", 2, 2]);
  });

  it("is held back until the speaker may say that it is complete", async () => {
    const test = new TestRib();
    test.rib.endOfRibTo = "nobody";
    const neighbor = test.neighbor();
    await test.settled();
    expect(neighbor.endOfRibs).toEqual([]);
    test.rib.endOfRibTo = "all";
    await test.settled();
    expect(neighbor.endOfRibs.length).toBe(2);
  });

  it("is ended first for those that restart themselves and may wait for it", async () => {
    const test = new TestRib();
    test.rib.endOfRibTo = "restarting";
    const [neighbor, restarting] = [test.neighbor(), test.neighbor()];
    restarting.restarting = true;
    await test.settled();
    expect([neighbor.endOfRibs.length, restarting.endOfRibs.length]).toEqual([0, 2]);
    test.rib.endOfRibTo = "all";
    await test.settled();
    expect([neighbor.endOfRibs.length, restarting.endOfRibs.length]).toEqual([2, 2]);
  });

  it("is still ended once when the neighbour's rules change before it is out", async () => {
    const test = new TestRib();
    test.rib.endOfRibTo = "nobody";
    const neighbor = test.neighbor();
    await test.settled();
    neighbor.move({ group: "other", rules: {} });
    test.rib.endOfRibTo = "all";
    await test.settled();
    neighbor.move({ group: "third", rules: {} });
    await test.settled();
    expect(neighbor.endOfRibs).toEqual(["ipv4-unicast", "ipv6-unicast"]);
  });

  it("is sent again on ROUTE-REFRESH, without another End-of-RIB", async () => {
    const test = new TestRib();
    const feeder = test.neighbor();
    const neighbor = test.neighbor();
    feeder.announce(attributes(), "10.0.0.0/8", "11.0.0.0/8");
    await test.settled();
    neighbor.updates = [];
    test.rib.groupOf(ipv4Unicast, neighbor.neighborIndex)?.refresh(neighbor.neighborIndex);
    await test.settled();
    expect(neighbor.updates).toEqual([["10.0.0.0/8", "11.0.0.0/8"]]);
    expect(neighbor.endOfRibs.length).toBe(2);
  });
});

describe("packing", () => {
  const many = (count: number, from = 0) => Array.from({ length: count }, (_, n) => `10.${(n + from) >> 8}.${(n + from) & 255}.0/24`);

  it("puts prefixes of one attribute set into as few UPDATEs as their length allows", async () => {
    const test = new TestRib();
    const feeder = test.neighbor({ listens: false });
    const neighbor = test.neighbor();
    feeder.announce(attributes({ path: [1] }), ...many(1500));
    feeder.announce(attributes({ path: [2] }), ...many(1500, 1500));
    await test.settled();
    // 4 octets per prefix in 4096: about 1000 fit.
    expect(neighbor.updates.map(update => update.length > 400)).toEqual([true, true, true, true]);
    neighbor.updates = [];
    feeder.withdraw(...many(900));
    await test.settled();
    expect(neighbor.updates.length).toBe(1);
  });

  it("packs also what is taken back from the neighbour that the best route now comes from", async () => {
    const test = new TestRib();
    const first = test.neighbor();
    const second = test.neighbor();
    first.announce(attributes({ path: [1, 2, 3] }), ...many(500));
    await test.settled();
    expect(second.table.size).toBe(500);
    second.updates = [];
    second.announce(attributes({ path: [1] }), ...many(500));
    await test.settled();
    expect([second.table.size, first.table.size]).toEqual([0, 500]);
    expect(second.updates.length).toBe(1);
  });

  it("says nothing when the source changes and what is announced does not", async () => {
    const test = new TestRib();
    const feeders = [test.neighbor({ listens: false, routerId: 2 }), test.neighbor({ listens: false, routerId: 1 })];
    const neighbor = test.neighbor();
    feeders[0].announce(attributes(), "10.0.0.0/8");
    await test.settled();
    neighbor.updates = [];
    feeders[1].announce(attributes(), "10.0.0.0/8");
    await test.settled();
    expect([test.best("10.0.0.0/8"), neighbor.updates]).toEqual(["n1", []]);
  });
});

describe("the advertisement interval", () => {
  const options = { advertisementInterval: 10 };

  it("delays announcements, not withdrawals, also of what waits", async () => {
    const test = new TestRib();
    const feeder = test.neighbor({ listens: false });
    const neighbor = test.neighbor({ options });
    feeder.announce(attributes(), "10.0.0.0/8", "11.0.0.0/8");
    await test.settled();
    expect([...neighbor.table.keys()]).toEqual(["10.0.0.0/8", "11.0.0.0/8"]);
    feeder.announce(attributes({ path: [9] }), "10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8");
    await test.settled();
    expect(neighbor.updates.length).toBe(1);
    feeder.withdraw("10.0.0.0/8");
    await test.settled();
    expect([...neighbor.table.keys()]).toEqual(["11.0.0.0/8"]);
    test.clock.advance(7_400);
    await test.settled();
    expect(neighbor.updates.length).toBe(2);
    test.clock.advance(2_600);
    await test.settled();
    expect([...neighbor.table].map(([prefix, set]) => `${prefix} ${set.asPath[0].asns.join(" ")}`)).toEqual([
      "11.0.0.0/8 65000 9",
      "12.0.0.0/8 65000 9",
    ]);
  });

  it("begins when the whole table is out", async () => {
    const test = new TestRib();
    const feeder = test.neighbor({ listens: false });
    const prefixes = Array.from({ length: 10_000 }, (_, n) => `10.${n >> 8}.${n & 255}.0/24`);
    feeder.announce(attributes(), ...prefixes);
    const neighbor = test.neighbor({ options });
    await test.settled();
    expect([neighbor.table.size, neighbor.endOfRibs.length]).toEqual([10_000, 2]);
  });

  it("does not let End-of-RIB overtake what waits", async () => {
    const test = new TestRib();
    const feeder = test.neighbor({ listens: false });
    const first = test.neighbor({ options });
    feeder.announce(attributes(), "10.0.0.0/8");
    await test.settled();
    feeder.announce(attributes(), "11.0.0.0/8");
    await test.settled();
    expect(first.table.size).toBe(1);
    const late = test.neighbor({ options });
    feeder.withdraw("10.0.0.0/8");
    await test.settled();
    expect(late.endOfRibs).toEqual(["ipv6-unicast"]);
    test.clock.advance(10_000);
    await test.settled();
    expect([[...late.table.keys()], late.endOfRibs]).toEqual([["11.0.0.0/8"], ["ipv6-unicast", "ipv4-unicast"]]);
  });
});

describe("a neighbour that takes nothing", () => {
  it("keeps a queue no longer than the table, however often routes change", async () => {
    const test = new TestRib();
    const feeder = test.neighbor({ listens: false });
    const neighbor = test.neighbor();
    await test.settled();
    neighbor.writable = false;
    for (let round = 0; round < 50; round++) {
      feeder.announce(attributes({ path: [round + 1] }), "10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8");
      await test.settled();
    }
    expect(test.rib.groupOf(ipv4Unicast, neighbor.neighborIndex)?.pending).toBe(3);
    neighbor.unblock();
    await test.settled();
    expect(neighbor.updates).toEqual([["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"]]);
  });

  it("does not hold up the others for more than about a second, and joins them again", async () => {
    const test = new TestRib();
    const feeder = test.neighbor({ listens: false });
    const [slow, fast] = [test.neighbor(), test.neighbor()];
    feeder.announce(attributes(), "10.0.0.0/8");
    await test.settled();
    slow.writable = false;
    feeder.announce(attributes(), "11.0.0.0/8");
    feeder.withdraw("10.0.0.0/8");
    await test.settled();
    expect([...fast.table.keys()]).toEqual(["10.0.0.0/8"]);
    for (let n = 0; n < 6; n++) {
      test.clock.advance(250);
      await test.settled();
    }
    expect([...fast.table.keys()]).toEqual(["11.0.0.0/8"]);
    expect(test.rib.groups[ipv4Unicast].size).toBe(2);
    slow.unblock();
    await test.settled();
    await test.settled();
    expect([...slow.table.keys()]).toEqual(["11.0.0.0/8"]);
    expect(test.rib.groups[ipv4Unicast].size).toBe(1);
  });

  it("is split off by the group's own rules when the neighbour that made the group is gone", async () => {
    const test = new TestRib();
    const feeder = test.neighbor({ listens: false });
    const [maker, slow, fast] = [test.neighbor(), test.neighbor(), test.neighbor()];
    await test.settled();
    maker.rules = () => {
      throw new Error("no session any more");
    };
    maker.down();
    slow.writable = false;
    feeder.announce(attributes(), "11.0.0.0/8");
    for (let n = 0; n < 6; n++) {
      await test.settled();
      test.clock.advance(250);
    }
    await test.settled();
    expect(fast.table.size).toBe(1);
  });
});

it("a neighbour that joins or moves later never hears its own routes", async () => {
  const test = new TestRib();
  const first = test.neighbor();
  const source = test.neighbor({ listens: false });
  source.announce(attributes(), "10.0.0.0/8");
  await test.settled();
  expect(first.table.size).toBe(1);
  source.join();
  await test.settled();
  expect([source.table.size, source.updates]).toEqual([0, []]);
});

it("forgets nothing when rules change twice in a row", async () => {
  const test = new TestRib();
  const feeder = test.neighbor({ listens: false });
  const neighbor = test.neighbor();
  feeder.announce(attributes(), "10.0.0.0/8");
  await test.settled();
  neighbor.move({ group: "reject", rules: { policy: rejectAll } });
  neighbor.move({ group: "reject too", rules: { policy: rejectAll } });
  await test.settled();
  expect(neighbor.table.size).toBe(0);
});

describe("one slice", () => {
  it.each([
    ["in a group each", true],
    ["in one group", false],
  ])("serves no more neighbours than its time allows, and all of them in the end (thirty that join, %s)", async (_, apart) => {
    const test = new TestRib();
    const maker = test.neighbor({ listens: false });
    maker.announce(attributes(), "10.0.0.0/8", "11.0.0.0/8");
    // A group that has sent nothing yet sends each batch to all its members.
    if (!apart) test.neighbor({ group: "all" });
    await test.settled();
    // Each look at the clock takes longer than a slice may.
    let now = 1000;
    test.clock.monotonic = () => (now += 10);
    let sends = 0;
    const joining = Array.from({ length: 30 }, (_one, n) => {
      const neighbor = test.neighbor({ group: apart ? `group ${n}` : "all" });
      const send = neighbor.send.bind(neighbor);
      neighbor.send = messages => {
        sends++;
        send(messages);
      };
      return neighbor;
    });
    const perTurn: number[] = [];
    for (let turn = 0; turn < 1000 && joining.some(({ endOfRibs }) => endOfRibs.length < 2); turn++) {
      sends = 0;
      await new Promise(resolve => setImmediate(resolve));
      perTurn.push(sends);
    }
    // One step for each family.
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(2);
    for (const { table, endOfRibs } of joining) expect([table.size, endOfRibs.length]).toEqual([2, 2]);
  });
});
