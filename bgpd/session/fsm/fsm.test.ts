import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type SessionState, SessionStates } from "../types.ts";
import { createFsm, transition } from "./fsm.ts";
import { sendHoldTime } from "./transitions.ts";
import type { Fsm, FsmAction, FsmEvent, FsmSettings, FsmTimer } from "./types.ts";

const settings: FsmSettings = { passive: false, connectRetryTime: 30 };
const cease = { code: 6, subcode: 2, data: new Uint8Array() };
const violation = (code: number, subcode: number) => ({ error: { message: "bad", code, subcode, data: new Uint8Array() } });

/** One event of each kind, by the name used in the table. */
const events = {
  ManualStart: { type: "ManualStart", reason: "go" },
  ManualStop: { type: "ManualStop", reason: "stop", notification: cease },
  AutomaticStart: { type: "AutomaticStart", reason: "go" },
  ManualStartPassive: { type: "ManualStartPassive", reason: "go" },
  AutomaticStartPassive: { type: "AutomaticStartPassive", reason: "go" },
  AutomaticStop: { type: "AutomaticStop", reason: "stop", notification: { ...cease, subcode: 1 } },
  ConnectRetryTimerExpires: { type: "ConnectRetryTimerExpires" },
  HoldTimerExpires: { type: "HoldTimerExpires" },
  KeepaliveTimerExpires: { type: "KeepaliveTimerExpires" },
  TcpConnectionAcked: { type: "TcpConnectionAcked" },
  TcpConnectionConfirmed: { type: "TcpConnectionConfirmed" },
  TcpConnectionFails: { type: "TcpConnectionFails", reason: "reset" },
  BgpOpen: { type: "BgpOpen", holdTime: 90, keepaliveTime: 30, remoteId: 1, remoteAsn: 65001 },
  BgpHeaderErr: { type: "BgpHeaderErr", ...violation(1, 2) },
  BgpOpenMsgErr: { type: "BgpOpenMsgErr", ...violation(2, 2) },
  OpenCollisionDump: { type: "OpenCollisionDump", reason: "collision" },
  NotifMsgVerErr: { type: "NotifMsgVerErr", notification: { code: 2, subcode: 1, data: new Uint8Array() }, text: "version" },
  NotifMsg: { type: "NotifMsg", notification: cease, text: "Cease" },
  KeepAliveMsg: { type: "KeepAliveMsg" },
  UpdateMsg: { type: "UpdateMsg", message: new Uint8Array(23) },
  UpdateMsgErr: { type: "UpdateMsgErr", ...violation(3, 1) },
  RouteRefreshMsg: { type: "RouteRefreshMsg", message: new Uint8Array(23) },
  SendHoldTimerExpires: { type: "SendHoldTimerExpires" },
  SendProgress: { type: "SendProgress" },
} as const satisfies { [T in FsmEvent["type"]]: Extract<FsmEvent, { type: T }> };
type EventName = keyof typeof events;

function inState(state: SessionState): Fsm {
  const path: FsmEvent[] = {
    Idle: [],
    Connect: [events.ManualStart],
    Active: [events.ManualStartPassive],
    OpenSent: [events.ManualStart, events.TcpConnectionAcked],
    OpenConfirm: [events.ManualStart, events.TcpConnectionAcked, events.BgpOpen],
    Established: [events.ManualStart, events.TcpConnectionAcked, events.BgpOpen, events.KeepAliveMsg],
  }[state];
  const fsm = path.reduce((at, event) => transition(at, event)[0], createFsm(settings));
  expect(fsm.state).toBe(state);
  return fsm;
}

/** What was done, as one line: "stop connectRetry, SendOpen, start hold 240". Timers that stop on every way to Idle are not named. */
function summary([before, event]: [Fsm, FsmEvent]): string {
  const [after, actions] = transition(before, event);
  const toIdle = after.state === "Idle" && before.state !== "Idle";
  const words = actions
    .filter(action => !(toIdle && action.type === "StopTimer"))
    .filter(action => action.type !== "Down")
    .map(action => {
      if (action.type === "StartTimer") return `start ${action.timer} ${action.seconds}`;
      if (action.type === "StopTimer") return `stop ${action.timer}`;
      if (action.type === "Disconnect" && action.notification) {
        return `Disconnect with ${action.notification.code}/${action.notification.subcode}`;
      }
      return action.type;
    });
  const counted = after.connectRetryCounter > before.connectRetryCounter ? ["counter+1"] : [];
  return [after.state, ...words, ...counted].join(", ");
}

const ignoredInAll: EventName[] = ["ManualStart", "AutomaticStart", "ManualStartPassive", "AutomaticStartPassive"];

/** RFC 4271 section 8.2.2, state by state. "stay" = nothing happens. */
const table: Record<Exclude<SessionState, never>, Record<EventName, string>> = {
  Idle: {
    ...all("stay"),
    ManualStart: "Connect, start connectRetry 30, Connect",
    AutomaticStart: "Connect, start connectRetry 30, Connect",
    ManualStartPassive: "Active, start connectRetry 30",
    AutomaticStartPassive: "Active, start connectRetry 30",
  },
  Connect: {
    ...all("Idle, Disconnect, counter+1"),
    ...ignored(),
    ManualStop: "Idle, Disconnect",
    ConnectRetryTimerExpires: "Connect, Disconnect, start connectRetry 30, Connect",
    TcpConnectionAcked: "OpenSent, stop connectRetry, SendOpen, start hold 240",
    TcpConnectionConfirmed: "OpenSent, stop connectRetry, SendOpen, start hold 240",
    TcpConnectionFails: "Idle, Disconnect",
    NotifMsgVerErr: "Idle, Disconnect",
    SendProgress: "stay",
  },
  Active: {
    ...all("Idle, Disconnect, counter+1"),
    ...ignored(),
    ManualStop: "Idle, Disconnect",
    ConnectRetryTimerExpires: "Connect, start connectRetry 30, Connect",
    TcpConnectionAcked: "OpenSent, stop connectRetry, SendOpen, start hold 240",
    TcpConnectionConfirmed: "OpenSent, stop connectRetry, SendOpen, start hold 240",
    NotifMsgVerErr: "Idle, Disconnect",
    SendProgress: "stay",
  },
  OpenSent: {
    ...all("Idle, Disconnect with 5/1, counter+1"),
    ...ignored(),
    ManualStop: "Idle, Disconnect with 6/2",
    AutomaticStop: "Idle, Disconnect with 6/1, counter+1",
    HoldTimerExpires: "Idle, Disconnect with 4/0, counter+1",
    TcpConnectionAcked: "stay",
    TcpConnectionConfirmed: "stay",
    TcpConnectionFails: "Active, stop hold, Disconnect, start connectRetry 30",
    BgpOpen: "OpenConfirm, stop connectRetry, SendKeepalive, start keepalive 30, start hold 90",
    BgpHeaderErr: "Idle, Disconnect with 1/2, counter+1",
    BgpOpenMsgErr: "Idle, Disconnect with 2/2, counter+1",
    OpenCollisionDump: "Idle, Disconnect with 6/7, counter+1",
    NotifMsgVerErr: "Idle, Disconnect",
    NotifMsg: "Idle, Disconnect, counter+1",
    ConnectRetryTimerExpires: "Idle, Disconnect with 5/0, counter+1",
    KeepaliveTimerExpires: "Idle, Disconnect with 5/0, counter+1",
    SendHoldTimerExpires: "Idle, Disconnect with 5/0, counter+1",
    SendProgress: "stay",
  },
  OpenConfirm: {
    ...all("Idle, Disconnect with 5/2, counter+1"),
    ...ignored(),
    ManualStop: "Idle, Disconnect with 6/2",
    AutomaticStop: "Idle, Disconnect with 6/1, counter+1",
    HoldTimerExpires: "Idle, Disconnect with 4/0, counter+1",
    KeepaliveTimerExpires: "OpenConfirm, SendKeepalive, start keepalive 30",
    TcpConnectionAcked: "stay",
    TcpConnectionConfirmed: "stay",
    TcpConnectionFails: "Idle, Disconnect, counter+1",
    BgpHeaderErr: "Idle, Disconnect with 1/2, counter+1",
    BgpOpenMsgErr: "Idle, Disconnect with 2/2, counter+1",
    OpenCollisionDump: "Idle, Disconnect with 6/7, counter+1",
    NotifMsgVerErr: "Idle, Disconnect",
    NotifMsg: "Idle, Disconnect, counter+1",
    KeepAliveMsg: "Established, start hold 90, start sendHold 480, Established",
    ConnectRetryTimerExpires: "Idle, Disconnect with 5/0, counter+1",
    SendHoldTimerExpires: "Idle, Disconnect with 5/0, counter+1",
    SendProgress: "stay",
  },
  Established: {
    ...all("Idle, Disconnect with 5/3, counter+1"),
    ...ignored(),
    ManualStop: "Idle, Disconnect with 6/2",
    AutomaticStop: "Idle, Disconnect with 6/1, counter+1",
    HoldTimerExpires: "Idle, Disconnect with 4/0, counter+1",
    KeepaliveTimerExpires: "Established, SendKeepalive, start keepalive 30",
    TcpConnectionAcked: "stay",
    TcpConnectionConfirmed: "stay",
    TcpConnectionFails: "Idle, Disconnect, counter+1",
    BgpHeaderErr: "Idle, Disconnect with 1/2, counter+1",
    OpenCollisionDump: "Idle, Disconnect with 6/7, counter+1",
    NotifMsgVerErr: "Idle, Disconnect",
    NotifMsg: "Idle, Disconnect, counter+1",
    KeepAliveMsg: "Established, start hold 90",
    UpdateMsg: "Established, DeliverUpdate, start hold 90",
    UpdateMsgErr: "Idle, Disconnect with 3/1, counter+1",
    RouteRefreshMsg: "Established, DeliverRouteRefresh, start hold 90",
    ConnectRetryTimerExpires: "Idle, Disconnect with 5/0, counter+1",
    SendHoldTimerExpires: "Idle, Disconnect with 8/0, counter+1",
    SendProgress: "Established, start sendHold 480",
  },
};

function all(text: string): Record<EventName, string> {
  return Object.fromEntries(Object.keys(events).map(name => [name, text])) as Record<EventName, string>;
}

function ignored(): Partial<Record<EventName, string>> {
  return Object.fromEntries(ignoredInAll.map(name => [name, "stay"]));
}

describe("every event in every state (RFC 4271 section 8.2.2)", () => {
  for (const state of SessionStates) {
    for (const [name, event] of Object.entries(events) as [EventName, FsmEvent][]) {
      const wanted = table[state][name] === "stay" ? state : table[state][name];
      it(`${state} + ${name}: ${wanted}`, () => {
        expect(summary([inState(state), event])).toBe(wanted);
      });
    }
  }
});

describe("what the table does not show", () => {
  it("never connects when passive", () => {
    const passive = createFsm({ passive: true, connectRetryTime: 30 });
    expect(summary([passive, events.ManualStart])).toBe("Active");
    const [active] = transition(passive, events.AutomaticStartPassive);
    const types = Object.values(events).flatMap(event => transition(active, event)[1].map(action => action.type));
    expect(types).not.toContain("Connect");
  });

  it("runs neither hold nor keepalive nor send hold timer with hold time 0", () => {
    const [confirm, actions] = transition(inState("OpenSent"), { ...events.BgpOpen, holdTime: 0, keepaliveTime: 0 });
    expect(actions.map(action => action.type)).toEqual(["StopTimer", "SendKeepalive", "StopTimer"]);
    const [established, onUp] = transition(confirm, events.KeepAliveMsg);
    expect(onUp).toEqual([{ type: "Established" }]);
    for (const event of [events.UpdateMsg, events.KeepAliveMsg, events.SendProgress, events.KeepaliveTimerExpires]) {
      expect(transition(established, event)[1].filter(action => action.type === "StartTimer")).toEqual([]);
    }
  });

  it("jitters keepalive and connect retry, never hold", () => {
    const jittered = (fsm: Fsm, event: FsmEvent) =>
      transition(fsm, event)[1].flatMap(action => (action.type === "StartTimer" ? [[action.timer, action.jitter]] : []));
    expect(jittered(inState("Idle"), events.ManualStart)).toEqual([["connectRetry", true]]);
    const onOpen = jittered(inState("OpenSent"), events.BgpOpen);
    expect(onOpen).toEqual([
      ["keepalive", true],
      ["hold", false],
    ]); // prettier-ignore
  });

  it("leaves an interval of one second whole: a shorter one would break the limit of one KEEPALIVE per second", () => {
    const [confirm, actions] = transition(inState("OpenSent"), { ...events.BgpOpen, holdTime: 3, keepaliveTime: 1 });
    const [established] = transition(confirm, events.KeepAliveMsg);
    for (const each of [actions, transition(established, events.KeepaliveTimerExpires)[1]]) {
      expect(each).toContainEqual({ type: "StartTimer", timer: "keepalive", seconds: 1, jitter: false });
    }
  });

  it("computes the send hold time of RFC 9687", () => {
    expect(sendHoldTime(90)).toBe(480);
    expect(sendHoldTime(300)).toBe(600);
  });

  it("takes Cease and expired timers for no protocol error", () => {
    const cause = (event: FsmEvent) => transition(inState("Established"), event)[1].flatMap(a => (a.type === "Down" ? [a.cause] : []))[0];
    expect(cause(events.NotifMsg)).toBe("ended");
    expect(cause(events.HoldTimerExpires)).toBe("ended");
    expect(cause({ ...events.NotifMsg, notification: { code: 3, subcode: 1, data: new Uint8Array() } })).toBe("protocol");
    expect(cause(events.UpdateMsgErr)).toBe("protocol");
    expect(cause(events.TcpConnectionFails)).toBe("transport");
    expect(cause({ ...events.NotifMsg, notification: { ...cease, subcode: 7 } })).toBe("collision");
  });

  it("keeps the octets of an unexpected message", () => {
    const [, actions] = transition(inState("OpenConfirm"), { type: "UpdateMsg", message: Uint8Array.of(1, 2, 3) });
    const down = actions.find(action => action.type === "Down");
    expect(down?.type === "Down" && down.reason).toMatchObject({
      text: "unexpected UPDATE in OpenConfirm",
      offending: Uint8Array.of(1, 2, 3),
      notification: { code: 5, subcode: 2, direction: "sent" },
    });
  });
});

describe("any sequence of events", () => {
  const arbitraryEvent = fc.oneof(
    fc.constantFrom(...Object.values(events)),
    fc.record({
      type: fc.constant("BgpOpen" as const),
      holdTime: fc.constantFrom(0, 3, 90, 65535),
      keepaliveTime: fc.constantFrom(0, 1, 30),
      remoteId: fc.constant(1),
      remoteAsn: fc.constant(2),
    }),
  );

  it("keeps the invariants", () => {
    fc.assert(
      fc.property(fc.boolean(), fc.array(arbitraryEvent, { maxLength: 60 }), (passive, sequence) => {
        let fsm = createFsm({ passive, connectRetryTime: 30 });
        const running = new Set<FsmTimer>();
        let connected = false;
        for (const event of sequence) {
          const before = fsm.state;
          const [next, actions] = transition(fsm, event);
          fsm = next;
          if (next.state === "OpenSent" && before !== "OpenSent") connected = true;
          for (const action of actions) follow(action, running);
          for (const action of actions) {
            if (action.type === "Disconnect") connected = false;
            if (action.type === "DeliverUpdate" || action.type === "DeliverRouteRefresh")
              expect([before, next.state]).toEqual(["Established", "Established"]);
            if (action.type === "SendOpen") expect(next.state).toBe("OpenSent");
            if (action.type === "SendKeepalive") expect(["OpenConfirm", "Established"]).toContain(next.state);
            if (action.type === "Connect") expect([passive, next.state]).toEqual([false, "Connect"]);
            if (action.type === "Established") expect([before, next.state]).toEqual(["OpenConfirm", "Established"]);
            if (action.type === "Down") expect(action.reason.text).not.toBe("");
          }
          // A NOTIFICATION is the last octet of its connection: it goes out with the Disconnect.
          const cut = actions.findIndex(action => action.type === "Disconnect");
          if (cut >= 0) expect(actions.slice(cut).filter(action => action.type.startsWith("Send"))).toEqual([]);
          const left = before === "Established" && next.state !== "Established";
          expect(actions.some(action => action.type === "Down" && action.wasEstablished)).toBe(left);
          expect(next.reason).not.toBe("");
          if (next.state === "Idle" || next.state === "Active") expect(before === next.state || !connected).toBe(true);
          checkTimers(next, running);
        }
      }),
      { numRuns: 2000 },
    );
  });

  function follow(action: FsmAction, running: Set<FsmTimer>): void {
    if (action.type === "StartTimer") {
      expect(action.seconds).toBeGreaterThan(0);
      running.add(action.timer);
    }
    if (action.type === "StopTimer") running.delete(action.timer);
  }

  /** Exactly the timers that a state may have. */
  function checkTimers(fsm: Fsm, running: Set<FsmTimer>): void {
    const connectRetry: FsmTimer[] = fsm.settings.passive ? [] : ["connectRetry"];
    const keepalive: FsmTimer[] = fsm.keepaliveTime > 0 ? ["keepalive"] : [];
    const hold: FsmTimer[] = fsm.holdTime > 0 ? ["hold"] : [];
    const sendHold: FsmTimer[] = fsm.holdTime > 0 ? ["sendHold"] : [];
    const wanted: Record<SessionState, FsmTimer[]> = {
      Idle: [],
      Connect: connectRetry,
      Active: connectRetry,
      OpenSent: ["hold"],
      OpenConfirm: [...keepalive, ...hold],
      Established: [...keepalive, ...hold, ...sendHold],
    };
    expect([...running].sort()).toEqual(wanted[fsm.state].sort());
  }
});
