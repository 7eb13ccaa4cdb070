/** Nodes of a mesh that announce what is not theirs, directly and through reflectors, and outsiders that announce pods. */
import { describe, expect, test } from "vitest";
import { parsePrefix } from "../../net/address.ts";
import type { OriginConfig, OriginRole, OriginsConfig } from "../config.ts";
import { forwardingFamily } from "../family.ts";
import { ineligibility } from "../views.ts";
import { Rejected } from "./rejected.ts";
import { attributes, type TestNeighbor, TestRib } from "./testing.ts";

const ipv4Unicast = forwardingFamily(4);

const node = (number: number, change: Partial<OriginConfig> = {}): OriginConfig => ({
  name: `node${number}`,
  routerId: `10.0.0.${number}`,
  asn: 65000,
  ranges: [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`],
  prefixes: [],
  lists: [],
  ...change,
});
const origins = (...changes: Partial<OriginConfig>[]): OriginsConfig => ({
  nodes: [2, 3, 4].map((number, at) => node(number, changes[at])),
  lists: { "Peer/tor": [{ prefix: "0.0.0.0/0" }, { prefix: "198.51.100.0/24", ge: 24, le: 28 }] },
});
const role = (number: number, reflects = false): OriginRole => ({ node: `node${number}`, reflects });
const internal = { external: false, listens: false };
const id = (number: number) => 0x0a000000 + number;
const { Origin, Originator } = Rejected;

function verdict(test: TestRib, prefix: string, neighbor: TestNeighbor): number | undefined {
  const table = test.rib.tables[forwardingFamily(prefix.includes(":") ? 6 : 4)];
  const path = table.findPath(table.prefixes.findPrefix(parsePrefix(prefix)), neighbor.slot.id);
  return path === 0 ? undefined : table.pathFlags[path];
}

function reason(test: TestRib, prefix: string, neighbor: TestNeighbor): string {
  const table = test.rib.tables[forwardingFamily(prefix.includes(":") ? 6 : 4)];
  return ineligibility(test.rib, table, table.findPath(table.prefixes.findPrefix(parsePrefix(prefix)), neighbor.slot.id)).reason;
}

async function world(config: OriginsConfig | undefined = origins()): Promise<TestRib> {
  const test = new TestRib();
  test.configure({ origins: config });
  await test.settled();
  return test;
}

describe("from a node of the mesh", () => {
  test.each([
    ["10.244.2.0/24", 0],
    ["10.244.2.7/32", 0],
    ["fd00:10:244:2::/64", 0],
    ["fd00:10:244:2::7/128", 0],
    ["10.244.2.0/23", Origin],
    ["10.244.3.0/24", Origin],
    ["10.244.3.9/32", Origin],
    ["10.244.3.0/25", Origin],
    ["fd00:10:244:3::9/128", Origin],
    ["10.244.9.0/24", Origin],
    ["0.0.0.0/1", Origin],
    ["10.96.0.1/32", Origin],
    ["169.254.169.254/32", Origin],
    ["fd00:10:244::/48", Origin],
    // What it may besides.
    ["192.0.2.0/24", 0],
    ["192.0.2.0/25", Origin],
    ["0.0.0.0/0", 0],
    ["198.51.100.16/28", 0],
    ["198.51.100.1/32", Origin],
  ])("%s: %i", async (prefix, flags) => {
    const test = await world(origins({ prefixes: ["192.0.2.0/24"], lists: ["Peer/tor"] }));
    const neighbor = test.neighbor({ ...internal, origin: role(2), routerId: id(2) });
    neighbor.announce(attributes({ path: [], nextHop: prefix.includes(":") ? "2001:db8::1" : "192.0.2.1" }), prefix);
    await test.settled();
    expect(verdict(test, prefix, neighbor)).toBe(flags);
    expect(test.best(prefix)).toBe(flags === 0 ? "n0" : undefined);
    const family = forwardingFamily(prefix.includes(":") ? 6 : 4);
    expect(neighbor.slot.rejected[family]).toEqual(flags === 0 ? {} : { Origin: 1 });
  });

  test("whose is it, in words", async () => {
    const test = await world();
    const neighbor = test.neighbor({ ...internal, origin: role(2), routerId: id(2) });
    neighbor.announce(attributes({ path: [] }), "10.244.3.9/32", "9.0.0.0/8");
    await test.settled();
    expect(reason(test, "10.244.3.9/32", neighbor)).toContain("10.244.3.0/24 is a pod subnet of node node3, not of node node2");
    expect(reason(test, "9.0.0.0/8", neighbor)).toContain("node node2 may not originate it");
  });

  test("what belongs to nobody else is no reason to believe a range that another node has: a list does not open it", async () => {
    const config = origins({ lists: ["all"] });
    config.lists.all = [{ prefix: "0.0.0.0/0", ge: 0, le: 32 }];
    const test = await world(config);
    const neighbor = test.neighbor({ ...internal, origin: role(2), routerId: id(2) });
    neighbor.announce(attributes({ path: [] }), "10.244.3.9/32", "10.244.0.0/16", "10.244.9.0/24");
    await test.settled();
    expect(["10.244.3.9/32", "10.244.0.0/16", "10.244.9.0/24"].map(prefix => verdict(test, prefix, neighbor))).toEqual([Origin, 0, 0]);
  });

  test("ORIGINATOR_ID: only one that reflects may name another node, and is judged by that node", async () => {
    const test = await world();
    const client = test.neighbor({ ...internal, origin: role(2), routerId: id(2), client: true });
    const reflector = test.neighbor({ ...internal, origin: role(4, true), routerId: id(4) });
    const of = (number: number) => attributes({ path: [], originatorId: id(number), clusterList: [7] });
    const cases: [TestNeighbor, string, number, number][] = [
      [client, "10.244.2.0/24", 2, 0],
      [client, "10.244.2.1/32", 3, Originator],
      [client, "10.244.3.1/32", 3, Originator],
      [reflector, "10.244.3.0/24", 3, 0],
      [reflector, "10.244.2.0/24", 2, 0],
      [reflector, "10.244.2.2/32", 3, Origin],
      [reflector, "10.244.4.0/24", 4, 0],
      [reflector, "10.244.3.3/32", 4, Origin],
      // Of no node: the reflector answers for its other clients.
      [reflector, "10.244.4.4/32", 99, 0],
      [reflector, "10.244.3.4/32", 99, Origin],
    ];
    for (const [neighbor, prefix, originator] of cases) neighbor.announce(of(originator), prefix);
    await test.settled();
    expect(cases.map(([neighbor, prefix]) => verdict(test, prefix, neighbor))).toEqual(cases.map(([, , , flags]) => flags));
    expect(reason(test, "10.244.2.1/32", client)).toContain(
      "ORIGINATOR_ID 10.0.0.3 is not that of node node2, 10.0.0.2, and it reflects no routes",
    );
    expect(reason(test, "10.244.2.2/32", reflector)).toContain("not of node node3, which reflector node4 names as its origin");
    expect(client.slot.rejected[ipv4Unicast]).toEqual({ Originator: 2 });
  });

  test("a reflector that vouches is believed about nodes that the table does not have, but not about pods of one that it has", async () => {
    const test = await world();
    const guard = { prefix: parsePrefix("10.0.0.0/8"), orLonger: true, reason: "connected network of eth0", yields: true };
    test.configure({ origins: origins(), protectedPrefixes: [guard] });
    const reflector = test.neighbor({ ...internal, origin: { node: "node4", reflects: true, vouches: true }, routerId: id(4) });
    const of = (number: number) => attributes({ path: [], originatorId: id(number), clusterList: [7] });
    const cases: [string, number, number][] = [
      ["10.244.99.0/24", 99, 0],
      ["192.0.2.0/24", 99, 0],
      ["10.244.3.0/24", 99, Rejected.Protected],
      ["10.244.3.3/32", 3, 0],
      ["10.244.2.2/32", 3, Rejected.Protected],
      ["192.0.2.0/25", 3, Origin],
      ["192.0.2.128/25", 4, Origin],
    ];
    for (const [prefix, originator] of cases) reflector.announce(of(originator), prefix);
    await test.settled();
    expect(cases.map(([prefix]) => verdict(test, prefix, reflector))).toEqual(cases.map(([, , flags]) => flags));
    // One that comes to be known is judged by what is known of it.
    test.configure({
      origins: { ...origins(), nodes: [...origins().nodes, node(99, { ranges: ["10.244.98.0/24"] })] },
      protectedPrefixes: [guard],
    });
    await test.settled();
    expect([verdict(test, "10.244.99.0/24", reflector), verdict(test, "192.0.2.0/24", reflector)]).toEqual([Rejected.Protected, Origin]);
    test.configure({ origins: origins(), protectedPrefixes: [] });
    await test.settled();
    expect(verdict(test, "10.244.3.0/24", reflector)).toBe(Origin);
    expect(reason(test, "10.244.3.0/24", reflector)).toContain("not of node 10.0.0.99, which reflector node4 names as its origin");
  });

  test("with an AS of its own it passes whole subnets of others on, with their AS at the end, and no part of them", async () => {
    const test = await world(origins({ asn: 65002 }, { asn: 65003 }));
    const neighbor = test.neighbor({ external: true, listens: false, origin: role(2), routerId: id(2) });
    neighbor.announce(attributes({ path: [65002, 65003] }), "10.244.3.0/24", "10.244.3.9/32");
    await test.settled();
    expect(["10.244.3.0/24", "10.244.3.9/32"].map(prefix => verdict(test, prefix, neighbor))).toEqual([0, Origin]);
    neighbor.announce(attributes({ path: [65002] }), "10.244.3.0/24");
    await test.settled();
    expect(verdict(test, "10.244.3.0/24", neighbor)).toBe(Origin);
  });
});

test("an outsider may tell what it heard from the node's AS, and anything that is no node's", async () => {
  const test = await world(origins({ asn: 65002 }));
  const tor = test.neighbor({ external: true, listens: false, origin: "outside" });
  tor.announce(attributes({ path: [65100, 65002] }), "10.244.2.0/24", "10.244.2.9/32");
  tor.announce(attributes({ path: [65100] }), "10.244.2.128/25", "10.244.3.0/24", "10.244.0.0/16", "9.0.0.0/8");
  await test.settled();
  const asked = ["10.244.2.0/24", "10.244.2.9/32", "10.244.2.128/25", "10.244.3.0/24", "10.244.0.0/16", "9.0.0.0/8"];
  expect(asked.map(prefix => verdict(test, prefix, tor))).toEqual([0, 0, Origin, Origin, 0, 0]);
  expect(reason(test, "10.244.3.0/24", tor)).toContain("10.244.3.0/24 is a pod subnet of node node3, and the AS path ends in AS 65100");
});

test("an internal neighbour outside may tell what it reflects of the node, and not pods of its own accord", async () => {
  const test = await world();
  const router = test.neighbor({ ...internal, origin: "outside" });
  router.announce(attributes({ path: [], originatorId: id(2), clusterList: [7] }), "10.244.2.0/24", "10.244.3.1/32");
  router.announce(attributes({ path: [] }), "10.244.3.0/24", "9.0.0.0/8");
  await test.settled();
  const asked = ["10.244.2.0/24", "10.244.3.1/32", "10.244.3.0/24", "9.0.0.0/8"];
  expect(asked.map(prefix => verdict(test, prefix, router))).toEqual([0, Origin, Origin, 0]);
  expect(reason(test, "10.244.3.0/24", router)).toContain("10.244.3.0/24 is a pod subnet of node node3, and the AS path is empty");
});

test("a guard on a connected network yields to a node whose own range lies in it, and to nobody else", async () => {
  const test = await world();
  const guard = { prefix: parsePrefix("10.0.0.0/8"), orLonger: true, reason: "connected network of eth0" };
  const neighbor = test.neighbor({ ...internal, origin: role(2), routerId: id(2) });
  const asked = ["10.244.2.0/24", "10.244.3.0/24"];
  neighbor.announce(attributes({ path: [] }), ...asked);
  test.configure({ origins: origins(), protectedPrefixes: [{ ...guard, yields: true }] });
  await test.settled();
  expect(asked.map(prefix => verdict(test, prefix, neighbor))).toEqual([0, Rejected.Protected]);
  test.configure({ origins: origins(), protectedPrefixes: [guard] });
  await test.settled();
  expect(asked.map(prefix => verdict(test, prefix, neighbor))).toEqual([Rejected.Protected, Rejected.Protected]);
});

describe("a change", () => {
  test("of a node's range: its routes and those inside old and new ranges are judged again, without the neighbours' help", async () => {
    const test = await world();
    const [two, three] = [2, 3].map(number => test.neighbor({ ...internal, origin: role(number), routerId: id(number) }));
    two.announce(attributes({ path: [] }), "10.244.2.0/24", "10.244.2.7/32");
    three.announce(attributes({ path: [] }), "10.244.9.0/24", "10.244.3.0/24");
    await test.settled();
    expect([verdict(test, "10.244.2.7/32", two), verdict(test, "10.244.9.0/24", three)]).toEqual([0, Origin]);
    test.configure({ origins: origins({ ranges: ["10.244.8.0/24"] }, { ranges: ["10.244.9.0/24"] }) });
    await test.settled();
    // What pods hold in the former range stays reachable while nobody else has it.
    expect([verdict(test, "10.244.2.7/32", two), verdict(test, "10.244.9.0/24", three)]).toEqual([0, 0]);
    test.configure({ origins: origins({ ranges: ["10.244.8.0/24"] }, { ranges: ["10.244.9.0/24"] }, { ranges: ["10.244.2.0/24"] }) });
    await test.settled();
    expect([verdict(test, "10.244.2.7/32", two), verdict(test, "10.244.2.0/24", two)]).toEqual([Origin, Origin]);
  });

  test("concerns no route of others", async () => {
    const test = await world();
    const neighbors = [2, 3, 4].map(number => test.neighbor({ ...internal, origin: role(number), routerId: id(number) }));
    for (const [at, neighbor] of neighbors.entries()) neighbor.announce(attributes({ path: [] }), `10.244.${at + 2}.0/24`);
    await test.settled();
    const table = test.rib.tables[ipv4Unicast];
    const announced: string[] = [];
    const announce = table.announce.bind(table);
    table.announce = (prefix, slot, ...rest) => {
      announced.push(test.rib.slots.get(slot)!.neighbor);
      return announce(prefix, slot, ...rest);
    };
    test.configure({ origins: origins({}, { prefixes: ["192.0.2.0/24"] }) });
    await test.settled();
    expect(announced).toEqual(["n1"]);
    test.configure({ origins: origins({}, { prefixes: ["192.0.2.0/24"] }) });
    await test.settled();
    expect(announced).toEqual(["n1"]);
  });

  test("to believing everybody, and back", async () => {
    const test = await world();
    const neighbor = test.neighbor({ ...internal, origin: role(2), routerId: id(2) });
    neighbor.announce(attributes({ path: [] }), "9.0.0.0/8");
    await test.settled();
    expect(verdict(test, "9.0.0.0/8", neighbor)).toBe(Origin);
    test.configure({ origins: undefined });
    await test.settled();
    expect(verdict(test, "9.0.0.0/8", neighbor)).toBe(0);
    test.configure({ origins: origins() });
    await test.settled();
    expect(verdict(test, "9.0.0.0/8", neighbor)).toBe(Origin);
  });
});
