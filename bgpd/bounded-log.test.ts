import { expect, it } from "vitest";
import { boundedLog } from "./bounded-log.ts";
import { MemoryLog } from "./session/testing.ts";
import { FakeClock } from "./testing/fake-clock.ts";

it("lets a few lines of a kind through, then one each ten seconds with the number of those left out", () => {
  const clock = new FakeClock();
  const lines = new MemoryLog();
  const log = boundedLog(lines, clock);
  for (let second = 0; second < 100; second++) {
    for (let n = 0; n < 500; n++) log.info({}, `session down: received NOTIFICATION ${second}.${n}`);
    clock.advance(1000);
  }
  expect(lines.lines.length).toBeLessThanOrEqual(20 + 10);
  expect(lines.lines[19]).toBe("info session down: received NOTIFICATION 0.19");
  expect(lines.lines[20]).toBe("info session down: received NOTIFICATION 10.0 (and 4980 more lines like this within 10 s)");
});

it("tells kinds, levels and neighbours apart, and forgets after a quiet time", () => {
  const clock = new FakeClock();
  const lines = new MemoryLog();
  const log = boundedLog(lines, clock);
  for (let n = 0; n < 100; n++) log.info({}, `Active: refused ${n}`);
  log.info({}, "Established: KEEPALIVE received");
  log.warn({}, "Active: refused");
  log.child({ neighbor: "other" }).info({}, "Active: refused");
  expect(lines.lines.slice(20)).toEqual(["info Established: KEEPALIVE received", "warn Active: refused", "info Active: refused"]);
  clock.advance(300_000);
  for (let n = 0; n < 20; n++) log.info({}, `Active: refused ${n}`);
  expect(lines.lines).toHaveLength(43);
});
