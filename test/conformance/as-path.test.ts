/**
 * AS paths on the wire that no route is used with, whatever policy says: AS_SETs (RFC 9774), another first AS than the external neighbour's and
 * no AS at all (RFC 4271 sections 5.1.2 and 6.3). They cost that route, not the session, and the route of before goes.
 */
import { afterEach, describe, expect, it } from "vitest";
import {
  asPath,
  attribute,
  IPV4,
  localPref,
  mpReach,
  nextHop,
  nlri,
  octets,
  optionalParameters,
  origin,
  parameter,
  sequence,
  u16,
  u32,
  update,
} from "./octets.ts";
import { lacking, type Party, useScene } from "./scene.ts";

const NEXT = "10.0.0.2";
const HOP6 = "20010db8000000000000000000000002";
const PREFIX = "203.0.113.0/24";
const PREFIX6 = "2001:db8:113::/48";
const segment = (type: number, asns: number[]) => octets(type, asns.length, ...asns.map(u32));
const path = (...segments: Uint8Array[]) => attribute(0x40, 2, octets(...segments));
const set = (...asns: number[]) => segment(1, asns);
const confedSet = (...asns: number[]) => segment(4, asns);

describe.skipIf(lacking)(`an AS path${lacking ? ` (${lacking})` : ""}`, () => {
  const holder = useScene();
  const used: Party[] = [];
  afterEach(() => {
    for (const each of used.splice(0)) each.close();
  });
  type Change = Parameters<typeof holder.scene.party>[0];

  /** A good route of each family, then the same prefixes with this path: what became of them. */
  async function after(wrong: Uint8Array, change: Change = {}) {
    const party = await holder.scene.party(change);
    used.push(party);
    const peer = await party.establish();
    const rest = change?.remoteAsn === "internal" ? [localPref(100)] : [];
    const both = (what: Uint8Array) => [
      update({ attributes: [origin(), what, nextHop(NEXT), ...rest], nlri: nlri(PREFIX) }),
      update({ attributes: [origin(), what, ...rest, mpReach(2, 1, HOP6, nlri(PREFIX6))] }),
    ];
    peer.send(...both(asPath(65002)));
    await party.until(({ families }) => expect([families["ipv4-unicast"]?.accepted, families["ipv6-unicast"]?.accepted]).toEqual([1, 1]));
    peer.send(...both(wrong));
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(4));
    const routes = await party.routes();
    expect(peer.ended).toBeUndefined();
    expect((await party.snapshot()).malformed).toBeUndefined();
    return { party, peer, both, four: routes.get(PREFIX), six: routes.get(PREFIX6) };
  }

  const internal: Change = { remoteAsn: "internal" };
  it.each<[string, Uint8Array, RegExp, string, Change?]>([
    ["an AS_SET", path(segment(2, [65002]), set(7, 8)), /AS_SET/, "AsSet"],
    ["an AS_SET of one", path(segment(2, [65002]), set(7)), /AS_SET/, "AsSet"],
    ["an AS_SET alone", path(set(65002)), /AS_SET/, "AsSet"],
    ["an AS_SET inside our AS", path(segment(2, [65002]), set(7, 8)), /AS_SET/, "AsSet", internal],
    ["an AS_CONFED_SET inside our AS", path(confedSet(7, 8), segment(2, [65002])), /AS_SET/, "AsSet", internal],
    ["another AS in front", asPath(65003, 65002), /begin with 65002/, "FirstAs"],
    ["no AS", asPath(), /empty AS path/, "EmptyPath"],
  ])("with %s takes the place of the former route and is not used", async (_name, wrong, reason, counted, change) => {
    const { party, four, six } = await after(wrong, change);
    for (const route of [four, six]) expect(route).toMatchObject({ best: false, eligible: false, reason: expect.stringMatching(reason) });
    const { families } = await party.snapshot();
    expect(families["ipv4-unicast"]).toMatchObject({ received: 1, accepted: 0, rejectedBecause: { [counted]: 1 } });
    expect(families["ipv6-unicast"]).toMatchObject({ received: 1, accepted: 0, rejectedBecause: { [counted]: 1 } });
    const explained = await holder.scene.speaker.explain(PREFIX);
    expect(explained?.candidates.find(({ from }) => from === party.name)?.import).toMatchObject({ accepted: false });
  });

  it.each<[string, Uint8Array, Change]>([
    ["an AS_SET where allowed", path(segment(2, [65002]), set(7, 8)), { allowAsSets: true }],
    ["an AS_CONFED_SET where allowed", path(confedSet(7, 8)), { ...internal, allowAsSets: true }],
    ["another AS in front where allowed", asPath(65003), { enforceFirstAs: false }],
    ["another AS in front from inside", asPath(65003), internal],
    ["no AS from inside", asPath(), internal],
    ["the neighbour's AS several times", asPath(65002, 65002, 7), {}],
  ])("with %s is used", async (_name, fine, change) => {
    const { four, six } = await after(fine, change);
    expect([four?.eligible, six?.eligible]).toEqual([true, true]);
  });

  it("is judged again when the switch turns, without the session or the neighbour noticing", async () => {
    const { party, peer } = await after(path(segment(2, [65003]), set(7)));
    const change = (values: object) =>
      holder.scene.apply({
        neighbors: holder.scene.config.neighbors.map(each => (each.name === party.name ? { ...each, ...values } : each)),
      });
    const sent = peer.messages.length;
    for (const [values, usable] of [
      [{ allowAsSets: true }, false],
      [{ allowAsSets: true, enforceFirstAs: false }, true],
      [{ allowAsSets: false, enforceFirstAs: false }, false],
      [{ allowAsSets: true, enforceFirstAs: false }, true],
      [{ allowAsSets: true, enforceFirstAs: true }, false],
    ] as const) {
      await change(values);
      await expect.poll(async () => (await party.routes()).get(PREFIX)?.eligible).toBe(usable);
      await expect.poll(async () => (await party.routes()).get(PREFIX6)?.eligible).toBe(usable);
    }
    expect(peer.messages.slice(sent).filter(message => message[18] === 5)).toEqual([]);
    expect((await party.snapshot()).counters.establishedCount).toBe(1);
  });

  it("of a 2-octet session is judged as AS4_PATH completes it", async () => {
    const party = await holder.scene.party();
    used.push(party);
    const peer = await party.establish({ parameters: optionalParameters(parameter(2, IPV4)) });
    const short = (...asns: number[]) => attribute(0x40, 2, sequence(asns, 2));
    const as4Path = (...segments: Uint8Array[]) => attribute(0xc0, 17, octets(...segments));
    const send = (prefix: string, ...attributes: Uint8Array[]) =>
      peer.send(update({ attributes: [origin(), ...attributes, nextHop(NEXT)], nlri: nlri(prefix) }));
    send("198.51.100.0/24", short(65002, 23456), as4Path(segment(2, [4_200_000_009])));
    send("198.51.101.0/24", short(65002, 23456), as4Path(set(4_200_000_009, 4_200_000_010)));
    send("198.51.102.0/24", short(65002, 23456), as4Path(segment(2, [65003, 4_200_000_009])));
    send("198.51.103.0/24", attribute(0x40, 2, octets(2, 1, u16(65002), 1, 2, u16(7), u16(8))));
    await party.until(({ counters }) => expect(counters.messagesIn.update).toBe(4));
    const routes = await party.routes();
    expect([...routes.values()].map(({ prefix, eligible }) => [prefix, eligible]).sort()).toEqual([
      ["198.51.100.0/24", true],
      ["198.51.101.0/24", false],
      ["198.51.102.0/24", false],
      ["198.51.103.0/24", false],
    ]);
    const reasons = { AsSet: 2, FirstAs: 1 };
    expect((await party.snapshot()).families["ipv4-unicast"]?.rejectedBecause).toEqual(reasons);
  });
});
