import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseAddress } from "../../net/address.ts";
import { classicFamily } from "../family.ts";
import { attributesArbitrary } from "../message/arbitraries.ts";
import { buildAttributes, parseAttributes } from "../message/attributes.ts";
import { NextHopColumns } from "../rib/next-hops.ts";
import { attributes, TestTracker } from "../rib/testing.ts";
import { AttributeSets } from "./attribute-sets.ts";

function make() {
  const tracker = new TestTracker();
  const nextHops = new NextHopColumns(tracker);
  const table = new AttributeSets({
    trackNextHop: (nextHop, ifindex) => nextHops.track(nextHop, ifindex),
    releaseNextHop: id => nextHops.release(id),
  });
  const intern = (octets: Uint8Array, ifindex?: number) => table.intern(octets, 0, octets.length, ifindex);
  return { tracker, table, intern };
}

it("counts references as a map would, and keeps the octets of each set", () => {
  const sets = fc.uniqueArray(
    attributesArbitrary(classicFamily).map(set => buildAttributes(set)),
    { minLength: 1, maxLength: 12, selector: String },
  );
  const commands = fc.array(fc.tuple(fc.constantFrom("intern", "retain", "release"), fc.nat(11)), { maxLength: 200 });
  fc.assert(
    fc.property(sets, commands, (octets, list) => {
      const { table, intern, tracker } = make();
      const model = new Map<number, { id: number; references: number }>();
      for (const [what, n] of list) {
        const which = n % octets.length;
        const known = model.get(which);
        if (what === "intern") {
          const id = intern(octets[which]);
          if (known) expect(id).toBe(known.id);
          else expect([...model.values()].map(entry => entry.id)).not.toContain(id);
          model.set(which, { id, references: (known?.references ?? 0) + 1 });
        } else if (known && what === "retain") {
          table.retain(known.id);
          known.references++;
        } else if (known) {
          table.release(known.id);
          if (--known.references === 0) model.delete(which);
        }
        expect(table.size).toBe(model.size);
      }
      for (const [which, { id, references }] of model) {
        expect(table.references(id)).toBe(references);
        expect(Buffer.compare(table.octets(id), octets[which])).toBe(0);
        for (let n = 0; n < references; n++) table.release(id);
      }
      expect([table.size, tracker.size]).toEqual([0, 0]);
    }),
    { numRuns: 60 },
  );
});

it("uses freed ids and room again", () => {
  const { table, intern, tracker } = make();
  const build = (n: number) => buildAttributes(attributes({ path: [n + 1], nextHop: `10.${n >> 8}.${n & 255}.1` }));
  const first = Array.from({ length: 3000 }, (_, n) => intern(build(n)));
  expect([table.size, tracker.size]).toEqual([3000, 3000]);
  const places = new Set(first.map(id => `${table.start(id)}`));
  for (const id of first) table.release(id);
  expect([table.size, tracker.size]).toEqual([0, 0]);
  const second = Array.from({ length: 3000 }, (_, n) => intern(build(n + 5000)));
  expect(Math.max(...second)).toBeLessThanOrEqual(Math.max(...first));
  expect(second.filter(id => !places.has(`${table.start(id)}`))).toEqual([]);
});

it("changes the generation of an id when it is free for another set", () => {
  const { table, intern } = make();
  const id = intern(buildAttributes(attributes()));
  const before = table.generation[id];
  table.release(id);
  expect(intern(buildAttributes(attributes({ path: [7] })))).toBe(id);
  expect(table.generation[id]).not.toBe(before);
});

describe("columns", () => {
  it("hold what the decision needs, with the defaults of the RFC", () => {
    const { table, intern } = make();
    const bare = intern(buildAttributes(attributes({ path: [] })));
    expect([table.localPref[bare], table.med[bare], table.asPathLength[bare], table.neighborAs[bare]]).toEqual([100, 0, 0, 0]);
    expect([table.hasOriginator[bare], table.clusterListLength[bare], table.wellKnown[bare]]).toEqual([0, 0, 0]);
    const full = intern(
      buildAttributes(
        attributes({ path: [1, 2, 3], med: 4, localPref: 5, originatorId: 6, clusterList: [7, 8], communities: [0xffffff01], origin: 2 }),
      ),
    );
    expect([table.localPref[full], table.med[full], table.asPathLength[full], table.neighborAs[full]]).toEqual([5, 4, 3, 1]);
    expect([table.hasOriginator[full], table.originatorId[full], table.clusterListLength[full]]).toEqual([1, 6, 2]);
    expect([table.wellKnown[full], table.origin[full]]).toEqual([1, 2]);
  });

  it("know when two sets have the same AS_PATH", () => {
    const { table, intern } = make();
    const [a, b, c] = [{ path: [1, 2] }, { path: [1, 2], med: 3 }, { path: [2, 1] }].map(set => intern(buildAttributes(attributes(set))));
    expect([table.sameAsPath(a, b), table.sameAsPath(a, c)]).toEqual([true, false]);
  });
});

describe("the link of a link-local next hop", () => {
  const linkLocal = buildAttributes({ ...attributes(), nextHop: parseAddress("fe80::1") });

  it("makes equal octets two sets, each tracked on its own link", () => {
    const { table, intern, tracker } = make();
    const [three, four] = [intern(linkLocal, 3), intern(linkLocal, 4)];
    expect(three).not.toBe(four);
    expect(intern(linkLocal, 3)).toBe(three);
    expect(tracker.tracked).toEqual(["fe80::1%3", "fe80::1%4"]);
    expect(table.parse(three)).toEqual(parseAttributes(linkLocal, 0, linkLocal.length));
  });

  it("does not matter for a global next hop", () => {
    const { intern, tracker } = make();
    intern(buildAttributes(attributes({ nextHop: "2001:db8::1" })), 3);
    expect(tracker.tracked).toEqual(["2001:db8::1%0"]);
  });
});
