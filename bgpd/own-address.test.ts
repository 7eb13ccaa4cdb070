import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  IFA_F_DADFAILED,
  IFA_F_DEPRECATED,
  IFA_F_OPTIMISTIC,
  IFA_F_PERMANENT,
  IFA_F_TEMPORARY,
  IFA_F_TENTATIVE,
} from "../kernel/constants.ts";
import type { InterfaceAddress } from "../kernel/types.ts";
import { formatAddress, type IpFamily, parseAddress } from "../net/address.ts";
import { forwardingFamily } from "./family.ts";
import { TestNamespace } from "./fib/testing.ts";
import { type OwnAddressQuestion, ownAddress } from "./own-address.ts";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const on = (ifindex: number, text: string, flags = IFA_F_PERMANENT): InterfaceAddress => {
  const address = parseAddress(text);
  const linkLocal = text.startsWith("fe80:");
  return { ifindex, address, prefixLength: address.length === 4 ? 24 : 64, scope: linkLocal ? 253 : 0, flags };
};

/** The session is on v1 unless said otherwise. */
function answer(ip: IpFamily, local: string, addresses: InterfaceAddress[] | undefined, change: Partial<OwnAddressQuestion> = {}): string {
  const own = ownAddress(
    { family: forwardingFamily(ip), local: parseAddress(local), ifindex: 1, ...change },
    addresses,
    ifindex => `v${ifindex}`,
  );
  if ("obstacle" in own) return own.obstacle;
  return own.address.length === 32
    ? `${formatAddress(own.address.subarray(0, 16))} ${formatAddress(own.address.subarray(16))}`
    : formatAddress(own.address);
}

describe("our address for NEXT_HOP", () => {
  it("is the session's own where it is of the family, and another of its interface where not", () => {
    const addresses = [on(2, "10.0.2.1"), on(2, "fd00:2::1"), on(1, "10.0.1.9"), on(1, "10.0.1.1"), on(1, "fe80::1"), on(1, "fd00:1::1")];
    expect(answer(4, "10.0.1.1", addresses)).toBe("10.0.1.1");
    expect(answer(6, "10.0.1.1", addresses)).toBe("fd00:1::1");
    expect(answer(4, "fd00:1::1", addresses)).toBe("10.0.1.9");
    expect(answer(4, "fe80::1", addresses)).toBe("10.0.1.9");
    expect(answer(6, "fe80::1", addresses)).toBe("fd00:1::1");
    // Bound to v1, but on an address of another interface.
    expect(answer(4, "10.0.2.1", addresses)).toBe("10.0.2.1");
  });

  it("is the link-local one twice where a link-local session has no other, and none of IPv4", () => {
    expect(answer(6, "fe80::1", [on(1, "fe80::1")])).toBe("fe80::1 fe80::1");
    expect(answer(4, "fe80::1", [on(1, "fe80::1")])).toBe("interface v1 has no usable IPv4 address");
    expect(answer(6, "fe80::1", undefined)).toBe("fe80::1 fe80::1");
  });

  it("is not tentative, a duplicate or temporary, and deprecated only where there is no other", () => {
    const with6 = (flags: number, ...more: InterfaceAddress[]) =>
      answer(6, "10.0.1.1", [on(1, "10.0.1.1"), on(1, "fd00::1", flags), ...more]);
    expect(with6(IFA_F_TENTATIVE)).toBe(
      "interface v1 has no usable IPv6 address (fd00::1 is tentative: duplicate address detection has not ended)",
    );
    expect(with6(IFA_F_TENTATIVE | IFA_F_OPTIMISTIC)).toBe("fd00::1");
    expect(with6(IFA_F_TENTATIVE | IFA_F_DADFAILED)).toBe(
      "interface v1 has no usable IPv6 address (fd00::1 is another host's as well: duplicate address detection failed)",
    );
    expect(with6(IFA_F_TEMPORARY)).toBe("interface v1 has no usable IPv6 address (fd00::1 is temporary)");
    expect(with6(IFA_F_DEPRECATED)).toBe("fd00::1");
    expect(with6(IFA_F_DEPRECATED, on(1, "fd00::2"))).toBe("fd00::2");
    // Those are bits of IPv6; the lowest means "secondary" for IPv4.
    expect(answer(4, "fd00::1", [on(1, "10.0.1.1", IFA_F_TEMPORARY), on(1, "10.0.1.2")])).toBe("10.0.1.2");
  });

  it("is another when the session's own is deprecated or gone, and that of a local route as long as the session lives", () => {
    expect(answer(6, "fd00::1", [on(1, "fd00::1", IFA_F_DEPRECATED), on(1, "fd00::2")])).toBe("fd00::2");
    expect(answer(4, "10.0.1.1", [on(1, "10.0.1.7")])).toBe("10.0.1.7");
    expect(answer(4, "10.0.1.1", [on(2, "10.0.2.1")])).toBe("interface v1 has no usable IPv4 address");
    expect(answer(4, "10.9.9.9", [on(2, "10.0.2.1")], { ifindex: 0 })).toBe("10.9.9.9");
  });

  it("stays while nothing better is there", () => {
    const addresses = [on(1, "fd00::3"), on(1, "fd00::2"), on(1, "10.0.1.1")];
    expect(answer(6, "10.0.1.1", addresses, { current: parseAddress("fd00::2") })).toBe("fd00::2");
  });
});

const V4 = "10.244.1.0/24";
const V6 = "fd00:10:244:1::/64";

describe("with real addresses", () => {
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

  /** Ours, at `own` on v0, announces two pod ranges; what `other` sees of them. */
  function joined(own: string, other: string): { us: MemorySpeaker; hears(next: Record<string, string>): Promise<void> } {
    const families = { "ipv4-unicast": accepting, "ipv6-unicast": accepting };
    const routerId = (end: number) => ({ routerId: `192.0.2.${end}` });
    const networks = [network(V4), network(V6)].map(one => ({ ...one, kind: "pod" as const }));
    const us = world.speaker(
      own,
      { ...routerId(1), asn: 65001, neighbors: [neighborAt(other, 65001, { families })], networks },
      ns.kernel(),
    );
    const them = world.speaker(other, { ...routerId(2), asn: 65001, neighbors: [neighborAt(own, 65001, { families })] });
    for (const speaker of [us, them]) speaker.apply();
    const held = async () => {
      await world.run(1);
      const { routes } = them.speaker.routesNow();
      return Object.fromEntries(routes.map(({ prefix, attributes }) => [prefix, attributes.nextHop]));
    };
    return { us, hears: next => expect.poll(held, { timeout: 10_000 }).toEqual(next) };
  }

  it("another router's address is told on a subnet that is shared, and ours as soon as it is not", async () => {
    const routerId = (end: number) => ({ routerId: `192.0.2.${end}` });
    const [own, maker, hearer] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    const us = world.speaker(
      own,
      { ...routerId(1), asn: 65001, neighbors: [neighborAt(maker, 65002), neighborAt(hearer, 65003)] },
      ns.kernel(),
    );
    const from = world.speaker(maker, {
      ...routerId(2),
      asn: 65002,
      neighbors: [neighborAt(own, 65001)],
      networks: [network("10.7.0.0/16")],
    });
    const to = world.speaker(hearer, { ...routerId(3), asn: 65003, neighbors: [neighborAt(own, 65001)] });
    for (const speaker of [us, from, to]) speaker.apply();
    const told = async () => {
      await world.run(1);
      return to.speaker.routesNow({ prefix: "10.7.0.0/16" }).routes[0]?.attributes.nextHop;
    };
    await expect.poll(told, { timeout: 10_000 }).toBe(maker);
    // The neighbours are reached all the same.
    ns.ip("route add 10.0.0.0/24 dev v0 metric 5");
    ns.ip("addr add 10.0.0.1/32 dev v0");
    ns.ip("addr del 10.0.0.1/24 dev v0");
    await expect.poll(told, { timeout: 10_000 }).toBe(own);
    ns.ip("addr add 10.0.0.1/24 dev v0");
    await expect.poll(told, { timeout: 10_000 }).toBe(maker);
  });

  it("an IPv6 address that comes later, is renumbered, deprecated, or a duplicate is followed over IPv4", async () => {
    ns.ip("addr del 2001:db8::1/64 dev v0");
    const { us, hears } = joined("10.0.0.1", "10.0.0.2");
    await hears({ [V4]: "10.0.0.1" });
    const problems = () => us.speaker.problems().map(one => one.message);
    expect(problems()).toEqual([`${V6} not announced to 10.0.0.2: interface v0 has no usable IPv6 address`]);
    // With duplicate address detection, as at every boot.
    ns.ip("addr add 2001:db8::7/64 dev v0");
    await hears({ [V4]: "10.0.0.1", [V6]: "2001:db8::7" });
    expect(problems()).toEqual([]);
    ns.ip("addr add 2001:db8::8/64 dev v0 nodad");
    ns.ip("addr change 2001:db8::7/64 dev v0 preferred_lft 0");
    await hears({ [V4]: "10.0.0.1", [V6]: "2001:db8::8" });
    ns.ip("addr del 2001:db8::8/64 dev v0");
    await hears({ [V4]: "10.0.0.1", [V6]: "2001:db8::7" });
    ns.ip("addr del 2001:db8::7/64 dev v0");
    await hears({ [V4]: "10.0.0.1" });
    ns.ip("addr add 2001:db8::9/64 dev p0 nodad");
    ns.ip("addr add 2001:db8::9/64 dev v0");
    await expect.poll(() => world.later(problems)).toEqual([expect.stringContaining("duplicate address detection failed")]);
    await hears({ [V4]: "10.0.0.1" });
    expect(us.neighbor("10.0.0.2").counters.establishedCount).toBe(1);
  });

  it("an IPv4 address that is renumbered is followed over IPv6", async () => {
    const { hears } = joined("2001:db8::1", "2001:db8::2");
    await hears({ [V4]: "10.0.0.1", [V6]: "2001:db8::1" });
    ns.ip("addr add 10.0.5.1/24 dev v0");
    ns.ip("addr del 10.0.0.1/24 dev v0");
    await hears({ [V4]: "10.0.5.1", [V6]: "2001:db8::1" });
    ns.ip("addr del 10.0.5.1/24 dev v0");
    await hears({ [V6]: "2001:db8::1" });
    ns.ip("addr add 10.0.6.1/24 dev v0");
    await hears({ [V4]: "10.0.6.1", [V6]: "2001:db8::1" });
  });
});
