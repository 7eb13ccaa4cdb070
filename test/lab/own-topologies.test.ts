/** Topologies as a user may write them, unlike those that ship: their checks and their scenarios. */
import { expect, test } from "vitest";
import { down, leftovers, silentProgress, up } from "../../lab/engine/lab.ts";
import { awaitChecks, awaitMatrix, inspect } from "../../lab/inspect.ts";
import { runScenario } from "../../lab/scenario.ts";
import { loadTopology } from "../../lab/topology/load.ts";

test.each(["dual", "ipv6", "mixed"])(
  "%s",
  async name => {
    const topology = loadTopology(new URL(`./fixtures/${name}.yaml`, import.meta.url).pathname);
    const { lab } = await up(topology, { instance: `u${process.pid}` });
    try {
      await awaitChecks(lab, silentProgress);
      const found = await inspect(lab, await awaitMatrix(lab));
      expect(found.matrix.flatMap(cell => cell.problem ?? [])).toEqual([]);
      expect(found.problems).toEqual([]);
      const pairs = found.matrix.map(({ from, to, family }) => `${from} ${to} ${family}`).sort();
      if (name === "mixed") expect(pairs).toEqual(["node1-1 node2-1 4", "node1-1 node3-1 6", "node2-1 node1-1 4", "node3-1 node1-1 6"]);
      const machines = lab.plan.machines.map(machine => machine.name);
      // A node names its neighbours as its plan does.
      const ofRouters = found.learned.filter(({ machine }) => lab.machine(machine).kind !== "node");
      for (const { paths } of ofRouters) for (const { from } of paths) expect(machines).toContain(from);
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
