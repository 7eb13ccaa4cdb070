import { expect, test } from "vitest";
import type { Node } from "../config/resources/core.ts";
import { emptyResources, type Resources } from "../config/resources/kinds.ts";
import { Departures } from "./departures.ts";

function cluster(...nodes: [name: string, number: number][]): Resources {
  const made = nodes.map(([name, number]): [string, Node] => [
    name,
    {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name },
      spec: { podCIDRs: [`10.244.${number}.0/24`] },
      status: { addresses: [{ type: "InternalIP", address: `192.0.2.${number}` }] },
    },
  ]);
  return { ...emptyResources(), nodes: new Map(made) };
}
const [one, two, three]: [string, number][] = [
  ["n1", 1],
  ["n2", 2],
  ["n3", 3],
];
const names = ({ nodes }: Resources) => [...nodes.keys()].sort();

test("a node that is gone stays until it is back, or for as long as it may", () => {
  const departures = new Departures(10);
  expect(departures.keep(cluster(one, two, three), "n1", 0)).toEqual({ resources: cluster(one, two, three) });
  const gone = departures.keep(cluster(one, two), "n1", 1);
  expect([names(gone.resources), gone.wait]).toEqual([["n1", "n2", "n3"], 10]);
  expect(departures.keep(cluster(one, two), "n1", 4).wait).toBe(7);
  expect(departures.keep(cluster(one, two, three), "n1", 5).wait).toBeUndefined();
  expect(departures.keep(cluster(one, two), "n1", 6).wait).toBe(10);
  const left = departures.keep(cluster(one, two), "n1", 16);
  expect([names(left.resources), left.wait]).toEqual([["n1", "n2"], undefined]);
});

test("this node is not kept, nor one whose address and range another has", () => {
  const departures = new Departures(10);
  departures.keep(cluster(one, two, three), "n1", 0);
  expect(names(departures.keep(cluster(two, three), "n1", 1).resources)).toEqual(["n2", "n3"]);
  expect(names(departures.keep(cluster(two, ["new", 3]), "n1", 2).resources)).toEqual(["n2", "new"]);
});

test("who knows a part of the nodes keeps none of the others", () => {
  const departures = new Departures(10);
  departures.keep(cluster(one, two, three), "n1", 0);
  const part = { ...cluster(one, two), partialNodes: true as const };
  expect(departures.keep(part, "n1", 1)).toEqual({ resources: part });
  expect(departures.keep(cluster(one, two), "n1", 2).wait).toBeUndefined();
});
