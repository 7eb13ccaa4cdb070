/**
 * The mesh is arranged anew while nodes hear of it one after the other, in any order: whole speakers with what compile() makes of the objects, on a fake
 * clock. At no moment does a node lack a route to another one.
 */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type MemorySpeaker, MemoryWorld } from "../bgpd/testing/memory-speakers.ts";
import { neededNodes } from "../config/compile/needs.ts";
import { compile } from "../config/compile.ts";
import { readDocuments } from "../config/resources/documents.ts";
import { collect, type Resources } from "../config/resources/kinds.ts";
import { selects } from "../platform/label-selector.ts";

const COUNT = 5;
const numbers = Array.from({ length: COUNT }, (_, at) => at + 1);
const rangeOf = (number: number) => `10.244.${number}.0/24`;
/** Seconds. */
const MOST = 20;

interface Arrangement {
  mesh: object;
  /** Nodes with the label. */
  reflectors?: number[];
}
const full: Arrangement = { mesh: { type: "Full" } };
const reflecting = (reflectors: number[], clusterID?: string): Arrangement => ({
  mesh: { type: "RouteReflectors", routeReflectors: { nodeSelector: { matchLabels: { rr: "yes" } }, ...(clusterID && { clusterID }) } },
  reflectors,
});

function resourcesOf({ mesh, reflectors = [] }: Arrangement): Resources {
  const fabric = {
    apiVersion: "podlane.io/v1alpha1",
    kind: "Fabric",
    metadata: { name: "f" },
    spec: { nodeSelector: {}, asn: 65000, mesh, forwarding: { enabled: false }, startupWait: MOST, timers: { connectRetryTime: 1 } },
  };
  const nodes = numbers.map(number => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `n${number}`, labels: reflectors.includes(number) ? { rr: "yes" } : {} },
    spec: { podCIDRs: [rangeOf(number)] },
    status: { addresses: [{ type: "InternalIP", address: `10.0.0.${number}` }] },
  }));
  const { objects, problems } = readDocuments([fabric, ...nodes].map(one => JSON.stringify(one)).join("\n---\n"), "test");
  expect(problems).toEqual([]);
  return collect(objects.map(({ object }) => object)).resources;
}

/** As an agent has them that watches no more nodes than it needs. */
function seenBy(all: Resources, self: string): Resources {
  const needs = neededNodes({ ...all, partialNodes: true }, self);
  if (needs === "all") return all;
  const nodes = [...all.nodes].filter(
    ([name, { metadata }]) => name === self || needs.selectors.some(one => selects(one, metadata.labels ?? {})),
  );
  return { ...all, nodes: new Map(nodes), partialNodes: true };
}

let world: MemoryWorld;
let nodes: MemorySpeaker[];
beforeEach(() => {
  world = new MemoryWorld();
  nodes = numbers.map(number => world.speaker(`10.0.0.${number}`));
});
afterEach(() => world.close());

function apply(number: number, arrangement: Arrangement, partial: boolean): void {
  const all = resourcesOf(arrangement);
  const name = `n${number}`;
  const { speaker, problems } = compile(partial ? seenBy(all, name) : all, { name, addresses: [] });
  expect(problems).toEqual([]);
  nodes[number - 1].apply({ clusterId: undefined, origins: undefined, ...speaker });
}

/** "n1 lacks 10.244.2.0/24" */
function gaps(): string[] {
  return numbers.flatMap(own => {
    const { best } = nodes[own - 1];
    return numbers.filter(other => !(rangeOf(other) in best)).map(other => `n${own} lacks ${rangeOf(other)}`);
  });
}

async function runWithout(seconds: number): Promise<void> {
  for (let passed = 0; passed < seconds; passed += 0.1) {
    await world.run(0.1);
    expect(gaps()).toEqual([]);
  }
}

async function settle(arrangement: Arrangement, partial: boolean): Promise<void> {
  for (const number of numbers) apply(number, arrangement, partial);
  await world.run(30);
  expect(gaps()).toEqual([]);
}

const sessionsOf = (number: number) => nodes[number - 1].speaker.snapshot().neighbors;
const established = () => numbers.map(number => sessionsOf(number).filter(({ state }) => state === "Established").length);

const pair = reflecting([1, 2], "10.9.9.9");
describe.each<[string, Arrangement, Arrangement, number[]]>([
  ["a full mesh -> reflectors", full, pair, [4, 4, 2, 2, 2]],
  ["a full mesh -> one reflector", full, reflecting([3]), [1, 1, 4, 1, 1]],
  ["reflectors -> a full mesh", pair, full, [4, 4, 4, 4, 4]],
  ["reflectors -> others", pair, reflecting([3, 4], "10.9.9.9"), [2, 2, 4, 4, 2]],
  ["one reflector -> another, each a cluster of its own", reflecting([1]), reflecting([2]), [1, 4, 1, 1, 1]],
])("%s", (_, before, after, sessions) => {
  test.each([false, true])(
    "no node lacks a route, in whatever order and however long after each other they hear of it; partial lists: %s",
    async partial => {
      const order = fc.shuffledSubarray(numbers, { minLength: COUNT });
      const cases = fc.sample(fc.tuple(order, fc.constantFrom(0, 0.5, 3)), { numRuns: 3, seed: 7 });
      for (const [order, pause] of cases) {
        await settle(before, partial);
        await world.run(3 * MOST);
        for (const number of order) {
          apply(number, after, partial);
          await runWithout(pause);
        }
        await runWithout(3 * MOST);
        expect(established()).toEqual(sessions);
        expect(numbers.flatMap(sessionsOf).filter(({ leaving }) => leaving)).toEqual([]);
        expect(nodes.flatMap(({ speaker }) => speaker.problems())).toEqual([]);
      }
    },
    60_000,
  );
});
