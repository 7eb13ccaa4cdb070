import { afterEach, beforeEach, expect, test } from "vitest";
import { type MemorySpeaker, MemoryWorld, neighborAt } from "./testing/memory-speakers.ts";

const A = "10.0.0.1";
const B = "10.0.0.2";

let world: MemoryWorld;
let a: MemorySpeaker;
let b: MemorySpeaker;

beforeEach(async () => {
  world = new MemoryWorld();
  a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002, { source: "Peer/b" })] });
  b = world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001)] });
  for (const speaker of [a, b]) speaker.apply();
  await world.run(10);
  expect(a.neighbor(B).state).toBe("Established");
});
afterEach(() => world.close());

const problems = () => a.speaker.problems();
const overdue = () => a.speaker.snapshot().neighbors.flatMap(({ name, overdue: late }) => (late ? [name] : []));

test("a session that never came up is a problem after the hold time, until it does", async () => {
  a.apply({ neighbors: [...a.config.neighbors, neighborAt("10.0.0.4", 65004, { source: "Peer/tor", name: "tor" })] });
  await world.run(89);
  expect([problems(), overdue()]).toEqual([[], []]);
  await world.run(2);
  const [problem] = problems();
  expect(problems()).toEqual([
    {
      severity: "error",
      reason: "SessionDown",
      object: "Peer/tor",
      field: "session",
      message: expect.stringMatching(/^no session with tor \(10\.0\.0\.4\) since \d{4}-.*Z: connection refused$/),
      remedy: expect.stringContaining("podlane peer tor"),
    },
  ]);
  expect(overdue()).toEqual(["tor"]);
  await world.run(100);
  // The same at each look: it is told once.
  expect(problems()).toEqual([problem]);
  const d = world.speaker("10.0.0.4", { asn: 65004, neighbors: [neighborAt(A, 65001)] });
  d.apply();
  await world.run(60);
  expect([problems(), overdue()]).toEqual([[], []]);
});

test("a session that was lost is one with what ended it, not with how the attempts since then fail", async () => {
  b.speaker.apply({ ...b.config, neighbors: [{ ...b.config.neighbors[0], shutdown: { message: "upgrade" } }] });
  await world.run(91);
  expect(problems()).toMatchObject([{ object: "Peer/b", message: expect.stringContaining('Cease/Administrative Shutdown: "upgrade"') }]);
  b.apply();
  await world.run(60);
  expect(problems()).toEqual([]);
});

test("one that waits to be connected to says so, and one that is shut down is none", async () => {
  const passive = neighborAt("10.0.0.4", 65004, { passive: true, holdTime: 30 });
  a.apply({ neighbors: [...a.config.neighbors, passive, neighborAt("10.0.0.5", 65005, { shutdown: {} })] });
  await world.run(31);
  expect(problems().map(({ message }) => message)).toEqual([
    expect.stringMatching(/^no session with 10\.0\.0\.4 since .*: waiting for the neighbour/),
  ]);
});

test("many that are down for one reason are one problem", async () => {
  const absent = [4, 5, 6, 7, 8].map(n => neighborAt(`10.0.0.${n}`, 65000 + n, { holdTime: 0, name: `tor-${n}` }));
  a.apply({ neighbors: [...a.config.neighbors, ...absent] });
  await world.run(91);
  expect(problems()).toMatchObject([
    {
      object: "speaker",
      field: "sessions",
      message: expect.stringMatching(
        /^no session with 5 neighbours, tor-4, tor-5, tor-6 and 2 more; with tor-4 \(10\.0\.0\.4\) since .*: connection refused$/,
      ),
    },
  ]);
});
