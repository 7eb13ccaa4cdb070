/** Topologies as a user may write them, unlike those that ship: their checks and their scenarios. */
import { expect, test } from "vitest";
import { down, leftovers, silentProgress, up } from "../../lab/engine/lab.ts";
import { awaitChecks, awaitMatrix, inspect } from "../../lab/inspect.ts";
import { runScenario } from "../../lab/scenario.ts";
import { loadTopology } from "../../lab/topology/load.ts";

test.each(["dual", "ipv6"])(
  "%s",
  async name => {
    const topology = loadTopology(new URL(`./fixtures/${name}.yaml`, import.meta.url).pathname);
    const { lab } = await up(topology, { instance: `u${process.pid}` });
    try {
      await awaitChecks(lab, silentProgress);
      const found = await inspect(lab, await awaitMatrix(lab));
      expect(found.matrix.flatMap(cell => cell.problem ?? [])).toEqual([]);
      expect(found.problems).toEqual([]);
      const machines = lab.plan.machines.map(machine => machine.name);
      for (const { paths } of found.learned) for (const { from } of paths) expect(machines).toContain(from);
      for (const scenario of topology.scenarios ?? []) {
        expect((await runScenario(lab, scenario, silentProgress)).problems, scenario.name).toEqual([]);
      }
    } finally {
      await down(lab.id);
    }
    expect(leftovers(lab.id)).toEqual([]);
  },
  120_000,
);
