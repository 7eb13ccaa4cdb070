/** Discards for packets of others: their tables and rules in a real kernel, from the first prefix to the last one, and over restarts. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FibConfig, NetworkConfig } from "./config.ts";
import type { RoutePlace } from "./fib/route-places.ts";
import { TestNamespace } from "./fib/testing.ts";
import { leftRoutes } from "./forwarding.ts";
import { type MemorySpeaker, MemoryWorld, network } from "./testing/memory-speakers.ts";

const US = "10.0.0.1";
const fib: FibConfig = { enabled: true, table: 254, protocol: 201, metric: 0 };

let world: MemoryWorld;
let ns: TestNamespace;
let places: RoutePlace[];

beforeEach(() => {
  world = new MemoryWorld();
  ns = new TestNamespace();
  places = [];
});

afterEach(async () => {
  await world.close();
  ns.remove();
});

function agent(change: Partial<FibConfig> = {}, kernel = ns.kernel()): MemorySpeaker {
  const memory = {
    read: () => places,
    write: (now: readonly RoutePlace[]) => {
      places = [...now];
    },
  };
  const us = world.speaker(US, { fib: { ...fib, ...change }, startupWait: 5 }, kernel, memory);
  us.apply();
  return us;
}

const services = ["198.51.100.7/32", "2001:db8:51::7/128"];
const aggregates = ["203.0.113.0/24", "2001:db8:60::/64"];

const transit = (prefixes: string[]) =>
  new Map(prefixes.map((prefix): [string, NetworkConfig] => [prefix, network(prefix, { kind: "service", discard: "transit" })]));
const without = (prefixes: string[]) => new Map<string, undefined>(prefixes.map(prefix => [prefix, undefined]));

/** "prefix table protocol" of all discards. */
function discards(): string[] {
  const lines = [4, 6].flatMap(family => ns.ip(`-${family} -N -d route show table all type blackhole`).split("\n"));
  return lines.flatMap(line => {
    const match = /^(?:blackhole|6) (\S+) (?:dev lo )?(?:table (\d+) )?proto (\d+)/.exec(line);
    return match ? [`${match[1]} ${match[2] ?? 254} ${match[3]}`] : [];
  });
}

/** But for those that every kernel has. */
function rules(): string[] {
  const lines = [4, 6].flatMap(family => ns.ip(`-${family} -N rule show`).split("\n"));
  const own = ["0:", "32766:", "32767:"];
  return lines.map(line => line.trim().replaceAll(/\s+/g, " ")).filter(line => line !== "" && !own.includes(line.split(" ")[0]));
}

const wantedDiscards = (protocol = 201) => [
  `198.51.100.7 20179 ${protocol}`,
  `203.0.113.0/24 20187 ${protocol}`,
  `2001:db8:51::7 20179 ${protocol}`,
  `2001:db8:60::/64 20243 ${protocol}`,
];
const wantedRules = (protocol = 201) => [
  `32701: not from all iif lo lookup 20179 proto ${protocol}`,
  `32716: not from all iif lo lookup 254 suppress_prefixlength 24 proto ${protocol}`,
  `32717: not from all iif lo lookup 20187 proto ${protocol}`,
  `32509: not from all iif lo lookup 20179 proto ${protocol}`,
  `32636: not from all iif lo lookup 254 suppress_prefixlength 64 proto ${protocol}`,
  `32637: not from all iif lo lookup 20243 proto ${protocol}`,
];
const become = (routes: string[], ways: string[]) =>
  expect
    .poll(() => world.later(() => [discards().sort(), rules().sort()]), { timeout: 10_000 })
    .toEqual([[...routes].sort(), [...ways].sort()]);

describe("discards for packets of others", () => {
  it("stand in tables of their own, each with the rule that leads there, while there is a prefix for it", async () => {
    const us = agent();
    us.speaker.changeNetworks(transit([...services, ...aggregates]));
    await become(wantedDiscards(), wantedRules());
    expect(us.speaker.snapshot().fib).toMatchObject({ installed: 4, failed: 0 });
    expect(us.speaker.explain("203.0.113.9").kernel.text).toContain("blackhole for packets of others (table 20187)");
    us.speaker.changeNetworks(without(aggregates));
    await become([wantedDiscards()[0], wantedDiscards()[2]], [wantedRules()[0], wantedRules()[3]]);
    us.speaker.changeNetworks(without(services));
    await become([], []);
  });

  it("change to one for all packets and back, without a trace of the other", async () => {
    const us = agent();
    const [prefix] = services;
    us.speaker.changeNetworks(transit([prefix]));
    await become([wantedDiscards()[0]], [wantedRules()[0]]);
    us.speaker.changeNetworks(new Map([[prefix, network(prefix, { discard: true })]]));
    await become(["198.51.100.7 254 201"], []);
    us.speaker.changeNetworks(transit([prefix]));
    await become([wantedDiscards()[0]], [wantedRules()[0]]);
  });

  it("outlive an agent; the next one takes them over, and removes those that it does not want", async () => {
    const before = agent();
    before.speaker.changeNetworks(transit([...services, ...aggregates]));
    await become(wantedDiscards(), wantedRules());
    await before.speaker.close({ graceful: false, flush: false });
    expect([discards().sort(), rules().sort()]).toEqual([wantedDiscards().sort(), wantedRules().sort()]);
    const after = agent();
    after.speaker.changeNetworks(transit([services[0]]));
    await world.run(1);
    expect(discards().sort()).toEqual(wantedDiscards().sort());
    await become([wantedDiscards()[0]], [wantedRules()[0]]);
    expect(after.speaker.snapshot().fib).toMatchObject({ adopted: 4, written: 0, failed: 0 });
    await expect.poll(() => places).toEqual([254, 20179].map(table => ({ table, protocol: 201 })));
  });

  it("go with a next agent that forwards nothing, and where the last one ends for good", async () => {
    const before = agent();
    before.speaker.changeNetworks(transit([...services, ...aggregates]));
    await become(wantedDiscards(), wantedRules());
    await before.speaker.close({ graceful: false, flush: false });
    const after = agent({ enabled: false });
    await become([], []);
    expect(places).toEqual([]);
    await after.speaker.close({ graceful: false, flush: false });
    const last = agent();
    last.speaker.changeNetworks(transit([...services, ...aggregates]));
    await become(wantedDiscards(), wantedRules());
    await last.speaker.close({ graceful: false, flush: true });
    expect([discards(), rules(), places]).toEqual([[], [], []]);
  });

  it("are found and removed by the places alone, rules without routes as well", async () => {
    const before = agent();
    before.speaker.changeNetworks(transit([...services, ...aggregates]));
    await become(wantedDiscards(), wantedRules());
    await before.speaker.close({ graceful: false, flush: false });
    ns.ip("route flush table 20187");
    const { netlink } = ns.kernel();
    const found = await leftRoutes(netlink, places, true);
    expect(found.sort((a, b) => a.table - b.table)).toEqual([
      { table: 20179, protocol: 201, routes: 2, rules: 2 },
      { table: 20187, protocol: 201, routes: 0, rules: 2 },
      { table: 20243, protocol: 201, routes: 1, rules: 2 },
    ]);
    expect([discards(), rules()]).toEqual([[], []]);
  });

  it("take another protocol number", async () => {
    const us = agent();
    us.speaker.changeNetworks(transit([...services, ...aggregates]));
    await become(wantedDiscards(), wantedRules());
    us.apply({ fib: { ...fib, protocol: 202 } });
    await become(wantedDiscards(202), wantedRules(202));
    expect(us.speaker.snapshot().fib?.failed).toBe(0);
    await expect.poll(() => places.every(({ protocol }) => protocol === 202)).toBe(true);
  });

  it("leave rules and routes of others alone, and come back where somebody removes them", async () => {
    ns.ip("rule add not iif lo lookup 20179 priority 32700 protocol 4");
    ns.ip("rule add from 10.9.0.0/16 lookup 20179 priority 32701 protocol 201");
    ns.ip("route add blackhole 192.0.2.0/24 table 20179 protocol 4");
    const foreign = [rules(), discards()];
    const us = agent();
    us.speaker.changeNetworks(transit([services[0]]));
    await become([wantedDiscards()[0], ...foreign[1]], [wantedRules()[0], ...foreign[0]]);
    ns.ip("rule delete not iif lo lookup 20179 priority 32701");
    ns.ip("route delete blackhole 198.51.100.7 table 20179");
    await become([wantedDiscards()[0], ...foreign[1]], [wantedRules()[0], ...foreign[0]]);
    us.speaker.changeNetworks(without([services[0]]));
    await become(foreign[1], foreign[0]);
  });

  it("are a problem where the kernel takes no rule, until it does", async () => {
    const kernel = ns.kernel();
    let refuses = true;
    const netlink = new Proxy(kernel.netlink, {
      get(target, name) {
        if (name === "addRule" && refuses) return () => throwing("Operation not supported");
        const found = target[name as keyof typeof target] as unknown;
        return typeof found === "function" ? found.bind(target) : found;
      },
    });
    const us = agent({}, { ...kernel, netlink });
    us.speaker.changeNetworks(transit([services[0]]));
    await become([wantedDiscards()[0]], []);
    expect(us.speaker.problems()).toMatchObject([
      { reason: "KernelRoutesMissing", message: "1 routes are not in the kernel; the last error: Operation not supported" },
    ]);
    refuses = false;
    await become([wantedDiscards()[0]], [wantedRules()[0]]);
    expect(us.speaker.problems()).toEqual([]);
  });
});

function throwing(text: string): never {
  throw new Error(text);
}
