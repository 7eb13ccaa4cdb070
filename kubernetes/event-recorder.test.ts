/** What is told of much that happens. */
import { beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../bgpd/testing/fake-clock.ts";
import { quietLog } from "../platform/testing.ts";
import { EventRecorder, type Happening } from "./event-recorder.ts";
import { MemoryApi } from "./testing/memory-api.ts";
import { pass } from "./testing/turns.ts";
import { ApiError } from "./types.ts";

describe("Events", () => {
  let clock: FakeClock;
  let api: MemoryApi;
  let recorder: EventRecorder;
  const lost = (about: string, more: Partial<Happening> = {}): Happening => ({
    ...{ regarding: { apiVersion: "v1", kind: "Node", name: "n1" }, type: "Warning", reason: "SessionLost", action: "Peer" },
    ...{ about, note: `session with ${about} lost` },
    ...more,
  });
  const notes = () => api.take().map(({ verb, body }) => (verb === "create" ? body?.note : body?.series));

  beforeEach(() => {
    clock = new FakeClock();
    api = new MemoryApi();
    recorder = new EventRecorder({ controller: "podlane.io/agent", instance: "n1" }, { client: api, clock, log: quietLog });
  });

  test("are told each where they are few, as one where they are many", async () => {
    recorder.record(lost("a"));
    recorder.record(lost("b"));
    await pass(clock, 3_000);
    expect(notes()).toEqual(["session with a lost", "session with b lost"]);
    for (let i = 0; i < 5000; i++) recorder.record(lost(`n${i}`));
    await pass(clock, 3_000);
    expect(notes()).toEqual(["5000 × SessionLost: session with n0 lost; session with n1 lost; session with n2 lost; and 4997 more"]);
  });

  test("stand in the namespace of what they are about", async () => {
    recorder.record(lost("a"));
    recorder.record(lost("b", { regarding: { apiVersion: "v1", kind: "Service", namespace: "web", name: "front" } }));
    await pass(clock, 3_000);
    expect(api.take().map(({ path, body }) => [path, (body as { metadata?: { namespace?: string } }).metadata?.namespace])).toEqual([
      ["/apis/events.k8s.io/v1/namespaces/default/events", "default"],
      ["/apis/events.k8s.io/v1/namespaces/web/events", "web"],
    ]);
  });

  test("of one thing are a series, and a bucket bounds the rest", async () => {
    for (let i = 0; i < 10; i++) {
      recorder.record(lost("a"));
      await pass(clock, 10_000);
    }
    const first = notes();
    expect(first[0]).toBe("session with a lost");
    expect(first.at(-1)).toMatchObject({ count: 10 });
    for (let i = 0; i < 360; i++) {
      recorder.record(lost("a"));
      await pass(clock, 10_000);
    }
    expect(notes().length).toBeLessThan(16 + 13);
    expect(recorder.lost).toBeGreaterThan(300);
  });

  test("that cannot be written are lost, and a long note is cut", async () => {
    api.failure = new ApiError(403, "Forbidden", "403 no");
    recorder.record(lost("a"));
    await pass(clock, 3_000);
    expect(recorder.lost).toBe(1);
    api.failure = undefined;
    api.take();
    recorder.record(lost("a", { note: "ü".repeat(2000) }));
    await pass(clock, 3_000);
    expect(Buffer.byteLength(String(notes()[0]))).toBeLessThanOrEqual(1024);
    recorder.close();
    recorder.record(lost("b"));
    expect(clock.pending).toBe(0);
  });
});
