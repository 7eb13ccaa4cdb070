/**
 * Real agents on one switch: a node that joins or leaves touches no session of others, and a mesh that is arranged anew loses no packet, though the nodes
 * hear of it one after the other. Needs root on Linux.
 */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { PeersView, PlanView } from "./api/views.ts";
import { Fleet } from "./testing/fleet.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 60_000, interval: 100 };
const COUNT = 5;
const numbers = Array.from({ length: COUNT }, (_, at) => at + 1);

let fleet: Fleet;
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  fleet = new Fleet(COUNT);
});
afterEach(() => fleet?.close());

const nodes = (all: readonly number[]) =>
  all
    .map(number =>
      JSON.stringify({
        apiVersion: "v1",
        kind: "Node",
        metadata: { name: `node${number}`, labels: number <= 2 ? { rr: "yes" } : {} },
        spec: { podCIDRs: [`10.244.${number}.0/24`] },
        status: { addresses: [{ type: "InternalIP", address: `192.0.2.${number}` }] },
      }),
    )
    .join("\n---\n");
const fabric = (mesh: object) =>
  JSON.stringify({
    apiVersion: "podlane.io/v1alpha1",
    kind: "Fabric",
    metadata: { name: "f" },
    spec: { nodeSelector: {}, asn: 65000, mesh, startupWait: 15, timers: { connectRetryTime: 1 } },
  });
const full = { type: "Full" };
const reflectors = { type: "RouteReflectors", routeReflectors: { nodeSelector: { matchLabels: { rr: "yes" } }, clusterID: "10.9.9.9" } };

const peersOf = async (number: number) => (await fleet.ask<PeersView>(number, "/v1/peers"))?.peers ?? [];
const isUp = ({ state }: { state: string }) => state === "Established";
/** Of each node how many there are, and which of them do not stand. */
const sessions = async () => {
  const peers = await Promise.all(numbers.map(peersOf));
  return peers.map(list => [list.length, list.filter(one => !isUp(one)).map(({ name }) => name)]);
};
const all = (...counts: number[]) => counts.map(count => [count, []]);

test("a node that joins, and one that leaves, touch no session but their own", async () => {
  const [others, joiner] = [numbers.slice(0, -1), COUNT];
  for (const number of others) {
    fleet.write(number, "nodes.yaml", nodes(others));
    fleet.start(number);
  }
  const stand = async () => Promise.all(others.map(async number => (await peersOf(number)).filter(isUp).length));
  await expect.poll(stand, within).toEqual(others.map(() => COUNT - 2));
  const marks = async () =>
    Promise.all(
      others.map(async number =>
        (await peersOf(number))
          .filter(({ name }) => !name.startsWith(`node${joiner}/`))
          .map(({ name, since, counters }) => `${number}-${name} since ${since}, session ${counters.establishedCount}`),
      ),
    );
  const before = await marks();

  for (const number of numbers) fleet.write(number, "nodes.yaml", nodes(numbers));
  fleet.start(joiner);
  await expect.poll(stand, within).toEqual(others.map(() => COUNT - 1));
  expect(await marks()).toEqual(before);

  for (const number of others) fleet.write(number, "nodes.yaml", nodes(others));
  await expect.poll(stand, within).toEqual(others.map(() => COUNT - 2));
  await expect.poll(async () => (await Promise.all(others.map(peersOf))).flat().length, within).toBe(others.length * (COUNT - 2));
  expect(await marks()).toEqual(before);
}, 120_000);

/** Each node takes it before the next one hears of it. */
async function arrange(mesh: object, order: readonly number[]): Promise<void> {
  for (const number of order) {
    const { speaker } = (await fleet.ask<PlanView>(number, "/v1/plan")) ?? {};
    fleet.write(number, "fabric.yaml", fabric(mesh));
    const arrangement = async () => (await fleet.ask<PlanView>(number, "/v1/plan"))?.speaker?.arrangement;
    await expect.poll(arrangement, within).not.toBe(speaker?.arrangement);
  }
}

test("full mesh -> reflectors -> full mesh under traffic: no packet is lost", async () => {
  for (const number of numbers) {
    fleet.write(number, "nodes.yaml", nodes(numbers));
    fleet.write(number, "fabric.yaml", fabric(full));
    fleet.start(number);
  }
  await expect.poll(sessions, within).toEqual(all(4, 4, 4, 4, 4));
  const received = async () =>
    Promise.all(numbers.map(async number => (await peersOf(number)).map(one => one.families["ipv4-unicast"]?.received)));
  await expect.poll(received, within).toEqual(numbers.map(() => [1, 1, 1, 1]));
  const pings = [fleet.ping(3, 4), fleet.ping(4, 5), fleet.ping(5, 3), fleet.ping(3, 1), fleet.ping(2, 5)];

  await arrange(reflectors, [3, 1, 5, 2, 4]);
  await expect.poll(sessions, within).toEqual(all(4, 4, 2, 2, 2));
  // All of it, and from both reflectors.
  await expect.poll(async () => (await received()).slice(2), within).toEqual([3, 4, 5].map(() => [COUNT - 1, COUNT - 1]));

  await arrange(full, [1, 4, 3, 2, 5]);
  await expect.poll(sessions, within).toEqual(all(4, 4, 4, 4, 4));
  await expect.poll(received, within).toEqual(numbers.map(() => [1, 1, 1, 1]));

  const counts = await Promise.all(pings.map(ping => ping.stop()));
  expect(counts.map(({ lost }) => lost)).toEqual([0, 0, 0, 0, 0]);
  for (const { sent } of counts) expect(sent).toBeGreaterThan(500);
}, 240_000);
