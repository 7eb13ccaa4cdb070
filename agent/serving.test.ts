/** Whether a node serves pods, on a clock that the test moves. */
import { expect, test } from "vitest";
import type { SessionCounts } from "../bgpd/snapshot.ts";
import { FakeClock } from "../bgpd/testing/fake-clock.ts";
import type { ReadinessPlan } from "../config/plan.ts";
import type { Serving } from "./serving.ts";
import { ServingWatch } from "./serving-watch.ts";

const any: ReadinessPlan = { sessions: "Any", timeout: 30, holdDown: 60 };
const all: ReadinessPlan = { ...any, sessions: "All" };

/** A node with four sessions of which none is there yet. */
function node(policy: ReadinessPlan | undefined, first: Partial<SessionCounts> = {}) {
  const clock = new FakeClock();
  let sessions: SessionCounts = { wanted: 4, established: 0, complete: 0, adopted: false, ...first };
  let obstacle: string | undefined;
  const changes: Serving[] = [];
  const watch = new ServingWatch({
    clock,
    see: () => ({ policy, sessions }),
    obstacle: () => obstacle,
    changed: serving => changes.push(serving),
  });
  watch.look();
  return {
    clock,
    watch,
    changes,
    ready: () => watch.serving.ready,
    has(counts: Partial<SessionCounts>) {
      sessions = { ...sessions, ...counts };
      return watch.look().ready;
    },
    blocked(why: string | undefined) {
      obstacle = why;
      return watch.look();
    },
  };
}

const reasons = (watch: ServingWatch) => watch.problems().map(({ reason }) => reason);

test("without a plan nothing is served", () => {
  const watch = new ServingWatch({ clock: new FakeClock(), see: () => undefined, obstacle: () => undefined, changed: () => {} });
  expect(watch.look()).toEqual({ ready: false, reason: "there is no plan for this node yet", limited: false });
});

test.each<[string, ReadinessPlan | undefined, number]>([
  ["the usual", undefined, 1],
  ["Any", any, 1],
  ["All", all, 4],
  ["Percent 1", { ...any, sessions: "Percent", percent: 1 }, 1],
  ["Percent 50", { ...any, sessions: "Percent", percent: 50 }, 2],
  ["Percent 51", { ...any, sessions: "Percent", percent: 51 }, 3],
  ["Percent 100", { ...any, sessions: "Percent", percent: 100 }, 4],
])("%s: so many sessions must have sent their tables", (_name, policy, needed) => {
  const { has, changes, watch } = node(policy);
  expect(has({ established: 4 })).toBe(false);
  for (let complete = 0; complete <= 4; complete++) expect(has({ complete })).toBe(complete >= needed);
  expect(changes).toEqual([{ ready: true, reason: "the routes are in", limited: false }]);
  expect(watch.problems()).toEqual([]);
});

test("a single node waits for nobody", () => {
  expect(node(all, { wanted: 0 }).watch.serving).toEqual({ ready: true, reason: "no session is wanted", limited: false });
});

test("a single node goes on when the second one is announced and does not come", () => {
  const { has, clock, ready, watch } = node(any, { wanted: 0 });
  has({ wanted: 1 });
  clock.advance(3_600_000);
  expect(ready()).toBe(true);
  expect(watch.problems()).toEqual([]);
});

test("after the timeout the node serves without the rest, and says so until they are there", () => {
  const { has, clock, ready, watch } = node(all);
  has({ established: 3, complete: 3 });
  clock.advance(29_999);
  expect([ready(), reasons(watch)]).toEqual([false, []]);
  clock.advance(1);
  expect([ready(), reasons(watch)]).toEqual([true, ["RoutesLate"]]);
  expect(watch.problems()[0].message).toMatch(/^3 of 4 sessions .* 4 are needed .* after 30 s/);
  has({ established: 4, complete: 4 });
  expect([ready(), reasons(watch)]).toEqual([true, []]);
});

test("nobody there at all: it serves after the timeout, and is not lost for it", () => {
  const { clock, ready, watch, changes } = node(any);
  clock.advance(3_600_000);
  expect([ready(), reasons(watch), changes.length]).toEqual([true, ["RoutesLate"], 1]);
});

test("one dead router, or all but one, changes nothing, whatever the policy", () => {
  const { has, clock, ready, changes } = node(all);
  has({ established: 4, complete: 4 });
  has({ established: 3, complete: 3 });
  clock.advance(3_600_000);
  has({ established: 1, complete: 0 });
  clock.advance(3_600_000);
  expect([ready(), changes.length]).toEqual([true, 1]);
});

test("all sessions gone count after the hold-down; who comes back in between begins it anew", () => {
  const { has, clock, ready, watch } = node(any);
  has({ established: 4, complete: 4 });
  has({ established: 0, complete: 0 });
  clock.advance(59_999);
  has({ established: 1 });
  has({ established: 0 });
  clock.advance(59_999);
  expect(ready()).toBe(true);
  clock.advance(1);
  expect(watch.serving).toEqual({ ready: false, reason: "all 4 sessions are gone for more than 60 s", limited: true });
  expect(reasons(watch)).toEqual(["SessionsLost"]);
});

test("after a loss the routes must come in again, or the timeout pass", () => {
  const lost = () => {
    const one = node(any);
    one.has({ established: 4, complete: 4 });
    one.has({ established: 0, complete: 0 });
    one.clock.advance(60_000);
    return one;
  };
  const quick = lost();
  expect(quick.has({ established: 1 })).toBe(false);
  expect(quick.watch.serving.limited).toBe(true);
  expect(quick.has({ complete: 1 })).toBe(true);
  const slow = lost();
  slow.has({ established: 1 });
  slow.clock.advance(30_000);
  expect([slow.ready(), reasons(slow.watch)]).toEqual([true, ["RoutesLate"]]);
  const again = lost();
  again.has({ established: 1 });
  again.has({ established: 0 });
  again.clock.advance(3_600_000);
  expect([again.ready(), reasons(again.watch)]).toEqual([false, ["SessionsLost"]]);
});

test("an agent that follows another has its routes: it serves at once, and not for ever", () => {
  const { clock, ready, has, watch } = node(all, { adopted: true });
  expect(watch.serving).toMatchObject({ ready: true });
  clock.advance(59_999);
  expect(ready()).toBe(true);
  clock.advance(1);
  expect(watch.serving).toMatchObject({ ready: false, limited: true });
  expect(has({ established: 4, complete: 4 })).toBe(true);
});

test("pods that cannot be attached count at once, and only as long", () => {
  const { has, blocked, ready, changes } = node(any);
  has({ established: 1, complete: 1 });
  expect(blocked("no pod CIDR")).toEqual({ ready: false, reason: "no pod CIDR", limited: false });
  blocked(undefined);
  expect([ready(), changes.map(one => one.ready)]).toEqual([true, [true, false, true]]);
});

test("a closed watch has no timer", () => {
  const { watch, clock } = node(any);
  watch.close();
  expect(clock.pending).toBe(0);
});
