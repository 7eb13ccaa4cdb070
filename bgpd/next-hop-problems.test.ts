/** Next hops that neighbours give us, with the real links and routes of a namespace and sessions in memory. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { parseAddress } from "../net/address.ts";
import { forwardingFamily } from "./family.ts";
import { PROTOCOL, TestNamespace } from "./fib/testing.ts";
import { buildAttributes } from "./message/attributes.ts";
import { UpdateWriter } from "./message/update-writer.ts";
import { accepting, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const ipv6Unicast = forwardingFamily(6);

const A = "10.0.0.1";
const B = "10.0.0.2";
const families = { "ipv4-unicast": accepting, "ipv6-unicast": accepting };
const fib = { enabled: true, table: 254, protocol: PROTOCOL, metric: 0 };

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

it.each([
  ["alone", ["fe80::2"]],
  ["in both places", ["fe80::2", "fe80::2"]],
])("a link-local next hop (%s) is on the link of a session that is bound to no interface", async (_what, nextHop) => {
  const connections = world.rawPeer(B, 65002, { families: ["ipv4-unicast", "ipv6-unicast"] });
  const us = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002, { families })], fib, startupWait: 5 }, ns.kernel());
  us.apply();
  await expect.poll(() => world.later(() => us.neighbor(B).state)).toBe("Established");
  const octets = Uint8Array.from(nextHop.flatMap(text => [...parseAddress(text)]));
  const set = buildAttributes({ origin: 0, asPath: [{ type: 2, asns: [65002] }], nextHop: octets });
  const writer = new UpdateWriter({ fourOctetAsn: true, maxMessageLength: 4096 });
  writer.announce(ipv6Unicast, set, 0, set.length);
  writer.prefix6(0x20010db8, 0x000a0000, 0, 0, 48);
  connections[0].wire?.write(writer.take());
  await expect
    .poll(() => world.later(() => ns.routes("2001:db8:a::/48")), { timeout: 10_000 })
    .toEqual([`2001:db8:a::/48 via fe80::2 dev v0 proto ${PROTOCOL} metric 1023`]);
  expect(us.speaker.problems()).toEqual([]);
});

it("one that cannot be reached is a problem with its cause, as long as it lasts", async () => {
  const neighbors = [neighborAt(B, 65001, { families })];
  const us = world.speaker(A, { asn: 65001, neighbors, fib, startupWait: 5 }, ns.kernel());
  const networks = [network("192.0.2.0/24"), network("198.51.100.0/24", { nextHop: "203.0.113.9" })];
  const them = world.speaker(B, { asn: 65001, neighbors: [neighborAt(A, 65001, { families })], networks });
  for (const speaker of [us, them]) speaker.apply();
  const problems = () => us.speaker.problems().map(({ field, message }) => `${field}: ${message}`);
  const expected = [
    "import (ipv4-unicast): 1 of 2 ipv4-unicast routes of 10.0.0.2 have a next hop that cannot be reached, " +
      "such as 198.51.100.0/24 by 203.0.113.9: next hop unreachable: no route",
  ];
  await expect.poll(() => world.later(problems), { timeout: 10_000 }).toEqual(expected);
  ns.ip("route add 203.0.113.0/24 via 10.0.0.9");
  await expect.poll(() => world.later(problems), { timeout: 10_000 }).toEqual([]);
  ns.ip("route del 203.0.113.0/24");
  await expect.poll(() => world.later(problems), { timeout: 10_000 }).toEqual(expected);
  them.apply({ networks: networks.slice(0, 1) });
  await expect.poll(() => world.later(problems), { timeout: 10_000 }).toEqual([]);
});
