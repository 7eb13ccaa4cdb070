import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addressToUint32, parseAddress } from "../../net/address.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import type { FsmEvent } from "./fsm/types.ts";
import {
  createNeighbor,
  type Direction,
  keptConnection,
  type Neighbor,
  type NeighborAction,
  type NeighborEvent,
  step,
} from "./neighbor.ts";
import { createSession } from "./session.ts";
import { MemoryLog, MemoryNetwork, neighborConfig, RecordingListener } from "./testing.ts";

const shutdown = { code: 6, subcode: 2, data: new Uint8Array() };

describe("which connection is kept (RFC 4271 section 6.8, RFC 6286)", () => {
  it.each([
    ["higher identifier: ours", { id: 2, asn: 1 }, { id: 1, asn: 9 }, "outgoing"],
    ["lower identifier: theirs", { id: 1, asn: 9 }, { id: 2, asn: 1 }, "incoming"],
    ["identifiers are unsigned", { id: 0xc0000001, asn: 1 }, { id: 0x0a000001, asn: 1 }, "outgoing"],
    ["equal identifiers, higher AS: ours", { id: 1, asn: 65002 }, { id: 1, asn: 65001 }, "outgoing"],
    ["equal identifiers, lower AS: theirs", { id: 1, asn: 65001 }, { id: 1, asn: 4200000000 }, "incoming"],
  ])("%s", (_, local, remote, kept) => {
    expect(keptConnection(local, remote)).toBe(kept);
  });
});

/** A neighbour with both connections in OpenSent. */
function bothOpenSent(localId: number): Neighbor {
  const settings = { passive: false, connectRetryTime: 30, localAsn: 65001, localId, shutdown };
  const events: NeighborEvent[] = [{ type: "Start" }, on("outgoing", { type: "TcpConnectionAcked" }), { type: "IncomingConnection" }];
  return run(createNeighbor(settings), events).neighbor;
}

function on(direction: Direction, event: FsmEvent): NeighborEvent {
  return { type: "Connection", direction, event };
}

function run(neighbor: Neighbor, events: NeighborEvent[]): { neighbor: Neighbor; actions: NeighborAction[] } {
  const all: NeighborAction[] = [];
  for (const event of events) {
    const [next, actions] = step(neighbor, event);
    neighbor = next;
    all.push(...actions);
  }
  return { neighbor, actions: all };
}

/** NOTIFICATIONs sent, "outgoing 6/7". */
function sent(actions: NeighborAction[]): string[] {
  return actions.flatMap(action => {
    if (action.type !== "Connection" || action.action.type !== "Disconnect" || !action.action.notification) return [];
    return [`${action.direction} ${action.action.notification.code}/${action.action.notification.subcode}`];
  });
}

const open: FsmEvent = { type: "BgpOpen", holdTime: 90, keepaliveTime: 30, remoteId: 100, remoteAsn: 65002 };
const keepalive: FsmEvent = { type: "KeepAliveMsg" };

/** All orders of two sequences that keep each in order. */
function interleavings<T>(a: T[], b: T[]): T[][] {
  if (a.length === 0 || b.length === 0) return [[...a, ...b]];
  return [...interleavings(a.slice(1), b).map(rest => [a[0], ...rest]), ...interleavings(a, b.slice(1)).map(rest => [b[0], ...rest])];
}

describe("two connections, all orders of OPEN and KEEPALIVE", () => {
  const orders = interleavings([on("outgoing", open), on("outgoing", keepalive)], [on("incoming", open), on("incoming", keepalive)]); // prettier-ignore
  for (const localId of [200, 50]) {
    for (const order of orders) {
      const text = order.map(event => (event.type === "Connection" ? `${event.direction} ${event.event.type}` : "")).join(", ");
      it(`${localId > 100 ? "dominant" : "not dominant"}: ${text}`, () => {
        const first = order[0].type === "Connection" ? order[0].direction : "outgoing";
        // The first is established before the second's OPEN: it stays. Else the dominant side's own is kept.
        const early = order[1].type === "Connection" && order[1].direction === first;
        const kept = early ? first : localId > 100 ? "outgoing" : "incoming";
        const { neighbor, actions } = run(bothOpenSent(localId), order);
        expect(neighbor.state).toBe("Established");
        expect(neighbor[kept]?.state).toBe("Established");
        expect(sent(actions)).toEqual([`${kept === "outgoing" ? "incoming" : "outgoing"} 6/7`]);
        expect(neighbor.incoming?.state).toBe(kept === "incoming" ? "Established" : undefined);
      });
    }
  }
});

describe("other orders", () => {
  it("does not look at a connection in OpenSent", () => {
    const { neighbor, actions } = run(bothOpenSent(50), [on("outgoing", open)]);
    expect([neighbor.outgoing.state, neighbor.incoming?.state]).toEqual(["OpenConfirm", "OpenSent"]);
    expect(sent(actions)).toEqual([]);
  });

  it("goes on with the other when the neighbour drops one", () => {
    const cease7: FsmEvent = { type: "NotifMsg", notification: { code: 6, subcode: 7, data: new Uint8Array() }, text: "Cease/7" };
    const { neighbor } = run(bothOpenSent(50), [on("outgoing", cease7), on("incoming", open), on("incoming", keepalive)]);
    expect([neighbor.state, neighbor.incoming?.state]).toEqual(["Established", "Established"]);
    expect(neighbor.failures).toBe(0);
  });

  it("stops connecting once the neighbour's connection is established", () => {
    const settings = { passive: false, connectRetryTime: 30, localAsn: 65001, localId: 1, shutdown };
    const { neighbor, actions } = run(createNeighbor(settings), [
      { type: "Start" },
      { type: "IncomingConnection" },
      on("incoming", open),
      on("incoming", keepalive),
    ]);
    expect([neighbor.outgoing.state, neighbor.incoming?.state]).toEqual(["Idle", "Established"]);
    expect(actions.at(-1)).toMatchObject({ type: "StateChanged", state: "Established" });
  });

  it("a wrong OPEN on one connection leaves the other alone while that lives", () => {
    const bad: FsmEvent = { type: "BgpOpenMsgErr", error: { message: "AS", code: 2, subcode: 2, data: new Uint8Array() } };
    const { neighbor } = run(bothOpenSent(50), [on("incoming", bad)]);
    expect([neighbor.outgoing.state, neighbor.idleHold]).toEqual(["OpenSent", undefined]);
    const both = run(neighbor, [on("outgoing", bad)]).neighbor;
    expect([both.outgoing.state, both.idleHold?.text]).toEqual([
      "Idle",
      "sent OPEN Message Error/Bad Peer AS: AS; held idle for about 2 s",
    ]);
  });
});

describe("a new connection from a neighbour whose session is established", () => {
  const capable: FsmEvent = { type: "BgpOpen", holdTime: 90, keepaliveTime: 30, remoteId: 100, remoteAsn: 65002, gracefulRestart: true };
  const stability: NeighborEvent = { type: "TimerExpires", timer: "stability" };
  const arrives: NeighborEvent = { type: "IncomingConnection" };

  function established(direction: Direction, openMessage: FsmEvent): Neighbor {
    const settings = { passive: direction === "incoming", connectRetryTime: 30, localAsn: 65001, localId: 1, shutdown };
    const tcp = direction === "outgoing" ? on("outgoing", { type: "TcpConnectionAcked" }) : arrives;
    return run(createNeighbor(settings), [{ type: "Start" }, tcp, on(direction, openMessage), on(direction, keepalive)]).neighbor;
  }

  it.each<Direction>(["outgoing", "incoming"])("replaces the %s one without a NOTIFICATION in graceful restart (RFC 4724)", direction => {
    const { neighbor, actions } = run(established(direction, capable), [
      stability,
      arrives,
      on("incoming", capable),
      on("incoming", keepalive),
    ]);
    const downs = actions.flatMap(action => (action.type === "Connection" && action.action.type === "Down" ? [action.action] : []));
    expect(downs.filter(down => down.wasEstablished)).toEqual([
      { type: "Down", cause: "transport", reason: { text: "the neighbour restarted: it opened a new connection" }, wasEstablished: true },
    ]);
    expect(sent(actions)).toEqual([]);
    const order = actions.map(action => action.type).filter(type => type === "Accept" || type === "Refuse");
    expect([neighbor.incoming?.state, neighbor.state, order]).toEqual(["Established", "Established", ["Accept"]]);
  });

  const bad: FsmEvent = { type: "BgpHeaderErr", error: { message: "marker", code: 1, subcode: 1, data: new Uint8Array() } };
  it.each<[string, FsmEvent[], string[]]>([
    ["brings nothing", [], []],
    ["ends again", [{ type: "TcpConnectionFails", reason: "closed" }], []],
    ["brings no OPEN in time", [{ type: "HoldTimerExpires" }], ["incoming 4/0"]],
    ["brings what is no BGP", [bad], ["incoming 1/1"]],
    ["brings an OPEN that is wrong", [{ ...bad, type: "BgpOpenMsgErr" }], ["incoming 1/1"]],
    ["brings the OPEN of another router", [{ ...capable, remoteId: 101 } as FsmEvent], ["incoming 6/7"]],
    ["brings the OPEN of another AS", [{ ...capable, remoteAsn: 65003 } as FsmEvent], ["incoming 6/7"]],
    ["brings an OPEN without graceful restart", [open], ["incoming 6/7"]],
  ])("that %s leaves the session alone", (_, events, notifications) => {
    for (const direction of ["outgoing", "incoming"] as const) {
      const before = run(established(direction, capable), [stability]).neighbor;
      const { neighbor, actions } = run(before, [arrives, ...events.map(event => on("incoming", event))]);
      const downs = actions.filter(action => action.type === "Connection" && action.action.type === "Down" && action.action.wasEstablished);
      expect([neighbor.state, downs, sent(actions)]).toEqual(["Established", [], notifications]);
      expect([neighbor.protocolErrors, neighbor.failures, neighbor.stable, neighbor.idleHold]).toEqual([0, 0, true, undefined]);
      // The next one that is right is taken, whatever there was before.
      const after = run(neighbor, [arrives, on("incoming", capable), on("incoming", keepalive)]).neighbor;
      expect([after.incoming?.state, after.outgoing.state]).toEqual(["Established", "Idle"]);
    }
  });

  it("is refused while it may be one of two that crossed, and where the neighbour knows no graceful restart", () => {
    for (const [before, events] of [
      [established("outgoing", capable), [arrives]],
      [established("outgoing", open), [stability, arrives]],
    ] as const) {
      const { neighbor, actions } = run(before, [...events]);
      expect([neighbor.state, actions.filter(action => action.type === "Refuse").length]).toEqual(["Established", 1]);
    }
  });

  it("is judged by the session that is there, not by one before it", () => {
    const again = run(established("incoming", capable), [
      stability,
      on("incoming", { type: "TcpConnectionFails", reason: "lost" }),
      arrives,
      on("incoming", capable),
      on("incoming", keepalive),
      arrives,
    ]);
    expect(again.actions.at(-1)?.type).not.toBe("Accept");
    expect(again.actions.filter(action => action.type === "Refuse").length).toBe(1);
  });
});

describe("any events for a neighbour", () => {
  const direction = fc.constantFrom<Direction>("outgoing", "incoming");
  const fsmEvent = fc.constantFrom<FsmEvent>(
    open,
    { ...open, gracefulRestart: true } as FsmEvent,
    keepalive,
    { type: "TcpConnectionAcked" },
    { type: "TcpConnectionFails", reason: "reset" },
    { type: "ConnectRetryTimerExpires" },
    { type: "HoldTimerExpires" },
    { type: "BgpOpenMsgErr", error: { message: "AS", code: 2, subcode: 2, data: new Uint8Array() } },
    { type: "NotifMsg", notification: { code: 6, subcode: 7, data: new Uint8Array() }, text: "Cease/7" },
    { type: "UpdateMsg", message: new Uint8Array(23) },
  );
  const cease = { code: 6, subcode: 2, data: new Uint8Array() };
  const arbitrary: fc.Arbitrary<NeighborEvent> = fc.oneof(
    { weight: 8, arbitrary: fc.record({ type: fc.constant("Connection" as const), direction, event: fsmEvent }) },
    { weight: 2, arbitrary: fc.constant<NeighborEvent>({ type: "IncomingConnection" }) },
    {
      weight: 1,
      arbitrary: fc.constantFrom<NeighborEvent>(
        { type: "Start" },
        { type: "Stop", reason: "stop", notification: cease },
        { type: "Reset", reason: "reset", notification: cease },
        { type: "Fail", reason: "limit", notification: cease, holdDown: 10 },
        { type: "Fail", reason: "limit", notification: cease, holdDown: Number.POSITIVE_INFINITY },
        { type: "TimerExpires", timer: "idleHold" },
        { type: "TimerExpires", timer: "stability" },
      ),
    },
  );

  it("never has two sessions, never forgets to try again, never leaks a timer", () => {
    fc.assert(
      fc.property(fc.boolean(), fc.constantFrom(50, 200), fc.array(arbitrary, { maxLength: 50 }), (passive, localId, events) => {
        let neighbor = createNeighbor({ passive, connectRetryTime: 30, localAsn: 65001, localId, shutdown });
        const timers = new Set<string>();
        for (const event of events) {
          const [next, actions] = step(neighbor, event);
          neighbor = next;
          for (const action of actions) {
            if (action.type === "StartTimer") timers.add(action.timer);
            if (action.type === "StopTimer") timers.delete(action.timer);
            if (action.type === "Promote") {
              const names = [...timers].filter(name => name.startsWith("incoming"));
              for (const name of names) timers.delete(name);
              for (const name of names) timers.add(name.replace("incoming", "outgoing"));
            }
            if (action.type !== "Connection") continue;
            if (action.action.type === "StartTimer") timers.add(`${action.direction} ${action.action.timer}`);
            if (action.action.type === "StopTimer") timers.delete(`${action.direction} ${action.action.timer}`);
          }
          if (event.type === "TimerExpires") timers.delete(event.timer);
          const states = [neighbor.outgoing.state, neighbor.incoming?.state];
          expect(states.filter(state => state === "Established").length).toBeLessThan(2);
          expect(states.filter(state => state === "OpenConfirm" || state === "Established").length).toBeLessThan(2);
          expect([undefined, "OpenSent", "OpenConfirm", "Established"]).toContain(neighbor.incoming?.state);
          if (!neighbor.started || neighbor.idleHold) expect([neighbor.state, neighbor.outgoing.state]).toEqual(["Idle", "Idle"]);
          else if (!neighbor.incoming) expect(neighbor.outgoing.state).not.toBe("Idle");
          if (event.type === "IncomingConnection") {
            const answers = actions.filter(action => action.type === "Accept" || action.type === "Refuse");
            expect(answers).toHaveLength(1);
          }
          if (neighbor.outgoing.state === "Idle") expect([...timers].filter(name => name.startsWith("outgoing"))).toEqual([]);
          if (!neighbor.incoming) expect([...timers].filter(name => name.startsWith("incoming"))).toEqual([]);
          expect(timers.has("stability") && neighbor.state !== "Established").toBe(false);
          expect(timers.has("idleHold") && neighbor.idleHold === undefined).toBe(false);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("two sessions that connect to each other at the same time", () => {
  function pair(options: { delays: number[]; jitter: number[]; ids: [string, string]; asns: [number, number] }) {
    const clock = new FakeClock();
    let turn = 0;
    const network = new MemoryNetwork(clock, () => options.delays[turn++ % options.delays.length]);
    const make = (index: 0 | 1) => {
      const [at, to] = index === 0 ? ["10.0.0.1", "10.0.0.2"] : ["10.0.0.2", "10.0.0.1"];
      const listener = new RecordingListener();
      let draw = index;
      const session = createSession({
        config: neighborConfig({ address: to, holdTime: 30 }),
        localAsn: options.asns[index],
        localId: addressToUint32(parseAddress(options.ids[index])),
        platform: { clock, log: new MemoryLog() },
        listener,
        transport: network.transport(parseAddress(at), parseAddress(to)),
        random: () => options.jitter[draw++ % options.jitter.length],
      });
      network.listen(parseAddress(at), wire => session.accept(wire));
      return { session, listener };
    };
    return { clock, network, a: make(0), b: make(1) };
  }

  it.each([
    ["the higher identifier", ["10.0.0.1", "10.0.0.2"], [65001, 65002], 1],
    ["the higher identifier", ["10.0.0.9", "10.0.0.2"], [65001, 65002], 0],
    ["the higher AS, identifiers being equal", ["10.0.0.9", "10.0.0.9"], [65001, 65002], 1],
  ] as const)("keep the connection opened by %s", (_, ids, asns, winner) => {
    const { clock, network, a, b } = pair({ delays: [5], jitter: [1], ids: [...ids], asns: [...asns] });
    a.session.start();
    b.session.start();
    clock.advance(1000);
    expect(network.connections).toBe(2);
    const ours = a.session.snapshot().negotiated;
    const theirs = b.session.snapshot().negotiated;
    expect([ours?.remotePort === 179, theirs?.remotePort === 179]).toEqual([winner === 0, winner === 1]);
    expect(a.listener.sessions.length + b.listener.sessions.length).toBe(2);
  });

  it("end with one session where each side had kept the other's connection, and equal delays would repeat that for ever", () => {
    const delays = [400, 1, 0, 399, 0, 1, 400, 400, 399, 1, 1, 1, 1, 400, 1, 16, 399];
    const { clock, a, b } = pair({ delays, jitter: [0], ids: ["10.0.0.3", "10.0.0.3"], asns: [65001, 65002] });
    a.session.start();
    clock.advance(744);
    b.session.start();
    clock.advance(30_000);
    expect(a.listener.downs.length + b.listener.downs.length).toBeGreaterThan(0);
    expect([a.session.snapshot().state, b.session.snapshot().state]).toEqual(["Established", "Established"]);
  });

  it("end with one stable session whatever the delays", () => {
    const id = fc.constantFrom("10.0.0.1", "10.0.0.2", "10.0.0.3");
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 30 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 7 }),
        fc.integer({ min: 0, max: 2000 }),
        id,
        id,
        (delays, jitter, lead, idA, idB) => {
          const { clock, a, b } = pair({ delays, jitter, ids: [idA, idB], asns: [65001, 65002] });
          a.session.start();
          clock.advance(lead);
          b.session.start();
          clock.advance(300_000);
          const before = [a.listener.downs.length, b.listener.downs.length];
          const [ours, theirs] = [a.session.snapshot(), b.session.snapshot()];
          expect([ours.state, theirs.state]).toEqual(["Established", "Established"]);
          expect(ours.negotiated?.localPort).toBe(theirs.negotiated?.remotePort);
          clock.advance(600_000);
          expect([a.listener.downs.length, b.listener.downs.length]).toEqual(before);
        },
      ),
      { numRuns: 300, interruptAfterTimeLimit: 20_000 },
    );
  });
});
