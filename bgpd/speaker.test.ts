import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseAddress } from "../net/address.ts";
import type { NeighborConfig, SpeakerConfig } from "./config.ts";
import { forwardingFamily } from "./family.ts";
import { buildAttributes } from "./message/attributes.ts";
import { MessageType } from "./message/header.ts";
import { UpdateWriter } from "./message/update-writer.ts";
import { RawPeer } from "./session/testing.ts";
import { accepting, type MemorySpeaker, MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

const ipv4Unicast = forwardingFamily(4);

const A = "10.0.0.1";
const B = "10.0.0.2";
const C = "10.0.0.3";

let world: MemoryWorld;
let a: MemorySpeaker;
let b: MemorySpeaker;
let c: MemorySpeaker;

/** A in AS 65001 between B in 65002 and C in 65003. */
beforeEach(async () => {
  world = new MemoryWorld();
  a = world.speaker(A, { asn: 65001, neighbors: [neighborAt(B, 65002), neighborAt(C, 65003)] });
  b = world.speaker(B, { asn: 65002, neighbors: [neighborAt(A, 65001)], networks: [network("10.2.0.0/16")] });
  c = world.speaker(C, { asn: 65003, neighbors: [neighborAt(A, 65001)] });
  for (const speaker of [a, b, c]) speaker.apply();
  await world.run(10);
  expect(sessions()).toEqual([1, 1]);
});

afterEach(() => world.close());

const sessions = () => a.speaker.snapshot().neighbors.map(neighbor => neighbor.counters.establishedCount);

/** A's neighbour B with this change. */
const withB = (change: Partial<NeighborConfig>): Partial<SpeakerConfig> => ({
  neighbors: a.config.neighbors.map(neighbor => (neighbor.name === B ? { ...neighbor, ...change } : neighbor)),
});

describe("apply", () => {
  it("changes nothing where nothing changed", async () => {
    expect(a.apply()).toEqual([]);
    await world.run(5);
    expect(sessions()).toEqual([1, 1]);
  });

  it("adds a neighbour, a policy and a network without touching the sessions there are", async () => {
    expect(a.apply({ neighbors: [...a.config.neighbors, neighborAt("10.0.0.4", 65004)] })).toEqual(["10.0.0.4: add: added"]);
    expect(a.apply({ policies: { unused: { rules: [{ action: { result: "reject" } }] } } })).toEqual([]);
    expect(a.apply({ networks: [network("10.1.0.0/16")] })).toEqual([]);
    await world.run(5);
    expect(sessions()).toEqual([1, 1, 0]);
    expect([b.best["10.1.0.0/16"], c.best]).toEqual([A, { "10.1.0.0/16": A, "10.2.0.0/16": A }]);
    a.apply({ networks: [] });
    await world.run(1);
    expect([b.best["10.1.0.0/16"], c.best]).toEqual([undefined, { "10.2.0.0/16": A }]);
  });

  it.each<[string, Partial<NeighborConfig>]>([
    ["hold time", { holdTime: 30 }],
    ["password", { password: "secret" }],
    ["remote AS", { remoteAsn: 65009 }],
    ["local AS", { localAsn: 65009 }],
    ["families", { families: { "ipv4-unicast": accepting, "ipv6-unicast": accepting } }],
  ])("resets only the session whose %s changes", async (field, change) => {
    expect(a.apply(withB(change))).toEqual([`${B}: reset: session reset: ${field} changed`]);
    await world.run(10);
    expect(a.neighbor(C).counters.establishedCount).toBe(1);
    if (!field.endsWith(" AS")) expect([a.neighbor(B).state, c.best]).toEqual(["Established", { "10.2.0.0/16": A }]);
  });

  it("applies an import policy to the routes at hand, an export policy to what was sent", async () => {
    const policies = { none: { rules: [{ action: { result: "reject" as const } }] } };
    const importing = { families: { "ipv4-unicast": { ...accepting, importPolicies: ["none"] } } };
    expect(a.apply({ policies, ...withB(importing) })).toEqual([`${B}: change: import policy applied again to the routes at hand`]);
    await world.run(1);
    expect([a.best, c.best, a.neighbor(B).families["ipv4-unicast"]]).toMatchObject([{}, {}, { received: 1, accepted: 0, rejected: 1 }]);
    expect(a.apply(withB({ families: { "ipv4-unicast": accepting } }))).toHaveLength(1);
    await world.run(1);
    expect(c.best).toEqual({ "10.2.0.0/16": A });
    const exporting = a.config.neighbors.map(neighbor => ({
      ...neighbor,
      families: { "ipv4-unicast": { ...accepting, exportPolicies: ["none"] } },
    }));
    expect(a.apply({ neighbors: [a.config.neighbors[0], exporting[1]] })).toEqual([
      `${C}: change: ipv4-unicast: export rules changed, routes sent again where they differ`,
    ]);
    await world.run(1);
    expect([c.best, sessions()]).toEqual([{}, [1, 1]]);
  });

  it("removes a neighbour and its routes; the neighbour hears Cease/3", async () => {
    expect(a.apply({ neighbors: [neighborAt(C, 65003)] })).toEqual([`${B}: remove: removed`]);
    await world.run(0.1);
    expect([a.best, c.best, b.neighbor(A).lastDown]).toMatchObject([{}, {}, { code: 6, subcode: 3, direction: "received" }]);
    expect(sessions()).toEqual([1]);
  });

  it("shuts a neighbour down with its message, and starts it again", async () => {
    expect(a.apply(withB({ shutdown: { message: "upgrade" } }))).toEqual([`${B}: change: shut down`]);
    await world.run(0.1);
    expect(b.neighbor(A).lastDown).toMatchObject({ code: 6, subcode: 2, direction: "received" });
    expect(b.neighbor(A).lastDown?.text).toContain("upgrade");
    await world.run(30);
    expect([a.neighbor(B).state, a.neighbor(B).reason, c.best]).toEqual(["Idle", 'administratively shut down: "upgrade"', {}]);
    // B has tried again since, and hears the reason each time (RFC 9003).
    const { messagesIn } = b.neighbor(A).counters;
    expect(messagesIn.notification).toBeGreaterThan(1);
    expect(b.neighbor(A).lastDown?.text).toContain("upgrade");
    expect(a.apply(withB({ shutdown: { message: "until Monday" } }))).toEqual([`${B}: change: shut down`]);
    await world.run(60);
    expect(b.neighbor(A).lastDown?.text).toContain("until Monday");
    expect(a.apply(withB({ shutdown: undefined }))).toEqual([`${B}: change: no longer shut down`]);
    await world.run(90);
    expect([a.neighbor(B).state, c.best, a.neighbor(C).counters.establishedCount]).toEqual(["Established", { "10.2.0.0/16": A }, 1]);
  });

  it("says of a neighbour that is shut down from the start that it is, and why", async () => {
    a.apply({ neighbors: [neighborAt(C, 65003), neighborAt(B, 65002, { holdTime: 30, shutdown: { message: "not yet" } })] });
    await world.run(60);
    expect([a.neighbor(B).state, a.neighbor(B).reason]).toEqual(["Idle", 'administratively shut down: "not yet"']);
    expect(b.neighbor(A).lastDown?.text).toContain("not yet");
  });

  it.each<[string, Partial<NeighborConfig>]>([
    ["passive", { passive: true }],
    ["connect retry time", { connectRetryTime: 7 }],
    ["keepalive time", { keepaliveTime: 5 }],
    ["restart time", { restartTime: 300 }],
    ["remote AS, which fits", { remoteAsn: "external" }],
    ["advertisement interval", { advertisementInterval: 5 }],
    ["description", { description: "the other one" }],
    ["limit", { attributeOctetsLimit: 1_000_000 }],
  ])("resets no session for what it can take over as it runs: %s", async (_, change) => {
    expect(a.apply(withB(change)).filter(line => line.includes("reset"))).toEqual([]);
    await world.run(200);
    expect([sessions(), a.neighbor(B).state, c.best]).toEqual([[1, 1], "Established", { "10.2.0.0/16": A }]);
    // The next one is made by it.
    if ("passive" in change) {
      world.cut(B);
      await world.run(20);
      expect([sessions(), a.neighbor(B).state]).toEqual([[2, 1], "Established"]);
    }
  });

  it("sends KEEPALIVEs in the new rhythm at once", async () => {
    const { keepalive } = a.neighbor(B).counters.messagesOut;
    a.apply(withB({ keepaliveTime: 2 }));
    await world.run(20);
    const { counters, keepaliveTime } = a.neighbor(B);
    expect(counters.messagesOut.keepalive - keepalive).toBeGreaterThanOrEqual(10);
    expect(keepaliveTime).toBe(2);
  });

  it("resets a session at once where there is none to lose", async () => {
    a.apply({ neighbors: [...a.config.neighbors, neighborAt("10.0.0.4", 65004)] });
    await world.run(1);
    const changed = a.config.neighbors.map(one => (one.name === "10.0.0.4" ? { ...one, passive: true } : one));
    expect(a.apply({ neighbors: changed })).toEqual(["10.0.0.4: reset: session reset: passive changed"]);
    await world.run(1);
    expect(a.neighbor("10.0.0.4").reason).toContain("waiting for the neighbour to connect");
  });

  it("resets all sessions for another AS number, one after the other, and says why", async () => {
    expect(a.apply({ asn: 65010 })).toEqual([
      `${B}: reset: session reset: AS number changed from 65001 to 65010`,
      `${C}: reset: session is reset when others are back: AS number changed from 65001 to 65010`,
    ]);
    await world.run(1);
    expect(a.neighbor(C).state).toBe("Established");
  });

  it("refuses what it cannot carry out before it changes anything", async () => {
    const broken = { ...accepting, importPolicies: ["missing"] };
    const before = a.config;
    expect(() => a.apply({ networks: [network("10.9.0.0/16")], ...withB({ families: { "ipv4-unicast": broken } }) })).toThrow("missing");
    a.config = before;
    expect(a.apply()).toEqual([]);
    await world.run(1);
    expect([c.best, sessions()]).toEqual([{ "10.2.0.0/16": A }, [1, 1]]);
  });

  it("tells a restricted network only to those that hear what announces it, whoever came first", async () => {
    const networks = [network("10.1.0.0/16", { restricted: true, sources: ["Advertisement/one"] })];
    const { neighbors } = a.config;
    const heardBy = (address: string) =>
      neighbors.map(neighbor => (neighbor.name === address ? { ...neighbor, hears: ["Advertisement/one"] } : neighbor));
    a.apply({ networks, neighbors: heardBy(B) });
    await world.run(1);
    expect([b.best["10.1.0.0/16"], c.best["10.1.0.0/16"]]).toEqual([A, undefined]);
    a.apply({ networks, neighbors: heardBy(C) });
    await world.run(1);
    expect([b.best["10.1.0.0/16"], c.best["10.1.0.0/16"]]).toEqual([undefined, A]);
  });
});

describe("two networks of one prefix", () => {
  const one = network("10.1.0.0/16", { source: "Advertisement/one", attributes: { communities: ["65001:1"] } });
  const two = network("10.1.0.0/16", { source: "Advertisement/two", attributes: { communities: ["65001:2"] } });

  it.each([
    ["in this order", [one, two]],
    ["in the other", [two, one]],
  ])("are a problem, and the first by name is taken: %s", async (_order, networks) => {
    a.apply({ networks });
    await world.run(1);
    expect(b.speaker.routesNow({ prefix: "10.1.0.0/16" }).routes[0].attributes.communities).toEqual(["65001:1"]);
    expect(a.speaker.problems()).toEqual([
      {
        severity: "warning",
        reason: "DuplicateNetwork",
        object: "Advertisement/two",
        field: "prefix",
        message: "10.1.0.0/16 is announced by Advertisement/one already: what this one says of it has no effect",
        remedy: "take 10.1.0.0/16 out of one of them, and put the attributes and neighbours that are wanted into the other",
      },
    ]);
    a.apply({ networks: [two] });
    await world.run(1);
    expect([a.speaker.problems(), b.speaker.routesNow({ prefix: "10.1.0.0/16" }).routes[0].attributes.communities]).toEqual([
      [],
      ["65001:2"],
    ]);
  });
});

describe("the prefix limit", () => {
  it("ends the session with Cease/1, and it stays down for a while", async () => {
    a.apply(withB({ families: { "ipv4-unicast": { ...accepting, prefixLimit: 2 } } }));
    b.apply({ networks: ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"].map(prefix => network(prefix)) });
    await world.run(0.1);
    expect(b.neighbor(A).lastDown).toMatchObject({ code: 6, subcode: 1, direction: "received" });
    await world.run(200);
    expect([a.best, a.neighbor(B).state, a.neighbor(B).counters.establishedCount]).toEqual([{}, "Idle", 1]);
    expect(a.neighbor(B).reason).toContain("more than 2 ipv4-unicast prefixes accepted");
    expect(a.speaker.problems()).toMatchObject([
      { severity: "error", message: expect.stringContaining("the session was closed (Cease/1)") },
    ]);
  });

  const tooMany = () => b.apply({ networks: ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"].map(prefix => network(prefix)) });
  const limited = (prefixLimitRestart?: number, prefixLimit = 2) =>
    withB({ families: { "ipv4-unicast": { ...accepting, prefixLimit, prefixLimitRestart } } });

  it.each([
    [undefined, 300],
    [20, 20],
  ])("restart %s: the session is tried again after %i s, and ends again", async (restart, seconds) => {
    a.apply(limited(restart));
    tooMany();
    await world.run(1);
    expect(a.speaker.problems()[0].remedy).toContain(`it is tried again after ${seconds} s`);
    // Jitter takes at most a quarter off.
    await world.run(seconds * 0.75 - 2);
    expect(a.neighbor(B).counters.establishedCount).toBe(1);
    await world.run(seconds * 0.25 + 60);
    expect(a.neighbor(B).counters.establishedCount).toBeGreaterThan(1);
    expect(a.best).toEqual({});
  });

  it("restart 0: the session stays down until it is reset, or its limit changes", async () => {
    a.apply(limited(0));
    tooMany();
    await world.run(100_000);
    expect([a.neighbor(B).state, a.neighbor(B).counters.establishedCount]).toEqual(["Idle", 1]);
    expect(a.speaker.problems()[0].remedy).toContain("it stays down until the limit changes or it is reset");
    a.speaker.reset(B, "the operator says so");
    await world.run(60);
    expect([a.neighbor(B).state, a.neighbor(B).counters.establishedCount]).toEqual(["Idle", 2]);
    expect(a.apply(limited(0, 3))).toEqual([`${B}: change: prefix limit changed, connecting again`]);
    await world.run(60);
    expect([a.neighbor(B).state, Object.keys(a.best).length, a.speaker.problems().map(({ severity }) => severity)]).toEqual([
      "Established",
      3,
      ["warning"],
    ]);
  });

  it("tells a neighbour made of octets Cease/1 with family and limit, and refuses its next connection", async () => {
    const D = "10.0.0.4";
    const peers = world.rawPeer(D, 65004);
    const families = { "ipv4-unicast": { ...accepting, prefixLimit: 1, prefixLimitRestart: 0 } };
    a.apply({ neighbors: [...a.config.neighbors, neighborAt(D, 65004, { families })] });
    await world.run(5);
    const writer = new UpdateWriter({ fourOctetAsn: true, maxMessageLength: 4096 });
    const set = buildAttributes({ origin: 0, asPath: [{ type: 2, asns: [65004] }], nextHop: parseAddress(D) });
    writer.announce(ipv4Unicast, set, 0, set.length);
    for (const word of [0x0a040000, 0x0a050000]) writer.prefix4(word, 16);
    peers[0].wire?.write(writer.take());
    await world.run(1000);
    expect(peers.map(peer => peer.ofType(MessageType.Notification).map(message => [...message.subarray(19)]))).toEqual([
      [[6, 1, 0, 1, 1, 0, 0, 0, 1]],
    ]);
    const again = new RawPeer();
    world.network.transport(parseAddress(D), parseAddress(A)).connect(again);
    await world.run(1);
    expect(again.notifications).toEqual(["6/5"]);
  });

  it("is a problem before it is reached", async () => {
    a.apply(withB({ families: { "ipv4-unicast": { ...accepting, prefixLimit: 4, prefixWarning: 75 } } }));
    b.apply({ networks: ["10.2.0.0/16", "10.3.0.0/16"].map(prefix => network(prefix)) });
    await world.run(0.1);
    expect(a.speaker.problems()).toEqual([]);
    b.apply({ networks: ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"].map(prefix => network(prefix)) });
    await world.run(0.1);
    expect(a.speaker.problems()).toMatchObject([
      { severity: "warning", message: expect.stringContaining("3 of at most 4 ipv4-unicast prefixes") },
    ]);
  });
});

describe("explain", () => {
  it("names candidates, the step that decided, the neighbours told and the kernel", async () => {
    c.apply({ networks: [network("10.2.0.0/16", { attributes: { origin: "incomplete" } })] });
    await world.run(1);
    const told = a.speaker.explain("10.2.0.0/16");
    expect(told.matched).toBeUndefined();
    expect(told.candidates.map(({ from, best, reason }) => [from, best, reason])).toEqual([
      [B, true, "best"],
      [C, false, "worse origin"],
    ]);
    expect(told.decision).toBe(`${B} chosen over ${C}; last decided by: worse origin`);
    expect(told.sent.map(({ neighbor, advertised, reason }) => [neighbor, advertised, reason])).toEqual([
      [B, false, "the best route came from it"],
      [C, true, "accepted by default"],
    ]);
    expect(told.kernel).toEqual({ installed: false, text: "this speaker writes no kernel routes", others: [] });
    expect(told.forwards).toBeUndefined();
  });

  it("finds the longest match of an address and of a longer prefix, and nothing for what is only longer", async () => {
    b.apply({ networks: [network("10.2.0.0/16"), network("10.2.3.0/24")] });
    await world.run(1);
    expect(a.speaker.explain("10.2.3.4").matched).toBe("10.2.3.0/24");
    expect(a.speaker.explain("10.2.3.128/25").matched).toBe("10.2.3.0/24");
    expect(a.speaker.explain("10.2.4.4").matched).toBe("10.2.0.0/16");
    const unknown = a.speaker.explain("10.0.0.0/8");
    expect([unknown.candidates, unknown.decision]).toEqual([[], "no neighbour announced it and nothing here originates it"]);
    expect(() => a.speaker.explain("10.2.0.1/16")).toThrow();
    expect(a.speaker.routesNow({ prefix: "10.2.3.4" }).routes.map(route => route.prefix)).toEqual(["10.2.3.0/24"]);
    expect(a.speaker.routesNow({ prefix: "10.2.0.0/16" }).routes.map(route => route.prefix)).toEqual(["10.2.0.0/16"]);
    expect(a.speaker.routesNow({ prefix: "10.0.0.0/8" }).total).toBe(0);
    expect(a.speaker.routesNow({ prefix: "10.0.0.0/8", longer: true }).total).toBe(2);
    expect(a.speaker.routesNow({ neighbor: C }).total).toBe(0);
  });

  it("answers for an address by the longest prefix that has an eligible route, and names the longer ones passed over", async () => {
    const policies = {
      strict: { rules: [{ name: "no-24", match: { prefixes: [{ prefix: "10.2.3.0/24" }] }, action: { result: "reject" as const } }] },
    };
    a.apply({ policies, ...withB({ families: { "ipv4-unicast": { ...accepting, importPolicies: ["strict"] } } }) });
    b.apply({ networks: [network("10.2.0.0/16"), network("10.2.3.0/24")] });
    await world.run(1);
    const told = a.speaker.explain("10.2.3.4");
    expect([told.matched, told.candidates[0].best]).toEqual(["10.2.0.0/16", true]);
    expect(told.passedOver).toEqual([{ prefix: "10.2.3.0/24", reason: expect.stringMatching(/^10\.0\.0\.2: rejected by .*no-24/) }]);
    // The prefix itself is still explained by its name, and one inside it by what covers it.
    expect(a.speaker.explain("10.2.3.0/24")).toMatchObject({ matched: undefined, passedOver: [], decision: "no eligible route" });
    expect(a.speaker.explain("10.2.3.128/25").matched).toBe("10.2.0.0/16");
    b.apply({ networks: [network("10.2.3.0/24")] });
    await world.run(1);
    expect(a.speaker.explain("10.2.3.4")).toMatchObject({ matched: "10.2.3.0/24", passedOver: [], decision: "no eligible route" });
  });

  it("lists routes a page at a time, in the order of their prefixes, whatever the order they came in", async () => {
    const prefixes = ["10.9.0.0/16", "10.2.3.0/24", "fd00:2::/64", "10.2.0.0/16", "9.0.0.0/8", "fd00:1::/64"];
    b.apply({ networks: prefixes.map(prefix => network(prefix)) });
    await world.run(1);
    const sorted = ["9.0.0.0/8", "10.2.0.0/16", "10.2.3.0/24", "10.9.0.0/16"];
    for (const limit of [1, 2, 3, 4, 5]) {
      const seen: string[] = [];
      let after: string | undefined;
      do {
        const page = a.speaker.routesNow({ limit, after });
        expect(page.total).toBe(sorted.length);
        expect(page.routes.length).toBeLessThanOrEqual(limit);
        seen.push(...page.routes.map(route => route.prefix));
        after = page.next;
      } while (after !== undefined);
      expect(seen, `limit ${limit}`).toEqual(sorted);
    }
    expect(b.speaker.routesNow({ limit: 4 })).toMatchObject({ total: 6, next: "10.9.0.0/16" });
    expect(b.speaker.routesNow({ after: "10.9.0.0/16" }).routes.map(route => route.prefix)).toEqual(["fd00:1::/64", "fd00:2::/64"]);
    expect(b.speaker.routesNow({ after: "fd00:1::/64" }).routes.map(route => route.prefix)).toEqual(["fd00:2::/64"]);
  });

  it("says since when a route is there, the same at each look", async () => {
    b.apply({ networks: [network("10.2.0.0/16")] });
    await world.run(1);
    const [{ since }] = a.speaker.routesNow().routes;
    expect(new Date(since).toISOString()).toBe(since);
    await world.run(1.7);
    expect(a.speaker.routesNow().routes[0].since).toBe(since);
  });

  it("names the rule that rejected, the loop, and the protection", async () => {
    const policies = {
      strict: { rules: [{ name: "no-pods", match: { prefixes: [{ prefix: "10.2.0.0/16" }] }, action: { result: "reject" as const } }] },
    };
    a.apply({ policies, ...withB({ families: { "ipv4-unicast": { ...accepting, importPolicies: ["strict"] } } }) });
    await world.run(1);
    const [candidate] = a.speaker.explain("10.2.0.0/16").candidates;
    const rule = { policy: "strict", rule: "no-pods" };
    expect(candidate).toMatchObject({ eligible: false, step: "Policy", import: { accepted: false, rule } });
    expect(candidate.reason).toContain("no-pods");
    expect(a.speaker.explain("10.2.0.0/16").decision).toBe("no eligible route");
    a.apply({ policies: {}, ...withB({ families: { "ipv4-unicast": accepting } }) });
    a.apply({ protectedPrefixes: [{ prefix: "10.0.0.0/8", orLonger: true, reason: "pods of this node" }] });
    await world.run(1);
    const guarded = a.speaker.explain("10.2.0.0/16");
    expect([guarded.protectedBy, guarded.candidates[0].reason]).toEqual(["pods of this node", "protected prefix: pods of this node"]);
    expect(guarded.candidates[0].step).toBe("Protected");
  });

  it("says why a neighbour was not told", async () => {
    const exportDefault = "reject" as const;
    const neighbors = [a.config.neighbors[0], { ...a.config.neighbors[1], families: { "ipv4-unicast": { ...accepting, exportDefault } } }];
    a.apply({ neighbors: [...neighbors, neighborAt("10.0.0.4", 65004)] });
    await world.run(1);
    expect(a.speaker.explain("10.2.0.0/16").sent).toMatchObject([
      { neighbor: B, step: "IsItsSource" },
      { neighbor: C, advertised: false, step: "Default", reason: "default: reject" },
      { neighbor: "10.0.0.4", advertised: false, step: "NotEstablished", reason: "the session is not Established" },
    ]);
  });
});

describe("snapshot", () => {
  it("counts prefixes, paths and what each neighbour sent and got", () => {
    const { tables, neighbors, converged, updateGroups } = a.speaker.snapshot();
    expect([tables["ipv4-unicast"], converged, updateGroups]).toEqual([{ prefixes: 1, paths: 1, best: 1 }, true, 1]);
    expect(neighbors.map(({ families }) => families["ipv4-unicast"])).toMatchObject([
      { received: 1, accepted: 1, rejected: 0, sent: 0, endOfRib: true },
      { received: 0, accepted: 0, rejected: 0, sent: 1, endOfRib: true },
    ]);
    expect(a.speaker.adjRibOut(C)).toMatchObject({ total: 1, routes: [{ prefix: "10.2.0.0/16", attributes: { asPath: "65001 65002" } }] });
  });
});

it("an external neighbour without policy gives and gets nothing (RFC 8212)", async () => {
  const { importDefault, exportDefault, ...bare } = accepting;
  expect([importDefault, exportDefault]).toEqual(["accept", "accept"]);
  a.apply(withB({ families: { "ipv4-unicast": bare } }));
  a.apply({ networks: [network("10.1.0.0/16")] });
  await world.run(1);
  expect([a.best, b.best["10.1.0.0/16"], c.best]).toMatchObject([
    { "10.1.0.0/16": "Advertisement/10.1.0.0/16" },
    undefined,
    { "10.1.0.0/16": A },
  ]);
  expect(a.speaker.explain("10.2.0.0/16").candidates[0].reason).toContain("RFC 8212");
});

it("leaves no timer and no event behind when it is closed", async () => {
  world.cut(A);
  await world.close();
  const counts = [a, b, c].map(({ events }) => events.length);
  await world.run(1000);
  expect([[a, b, c].map(({ events }) => events.length), world.clock.pending]).toEqual([counts, 0]);
});
