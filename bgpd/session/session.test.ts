import { describe, expect, it } from "vitest";
import { addressToUint32, parseAddress } from "../../net/address.ts";
import type { NeighborConfig } from "../config.ts";
import { MessageType } from "../message/header.ts";
import { KEEPALIVE } from "../message/keepalive.ts";
import { decodeNotification, describeNotification, encodeNotification } from "../message/notification.ts";
import { encodeOpen } from "../message/open.ts";
import { encodeRouteRefresh } from "../message/route-refresh.ts";
import { MessageError } from "../message/types.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import { type AcceptingSession, createSession, type SessionOptions } from "./session.ts";
import { type MemoryEnd, MemoryLog, MemoryNetwork, neighborConfig, RawPeer, RecordingListener } from "./testing.ts";

const HERE = "10.0.0.1";
const THERE = "10.0.0.2";
const END_OF_RIB = Uint8Array.of(...Array(16).fill(0xff), 0, 23, 2, 0, 0, 0, 0);

function wire(delay?: () => number) {
  const clock = new FakeClock();
  return { clock, network: new MemoryNetwork(clock, delay) };
}

function speaker(
  { clock, network }: ReturnType<typeof wire>,
  {
    at,
    to,
    asn,
    id = at,
    gracefulRestart,
    ...config
  }: { at: string; to: string; asn: number; id?: string; gracefulRestart?: SessionOptions["gracefulRestart"] } & Partial<NeighborConfig>,
) {
  const listener = new RecordingListener();
  const log = new MemoryLog();
  const session: AcceptingSession = createSession({
    config: neighborConfig({ address: to, ...config }),
    localAsn: asn,
    localId: addressToUint32(parseAddress(id)),
    platform: { clock, log },
    listener,
    transport: network.transport(parseAddress(at), parseAddress(to)),
    hostname: `host-${asn}`,
    gracefulRestart,
    random: () => 1,
  });
  network.listen(parseAddress(at), incoming => session.accept(incoming));
  return { session, listener, log };
}

/** Our session, and a neighbour made of octets that listens. */
function withRawPeer(config: Partial<NeighborConfig> = {}) {
  const net = wire();
  const us = speaker(net, { at: HERE, to: THERE, asn: 65001, ...config });
  const peers: RawPeer[] = [];
  net.network.listen(parseAddress(THERE), incoming => {
    const peer = new RawPeer();
    peer.wire = incoming.attach(peer);
    peers.push(peer);
  });
  const connectIn = () => {
    const peer = new RawPeer();
    peer.wire = net.network.transport(parseAddress(THERE), parseAddress(HERE)).connect(peer);
    net.clock.advance(5);
    return peer;
  };
  const send = (peer: RawPeer, ...messages: Uint8Array[]) => {
    for (const message of messages) peer.wire?.write(message);
    net.clock.advance(5);
  };
  return { ...net, ...us, peers, connectIn, send };
}

function open(change: { asn?: number; holdTime?: number; id?: string; extendedMessage?: boolean } = {}): Uint8Array {
  const { asn = 65002, holdTime = 90, id = "10.0.0.2", extendedMessage = false } = change;
  return encodeOpen({
    asn,
    holdTime,
    bgpId: addressToUint32(parseAddress(id)),
    capabilities: { families: ["ipv4-unicast"], fourOctetAsn: true, routeRefresh: true, extendedMessage },
  });
}

function established(config: Partial<NeighborConfig> = {}, theirs: Parameters<typeof open>[0] = {}) {
  const test = withRawPeer(config);
  test.session.start();
  test.clock.advance(5);
  const [peer] = test.peers;
  test.send(peer, open(theirs), KEEPALIVE);
  expect(test.session.snapshot().state).toBe("Established");
  return { ...test, peer };
}

describe("a connection beside an established session (RFC 4724 section 5)", () => {
  const capability = { restartTime: 120, restarted: false, forwarding: true };
  const theirs = (id = "10.0.0.2") =>
    encodeOpen({
      asn: 65002,
      holdTime: 90,
      bgpId: addressToUint32(parseAddress(id)),
      capabilities: {
        families: ["ipv4-unicast"],
        fourOctetAsn: true,
        routeRefresh: true,
        gracefulRestart: capability,
      },
    });

  /** A session on the connection that the neighbour opened, or on ours, for longer than two connections can cross. */
  function stable(passive: boolean) {
    const net = wire();
    const gracefulRestart = () => capability;
    const us = speaker(net, { at: HERE, to: THERE, asn: 65001, passive, gracefulRestart });
    const peers: RawPeer[] = [];
    net.network.listen(parseAddress(THERE), incoming => {
      const peer = new RawPeer();
      peer.wire = incoming.attach(peer);
      peers.push(peer);
    });
    const connectIn = () => {
      const peer = new RawPeer();
      peer.wire = net.network.transport(parseAddress(THERE), parseAddress(HERE)).connect(peer);
      net.clock.advance(5);
      return peer;
    };
    const send = (peer: RawPeer, ...messages: Uint8Array[]) => {
      for (const message of messages) peer.wire?.write(message);
      net.clock.advance(5);
    };
    us.session.start();
    net.clock.advance(5);
    const peer = passive ? connectIn() : peers[0];
    send(peer, theirs(), KEEPALIVE);
    net.clock.advance(61_000);
    send(peer, KEEPALIVE);
    return { ...net, ...us, peer, connectIn, send };
  }

  it.each([true, false])("leaves the session its own timers, octets and reasons (passive: %s)", passive => {
    const { session, listener, clock, peer, connectIn, send } = stable(passive);
    const stranger = connectIn();
    send(stranger, theirs("10.0.0.66"));
    expect(stranger.notifications).toEqual(["6/7"]);
    send(peer, END_OF_RIB, KEEPALIVE);
    expect(listener.updates).toEqual([END_OF_RIB]);
    const silent = connectIn();
    expect([session.snapshot().state, session.snapshot().lastDown, silent.ofType(MessageType.Open).length]).toEqual([
      "Established",
      undefined,
      1,
    ]);
    session.send(END_OF_RIB, 1);
    clock.advance(5);
    expect([peer.ofType(MessageType.Update).length, silent.ofType(MessageType.Update).length]).toEqual([1, 0]);
    // The hold timer is the session's: it ends by the neighbour's silence, not by that of the other connection.
    for (let elapsed = 0; elapsed < 300; elapsed += 30) {
      clock.advance(30_000);
      send(peer, KEEPALIVE);
    }
    expect([session.snapshot().state, listener.downs, silent.notifications]).toEqual(["Established", [], ["4/0"]]);
    clock.advance(100_000);
    expect([listener.downs.length, peer.notifications]).toEqual([1, ["4/0"]]);
  });

  it.each([true, false])("gives way to the neighbour's own OPEN, without a NOTIFICATION (passive: %s)", passive => {
    const { session, listener, clock, peer, connectIn, send } = stable(passive);
    const restarted = connectIn();
    expect(listener.downs).toEqual([]);
    send(restarted, theirs(), KEEPALIVE);
    expect([peer.notifications, listener.downs.length, listener.sessions.length]).toEqual([[], 1, 2]);
    send(restarted, END_OF_RIB);
    session.send(END_OF_RIB, 1);
    clock.advance(5);
    expect([session.snapshot().state, listener.updates.length, restarted.ofType(MessageType.Update).length]).toEqual(["Established", 1, 1]);
  });
});

describe("two sessions", () => {
  it("establish when one is passive", () => {
    const net = wire();
    const a = speaker(net, { at: HERE, to: THERE, asn: 65001 });
    const b = speaker(net, { at: THERE, to: HERE, asn: 65002, passive: true, holdTime: 30 });
    b.session.start();
    a.session.start();
    net.clock.advance(100);
    expect(a.listener.states).toEqual(["Connect", "OpenSent", "OpenConfirm", "Established"]);
    expect(b.listener.states).toEqual(["Active", "OpenSent", "OpenConfirm", "Established"]);
    const { negotiated, counters } = a.session.snapshot();
    expect(negotiated).toMatchObject({
      localAsn: 65001,
      remoteAsn: 65002,
      internal: false,
      remoteId: 0x0a000002,
      localId: 0x0a000001,
      holdTime: 30,
      keepaliveTime: 10,
      families: ["ipv4-unicast", "ipv6-unicast"],
      fourOctetAsn: true,
      routeRefresh: true,
      maxMessageLength: 65535,
      localAddress: parseAddress(HERE),
      remoteAddress: parseAddress(THERE),
      remotePort: 179,
    });
    expect(counters).toMatchObject({ connectAttempts: 1, establishedCount: 1, messagesIn: { open: 1, keepalive: 1 } });
    net.clock.advance(3_600_000);
    expect([a.listener.downs, b.listener.downs]).toEqual([[], []]);
    expect(net.network.connections).toBe(1);
  });

  it("exchange UPDATEs and refreshes, and hear why the other stops", async () => {
    const net = wire();
    const a = speaker(net, { at: HERE, to: THERE, asn: 65001, remoteAsn: "internal" });
    const b = speaker(net, { at: THERE, to: HERE, asn: 65001, remoteAsn: "internal", passive: true });
    b.session.start();
    a.session.start();
    expect(a.session.send(END_OF_RIB, 1)).toBe(false);
    net.clock.advance(100);
    expect(a.session.send(END_OF_RIB, 1)).toBe(true);
    a.session.sendRouteRefresh("ipv6-unicast");
    net.clock.advance(10);
    expect(b.listener.updates).toEqual([END_OF_RIB]);
    expect(b.listener.refreshes).toEqual(["ipv6-unicast/0"]);
    await a.session.stop({ subcode: 2, message: "upgrade" });
    net.clock.advance(10);
    const heard = b.session.snapshot();
    expect(heard.state).toBe("Active");
    expect(heard.lastDown).toMatchObject({
      text: 'neighbour sent Cease/Administrative Shutdown: "upgrade"',
      notification: { code: 6, subcode: 2, direction: "received" },
    });
    expect(b.listener.downs).toHaveLength(1);
    net.clock.advance(3_600_000);
    expect(a.session.snapshot()).toMatchObject({ state: "Idle", reason: 'administratively shut down: "upgrade"' });
    expect(a.listener.states.at(-1)).toBe("Idle");
  });

  it("come back after a reset", () => {
    const net = wire();
    const a = speaker(net, { at: HERE, to: THERE, asn: 65001 });
    const b = speaker(net, { at: THERE, to: HERE, asn: 65002 });
    a.session.start();
    b.session.start();
    net.clock.advance(3000);
    a.session.reset("hold time changed");
    net.clock.advance(10);
    expect(b.listener.downs[0]?.text).toBe('neighbour sent Cease/Administrative Reset: "hold time changed"');
    net.clock.advance(10_000);
    expect([a.session.snapshot().state, b.session.snapshot().state]).toEqual(["Established", "Established"]);
    expect(a.session.snapshot().lastDown?.text).toBe("reset: hold time changed");
  });

  it("notice an unplugged cable when the hold timer expires, and come back", () => {
    const net = wire();
    const a = speaker(net, { at: HERE, to: THERE, asn: 65001, holdTime: 9 });
    const b = speaker(net, { at: THERE, to: HERE, asn: 65002 });
    a.session.start();
    b.session.start();
    net.clock.advance(3000);
    net.network.unplugged = true;
    net.clock.advance(9001);
    expect(a.session.snapshot().lastDown).toMatchObject({
      text: "hold timer expired: nothing received for 9 s",
      notification: { code: 4, subcode: 0, direction: "sent" },
    });
    net.network.unplugged = false;
    net.clock.advance(60_000);
    expect([a.session.snapshot().state, b.session.snapshot().state]).toEqual(["Established", "Established"]);
  });
});

describe("an OPEN that does not fit", () => {
  it.each([
    [{ asn: 65009 }, { remoteAsn: 65002 }, "2/2", /Bad Peer AS: the neighbour is AS 65009; configured is 65002/],
    [{ holdTime: 1 }, {}, "2/6", /hold time 1 s/],
    [{ holdTime: 2 }, {}, "2/6", /hold time 2 s/],
    [{ id: "0.0.0.0" }, {}, "2/3", /BGP Identifier 0\.0\.0\.0/],
    [{ id: HERE, asn: 65001 }, { remoteAsn: "internal" as const }, "2/3", /our own BGP Identifier/],
  ])("%j gets %s %s", (theirs, ours, notification, text) => {
    const { session, clock, peers, send } = withRawPeer(ours);
    session.start();
    clock.advance(5);
    send(peers[0], open(theirs));
    expect(peers[0].notifications).toEqual([notification]);
    expect(peers[0].isClosed).toBeDefined();
    const { state, reason, lastDown } = session.snapshot();
    expect(state).toBe("Idle");
    expect(reason).toMatch(text);
    expect(lastDown?.offending).toEqual(open(theirs));
  });

  it("waits longer after each protocol error, and forgets when started again", () => {
    const { session, clock, peers, send, connectIn } = withRawPeer({ remoteAsn: 65002 });
    session.start();
    clock.advance(5);
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      send(peers[i], open({ asn: 65009 }));
      const failed = clock.monotonic();
      const refused = connectIn();
      expect(refused.notifications).toEqual(["6/5"]);
      while (peers.length === i + 1) clock.advance(clock.next ?? Number.NaN);
      clock.advance(5);
      waits.push(Math.round((clock.monotonic() - failed) / 1000));
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
    send(peers[8], open({ asn: 65009 }));
    session.start();
    clock.advance(5);
    expect(peers).toHaveLength(10);
  });
});

describe("timers of a session", () => {
  it("sends keepalives every third of the hold time and lives on them", () => {
    const { peer, send, clock, session } = established({ holdTime: 30 });
    const before = peer.ofType(MessageType.Keepalive).length;
    for (let i = 0; i < 10; i++) {
      clock.advance(9_996);
      send(peer, KEEPALIVE);
    }
    expect(peer.ofType(MessageType.Keepalive).length - before).toBe(10);
    expect(session.snapshot().state).toBe("Established");
  });

  it("counts UPDATEs as signs of life", () => {
    const { peer, send, clock, session } = established({ holdTime: 9 });
    for (let i = 0; i < 5; i++) {
      clock.advance(8_000);
      send(peer, END_OF_RIB);
    }
    expect(session.snapshot().state).toBe("Established");
    clock.advance(9_000);
    expect(peer.notifications).toEqual(["4/0"]);
  });

  it("lives without any with hold time 0", () => {
    const { peer, clock, session } = established({}, { holdTime: 0 });
    const before = peer.messages.length;
    clock.advance(86_400_000);
    expect(session.snapshot()).toMatchObject({ state: "Established", negotiated: { holdTime: 0, keepaliveTime: 0 } });
    expect(peer.messages.length).toBe(before);
  });

  it("waits 240 s for an OPEN", () => {
    const { session, clock, peers } = withRawPeer({ holdTime: 3 });
    session.start();
    clock.advance(5);
    clock.advance(239_000);
    expect(session.snapshot().state).toBe("OpenSent");
    clock.advance(1_000);
    expect(peers[0].notifications).toEqual(["4/0"]);
    expect(session.snapshot().lastDown?.text).toBe("hold timer expired: no OPEN within 240 s");
  });

  it("gives up a neighbour that takes nothing (RFC 9687), restarted by every octet taken", () => {
    const { peer, send, clock, session, log } = established({ holdTime: 90 });
    const alive = (seconds: number) => {
      for (let i = 0; i < seconds; i += 10) {
        clock.advance(9_995);
        send(peer, KEEPALIVE);
      }
    };
    const ours = (peer.wire as MemoryEnd).peer as MemoryEnd;
    ours.room = false;
    alive(470);
    ours.handler?.progressed();
    alive(470);
    expect(session.snapshot().state).toBe("Established");
    alive(20);
    expect(peer.notifications).toEqual(["8/0"]);
    expect(session.snapshot().lastDown?.text).toBe("send hold timer expired: the neighbour took nothing for 480 s");
    expect(log.lines.some(line => line.startsWith("warn session down: send hold"))).toBe(true);
  });

  it("tries again when a SYN is lost", () => {
    const { session, clock, network, peers } = withRawPeer({ connectRetryTime: 10 });
    network.lost = true;
    session.start();
    clock.advance(10_000);
    expect(session.snapshot()).toMatchObject({ state: "Connect", counters: { connectAttempts: 2 } });
    expect(session.snapshot().reason).toBe("no answer to the TCP connection within 10 s; connecting again");
    network.lost = false;
    clock.advance(10_005);
    expect(peers).toHaveLength(1);
  });

  it("does not punish a refused TCP connection: quick tries first, then every ConnectRetryTime", () => {
    const net = wire();
    const { session } = speaker(net, { at: HERE, to: "10.0.0.9", asn: 65001, connectRetryTime: 30 });
    session.start();
    const tries: number[] = [];
    for (let last = 0; tries.length < 8; net.clock.advance(100)) {
      const { connectAttempts } = session.snapshot().counters;
      if (connectAttempts > last) tries.push(Math.round(net.clock.monotonic() / 1000));
      last = connectAttempts;
    }
    expect(tries).toEqual([0, 1, 3, 7, 15, 31, 61, 91]);
    expect(session.snapshot().lastDown?.text).toBe("connection refused");
    net.clock.advance(100);
    expect(session.snapshot().reason).toBe("connection refused; next attempt within 30 s, listening meanwhile");
  });

  it("leaves none behind when stopped", async () => {
    for (const messages of [[], [open()], [open(), KEEPALIVE]]) {
      const { session, clock, peers, send } = withRawPeer();
      session.start();
      clock.advance(5);
      send(peers[0], ...messages);
      await session.stop();
      clock.advance(5);
      expect(clock.pending).toBe(0);
      expect(peers[0].notifications).toEqual(["6/2"]);
      expect(session.snapshot()).toMatchObject({ state: "Idle", reason: "administratively shut down" });
    }
  });
});

describe("what comes in Established", () => {
  it("passes a MessageError of the listener on as NOTIFICATION, with the UPDATE at fault", () => {
    const { listener, peer, send, session } = established();
    listener.onUpdate = () => {
      throw new MessageError("MP_REACH_NLRI twice", 3, 1);
    };
    send(peer, Buffer.concat([END_OF_RIB, END_OF_RIB]));
    expect(listener.updates).toHaveLength(1);
    expect(peer.notifications).toEqual(["3/1"]);
    expect(session.snapshot()).toMatchObject({
      state: "Idle",
      lastDown: {
        text: "sent UPDATE Message Error/Malformed Attribute List: MP_REACH_NLRI twice",
        offending: END_OF_RIB,
        notification: { code: 3, subcode: 1, direction: "sent" },
      },
    });
    expect(listener.downs).toHaveLength(1);
  });

  it("survives a listener with a defect: Cease, and a line in the log", () => {
    const { listener, peer, send, session, log } = established();
    listener.onUpdate = () => {
      throw new TypeError("x is not a function");
    };
    send(peer, END_OF_RIB);
    expect(peer.notifications).toEqual(["6/8"]);
    expect(session.snapshot()).toMatchObject({ state: "Idle", reason: expect.stringContaining("internal error: x is not a function") });
    expect(log.lines).toContain("error fault of podlane: a message: x is not a function");
  });

  it.each([
    ["a broken marker", Uint8Array.of(...Array(18).fill(0), 4), "1/1"],
    ["an unknown type", Uint8Array.of(...Array(16).fill(255), 0, 19, 9), "1/3"],
    ["a length of 18", Uint8Array.of(...Array(16).fill(255), 0, 18, 4), "1/2"],
    ["a length above 4096", Uint8Array.of(...Array(16).fill(255), 0x10, 1, 2), "1/2"],
    ["an OPEN", open(), "5/3"],
    ["a ROUTE-REFRESH of 24 octets", Uint8Array.of(...Array(16).fill(255), 0, 24, 5, 0, 1, 0, 1, 0), "7/1"],
  ])("%s ends the session", (_, octets, notification) => {
    const { peer, send, session } = established();
    send(peer, Buffer.concat([END_OF_RIB, octets]));
    expect(peer.notifications).toEqual([notification]);
    expect(session.snapshot().lastDown?.offending).toEqual(octets);
    expect(session.snapshot().state).toBe("Idle");
  });

  it("takes long messages only after both announced them", () => {
    const long = new Uint8Array(5000).fill(0);
    long.fill(255, 0, 16);
    long.set([5000 >> 8, 5000 & 255, 2], 16);
    const { peer, send, listener } = established({}, { extendedMessage: true });
    send(peer, long);
    expect(listener.updates[0]).toEqual(long);
  });

  it("ignores a refresh for a family that is not of the session", () => {
    const { peer, send, listener } = established();
    send(peer, encodeRouteRefresh("ipv6-unicast"), encodeRouteRefresh("ipv4-unicast"));
    expect(listener.refreshes).toEqual(["ipv4-unicast/0"]);
  });

  it("reports back-pressure and its end", () => {
    const { peer, session, listener } = established();
    const ours = (peer.wire as MemoryEnd).peer as MemoryEnd;
    ours.room = false;
    expect(session.send(END_OF_RIB, 1)).toBe(false);
    ours.handler?.writable();
    expect(listener.writables).toBe(1);
    expect(session.snapshot().counters.messagesOut.update).toBe(1);
  });

  it("stays away as long as fail() says", () => {
    const { peer, session, clock, peers, connectIn } = established();
    session.fail("more than 100 prefixes", { code: 6, subcode: 1, data: new Uint8Array() }, 30);
    clock.advance(29_000);
    expect(peer.notifications).toEqual(["6/1"]);
    expect(peers).toHaveLength(1);
    expect(session.snapshot()).toMatchObject({
      state: "Idle",
      reason: "more than 100 prefixes; held idle for another 1 s",
      nextAttempt: clock.now() + 1000,
    });
    expect(connectIn().notifications).toEqual(["6/5"]);
    clock.advance(1_000);
    expect(peers).toHaveLength(2);
  });

  it("stays away for ever with Infinity, until started again", () => {
    const { session, clock, peers } = established();
    session.fail("more than 100 prefixes", { code: 6, subcode: 1, data: new Uint8Array() }, Number.POSITIVE_INFINITY);
    clock.advance(86_400_000);
    expect(peers).toHaveLength(1);
    expect(session.snapshot().reason).toBe("more than 100 prefixes; held idle until it is reset or started again");
    expect(session.snapshot().nextAttempt).toBeUndefined();
    session.start();
    clock.advance(5);
    expect(peers).toHaveLength(2);
  });

  it.each([30, Number.POSITIVE_INFINITY])("a reset ends a hold-down (%s s)", seconds => {
    const { session, clock, peers } = established();
    session.fail("more than 100 prefixes", { code: 6, subcode: 1, data: new Uint8Array() }, seconds);
    clock.advance(1000);
    session.reset("tried again");
    clock.advance(5);
    expect(peers).toHaveLength(2);
  });

  it("a reset and a stop end the hold-down after a fault of our own that could not be ended in order", () => {
    for (const ending of ["reset", "stop"] as const) {
      const { session, listener, peer, send, clock, peers } = established();
      listener.onUpdate = () => {
        throw new Error("broken");
      };
      listener.down = () => {
        throw new Error("broken as well");
      };
      send(peer, END_OF_RIB);
      expect(session.snapshot()).toMatchObject({
        state: "Idle",
        reason: expect.stringMatching(/^internal error: broken as well; held idle for another 60 s$/),
        nextAttempt: expect.any(Number),
      });
      if (ending === "reset") session.reset("tried again");
      else void session.stop();
      clock.advance(5);
      expect(peers).toHaveLength(ending === "reset" ? 2 : 1);
      clock.advance(100_000);
      expect(session.snapshot().reason).not.toContain("internal error");
      expect(peers.length > 1).toBe(ending === "reset");
    }
  });

  it("says when the next attempt is made", () => {
    const { clock, network, session } = withRawPeer();
    network.lost = true;
    session.start();
    clock.advance(31_000);
    const { state, nextAttempt } = session.snapshot();
    expect([state, nextAttempt === undefined]).toEqual(["Connect", true]);
    network.lost = false;
    session.reset("once more");
    clock.advance(5);
    expect(session.snapshot().nextAttempt).toBeUndefined();
  });

  it("tries again soon after a neighbour's reset, without idle hold", () => {
    const { peer, send, clock, peers, session } = established();
    send(peer, encodeNotification(6, 4));
    expect(session.snapshot().reason).toBe("neighbour sent Cease/Administrative Reset; next attempt within 1 s, listening meanwhile");
    clock.advance(1_005);
    expect(peers).toHaveLength(2);
  });
});

describe("a neighbour that is shut down by configuration", () => {
  it("stays Idle with its message and tells it to whoever connects", () => {
    const { session, clock, peers, connectIn } = withRawPeer({ shutdown: { message: "rack move" } });
    session.start();
    clock.advance(600_000);
    expect(peers).toHaveLength(0);
    expect(session.snapshot()).toMatchObject({ state: "Idle", reason: 'administratively shut down: "rack move"' });
    expect(connectIn().notifications).toEqual(["6/2"]);
  });

  it("while it runs tells its message in every Cease, the last one that was given", async () => {
    const { session, clock, connectIn, send, peer } = established();
    const texts = (from: RawPeer) =>
      from
        .ofType(MessageType.Notification)
        .map(message => decodeNotification(message))
        .map(describeNotification);
    void session.stop({ subcode: 2, message: "upgrade" });
    clock.advance(5);
    expect(texts(peer)).toEqual(['Cease/Administrative Shutdown: "upgrade"']);
    expect(session.snapshot()).toMatchObject({ state: "Idle", reason: 'administratively shut down: "upgrade"' });
    for (let n = 0; n < 2; n++) expect(texts(connectIn())).toEqual(['Cease/Administrative Shutdown: "upgrade"']);
    void session.stop({ subcode: 2, message: "until Monday" });
    expect(texts(connectIn())).toEqual(['Cease/Administrative Shutdown: "until Monday"']);
    expect(session.snapshot().reason).toBe('administratively shut down: "until Monday"');
    session.start();
    const again = connectIn();
    send(again, open(), KEEPALIVE);
    expect([texts(again), session.snapshot().state]).toEqual([[], "Established"]);
  });
});

describe("connections that come in", () => {
  it("second one replaces a first without OPEN", () => {
    const { session, connectIn, send } = withRawPeer({ passive: true });
    session.start();
    const first = connectIn();
    const second = connectIn();
    expect(first.notifications).toEqual(["6/7"]);
    send(second, open(), KEEPALIVE);
    expect(session.snapshot().state).toBe("Established");
  });

  it("is refused with 6/7 while a session is up, and the session is probed", () => {
    const { clock, connectIn, peer, session } = established();
    clock.advance(2000);
    const keepalives = peer.ofType(MessageType.Keepalive).length;
    expect(connectIn().notifications).toEqual(["6/7"]);
    expect(connectIn().notifications).toEqual(["6/7"]);
    expect(peer.ofType(MessageType.Keepalive).length).toBe(keepalives + 1);
    expect(session.snapshot().state).toBe("Established");
  });

  it("takes over when ours never gets an answer", () => {
    const { session, clock, network, connectIn, send, peers } = withRawPeer();
    network.lost = true;
    session.start();
    clock.advance(100);
    network.lost = false;
    const peer = connectIn();
    send(peer, open(), KEEPALIVE);
    expect(session.snapshot().state).toBe("Established");
    clock.advance(85_000);
    expect(session.snapshot()).toMatchObject({ state: "Established", counters: { connectAttempts: 1 } });
    expect(peers).toHaveLength(0);
    send(peer, encodeNotification(6, 4));
    clock.advance(1_005);
    expect(peers).toHaveLength(1);
  });
});

describe("what both OPENs said", () => {
  it("is told with the session: octets as they went, capabilities decoded, ours as they were then", () => {
    let restarted = true;
    const net = wire();
    const gracefulRestart = () => ({ restarted, restartTime: 90, forwarding: true });
    const us = speaker(net, { at: HERE, to: THERE, asn: 65001, gracefulRestart });
    const peer = new RawPeer();
    net.network.listen(parseAddress(THERE), incoming => {
      peer.wire = incoming.attach(peer);
    });
    us.session.start();
    net.clock.advance(5);
    const [ours] = peer.ofType(MessageType.Open);
    const theirs = open({ holdTime: 30, extendedMessage: true });
    // What we would say now.
    restarted = false;
    peer.wire?.write(theirs);
    peer.wire?.write(KEEPALIVE.slice());
    net.clock.advance(5);
    expect(us.listener.sessions).toMatchObject([
      {
        localOpen: ours,
        remoteOpen: theirs,
        localCapabilities: { extendedMessage: true, gracefulRestart: { restarted: true, restartTime: 90 } },
        remoteCapabilities: { extendedMessage: true },
        holdTime: 30,
      },
    ]);
  });
});
