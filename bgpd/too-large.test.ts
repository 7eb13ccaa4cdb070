/** Routes whose attributes leave no room for them in a message of a neighbour (RFC 4271 section 9.2, RFC 8654 section 4). */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseAddress } from "../net/address.ts";
import { UpdateDecoder } from "./message/update-decoder.ts";
import type { RawPeer } from "./session/testing.ts";
import { type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const A = "10.0.0.1";
const OLD = "10.0.0.2";
const NEW = "10.0.0.3";
/**
 * Communities that leave room for 3 octets of prefix in 4096: header and lengths take 23, ORIGIN 4, AS_PATH 9, NEXT_HOP 7, MED 7, one large
 * community 15, and the head of COMMUNITIES 4.
 */
const MOST = (4096 - 23 - 4 - 9 - 7 - 7 - 15 - 4 - 3) / 4;

let world: MemoryWorld;
let a: MemorySpeaker;
let old: RawPeer[];

/** OLD takes messages of 4096 octets, NEW of 65535. */
beforeEach(async () => {
  world = new MemoryWorld();
  old = world.rawPeer(OLD, 65002);
  world.rawPeer(NEW, 65003, { extendedMessage: true });
  const source = (address: string) => ({ source: `Peer/${address}` });
  a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(OLD, 65002, source(OLD)), neighborAt(NEW, 65003, source(NEW))] });
  a.apply();
  await world.run(10);
});

afterEach(() => world.close());

const marked = (prefix: string, count: number) =>
  network(prefix, {
    attributes: { med: 5, largeCommunities: ["65001:1:1"], communities: Array.from({ length: count }, (_, n) => `65001:${n}`) },
  });

/** "+" for each prefix announced, "-" for each withdrawn, in the order in which they came. */
function heard(peer: RawPeer): string[] {
  const decoder = new UpdateDecoder({ fourOctetAsn: true, internal: false, families: ["ipv4-unicast"] });
  return peer.ofType(2).flatMap(message => {
    decoder.decode(message);
    const nlri = (start: number, end: number) => Array.from(message.subarray(start, end)).join(".");
    const announced = decoder.announcedStart.slice(0, decoder.announcedCount).map((start, i) => `+${nlri(start, decoder.announcedEnd[i])}`);
    const withdrawn = decoder.withdrawnStart.slice(0, decoder.withdrawnCount).map((start, i) => `-${nlri(start, decoder.withdrawnEnd[i])}`);
    return [...withdrawn, ...announced];
  });
}

describe("a route that no message to a neighbour can hold", () => {
  it("is withdrawn, is not counted as sent, and is a problem with a remedy until it fits again", async () => {
    a.apply({ networks: [marked("10.1.2.0/24", 1)] });
    await world.run(1);
    a.apply({ networks: [marked("10.1.2.0/24", MOST)] });
    await world.run(1);
    expect(heard(old[0])).toEqual(["+24.10.1.2", "-24.10.1.2"]);
    expect(a.neighbor(OLD).families["ipv4-unicast"]).toMatchObject({ sent: 0, tooLarge: 1 });
    expect(a.speaker.adjRibOut(OLD)).toEqual({ routes: [], total: 0 });
    expect(a.speaker.problems()).toEqual([
      {
        severity: "error",
        reason: "RouteTooLarge",
        object: `Peer/${OLD}`,
        field: "export (ipv4-unicast)",
        message: `10.1.2.0/24 is not sent to ${OLD}: with their attributes no message of 4096 octets can hold them`,
        remedy: expect.stringContaining("remove communities by an export policy of this neighbour, or give it longer messages (RFC 8654)"),
      },
    ]);
    const [toOld, toNew] = a.speaker.explain("10.1.2.0/24").sent;
    expect(toOld).toEqual({
      neighbor: OLD,
      advertised: false,
      step: "TooLarge",
      reason: "its attributes make an UPDATE of 4097 octets, and the session allows 4096",
    });
    expect(toNew).toMatchObject({ neighbor: NEW, advertised: true });
    expect(a.neighbor(NEW).families["ipv4-unicast"]).toMatchObject({ sent: 1, tooLarge: undefined });

    a.apply({ networks: [marked("10.1.2.0/24", MOST - 1)] });
    await world.run(1);
    expect(heard(old[0]).slice(2)).toEqual(["+24.10.1.2"]);
    expect(a.neighbor(OLD).families["ipv4-unicast"]).toMatchObject({ sent: 1, tooLarge: undefined });
    expect(a.speaker.problems()).toEqual([]);
  });

  it("is sent where its prefix is short enough: a message is filled to its last octet", async () => {
    a.apply({ networks: [marked("10.1.2.0/24", MOST), marked("10.3.0.0/16", MOST), marked("10.4.0.0/16", MOST)] });
    await world.run(1);
    expect(heard(old[0]).sort()).toEqual(["+16.10.3", "+16.10.4"]);
    expect(
      old[0]
        .ofType(2)
        .map(message => message.length)
        .filter(length => length === 4096),
    ).toHaveLength(2);
    expect(a.neighbor(OLD).families["ipv4-unicast"]).toMatchObject({ sent: 2, tooLarge: 1 });
  });

  it("is no problem any more when it is gone, or the neighbour", async () => {
    a.apply({ networks: [marked("10.1.2.0/24", MOST), marked("10.5.2.0/24", MOST)] });
    await world.run(1);
    expect(a.speaker.problems()[0].message).toContain("2 routes, 10.1.2.0/24 among them, are not sent");
    a.apply({ networks: [marked("10.1.2.0/24", MOST)] });
    await world.run(1);
    expect(a.neighbor(OLD).families["ipv4-unicast"]?.tooLarge).toBe(1);
    world.cut(OLD);
    world.network.listen(parseAddress(OLD), () => {});
    await world.run(1);
    expect(a.speaker.problems()).toEqual([]);
    a.apply({ networks: [] });
    await world.run(1);
    expect(a.speaker.snapshot().tables["ipv4-unicast"]).toEqual({ prefixes: 0, paths: 0, best: 0 });
  });
});
