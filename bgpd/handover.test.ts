/** What ends when a mesh is arranged anew, and when. That nothing is lost meanwhile: test/handover.test.ts. */
import { afterEach, beforeEach, expect, it } from "vitest";
import type { NeighborConfig } from "./config.ts";
import { type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const [a, b, c] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const mesh = (address: string, change: Partial<NeighborConfig> = {}) => neighborAt(address, 65000, { mesh: true, ...change });

let world: MemoryWorld;
let one: MemorySpeaker;
let two: MemorySpeaker;
/** Three in a full mesh; the second has a route that nobody else has. */
beforeEach(async () => {
  world = new MemoryWorld();
  const common = { arrangement: "Full", startupWait: 20 };
  one = world.speaker(a, { ...common, neighbors: [mesh(b), mesh(c)] });
  two = world.speaker(b, { ...common, neighbors: [mesh(a), mesh(c)], networks: [network("10.1.2.0/24")] });
  const three = world.speaker(c, { ...common, neighbors: [mesh(a), mesh(b)], networks: [network("10.1.3.0/24")] });
  for (const node of [one, two, three]) node.apply();
  await world.run(30);
  expect(Object.keys(one.best)).toHaveLength(2);
});
afterEach(() => world.close());

const names = () => one.speaker.snapshot().neighbors.map(({ name, leaving }) => (leaving ? `${name} leaving` : name));
const others = { arrangement: `RouteReflectors ${c}`, neighbors: [mesh(c)] };

it("a session with routes that nobody else has goes on, and ends after the time for it, as that of a restart", async () => {
  expect(one.apply(others)).toContain(`${b}: change: is wanted no more: the session stays until others carry its routes, at most 20 s`);
  await world.run(19);
  expect(names()).toEqual([`${b} leaving`, c]);
  expect(one.best["10.1.2.0/24"]).toBe(b);
  expect(one.speaker.problems()).toEqual([]);
  await world.run(2);
  expect(names()).toEqual([c]);
  expect(one.best["10.1.2.0/24"]).toBeUndefined();
  // The other end, which knows nothing of it, takes it for a restart.
  expect(two.neighbor(a)).toMatchObject({ lastDown: { code: undefined } });
});

it("one whose routes others have ends sooner, but not before others can have heard of the change", async () => {
  two.apply({ networks: [] });
  await world.run(1);
  one.apply(others);
  await world.run(4);
  expect(names()).toEqual([`${b} leaving`, c]);
  await world.run(3);
  expect(names()).toEqual([c]);
});

it("one that ends by itself, and keeps nothing, is not waited for", async () => {
  one.apply(others);
  two.apply({ neighbors: [mesh(c)] });
  await world.run(3);
  expect(names()).toEqual([c]);
});

it("one that is wanted again stays", async () => {
  const before = one.neighbor(b).since;
  one.apply(others);
  await world.run(3);
  one.apply({ arrangement: "Full", neighbors: [mesh(b), mesh(c)] });
  expect(names()).toEqual([b, c]);
  await world.run(60);
  expect(one.neighbor(b)).toMatchObject({ state: "Established", since: before });
});

it("in the same arrangement, with another AS, and where it is none of the mesh, a session ends at once", async () => {
  one.apply({ neighbors: [mesh(c)] });
  expect(names()).toEqual([c]);
  one.apply({ neighbors: [mesh(b), mesh(c)] });
  await world.run(10);
  one.apply({ ...others, asn: 65001 });
  expect(names()).toEqual([c]);
  one.apply({ asn: 65000, arrangement: "Full", neighbors: [mesh(b, { mesh: false }), mesh(c)] });
  await world.run(10);
  one.apply(others);
  expect(names()).toEqual([c]);
});

it("what changes meanwhile leaves it as it is; policies that only it names are still there", async () => {
  const family = { ...neighborAt(b, 65000).families["ipv4-unicast"]!, importPolicies: ["p"] };
  const policies = { p: { rules: [{ action: { result: "accept" as const } }] } };
  one.apply({ policies, neighbors: [mesh(b, { families: { "ipv4-unicast": family } }), mesh(c)] });
  await world.run(1);
  one.apply({ ...others, policies: {} });
  one.apply({ networks: [network("10.1.1.0/24")] });
  await world.run(2);
  expect(names()).toEqual([`${b} leaving`, c]);
  expect(two.best["10.1.1.0/24"]).toBe(a);
});
