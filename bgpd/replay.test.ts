/** A life that was recorded is lived again: another speaker that hears the same says the same. */
import { describe, expect, test } from "vitest";
import { PROTOCOL, TestNamespace } from "./fib/testing.ts";
import { encodeNotification } from "./message/notification.ts";
import { accepting, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";
import { type Entry, Recorder } from "./testing/recording.ts";
import { replay } from "./testing/replay.ts";

const [A, B, C] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

/** Sessions, a change of policy, networks that come and go, a cut, a session that the other end ends. */
async function life(): Promise<Entry[]> {
  const world = new MemoryWorld();
  const recorder = new Recorder(world.clock);
  const us = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002), neighborAt(C, 65003)] }, undefined, undefined, recorder);
  const networks = ["10.2.0.0/16", "10.3.0.0/16"].map(prefix => network(prefix));
  const them = world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001)], networks });
  const third = world.rawPeer(C, 65003);
  us.apply({ networks: [network("10.1.0.0/16")] });
  them.apply();
  await world.run(10);
  const policies = { none: { rules: [{ match: { prefixes: [{ prefix: "10.3.0.0/16" }] }, action: { result: "reject" as const } }] } };
  const filtered = neighborAt(B, 65002, { families: { "ipv4-unicast": { ...accepting, importPolicies: ["none"] } } });
  us.apply({ policies, neighbors: [filtered, neighborAt(C, 65003)] });
  await world.run(5);
  us.changeNetworks(new Map(["10.4.0.0/16", "10.5.0.0/16"].map(prefix => [prefix, network(prefix)])));
  await world.run(5);
  us.changeNetworks(new Map([["10.5.0.0/16", undefined]]));
  world.cut(B);
  await world.run(20);
  third.at(-1)?.wire?.write(encodeNotification(6, 2));
  await world.run(30);
  const entries = [...recorder.entries];
  await world.close();
  return entries;
}

/** What went over each connection, in the order of their numbers. */
function spoken(entries: readonly Entry[]): Record<number, string> {
  const all: Record<number, string> = {};
  for (const entry of entries) if (entry.type === "written") all[entry.id] = (all[entry.id] ?? "") + entry.octets;
  return all;
}

describe("a recorded life", () => {
  test("is plain data, and another speaker says the same to each octet", async () => {
    const plain: Entry[] = JSON.parse(JSON.stringify(await life()));
    expect(plain.filter(({ type }) => type === "accept" || type === "connect").length).toBeGreaterThanOrEqual(4);
    const { outputs, speaker } = await replay(plain);
    expect(spoken(outputs)).toEqual(spoken(plain));
    const { routes } = speaker.routesNow();
    expect(routes.filter(({ best }) => best).map(({ prefix, from }) => `${prefix} ${from}`)).toEqual([
      "10.1.0.0/16 Advertisement/10.1.0.0/16",
      `10.2.0.0/16 ${B}`,
      "10.4.0.0/16 Advertisement/10.4.0.0/16",
    ]);
  });

  test("holds what the kernel said as well", async ctx => {
    if (process.platform !== "linux" || process.getuid?.() !== 0) ctx.skip("network namespaces need root on Linux");
    const namespace = new TestNamespace();
    try {
      const world = new MemoryWorld();
      const recorder = new Recorder(world.clock);
      const fib = { enabled: true, table: 254, protocol: PROTOCOL, metric: 0 };
      const us = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002)], fib }, namespace.kernel(), undefined, recorder);
      const them = world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001)], networks: [network("10.2.0.0/16")] });
      us.apply();
      them.apply();
      await expect.poll(() => world.later(() => namespace.routes("10.2.0.0/16")), { timeout: 10_000 }).toHaveLength(1);
      const plain: Entry[] = JSON.parse(JSON.stringify(recorder.entries));
      await world.close();
      expect(plain.some(({ type }) => type === "answer")).toBe(true);
      expect(spoken((await replay(plain)).outputs)).toEqual(spoken(plain));
    } finally {
      namespace.remove();
    }
  });

  test("tells a speaker that says something else", async () => {
    const entries = await life();
    const other = entries.map(entry => (entry.type === "apply" ? { ...entry, config: { ...entry.config, asn: 65009 } } : entry));
    const { outputs } = await replay(other);
    expect(spoken(outputs)).not.toEqual(spoken(entries));
  });
});
