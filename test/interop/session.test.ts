/** Sessions with the real FRR, BIRD, GoBGP and OpenBGPD, and what needs namespaces: routers between, cables that fail. */
import { spawn } from "node:child_process";
import { Socket } from "node:net";
import { join } from "node:path";
import { beforeEach, describe, expect, it, type TestContext, vi } from "vitest";
import type { NeighborConfig } from "../../bgpd/config.ts";
import { MessageType } from "../../bgpd/message/header.ts";
import { KEEPALIVE } from "../../bgpd/message/keepalive.ts";
import { encodeOpen } from "../../bgpd/message/open.ts";
import { BgpListener } from "../../bgpd/session/listener.ts";
import { type AcceptingSession, createSession } from "../../bgpd/session/session.ts";
import { MemoryLog, neighborConfig, RecordingListener } from "../../bgpd/session/testing.ts";
import { tcpTransport } from "../../bgpd/session/transport.ts";
import { openTcpSocket } from "../../kernel/index.ts";
import { addressToUint32, parseAddress } from "../../net/address.ts";
import { systemClock } from "../../platform/clock.ts";
import { missing, type Neighbour, startBird, startFrr, startGobgp, startOpenbgpd } from "../neighbours.ts";
import { TestNetwork } from "../network.ts";

const noRoot = process.getuid?.() === 0 ? undefined : "network namespaces need root";
/** A test that runs, and what ends with it, the last first: tests run beside each other here, since most of their time they wait for timers. */
type Ends = Pick<TestContext, "onTestFinished">;

const US = "10.0.0.1";
const THEM = "10.0.0.2";
const LL_US = "fe80::a";
const LL_THEM = "fe80::b";

/** Our namespace and the neighbour's on one cable. */
function cable(ends: Ends): { network: TestNetwork; us: string; them: string } {
  const network = new TestNetwork();
  ends.onTestFinished(() => network.dispose());
  const us = network.namespace("us");
  const them = network.namespace("them");
  network.link(
    { namespace: us, device: "eth0", addresses: [`${US}/24`, `${LL_US}/64`] },
    { namespace: them, device: "eth0", addresses: [`${THEM}/24`, `${LL_THEM}/64`] },
  );
  return { network, us, them };
}

interface Ours {
  session: AcceptingSession;
  events: RecordingListener;
  log: MemoryLog;
  bgp: BgpListener;
}

/** Our side: AS 65001 with one neighbour, which is AS 65002 unless the test says otherwise. */
function speaker(ends: Ends, network: TestNetwork, namespace: string, change: Partial<NeighborConfig> = {}): Ours {
  const netns = network.path(namespace);
  const config = neighborConfig({ address: THEM, remoteAsn: 65002, connectRetryTime: 1, holdTime: 9, ...change });
  const log = new MemoryLog();
  const platform = { clock: systemClock, log };
  const events = new RecordingListener();
  const transport = tcpTransport({ config, localAsn: 65001, clock: systemClock, netns });
  const localId = addressToUint32(parseAddress(US));
  const session = createSession({ config, localAsn: 65001, localId, platform, listener: events, transport, hostname: "us" });
  const bgp = new BgpListener({ port: 179, platform, netns });
  bgp.setNeighbors([{ config, localAsn: 65001, session }]);
  bgp.start();
  expect(bgp.problems()).toEqual([]);
  ends.onTestFinished(() => bgp.close());
  ends.onTestFinished(() => session.stop());
  session.start();
  return { session, events, log, bgp };
}

/** Skips a test that cannot run here, with the reason. */
function need(skip: (note?: string) => never, why: string | undefined): void {
  if (why !== undefined) skip(why);
}

function until(check: () => void, timeout = 15_000): Promise<void> {
  return vi.waitFor(check, { timeout, interval: 20 });
}

function up({ session }: Ours): Promise<void> {
  return until(() => expect([session.snapshot().state, session.snapshot().reason]).toEqual(["Established", expect.anything()]));
}

interface Want {
  /** AS the daemon is, and the one it believes us to be. */
  asn?: number;
  remoteAsn?: number;
  passive?: boolean;
  password?: string;
  gtsm?: boolean;
}

interface Daemon {
  name: "frr" | "bird" | "gobgp" | "openbgpd";
  start(namespace: string, want: Want): Promise<Neighbour>;
}

const frr: Daemon = {
  name: "frr",
  start: (namespace, { asn = 65002, remoteAsn = 65001, passive, password, gtsm }) =>
    startFrr(
      namespace,
      [
        `router bgp ${asn}`,
        ` bgp router-id ${THEM}`,
        " no bgp ebgp-requires-policy",
        " timers bgp 3 9",
        ` neighbor ${US} remote-as ${remoteAsn}`,
        ` neighbor ${US} timers connect 1`,
        passive ? ` neighbor ${US} passive` : "",
        password ? ` neighbor ${US} password ${password}` : "",
        gtsm ? ` neighbor ${US} ttl-security hops 1` : "",
      ].join("\n"),
    ),
};

const bird: Daemon = {
  name: "bird",
  start: (namespace, { asn = 65002, remoteAsn = 65001, passive, password, gtsm }) =>
    startBird(
      namespace,
      `router id ${THEM}; protocol device {}
       protocol bgp peer1 {
         local ${THEM} as ${asn}; neighbor ${US} as ${remoteAsn}; connect retry time 1; connect delay time 1; error wait time 1, 5;
         ${passive ? "passive on;" : ""} ${password ? `password "${password}";` : ""} ${gtsm ? "ttl security on;" : ""}
         ipv4 { import all; export none; };
       }`,
    ),
};

const gobgp: Daemon = {
  name: "gobgp",
  start: (namespace, { asn = 65002, remoteAsn = 65001, passive, password }) =>
    startGobgp(
      namespace,
      JSON.stringify({
        global: { config: { as: asn, "router-id": THEM } },
        neighbors: [
          {
            config: { "neighbor-address": US, "peer-as": remoteAsn, ...(password && { "auth-password": password }) },
            timers: { config: { "connect-retry": 1, "idle-hold-time-after-reset": 1 } },
            transport: { config: { "passive-mode": passive === true } },
          },
        ],
      }),
    ),
};

const openbgpd: Daemon = {
  name: "openbgpd",
  start: (namespace, { asn = 65002, remoteAsn = 65001, passive, gtsm }) =>
    startOpenbgpd(
      namespace,
      `AS ${asn}\nrouter-id ${THEM}\nconnect-retry 1\nneighbor ${US} {\n remote-as ${remoteAsn}\n ${passive ? "passive" : ""}\n ${gtsm ? "ttl-security yes" : ""}\n}\n`,
    ),
};

async function run(ends: Ends, daemon: Daemon, namespace: string, want: Want = {}): Promise<Neighbour> {
  const neighbour = await daemon.start(namespace, want);
  ends.onTestFinished(() => neighbour.stop());
  return neighbour;
}

for (const daemon of [frr, bird, gobgp, openbgpd]) {
  describe(`with ${daemon.name}`, { concurrent: true }, () => {
    beforeEach(({ skip }) => need(skip, missing(daemon.name)));

    it("we connect, it is passive", async ends => {
      const { network, us, them } = cable(ends);
      await run(ends, daemon, them, { passive: true });
      const ours = speaker(ends, network, us);
      await up(ours);
      expect(ours.session.snapshot().negotiated).toMatchObject({
        remoteAsn: 65002,
        remoteId: addressToUint32(parseAddress(THEM)),
        internal: false,
        fourOctetAsn: true,
        routeRefresh: true,
        families: expect.arrayContaining(["ipv4-unicast"]),
        holdTime: 9,
        remotePort: 179,
      });
    });

    it("it connects, we are passive", async ends => {
      const { network, us, them } = cable(ends);
      const ours = speaker(ends, network, us, { passive: true });
      await run(ends, daemon, them);
      await up(ours);
      expect(ours.session.snapshot()).toMatchObject({ negotiated: { localPort: 179 }, counters: { connectAttempts: 0 } });
    });

    it("both connect: one stable session", async ends => {
      const { network, us, them } = cable(ends);
      const ours = speaker(ends, network, us, { holdTime: 3 });
      await run(ends, daemon, them);
      await up(ours);
      const before = ours.session.snapshot().counters;
      // Two keepalives later nothing has moved.
      await until(() => expect(ours.session.snapshot().counters.messagesIn.keepalive).toBeGreaterThan(before.messagesIn.keepalive + 1));
      expect(ours.session.snapshot()).toMatchObject({ state: "Established", counters: { establishedCount: before.establishedCount } });
    });

    it("it has another AS than configured: we send 2/2 and say so", async ends => {
      const { network, us, them } = cable(ends);
      await run(ends, daemon, them, { asn: 65009 });
      const { session } = speaker(ends, network, us);
      const words = "sent OPEN Message Error/Bad Peer AS: the neighbour is AS 65009; configured is 65002";
      await until(() =>
        expect(session.snapshot().lastDown).toMatchObject({ text: words, notification: { code: 2, subcode: 2, direction: "sent" } }),
      );
      expect(session.snapshot().counters.establishedCount).toBe(0);
    });

    it("it expects another AS of us: we hear 2/2 and say so", async ends => {
      const { network, us, them } = cable(ends);
      await run(ends, daemon, them, { remoteAsn: 65008 });
      const { session } = speaker(ends, network, us);
      const words = /^neighbour sent OPEN Message Error\/Bad Peer AS/;
      await until(() => expect(session.snapshot().lastDown?.text).toMatch(words));
      expect(session.snapshot().lastDown?.notification).toMatchObject({ code: 2, subcode: 2, direction: "received" });
    });

    it("it falls silent: the hold timer expires, and the session comes back", async ends => {
      const { network, us, them } = cable(ends);
      const neighbour = await run(ends, daemon, them, { passive: true });
      const ours = speaker(ends, network, us, { holdTime: 3 });
      await up(ours);
      neighbour.freeze();
      await until(() => expect(ours.events.downs.map(down => down.text)).toEqual(["hold timer expired: nothing received for 3 s"]));
      neighbour.thaw();
      await until(() => expect(ours.session.snapshot()).toMatchObject({ state: "Established", counters: { establishedCount: 2 } }), 25_000);
    });

    it("it hears why we stop", async ends => {
      const { network, us, them } = cable(ends);
      const neighbour = await run(ends, daemon, them, { passive: true });
      const ours = speaker(ends, network, us);
      await up(ours);
      await ours.session.stop({ subcode: 2, message: "rack move" });
      const { show, text } = {
        frr: { show: `show bgp neighbors ${US}`, text: /Notification received \(Cease\/Administrative Shutdown\)/ },
        bird: { show: "show protocols all peer1", text: /Received: Administrative shutdown.*rack move/s },
        gobgp: { show: "neighbor", text: /rack move/ },
        openbgpd: { show: `show neighbor ${US}`, text: /rack move/ },
      }[daemon.name];
      const heard = async () => (await neighbour.query(show)) + neighbour.log();
      await vi.waitFor(async () => expect(await heard()).toMatch(text), { timeout: 5000, interval: 50 });
    });
  });
}

for (const daemon of [frr, bird, gobgp]) {
  it.concurrent(`TCP MD5 with ${daemon.name}, both directions`, async ends => {
    need(ends.skip, missing(daemon.name));
    for (const passive of [true, false]) {
      const { network, us, them } = cable(ends);
      await run(ends, daemon, them, { passive, password: "s3cret" });
      await up(speaker(ends, network, us, { passive: !passive, password: "s3cret" }));
    }
  });
}

for (const daemon of [frr, bird, openbgpd]) {
  it.concurrent(`GTSM with ${daemon.name}, both directions`, async ends => {
    need(ends.skip, missing(daemon.name));
    for (const passive of [true, false]) {
      const { network, us, them } = cable(ends);
      await run(ends, daemon, them, { passive, gtsm: true });
      await up(speaker(ends, network, us, { passive: !passive, ttlSecurity: 1 }));
    }
  });
}

it.concurrent("link-local addresses with BIRD, both directions", async ends => {
  need(ends.skip, missing("bird"));
  for (const passive of [true, false]) {
    const { us, them } = cable(ends);
    const config = `router id ${THEM}; protocol device {}
      protocol bgp peer1 { local ${LL_THEM} as 65002; neighbor ${LL_US}%eth0 as 65001; connect delay time 1; error wait time 1,2;
        ${passive ? "passive on;" : ""} ipv6 { import all; export none; }; }`;
    const neighbour = await startBird(them, config);
    ends.onTestFinished(() => neighbour.stop());
    const ours = neighborConfig({ address: LL_THEM, interface: "eth0", passive: !passive, connectRetryTime: 1, remoteAsn: 65002 });
    const script = join(import.meta.dirname, "session-process.ts");
    const child = spawn("ip", ["netns", "exec", us, process.execPath, script, JSON.stringify(ours)], { stdio: ["ignore", "pipe", "pipe"] });
    ends.onTestFinished(() => void child.kill());
    let printed = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", chunk => (printed += chunk));
    await until(() => expect(printed).toContain('"Established"'));
    expect(JSON.parse(printed.trim().split("\n").at(-1) ?? "")).toMatchObject({ local: LL_US, families: ["ipv6-unicast"] });
  }
});

describe("routers and cables", { concurrent: true }, () => {
  beforeEach(({ skip }) => need(skip, noRoot));

  /** us - router - them, two hops apart. */
  function routed(ends: Ends): { network: TestNetwork; us: string; them: string } {
    const network = new TestNetwork();
    ends.onTestFinished(() => network.dispose());
    const [us, router, them] = ["us", "router", "them"].map(label => network.namespace(label));
    network.link(
      { namespace: us, device: "eth0", addresses: ["10.1.0.1/24"] },
      { namespace: router, device: "eth0", addresses: ["10.1.0.254/24"] },
    );
    network.link(
      { namespace: them, device: "eth0", addresses: ["10.2.0.1/24"] },
      { namespace: router, device: "eth1", addresses: ["10.2.0.254/24"] },
    );
    network.exec(us, "ip", "route", "add", "10.2.0.0/24", "via", "10.1.0.254");
    network.exec(them, "ip", "route", "add", "10.1.0.0/24", "via", "10.2.0.254");
    network.exec(router, "sysctl", "-qw", "net.ipv4.ip_forward=1");
    return { network, us, them };
  }

  function two(ends: Ends, net: ReturnType<typeof routed>, change: Partial<NeighborConfig>): { a: Ours; b: Ours } {
    const b = speaker(ends, net.network, net.them, { address: "10.1.0.1", remoteAsn: "internal", passive: true, ...change });
    const a = speaker(ends, net.network, net.us, { address: "10.2.0.1", remoteAsn: "internal", ...change });
    return { a, b };
  }

  // Both are built by speaker() with one AS and one identifier, which OPEN refuses (RFC 6286): that both hear so is the proof that OPENs crossed.
  const crossed = ({ a }: { a: Ours }) => until(() => expect(a.session.snapshot().lastDown?.text).toMatch(/Bad BGP Identifier/));

  it("GTSM trusts as many hops as configured", async ends => {
    await crossed(two(ends, routed(ends), { ttlSecurity: 2 }));
  });

  it("GTSM drops what comes from further away", async ends => {
    const { a, b } = two(ends, routed(ends), { ttlSecurity: 1 });
    await until(() => expect(b.session.snapshot().reason).toMatch(/with a TTL below 255/));
    expect([a.session.snapshot().counters.messagesIn.open, b.session.snapshot().counters.messagesIn.open]).toEqual([0, 0]);
  });

  it("an external neighbour behind a router needs multihop", async ends => {
    const direct = two(ends, routed(ends), { remoteAsn: "external", connectRetryTime: 2 });
    await until(() => expect(direct.a.session.snapshot().reason).toMatch(/no route|no answer to the TCP connection/));
    const multihop = two(ends, routed(ends), { remoteAsn: "external", multihop: 2 });
    await until(() => expect(multihop.a.session.snapshot().lastDown?.text).toMatch(/Bad Peer AS/));
  });

  it("says that there is no route", async ends => {
    const { network, us } = cable(ends);
    const { session } = speaker(ends, network, us, { address: "192.0.2.1", multihop: 5 });
    await until(() => expect(session.snapshot().lastDown?.text).toBe("no route to 192.0.2.1 port 179: this node's table has none"));
  });

  it("a neighbour that lost power and connects again replaces its dead session at once", async ends => {
    const { network, us, them } = cable(ends);
    const ours = speaker(ends, network, us, { passive: true, holdTime: 90 });
    const open = encodeOpen({
      asn: 65002,
      holdTime: 90,
      bgpId: addressToUint32(parseAddress(THEM)),
      capabilities: { families: ["ipv4-unicast"], fourOctetAsn: true, routeRefresh: true },
    });
    const dial = (): { socket: Socket; octets: () => Buffer } => {
      const chunks: Buffer[] = [];
      const socket = new Socket({ fd: openTcpSocket({ netns: network.path(them), family: 4 }) }).connect({ host: US, port: 179 });
      socket.on("data", (chunk: Buffer) => chunks.push(chunk));
      socket.on("error", () => {});
      ends.onTestFinished(() => void socket.destroy());
      return { socket, octets: () => Buffer.concat(chunks) };
    };
    const first = dial();
    first.socket.write(open);
    first.socket.write(KEEPALIVE);
    await up(ours);
    // The RST of the dying host gets lost.
    network.exec(us, "ip", "link", "set", "eth0", "down");
    first.socket.resetAndDestroy();
    network.exec(us, "ip", "link", "set", "eth0", "up");
    expect(ours.session.snapshot().state).toBe("Established");
    const second = dial();
    await until(() => expect(second.octets().subarray(18, 21)).toEqual(Buffer.of(MessageType.Notification, 6, 7)));
    await until(() => expect(ours.events.downs.map(down => down.text)).toEqual([`${THEM} port 179 reset the TCP connection`]));
    const third = dial();
    third.socket.write(open);
    third.socket.write(KEEPALIVE);
    await up(ours);
    expect(ours.session.snapshot().counters.establishedCount).toBe(2);
  });
});
