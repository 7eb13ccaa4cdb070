/** Next hops that only our own routes reach, with a real kernel and sessions in memory: nodes on loopbacks behind two switches. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { eventually, PROTOCOL, TestNamespace } from "./fib/testing.ts";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const families = { "ipv4-unicast": accepting, "ipv6-unicast": accepting };
const fib = { enabled: true, table: 254, protocol: PROTOCOL, metric: 50 };

let world: MemoryWorld;
let ns: TestNamespace;

beforeEach(() => {
  world = new MemoryWorld();
  ns = new TestNamespace();
});

afterEach(async () => {
  await world.close();
  ns.remove();
});

describe.each([
  {
    family: 4,
    own: "10.255.0.1",
    other: "10.255.0.2",
    torA: "10.0.0.2",
    torB: "10.0.1.2",
    everything: "0.0.0.0/0",
    host: "10.255.0.2/32",
    pods: "10.244.2.0/24",
  },
  {
    family: 6,
    own: "2001:db8:ff::1",
    other: "2001:db8:ff::2",
    torA: "2001:db8::2",
    torB: "2001:db8:0:1::2",
    everything: "::/0",
    host: "2001:db8:ff::2/128",
    pods: "2001:db8:244:2::/64",
  },
])("IPv$family loopbacks behind two switches", ({ own, other, torA, torB, everything, host, pods }) => {
  let us: MemorySpeaker;
  let left: MemorySpeaker;
  let right: MemorySpeaker;
  let node: MemorySpeaker;

  const speaker = (address: string, last: number, asn: number, prefixes: string[]) => {
    const networks = prefixes.map(prefix => network(prefix));
    return world.speaker(address, { routerId: `192.0.2.${last}`, asn, networks, neighbors: [neighborAt(own, 65001, { families })] });
  };

  async function start(): Promise<void> {
    ns.ip(`addr add ${own}/${own.includes(":") ? 128 : 32} dev lo`);
    const neighbors = [
      neighborAt(torA, 65100, { families }),
      neighborAt(torB, 65100, { families }),
      neighborAt(other, 65001, { families }),
    ];
    const multipath = { ebgp: 8, ibgp: 8, asPathRelax: false };
    us = world.speaker(own, { routerId: "192.0.2.1", asn: 65001, neighbors, multipath, fib, startupWait: 20 }, ns.kernel());
    left = speaker(torA, 2, 65100, [everything]);
    right = speaker(torB, 3, 65100, [everything]);
    node = speaker(other, 4, 65001, [pods]);
    for (const one of [us, left, right, node]) one.apply();
  }

  /** Gateways of the kernel's route. */
  const via = (prefix: string) =>
    [
      ...ns
        .routes(prefix)
        .join(" ")
        .matchAll(/via (\S+)/g),
    ]
      .map(match => match[1])
      .sort();
  const become = (prefix: string, gateways: string[]) =>
    expect.poll(() => world.later(() => via(prefix)), { timeout: 10_000 }).toEqual([...gateways].sort());

  it("are reached over both by their default route, flat, and over what is left of it", async () => {
    await start();
    await become(pods, [torA, torB]);
    const [route] = us.speaker.routesNow({ prefix: pods }).routes;
    expect([route.best, route.attributes.nextHop]).toEqual([true, other]);
    // The link is lost, then the session, then the other switch's route.
    ns.ip("link set p0 down");
    await become(pods, [torB]);
    right.apply({ networks: [] });
    await become(pods, []);
    expect(us.speaker.routesNow({ prefix: pods }).routes[0].reason).toBe("next hop unreachable: no route");
    right.apply({ networks: [network(everything)] });
    await become(pods, [torB]);
    ns.ip("link set p0 up");
    if (own.includes(":")) ns.ip("addr replace 2001:db8::1/64 dev v0 nodad");
    await become(pods, [torA, torB]);
  });

  it("are reached by a host route where there is one", async () => {
    await start();
    await become(pods, [torA, torB]);
    left.apply({ networks: [network(everything), network(host)] });
    await become(pods, [torA]);
    right.apply({ networks: [network(everything), network(host)] });
    await become(pods, [torA, torB]);
    left.apply({ networks: [network(everything)] });
    await become(pods, [torB]);
  });

  it("do not lose a route to themselves, nor by themselves: it comes to rest", async () => {
    await start();
    await become(pods, [torA, torB]);
    // Its own loopback, and a default route that would be preferred, both with itself as next hop.
    const preferred = network(everything, { attributes: { localPref: 200 } });
    node.apply({ networks: [network(pods), network(host), preferred] });
    await become(host, [torA, torB]);
    await become(pods, [torA, torB]);
    const offered = us.speaker.routesNow({ prefix: everything, limit: 100_000 }).routes.filter(one => one.prefix === everything);
    expect(offered.find(one => one.from === other)).toMatchObject({
      eligible: false,
      reason: expect.stringMatching(/^next hop only reachable through this route itself: via /),
    });
    const events = ns.record();
    await world.run(30);
    expect(events).toEqual([]);
    left.apply({ networks: [] });
    right.apply({ networks: [] });
    await become(pods, []);
    await become(everything, []);
    await eventually(() => expect(us.speaker.snapshot().fib?.installed).toBe(0));
  });

  it("over a restart nothing is swept that such routes want", async () => {
    await start();
    await become(pods, [torA, torB]);
    await us.speaker.close({ graceful: false, flush: false });
    const events = ns.record();
    for (const address of [torA, torB, other]) world.cut(address);
    const { config } = us;
    us = world.speaker(own, config, ns.kernel());
    us.apply();
    await expect.poll(() => world.later(() => us.speaker.snapshot().converged), { timeout: 10_000 }).toBe(true);
    await world.run(5);
    expect(via(pods)).toEqual([torA, torB].sort());
    expect(events.filter(({ action }) => action === "delete")).toEqual([]);
  });
});
