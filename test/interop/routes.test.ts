/**
 * Routes with the real FRR, BIRD, GoBGP and OpenBGPD: our speaker as a process of its own with the kernel's table, compared with what each
 * daemon's own command line shows (RFC 4271, 4760, 6793, 2918, 1997, 4360, 8092).
 */
import { describe, expect, it } from "vitest";
import type { SpeakerConfig } from "../../bgpd/config.ts";
import { type DaemonKind, daemons, type Origination, type Seen } from "./daemons.ts";
import { lacking, pair, Scene, US, US6, until, up } from "./scene.ts";
import { neighbor, network, openFamily, type SpeakerProcess, speakerConfig } from "./speaker.ts";

const { frr, bird, gobgp, openbgpd } = daemons;
const all: DaemonKind[] = [frr, bird, gobgp, openbgpd];

function each(kinds: DaemonKind[], body: (kind: DaemonKind) => void): void {
  for (const kind of kinds) {
    const why = lacking(kind);
    describe.skipIf(why)(`with ${kind.name}${why ? ` (skipped: ${why})` : ""}`, { concurrent: true, timeout: 60_000 }, () => body(kind));
  }
}

async function attributes(speaker: SpeakerProcess, prefix: string) {
  return (await speaker.route(prefix))?.attributes;
}

const everything: Omit<Origination, "prefix"> = {
  origin: "egp",
  path: [64999, 4200000009],
  med: 50,
  communities: ["65002:1", "65002:2"],
  largeCommunities: ["4200000002:1:2", "4200000002:3:4"],
  routeTargets: ["65002:7"],
  aggregator: { asn: 4200000009, address: "10.9.9.9" },
  atomicAggregate: true,
};

/** FRR 8.4 garbles an AS number above 2147483647 in "set aggregator as". */
const frrAggregator = { asn: 65010, address: "10.9.9.9" };

/** What this daemon cannot be told to announce, and what differs from `everything`. */
const spoken: Record<DaemonKind["name"], { lacks: string; view: object }> = {
  frr: { lacks: "AGGREGATOR with a 2-octet AS", view: { aggregator: "65010 10.9.9.9", atomicAggregate: true } },
  bird: { lacks: "no AGGREGATOR, no ATOMIC_AGGREGATE of its own", view: {} },
  gobgp: { lacks: "no ATOMIC_AGGREGATE of its own", view: { aggregator: "4200000009 10.9.9.9" } },
  openbgpd: {
    lacks: "no AGGREGATOR, no ATOMIC_AGGREGATE of its own, prepends only its own AS",
    view: { asPath: "4200000002 4200000002 4200000002" },
  },
};

each(all, kind => {
  const { lacks, view } = spoken[kind.name];

  it(`4-octet AS on both sides: its routes come with all attributes and go into the kernel${lacks ? ` (${lacks})` : ""}`, async context => {
    const route = kind === frr ? { ...everything, aggregator: frrAggregator } : everything;
    const announces = ["198.51.100.0/24", "2001:db8:51::/48"].map(prefix => ({ prefix, ...route }));
    const { scene, speaker } = await pair(context, kind, { ourAsn: 4200000001, theirAsn: 4200000002, theirs: { announces } });
    const common = {
      origin: "egp",
      asPath: "4200000002 64999 4200000009",
      med: 50,
      communities: ["65002:1", "65002:2"],
      largeCommunities: ["4200000002:1:2", "4200000002:3:4"],
      extendedCommunities: ["rt:65002:7"],
      ...view,
    };
    await until(async () => {
      expect(await attributes(speaker, "198.51.100.0/24")).toEqual({ ...common, nextHop: "10.0.0.2" });
      expect(await attributes(speaker, "2001:db8:51::/48")).toEqual({
        ...common,
        // BIRD adds its link-local address once duplicate address detection has let it have one (RFC 2545 section 3).
        nextHop: expect.stringMatching(/^2001:db8::2( fe80::[0-9a-f:]+)?$/),
      });
    });
    await until(() => {
      const kernel = scene.routes();
      expect([...kernel.keys()].sort()).toEqual(["198.51.100.0/24", "2001:db8:51::/48"]);
      expect(kernel.get("198.51.100.0/24")).toMatchObject({ gateway: "10.0.0.2", dev: "eth0" });
      expect(kernel.get("2001:db8:51::/48")).toMatchObject({ gateway: "2001:db8::2", dev: "eth0" });
    });
  });

  it("4-octet AS on both sides: our routes arrive with all attributes", async context => {
    const set = { med: 70, communities: ["65001:1", "65001:2"], largeCommunities: ["4200000001:5:6", "4200000001:7:8"] };
    const networks = [network("203.0.113.0/24", { ...set, origin: "egp" }), network("2001:db8:113::/48", set)];
    const { daemon } = await pair(context, kind, { ourAsn: 4200000001, theirAsn: 4200000002, config: { networks } });
    const common = { asPath: "4200000001", ...set };
    await until(async () => {
      expect(await daemon.route("203.0.113.0/24")).toMatchObject({ ...common, origin: "egp", nextHop: US } satisfies Seen);
      expect(await daemon.route("2001:db8:113::/48")).toMatchObject({ ...common, origin: "igp", nextHop: US6 } satisfies Seen);
    });
  });

  it("withdrawals reach the other side, in both directions, and the kernel", async context => {
    const announces = ["198.51.100.0/24", "198.51.101.0/24", "2001:db8:51::/48", "2001:db8:52::/48"].map(prefix => ({ prefix }));
    const kept = [network("203.0.112.0/24"), network("2001:db8:112::/48")];
    const networks = [...kept, network("203.0.113.0/24"), network("2001:db8:113::/48")];
    const { scene, speaker, daemon, config } = await pair(context, kind, { theirs: { announces }, config: { networks } });
    const theirs = async () => Promise.all(networks.map(async each => (await daemon.route(each.prefix)) !== undefined));
    await until(async () => {
      expect([...scene.routes().keys()].sort()).toEqual(announces.map(each => each.prefix).sort());
      expect(await theirs()).toEqual([true, true, true, true]);
    });
    await speaker.apply({ ...config, networks: kept });
    await daemon.withdraw("198.51.100.0/24");
    await daemon.withdraw("2001:db8:51::/48");
    await until(async () => {
      expect([...scene.routes().keys()].sort()).toEqual(["198.51.101.0/24", "2001:db8:52::/48"]);
      expect(await speaker.route("198.51.100.0/24")).toBeUndefined();
      expect(await theirs()).toEqual([true, true, false, false]);
    });
    const { neighbors } = await speaker.snapshot();
    expect(neighbors.map(each => each.counters.establishedCount)).toEqual(neighbors.map(() => 1));
  });

  it("we are passive or it is: one session, the lower hold time, capabilities shown", async context => {
    for (const passive of [false, true]) {
      const { scene, speaker } = await pair(context, kind, {
        ours: { passive, holdTime: passive ? 60 : 6 },
        theirPeer: { passive: !passive },
        theirs: { holdTime: passive ? 6 : 60 },
      });
      await up(speaker);
      for (const { capabilities, ...each } of (await speaker.snapshot()).neighbors) {
        expect(each).toMatchObject({ asn: 65002, holdTime: 6, keepaliveTime: 2, routerId: "10.0.0.2", internal: false });
        expect(capabilities).toEqual(expect.arrayContaining(["route refresh", "4-octet AS 65002"]));
        expect(capabilities?.filter(text => text.startsWith("multiprotocol"))).toEqual(
          Object.keys(each.families).map(family => `multiprotocol ${family}`),
        );
        if (passive) expect(each.counters.connectAttempts).toBe(0);
      }
      expect(scene.routes()).toEqual(new Map());
    }
  });

  it("another AS than expected: NOTIFICATION 2/2 from us, and from it", async context => {
    const wrong = await pair(context, kind, { theirAsn: 65009, ours: { remoteAsn: 65002 }, theirPeer: { passive: true } });
    await until(async () =>
      expect((await wrong.speaker.neighbor("them")).lastDown).toMatchObject({
        text: "sent OPEN Message Error/Bad Peer AS: the neighbour is AS 65009; configured is 65002",
        code: 2,
        subcode: 2,
        direction: "sent",
      }),
    );
    await wrong.speaker.stop();
    const unexpected = await pair(context, kind, { theirPeer: { asn: 65008 }, theirs: {} });
    await until(async () =>
      expect((await unexpected.speaker.neighbor("them")).lastDown).toMatchObject({
        text: expect.stringMatching(/^neighbour sent OPEN Message Error\/Bad Peer AS/),
        code: 2,
        subcode: 2,
        direction: "received",
      }),
    );
  });
});

const whyNoTransit = lacking(frr, bird);
describe.skipIf(whyNoTransit)(`in transit${whyNoTransit ? ` (skipped: ${whyNoTransit})` : ""}`, { timeout: 60_000 }, () => {
  it("a route of FRR reaches BIRD through us with every attribute but MED, which stays between neighbours", async context => {
    const scene = new Scene(context);
    const peers = [{ address: US, asn: 65001 }];
    const route = { ...everything, aggregator: frrAggregator };
    const [, receiver] = await Promise.all([
      scene.daemon(frr, 2, { asn: 65002, peers, announces: ["198.51.100.0/24", "2001:db8:51::/48"].map(prefix => ({ prefix, ...route })) }),
      scene.daemon(bird, 3, { asn: 65003, peers }),
      scene.speaker(
        speakerConfig({
          asn: 65001,
          routerId: US,
          neighbors: [2, 3].map(n => neighbor({ name: `host${n}`, address: `10.0.0.${n}`, remoteAsn: 65000 + n })),
        }),
      ),
    ]);
    // All three share a subnet: the next hop stays that of FRR (RFC 4271 section 5.1.3). For IPv6 it is ours: from a session over IPv4 we
    // do not know that BIRD is on the IPv6 subnet too.
    for (const [prefix, nextHop] of [
      ["198.51.100.0/24", "10.0.0.2"],
      ["2001:db8:51::/48", US6],
    ]) {
      await until(async () =>
        expect(await receiver.daemon.route(prefix)).toEqual({
          asPath: "65001 65002 64999 4200000009",
          nextHop,
          origin: "egp",
          localPref: 100,
          communities: everything.communities,
          largeCommunities: everything.largeCommunities,
          extendedCommunities: ["rt:65002:7"],
          aggregator: "65010 10.9.9.9",
        } satisfies Seen),
      );
      expect(await receiver.daemon.process.query(`show route all ${prefix}`)).toMatch(/\b(BGP\.|bgp_)atomic_aggr/);
    }
  });
});

describe("route refresh (RFC 2918)", () => {
  each(all, kind => {
    const silent = kind === openbgpd;
    it(`we ask for its routes again: ${silent ? "it counts that (OpenBGPD 7.7 sends nothing, to FRR neither)" : "it sends them"}, the session stays`, async context => {
      const { speaker, daemon } = await pair(context, kind, { theirs: { announces: [{ prefix: "198.51.100.0/24" }] } });
      await until(async () => expect(await speaker.route("198.51.100.0/24")).toBeDefined());
      const before = (await speaker.neighbor("them")).counters;
      expect(await speaker.refresh("them", "in")).toBe(true);
      await until(async () => {
        const { counters } = await speaker.neighbor("them");
        expect(counters.messagesOut.routeRefresh).toBeGreaterThan(before.messagesOut.routeRefresh);
        if (silent) expect(await daemon.process.query(`show neighbor ${US}`)).toMatch(/^\s+Request\s+0\s+1\b/m);
        else expect(counters.messagesIn.update).toBeGreaterThan(before.messagesIn.update);
      });
      expect((await speaker.neighbor("them")).counters.establishedCount).toBe(1);
      expect(await speaker.route("198.51.100.0/24")).toBeDefined();
    });
  });

  // GoBGP 3.10 has no command that sends a ROUTE-REFRESH: softresetin judges its Adj-RIB-In again.
  each([frr, bird, openbgpd], kind => {
    it("its operator asks for our routes again: we send them, the session stays", async context => {
      const networks = [network("203.0.113.0/24", { med: 70 }), network("2001:db8:113::/48")];
      const { speaker, daemon } = await pair(context, kind, { config: { networks } });
      await until(async () => expect(await daemon.route("203.0.113.0/24")).toMatchObject({ med: 70 }));
      const before = (await speaker.neighbor("them")).counters;
      await daemon.askRefresh(US);
      await until(async () => {
        const { counters } = await speaker.neighbor("them");
        expect(counters.messagesIn.routeRefresh).toBeGreaterThan(before.messagesIn.routeRefresh);
        expect(counters.messagesOut.update).toBeGreaterThan(before.messagesOut.update);
      });
      expect(await daemon.route("203.0.113.0/24")).toMatchObject({ med: 70 });
      expect((await speaker.neighbor("them")).counters.establishedCount).toBe(1);
    });
  });
});

describe("a neighbour without 4-octet AS numbers (RFC 6793 section 4.2)", () => {
  // GoBGP always announces them.
  each([frr, bird, openbgpd], kind => {
    const limits = {
      frr: " (FRR 8.4 then ignores AS4_PATH of a neighbour that announces the capability)",
      openbgpd: " (OpenBGPD prepends only its own AS)",
    }[kind.name as string];
    it(`AS_TRANS and AS4_PATH become one path${limits ?? ", in both directions"}`, async context => {
      const path = kind === openbgpd ? undefined : [4200000009, 64999];
      const { speaker, daemon } = await pair(context, kind, {
        ours: { families: { "ipv4-unicast": { ...openFamily, exportPolicies: ["prepending"] } } },
        theirPeer: { fourOctetAsn: false },
        theirs: { announces: [{ prefix: "198.51.100.0/24", path }] },
        config: { networks: [network("203.0.113.0/24", { med: 70 })], policies: prepending },
      });
      await until(async () => {
        const asPath = kind === openbgpd ? "65002" : "65002 4200000009 64999";
        expect(await attributes(speaker, "198.51.100.0/24")).toMatchObject({ asPath, nextHop: "10.0.0.2" });
        if (/aspath merge failed/.test(daemon.process.log())) {
          // OpenBGPD 9.3 cannot join the two, those of BIRD neither: it shows what came.
          const came = await daemon.process.query("show rib in detail 203.0.113.0/24");
          expect(came).toMatch(/^\s+65001 23456 23456$.* metric 70,.*AS4-Path flags \[OT\]: 65001 4200000001 4200000001$/ms);
          return;
        }
        const seen = kind === frr ? "65001 23456 23456" : "65001 4200000001 4200000001";
        expect(await daemon.route("203.0.113.0/24")).toMatchObject({ asPath: seen, med: 70 });
      });
      expect((await speaker.neighbor("them")).capabilities ?? []).not.toContainEqual(expect.stringContaining("4-octet AS"));
    });
  });
});

const prepending: SpeakerConfig["policies"] = {
  prepending: { rules: [{ action: { result: "accept", prepend: { asn: 4200000001, count: 2 } } }] },
};
