/** What a neighbour may bring: limits of prefixes and of attribute octets, reached from outside or lowered by ourselves. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const A = "10.0.0.1";
const B = "10.0.0.2";
let world: MemoryWorld;
let a: MemorySpeaker;
let b: MemorySpeaker;

const family = (change: object) => ({ families: { "ipv4-unicast": { ...accepting, ...change } } });
const withB = (change: object) => ({ neighbors: [neighborAt(B, 65002, { source: "Peer/b", ...change })] });

beforeEach(async () => {
  world = new MemoryWorld();
  a = world.speaker(A, { asn: 65001 });
  b = world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001)] });
  b.apply({ networks: Array.from({ length: 6 }, (_, n) => network(`10.${n}.0.0/16`, { attributes: { med: n } })) });
});
afterEach(() => world.close());

describe("what the neighbour brings", () => {
  it("too many prefixes that no policy accepts: Cease/1, nothing kept beyond the limit, a problem with the field", async () => {
    a.apply(withB(family({ importDefault: "reject", prefixLimit: 100, receivedLimit: 4 })));
    await world.run(10);
    expect(a.neighbor(B)).toMatchObject({
      state: "Idle",
      lastDown: { code: 6, subcode: 1, text: expect.stringContaining("more than 4 ipv4-unicast prefixes, accepted or not") },
    });
    // Whatever it hears later, when it tries again.
    expect(b.log.lines).toContainEqual(expect.stringContaining("Maximum Number of Prefixes Reached: ipv4-unicast, limit 4"));
    expect(a.speaker.problems()).toEqual([
      expect.objectContaining({ severity: "error", object: "Peer/b", field: "receivedLimit (ipv4-unicast)" }),
    ]);
  });

  it("too many octets: Cease/8", async () => {
    a.apply(withB({ ...family({ importDefault: "reject" }), attributeOctetsLimit: 150 }));
    await world.run(10);
    expect(a.neighbor(B).lastDown).toMatchObject({
      code: 6,
      subcode: 8,
      text: expect.stringContaining("more than 150 octets of path attributes"),
    });
    expect(a.speaker.problems()).toEqual([expect.objectContaining({ field: "attributeOctetsLimit" })]);
  });

  it("a part of the limit that is worth a warning", async () => {
    a.apply(withB(family({ importDefault: "reject", receivedLimit: 7 })));
    await world.run(10);
    expect(a.neighbor(B)).toMatchObject({ state: "Established", families: { "ipv4-unicast": { received: 6, receivedLimit: 7 } } });
    expect(a.neighbor(B).attributeOctets).toBeGreaterThan(100);
    expect(a.speaker.problems()).toEqual([expect.objectContaining({ severity: "warning", field: "receivedLimit (ipv4-unicast)" })]);
  });
});

describe("a limit that we lower below what is there", () => {
  beforeEach(async () => {
    a.apply(withB(family({})));
    await world.run(10);
    expect(a.neighbor(B).state).toBe("Established");
  });

  it.each<[string, object, string]>([
    ["accepted prefixes", family({ prefixLimit: 5 }), "more than 5 ipv4-unicast prefixes accepted"],
    ["kept prefixes", family({ receivedLimit: 5 }), "more than 5 ipv4-unicast prefixes, accepted or not"],
    ["attribute octets", { ...family({}), attributeOctetsLimit: 150 }, "more than 150 octets of path attributes"],
  ])("of %s closes the session at once, and the report says so", async (_what, change, text) => {
    expect(a.apply(withB(change))).toEqual([`${B}: change: session closed: ${text}`]);
    await world.run(1);
    expect(a.neighbor(B)).toMatchObject({ state: "Idle", lastDown: { text: expect.stringContaining(text) } });
    // Raised again, it is tried at once.
    a.apply(withB(family({})));
    await world.run(10);
    expect(a.neighbor(B).state).toBe("Established");
  });

  it("together with a policy that accepts less counts what is accepted then", async () => {
    const some = { some: { rules: [{ match: { prefixes: [{ prefix: "10.0.0.0/14", le: 32 }] }, action: { result: "accept" as const } }] } };
    const limited = { prefixLimit: 5, importPolicies: ["some"], importDefault: "reject" };
    a.apply({ policies: some, ...withB(family(limited)) });
    await world.run(1);
    expect(a.neighbor(B)).toMatchObject({ state: "Established", families: { "ipv4-unicast": { accepted: 4 } } });
    a.apply({ policies: {}, ...withB(family({ prefixLimit: 5 })) });
    await world.run(1);
    expect(a.neighbor(B).lastDown?.text).toContain("more than 5 ipv4-unicast prefixes accepted");
  });
});
