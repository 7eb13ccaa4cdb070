/** What a neighbour hears from the speaker, octet by octet: attributes, their order and flags, End-of-RIB, packing, refresh, limits (RFC 4271 sections 5 and 9.2). */
import { afterEach, describe, expect, it } from "vitest";
import { network, openFamily } from "../interop/speaker.ts";
import {
  asn4,
  asPath,
  attribute,
  attributesOf,
  communities,
  hex,
  IPV4,
  IPV6,
  localPref,
  med,
  mpReach,
  nextHop,
  nlri,
  type OpenFields,
  octets,
  optionalParameters,
  origin,
  parameter,
  routeRefresh,
  sequence,
  Type,
  u16,
  u32,
  update,
} from "./octets.ts";
import { Holdings, type RawPeer } from "./raw-peer.ts";
import { lacking, type Party, US, useScene } from "./scene.ts";

const NEXT = "10.0.0.2";
const HOP6 = "20010db8000000000000000000000002";
const OUR_HOP6 = "20010db8000000000000000000000001";
const END_OF_RIB = ["0000 0000", "0000 0006 800f 03 0002 01"].map(body => hex(octets(body)));
const families: OpenFields = { parameters: optionalParameters(parameter(2, [...IPV4, ...IPV6, ...asn4(65003)])) };

describe.skipIf(lacking)(`a neighbour hears${lacking ? ` (${lacking})` : ""}`, () => {
  const holder = useScene();
  const used: Party[] = [];
  afterEach(async () => {
    for (const each of used.splice(0)) each.close();
    await holder.scene.apply({ neighbors: [], networks: [] });
  });
  async function party(...change: Parameters<typeof holder.scene.party>) {
    const made = await holder.scene.party(...change);
    used.push(made);
    return made;
  }
  const bodies = (peer: RawPeer) => peer.messages.filter(each => each[18] === Type.Update).map(each => hex(each.subarray(19)));
  const updates = (peer: RawPeer) => peer.messages.filter(each => each[18] === Type.Update && each.length > 29);
  const complete = (peer: RawPeer, count = 2) =>
    peer.until(() => bodies(peer).filter(body => END_OF_RIB.includes(body)).length >= count, "End-of-RIB");

  /** A source in AS 65002 and a receiver, both up, the initial tables exchanged; AS_SETs may pass. */
  async function pair(receiver: Parameters<typeof holder.scene.party>[0] = { remoteAsn: 65003 }, fields: OpenFields = {}) {
    const source = await (await party({ allowAsSets: true })).establish();
    const to = await party({ allowAsSets: true, ...receiver });
    const sink = await to.establish(fields);
    await complete(sink, Object.keys(receiver.families ?? { 4: 1, 6: 1 }).length);
    return { source, sink, to };
  }
  /** The first UPDATE with routes after the initial table. */
  const hear = async (sink: RawPeer) => {
    await sink.until(() => updates(sink).length > 0, "an UPDATE");
    return updates(sink)[0];
  };

  it("End-of-RIB for both families also when there is nothing to tell", async () => {
    const peer = await (await party()).establish();
    await complete(peer);
    expect(bodies(peer)).toEqual(END_OF_RIB);
  });

  it("End-of-RIB for the negotiated family only", async () => {
    const peer = await (await party()).establish({ parameters: optionalParameters(parameter(2, [...IPV6, ...asn4(65002)])) });
    await complete(peer, 1);
    peer.send(routeRefresh(2, 1));
    expect(bodies(peer)).toEqual([END_OF_RIB[1]]);
  });

  it("routes of ours with exact attributes outside the AS", async () => {
    await holder.scene.apply({ networks: [network("203.0.113.0/24", { med: 5, communities: ["65001:7"] }), network("2001:db8:7::/48")] });
    const peer = await (await party({ remoteAsn: 65003 })).establish();
    await complete(peer);
    const reach = octets("000201 10", OUR_HOP6, "00", nlri("2001:db8:7::/48"));
    expect(bodies(peer).filter(body => !END_OF_RIB.includes(body))).toEqual([
      hex(
        octets(
          update({
            attributes: [origin(), asPath(65001), nextHop(US), med(5), communities(0xfde90007)],
            nlri: nlri("203.0.113.0/24"),
          }).subarray(19),
        ),
      ),
      // MP_REACH_NLRI comes first (RFC 7606 section 5.1), its length in two octets.
      hex(update({ attributes: [attribute(0x90, 14, reach), origin(), asPath(65001)] }).subarray(19)),
    ]);
  });

  it("routes of ours inside the AS with an empty AS_PATH and LOCAL_PREF 100", async () => {
    await holder.scene.apply({ networks: [network("203.0.113.0/24")] });
    const peer = await (await party({ remoteAsn: "internal" })).establish();
    await complete(peer);
    expect(attributesOf(updates(peer)[0])).toEqual([
      { flags: 0x40, code: 1, value: "00" },
      { flags: 0x40, code: 2, value: "" },
      { flags: 0x40, code: 3, value: "0a000001" },
      { flags: 0x40, code: 5, value: "00000064" },
    ]);
  });

  const rich = [
    origin(2),
    attribute(0x40, 2, octets(sequence([65002, 4_200_000_001]), 1, 2, u32(65077), u32(65078))),
    nextHop(NEXT),
    med(77),
    attribute(0x40, 6),
    attribute(0xc0, 7, octets(u32(65077), "0a090909")),
    communities(0xfdea0002, 0xfdea0001, 0xfdea0002),
    attribute(0xc0, 16, "0002fdea00000009 0002fdea00000007"),
    attribute(0xc0, 32, octets(u32(65002), u32(2), u32(1))),
    attribute(0x80, 98, "01"),
    attribute(0xc0, 99, "0102"),
    attribute(0xe0, 200, new Uint8Array(300).fill(7)),
  ];

  it("an external route outside: path prepended, MED and non-transitive gone, unknown transitive Partial, all in order", async () => {
    const { source, sink } = await pair();
    source.send(update({ attributes: [...rich].reverse(), nlri: nlri("198.51.100.0/24") }));
    expect(attributesOf(await hear(sink))).toEqual([
      { flags: 0x40, code: 1, value: "02" },
      { flags: 0x40, code: 2, value: hex(octets(sequence([65001, 65002, 4_200_000_001]), 1, 2, u32(65077), u32(65078))) },
      // Source and receiver share our subnet: the next hop of a third party stays (section 5.1.3).
      { flags: 0x40, code: 3, value: "0a000002" },
      { flags: 0x40, code: 6, value: "" },
      { flags: 0xc0, code: 7, value: "0000fe350a090909" },
      { flags: 0xc0, code: 8, value: "fdea0001fdea0002" },
      { flags: 0xc0, code: 16, value: "0002fdea000000070002fdea00000009" },
      { flags: 0xc0, code: 32, value: "0000fdea0000000200000001" },
      { flags: 0xe0, code: 99, value: "0102" },
      { flags: 0xf0, code: 200, value: "07".repeat(300) },
    ]);
  });

  it("Partial stays on what we know, and non-transitive extended communities end at the border (RFC 4271 section 5, RFC 4360)", async () => {
    const extended = "0002fdea00000007 4004fdea00000001";
    const marked = [
      ...[origin(), asPath(65002), nextHop(NEXT), attribute(0xe0, 7, octets(u32(65077), "0a090909")), attribute(0xe0, 8, u32(0xfdea0001))],
      ...[attribute(0xe0, 16, extended), attribute(0xe0, 32, octets(u32(65002), u32(2), u32(1)))],
    ];
    for (const remoteAsn of [65003, "internal"] as const) {
      const { source, sink } = await pair({ remoteAsn });
      source.send(update({ attributes: marked, nlri: nlri("198.51.100.0/24") }));
      expect(attributesOf(await hear(sink)).filter(({ code }) => code > 5)).toEqual([
        { flags: 0xe0, code: 7, value: "0000fe350a090909" },
        { flags: 0xe0, code: 8, value: "fdea0001" },
        { flags: 0xe0, code: 16, value: remoteAsn === "internal" ? extended.replace(" ", "") : "0002fdea00000007" },
        { flags: 0xe0, code: 32, value: "0000fdea0000000200000001" },
      ]);
    }
  });

  it("an external route inside: path and MED kept, LOCAL_PREF added", async () => {
    const { source, sink } = await pair({ remoteAsn: "internal" });
    source.send(update({ attributes: rich, nlri: nlri("198.51.100.0/24") }));
    const heard = attributesOf(await hear(sink));
    expect(heard.map(({ code }) => code)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 99, 200]);
    expect(heard.slice(1, 5)).toEqual([
      { flags: 0x40, code: 2, value: hex(octets(sequence([65002, 4_200_000_001]), 1, 2, u32(65077), u32(65078))) },
      { flags: 0x40, code: 3, value: "0a000002" },
      { flags: 0x80, code: 4, value: "0000004d" },
      { flags: 0x40, code: 5, value: "00000064" },
    ]);
  });

  it("AS_TRANS, AS4_PATH and AS4_AGGREGATOR where its AS numbers have two octets", async () => {
    const { source, sink } = await pair(
      { remoteAsn: 65003, localAsn: 4_200_000_009, families: { "ipv4-unicast": openFamily } },
      { parameters: octets(0) },
    );
    source.send(
      update({
        attributes: [origin(), asPath(65002, 4_200_000_001), nextHop(NEXT), attribute(0xc0, 7, octets(u32(4_200_000_001), "0a090909"))],
        nlri: nlri("198.51.100.0/24"),
      }),
    );
    expect(attributesOf(await hear(sink))).toEqual([
      { flags: 0x40, code: 1, value: "00" },
      { flags: 0x40, code: 2, value: hex(sequence([23456, 65002, 23456], 2)) },
      { flags: 0x40, code: 3, value: "0a000002" },
      { flags: 0xc0, code: 7, value: "5ba00a090909" },
      { flags: 0xc0, code: 17, value: hex(sequence([4_200_000_009, 65002, 4_200_000_001])) },
      { flags: 0xc0, code: 18, value: "fa56ea010a090909" },
    ]);
  });

  it("the true path that a two-octet neighbour told with AS4_PATH", async () => {
    const from = await party();
    const source = await from.connect();
    await source.establish(from.open({ parameters: octets(0) }));
    const sink = await (await party({ remoteAsn: 65003 })).establish();
    source.send(
      update({
        attributes: [
          origin(),
          attribute(0x40, 2, sequence([65002, 23456, 65010], 2)),
          nextHop(NEXT),
          attribute(0xc0, 7, octets(u16(23456), "0a090909")),
          attribute(0xc0, 17, sequence([4_200_000_001, 65010])),
          attribute(0xc0, 18, octets(u32(4_200_000_001), "0a090909")),
        ],
        nlri: nlri("198.51.100.0/24"),
      }),
    );
    const heard = attributesOf(await hear(sink));
    expect(heard.map(({ code }) => code)).toEqual([1, 2, 3, 7]);
    expect(heard[1].value).toBe(hex(sequence([65001, 65002, 4_200_000_001, 65010])));
    expect(heard[3].value).toBe("fa56ea010a090909");
  });

  it("IPv6 next hops of 16 octets, without a link-local address that is not for it", async () => {
    const { source, sink } = await pair({ remoteAsn: "internal" });
    const hop = octets(HOP6, `fe80${"00".repeat(13)}02`);
    source.send(update({ attributes: [origin(), asPath(65002), mpReach(2, 1, hop, nlri("2001:db8:100::/48"))] }));
    const reach = attributesOf(await hear(sink)).find(({ code }) => code === 14);
    expect(reach).toEqual({ flags: 0x90, code: 14, value: hex(octets("00020110", HOP6, "00", nlri("2001:db8:100::/48"))) });
  });

  it("not its own routes, and no internal route from another internal neighbour", async () => {
    const from = await party({ remoteAsn: "internal" });
    const [source, inside, outside] = [
      await from.establish(),
      await (await party({ remoteAsn: "internal" })).establish(),
      await (await party({ remoteAsn: 65003 })).establish(),
    ];
    for (const peer of [source, inside, outside]) await complete(peer);
    source.send(update({ attributes: [origin(), asPath(65077), nextHop(NEXT), localPref(200)], nlri: nlri("198.51.100.0/24") }));
    await hear(outside);
    outside.send(update({ attributes: [origin(), asPath(65003), nextHop(NEXT)], nlri: nlri("192.0.2.0/24") }));
    await hear(inside);
    await hear(source);
    expect([...new Holdings({ internal: true }).read(inside).routes.keys()]).toEqual(["192.0.2.0/24"]);
    expect([...new Holdings({ internal: true }).read(source).routes.keys()]).toEqual(["192.0.2.0/24"]);
    expect([...new Holdings().read(outside).routes.keys()]).toEqual(["198.51.100.0/24"]);
  });

  it("a reflected route with ORIGINATOR_ID and CLUSTER_LIST", async () => {
    const from = await party({ remoteAsn: "internal", routeReflectorClient: true });
    const source = await from.establish();
    const sink = await (await party({ remoteAsn: "internal" })).establish();
    await complete(sink);
    const list = attribute(0x80, 10, "01010101");
    source.send(update({ attributes: [origin(), asPath(), nextHop(NEXT), med(3), localPref(200), list], nlri: nlri("198.51.100.0/24") }));
    const heard = attributesOf(await hear(sink));
    expect(heard.slice(2)).toEqual([
      { flags: 0x40, code: 3, value: "0a000002" },
      { flags: 0x80, code: 4, value: "00000003" },
      { flags: 0x40, code: 5, value: "000000c8" },
      { flags: 0x80, code: 9, value: hex(octets(from.address.split(".").map(Number))) },
      { flags: 0x80, code: 10, value: "0a00000101010101" },
    ]);
  });

  it("1000 prefixes of one attribute set in a few UPDATEs, and their withdrawal in fewer", async () => {
    const { source, sink } = await pair();
    const all = Array.from({ length: 1000 }, (_, n) => `10.${128 + (n >> 8)}.${n & 255}.0/24`);
    const good = [origin(), asPath(65002), nextHop(NEXT)];
    source.send(...Array.from({ length: 10 }, (_, n) => update({ attributes: good, nlri: nlri(...all.slice(n * 100, n * 100 + 100)) })));
    const holdings = new Holdings();
    await sink.until(() => holdings.read(sink).routes.size === 1000, "1000 routes");
    // Ten come in; more than those must not leave, however they are cut into segments.
    expect(updates(sink).length).toBeLessThanOrEqual(10);
    const again = await (await party({ remoteAsn: 65003 })).establish();
    await complete(again);
    expect(new Holdings().read(again).routes.size).toBe(1000);
    expect(updates(again)).toHaveLength(1);
    source.send(...all.map(prefix => update({ withdrawn: nlri(prefix) })));
    await sink.until(() => holdings.read(sink).routes.size === 0, "1000 withdrawals");
    await again.until(() => updates(again).length > 1, "withdrawals");
    expect(Math.max(...again.messages.map(each => each.length))).toBeLessThanOrEqual(4096);
  });

  it("withdrawals when a route is withdrawn, becomes malformed, loops, or its neighbour is lost", async () => {
    const { source, sink } = await pair();
    const good = update({ attributes: [origin(), asPath(65002), nextHop(NEXT)], nlri: nlri("198.51.100.0/24") });
    const six = update({ attributes: [origin(), asPath(65002), mpReach(2, 1, HOP6, nlri("2001:db8:100::/48"))] });
    const holdings = new Holdings();
    for (const end of [
      () =>
        source.send(
          update({ withdrawn: nlri("198.51.100.0/24") }),
          update({ attributes: [attribute(0x80, 15, octets("000201", nlri("2001:db8:100::/48")))] }),
        ),
      () =>
        source.send(
          update({
            attributes: [origin(9), asPath(65002), nextHop(NEXT), mpReach(2, 1, HOP6, nlri("2001:db8:100::/48"))],
            nlri: nlri("198.51.100.0/24"),
          }),
        ),
      () =>
        source.send(
          update({
            attributes: [origin(), asPath(65002, 65001), nextHop(NEXT), mpReach(2, 1, HOP6, nlri("2001:db8:100::/48"))],
            nlri: nlri("198.51.100.0/24"),
          }),
        ),
      () => source.close(),
    ]) {
      source.send(good, six);
      await sink.until(() => holdings.read(sink).routes.size === 2, "two routes");
      end();
      await sink.until(() => holdings.read(sink).routes.size === 0, "their withdrawal");
    }
  });

  it("announcements once per advertisement interval, withdrawals at once", async () => {
    const { source, sink } = await pair({ remoteAsn: 65003, advertisementInterval: 1 });
    const announce = (value: number) =>
      update({ attributes: [origin(), asPath(65002), nextHop(NEXT), communities(value)], nlri: nlri("198.51.100.0/24", "192.0.2.0/24") });
    source.send(announce(1));
    await hear(sink);
    const first = performance.now();
    for (let n = 2; n <= 50; n++) source.send(announce(n));
    source.send(update({ withdrawn: nlri("192.0.2.0/24") }));
    const holdings = new Holdings();
    await sink.until(() => holdings.read(sink).routes.size === 1, "the withdrawal");
    expect(performance.now() - first).toBeLessThan(600);
    await sink.until(() => holdings.read(sink).routes.get("198.51.100.0/24")?.communities?.[0] === "0:50", "the last announcement");
    expect(performance.now() - first).toBeGreaterThan(650);
    expect(updates(sink).filter(each => attributesOf(each).length > 0)).toHaveLength(2);
  });

  it("the whole table again after ROUTE-REFRESH, nothing for a family it does not have", async () => {
    await holder.scene.apply({ networks: [network("203.0.113.0/24"), network("2001:db8:7::/48")] });
    const to = await party({ remoteAsn: 65003 });
    const peer = await to.establish(families);
    await complete(peer);
    const count = () => updates(peer).length;
    expect(count()).toBe(2);
    peer.send(routeRefresh(1, 128), routeRefresh(25, 70), routeRefresh(1, 1, 7), routeRefresh(1, 1));
    await peer.until(() => count() === 3, "the IPv4 table");
    peer.send(routeRefresh(2, 1));
    await peer.until(() => count() === 4, "the IPv6 table");
    expect(hex(updates(peer)[2])).toBe(hex(updates(peer).find(each => each !== updates(peer)[2] && hex(each) === hex(updates(peer)[2]))!));
    expect((await to.snapshot()).state).toBe("Established");
  });

  it("7/1 to a ROUTE-REFRESH of a wrong length", async () => {
    const peer = await (await party()).establish();
    const long = octets(routeRefresh(1, 1).with(17, 24), 0);
    peer.send(long);
    expect(await peer.dismissal()).toBe(`7/1 ${hex(long)}`);
  });

  it("nothing when it is external and has no policy, and nothing is taken from it (RFC 8212)", async () => {
    await holder.scene.apply({ networks: [network("203.0.113.0/24")] });
    const { importDefault: _i, exportDefault: _e, ...bare } = openFamily;
    const to = await party({ remoteAsn: 65003, families: { "ipv4-unicast": bare } });
    const peer = await to.establish();
    peer.send(update({ attributes: [origin(), asPath(65003), nextHop(NEXT)], nlri: nlri("198.51.100.0/24") }));
    await complete(peer, 1);
    await to.until(({ families }) => expect(families["ipv4-unicast"]).toMatchObject({ received: 1, accepted: 0, rejected: 1, sent: 0 }));
    expect(bodies(peer)).toEqual([END_OF_RIB[0]]);
    const { sent, candidates } = await holder.scene.speaker.explain("203.0.113.0/24");
    expect(candidates).toHaveLength(1);
    expect(sent).toMatchObject([{ advertised: false, reason: expect.stringContaining("RFC 8212") }]);
    expect((await to.routes()).get("198.51.100.0/24")).toMatchObject({ eligible: false });
  });

  it.each([
    [
      "ipv4-unicast",
      "00010100000003",
      (n: number) => update({ attributes: [origin(), asPath(65002), nextHop(NEXT)], nlri: nlri(`198.18.${n}.0/24`) }),
    ],
    [
      "ipv6-unicast",
      "00020100000003",
      (n: number) => update({ attributes: [origin(), asPath(65002), mpReach(2, 1, HOP6, nlri(`2001:db8:${n}::/48`))] }),
    ],
  ] as const)("6/1 with family and limit above the prefix limit in %s, and 6/5 when it comes back", async (family, data, announce) => {
    const to = await party({ families: { [family]: { ...openFamily, prefixLimit: 3 } } });
    const peer = await to.establish();
    for (let n = 1; n <= 3; n++) peer.send(announce(n), announce(n));
    await to.until(({ families }) => expect(families[family]?.accepted).toBe(3));
    peer.send(announce(4));
    expect(await peer.dismissal()).toBe(`6/1 ${data}`);
    expect((await to.routes()).size).toBe(0);
    const again = await to.connect();
    expect(await again.dismissal()).toBe("6/5");
    expect((await to.snapshot()).reason).toContain("more than 3");
  });

  it("nothing marked no-advertise, nothing marked no-export when it is external", async () => {
    const { source, sink } = await pair();
    const inside = await (await party({ remoteAsn: "internal" })).establish();
    for (const [n, value] of [0xffffff01, 0xffffff02, 0xffffff03, 1].entries()) {
      source.send(update({ attributes: [origin(), asPath(65002), nextHop(NEXT), communities(value)], nlri: nlri(`198.18.${n}.0/24`) }));
    }
    const [outer, inner] = [new Holdings(), new Holdings({ internal: true })];
    await sink.until(() => outer.read(sink).routes.has("198.18.3.0/24"), "the last route");
    await inside.until(() => inner.read(inside).routes.has("198.18.3.0/24"), "the last route");
    expect([...outer.routes.keys()]).toEqual(["198.18.3.0/24"]);
    expect([...inner.routes.keys()].sort()).toEqual(["198.18.0.0/24", "198.18.2.0/24", "198.18.3.0/24"]);
  });

  it("more attributes than a message holds: withdrawn, not sent", async () => {
    const { source, sink } = await pair();
    const holdings = new Holdings();
    const big = (octetsOfIt: number) =>
      update({
        attributes: [origin(), asPath(65002), nextHop(NEXT), attribute(0xc0, 99, new Uint8Array(octetsOfIt))],
        nlri: nlri("198.51.100.7/32"),
      });
    source.send(big(10));
    await sink.until(() => holdings.read(sink).routes.size === 1, "the route");
    const most = 4096 - big(0).length - 1;
    // Our AS number in front makes it 4 octets too long.
    source.send(big(most));
    await sink.until(() => holdings.read(sink).routes.size === 0, "the withdrawal");
    source.send(big(most - 4));
    await sink.until(() => holdings.read(sink).routes.size === 1, "the route");
    expect(sink.messages.at(-1)?.length).toBe(4096);
  });
});
