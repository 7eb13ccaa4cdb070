/** Random clusters through random changes: the ruleset does what the documents say, `explain` says so too, and how it came about leaves no trace. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { canonical } from "../json.ts";
import type { RulesetObject } from "../ruleset.ts";
import { PolicyIndex } from "./policy-index.ts";
import { forward } from "./testing/interpreter.ts";
import { type Cluster, type Probe, passes } from "./testing/oracle.ts";
import { type Step, step, World } from "./testing/random-cluster.ts";
import type { PolicyProtocol } from "./types.ts";

const RUNS = Number(process.env.PODLANE_RUNS ?? 150);
const SEED = process.env.PODLANE_SEED === undefined ? {} : { seed: Number(process.env.PODLANE_SEED) };

const Names = { TCP: "tcp", UDP: "udp", SCTP: "sctp" } as const;
const Ports: [PolicyProtocol, number][] = [
  ["TCP", 80],
  ["TCP", 8080],
  ["TCP", 53],
  ["UDP", 53],
  ["UDP", 80],
  ["SCTP", 80],
];

function probes(cluster: Cluster): Probe[] {
  const own = new Set(cluster.pods.filter(({ ended, hostNetwork }) => !ended && !hostNetwork).flatMap(({ addresses }) => addresses));
  const all = [...own, "192.0.2.1", "192.0.2.9", "2001:db8::2", "10.0.1.200"];
  return all.flatMap(source =>
    all.flatMap(destination => {
      if (source.includes(":") !== destination.includes(":")) return [];
      return Ports.map(([protocol, port]) => ({ source, destination, protocol, port }));
    }),
  );
}

function run(steps: readonly Step[]): { index: PolicyIndex; world: World; kernel: Map<string, RulesetObject> } {
  const index = new PolicyIndex();
  const world = new World(index);
  const kernel = new Map<string, RulesetObject>();
  const take = () => {
    for (const { key, object } of index.take()) {
      if (object) kernel.set(key, object);
      else expect(kernel.delete(key), key).toBe(true);
    }
  };
  for (const one of steps) {
    world.do(one);
    if ("take" in one) take();
  }
  take();
  return { index, world, kernel };
}

/** As a map without order. */
function plain(objects: ReadonlyMap<string, RulesetObject>): Record<string, unknown> {
  const entries = [...objects].map(([key, object]) => {
    const one = canonical(object);
    return [key, one.kind === "set" ? { ...one, elements: [...one.elements.keys()].sort() } : one];
  });
  return Object.fromEntries(entries);
}

test("the ruleset does what the documents say, and so says explain", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), steps => {
      const { index, world, kernel } = run(steps);
      const here = new Set([...world.attachments.values()].flatMap(({ addresses }) => addresses));
      const { cluster } = world;
      for (const probe of probes(cluster)) {
        const { source, destination, protocol, port } = probe;
        const [egress, ingress] = [passes(cluster, probe, "egress"), passes(cluster, probe, "ingress")];
        const wanted = (!here.has(source) || egress) && (!here.has(destination) || ingress);
        const { accepted } = forward(kernel.values(), { source, destination, protocol: Names[protocol], port });
        expect({ ...probe, accepted }).toEqual({ ...probe, accepted: wanted });
        const explained = index.explain({ from: source, to: destination, protocol, port });
        const isOwnNode = explained.ingress.by === "own-node" || explained.egress.by === "own-node";
        if (!isOwnNode) expect({ ...probe, ...explained }).toMatchObject({ egress: { allowed: egress }, ingress: { allowed: ingress } });
      }
    }),
    { numRuns: RUNS, ...SEED },
  );
});

test("what came about step by step is what a new start makes", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), steps => {
      const { index, world, kernel } = run(steps);
      const fresh = new PolicyIndex();
      world.tell(fresh);
      fresh.take();
      expect(plain(kernel)).toEqual(plain(fresh.objects()));
      expect(plain(index.objects())).toEqual(plain(kernel));
      expect(index.take()).toEqual([]);
    }),
    { numRuns: RUNS, ...SEED },
  );
});

test("each object that is named is there", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), steps => {
      const { kernel } = run(steps);
      const names = new Set([...kernel.values()].map(({ name }) => name));
      const text = JSON.stringify([...kernel.values()].map(one => (one.kind === "map" ? [...one.elements.values()] : one)));
      const named = [...text.matchAll(/"(?:@|target":"|counter":")(np-[a-z0-9-]+)"/g)].map(([, name]) => name);
      expect(named.filter(name => !names.has(name))).toEqual([]);
      const unused = [...names].filter(name => !named.includes(name) && !["np-egress", "np-ingress"].includes(name));
      expect(unused).toEqual([]);
    }),
    { numRuns: RUNS, ...SEED },
  );
});
