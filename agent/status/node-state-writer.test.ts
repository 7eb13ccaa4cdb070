/** When a NodeState is written, by a clock that the test turns. That it arrives is tested with a real server (test/kubernetes/status.test.ts). */
import { beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../../bgpd/testing/fake-clock.ts";
import { apiVersion } from "../../config/resources/common.ts";
import { MemoryApi } from "../../kubernetes/testing/memory-api.ts";
import { pass } from "../../kubernetes/testing/turns.ts";
import { ApiError } from "../../kubernetes/types.ts";
import { quietLog } from "../../platform/testing.ts";
import { NetworkCondition } from "./node-condition.ts";
import type { NodeReport } from "./node-state.ts";
import { NodeStateWriter } from "./node-state-writer.ts";
import { down, neighbor, nodeReport } from "./testing.ts";

const PATH = `/apis/${apiVersion}/nodestates/n1`;
const node = (uid: string, conditions: object[] = []) => ({ metadata: { name: "n1", uid }, status: { conditions } });

let clock: FakeClock;
let api: MemoryApi;
let report: NodeReport;
const parts = () => ({
  client: api as never,
  clock,
  log: quietLog,
  random: () => 0.5,
  report: () => report,
  serving: () => report.status.serving,
});

beforeEach(() => {
  clock = new FakeClock();
  api = new MemoryApi();
  report = nodeReport([neighbor("a"), neighbor("b")]);
});

describe("the writer of a NodeState", () => {
  let writer: NodeStateWriter;
  const writes = () => api.take().map(({ path }) => path.slice(PATH.length) || "object");
  const counted = (received: number) =>
    nodeReport([
      neighbor("a", { families: { "ipv4-unicast": { received, accepted: 0, rejected: 0, sent: 0, endOfRib: true, prefixLimit: 0 } } }),
      neighbor("b"),
    ]);

  beforeEach(async () => {
    writer = new NodeStateWriter("n1", parts());
    writer.nodeSeen(node("uid-1"));
    await pass(clock, 5_000);
  });

  test("makes the object, which goes with the Node, and then writes nothing while nothing changes", async () => {
    expect(writes()).toEqual(["object", "/status"]);
    const { metadata, status } = api.objects.get(PATH)!;
    expect(metadata.ownerReferences).toEqual([{ apiVersion: "v1", kind: "Node", name: "n1", uid: "uid-1" }]);
    expect(status).toMatchObject({ summary: { sessions: "2/2" }, conditions: [{ type: "Ready", status: "True" }, {}, {}] });
    for (let i = 0; i < 100; i++) {
      writer.changed();
      writer.nodeSeen(node("uid-1"));
      await pass(clock, 60_000);
    }
    expect(writes()).toEqual([]);
  });

  test("writes a lost session soon, one that flaps at most each 10 s, and when a condition last changed", async () => {
    const before = api.objects.get(PATH)!.status as { conditions: { lastTransitionTime: string }[] };
    writes();
    report = nodeReport([neighbor("a"), neighbor("b", down)]);
    writer.changed();
    await pass(clock, 3_000);
    expect(writes()).toEqual(["/status"]);
    const { conditions } = api.objects.get(PATH)!.status as { conditions: { lastTransitionTime: string }[] };
    expect(conditions[0]).toEqual(before.conditions[0]);
    expect(conditions[1]).toMatchObject({ status: "False" });
    expect(conditions[1].lastTransitionTime).not.toBe(before.conditions[1].lastTransitionTime);
    for (let i = 0; i < 600; i++) {
      report = nodeReport([neighbor("a"), neighbor("b", i % 2 === 0 ? {} : down)]);
      writer.changed();
      await pass(clock, 1_000);
    }
    expect(writes().length).toBeLessThanOrEqual(62);
  });

  test("writes counters alone each 5 minutes", async () => {
    writes();
    for (let i = 0; i < 60; i++) {
      report = counted(i);
      writer.changed();
      await pass(clock, 60_000);
    }
    const count = writes().length;
    expect(count).toBeGreaterThanOrEqual(8);
    expect(count).toBeLessThanOrEqual(12);
  });

  test("writes the present state once when the server is back, and asks it seldom meanwhile", async () => {
    writes();
    api.failure = new ApiError(0, "ECONNREFUSED", "connection refused");
    for (let i = 0; i < 60; i++) {
      report = nodeReport([neighbor("a"), neighbor("b", i % 2 === 0 ? {} : down)]);
      writer.changed();
      await pass(clock, 60_000);
    }
    expect(writes().length).toBeLessThan(90);
    api.failure = undefined;
    await pass(clock, 120_000);
    expect(writes()).toEqual(["/status"]);
    expect(api.objects.get(PATH)?.status).toMatchObject({ summary: { sessions: "1/2" } });
  });

  test("makes it again where somebody deleted it, and for a Node that was made again", async () => {
    writes();
    api.objects.delete(PATH);
    report = nodeReport([neighbor("a")]);
    writer.changed();
    await pass(clock, 60_000);
    expect(writes()).toEqual(["/status", "object", "/status"]);
    writer.nodeSeen(node("uid-2"));
    await pass(clock, 60_000);
    expect(writes()).toEqual(["object", "/status"]);
    expect(api.objects.get(PATH)?.metadata.ownerReferences).toMatchObject([{ uid: "uid-2" }]);
  });

  test("is no crash where kinds are not installed, and waits as long as the server says", async () => {
    writes();
    api.failure = new ApiError(429, "TooManyRequests", "429 busy", 20_000);
    report = nodeReport([]);
    writer.changed();
    await pass(clock, 21_000);
    expect(writes()).toEqual(["/status"]);
    api.failure = new ApiError(404, "NotFound", "404 the server could not find the requested resource");
    await pass(clock, 600_000);
    expect(writes().length).toBeLessThan(30);
    api.failure = undefined;
    await pass(clock, 120_000);
    expect(writes()).toEqual(["object", "/status"]);
    await writer.close();
    expect(clock.pending).toBe(0);
  });
});

describe("the condition NetworkUnavailable", () => {
  let condition: NetworkCondition;
  const ready = (is: boolean) => {
    report = nodeReport([], { ready: is });
    condition.look();
  };
  const written = () =>
    api.take().map(({ body }) => {
      const [{ type, status, reason }] = (body as { status: { conditions: Record<string, string>[] } }).status.conditions;
      return `${type} ${status} ${reason}`;
    });
  const known = (status: string) => node("uid-1", [{ type: "NetworkUnavailable", status, reason: "Somebody" }]);

  beforeEach(() => {
    condition = new NetworkCondition("n1", parts());
  });

  test("is written once where it is not known, and when it changes", async () => {
    ready(false);
    condition.nodeSeen(node("uid-1"));
    await pass(clock, 1_000);
    expect(written()).toEqual(["NetworkUnavailable True PodlaneIsNotReady"]);
    ready(true);
    await pass(clock, 1_000);
    expect(written()).toEqual(["NetworkUnavailable False PodlaneIsReady"]);
    condition.nodeSeen(known("False"));
    await pass(clock, 600_000);
    expect(written()).toEqual([]);
  });

  test("is not touched by an agent that is started anew", async () => {
    ready(false);
    condition.nodeSeen(known("False"));
    await pass(clock, 8_000);
    ready(true);
    await pass(clock, 60_000);
    expect(written()).toEqual([]);
    ready(false);
    await pass(clock, 9_000);
    expect(written()).toEqual([]);
    await pass(clock, 2_000);
    expect(written()).toEqual(["NetworkUnavailable True PodlaneIsNotReady"]);
  });

  test("is put back when somebody else changes it, without end but with bounds", async () => {
    ready(true);
    condition.nodeSeen(known("True"));
    await pass(clock, 1_000);
    expect(written()).toEqual(["NetworkUnavailable False PodlaneIsReady"]);
    for (let i = 0; i < 600; i++) {
      condition.nodeSeen(known("True"));
      await pass(clock, 1_000);
    }
    expect(written().length).toBeLessThan(20);
  });

  test("is tried again when the server refuses", async () => {
    api.failure = new ApiError(503, "", "503");
    ready(true);
    condition.nodeSeen(known("True"));
    await pass(clock, 600_000);
    expect(written().length).toBeLessThan(40);
    api.failure = undefined;
    await pass(clock, 60_000);
    expect(written()).toEqual(["NetworkUnavailable False PodlaneIsReady"]);
    await condition.close();
    expect(clock.pending).toBe(0);
  });
});
