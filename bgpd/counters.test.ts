import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const A = "10.0.0.1";
const B = "10.0.0.2";
const C = "10.0.0.3";

let world: MemoryWorld;
let a: MemorySpeaker;
let b: MemorySpeaker;

/** A between B and C, which is not there. */
beforeEach(async () => {
  world = new MemoryWorld();
  a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002), neighborAt(C, 65003)], networks: [network("10.1.0.0/16")] });
  b = world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001)], networks: [network("10.2.0.0/16")] });
  for (const speaker of [a, b]) speaker.apply();
  await world.run(10);
});
afterEach(() => world.close());

const ends = (speaker: MemorySpeaker, what: string) =>
  speaker.speaker.counters().ends.flatMap(end => (end.what === what ? [`${end.reason} ${end.notification} ${end.count}`] : []));

describe("a speaker counts", () => {
  it("what its sessions say and hear, and the states they enter", () => {
    const { sessions, states, entered, undecided, unsent } = a.speaker.counters();
    expect(sessions.messagesIn.update).toBeGreaterThan(0);
    expect(sessions.messagesIn.update).toBe(b.speaker.counters().sessions.messagesOut.update);
    expect(sessions.octetsOut).toBeGreaterThan(0);
    expect([states.Established, entered.Established]).toEqual([1, 1]);
    expect([undecided, unsent]).toEqual([
      { "ipv4-unicast": 0, "ipv6-unicast": 0 },
      { "ipv4-unicast": 0, "ipv6-unicast": 0 },
    ]);
  });

  it("attempts that failed apart from sessions that ended", async () => {
    expect([ends(a, "session"), ends(a, "attempt")]).toEqual([
      [],
      expect.arrayContaining([expect.stringMatching(/^Transport none [1-9]/)]),
    ]);
    world.cut(B);
    await world.run(10);
    expect(ends(a, "session")).toEqual(["Transport none 1"]);
  });

  it("by the NOTIFICATION that ended them", async () => {
    b.speaker.reset(A, "test");
    await world.run(10);
    expect([ends(b, "session"), ends(a, "session")]).toEqual([["AdministrativeReset sent 1"], ["AdministrativeReset received 1"]]);
  });

  it("what removed neighbours did: no sum falls", async () => {
    const before = a.speaker.counters();
    a.apply({ neighbors: [] });
    const at = a.speaker.counters();
    await world.run(10);
    const after = a.speaker.counters();
    const { messagesIn, messagesOut } = before.sessions;
    for (const later of [at, after])
      expect(later.sessions).toMatchObject({ messagesIn, messagesOut: { ...messagesOut, notification: messagesOut.notification + 1 } });
    expect(ends(a, "session")).toEqual(["PeerDeconfigured sent 1"]);
  });
});
