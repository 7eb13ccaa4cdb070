/** What the loss of a link does to the sessions over it, with the real links of a namespace and sessions in memory. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { KernelAccess } from "../kernel/index.ts";
import type { NeighborConfig } from "./config.ts";
import { eventually, TestNamespace } from "./fib/testing.ts";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const families = { "ipv4-unicast": accepting, "ipv6-unicast": accepting };

let world: MemoryWorld;
let ns: TestNamespace;
/** Links as the speaker heard of them. */
let heard: { name: string; carrier: boolean }[];

beforeEach(() => {
  world = new MemoryWorld();
  ns = new TestNamespace();
  heard = [];
});

afterEach(async () => {
  await world.close();
  ns.remove();
});

function kernel(): KernelAccess {
  const { netlink, watch } = ns.kernel();
  return {
    netlink,
    watch: listener =>
      watch(events => {
        listener(events);
        for (const event of events) if (event.type === "link") heard.push({ name: event.link.name, carrier: event.link.carrier });
      }),
  };
}

/** `own` has the links of the namespace; `other`, on v0, announces one route. */
async function joined(
  own: string,
  other: string,
  prefix: string,
  asn: number,
  change: Partial<NeighborConfig> = {},
): Promise<MemorySpeaker> {
  const routerId = (address: string) => (address.includes(":") ? { routerId: `192.0.2.${address.at(-1)}` } : {});
  const a = world.speaker(own, { ...routerId(own), asn: 65001, neighbors: [neighborAt(other, asn, { families, ...change })] }, kernel());
  const neighbors = [neighborAt(own, 65001, { families, ...change })];
  const b = world.speaker(other, { ...routerId(other), asn, neighbors, networks: [network(prefix)] });
  for (const speaker of [a, b]) speaker.apply();
  await world.run(10);
  expect([a.neighbor(other).state, Object.keys(a.best)]).toEqual(["Established", [prefix]]);
  return a;
}

/** Cuts the link, and waits until the speaker has heard that `end` has lost it. */
async function cut(port: string, end: string): Promise<void> {
  heard.length = 0;
  ns.ip(`link set ${port} down`);
  await eventually(() => expect(heard).toContainEqual({ name: end, carrier: false }));
  await world.run(0);
}

describe.each([
  { family: 4 as const, own: "10.0.0.1", other: "10.0.0.2", prefix: "192.0.2.0/24" },
  { family: 6 as const, own: "2001:db8::1", other: "2001:db8::2", prefix: "2001:db8:a::/48" },
])("IPv$family: a link that is lost", ({ family, own, other, prefix }) => {
  it.each([
    { what: "no carrier", port: "p0" },
    { what: "set down", port: "v0" },
  ])("ends an external session over it at once and forgets its routes ($what)", async ({ port }) => {
    const a = await joined(own, other, prefix, 65002);
    world.network.unplugged = true;
    await cut(port, "v0");
    expect([a.neighbor(other).state, a.neighbor(other).lastDown?.text]).toEqual([
      "Active",
      expect.stringMatching(/^the link .* is lost: /),
    ]);
    expect(a.speaker.snapshot().tables[`ipv${family}-unicast`].paths).toBe(0);
    world.network.unplugged = false;
    ns.ip(`link set ${port} up`);
    if (family === 6) ns.ip(`addr replace ${own}/64 dev v0 nodad`);
    await eventually(() => expect(heard.findLast(({ name }) => name === "v0")?.carrier).toBe(true));
    await world.run(60);
    expect([a.neighbor(other).state, Object.keys(a.best)]).toEqual(["Established", [prefix]]);
  });

  it("takes the routes that a graceful restart has kept for good, also when it is back before the neighbour", async () => {
    const a = await joined(own, other, prefix, 65002);
    // The router restarts: its sessions end without a word, then its ports go, and are back long before its BGP is.
    world.network.lost = true;
    world.cut(other);
    await world.run(1);
    expect([a.neighbor(other).state === "Established", Object.keys(a.best)]).toEqual([false, [prefix]]);
    await cut("p0", "v0");
    await world.run(1);
    expect(a.speaker.snapshot().tables[`ipv${family}-unicast`].paths).toBe(0);
    ns.ip("link set p0 up");
    await eventually(() => expect(heard.findLast(({ name }) => name === "v0")?.carrier).toBe(true));
    await world.run(1);
    expect(a.best).toEqual({});
    world.network.lost = false;
    await world.run(60);
    expect([a.neighbor(other).state, Object.keys(a.best)]).toEqual(["Established", [prefix]]);
  });

  it("is nothing to a session over another link", async () => {
    const a = await joined(own, other, prefix, 65002);
    await cut("p1", "v1");
    expect([a.neighbor(other).state, Object.keys(a.best)]).toEqual(["Established", [prefix]]);
  });

  it.each([
    ["an internal session", 65001, {}],
    ["a session over several hops", 65002, { multihop: 2 }],
  ])("leaves alone %s, which may find another way", async (_what, asn, change) => {
    const a = await joined(own, other, prefix, asn, change);
    await cut("p0", "v0");
    expect([a.neighbor(other).state, Object.keys(a.best)]).toEqual(["Established", []]);
  });
});
