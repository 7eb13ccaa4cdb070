/** Networks that come and go beside the configuration, ten thousand of them: what they cost on the wire, and what neighbours hear of them. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { NetworkConfig } from "./config.ts";
import { MessageType } from "./message/header.ts";
import { plannedExports } from "./planned-exports.ts";
import type { RawPeer } from "./session/testing.ts";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const [US, TOR, INSIDE, OUTSIDE] = ["10.0.0.1", "10.0.0.11", "10.0.0.2", "10.0.0.3"];
const COUNT = 10_000;
const families = { "ipv4-unicast": accepting, "ipv6-unicast": accepting };

let world: MemoryWorld;
beforeEach(() => {
  world = new MemoryWorld();
});
afterEach(() => world.close());

const vip = (n: number, change: Partial<NetworkConfig> = {}) =>
  network(`198.18.${n >> 8}.${n & 255}/32`, { kind: "service", source: "Advertisement/vips", ...change });

const changes = (networks: NetworkConfig[]) => new Map<string, NetworkConfig | undefined>(networks.map(one => [one.prefix, one]));
const all = () => changes(Array.from({ length: COUNT }, (_, n) => vip(n)));

/** Of the UPDATEs that have come since the last call. */
function updates(connections: RawPeer[]): Buffer[] {
  return connections.flatMap(({ messages }) =>
    messages.splice(0).flatMap(message => (message[18] === MessageType.Update ? [Buffer.from(message)] : [])),
  );
}

describe("ten thousand networks beside the configuration", () => {
  let us: MemorySpeaker;
  let tor: RawPeer[];

  beforeEach(async () => {
    tor = world.rawPeer(TOR, 65010);
    us = world.speaker(US, { asn: 65001, neighbors: [neighborAt(TOR, 65010)], networks: [network("10.244.1.0/24")] });
    us.changeNetworks(all());
    us.apply();
    await world.run(5);
  });

  const sent = () => us.neighbor(TOR).families["ipv4-unicast"]?.sent;

  it("may come before the first configuration, and together are few UPDATEs", () => {
    expect(sent()).toBe(COUNT + 1);
    const first = updates(tor);
    // Full messages of 4096 octets, 5 for a prefix: the table itself, its attributes, End-of-RIB.
    expect(first.length).toBeLessThan((5 * COUNT) / 4000 + 3);
  });

  it("stay with another configuration, which says nothing about them", async () => {
    updates(tor);
    us.apply({ networks: [network("10.244.1.0/24"), network("10.244.9.0/24")] });
    await world.run(5);
    expect(sent()).toBe(COUNT + 2);
    expect(updates(tor)).toHaveLength(1);
    us.apply({ networks: [] });
    await world.run(5);
    expect(sent()).toBe(COUNT);
    expect(updates(tor)).toHaveLength(1);
  });

  it("cost one small UPDATE for one that goes or comes, and none for a change that is none", async () => {
    updates(tor);
    us.changeNetworks(new Map([["198.18.0.7/32", undefined]]));
    await world.run(5);
    expect(updates(tor).map(({ length }) => length)).toEqual([28]);
    us.changeNetworks(changes([vip(7)]));
    await world.run(5);
    // Header, attributes (ORIGIN, AS_PATH, NEXT_HOP), five octets of prefix.
    expect(updates(tor).map(({ length }) => length)).toEqual([48]);
    us.changeNetworks(all());
    us.changeNetworks(new Map([["203.0.113.7/32", undefined]]));
    us.apply();
    await world.run(5);
    expect(updates(tor)).toEqual([]);
  });

  it("send nothing where they come and go before anybody could be told", async () => {
    updates(tor);
    us.changeNetworks(new Map([["198.18.0.7/32", undefined]]));
    us.changeNetworks(changes([vip(7)]));
    await world.run(5);
    expect(updates(tor)).toEqual([]);
  });

  it("are shown like others", () => {
    const { candidates, sent: told } = us.speaker.explain("198.18.0.7");
    expect(candidates).toMatchObject([{ from: "Advertisement/vips", kind: "service", best: true }]);
    expect(told).toMatchObject([{ neighbor: TOR, advertised: true }]);
    expect(us.speaker.routesNow({ prefix: "198.18.0.7/32" }).routes).toMatchObject([{ kind: "service", from: "Advertisement/vips" }]);
  });

  it("are refused as a whole where one of them has no prefix", async () => {
    updates(tor);
    expect(() => us.changeNetworks(new Map([...changes([vip(COUNT)]), ["198.18.0.0/33", vip(0)]]))).toThrow("198.18.0.0/33");
    await world.run(5);
    expect([sent(), updates(tor)]).toEqual([COUNT + 1, []]);
  });
});

describe("a prefix that the configuration has as well", () => {
  const both = { prefix: "198.18.0.7/32", used: "Advertisement/static", ignored: "Advertisement/vips" };
  const configured = vip(7, { kind: "static", source: both.used });

  it.each(["before", "after"])("is the configuration's; the other, given %s it, says so and takes its place later", async order => {
    const us = world.speaker(US, { networks: [configured] });
    if (order === "after") us.apply();
    us.changeNetworks(changes([vip(7)]));
    us.apply();
    await world.run(1);
    expect(us.best).toEqual({ [both.prefix]: both.used });
    expect(us.speaker.problems()).toMatchObject([
      {
        reason: "DuplicateNetwork",
        object: both.ignored,
        message: expect.stringContaining(`${both.prefix} is announced by ${both.used} already`),
      },
    ]);
    us.apply({ networks: [] });
    await world.run(1);
    expect(us.best).toEqual({ [both.prefix]: both.ignored });
    expect(us.speaker.problems()).toEqual([]);
    us.apply({ networks: [configured] });
    us.changeNetworks(new Map([[both.prefix, undefined]]));
    await world.run(1);
    expect(us.best).toEqual({ [both.prefix]: both.used });
    expect(us.speaker.problems()).toEqual([]);
  });
});

describe("attributes of a network", () => {
  const attributes = { prepend: 2, linkBandwidth: 3, communities: ["65001:7"], largeCommunities: ["65001:1:2"], localPref: 300, med: 5 };

  it("reach each neighbour as far as they mean something to it, as planned", async () => {
    const neighbors = [neighborAt(INSIDE, 65001, { families }), neighborAt(OUTSIDE, 65003, { families })];
    const us = world.speaker(US, { asn: 65001, neighbors });
    const nextHop = "2001:db8::1";
    const networks = [vip(7, { attributes }), network("2001:db8:1::7/128", { nextHop, attributes: { linkBandwidth: 0.5 } })];
    us.changeNetworks(changes(networks));
    us.apply();
    const others = [INSIDE, OUTSIDE].map((address, n) =>
      world.speaker(address, { asn: [65001, 65003][n], neighbors: [neighborAt(US, 65001, { families })] }),
    );
    for (const other of others) other.apply();
    await world.run(5);
    const heard = others.map(({ speaker }) => speaker.routesNow({ prefix: "198.18.0.7/32" }).routes.map(route => route.attributes));
    const common = { med: 5, communities: ["65001:7"], largeCommunities: ["65001:1:2"], extendedCommunities: ["lb:65001:3"] };
    expect(heard).toMatchObject([[{ ...common, asPath: "", localPref: 300 }], [{ ...common, asPath: "65001 65001 65001" }]]);
    const planned = plannedExports(us.config, networks).filter(({ family }) => family === "ipv4-unicast");
    const withoutHop = heard.map(([{ nextHop: _, ...rest }]) => [rest]);
    expect(planned.map(({ announced }) => announced.map(one => one.attributes))).toEqual(withoutHop);
    const [six] = others[0].speaker.routesNow({ prefix: "2001:db8:1::7/128" }).routes;
    expect(six.attributes.extendedCommunities).toEqual(["lb:65001:0.5"]);
  });

  it.each([
    ["inside", 4200000001],
    ["outside", 65010],
  ])("link bandwidth %s is transitive, with AS_TRANS for an AS number of 4 octets", async (_, asn) => {
    const connections = world.rawPeer(TOR, asn);
    const us = world.speaker(US, { asn: 4200000001, neighbors: [neighborAt(TOR, asn)] });
    us.changeNetworks(changes([vip(7, { attributes: { linkBandwidth: 3 } })]));
    us.apply();
    await world.run(5);
    expect(updates(connections)[0].toString("hex")).toContain("c010080004" + "5ba0" + "40400000");
  });
});
