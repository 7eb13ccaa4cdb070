/**
 * RFC 7606 on the wire, attribute by attribute: what is wrong costs the routes of that UPDATE, or the attribute, or the session, exactly as
 * its section 7 (and RFC 7607, 6793, 8092) says. A route of before goes with a malformed successor; other routes and sessions stay.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  asPath,
  attribute,
  communities,
  IPV4,
  localPref,
  med,
  mpReach,
  mpUnreach,
  nextHop,
  nlri,
  octets,
  open,
  optionalParameters,
  origin,
  type Part,
  parameter,
  sequence,
  u16,
  u32,
  update,
} from "./octets.ts";
import type { RawPeer } from "./raw-peer.ts";
import { lacking, type Party, THEM6, useScene } from "./scene.ts";

const NEXT = "10.0.0.2";
const good = [origin(), asPath(65002), nextHop(NEXT)];
/** Global address of the peers, 16 octets. */
const HOP6 = "20010db8000000000000000000000002";
const SIX = "2001:db8:100::/48";

type Effect = "withdraw" | "discard" | "accept" | { reset: string };
/** `attributes` or a whole message; UPDATEs announce 203.0.113.0/24 with it. */
type Case = [name: string, effect: Effect, attributes: readonly Part[] | Uint8Array];

const external: Case[] = [
  // 7.1
  ["ORIGIN 3", "withdraw", [origin(3), asPath(65002), nextHop(NEXT)]],
  ["ORIGIN of 0 octets", "withdraw", [attribute(0x40, 1), asPath(65002), nextHop(NEXT)]],
  ["ORIGIN of 2 octets", "withdraw", [attribute(0x40, 1, [0, 0]), asPath(65002), nextHop(NEXT)]],
  ["ORIGIN missing", "withdraw", [asPath(65002), nextHop(NEXT)]],
  ["ORIGIN optional", "withdraw", [attribute(0xc0, 1, [0]), asPath(65002), nextHop(NEXT)]],
  ["ORIGIN non-transitive", "withdraw", [attribute(0x00, 1, [0]), asPath(65002), nextHop(NEXT)]],
  // 7.2
  ["AS_PATH missing", "withdraw", [origin(), nextHop(NEXT)]],
  ["AS_PATH with segment type 0", "withdraw", [origin(), attribute(0x40, 2, [0, 1, ...u32(65002)]), nextHop(NEXT)]],
  ["AS_PATH with segment type 5", "withdraw", [origin(), attribute(0x40, 2, [5, 1, ...u32(65002)]), nextHop(NEXT)]],
  ["AS_PATH with an overrun segment", "withdraw", [origin(), attribute(0x40, 2, [2, 2, ...u32(65002)]), nextHop(NEXT)]],
  ["AS_PATH with an underrun segment", "withdraw", [origin(), attribute(0x40, 2, [2, 1, ...u32(65002), 2]), nextHop(NEXT)]],
  ["AS_PATH with an empty segment", "withdraw", [origin(), attribute(0x40, 2, [2, 0]), nextHop(NEXT)]],
  ["AS_PATH of 2-octet numbers", "withdraw", [origin(), attribute(0x40, 2, sequence([65002], 2)), nextHop(NEXT)]],
  ["AS_PATH with a confederation segment", "withdraw", [origin(), attribute(0x40, 2, [3, 1, ...u32(65002)]), nextHop(NEXT)]],
  ["AS_PATH with AS 0 (RFC 7607)", "withdraw", [origin(), asPath(65002, 0), nextHop(NEXT)]],
  ["AS_PATH optional", "withdraw", [origin(), attribute(0xc0, 2, sequence([65002])), nextHop(NEXT)]],
  // 7.3
  ["NEXT_HOP missing", "withdraw", [origin(), asPath(65002)]],
  ["NEXT_HOP of 5 octets", "withdraw", [origin(), asPath(65002), attribute(0x40, 3, [10, 0, 0, 2, 0])]],
  ["NEXT_HOP of 16 octets", "withdraw", [origin(), asPath(65002), attribute(0x40, 3, HOP6)]],
  ["NEXT_HOP 0.0.0.0", "withdraw", [origin(), asPath(65002), nextHop("0.0.0.0")]],
  ["NEXT_HOP multicast", "withdraw", [origin(), asPath(65002), nextHop("224.0.0.5")]],
  ["NEXT_HOP loopback", "withdraw", [origin(), asPath(65002), nextHop("127.0.0.1")]],
  ["NEXT_HOP broadcast", "withdraw", [origin(), asPath(65002), nextHop("255.255.255.255")]],
  // 7.4 to 7.7
  ["MED of 3 octets", "withdraw", [...good, attribute(0x80, 4, [0, 0, 1])]],
  ["MED transitive", "withdraw", [...good, attribute(0xc0, 4, u32(1))]],
  ["MED well-known", "withdraw", [...good, attribute(0x40, 4, u32(1))]],
  ["LOCAL_PREF from outside", "discard", [...good, localPref(500)]],
  ["LOCAL_PREF from outside, of a wrong length", "discard", [...good, attribute(0x40, 5, [1])]],
  ["ATOMIC_AGGREGATE with a value", "discard", [...good, attribute(0x40, 6, [1])]],
  ["AGGREGATOR of 6 octets", "discard", [...good, attribute(0xc0, 7, [...u16(65002), 10, 0, 0, 2])]],
  ["AGGREGATOR of 9 octets", "discard", [...good, attribute(0xc0, 7, new Uint8Array(9))]],
  ["AGGREGATOR with AS 0 (RFC 7607)", "discard", [...good, attribute(0xc0, 7, [...u32(0), 10, 0, 0, 2])]],
  // 7.8 to 7.10
  ["COMMUNITIES of 5 octets", "withdraw", [...good, attribute(0xc0, 8, [1, 2, 3, 4, 5])]],
  ["COMMUNITIES of 0 octets", "withdraw", [...good, attribute(0xc0, 8)]],
  ["COMMUNITIES non-transitive", "withdraw", [...good, attribute(0x80, 8, u32(1))]],
  ["ORIGINATOR_ID from outside", "discard", [...good, attribute(0x80, 9, [1, 2, 3, 4])]],
  ["ORIGINATOR_ID from outside, of a wrong length", "discard", [...good, attribute(0x80, 9, [1])]],
  ["ORIGINATOR_ID from outside, transitive", "discard", [...good, attribute(0xc0, 9, [1, 2, 3, 4])]],
  ["CLUSTER_LIST from outside", "discard", [...good, attribute(0x80, 10, [1, 2, 3, 4])]],
  // 7.14, RFC 8092, RFC 6793
  ["EXTENDED_COMMUNITIES of 7 octets", "withdraw", [...good, attribute(0xc0, 16, new Uint8Array(7))]],
  ["EXTENDED_COMMUNITIES of 0 octets", "withdraw", [...good, attribute(0xc0, 16)]],
  ["LARGE_COMMUNITY of 11 octets", "withdraw", [...good, attribute(0xc0, 32, new Uint8Array(11))]],
  ["LARGE_COMMUNITY of 0 octets", "withdraw", [...good, attribute(0xc0, 32)]],
  ["AS4_PATH between 4-octet speakers", "discard", [...good, attribute(0xc0, 17, sequence([4_200_000_001]))]],
  ["AS4_AGGREGATOR of garbage", "discard", [...good, attribute(0xc0, 18, [1])]],
  // 3 and 4
  ["an unknown optional non-transitive attribute", "discard", [...good, attribute(0x80, 99, [1])]],
  ["COMMUNITIES twice", "discard", [...good, communities(1), communities(2)]],
  ["ORIGIN twice", "discard", [...good, origin(2)]],
  ["an attribute longer than the list", "withdraw", [...good, octets(0x80, 4, 200, 0, 0, 0, 1)]],
  ["a lone octet behind the attributes", "withdraw", [...good, octets(0x40)]],
  ["an extended length cut off", "withdraw", [...good, octets(0x90, 4, 0)]],
  ["attributes in descending order", "accept", [nextHop(NEXT), asPath(65002), origin()]],
  ["an extended length that was not needed", "accept", [attribute(0x50, 1, [0]), attribute(0x50, 2, sequence([65002])), nextHop(NEXT)]],
  ["lower flag bits set", "accept", [attribute(0x4f, 1, [0]), asPath(65002), nextHop(NEXT)]],
  ["Partial on an optional transitive attribute", "accept", [...good, attribute(0xe0, 8, u32(1))]],
  // 5.3, 3 (j)
  ["withdrawn routes longer than the message", { reset: "3/1" }, update({}).with(20, 30)],
  ["attributes longer than the message", { reset: "3/1" }, update({}).with(22, 30)],
  ["NLRI of length 33", { reset: "3/10" }, update({ attributes: good, nlri: [33, 1, 2, 3, 4, 5] })],
  ["NLRI cut off", { reset: "3/10" }, update({ attributes: good, nlri: [24, 1, 2] })],
  ["withdrawn NLRI of length 33", { reset: "3/10" }, update({ withdrawn: [33, 1, 2, 3, 4, 5] })],
  ["MP_REACH_NLRI twice", { reset: "3/1" }, [...good, mpReach(2, 1, HOP6, nlri(SIX)), mpReach(2, 1, HOP6, nlri(SIX))]],
  ["MP_UNREACH_NLRI twice", { reset: "3/1" }, [...good, mpUnreach(2, 1, nlri(SIX)), mpUnreach(2, 1, nlri(SIX))]],
  ["MP_REACH_NLRI with a next hop of 15 octets", { reset: "3/9" }, [...good, mpReach(2, 1, new Uint8Array(15), nlri(SIX))]],
  ["MP_REACH_NLRI with a next hop longer than itself", { reset: "3/9" }, [...good, attribute(0x80, 14, [0, 2, 1, 32, 1, 2, 3])]],
  ["MP_REACH_NLRI of 4 octets", { reset: "3/9" }, [...good, attribute(0x80, 14, [0, 2, 1, 0])]],
  ["MP_REACH_NLRI with a prefix of length 129", { reset: "3/9" }, [...good, mpReach(2, 1, HOP6, [129, ...new Uint8Array(17)])]],
  ["MP_UNREACH_NLRI of 2 octets", { reset: "3/9" }, [...good, attribute(0x80, 15, [0, 2])]],
  ["MP_UNREACH_NLRI with a prefix cut off", { reset: "3/9" }, [...good, mpUnreach(2, 1, [48, 1])]],
  // RFC 4271 section 6.3, which RFC 7606 leaves as it is
  ["an unknown well-known attribute", { reset: "3/2" }, [...good, attribute(0x40, 99, [1])]],
  ["an unknown attribute that is neither optional nor transitive", { reset: "3/2" }, [...good, attribute(0x00, 99, [1])]],
  // 5.2
  ["a wrong attribute without any NLRI", { reset: "3/6" }, update({ attributes: [origin(3)] })],
];

const internal: Case[] = [
  ["LOCAL_PREF of 3 octets", "withdraw", [...good, attribute(0x40, 5, [1, 2, 3])]],
  ["LOCAL_PREF optional", "withdraw", [...good, attribute(0xc0, 5, u32(1))]],
  ["LOCAL_PREF missing", "accept", good],
  ["ORIGINATOR_ID of 5 octets", "withdraw", [...good, localPref(100), attribute(0x80, 9, [1, 2, 3, 4, 5])]],
  ["CLUSTER_LIST of 0 octets", "withdraw", [...good, localPref(100), attribute(0x80, 10)]],
  ["CLUSTER_LIST of 6 octets", "withdraw", [...good, localPref(100), attribute(0x80, 10, new Uint8Array(6))]],
  ["an empty AS_PATH", "accept", [origin(), asPath(), nextHop(NEXT), localPref(100)]],
  ["AS_PATH with AS 0, which stays inside (RFC 7607)", "accept", [origin(), asPath(65002, 0), nextHop(NEXT), localPref(100)]],
];

describe.skipIf(lacking)(`an UPDATE with${lacking ? ` (${lacking})` : ""}`, () => {
  const holder = useScene();
  let bystander: { party: Party; peer: RawPeer };
  let sender: { party: Party; peer: RawPeer } | undefined;

  beforeEach(async () => {
    if (!bystander) {
      const party = await holder.scene.party({ remoteAsn: 65009 });
      bystander = { party, peer: await party.establish() };
      bystander.peer.send(
        update({ attributes: [origin(), asPath(65009), nextHop(NEXT)], nlri: nlri("203.0.113.0/24", "198.51.100.0/24") }),
      );
      expect((await party.routes()).size).toBe(2);
    }
  });
  afterEach(() => {
    sender?.party.close();
    sender = undefined;
  });

  /** A session that has announced a route of the prefix at stake and two others, good ones. */
  async function start(change: Parameters<typeof holder.scene.party>[0] = {}) {
    const party = await holder.scene.party(change);
    const peer = await party.establish();
    sender = { party, peer };
    peer.send(
      update({ attributes: [...good, med(7)], nlri: nlri("203.0.113.0/24", "192.0.2.0/24") }),
      update({ attributes: [origin(), asPath(65002), mpReach(2, 1, HOP6, nlri(SIX, "2001:db8:200::/48"))] }),
    );
    await party.until(({ families }) => expect([families["ipv4-unicast"]?.received, families["ipv6-unicast"]?.received]).toEqual([2, 2]));
    return { party, peer };
  }

  async function check([, effect, what]: Case, change?: Parameters<typeof holder.scene.party>[0]) {
    const { party, peer } = await start(change);
    const message = what instanceof Uint8Array ? what : update({ attributes: what, nlri: nlri("203.0.113.0/24") });
    peer.send(message);
    if (typeof effect === "object") {
      const [code, ...data] = (await peer.dismissal()).split(" ");
      expect(code).toBe(effect.reset);
      expect(Buffer.from(message).toString("hex")).toContain(data.join(""));
      const { lastDown, state } = await party.snapshot();
      expect([lastDown?.direction, lastDown?.code, state === "Established"]).toEqual(["sent", 3, false]);
      expect(lastDown?.offending).toBe(Buffer.from(message).toString("hex"));
      expect((await party.routes()).size).toBe(0);
    } else {
      await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(3));
      const routes = await party.routes();
      const { malformed } = await party.snapshot();
      expect(routes.has("203.0.113.0/24")).toBe(effect !== "withdraw");
      expect([routes.has("192.0.2.0/24"), routes.has(SIX), routes.has("2001:db8:200::/48")]).toEqual([true, true, true]);
      if (effect === "withdraw") {
        expect(malformed).toMatchObject({
          withdrawn: 1,
          last: { text: expect.stringMatching(/./), offending: Buffer.from(message).toString("hex") },
        });
      } else {
        expect(routes.get("203.0.113.0/24")?.attributes.med).toBeUndefined();
        expect(malformed?.withdrawn ?? 0).toBe(0);
        if (effect === "accept") expect(malformed).toBeUndefined();
      }
      expect(peer.ended).toBeUndefined();
    }
    expect(bystander.peer.ended).toBeUndefined();
    expect([...(await bystander.party.routes()).keys()].sort()).toEqual(["198.51.100.0/24", "203.0.113.0/24"]);
    return { party, peer };
  }

  it.each(external)("%s from an external neighbour: %j", async (...each) => {
    await check(each);
  });

  it.each(internal)("%s from an internal neighbour: %j", async (...each) => {
    await check(each, { remoteAsn: "internal" });
  });

  it("what is discarded is gone and the rest is there", async () => {
    const { party, peer } = await start();
    const whole = [
      ...[origin(2), asPath(65002, 65077), nextHop(NEXT), med(9), attribute(0x40, 6, [1]), attribute(0xc0, 7, new Uint8Array(3))],
      ...[communities(0xfdea0001), communities(0xfdea0002), localPref(900), attribute(0x80, 9, [1, 2, 3, 4]), attribute(0x80, 99, [1])],
    ];
    peer.send(update({ attributes: whole, nlri: nlri("203.0.113.0/24") }));
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(3));
    expect((await party.routes()).get("203.0.113.0/24")?.attributes).toEqual({
      origin: "incomplete",
      asPath: "65002 65077",
      nextHop: NEXT,
      med: 9,
      communities: ["65002:1"],
    });
    expect((await party.snapshot()).malformed).toMatchObject({ withdrawn: 0, discarded: 5 });
  });

  it("a malformed attribute in an MP_REACH_NLRI UPDATE withdraws that family's prefixes only", async () => {
    const { party, peer } = await start();
    peer.send(update({ attributes: [origin(3), asPath(65002), mpReach(2, 1, HOP6, nlri(SIX))] }));
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(3));
    expect([...(await party.routes()).keys()].sort()).toEqual(["192.0.2.0/24", "2001:db8:200::/48", "203.0.113.0/24"]);
  });

  it("the withdrawals of a malformed UPDATE hold, and its announcements of both families go", async () => {
    const { party, peer } = await start();
    peer.send(
      update({
        withdrawn: nlri("192.0.2.0/24"),
        attributes: [origin(3), asPath(65002), nextHop(NEXT), mpReach(2, 1, HOP6, nlri(SIX)), mpUnreach(2, 1, nlri("2001:db8:200::/48"))],
        nlri: nlri("203.0.113.0/24"),
      }),
    );
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(3));
    expect((await party.routes()).size).toBe(0);
    expect(peer.ended).toBeUndefined();
  });

  it("a prefix both withdrawn and announced counts as announced", async () => {
    const { party, peer } = await start();
    peer.send(update({ withdrawn: nlri("203.0.113.0/24"), attributes: [...good, med(8)], nlri: nlri("203.0.113.0/24") }));
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(3));
    expect((await party.routes()).get("203.0.113.0/24")?.attributes.med).toBe(8);
  });

  it("set bits beyond a prefix's length mean nothing, the default route is one", async () => {
    const { party, peer } = await start();
    peer.send(update({ attributes: good, nlri: octets(20, 198, 18, 0xff, 0, 1, 0xff) }));
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(3));
    const routes = await party.routes();
    expect([routes.has("198.18.240.0/20"), routes.has("0.0.0.0/0"), routes.has("128.0.0.0/1")]).toEqual([true, true, true]);
  });

  it("a family that was not negotiated is passed over", async () => {
    const party = await holder.scene.party();
    const peer = await party.connect();
    sender = { party, peer };
    await peer.establish(open({ id: party.address, parameters: optionalParameters(parameter(2, [...IPV4, 65, 4, ...u32(65002)])) }));
    peer.send(
      update({ attributes: [origin(), asPath(65002), mpReach(2, 1, HOP6, nlri(SIX))] }),
      update({ attributes: [...good, mpReach(1, 128, new Uint8Array(12), [1, 2, 3])], nlri: nlri("192.0.2.0/24") }),
      update({ attributes: [mpUnreach(25, 70, [1, 2, 3])] }),
    );
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(3));
    expect([...(await party.routes()).keys()]).toEqual(["192.0.2.0/24"]);
    expect(peer.ended).toBeUndefined();
  });

  it("an IPv6 next hop that is none", async () => {
    const { party, peer } = await start();
    for (const hop of ["00".repeat(16), `${"00".repeat(15)}01`, `ff02${"00".repeat(13)}01`]) {
      peer.send(
        update({ attributes: [origin(), asPath(65002), mpReach(2, 1, HOP6, nlri(SIX))] }),
        update({ attributes: [origin(), asPath(65002), mpReach(2, 1, hop, nlri(SIX))] }),
      );
    }
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(8));
    expect((await party.routes()).has(SIX)).toBe(false);
    expect((await party.snapshot()).malformed).toMatchObject({ withdrawn: 3 });
    peer.send(update({ attributes: [origin(), asPath(65002), mpReach(2, 1, octets(HOP6, `fe80${"00".repeat(13)}02`), nlri(SIX))] }));
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(9));
    expect((await party.routes()).get(SIX)?.attributes.nextHop).toBe(`${THEM6} fe80::2`);
  });
});
