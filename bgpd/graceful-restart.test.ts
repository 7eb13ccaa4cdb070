import { afterEach, describe, expect, it } from "vitest";
import type { KernelAccess } from "../kernel/index.ts";
import type { NeighborConfig } from "./config.ts";
import { PROTOCOL, TestNamespace } from "./fib/testing.ts";
import { attractsTraffic, familiesToDrop, familiesToKeep } from "./graceful-restart.ts";
import { MessageType } from "./message/header.ts";
import type { DownReason, Negotiated } from "./session/types.ts";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const A = "10.0.0.1";
const B = "10.0.0.2";
const C = "10.0.0.3";
const HOLD = 90;
const fib = { enabled: true, table: 254, protocol: PROTOCOL, metric: 0 };

let world = new MemoryWorld();
afterEach(async () => {
  await world.close();
  world = new MemoryWorld();
});

/** A watches B's two routes and passes them on to C. B connects, so that it decides when it is back. */
async function watching(change: Partial<NeighborConfig> = {}): Promise<{ a: MemorySpeaker; b: MemorySpeaker; c: MemorySpeaker }> {
  const a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002, { passive: true, ...change }), neighborAt(C, 65003)] });
  const b = restarted(["10.2.0.0/16", "10.3.0.0/16"]);
  const c = world.speaker(C, { asn: 65003, neighbors: [neighborAt(A, 65001)] });
  for (const speaker of [a, b, c]) speaker.apply();
  await world.run(10);
  expect(a.best).toEqual({ "10.2.0.0/16": B, "10.3.0.0/16": B });
  return { a, b, c };
}

/** `kernel`: with routes of a former agent in it, so that it forwarded all the time. */
function restarted(prefixes: string[], kernel?: KernelAccess, change: Partial<NeighborConfig> = {}): MemorySpeaker {
  const networks = prefixes.map(prefix => network(prefix));
  return world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001, change)], networks, ...(kernel && { fib }) }, kernel);
}

/** The process is gone without a word. */
async function kill(speaker: MemorySpeaker): Promise<void> {
  void speaker.speaker.close({ graceful: false, flush: false });
  await world.run(0.1);
}

/** A namespace in which a former agent left a route, as far as the speaker can tell. */
async function withAdopted(test: (kernels: KernelAccess[], namespaces: TestNamespace[]) => Promise<void>, count = 1): Promise<void> {
  const namespaces = Array.from({ length: count }, () => new TestNamespace());
  try {
    for (const namespace of namespaces) namespace.ip(`route add 10.77.0.0/16 via 10.0.0.9 proto ${PROTOCOL}`);
    await test(
      namespaces.map(namespace => namespace.kernel()),
      namespaces,
    );
    await world.close();
  } finally {
    for (const namespace of namespaces) namespace.remove();
  }
}

describe("a neighbour that", () => {
  it("is lost without a NOTIFICATION keeps its routes for its restart time", async () => {
    const { a, b, c } = await watching();
    await kill(b);
    await world.run(HOLD - 2);
    expect([a.neighbor(B).state === "Established", Object.keys(c.best).sort()]).toEqual([false, ["10.2.0.0/16", "10.3.0.0/16"]]);
    await world.run(4);
    expect([a.best, c.best, a.speaker.snapshot().tables["ipv4-unicast"]]).toEqual([{}, {}, { prefixes: 0, paths: 0, best: 0 }]);
  });

  it("asks for another restart time than its hold time is heard from the next session on", async () => {
    const { a, b } = await watching();
    b.apply({ neighbors: [neighborAt(A, 65001, { restartTime: 20 })] });
    world.cut(A);
    await world.run(10);
    expect(a.neighbor(B).state).toBe("Established");
    await kill(b);
    await world.run(18);
    expect(Object.keys(a.best)).toHaveLength(2);
    await world.run(4);
    expect(a.best).toEqual({});
    const again = restarted(["10.2.0.0/16"], undefined, { restartTime: 0 });
    again.apply();
    await world.run(10);
    expect(a.best).toEqual({ "10.2.0.0/16": B });
    await kill(again);
    expect(a.best).toEqual({});
  });

  it("says goodbye loses its routes at once", async () => {
    const { a, b, c } = await watching();
    void b.speaker.close({ graceful: true, flush: false });
    await world.run(0.1);
    expect([a.best, c.best]).toEqual([{}, {}]);
  });

  it("falls silent loses its routes when the hold timer expires", async () => {
    const { a } = await watching({ holdTime: 9 });
    world.network.unplugged = true;
    await world.run(11);
    expect(a.best).toEqual({});
    world.network.unplugged = false;
  });

  it("is back and was forwarding loses only what it does not announce again", async () => {
    await withAdopted(async ([kernel]) => {
      const { a, b, c } = await watching();
      const updates = c.neighbor(A).counters.messagesIn.update;
      await kill(b);
      const again = restarted(["10.2.0.0/16"], kernel);
      again.apply();
      await world.run(20);
      expect([a.best, c.best]).toEqual([{ "10.2.0.0/16": B }, { "10.2.0.0/16": A }]);
      // One withdrawal; the route that stayed was not told again.
      expect(c.neighbor(A).counters.messagesIn.update).toBe(updates + 1);
      await world.run(800);
      expect(a.best).toEqual({ "10.2.0.0/16": B });
    });
  });

  it("is back but was not forwarding loses everything before it announces again", async () => {
    const { a, b, c } = await watching();
    const updates = c.neighbor(A).counters.messagesIn.update;
    await kill(b);
    restarted(["10.2.0.0/16", "10.3.0.0/16"]).apply();
    await world.run(20);
    expect([Object.keys(a.best).sort(), Object.keys(c.best).sort()]).toEqual([
      ["10.2.0.0/16", "10.3.0.0/16"],
      ["10.2.0.0/16", "10.3.0.0/16"],
    ]);
    expect(c.neighbor(A).counters.messagesIn.update).toBe(updates + 2);
  });

  it("is back from a cut keeps everything, cut after cut", async () => {
    const { a, c } = await watching();
    const updates = c.neighbor(A).counters.messagesIn.update;
    for (let n = 0; n < 3; n++) {
      world.network.lost = true;
      const b = a.neighbor(B).counters.establishedCount;
      world.cut(B);
      await world.run(2);
      expect(Object.keys(c.best).length).toBe(2);
      world.network.lost = false;
      await world.run(60);
      expect(a.neighbor(B).counters.establishedCount).toBe(b + 1);
    }
    expect([Object.keys(a.best).length, c.neighbor(A).counters.messagesIn.update]).toEqual([2, updates]);
    await world.run(1000);
    expect(Object.keys(a.best).length).toBe(2);
  });

  it("is lost again before it has sent its table loses what is still from before", async () => {
    const { a, b } = await watching();
    await kill(b);
    // Hold time of the second: its restart time. It announces one route, and is lost before End-of-RIB.
    const again = restarted(["10.2.0.0/16"]);
    again.apply();
    for (let n = 0; n < 2000 && a.neighbor(B).families["ipv4-unicast"]?.received !== 1; n++) await world.run(0.001);
    await kill(again);
    expect(Object.keys(a.best)).toContain("10.2.0.0/16");
    await world.run(HOLD + 10);
    expect(a.best).toEqual({});
  });

  it("is removed from the configuration while it is away leaves nothing", async () => {
    const { a, b } = await watching();
    await kill(b);
    a.apply({ neighbors: [neighborAt(C, 65003)] });
    await world.run(1);
    expect(a.best).toEqual({});
    expect(a.speaker.snapshot().tables["ipv4-unicast"].paths).toBe(0);
  });
});

describe("families", () => {
  const negotiated = { families: ["ipv4-unicast", "ipv6-unicast"] } as Negotiated;
  const lost: DownReason = { text: "connection reset" };
  const restart = {
    restarted: false,
    notification: false,
    restartTime: 90,
    families: [{ family: "ipv4-unicast" as const, forwarding: true }],
  };
  const cease = { ...lost, notification: { code: 6, subcode: 2, data: new Uint8Array(), direction: "sent" as const } };

  it("are kept when the neighbour takes part in them, and nothing was said at the end", () => {
    expect(familiesToKeep(restart, negotiated, lost)).toEqual(["ipv4-unicast"]);
    expect(familiesToKeep(undefined, negotiated, lost)).toEqual([]);
    expect(familiesToKeep({ ...restart, restartTime: 0 }, negotiated, lost)).toEqual([]);
    expect(familiesToKeep(restart, negotiated, cease)).toEqual([]);
  });

  it("are dropped on return without the capability, without the family, or without the F bit", () => {
    expect(familiesToDrop(restart)).toEqual(["ipv6-unicast"]);
    expect(familiesToDrop(undefined)).toEqual(["ipv4-unicast", "ipv6-unicast"]);
    const lostState = { ...restart, families: [{ family: "ipv4-unicast" as const, forwarding: false }] };
    expect(familiesToDrop(lostState)).toEqual(["ipv4-unicast", "ipv6-unicast"]);
  });
});

describe("our own restart", () => {
  it("holds End-of-RIB back until the neighbours have sent theirs, and only then sweeps", async () => {
    await withAdopted(async ([kernel], [namespace]) => {
      const a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002), neighborAt(C, 65003)], fib }, kernel);
      const b = world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001)] });
      a.apply();
      b.apply();
      await world.run(20);
      expect([a.speaker.snapshot().converged, b.neighbor(A).families["ipv4-unicast"]?.endOfRib]).toEqual([false, false]);
      expect(namespace.routes("10.77.0.0/16")).toHaveLength(1);
      const c = world.speaker(C, { asn: 65003, neighbors: [neighborAt(A, 65001)] });
      c.apply();
      await world.run(30);
      expect([a.speaker.snapshot().converged, b.neighbor(A).families["ipv4-unicast"]?.endOfRib]).toEqual([true, true]);
      await world.run(1);
      expect(namespace.routes("10.77.0.0/16")).toEqual([]);
    });
  });

  it.each([
    ["of IPv6 only", (ns: TestNamespace) => ns.ip(`-6 route add 2001:db8:77::/48 via 2001:db8::9 proto ${PROTOCOL}`)],
    ["of another metric", (ns: TestNamespace) => ns.ip(`route add 198.51.100.0/24 via 10.0.0.9 metric 70 proto ${PROTOCOL}`)],
    [
      "behind 3,000 of somebody else",
      (ns: TestNamespace) => {
        const foreign = Array.from({ length: 3000 }, (_, n) => `route add 10.${100 + (n >> 8)}.${n & 255}.0/24 via 10.0.0.9 proto static`);
        ns.ip("-batch -", foreign.join("\n"));
        ns.ip(`route add 198.51.100.0/24 via 10.0.0.9 proto ${PROTOCOL}`);
      },
    ],
  ])("is known for one by routes %s: R and F are in the first OPEN", async (_what, leave) => {
    const namespace = new TestNamespace();
    try {
      leave(namespace);
      const a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002)], fib }, namespace.kernel());
      const connections = world.rawPeer(B, 65002);
      expect(a.apply()).toEqual([`${B}: add: added`]);
      await expect.poll(() => world.later(() => a.neighbor(B).state)).toBe("Established");
      expect(connections).toHaveLength(1);
      // Capability 64: R with a restart time of 90 s, then (1, 1) with F.
      expect(Buffer.from(connections[0].ofType(MessageType.Open)[0]).toString("hex")).toContain("4006805a00010180");
      await world.close();
    } finally {
      namespace.remove();
    }
  });

  it("ends after a bounded wait for a neighbour that does not come", async () => {
    await withAdopted(async ([kernel], [namespace]) => {
      const a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002)], fib, startupWait: 60 }, kernel);
      a.apply();
      await world.run(59);
      expect([a.speaker.snapshot().converged, namespace.routes("10.77.0.0/16").length]).toEqual([false, 1]);
      await world.run(2);
      expect(a.events.filter(event => event.type === "converged")).toEqual([
        { type: "converged", reason: "waited 60 s for all neighbours" },
      ]);
      expect(namespace.routes("10.77.0.0/16")).toEqual([]);
    });
  });

  it("does not wait for a neighbour that restarts as well: neither sends End-of-RIB first otherwise", async () => {
    await withAdopted(async kernels => {
      const a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002)], fib, startupWait: 600 }, kernels[0]);
      const b = world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001)], fib, startupWait: 600 }, kernels[1]);
      a.apply();
      b.apply();
      await world.run(20);
      expect([a, b].map(({ speaker }) => speaker.snapshot().converged)).toEqual([true, true]);
      expect(b.neighbor(A).families["ipv4-unicast"]?.endOfRib).toBe(true);
    }, 2);
  });
});

describe("a reflector that writes no kernel routes", () => {
  const AS = 65001;
  const client = (address: string, change: Partial<NeighborConfig> = {}) =>
    neighborAt(address, AS, { routeReflectorClient: true, ...change });
  const reflector = (neighbors = [client(B), client(C)]) => world.speaker(A, { asn: AS, neighbors });
  const start = (address: string, prefix: string) => {
    const speaker = world.speaker(address, { asn: AS, neighbors: [neighborAt(A, AS)], networks: [network(prefix)] });
    speaker.apply();
    return speaker;
  };

  it("may be killed and come back without its clients losing a route", async () => {
    const a = reflector();
    a.apply();
    const [b, c] = [start(B, "10.2.0.0/16"), start(C, "10.3.0.0/16")];
    await world.run(10);
    const held = () => [b.best["10.3.0.0/16"], c.best["10.2.0.0/16"]];
    expect(held()).toEqual([A, A]);
    await kill(a);
    await world.run(5);
    const again = reflector();
    again.apply();
    for (let n = 0; n < 500; n++) {
      await world.run(0.02);
      expect(held()).toEqual([A, A]);
    }
    expect([b, c].map(speaker => [speaker.neighbor(A).state, speaker.neighbor(A).families["ipv4-unicast"]?.endOfRib])).toEqual([
      ["Established", true],
      ["Established", true],
    ]);
  });

  it("waits with End-of-RIB for a client that comes later, whose routes the others still have from before", async () => {
    const a = reflector();
    a.apply();
    const [b, c] = [start(B, "10.2.0.0/16"), start(C, "10.3.0.0/16")];
    await world.run(10);
    await kill(a);
    reflector([client(B, { passive: true }), client(C, { passive: true })]).apply();
    c.apply({ neighbors: [] });
    await world.run(40);
    expect([b.neighbor(A).state, b.neighbor(A).families["ipv4-unicast"]?.endOfRib, b.best["10.3.0.0/16"]]).toEqual([
      "Established",
      false,
      A,
    ]);
    c.apply({ neighbors: [neighborAt(A, AS)], networks: [] });
    await world.run(10);
    expect([b.neighbor(A).families["ipv4-unicast"]?.endOfRib, b.best["10.3.0.0/16"]]).toEqual([true, undefined]);
  });
});

describe("whether a neighbour's traffic comes to us", () => {
  const inside = neighborAt(B, 65001);
  const config = { asn: 65001, policies: {} };
  const withFamily = (change: object) => ({ ...inside, families: { "ipv4-unicast": { ...accepting, ...change } } });
  const self = { self: { rules: [{ action: { result: "accept" as const, set: { nextHop: "self" } } }] } };

  it("follows from what its next hops are", () => {
    expect(attractsTraffic(config, inside)).toBe(false);
    expect(attractsTraffic(config, { ...inside, remoteAsn: "internal" })).toBe(false);
    expect(attractsTraffic(config, { ...inside, remoteAsn: "external" })).toBe(true);
    expect(attractsTraffic(config, { ...inside, remoteAsn: 65002 })).toBe(true);
    expect(attractsTraffic(config, { ...inside, remoteAsn: 65002, localAsn: 65002 })).toBe(false);
    expect(attractsTraffic(config, withFamily({ nextHopSelf: true }))).toBe(true);
    expect(attractsTraffic({ ...config, policies: self }, withFamily({ exportPolicies: ["self"] }))).toBe(true);
    expect(attractsTraffic({ ...config, policies: self }, withFamily({ importPolicies: ["self"] }))).toBe(false);
  });
});
