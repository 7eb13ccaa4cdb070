/** Which addresses a Service is to have. */
import { beforeEach, describe, expect, test } from "vitest";
import { AddressBook } from "./address-book.ts";
import { decide } from "./address-decision.ts";
import type { BalancedService } from "./balanced.ts";
import { balanced, pool, pools } from "./testing.ts";

const dual = { ipFamilies: ["IPv4", "IPv6"], ipFamilyPolicy: "PreferDualStack" };
const required = { ...dual, ipFamilyPolicy: "RequireDualStack" };

describe("a Service of type LoadBalancer", () => {
  let book: AddressBook;

  beforeEach(() => {
    book = new AddressBook();
  });

  /** Decides and takes what was decided, as a leader does: claims, status, what is released. */
  function settle(service: BalancedService): string {
    book.setService(service);
    const { key, uid, namespace, name } = service;
    const { addresses = service.addresses, claims, condition, waits } = decide(book, key);
    for (const [address, pool] of claims) {
      const before = book.claim(address);
      const others = before?.services.filter(one => one.uid !== uid) ?? [];
      book.setClaim({
        address,
        pool: before?.pool ?? pool,
        services: [...others, { namespace, name, uid }],
        uid: "u",
        resourceVersion: "1",
      });
    }
    for (const claim of book.claimsOf(key)) {
      if (claims.has(claim.address)) continue;
      const others = claim.services.filter(one => one.uid !== uid);
      if (others.length > 0) book.setClaim({ ...claim, services: others });
      else book.deleteClaim(claim.address);
    }
    book.setService({ ...service, addresses, ...(condition && { condition }) });
    const said = condition ? `${condition.status === "True" ? "" : "not "}${condition.reason}` : "nothing";
    return `${addresses.join(" ")}${addresses.length > 0 ? " " : ""}${said}${waits ? ", waits" : ""}`;
  }
  const message = (key: string) => decide(book, `default/${key}`).condition?.message;
  const ask = (addresses: string) => ({ annotations: { "podlane.io/addresses": addresses } });
  const share = (key: string, more: Record<string, string> = {}) => ({ annotations: { "podlane.io/allow-shared-ip": key, ...more } });

  test("gets the first address of the first pool that is for it, and keeps it", () => {
    book.setPools(pools(pool("b", ["192.0.2.0/30"]), pool("manual", ["10.0.0.0/30"], { autoAssign: false, priority: 1 })));
    expect(settle(balanced("a"))).toBe("192.0.2.0 AddressAssigned");
    expect(settle(balanced("b"))).toBe("192.0.2.1 AddressAssigned");
    expect(settle(balanced("a", { has: ["192.0.2.0"] }))).toBe("192.0.2.0 AddressAssigned");
    expect(settle(balanced("c", { spec: { type: "ClusterIP" } }))).toBe("nothing");
    expect(settle(balanced("d", { spec: { loadBalancerClass: "other/lb" } }))).toBe("nothing");
    expect(settle(balanced("e", { spec: { loadBalancerClass: "podlane.io/load-balancer" } }))).toBe("192.0.2.2 AddressAssigned");
    expect(settle(balanced("f", { annotations: { "metallb.io/address-pool": "manual" } }))).toBe("10.0.0.0 AddressAssigned");
  });

  test("hears why it gets none, and what to do", () => {
    expect(settle(balanced("a"))).toBe("nothing");
    book.setPools(
      pools(
        pool("x", ["192.0.2.0/32"], { namespaces: ["other"] }),
        pool("six", ["2001:db8::/64"], { serviceSelector: { matchLabels: { a: "b" } } }),
      ),
    );
    expect(settle(balanced("a"))).toBe("not NoPool, waits");
    expect(settle(balanced("b", { metadata: { labels: { a: "b" } } }))).toBe("not FamilyNotAvailable, waits");
    expect(message("b")).toBe("AddressPool six has no IPv4 addresses: add a range of that family to spec.addresses");
    expect(settle(balanced("c", { metadata: { namespace: "other" } }))).toBe("192.0.2.0 AddressAssigned");
    expect(settle(balanced("d", { metadata: { namespace: "other" } }))).toBe("not PoolExhausted, waits");
    expect(settle(balanced("e", { annotations: { "podlane.io/address-pool": "gone" } }))).toBe("not NoPool, waits");
    expect(settle(balanced("f", { spec: { loadBalancerClass: "podlane.io/load-balancer" }, metadata: { namespace: "other" } }))).toBe(
      "not PoolExhausted, waits",
    );
  });

  test("gets what it asks for, or nothing", () => {
    book.setPools(
      pools(
        pool("a", ["192.0.2.0/24"], { avoidBuggyIPs: true }),
        pool("b", ["10.0.0.0/24"], { serviceSelector: { matchLabels: { a: "b" } } }),
      ),
    );
    expect(settle(balanced("a", { spec: { loadBalancerIP: "192.0.2.7" }, ...ask("192.0.2.9") }))).toBe("192.0.2.7 AddressAssigned");
    expect(settle(balanced("b", ask("192.0.2.7")))).toBe("not AddressInUse, waits");
    expect(settle(balanced("c", ask("192.0.2.255")))).toBe("not NotInPool, waits");
    expect(settle(balanced("d", ask("10.0.0.1")))).toBe("not NotInPool, waits");
    expect(settle(balanced("e", ask("203.0.113.1")))).toBe("not NotInPool, waits");
    expect(settle(balanced("f", ask("192.0.2.300")))).toBe("not InvalidRequest, waits");
    expect(settle(balanced("g", ask("2001:db8::1")))).toBe("not InvalidRequest, waits");
    expect(settle(balanced("h", { annotations: { "podlane.io/address-pool": "b", "podlane.io/addresses": "192.0.2.8" } }))).toBe(
      "not NoPool, waits",
    );
    expect(settle(balanced("i", { annotations: { "metallb.universe.tf/loadBalancerIPs": "192.0.2.8" } }))).toBe(
      "192.0.2.8 AddressAssigned",
    );
    expect(message("b")).toBe(
      "192.0.2.7 is that of Service default/a: ask for another, or give both the same annotation podlane.io/allow-shared-ip",
    );
  });

  test("that asks for another one moves, and keeps the old one while it cannot", () => {
    book.setPools(pools(pool("a", ["192.0.2.0/24"]), pool("b", ["10.0.0.0/31"])));
    settle(balanced("other", ask("192.0.2.9")));
    expect(settle(balanced("a", { has: ["192.0.2.1"] }))).toBe("192.0.2.1 AddressAssigned");
    expect(settle(balanced("a", { has: ["192.0.2.1"], ...ask("192.0.2.9") }))).toBe("192.0.2.1 not AddressInUse, waits");
    expect(message("a")).toMatch(/Until then it keeps 192\.0\.2\.1$/);
    expect(settle(balanced("a", { has: ["192.0.2.1"], ...ask("192.0.2.8") }))).toBe("192.0.2.8 AddressAssigned");
    expect(book.claim("192.0.2.1")).toBeUndefined();
    expect(settle(balanced("a", { has: ["192.0.2.8"], annotations: { "podlane.io/address-pool": "b" } }))).toBe("10.0.0.0 AddressAssigned");
    expect(settle(balanced("a", { has: ["10.0.0.0"], spec: { type: "ClusterIP" } }))).toBe("nothing");
    expect(book.claim("10.0.0.0")).toBeUndefined();
  });

  test("of two families gets them of one pool, in its order", () => {
    book.setPools(pools(pool("four", ["10.0.0.0/30"]), pool("six", ["2001:db8:6::/126"]), pool("two", ["192.0.2.0/31", "2001:db8::/127"])));
    expect(settle(balanced("a", { spec: dual }))).toBe("192.0.2.0 2001:db8:: AddressAssigned");
    expect(settle(balanced("b", { spec: { ...required, ipFamilies: ["IPv6", "IPv4"] } }))).toBe("2001:db8::1 192.0.2.1 AddressAssigned");
    expect(settle(balanced("c", { spec: required }))).toBe("not PoolExhausted, waits");
    expect(settle(balanced("d", { spec: dual }))).toBe("10.0.0.0 AddressAssigned, waits");
    expect(settle(balanced("e", { spec: { ...dual, ipFamilies: ["IPv6", "IPv4"] } }))).toBe("2001:db8:6:: AddressAssigned, waits");
    expect(settle(balanced("f", { spec: { ...dual, ipFamilyPolicy: "SingleStack", ipFamilies: ["IPv6"] } }))).toBe(
      "2001:db8:6::1 AddressAssigned",
    );
    // One that has one family only gets the other of the same pool, and one that wants one only gives the other back.
    book.setPools(pools(pool("four", ["10.0.0.0/30", "2001:db8:4::/64"])));
    expect(settle(balanced("d", { has: ["10.0.0.0"], spec: dual }))).toBe("10.0.0.0 2001:db8:4:: AddressAssigned");
    expect(settle(balanced("d", { has: ["10.0.0.0", "2001:db8:4::"] }))).toBe("10.0.0.0 AddressAssigned");
    expect(settle(balanced("g", { spec: required, ...ask("10.0.0.3") }))).toBe("10.0.0.3 2001:db8:4:: AddressAssigned");
  });

  test("that needs both families and was left with one by a leader that died gets both elsewhere, or gives it back", () => {
    book.setPools(pools(pool("four", ["10.0.0.0/30"])));
    const service = balanced("a", { spec: required });
    book.setClaim({ address: "10.0.0.0", pool: "four", services: [{ namespace: "default", name: "a", uid: service.uid }] });
    expect(settle(service)).toBe("not FamilyNotAvailable, waits");
    expect(book.claim("10.0.0.0")).toBeUndefined();
    book.setClaim({ address: "10.0.0.0", pool: "four", services: [{ namespace: "default", name: "a", uid: service.uid }] });
    book.setPools(pools(pool("four", ["10.0.0.0/30"]), pool("two", ["192.0.2.0/31", "2001:db8::/127"])));
    expect(settle(service)).toBe("192.0.2.0 2001:db8:: AddressAssigned");
    expect(book.claim("10.0.0.0")).toBeUndefined();
  });

  test("shares by a key: other ports, and policy Cluster or the same endpoints", () => {
    book.setPools(pools(pool("a", ["192.0.2.0/24"])));
    const port = (port: number, more: object = {}) => ({ spec: { ports: [{ port }], ...more } });
    const local = (app: string) => ({ externalTrafficPolicy: "Local", selector: { app } });
    expect(settle(balanced("a", { ...port(80), ...share("k") }))).toBe("192.0.2.0 AddressAssigned");
    expect(settle(balanced("b", { ...port(443), ...share("k") }))).toBe("192.0.2.0 AddressAssigned");
    expect(settle(balanced("c", { ...port(80), ...share("k") }))).toBe("192.0.2.1 AddressAssigned");
    expect(settle(balanced("d", { ...port(81), ...share("other") }))).toBe("192.0.2.2 AddressAssigned");
    expect(settle(balanced("e", { ...port(81), ...share("k", { "podlane.io/addresses": "192.0.2.2" }) }))).toBe(
      "not SharingRefused, waits",
    );
    expect(settle(balanced("f", { ...port(80), ...share("k", { "podlane.io/addresses": "192.0.2.0" }) }))).toBe(
      "not SharingRefused, waits",
    );
    expect(settle(balanced("g", { ...port(1, local("x")), ...share("k", { "podlane.io/addresses": "192.0.2.0" }) }))).toBe(
      "not SharingRefused, waits",
    );
    expect(settle(balanced("h", { ...port(1, local("x")), ...share("l") }))).toBe("192.0.2.3 AddressAssigned");
    expect(settle(balanced("i", { ...port(2, local("x")), ...share("l") }))).toBe("192.0.2.3 AddressAssigned");
    expect(settle(balanced("j", { ...port(3, local("y")), ...share("l") }))).toBe("192.0.2.4 AddressAssigned");
    // Who comes to stand in another's way keeps the address, and hears of it.
    expect(settle(balanced("b", { has: ["192.0.2.0"], ...port(80), ...share("k") }))).toBe("192.0.2.0 SharingRefused");
    expect(message("b")).toMatch(/which has TCP\/80 as well/);
  });

  test("keeps what a pool that shrinks, closes or goes had given it, and hears of it", () => {
    book.setPools(pools(pool("a", ["192.0.2.0/24"])));
    expect(settle(balanced("a"))).toBe("192.0.2.0 AddressAssigned");
    const has = balanced("a", { has: ["192.0.2.0"] });
    book.setPools(pools(pool("a", ["192.0.2.128/25"])));
    expect(settle(has)).toBe("192.0.2.0 PoolChanged");
    book.setPools(pools(pool("a", ["192.0.2.0/24"], { namespaces: ["other"] })));
    expect(settle(has)).toBe("192.0.2.0 PoolChanged");
    book.setPools(pools());
    expect(settle(has)).toBe("192.0.2.0 PoolChanged");
    expect(message("a")).toMatch(/^192\.0\.2\.0 of AddressPool a; no AddressPool has 192\.0\.2\.0 any more/);
    book.setPools(pools(pool("b", ["10.0.0.0/24"])));
    expect(settle(balanced("a", { has: ["192.0.2.0"], annotations: { "podlane.io/address-pool": "b" } }))).toBe("10.0.0.0 AddressAssigned");
  });

  test("keeps what it brings along: from a pool as claimed, from elsewhere as it is", () => {
    book.setPools(pools(pool("a", ["192.0.2.0/24"])));
    book.setService(balanced("new"));
    book.setService(balanced("old", { has: ["192.0.2.0"] }));
    expect(book.keys()).toEqual(["default/old", "default/new"]);
    // Nobody else gets it, though it is not claimed yet.
    expect(settle(balanced("new"))).toBe("192.0.2.1 AddressAssigned");
    expect(settle(balanced("old", { has: ["192.0.2.0"] }))).toBe("192.0.2.0 AddressAssigned");
    expect(settle(balanced("cloud", { has: ["203.0.113.1"] }))).toBe("203.0.113.1 not NotInPool");
    expect(settle(balanced("cloud", { has: ["203.0.113.1"], annotations: { "podlane.io/address-pool": "a" } }))).toBe(
      "192.0.2.2 AddressAssigned",
    );
    // Two that have the same and may not share it: the one that claims it first.
    expect(settle(balanced("twice", { has: ["192.0.2.0"] }))).toBe("192.0.2.3 AddressAssigned");
  });

  test("leaves alone what others gave it, as long as it asks for nothing else", () => {
    book.setPools(pools(pool("a", ["192.0.2.0/30"])));
    // A load balancer of nodes, of another family, in another order.
    expect(settle(balanced("nodes", { has: ["10.0.0.1", "10.0.0.2", "10.0.0.3"] }))).toBe("10.0.0.1 10.0.0.2 10.0.0.3 not NotInPool");
    expect(settle(balanced("more", { has: ["10.0.0.1", "fd00::1"] }))).toBe("10.0.0.1 fd00::1 not NotInPool");
    expect(settle(balanced("order", { has: ["fd00::1", "10.0.0.1"], spec: dual }))).toBe("fd00::1 10.0.0.1 not NotInPool");
    expect(settle(balanced("other", { has: ["fd00::1"] }))).toBe("fd00::1 not NotInPool");
    expect(settle(balanced("one", { has: ["10.0.0.1"], spec: required }))).toBe("10.0.0.1 not NotInPool");
    expect(settle(balanced("named", { ingress: [{ hostname: "lb.example" }] }))).toBe("not NotInPool");
    expect(message("named")).toMatch(
      /^lb\.example in its status is of no AddressPool that is for it: somebody else gave it, and it is left as it is/,
    );
    expect(decide(book, "default/named").dropsNames).toBeUndefined();
    // What it asks for, somebody else gave it.
    expect(settle(balanced("asked", { has: ["10.0.0.9", "10.0.0.1"], spec: { loadBalancerIP: "10.0.0.1" } }))).toBe(
      "10.0.0.9 10.0.0.1 not NotInPool",
    );
    expect(settle(balanced("bad", { has: ["10.0.0.1", "10.0.0.2"], ...ask("nonsense") }))).toBe(
      "10.0.0.1 10.0.0.2 not InvalidRequest, waits",
    );
    expect([...book.claimsOf("default/bad")]).toEqual([]);
    // As many as a cluster has nodes are not all told.
    const many = Array.from({ length: 100 }, (_, i) => `10.0.1.${i}`);
    expect(settle(balanced("many", { has: many }))).toBe(`${many.join(" ")} not NotInPool`);
    expect(message("many")).toMatch(/^10\.0\.1\.0, 10\.0\.1\.1, 10\.0\.1\.2, 10\.0\.1\.3 and 96 more in its status are of no/);
    // It asks.
    expect(settle(balanced("nodes", { has: ["10.0.0.1", "10.0.0.2"], annotations: { "metallb.io/address-pool": "a" } }))).toBe(
      "192.0.2.0 AddressAssigned",
    );
    const named = { ingress: [{ hostname: "lb.example" }], annotations: { "podlane.io/address-pool": "a" } };
    book.setService(balanced("named", named));
    expect(decide(book, "default/named")).toMatchObject({ addresses: ["192.0.2.1"], dropsNames: true });
  });

  test("has what is of a pool claimed beside what others gave it, and both in the order in which they are found", () => {
    book.setPools(pools(pool("a", ["192.0.2.0/30", "2001:db8::/126"])));
    expect(settle(balanced("a", { has: ["10.0.0.1", "192.0.2.1"] }))).toBe("10.0.0.1 192.0.2.1 not NotInPool");
    expect(book.claim("192.0.2.1")?.services).toMatchObject([{ name: "a" }]);
    expect(settle(balanced("a", { has: ["10.0.0.1", "192.0.2.1"] }))).toBe("10.0.0.1 192.0.2.1 not NotInPool");
    expect(settle(balanced("b", { has: ["fd00::1", "192.0.2.2"], spec: dual }))).toBe("fd00::1 192.0.2.2 not NotInPool");
    expect(settle(balanced("c", { has: ["2001:db8::1", "192.0.2.3"], spec: dual }))).toBe("2001:db8::1 192.0.2.3 AddressAssigned");
    // Of what two have, the one that claimed it first keeps it.
    expect(settle(balanced("d", { has: ["10.0.0.1", "192.0.2.1"] }))).toBe("10.0.0.1 not NotInPool");
    // No longer of the type: ours goes, and nothing else.
    expect(settle(balanced("a", { has: ["10.0.0.1", "192.0.2.1"], spec: { type: "ClusterIP" } }))).toBe("10.0.0.1 nothing");
    expect(book.claim("192.0.2.1")).toBeUndefined();
  });

  test("does not get what a claim without Services keeps, nor anything while it is being deleted", () => {
    book.setPools(pools(pool("a", ["192.0.2.0/31"])));
    book.setClaim({ address: "192.0.2.0", pool: "a", services: [], uid: "u", resourceVersion: "1" });
    expect(settle(balanced("a", ask("192.0.2.0")))).toBe("not AddressInUse, waits");
    expect(settle(balanced("b"))).toBe("192.0.2.1 AddressAssigned");
    expect(settle(balanced("c", { metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } }))).toBe("nothing");
    expect(settle(balanced("b", { has: ["192.0.2.1"], metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } }))).toBe(
      "192.0.2.1 AddressAssigned",
    );
  });
});
