import { expect, test } from "vitest";
import { attributes, TestRib } from "./rib/testing.ts";
import { listRoutes } from "./route-list.ts";

const prefixes = Array.from({ length: 10_000 }, (_, n) => `10.${n >> 8}.${n & 255}.0/24`);

async function filled(): Promise<{ rib: TestRib; maker: ReturnType<TestRib["neighbor"]> }> {
  const rib = new TestRib();
  const maker = rib.neighbor({ listens: false });
  maker.announce(attributes(), ...prefixes);
  await rib.settled();
  return { rib, maker };
}

/** Each look at it takes longer than a slice may. */
function slow(rib: TestRib) {
  let now = 0;
  return Object.assign(Object.create(rib.clock), { monotonic: () => (now += 10) });
}

test.each([
  ["all", {}, 10_000],
  ["inside a prefix", { prefix: "10.16.0.0/12", longer: true }, 16 * 256],
  ["inside one that has none", { prefix: "11.0.0.0/8", longer: true }, 0],
  ["of a neighbour", { neighbor: "n0" }, 10_000],
])("a walk over the table leaves others their turns: %s", async (_, filter, total) => {
  const { rib } = await filled();
  let turns = 0;
  let walking = true;
  const spin = () => {
    turns++;
    if (walking) setImmediate(spin);
  };
  setImmediate(spin);
  const list = await listRoutes(rib.rib, filter, slow(rib));
  walking = false;
  expect(list.total).toBe(total);
  expect(list.routes.length).toBe(Math.min(total, 1000));
  // One for each 1,024 prefixes.
  expect(turns).toBeGreaterThanOrEqual(9);
});

test("what goes, and what takes its place, while it walks is not listed twice and not out of order", async () => {
  const { rib, maker } = await filled();
  const list = listRoutes(rib.rib, { after: "10.20.0.0/24" }, slow(rib));
  await new Promise(resolve => setImmediate(resolve));
  maker.withdraw(...prefixes);
  maker.announce(attributes(), ...prefixes.map(prefix => prefix.replace(/^10/, "9")));
  const seen = (await list).routes.map(({ prefix }) => prefix);
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen.filter(prefix => prefix.startsWith("9."))).toEqual([]);
});
