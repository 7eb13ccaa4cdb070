import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { NeighborConfig } from "./config.ts";
import { type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const COUNT = 8;
const address = (n: number) => `10.0.0.${n}`;

let world: MemoryWorld;
let nodes: MemorySpeaker[];

/** A full mesh of nodes in one AS, each with a network. */
beforeEach(async () => {
  world = new MemoryWorld();
  nodes = Array.from({ length: COUNT }, (_, at) =>
    world.speaker(address(at + 1), {
      asn: 65000,
      networks: [network(`10.1.${at + 1}.0/24`)],
      neighbors: peersOf(at, {}),
    }),
  );
  for (const node of nodes) node.apply();
  await world.run(30);
  expect(nodes.map(established)).toEqual(nodes.map(() => COUNT - 1));
});
afterEach(() => world.close());

function peersOf(at: number, change: Partial<NeighborConfig>): NeighborConfig[] {
  const others = Array.from({ length: COUNT }, (_, n) => n).filter(n => n !== at);
  return others.map(n => neighborAt(address(n + 1), 65000, change));
}

const established = ({ speaker }: MemorySpeaker) => speaker.snapshot().neighbors.filter(({ state }) => state === "Established").length;
const counts = ({ speaker }: MemorySpeaker) => speaker.snapshot().neighbors.map(({ counters }) => counters.establishedCount);
const change = (at: number, fields: Partial<NeighborConfig>) => nodes[at].apply({ neighbors: peersOf(at, fields) });

describe("one change for all sessions", () => {
  it("of one node resets a quarter of them at a time", async () => {
    const actions = change(0, { holdTime: 60 });
    expect(actions.filter(line => line.includes("session reset:"))).toHaveLength(1);
    expect(actions.filter(line => line.includes("when others are back: hold time changed"))).toHaveLength(COUNT - 2);
    let least = COUNT;
    for (let n = 0; n < 600 && nodes[0].speaker.snapshot().neighbors.some(({ holdTime }) => holdTime !== 60); n++) {
      await world.run(0.1);
      least = Math.min(least, established(nodes[0]));
    }
    expect(established(nodes[0])).toBe(COUNT - 1);
    expect(least).toBeGreaterThanOrEqual(COUNT - 2);
    expect(nodes[0].speaker.snapshot().neighbors.map(({ holdTime }) => holdTime)).toEqual(Array(COUNT - 1).fill(60));
  });

  it("on every node at once leaves each node most of its sessions all the time, and resets each session once", async () => {
    for (const at of nodes.keys()) change(at, { holdTime: 60 });
    let least = COUNT;
    for (let n = 0; n < 3000; n++) {
      await world.run(0.1);
      least = Math.min(least, ...nodes.map(established));
      if (nodes.every(node => node.speaker.snapshot().neighbors.every(({ holdTime, state }) => holdTime === 60 && state === "Established")))
        break;
    }
    expect(nodes.map(established)).toEqual(nodes.map(() => COUNT - 1));
    expect(least).toBeGreaterThan(0);
    // Replaced ones count anew.
    expect(nodes.flatMap(counts)).toEqual(Array(COUNT * (COUNT - 1)).fill(1));
  });

  it("goes on past one that does not come back, and takes the latest configuration", async () => {
    // The others still know the former AS: sessions that are reset stay away.
    change(0, { password: undefined, remoteAsn: 65001 });
    await world.run(35);
    const down = COUNT - 1 - established(nodes[0]);
    expect([down > 1, down < COUNT - 1]).toEqual([true, true]);
    change(0, {});
    await world.run(90);
    expect(established(nodes[0])).toBe(COUNT - 1);
  });
});

it("what needs no reset is taken over by a session that waits for its own", async () => {
  const before = nodes[0].config.neighbors;
  nodes[0].apply({
    neighbors: before.map(neighbor => ({
      ...neighbor,
      holdTime: 60,
      families: { "ipv4-unicast": { ...neighbor.families["ipv4-unicast"]!, importDefault: "reject" } },
    })),
  });
  await world.run(0.5);
  expect(Object.keys(nodes[0].best)).toEqual(["10.1.1.0/24"]);
  expect(established(nodes[0])).toBeGreaterThanOrEqual(COUNT - 2);
});

it("a client of ours that becomes one, or none, keeps its session, and others hear its routes or lose them", async () => {
  const [reflector] = nodes;
  // The others know each other only through the reflector.
  for (const at of nodes.keys()) if (at > 0) nodes[at].apply({ neighbors: [neighborAt(address(1), 65000)] });
  await world.run(5);
  const withClient = (client: boolean) =>
    reflector.apply({ neighbors: peersOf(0, {}).map((one, n) => (n === 0 ? { ...one, routeReflectorClient: client } : one)) });
  expect(nodes[2].best["10.1.2.0/24"]).toBeUndefined();
  const sessionsBefore = counts(reflector);
  withClient(true);
  await world.run(2);
  expect([nodes[2].best["10.1.2.0/24"], nodes[1].best["10.1.3.0/24"], nodes[3].best["10.1.3.0/24"]]).toEqual([
    address(1),
    address(1),
    undefined,
  ]);
  withClient(false);
  await world.run(2);
  expect([nodes[2].best["10.1.2.0/24"], nodes[1].best["10.1.3.0/24"]]).toEqual([undefined, undefined]);
  expect(counts(reflector)).toEqual(sessionsBefore);
});
