/** Graceful restart as a machine: what it does event by event, and what holds after any sequence of them. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Families } from "./family.ts";
import {
  isComplete,
  isRestarting,
  type NeighborGracefulRestart,
  noRestart,
  type RestartAction,
  type RestartEvent,
  type RestartState,
  restart,
  STALE_ROUTES_TIME,
} from "./graceful-restart.ts";

const both = ["ipv4-unicast", "ipv6-unicast"] as const;
const offer = (forwarding: boolean, restarted = false): NeighborGracefulRestart => ({
  restarted,
  notification: false,
  restartTime: 120,
  families: [
    { family: "ipv4-unicast", forwarding },
    { family: "ipv6-unicast", forwarding: false },
  ],
});
const lost = { text: "connection reset" };
const goodbye = { text: "", notification: { code: 6, subcode: 2, data: new Uint8Array(), direction: "received" as const } };

/** The actions of each event, in words. */
function life(...events: RestartEvent[]): { said: string[]; state: RestartState } {
  let state = noRestart;
  const said = events.map(event => {
    const [next, actions] = restart(state, event);
    state = next;
    return actions.map(words).join(", ");
  });
  return { said, state };
}

function words(action: RestartAction): string {
  if (action.type === "End") return action.keep ? "keep" : "end";
  if (action.type === "Purge") return `purge ${action.families.join(" ")}`;
  if (action.type === "StartTimer") return `wait ${action.seconds}`;
  return action.type === "Forget" ? `forget: ${action.reason}` : "stop";
}

const up = (value: NeighborGracefulRestart | undefined): RestartEvent => ({ type: "Up", families: both, offer: value });
const down = (reason: object): RestartEvent => ({ type: "Down", reason });
const end = (family: (typeof both)[number]): RestartEvent => ({ type: "EndOfRib", family });

describe("event by event", () => {
  test.each<[string, RestartEvent[], string[]]>([
    ["one that takes no part", [up(undefined), down(lost)], ["", "end, stop"]],
    ["one that says goodbye", [up(offer(true)), down(goodbye)], ["", "end, stop"]],
    [
      "away and back, having forwarded one family",
      [up(offer(true)), down(lost), up(offer(true, true)), end("ipv4-unicast"), end("ipv6-unicast")],
      [
        "",
        "keep, stop, purge , wait 120",
        `stop, purge ipv6-unicast, wait ${STALE_ROUTES_TIME}`,
        "purge ipv4-unicast",
        "purge ipv6-unicast",
      ],
    ],
    [
      "away for good",
      [up(offer(true)), down(lost), { type: "TimerExpires" }],
      ["", "keep, stop, purge , wait 120", "stop, forget: the neighbour did not come back in time"],
    ],
    [
      "back, and never through with its table",
      [up(offer(true)), down(lost), up(offer(true)), { type: "TimerExpires" }],
      ["", "keep, stop, purge , wait 120", `stop, purge ipv6-unicast, wait ${STALE_ROUTES_TIME}`, `purge ${Families.join(" ")}`],
    ],
    [
      "away, and its link as well",
      [up(offer(true)), down(lost), { type: "Lost", reason: "no carrier" }],
      ["", "keep, stop, purge , wait 120", "stop, forget: no carrier"],
    ],
  ])("%s", (_, events, said) => {
    expect(life(...events).said).toEqual(said);
  });

  test("who restarts, and who has said all", () => {
    const { state } = life(up(offer(true, true)), end("ipv4-unicast"));
    expect([isRestarting(state), isComplete(state)]).toEqual([true, false]);
    expect(isComplete(restart(state, end("ipv6-unicast"))[0])).toBe(true);
    expect([isRestarting(life(down(lost)).state), isComplete(noRestart)]).toEqual([false, false]);
  });
});

test("after any events: stale routes are kept only where a timer will end them, and no timer runs for nothing", () => {
  const event = fc.oneof(
    fc.constantFrom<RestartEvent>(up(offer(true)), up(offer(false)), up(offer(true, true)), up(undefined), down(lost), down(goodbye)),
    fc.constantFrom<RestartEvent>(end("ipv4-unicast"), end("ipv6-unicast"), { type: "TimerExpires" }, { type: "Lost", reason: "x" }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), events => {
      let state = noRestart;
      let timer = false;
      for (const one of events) {
        // A session comes up once, and a timer expires where one runs.
        const there = state.phase === "up" || state.phase === "back";
        if ((one.type === "Up" && there) || (one.type === "TimerExpires" && !timer)) continue;
        if (one.type === "TimerExpires") timer = false;
        const [next, actions] = restart(state, one);
        for (const { type } of actions) {
          if (type === "StopTimer") timer = false;
          if (type === "StartTimer") {
            expect(timer).toBe(false);
            timer = true;
          }
        }
        state = next;
        const stale = Object.values(state.families).some(family => family.stale);
        if (stale) expect([timer, ["kept", "back"]]).toEqual([true, expect.arrayContaining([state.phase])]);
        if (state.phase === "kept") expect(timer).toBe(true);
        if (state.phase === "down") expect([timer, stale]).toEqual([false, false]);
      }
    }),
    { numRuns: 500 },
  );
});
