/** Addresses of pools: the lowest free one, counts, overlaps, and how long ten thousand take. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { AddressPool } from "../resources/kinds.ts";
import { addressOfClaim, claimName } from "./claims.ts";
import { admits, PoolSpace, servesClass } from "./pools.ts";
import { toText } from "./ranges.ts";
import { pool, pools } from "./testing.ts";

test("the lowest free address is next, those given back before those never given", () => {
  const space = new PoolSpace(pools(pool("a", ["192.0.2.6-192.0.2.7", "192.0.2.1-192.0.2.3"])));
  const give = () => {
    const address = space.lowestFree("a", 4);
    if (address) space.take(address);
    return address;
  };
  expect([give(), give(), give(), give()]).toEqual(["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.6"]);
  space.release("192.0.2.3");
  space.release("192.0.2.1");
  space.take("192.0.2.7");
  expect([give(), give(), give()]).toEqual(["192.0.2.1", "192.0.2.3", undefined]);
  expect(space.usage("a")).toEqual({ ipv4: { used: 5, free: 0 } });
});

test("buggy addresses are left out and not counted, huge ranges are no trouble", () => {
  const space = new PoolSpace(
    pools(pool("a", ["10.0.0.0/23", "2001:db8::/32"], { avoidBuggyIPs: true }), pool("b", ["10.9.0.5-10.9.1.0"], { avoidBuggyIPs: true })),
  );
  expect(space.lowestFree("a", 4)).toBe("10.0.0.1");
  expect(space.usage("a")).toEqual({ ipv4: { used: 0, free: 508 }, ipv6: { used: 0, free: Number.MAX_SAFE_INTEGER } });
  expect(space.usage("b")).toEqual({ ipv4: { used: 0, free: 250 } });
  for (let i = 1; i < 255; i++) space.take(`10.0.0.${i}`);
  expect(space.lowestFree("a", 4)).toBe("10.0.1.1");
});

test("what two pools have belongs to the first by name, and the other one is told", () => {
  const space = new PoolSpace(
    pools(pool("b", ["192.0.2.0/24"]), pool("a", ["192.0.2.10-192.0.2.20", "192.0.2.0/30"]), pool("c", ["192.0.2.9-192.0.2.1"])),
  );
  expect(space.problems).toMatchObject([
    { object: "AddressPool/b", reason: "RangesOverlap", field: "spec.addresses[0]", message: expect.stringContaining("AddressPool/a") },
    { object: "AddressPool/c", reason: "InvalidValue", message: expect.stringContaining("below the first") },
  ]);
  expect(space.poolOf("192.0.2.15")?.metadata.name).toBe("a");
  expect(space.poolOf("192.0.2.21")?.metadata.name).toBe("b");
  expect(space.usage("b")).toEqual({ ipv4: { used: 0, free: 256 - 11 - 4 } });
  expect(space.poolOf("192.0.3.1")).toBeUndefined();
});

test("pools are tried by priority, then those that select, then by name", () => {
  const all = pools(
    pool("a", ["10.0.0.0/30"]),
    pool("b", ["10.0.1.0/30"], { serviceSelector: {} }),
    pool("c", ["10.0.2.0/30"], { priority: 7 }),
    pool("d", ["10.0.3.0/30"], { priority: 7, namespaces: ["x"] }),
  );
  expect(new PoolSpace(all).ordered.map(({ metadata }) => metadata.name)).toEqual(["d", "c", "b", "a"]);
});

test("a pool is for its class, its namespaces by name or by label, and its labels", () => {
  const one = pool("a", ["10.0.0.0/30"], {
    namespaces: ["x"],
    namespaceSelector: { matchLabels: { team: "y" } },
    serviceSelector: { matchLabels: { tier: "web" } },
  });
  expect(admits(one, { tier: "web" }, "x", undefined)).toBe(true);
  expect(admits(one, { tier: "web" }, "z", { team: "y" })).toBe(true);
  expect(admits(one, { tier: "web" }, "z", {})).toBe(false);
  expect(admits(one, {}, "x", undefined)).toBe(false);
  const classed: AddressPool = pool("b", ["10.0.1.0/30"], { loadBalancerClass: "example.com/lb" });
  expect([undefined, "podlane.io/load-balancer", "example.com/lb"].map(name => servesClass(classed, name))).toEqual([false, false, true]);
  expect([undefined, "podlane.io/load-balancer", "example.com/lb"].map(name => servesClass(one, name))).toEqual([true, true, false]);
});

test("ten thousand are given and given back without a search through them", () => {
  const space = new PoolSpace(pools(pool("a", ["10.0.0.0/16"])));
  for (let i = 0; i < 10_000; i++) space.take(space.lowestFree("a", 4)!);
  expect(space.usage("a")).toEqual({ ipv4: { used: 10_000, free: 55_536 } });
  for (let i = 0; i < 10_000; i += 2) space.release(toText(4, BigInt(0x0a000000 + i)));
  for (let i = 0; i < 5_000; i++) space.take(space.lowestFree("a", 4)!);
  expect(space.lowestFree("a", 4)).toBe("10.0.39.16");
});

test("each address has one name as a claim, which an object may have, and is found by it", () => {
  expect(claimName("fd00::5")).toBe("fd00-0-0-0-0-0-0-5");
  expect(addressOfClaim("fd00--5")).toBeUndefined();
  expect(addressOfClaim("x")).toBeUndefined();
  fc.assert(
    fc.property(
      fc.oneof(
        fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map(n => toText(6, n)),
        fc.nat(2 ** 32 - 1).map(n => toText(4, BigInt(n))),
      ),
      address => {
        expect(claimName(address)).toMatch(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/);
        expect(addressOfClaim(claimName(address))).toBe(address);
      },
    ),
  );
});
