/** The topologies that ship with podlane: their own checks, every ping without NAT, and their scenarios, as `npm run lab -- --chaos --once` runs them. */
import { describe, expect, test } from "vitest";
import { missingFor } from "../../lab/engine/cluster.ts";
import { down, leftovers, silentProgress, up } from "../../lab/engine/lab.ts";
import { awaitChecks, awaitMatrix, inspect } from "../../lab/inspect.ts";
import { shippedTopologies } from "../../lab/names.ts";
import { runScenario } from "../../lab/scenario.ts";
import { loadTopology } from "../../lab/topology/load.ts";
import { labId } from "../../lab/topology/plan.ts";

const instance = `t${process.pid}`;
/** Nobody may have translated an address, and hops must be named: the way from the first pod to one of another node. */
const hopCount: Record<string, number> = {
  rack: 5,
  mesh: 4,
  reflector: 4,
  loopbacks: 5,
  loopbacksrr: 5,
  "two-racks": 4,
  kubernetes: 4,
  services: 4,
};

describe.each(shippedTopologies())("$name: $title", ({ name, file }) => {
  test("works, and survives what its scenarios do to it", async context => {
    const topology = loadTopology(file);
    const id = labId(topology.name, instance);
    context.skip(missingFor(topology) !== undefined, missingFor(topology));
    const { lab } = await up(topology, { instance });
    try {
      await awaitChecks(lab, silentProgress);
      const found = await inspect(lab, await awaitMatrix(lab));
      const pods = lab.plan.pods.length;
      expect(found.problems).toEqual([]);
      expect(found.matrix.flatMap(cell => cell.problem ?? [])).toEqual([]);
      expect(found.matrix).toHaveLength(pods * (pods - 1) * 2);
      expect(found.way.map(way => way.hops.length)).toEqual([hopCount[name], hopCount[name]]);
      for (const { hops, to } of found.way) expect(hops.at(-1)?.machine).toBe(to);
      expect(topology.scenarios?.length).toBeGreaterThan(0);
      for (const scenario of topology.scenarios ?? []) {
        const result = await runScenario(lab, scenario, silentProgress);
        expect(result.problems, scenario.name).toEqual([]);
        expect(result.streams.length, scenario.name).toBeGreaterThan(0);
      }
    } finally {
      await down(lab.id);
    }
    expect(leftovers(id)).toEqual([]);
  }, 240_000);
});
