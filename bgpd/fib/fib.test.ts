import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { KernelEvent, NextHop } from "../../kernel/types.ts";
import { formatAddress, parseAddress } from "../../net/address.ts";
import { systemClock } from "../../platform/clock.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import { createFib, type FibOptions } from "./fib.ts";
import { eventually, isOurRoute, PROTOCOL, prefix, silent, TestNamespace } from "./testing.ts";
import type { Fib, FibEntry } from "./types.ts";

let ns: TestNamespace;
let fibs: Fib[];

beforeEach(() => {
  ns = new TestNamespace();
  fibs = [];
});

afterEach(async () => {
  for (const fib of fibs) await fib.close({ flush: false });
  ns.remove();
});

function start(options: Partial<FibOptions> = {}): Fib {
  const fib = createFib({ kernel: ns.kernel(), table: 254, protocol: PROTOCOL, metric: 20, clock: systemClock, log: silent, ...options });
  fibs.push(fib);
  return fib;
}

/** "10.0.0.2 v0" or "10.0.0.2 v0, 10.0.1.2 v1". */
function via(text: string): FibEntry {
  const nextHops = text.split(", ").map((hop): NextHop => {
    const [gateway, link] = hop.split(" ");
    return { gateway: parseAddress(gateway), ifindex: ns.ifindex(link) };
  });
  return { type: "unicast", nextHops };
}

const blackhole: FibEntry = { type: "blackhole" };

describe.each([
  { family: 4, p: "192.0.2.0/24", q: "198.51.100.0/24", a: "10.0.0.2", b: "10.0.0.3", c: "10.0.1.2" },
  { family: 6, p: "2001:db8:a::/48", q: "2001:db8:b::/48", a: "2001:db8::2", b: "2001:db8::3", c: "2001:db8:0:1::2" },
])("routes of IPv$family", ({ p, q, a, b, c }) => {
  const plain = (prefix: string, gateway: string, link: string) => `${prefix} via ${gateway} dev ${link} proto 201 metric 20`;
  const both = [`${p} proto 201 metric 20 nexthop via ${a} dev v0 weight 1 nexthop via ${c} dev v1 weight 1`];
  const blackholeLine = (prefix: string) => `blackhole ${prefix} ${prefix.includes(":") ? "dev lo " : ""}proto 201 metric 4294967294`;

  it("go in, change and go, the last wish only", async () => {
    const fib = start();
    fib.want(prefix(p), via(`${b} v0`));
    fib.want(prefix(p), via(`${a} v0`));
    fib.want(prefix(q), via(`${a} v0`));
    fib.want(prefix(q), undefined);
    await fib.settled();
    expect(ns.routes(p)).toEqual([plain(p, a, "v0")]);
    expect(ns.routes(q)).toEqual([]);
    expect(fib.installed(prefix(p))).toEqual(via(`${a} v0`));
    expect(fib.counters()).toEqual({
      installed: 1,
      adopted: 0,
      pending: 0,
      failed: 0,
      swept: 0,
      written: 1,
      removed: 0,
      refused: 0,
      repaired: 0,
    });
    fib.want(prefix(p), via(`${b} v0`));
    await fib.settled();
    expect(ns.routes(p)).toEqual([plain(p, b, "v0")]);
    fib.want(prefix(p), undefined);
    await fib.settled();
    expect(ns.routes(p)).toEqual([]);
    expect(fib.installed(prefix(p))).toBeUndefined();
    expect(fib.counters().installed).toBe(0);
  });

  it("change between plain, multipath and blackhole without a moment of absence", async () => {
    const fib = start();
    const wishes: [FibEntry, string[]][] = [
      [via(`${a} v0`), [plain(p, a, "v0")]],
      [via(`${c} v1, ${a} v0`), both],
      [
        via(`${a} v0, ${b} v0, ${c} v1`),
        [
          both[0]
            .replace(" nexthop via", ` nexthop via ${a} dev v0 weight 1 nexthop via`)
            .replace(`${a} dev v0 weight 1 nexthop via ${a}`, `${a} dev v0 weight 1 nexthop via ${b}`),
        ],
      ],
      [blackhole, [blackholeLine(p)]],
      [via(`${a} v0, ${c} v1`), both],
      [via(`${b} v0`), [plain(p, b, "v0")]],
      [blackhole, [blackholeLine(p)]],
      [via(`${a} v0`), [plain(p, a, "v0")]],
    ];
    const events = ns.record();
    for (const [wish, expected] of wishes) {
      fib.want(prefix(p), wish);
      await fib.settled();
      expect(ns.routes(p)).toEqual(expected);
      expect(fib.installed(prefix(p))).toEqual(wish.type === "blackhole" ? wish : { type: "unicast", nextHops: expect.any(Array) });
    }
    fib.want(prefix(p), undefined);
    await fib.settled();
    await eventually(() => expect(events.at(-1)).toMatchObject({ type: "route", action: "delete", route: { type: "unicast" } }));
    const held = new Set<string>();
    for (const [i, event] of events.entries()) {
      if (event.action === "new") held.add(event.route.type);
      else held.delete(event.route.type);
      expect(held.size).toBeGreaterThan(i < events.length - 1 ? 0 : -1);
    }
    expect(held.size).toBe(0);
  });

  it("are adopted at start; what nobody wants goes with the sweep; a restart changes nothing", async () => {
    const first = start();
    first.want(prefix(p), via(`${c} v1, ${a} v0`));
    first.want(prefix(q), blackhole);
    await first.settled();
    await first.close({ flush: false });
    const events = ns.record();

    const second = start();
    second.want(prefix(p), via(`${a} v0, ${c} v1`));
    await second.settled();
    expect(second.counters()).toMatchObject({ adopted: 2, installed: 2, failed: 0 });
    expect(second.installed(prefix(q))).toEqual(blackhole);
    second.want(prefix(q), undefined);
    await second.settled();
    expect(ns.routes(q)).toEqual([blackholeLine(q)]);
    second.sweep();
    await second.settled();
    expect(ns.routes(p)).toEqual(both);
    expect(ns.routes(q)).toEqual([]);
    expect(second.counters()).toMatchObject({ installed: 1, swept: 1 });
    await eventually(() => expect(events.length).toBe(1));
    expect(events[0]).toMatchObject({ type: "route", action: "delete", route: { type: "blackhole" } });
  });

  it("of an earlier metric are swept, and are there until then", async () => {
    const first = start({ metric: 30 });
    first.want(prefix(p), via(`${a} v0`));
    await first.settled();
    await first.close({ flush: false });
    const second = start();
    second.want(prefix(p), via(`${b} v0`));
    await second.settled();
    expect(ns.routes(p)).toEqual([plain(p, b, "v0"), `${p} via ${a} dev v0 proto 201 metric 30`].sort());
    second.sweep();
    await eventually(() => expect(ns.routes(p)).toEqual([plain(p, b, "v0")]));
    expect(second.counters().swept).toBe(1);
  });

  it("of another owner are never touched, and ours takes the place when it is free", async () => {
    const foreign = `${p} via ${b} dev v0 proto static metric 20`;
    ns.ip(`route add ${foreign}`);
    const fib = start();
    fib.want(prefix(p), via(`${a} v0`));
    await fib.settled();
    expect(ns.routes(p)).toEqual([foreign]);
    expect(fib.counters()).toMatchObject({
      installed: 0,
      failed: 1,
      lastError: `prefix ${p}: held by a route of protocol static; not touched`,
    });
    fib.want(prefix(p), undefined);
    fib.want(prefix(p), via(`${a} v0, ${c} v1`));
    await fib.settled();
    expect(ns.routes(p)).toEqual([foreign]);
    ns.ip(`route del ${foreign}`);
    await eventually(() => expect(ns.routes(p)).toEqual(both));
    expect(fib.counters()).toMatchObject({ installed: 1, failed: 0 });
    fib.sweep();
    await fib.close({ flush: true });
    expect(ns.routes(p)).toEqual([]);
  });

  it("of another owner that overwrite ours are left alone", async () => {
    const fib = start();
    fib.want(prefix(p), via(`${a} v0`));
    await fib.settled();
    const foreign = `${p} via ${b} dev v0 proto static metric 20`;
    ns.ip(`route replace ${foreign}`);
    await eventually(() => expect(fib.counters()).toMatchObject({ installed: 0, failed: 1 }));
    expect(ns.routes(p)).toEqual([foreign]);
    fib.want(prefix(p), undefined);
    await fib.settled();
    expect(ns.routes(p)).toEqual([foreign]);
  });

  it("of another owner with another metric stand beside ours", async () => {
    const foreign = `${p} via ${b} dev v0 proto static metric 19`;
    ns.ip(`route add ${foreign}`);
    const fib = start();
    fib.want(prefix(p), via(`${a} v0`));
    await fib.settled();
    expect(ns.routes(p)).toEqual([foreign, plain(p, a, "v0")].sort());
    await fib.close({ flush: true });
    expect(ns.routes(p)).toEqual([foreign]);
  });

  it("that somebody deletes or changes are written again", async () => {
    const fib = start();
    fib.want(prefix(p), via(`${a} v0, ${c} v1`));
    fib.want(prefix(q), blackhole);
    await fib.settled();
    ns.ip(`route del ${p} metric 20`);
    ns.ip(`route del blackhole ${q} metric 4294967294`);
    await eventually(() => expect([ns.routes(p), ns.routes(q)]).toEqual([both, [blackholeLine(q)]]));
    expect(fib.counters().repaired).toBe(2);
    ns.ip(`route replace ${plain(p, b, "v0")}`);
    await eventually(() => expect(ns.routes(p)).toEqual(both));
    expect(fib.counters().repaired).toBe(3);
  });

  it("are compared with the kernel's when events were lost", async () => {
    const kernel = ns.kernel();
    let emit: (events: KernelEvent[]) => void = () => {};
    const watch: typeof kernel.watch = listener => {
      emit = listener;
      return () => {};
    };
    const fib = start({ kernel: { netlink: kernel.netlink, watch } });
    fib.want(prefix(p), via(`${a} v0, ${c} v1`));
    fib.want(prefix(q), via(`${a} v0`));
    await fib.settled();
    ns.ip(`route del ${p} metric 20`);
    ns.ip(`route replace ${plain(q, b, "v0")}`);
    expect(fib.counters().installed).toBe(2);
    emit([{ type: "overrun" }]);
    await eventually(() => expect([ns.routes(p), ns.routes(q)]).toEqual([both, [plain(q, a, "v0")]]));
    expect(fib.counters()).toMatchObject({ installed: 2, repaired: 2, failed: 0 });
  });

  it("are fought over more and more slowly", async () => {
    const clock = new FakeClock();
    const events = ns.record();
    const fib = start({ clock });
    fib.want(prefix(p), via(`${a} v0`));
    await fib.settled();
    for (const delay of [100, 200, 400]) {
      ns.ip(`route del ${p} metric 20`);
      await eventually(() => expect(clock.next).toBe(delay));
      clock.advance(delay - 1);
      await fib.settled();
      expect(ns.routes(p)).toEqual([]);
      clock.advance(1);
      await fib.settled();
      expect(ns.routes(p)).toEqual([plain(p, a, "v0")]);
    }
    expect(fib.counters().repaired).toBe(3);
    await eventually(() => expect(events).toHaveLength(7));
  });

  it("are not taken for somebody else's where our own events come as well", async () => {
    const clock = new FakeClock();
    const kernel = ns.kernel(true);
    let heard = 0;
    const watch: typeof kernel.watch = listener =>
      kernel.watch(events => {
        heard += events.filter(isOurRoute).length;
        listener(events);
      });
    const events = ns.record();
    const fib = start({ clock, kernel: { netlink: kernel.netlink, watch } });
    await fib.settled();
    const before = heard;
    for (let i = 0; i < 20; i++) {
      fib.want(prefix(p), i % 3 === 0 ? via(`${a} v0`) : i % 3 === 1 ? via(`${b} v0, ${c} v1`) : undefined);
      fib.want(prefix(q), i % 2 === 0 ? blackhole : undefined);
      await fib.settled();
    }
    // 20 writes of each prefix; each is heard.
    await eventually(() => expect([heard - before, events.length]).toEqual([40, 40]));
    clock.advance(60_000);
    await fib.settled();
    expect(fib.counters()).toMatchObject({ repaired: 0, installed: 1, failed: 0 });
    expect(ns.routes(p)).toEqual([`${p} proto 201 metric 20 nexthop via ${b} dev v0 weight 1 nexthop via ${c} dev v1 weight 1`]);
  });

  it("fail with the kernel's words while the gateway cannot be reached, and go in as soon as it can", async () => {
    ns.ip("link set v1 down");
    const fib = start();
    fib.want(prefix(p), via(`${c} v1`));
    await fib.settled();
    expect(fib.counters()).toMatchObject({ installed: 0, failed: 1, lastError: expect.stringContaining(`route ${p} via ${c} dev v1`) });
    ns.ip("link set v1 up");
    if (p.includes(":")) ns.ip("addr replace 2001:db8:0:1::1/64 dev v1 nodad");
    await eventually(() => expect(ns.routes(p)).toEqual([plain(p, c, "v1")]));
    expect(fib.counters()).toMatchObject({ installed: 1, failed: 0 });
  });

  it("are taken away when the kernel refuses their new next hops", async () => {
    const fib = start();
    fib.want(prefix(p), via(`${a} v0`));
    await fib.settled();
    fib.want(prefix(p), via(`${a} v1`));
    await fib.settled();
    expect(fib.counters()).toMatchObject({ failed: 1, installed: 0 });
    expect(ns.routes(p)).toEqual([]);
    fib.want(prefix(p), via(`${c} v1`));
    await fib.settled();
    expect(ns.routes(p)).toEqual([plain(p, c, "v1")]);
  });

  it("that vanish with their link are back after it, also from both ends of a multipath", async () => {
    const fib = start();
    fib.want(prefix(p), via(`${a} v0, ${c} v1`));
    fib.want(prefix(q), via(`${a} v0`));
    await fib.settled();
    ns.ip("link set v0 down");
    ns.ip("link set v0 up");
    ns.ip("addr replace 2001:db8::1/64 dev v0 nodad");
    await eventually(() => expect([ns.routes(p), ns.routes(q)]).toEqual([both, [plain(q, a, "v0")]]));
    await eventually(() => expect(fib.counters()).toMatchObject({ installed: 2, failed: 0, pending: 0 }));
  });

  it("win over a blackhole only by being more specific or better", async () => {
    const fib = start();
    fib.want(prefix(p), blackhole);
    await fib.settled();
    ns.ip(`route add ${p} dev v1`);
    const target = p.replace(/0\/24$/, "9").replace("::/48", "::9");
    expect(ns.ip(`route get ${target}`)).toContain("dev v1");
    ns.ip(`route del ${p} dev v1`);
    expect(() => ns.ip(`route get ${target}`)).toThrow(/Invalid argument/);
  });
});

describe("the table as a whole", () => {
  it("completes an IPv6 multipath that lost a member", async () => {
    const p = "2001:db8:a::/48";
    const fib = start();
    fib.want(prefix(p), via("2001:db8::2 v0, 2001:db8::3 v0, 2001:db8:0:1::2 v1"));
    await fib.settled();
    const before = ns.routes(p);
    ns.ip(`route del ${p} via 2001:db8::3 metric 20`);
    expect(ns.routes(p)).not.toEqual(before);
    await eventually(() => expect(ns.routes(p)).toEqual(before));
    expect(fib.counters()).toMatchObject({ installed: 1, failed: 0, repaired: 1 });
  });

  it("takes 20,000 routes in slices, adopts them without a change, and flushes them", async () => {
    const fib = start();
    const [one, other] = [via("10.0.0.2 v0"), via("10.0.0.2 v0, 10.0.1.2 v1")];
    const prefixes = Array.from({ length: 20_000 }, (_, i) => prefix(`${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}.0/24`));
    for (const [i, p] of prefixes.entries()) fib.want(p, i % 2 === 0 ? one : other);
    expect(fib.counters()).toMatchObject({ pending: 20_000, installed: 0 });
    await fib.settled();
    expect(fib.counters()).toMatchObject({ pending: 0, installed: 20_000, failed: 0 });
    expect(
      ns
        .ip("route show proto 201")
        .split("\n")
        .filter(line => /^\d/.test(line)),
    ).toHaveLength(20_000);
    await fib.close({ flush: false });

    const events = ns.record();
    const again = start();
    for (const [i, p] of prefixes.entries()) again.want(p, i % 2 === 0 ? one : other);
    again.sweep();
    await again.settled();
    expect(again.counters()).toMatchObject({ adopted: 20_000, installed: 20_000, swept: 0, repaired: 0 });
    again.want(prefix("203.0.113.0/24"), one);
    await eventually(() => expect(events.length).toBeGreaterThan(0));
    expect(events).toHaveLength(1);
    await again.close({ flush: true });
    expect(ns.ip("route show proto 201")).toBe("");
  });

  it("uses another table where told so, and touches only that", async () => {
    ns.ip("route add 192.0.2.0/24 via 10.0.0.2 proto 201 metric 20");
    const fib = start({ table: 1000 });
    fib.want(prefix("192.0.2.0/24"), via("10.0.0.3 v0"));
    fib.sweep();
    await fib.settled();
    expect(fib.counters()).toMatchObject({ adopted: 0, installed: 1 });
    expect(ns.ip("route show table 1000").trim()).toBe("192.0.2.0/24 via 10.0.0.3 dev v0 proto 201 metric 20");
    await fib.close({ flush: true });
    expect(ns.ip("route show 192.0.2.0/24").trim()).toBe("192.0.2.0/24 via 10.0.0.2 dev v0 proto 201 metric 20");
  });

  it("carries IPv4 over an IPv6 next hop, and the metric 0 of each family", async () => {
    const fib = start({ metric: 0 });
    fib.want(prefix("192.0.2.0/24"), { type: "unicast", nextHops: [{ gateway: parseAddress("fe80::1"), ifindex: ns.ifindex("v0") }] });
    fib.want(prefix("2001:db8:a::/48"), via("2001:db8::2 v0"));
    await fib.settled();
    expect(ns.routes("192.0.2.0/24")).toEqual(["192.0.2.0/24 via inet6 fe80::1 dev v0 proto 201"]);
    expect(ns.routes("2001:db8:a::/48")).toEqual(["2001:db8:a::/48 via 2001:db8::2 dev v0 proto 201 metric 1023"]);
    await fib.close({ flush: false });
    const events = ns.record();
    const again = start({ metric: 0 });
    again.want(prefix("192.0.2.0/24"), { type: "unicast", nextHops: [{ gateway: parseAddress("fe80::1"), ifindex: ns.ifindex("v0") }] });
    again.want(prefix("2001:db8:a::/48"), via("2001:db8::2 v0"));
    again.want(prefix("203.0.113.0/24"), via("10.0.0.2 v0"));
    await again.settled();
    await eventually(() => expect(events.length).toBeGreaterThan(0));
    expect(events).toHaveLength(1);
  });
  it("with metric 0 go before those of router advertisements, whichever came first", async () => {
    const lookup = () => {
      const hops = ns.kernel().netlink.lookup(parseAddress("2001:db8:a::1"))?.nextHops ?? [];
      return hops.map(hop => formatAddress(hop.gateway!));
    };
    const advertised = "2001:db8:a::/48 via 2001:db8::9 dev v0 proto ra metric 1024";
    ns.ip(`-6 route add ${advertised}`);
    const fib = start({ metric: 0 });
    fib.want(prefix("2001:db8:a::/48"), via("2001:db8::2 v0"));
    await fib.settled();
    expect([fib.counters().failed, lookup()]).toEqual([0, ["2001:db8::2"]]);
    ns.ip(`-6 route del ${advertised}`);
    ns.ip(`-6 route add ${advertised}`);
    for (let n = 0; n < 10; n++) expect(lookup()).toEqual(["2001:db8::2"]);
  });

  it("reports a wish without next hops, and refuses the metric of discard routes", async () => {
    const fib = start();
    fib.want(prefix("192.0.2.0/24"), { type: "unicast", nextHops: [] });
    await fib.settled();
    expect(fib.counters()).toMatchObject({ failed: 1, lastError: "a route without next hops" });
    expect(() => start({ metric: 4294967294 })).toThrow(RangeError);
  });
});
