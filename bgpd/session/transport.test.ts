/** Sessions over real TCP on the loopback device. Needs root for TCP MD5 and GTSM; what needs namespaces is in test/interop/session.test.ts. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { addressToUint32, parseAddress } from "../../net/address.ts";
import { systemClock } from "../../platform/clock.ts";
import type { NeighborConfig } from "../config.ts";
import { MessageFramer, MessageType } from "../message/header.ts";
import { KEEPALIVE } from "../message/keepalive.ts";
import { encodeOpen } from "../message/open.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import { BgpListener, LISTEN_RETRY } from "./listener.ts";
import { type AcceptingSession, createSession } from "./session.ts";
import { MemoryLog, neighborConfig, RecordingListener } from "./testing.ts";
import { explainFailure, hopLimits, tcpTransport } from "./transport.ts";

const root = process.getuid?.() === 0;
const END_OF_RIB = Uint8Array.of(...Array(16).fill(0xff), 0, 23, 2, 0, 0, 0, 0);
const cleanups: (() => unknown)[] = [];
let hosts = 0;

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** An address of 127/8 that no other test uses. */
function loopback(): string {
  return `127.${60 + (process.pid % 150)}.${(hosts >> 8) & 255}.${(hosts++ & 255) + 1}`;
}

/** A speaker with one neighbour and a listening socket of its own. */
class Speaker {
  readonly at: string;
  readonly asn: number;
  readonly events = new RecordingListener();
  readonly log = new MemoryLog();
  readonly bgp: BgpListener;
  session!: AcceptingSession;
  config!: NeighborConfig;

  constructor(asn: number, at = loopback()) {
    this.at = at;
    this.asn = asn;
    this.bgp = new BgpListener({ port: 0, addresses: [at], platform: { clock: systemClock, log: this.log } });
    this.bgp.start();
    cleanups.push(() => this.bgp.close());
  }

  get port(): number {
    return this.bgp.listening[0].port;
  }

  peerWith(other: { at: string; port: number }, change: Partial<NeighborConfig> = {}): this {
    const { at, asn } = this;
    this.config = neighborConfig({ address: other.at, port: other.port, localAddress: at, connectRetryTime: 1, ...change });
    this.session = createSession({
      config: this.config,
      localAsn: asn,
      localId: at.includes(":") ? asn : addressToUint32(parseAddress(at)),
      platform: { clock: systemClock, log: this.log },
      listener: this.events,
      transport: tcpTransport({ config: this.config, localAsn: asn, clock: systemClock }),
    });
    this.bgp.setNeighbors([{ config: this.config, localAsn: asn, session: this.session }]);
    cleanups.push(() => this.session.stop());
    return this;
  }

  get state(): string {
    return this.session.snapshot().state;
  }
}

function until(check: () => void, timeout = 10_000): Promise<void> {
  return vi.waitFor(check, { timeout, interval: 5 });
}

function bothUp(a: Speaker, b: Speaker): Promise<void> {
  return until(() => expect([a.state, b.state]).toEqual(["Established", "Established"]));
}

/** A neighbour made of octets on a real socket; the speaker connects to it. */
class RawNeighbour {
  readonly at = loopback();
  readonly messages: Uint8Array[] = [];
  readonly #server: Server;
  socket!: Socket;
  error: Error | undefined;
  ended = false;

  constructor() {
    this.#server = createServer(socket => {
      this.socket = socket;
      const framer = new MessageFramer(65535);
      socket.on("data", chunk => framer.push(chunk as Buffer, message => this.messages.push(Uint8Array.from(message))));
      socket.on("error", error => {
        this.error = error;
      });
      socket.on("end", () => {
        this.ended = true;
      });
    });
    cleanups.push(() => {
      this.socket?.destroy();
      this.#server.close();
    });
  }

  async listen(): Promise<this> {
    this.#server.listen(0, this.at);
    await once(this.#server, "listening");
    return this;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  get notifications(): string[] {
    return this.messages.filter(message => message[18] === MessageType.Notification).map(message => `${message[19]}/${message[20]}`);
  }

  open(asn = 65002): Uint8Array {
    const capabilities = { families: ["ipv4-unicast" as const], fourOctetAsn: true, routeRefresh: true };
    return encodeOpen({ asn, holdTime: 90, bgpId: addressToUint32(parseAddress(this.at)), capabilities });
  }

  /** The speaker's session with it is up. */
  async establish(speaker: Speaker): Promise<void> {
    speaker.session.start();
    await until(() => expect(this.messages.length).toBeGreaterThan(0));
    this.socket.write(this.open());
    this.socket.write(KEEPALIVE);
    await until(() => expect(speaker.state).toBe("Established"));
  }
}

describe("two sessions over TCP", () => {
  it("active and passive", async () => {
    const a = new Speaker(65001);
    const b = new Speaker(65002).peerWith(a, { passive: true });
    a.peerWith(b);
    b.session.start();
    a.session.start();
    await bothUp(a, b);
    expect(a.session.snapshot().negotiated).toMatchObject({ localAddress: parseAddress(a.at), remotePort: b.port });
    expect(b.session.snapshot().negotiated).toMatchObject({ localPort: b.port, remoteAddress: parseAddress(a.at) });
    expect(a.session.send(END_OF_RIB, 1)).toBe(true);
    await until(() => expect(b.events.updates).toEqual([END_OF_RIB]));
    await a.session.stop({ subcode: 2, message: "maintenance" });
    await until(() =>
      expect(b.events.downs.map(down => down.text)).toEqual(['neighbour sent Cease/Administrative Shutdown: "maintenance"']),
    );
  });

  it("over IPv6", async () => {
    const a = new Speaker(65001, "::1");
    const b = new Speaker(65002, "::1").peerWith(a, { passive: true });
    a.peerWith(b);
    b.session.start();
    a.session.start();
    await bothUp(a, b);
    expect(a.session.snapshot().negotiated?.remoteAddress).toEqual(parseAddress("::1"));
  });

  it("that both connect keep one connection", async () => {
    const a = new Speaker(65001);
    const b = new Speaker(65002).peerWith(a);
    a.peerWith(b);
    a.session.start();
    b.session.start();
    await bothUp(a, b);
    await until(() => {
      const [ours, theirs] = [a.session.snapshot().negotiated, b.session.snapshot().negotiated];
      expect(ours?.localPort).toBe(theirs?.remotePort);
      // b has the higher identifier.
      expect(theirs?.remotePort).toBe(a.port);
    });
  });

  it("with the same TCP MD5 key", async ({ skip }) => {
    if (!root) skip("TCP MD5 and GTSM need root");
    const a = new Speaker(65001);
    const b = new Speaker(65002).peerWith(a, { passive: true, password: "secret" });
    a.peerWith(b, { password: "secret" });
    b.session.start();
    a.session.start();
    await bothUp(a, b);
  });

  it("with different TCP MD5 keys stay down, say why, and come up when the key is mended", async ({ skip }) => {
    if (!root) skip("TCP MD5 and GTSM need root");
    const a = new Speaker(65001);
    const b = new Speaker(65002).peerWith(a, { passive: true, password: "wrong" });
    a.peerWith(b, { password: "secret" });
    b.session.start();
    a.session.start();
    await until(() =>
      expect(b.session.snapshot().reason).toMatch(/kernel dropped segments: \d+ with a wrong TCP MD5 signature: do the passwords differ/),
    );
    expect(a.state).toBe("Connect");
    b.bgp.setNeighbors([{ config: { ...b.config, password: "secret" }, localAsn: b.asn, session: b.session }]);
    await bothUp(a, b);
  });

  it("with GTSM on both sides", async ({ skip }) => {
    if (!root) skip("TCP MD5 and GTSM need root");
    const a = new Speaker(65001);
    const b = new Speaker(65002).peerWith(a, { passive: true, ttlSecurity: 1 });
    a.peerWith(b, { ttlSecurity: 1 });
    b.session.start();
    a.session.start();
    await bothUp(a, b);
  });

  it("with GTSM on one side only stay down, and say why", async ({ skip }) => {
    if (!root) skip("TCP MD5 and GTSM need root");
    const a = new Speaker(65001);
    const b = new Speaker(65002).peerWith(a, { passive: true, ttlSecurity: 1 });
    a.peerWith(b);
    b.session.start();
    a.session.start();
    await until(() =>
      expect(b.session.snapshot().reason).toMatch(/\d+ with a TTL below 255: the neighbour is further away or does not send 255/),
    );
    expect([a.state, b.state]).toEqual(["Connect", "Active"]);
  });
});

describe("a connection", () => {
  it("delivers its NOTIFICATION although input is unread", async () => {
    const raw = await new RawNeighbour().listen();
    const speaker = new Speaker(65001).peerWith(raw);
    await raw.establish(speaker);
    let stopped: Promise<void> | undefined;
    speaker.events.onUpdate = () => {
      stopped ??= speaker.session.stop({ subcode: 2 });
    };
    // More than a socket buffer takes: it cannot have been read when the session stops.
    const burst = new Uint8Array(END_OF_RIB.length * 200_000);
    for (let at = 0; at < burst.length; at += END_OF_RIB.length) burst.set(END_OF_RIB, at);
    raw.socket.write(burst);
    await until(() => expect(raw.notifications).toEqual(["6/2"]));
    raw.socket.end();
    await stopped;
    expect(raw.error).toBeUndefined();
    expect(speaker.events.updates).toHaveLength(1);
  });

  it("is closed after 2 s although the neighbour holds it open", async () => {
    const raw = await new RawNeighbour().listen();
    const speaker = new Speaker(65001).peerWith(raw);
    await raw.establish(speaker);
    raw.socket.allowHalfOpen = true;
    const start = performance.now();
    await speaker.session.stop();
    expect(performance.now() - start).toBeLessThan(3500);
    expect(raw.notifications).toEqual(["6/2"]);
  });

  it("holds a burst of 10 MB back from a slow reader, and loses none of it", async () => {
    const raw = await new RawNeighbour().listen();
    const speaker = new Speaker(65001).peerWith(raw);
    await raw.establish(speaker);
    const batch = new Uint8Array(END_OF_RIB.length * 2000);
    for (let at = 0; at < batch.length; at += END_OF_RIB.length) batch.set(END_OF_RIB, at);
    const batches = Math.ceil(10_000_000 / batch.length);
    let sent = 0;
    const pump = () => {
      while (sent < batches) {
        sent++;
        if (!speaker.session.send(batch.slice(), 2000)) return;
      }
    };
    speaker.events.onWritable = pump;
    raw.socket.pause();
    pump();
    const held = sent;
    expect(held).toBeLessThan(batches);
    raw.socket.resume();
    const updates = () => raw.messages.filter(message => message[18] === MessageType.Update).length;
    await until(() => expect(updates()).toBe(batches * 2000));
    expect(speaker.events.writables).toBeGreaterThan(0);
    expect(speaker.session.snapshot()).toMatchObject({ state: "Established", counters: { messagesOut: { update: batches * 2000 } } });
  });

  it("answers garbage with 1/1 and goes on with other things", async () => {
    const raw = await new RawNeighbour().listen();
    const speaker = new Speaker(65001).peerWith(raw);
    speaker.session.start();
    await until(() => expect(raw.messages).toHaveLength(1));
    raw.socket.write("GET / HTTP/1.1\r\nHost: example\r\n\r\n");
    await until(() => expect(raw.notifications).toEqual(["1/1"]));
    const { lastDown } = speaker.session.snapshot();
    expect(lastDown?.text).toContain("Connection Not Synchronized");
    expect(Buffer.from(lastDown?.offending ?? []).toString()).toContain("GET / HTTP/1.1");
  });

  it("notices the neighbour's end, and comes back", async () => {
    const raw = await new RawNeighbour().listen();
    const speaker = new Speaker(65001).peerWith(raw);
    await raw.establish(speaker);
    raw.socket.resetAndDestroy();
    await until(() => expect(speaker.events.downs).toHaveLength(1));
    expect(speaker.events.downs[0].text).toMatch(/reset the TCP connection/);
    raw.messages.length = 0;
    await until(() => expect(raw.messages.length).toBeGreaterThan(0));
  });
});

describe("an attempt that fails says why", () => {
  it("nobody listens", async () => {
    const raw = await new RawNeighbour().listen();
    const speaker = new Speaker(65001).peerWith({ at: raw.at, port: 1 });
    speaker.session.start();
    await until(() => expect(speaker.session.snapshot().lastDown?.text).toMatch(/connection refused: .* no BGP speaker listens there/));
    expect(speaker.session.snapshot().reason).toMatch(/; next attempt within 1 s, listening meanwhile$/);
  });

  it.each([
    [{ localAddress: "192.0.2.77" }, /the local address 192\.0\.2\.77 is not on this node/],
    [{ interface: "nosuch0" }, /this node has no interface "nosuch0"/],
  ])("%j", async (change, text) => {
    const raw = await new RawNeighbour().listen();
    const speaker = new Speaker(65001).peerWith(raw, change);
    speaker.session.start();
    await until(() => expect(speaker.session.snapshot().lastDown?.text).toMatch(text));
    expect(speaker.state).not.toBe("Idle");
  });

  it("knows the errors of TCP by name", () => {
    const config = neighborConfig({ address: "192.0.2.1" });
    const text = (code: string) => explainFailure(Object.assign(new Error("x"), { code }), config);
    expect(text("ENETUNREACH")).toBe("no route to 192.0.2.1 port 179: this node's table has none");
    expect(text("ETIMEDOUT")).toMatch(/does not acknowledge/);
    expect(text("EWHATEVER")).toBe("TCP to 192.0.2.1 port 179 failed: x");
  });
});

describe("TTL (RFC 5082)", () => {
  it.each([
    [{ remoteAsn: "external" as const }, { ttl: 1 }],
    [{ remoteAsn: 65009 }, { ttl: 1 }],
    [{ remoteAsn: 65009, multihop: 3 }, { ttl: 3 }],
    [{ remoteAsn: "internal" as const }, { ttl: 255 }],
    [{ remoteAsn: 65001 }, { ttl: 255 }],
    [
      { remoteAsn: 65009, ttlSecurity: 1 },
      { ttl: 255, minTtl: 255 },
    ],
    [
      { remoteAsn: 65009, ttlSecurity: 4 },
      { ttl: 255, minTtl: 252 },
    ],
  ])("%j", (change, limits) => {
    expect(hopLimits(neighborConfig({ address: "192.0.2.1", ...change }), 65001)).toEqual(limits);
  });
});

describe("the listening socket", () => {
  function client(speaker: Speaker, from: string): { socket: Socket; received: () => Buffer; closed: Promise<unknown> } {
    const socket = connect({ host: speaker.at, port: speaker.port, localAddress: from });
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("error", () => {});
    cleanups.push(() => socket.destroy());
    return { socket, received: () => Buffer.concat(chunks), closed: once(socket, "close") };
  }

  it("refuses a stranger with Cease/5, says so once, and not without limit", async () => {
    const speaker = new Speaker(65001).peerWith({ at: loopback(), port: 179 });
    speaker.session.start();
    const stranger = loopback();
    const clients = Array.from({ length: 40 }, () => client(speaker, stranger));
    await Promise.all(clients.map(({ closed }) => closed));
    const told = clients.filter(({ received }) => received().length === 21 && received()[19] === 6 && received()[20] === 5).length;
    // Ten in one second; the clients may have needed more than one.
    expect(told).toBeGreaterThanOrEqual(10);
    expect(told).toBeLessThan(40);
    expect(speaker.bgp.counters).toEqual({ accepted: 0, unknown: 40 });
    expect(speaker.log.lines).toContain(`warn connection from ${stranger} refused: it is no neighbour's address`);
  });

  it("follows the neighbours: one that was removed is a stranger", async () => {
    const neighbour = loopback();
    const speaker = new Speaker(65001).peerWith({ at: neighbour, port: 179 }, { passive: true });
    speaker.session.start();
    const known = client(speaker, neighbour);
    await until(() => expect(known.received()[18]).toBe(MessageType.Open));
    speaker.bgp.setNeighbors([]);
    const unknown = client(speaker, neighbour);
    await unknown.closed;
    expect(unknown.received()[19]).toBe(6);
    expect(speaker.bgp.counters).toEqual({ accepted: 1, unknown: 1 });
  });

  it("names a port that is in use, stops nothing else, and takes the port when it is free", async () => {
    const [first, second] = [loopback(), loopback()];
    const blocker = createServer();
    blocker.listen(0, first);
    await once(blocker, "listening");
    cleanups.push(() => blocker.close());
    const { port } = blocker.address() as { port: number };
    const clock = new FakeClock();
    const log = new MemoryLog();
    const bgp = new BgpListener({ port, addresses: [first, second], platform: { clock, log } });
    cleanups.push(() => bgp.close());
    bgp.start();
    await until(() => expect(bgp.problems()).toHaveLength(1));
    expect(bgp.problems()[0]).toBe(
      `port ${port} on ${first} is in use, probably by another BGP speaker: stop it, or set another listen port; trying again every ${LISTEN_RETRY} s`,
    );
    expect(bgp.listening).toEqual([{ address: second, port }]);
    clock.advance(LISTEN_RETRY * 1000);
    await until(() => expect(clock.pending).toBe(1));
    expect(log.lines).toHaveLength(1);
    await new Promise(resolve => blocker.close(resolve));
    clock.advance(LISTEN_RETRY * 1000);
    await until(() => expect(bgp.listening).toHaveLength(2));
    expect(bgp.problems()).toEqual([]);
  });

  it("names an address that is not on this node", async () => {
    const bgp = new BgpListener({ port: 0, addresses: ["192.0.2.77"], platform: { clock: new FakeClock(), log: new MemoryLog() } });
    bgp.start();
    expect(bgp.problems()[0]).toMatch(/^192\.0\.2\.77 is not an address of this node: add it, or remove it from the listen addresses/);
    await bgp.close();
  });
});

describe("a neighbour whose octets are dear", () => {
  it("is worked on for a few milliseconds in a turn, and loses no octet when it hangs up", async () => {
    const server = createServer();
    server.listen(0, loopback());
    await once(server, "listening");
    cleanups.push(() => server.close());
    const { address, port } = server.address() as { address: string; port: number };
    const config = neighborConfig({ address, port });
    // Each look at this clock is 4 ms later than the last one.
    let now = 0;
    const clock = { ...systemClock, monotonic: () => (now += 4) };
    const octets = Uint8Array.from({ length: 300_000 }, (_, n) => n % 251);
    server.once("connection", socket => socket.end(octets));
    const got: number[] = [];
    let turns = 0;
    let most = 0;
    let inTurn = 0;
    let counting = true;
    const nextTurn = () => {
      turns++;
      most = Math.max(most, inTurn);
      inTurn = 0;
      if (counting) setImmediate(nextTurn);
    };
    setImmediate(nextTurn);
    await new Promise<void>(resolve => {
      const handler = {
        opened() {},
        received: (chunk: Uint8Array) => {
          inTurn += chunk.length;
          got.push(...chunk);
        },
        writable() {},
        progressed() {},
        closed: () => resolve(),
      };
      tcpTransport({ config, localAsn: 65000, clock }).connect(handler);
    });
    counting = false;
    expect(Uint8Array.from(got)).toEqual(octets);
    // Two looks and a piece or two fit into 5 ms.
    expect(most).toBeLessThanOrEqual(2 * 2 * 8192);
    expect(turns).toBeGreaterThan(10);
  });
});
