/** What a change of the objects costs on the wire: the difference, in octets, with ten thousand routes told before. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { compile } from "../config/compile.ts";
import { readDocuments } from "../config/resources/documents.ts";
import { collect } from "../config/resources/kinds.ts";
import { MessageType } from "./message/header.ts";
import type { RawPeer } from "./session/testing.ts";
import { type MemorySpeaker, MemoryWorld } from "./testing/memory-speakers.ts";

const [US, TOR_A, TOR_B] = ["10.0.0.1", "10.0.0.11", "10.0.0.12"];
const COUNT = 10_000;
const EACH = 250;
/** `count` /32s, as many in an Advertisement as it takes. */
function vips(count: number, more: object = {}): Record<string, object> {
  const prefixes = Array.from({ length: count }, (_, n) => `198.18.${n >> 8}.${n & 255}/32`);
  return Object.fromEntries(
    Array.from({ length: COUNT / EACH }, (_, n) => {
      const end = n + 1 === COUNT / EACH ? count : (n + 1) * EACH;
      return [`vips-${n}`, announcing(prefixes.slice(n * EACH, end), more)];
    }),
  );
}

let world: MemoryWorld;
let us: MemorySpeaker;
let tors: RawPeer[][];
beforeEach(async () => {
  world = new MemoryWorld();
  tors = [world.rawPeer(TOR_A, 65010), world.rawPeer(TOR_B, 65010)];
  us = world.speaker(US);
  apply(vips(COUNT));
  await world.run(5);
});
afterEach(() => world.close());

const announcing = (prefixes: string[], more: object = {}) => ({
  nodeSelector: {},
  peerSelector: {},
  type: "Static",
  static: { prefixes: prefixes.map(prefix => ({ prefix, discard: false })) },
  ...more,
});

/** The node with its two routers and these Advertisements, as compile() makes it. */
function apply(advertisements: Record<string, object>, policies: Record<string, object> = {}, peer: object = {}): void {
  const own = (kind: string, all: Record<string, object>) =>
    Object.entries(all).map(([name, spec]) => ({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec }));
  const peers = Object.fromEntries(
    [TOR_A, TOR_B].map((address, n) => [`tor-${n}`, { nodeSelector: {}, address, asn: 65010, import: { default: "Reject" }, ...peer }]),
  );
  const status = { addresses: [{ type: "InternalIP", address: US }] };
  const node = { apiVersion: "v1", kind: "Node", metadata: { name: "n1" }, spec: { podCIDRs: ["10.244.1.0/24"] }, status };
  const objects = [node, ...own("Peer", peers), ...own("Advertisement", advertisements), ...own("Policy", policies)];
  const read = readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test.yaml");
  expect(read.problems).toEqual([]);
  const { speaker, problems } = compile(collect(read.objects.map(({ object }) => object)).resources, { name: "n1", addresses: [] });
  expect(problems.filter(({ severity }) => severity === "error")).toEqual([]);
  us.apply({ ...speaker, fib: { enabled: false, table: 254, protocol: 201, metric: 0 }, protectedPrefixes: [] });
}

/** Octets of the UPDATEs that each router has had since the last call. */
function octets(): number[] {
  return tors.map(connections =>
    connections.reduce((sum, { messages }) => {
      const updates = messages.splice(0).filter(message => message[18] === MessageType.Update);
      return sum + updates.reduce((all, { length }) => all + length, 0);
    }, 0),
  );
}

const sent = () => us.speaker.snapshot().neighbors.map(({ families }) => families["ipv4-unicast"]?.sent);

test("one /32 more among ten thousand is one small UPDATE to each, and one less as well", async () => {
  expect(sent()).toEqual([COUNT, COUNT]);
  for (const all of octets()) expect(all).toBeGreaterThan(5 * COUNT);
  apply(vips(COUNT + 1));
  await world.run(5);
  // Header, attributes (ORIGIN, AS_PATH, NEXT_HOP), five octets of prefix.
  expect([sent(), octets()]).toEqual([
    [COUNT + 1, COUNT + 1],
    [48, 48],
  ]);
  apply(vips(COUNT));
  await world.run(5);
  expect([sent(), octets()]).toEqual([
    [COUNT, COUNT],
    [28, 28],
  ]);
});

test("another Advertisement for the same neighbours sends its own routes and none of the others", async () => {
  octets();
  apply({ ...vips(COUNT), more: announcing(["203.0.113.0/24"], { attributes: { communities: ["65000:1"] } }) });
  await world.run(5);
  expect([sent(), octets()]).toEqual([
    [COUNT + 1, COUNT + 1],
    [54, 54],
  ]);
});

test("a rule that concerns one route sends this one, to all in the group and to one that goes its own way", async () => {
  octets();
  const policies = {
    one: { rules: [{ match: { prefixes: [{ prefix: "198.18.0.7/32" }] }, communities: { add: ["65000:7"] }, result: "Continue" }] },
  };
  apply(vips(COUNT), policies, { export: { policies: ["one"] } });
  await world.run(5);
  expect([sent(), octets()]).toEqual([
    [COUNT, COUNT],
    [55, 55],
  ]);
  apply(vips(COUNT), policies);
  await world.run(5);
  expect([sent(), octets()]).toEqual([
    [COUNT, COUNT],
    [48, 48],
  ]);
});

test("a neighbour that comes to a group that is there hears what differs", async () => {
  octets();
  const without = vips(COUNT, { peerSelector: undefined, peers: ["tor-0", "tor-1"] });
  const alone = announcing(["203.0.113.0/24"], { peerSelector: undefined, peers: ["tor-0"] });
  apply({ ...without, alone });
  await world.run(5);
  expect([sent(), octets()]).toEqual([
    [COUNT + 1, COUNT],
    [47, 0],
  ]);
  // tor-0 comes back to the group of tor-1.
  apply(without);
  await world.run(5);
  expect([sent(), octets()]).toEqual([
    [COUNT, COUNT],
    [27, 0],
  ]);
});
