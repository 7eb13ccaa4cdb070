/** Who leads when: with one Lease, any number of candidates, and a clock that the test turns. */
import { beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../bgpd/testing/fake-clock.ts";
import { quietLog } from "../platform/testing.ts";
import { Election } from "./election.ts";
import { MemoryApi } from "./testing/memory-api.ts";
import { pass } from "./testing/turns.ts";
import { ApiError } from "./types.ts";

const PATH = "/apis/coordination.k8s.io/v1/namespaces/podlane/leases/one";

describe("an election", () => {
  let clock: FakeClock;
  let api: MemoryApi;
  let log: string[];

  beforeEach(() => {
    clock = new FakeClock();
    api = new MemoryApi();
    log = [];
  });

  /** `offset`: by which its clock is wrong, milliseconds. `client`: its own way to the server. */
  function candidate(identity: string, { offset = 0, random = 0.5, client = api, nodes = 3 } = {}): Election {
    const options = {
      ...{ namespace: "podlane", name: "one", identity },
      candidates: () => nodes,
      started: () => void log.push(`${identity} starts`),
      stopped: () => void log.push(`${identity} stops`),
    };
    const own = { now: () => clock.now() + offset, monotonic: () => clock.monotonic(), after: clock.after.bind(clock) };
    const election = new Election(options, { client, clock: own, log: quietLog, random: () => random });
    election.start();
    return election;
  }

  test("has one winner, who renews; the others look now and then", async () => {
    const all = ["a", "b", "c"].map((name, i) => candidate(name, { random: 0.2 + i / 10 }));
    await pass(clock, 60_000);
    expect(log).toEqual(["a starts"]);
    expect(all.map(one => one.leading)).toEqual([true, false, false]);
    api.take();
    await pass(clock, 60_000);
    const requests = api.take();
    expect(requests.filter(({ verb }) => verb === "replace")).toHaveLength(12);
    // Of two candidates, with 10 s between looks on average, and two requests for each.
    expect(requests.filter(({ verb }) => verb === "get").length).toBeLessThan(30);
    expect(api.objects.get(PATH)?.metadata.annotations).toEqual({ "podlane.io/candidates": "3" });
  });

  test("of many is asked for by one of them each second on average, two times", async () => {
    candidate("a", { nodes: 5000, random: 0 });
    await pass(clock, 20_000);
    const other = candidate("b", { random: 0.5 });
    await pass(clock, 30_000);
    api.take();
    await pass(clock, 5000 * 1000);
    expect(other.leading).toBe(false);
    expect(api.take().filter(({ verb }) => verb === "get").length).toBeLessThanOrEqual(4);
  });

  test("is won by another one when the holder dies, whatever their clocks say", async () => {
    let cut: ApiError | undefined;
    const first = candidate("a", { random: 0, offset: 86_400_000, client: bound(api, () => cut) });
    await pass(clock, 1_000);
    const second = candidate("b", { random: 0.5, offset: -86_400_000 });
    await pass(clock, 120_000);
    expect([first.leading, second.leading]).toEqual([true, false]);
    cut = new ApiError(0, "ECONNREFUSED", "connection refused");
    await pass(clock, 10_000);
    expect(log).toEqual(["a starts", "a stops"]);
    expect(second.leading).toBe(false);
    await pass(clock, 30_000);
    expect(log).toEqual(["a starts", "a stops", "b starts"]);
    expect(api.objects.get(PATH)?.spec).toMatchObject({ holderIdentity: "b", leaseTransitions: 1 });
    // It comes back, and finds another holder.
    cut = undefined;
    await pass(clock, 60_000);
    expect([first.leading, second.leading]).toEqual([false, true]);
  });

  test("is given back at the end, and taken at the next look", async () => {
    const first = candidate("a", { random: 0 });
    await pass(clock, 1_000);
    const second = candidate("b");
    await pass(clock, 30_000);
    await first.close();
    expect(log).toEqual(["a starts", "a stops"]);
    expect(api.objects.get(PATH)?.spec).toMatchObject({ holderIdentity: "" });
    await pass(clock, 15_000);
    expect(second.leading).toBe(true);
  });

  test("is not lost by one renewal that fails, and ends where somebody else wrote his name", async () => {
    const first = candidate("a", { random: 0 });
    await pass(clock, 1_000);
    api.failure = new ApiError(503, "", "503 busy");
    await pass(clock, 6_000);
    api.failure = undefined;
    await pass(clock, 60_000);
    expect(log).toEqual(["a starts"]);
    // An annotation of somebody else is no change of the holder.
    const lease = structuredClone(api.objects.get(PATH)!);
    await api.replace(PATH, { ...lease, metadata: { ...lease.metadata, annotations: { note: "x" } } });
    await pass(clock, 20_000);
    expect(first.leading).toBe(true);
    const again = structuredClone(api.objects.get(PATH)!);
    await api.replace(PATH, { ...again, spec: { ...(again.spec as object), holderIdentity: "thief" } });
    await pass(clock, 10_000);
    expect(log).toEqual(["a starts", "a stops"]);
  });

  test("waits for a namespace that is not there, or a permission", async () => {
    api.failure = new ApiError(403, "Forbidden", "403 no");
    const one = candidate("a");
    await pass(clock, 60_000);
    expect(one.leading).toBe(false);
    expect(api.take().length).toBeLessThan(10);
    api.failure = undefined;
    await pass(clock, 20_000);
    expect(one.leading).toBe(true);
  });
});

/** The same server, reached by one who may be cut off. */
function bound(api: MemoryApi, failure: () => ApiError | undefined): MemoryApi {
  const through = (verb: "get" | "create" | "replace") =>
    (async (...args: [string, object]) => {
      const error = failure();
      if (error) throw error;
      return verb === "get" ? api.get(args[0]) : api[verb](...args);
    }) as never;
  return Object.assign(new MemoryApi(), { get: through("get"), create: through("create"), replace: through("replace") });
}
