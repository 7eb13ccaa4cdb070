/**
 * Attributes that fill a message of 65,535 octets (RFC 8654), to which something is added on the way: an AS in front, numbers of 4 octets in place
 * of 2, communities of a policy. No attribute holds more than 65,535 octets (RFC 4271 section 4.3): such a route is given up, and nothing else.
 */
import { afterEach, describe, expect, test, vi } from "vitest";
import type { NeighborFamilyConfig } from "../../bgpd/config.ts";
import {
  asPath,
  attribute,
  EXTENDED_MESSAGE,
  IPV4,
  nextHop,
  nlri,
  type OpenFields,
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

const holder = useScene({
  policies: {
    prepend: { rules: [{ action: { result: "accept", prepend: { asn: 65009, count: 16 } } }] },
    mark: {
      rules: [{ action: { result: "accept", communities: { add: Array.from({ length: 32 }, (_, n) => `65009:${n}`) } } }],
    },
  },
});
const parties: Party[] = [];
afterEach(() => {
  for (const party of parties.splice(0)) party.close();
});

const extended = (asn?: number): OpenFields => ({
  parameters: optionalParameters(parameter(2, octets(IPV4, EXTENDED_MESSAGE, ...(asn === undefined ? [] : [octets(65, 4, u32(asn))])))),
});

/** An AS_PATH of at most `length` octets in full segments of `width`-octet numbers, 65002 first. */
function longPath(length: number, width: 2 | 4): Uint8Array {
  const segments: Uint8Array[] = [];
  for (let left = length; left >= 2 + width; ) {
    const count = Math.min(255, Math.floor((left - 2) / width));
    segments.push(
      sequence(
        Array.from({ length: count }, () => 65002),
        width,
      ),
    );
    left -= 2 + count * width;
  }
  return attribute(0x40, 2, octets(...segments));
}

const manyCommunities = (length: number) => attribute(0xc0, 8, octets(...Array.from({ length: length / 4 }, (_, n) => u32(0x10000 + n))));
const hop = nextHop("10.0.0.2");

/** The source, with this import policy, and a neighbour that must not be hurt and hears what can be told. */
async function scene(asn: number | undefined, importPolicies: string[]) {
  const rest = { exportPolicies: [], prefixLimit: 0, prefixWarning: 0, nextHopSelf: false, allowAsIn: 0 };
  const family: NeighborFamilyConfig = { importPolicies, importDefault: "accept", exportDefault: "accept", ...rest };
  const source = await holder.scene.party({ families: { "ipv4-unicast": family } });
  const listener = await holder.scene.party({ remoteAsn: 65003 });
  parties.push(source, listener);
  const from = await source.establish(extended(asn));
  const to = await listener.establish(extended(65003));
  return { source, listener, from, to };
}

describe.skipIf(lacking)("an attribute that grows past 65,535 octets", () => {
  test.each<[what: string, attributes: Uint8Array[], asn: number | undefined, policies: string[], where: "import" | "export"]>([
    ["the prepend towards an external neighbour", [origin(), longPath(65_490, 4), hop], 65002, [], "export"],
    ["the prepend of an import policy", [origin(), longPath(65_490, 4), hop], 65002, ["prepend"], "import"],
    ["numbers of 4 octets in place of 2", [origin(), longPath(32_832, 2), hop], undefined, [], "export"],
    ["numbers of 4 octets, too many", [origin(), longPath(40_000, 2), hop], undefined, [], "import"],
    ["communities of a policy", [origin(), asPath(65002), hop, manyCommunities(65_460)], 65002, ["mark"], "import"],
  ])("%s costs the route alone", async (_what, attributes, asn, policies, where) => {
    const { source, listener, from, to } = await scene(asn, policies);
    const narrow = [origin(), attribute(0x40, 2, sequence([65002], asn === undefined ? 2 : 4)), hop];
    // Known before, so that it must be withdrawn.
    from.send(update({ attributes: narrow, nlri: nlri("198.51.100.0/24") }));
    await vi.waitFor(async () => expect((await listener.snapshot()).families["ipv4-unicast"]?.sent).toBe(1));
    from.send(update({ attributes, nlri: nlri("198.51.100.0/24") }), update({ attributes: narrow, nlri: nlri("203.0.113.0/24") }));
    await vi.waitFor(async () => {
      const { routes } = await holder.scene.speaker.routes({ prefix: "203.0.113.0/24" });
      expect(routes.map(route => route.best)).toEqual([true]);
    });
    await holder.scene.speaker.settled();
    const [theirs, ours] = [await source.snapshot(), await listener.snapshot()];
    expect([theirs.state, ours.state]).toEqual(["Established", "Established"]);
    expect(ours.families["ipv4-unicast"]).toMatchObject({ sent: 1, ...(where === "export" && { tooLarge: 1 }) });
    const [told] = (await holder.scene.speaker.explain("198.51.100.0/24")).sent.filter(one => one.neighbor === listener.name);
    expect(told?.advertised ?? false).toBe(false);
    if (where === "export")
      expect(told.reason).toMatch(/AS_PATH would have 6\d{4} octets, and an attribute has at most 65535|an UPDATE of 6\d{4} octets/);
    const problems = await holder.scene.speaker.problems();
    expect(problems.filter(problem => /not sent|not used/.test(problem.message)).length).toBeGreaterThan(0);
    const withdrawn = octets(u16(4), 24, 198, 51, 100);
    await vi.waitFor(() => expect(to.messages.some(message => Buffer.from(message).includes(withdrawn))).toBe(true));
  });
});
