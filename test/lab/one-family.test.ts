/**
 * The two racks with nodes that have InternalIPs of one family alone: pods of both families reach each other all the same, through tunnels over it. Once on
 * bridges, once routed.
 */
import { expect, test } from "vitest";
import { down, silentProgress, up } from "../../lab/engine/lab.ts";
import { awaitChecks, awaitMatrix } from "../../lab/inspect.ts";
import { topologyFile } from "../../lab/names.ts";
import { loadTopology } from "../../lab/topology/load.ts";
import type { Topology } from "../../lab/topology/schema.ts";

interface NodeDocument {
  kind: string;
  status?: { addresses: { address: string }[] };
  spec?: { overlay?: string; mode?: string };
}

function withOneFamily(family: 4 | 6): Topology {
  const topology = loadTopology(topologyFile("two-racks"));
  for (const { kind, status, spec } of (topology.objects ?? []) as NodeDocument[]) {
    if (kind === "Node" && status) status.addresses = status.addresses.filter(({ address }) => address.includes(":") === (family === 6));
    if (kind === "PodNetwork" && spec && family === 6) Object.assign(spec, { overlay: "Always", mode: "Routed" });
  }
  const sessions = { node1: 3, node2: 3, node3: 3, node4: 3 };
  const within = family === 6 ? ["node2-1", "node3-1"] : ["node3-1", "node4-1"];
  topology.checks = { within: 60, sessions, carried: [{ from: "node1-1", to: within, as: "vxlan" }], pods: "all" };
  topology.scenarios = [];
  return topology;
}

test.each([4, 6] as const)(
  "IPv%i",
  async family => {
    const { lab } = await up(withOneFamily(family), { instance: `f${family}${process.pid}` });
    try {
      await awaitChecks(lab, silentProgress);
      const cells = await awaitMatrix(lab);
      expect(cells.flatMap(cell => cell.problem ?? [])).toEqual([]);
      expect(cells).toHaveLength(5 * 4 * 2);
    } finally {
      await down(lab.id);
    }
  },
  120_000,
);
