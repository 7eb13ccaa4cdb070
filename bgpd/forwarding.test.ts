/** Routes that move from one place in the kernel to another, with a real kernel and sessions in memory. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FibConfig } from "./config.ts";
import type { RoutePlace } from "./fib/route-places.ts";
import { TestNamespace } from "./fib/testing.ts";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const A = "10.0.0.1";
const B = "10.0.0.2";
const first: FibConfig = { enabled: true, table: 254, protocol: 201, metric: 50 };
const families = { "ipv4-unicast": accepting, "ipv6-unicast": accepting };

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

/** What B announces, and a pod range of ours with its discard route. */
const learned = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8:a::/48"];
const own = { ...network("10.244.1.0/24"), discard: true };

function agent(fib: FibConfig): MemorySpeaker {
  const memory = {
    read: () => places,
    write: (now: readonly RoutePlace[]) => {
      places = [...now];
    },
  };
  const neighbors = [neighborAt(B, 65001, { families })];
  const speaker = world.speaker(A, { asn: 65001, neighbors, networks: [own], fib, startupWait: 30 }, ns.kernel(), memory);
  speaker.apply();
  return speaker;
}

async function neighbour(): Promise<void> {
  const networks = learned.map(prefix => network(prefix, prefix.includes(":") ? { nextHop: "2001:db8::2" } : {}));
  world.speaker(B, { asn: 65001, neighbors: [neighborAt(A, 65001, { families })], networks }).apply();
}

/** "prefix table protocol metric" of all routes with a protocol number of ours. */
function routes(): string[] {
  const lines = [4, 6].flatMap(family => ns.ip(`-${family} -N -d route show table all`).split("\n"));
  return lines
    .flatMap(line => {
      const match = /^(\S+) (\S+) .*?(?:table (\d+) )?proto (20\d)\b.* metric (\d+)/.exec(line);
      return match ? [`${match[2] === "via" ? match[1] : match[2]} ${match[3] ?? 254} ${match[4]} ${match[5]}`] : [];
    })
    .sort();
}

const at = ({ table, protocol, metric }: FibConfig) =>
  [...learned.map(prefix => `${prefix} ${table} ${protocol} ${metric}`), `10.244.1.0/24 ${table} ${protocol} 4294967294`].sort();

const become = (expected: string[]) => expect.poll(() => world.later(routes), { timeout: 10_000 }).toEqual(expected);

const changes: [string, Partial<FibConfig>, string][] = [
  ["the table", { table: 1000 }, "table 1000, protocol 201, metric 50"],
  ["the protocol", { protocol: 202 }, "table 254, protocol 202, metric 50"],
  ["the metric", { metric: 60 }, "table 254, protocol 201, metric 60"],
  ["all three", { table: 1000, protocol: 202, metric: 60 }, "table 1000, protocol 202, metric 60"],
  ["protocol and metric", { protocol: 202, metric: 60 }, "table 254, protocol 202, metric 60"],
];

describe.each(changes)("a change of %s", (_what, change, text) => {
  const second = { ...first, ...change };

  it("moves the routes at once, the new ones before the old ones go, and back", async () => {
    await neighbour();
    const a = agent(first);
    await become(at(first));
    const events: string[] = [];
    const stop = ns.kernel(true).watch(batch => {
      for (const event of batch) {
        if (event.type !== "route" || ![201, 202].includes(event.route.protocol) || event.route.type !== "unicast") continue;
        const order = event.action === "new" ? event.order : "delete";
        events.push(`${event.action === "delete" ? "-" : order === "replace" ? "=" : "+"} ${event.route.destination.join(".")}`);
      }
    });
    expect(a.apply({ fib: second })).toEqual([`undefined: change: kernel routes move to ${text}`]);
    await become(at(second));
    for (const prefix of ["192.0.2.0", "198.51.100.0"]) {
      const seen = () => events.filter(line => line.endsWith(` ${prefix}`)).map(line => line[0]);
      await expect.poll(seen).toEqual(second.table === first.table && second.metric === first.metric ? ["="] : ["+", "-"]);
    }
    stop();
    expect(places).toEqual([{ table: second.table, protocol: second.protocol }]);
    a.apply({ fib: first });
    await become(at(first));
    expect(a.neighbor(B).counters.establishedCount).toBe(1);
  });

  it("over a restart: what the former agent left stays until the new one has its routes, and then goes", async () => {
    const before = agent(first);
    await neighbour();
    await become(at(first));
    await before.speaker.close({ graceful: false, flush: false });
    world.cut(B);
    world.network.lost = true;
    const after = agent(second);
    await world.run(2);
    expect(routes().filter(route => !route.startsWith("10.244."))).toEqual(at(first).filter(route => !route.startsWith("10.244.")));
    world.network.lost = false;
    await become(at(second));
    await expect.poll(() => places).toEqual([{ table: second.table, protocol: second.protocol }]);
    expect(after.speaker.snapshot().fib?.failed).toBe(0);
  });
});

describe("forwarding that is disabled", () => {
  it("takes the routes away at once, and writes them again when it is enabled", async () => {
    await neighbour();
    const a = agent(first);
    await become(at(first));
    expect(a.apply({ fib: { ...first, enabled: false } })).toEqual(["undefined: change: kernel routes removed: forwarding is disabled"]);
    await become([]);
    expect(places).toEqual([]);
    a.apply({ fib: first });
    await become(at(first));
    expect(a.neighbor(B).counters.establishedCount).toBe(1);
  });

  it("over a restart leaves nothing of the former agent", async () => {
    await neighbour();
    const before = agent(first);
    await become(at(first));
    await before.speaker.close({ graceful: false, flush: false });
    world.cut(B);
    agent({ ...first, enabled: false });
    await become([]);
    expect(places).toEqual([]);
  });
});

it("a flush takes along what is left at places from before", async () => {
  ns.ip("route add 203.0.113.0/24 via 10.0.0.9 table 1000 proto 202");
  places = [{ table: 1000, protocol: 202 }];
  const a = agent(first);
  await a.speaker.close({ graceful: true, flush: true });
  expect([routes(), places]).toEqual([[], []]);
});
