import { afterEach, expect, test } from "vitest";
import type { NeighborConfig, NetworkConfig, PolicyRule } from "./config.ts";
import { plannedExports } from "./planned-exports.ts";
import { MemoryWorld, neighborAt, network } from "./testing/memory-speakers.ts";

let world: MemoryWorld;
afterEach(() => world?.close());

const A = "10.0.0.1";
const B = "10.0.0.2";
const pods = network("10.244.1.0/24", { kind: "pod" });

/** What is said is held against what is sent. */
async function compare(
  neighbor: Partial<NeighborConfig>,
  networks: NetworkConfig[],
  rules: PolicyRule[],
  external = true,
): Promise<ReturnType<typeof plannedExports>[number]> {
  world = new MemoryWorld();
  const family = {
    importPolicies: [],
    exportPolicies: rules.length > 0 ? ["p"] : [],
    prefixLimit: 0,
    prefixWarning: 80,
    nextHopSelf: false,
    allowAsIn: 0,
  };
  const remoteAsn = external ? 65002 : 65001;
  const families = { "ipv4-unicast": { ...family, importDefault: "accept" as const, ...neighbor.families?.["ipv4-unicast"] } };
  const a = world.speaker(A, {
    asn: 65001,
    networks,
    policies: { p: { rules } },
    neighbors: [neighborAt(B, remoteAsn, { ...neighbor, families })],
  });
  const b = world.speaker(B, { asn: remoteAsn, neighbors: [neighborAt(A, neighbor.localAsn ?? 65001)] });
  for (const speaker of [a, b]) speaker.apply();
  await world.run(10);
  expect(a.neighbor(B).state).toBe("Established");
  const sent = a.speaker.adjRibOut(B).routes.map(({ prefix, attributes: { nextHop: _, ...attributes } }) => ({ prefix, attributes }));
  const [planned] = plannedExports(a.config);
  expect(planned.announced.map(({ prefix, attributes }) => ({ prefix, attributes }))).toEqual(sent);
  return planned;
}

const accept = (change: Partial<PolicyRule["action"]> = {}): PolicyRule => ({ name: "all", action: { result: "accept", ...change } });

test.each<[string, Partial<NeighborConfig>, NetworkConfig[], PolicyRule[], boolean]>([
  [
    "outside, by a policy that sets much",
    {},
    [pods, network("10.9.0.0/16")],
    [accept({ set: { med: 7 }, communities: { add: ["65001:1"] }, prepend: { asn: "self", count: 2 } })],
    true,
  ],
  [
    "outside, with attributes of the network",
    {},
    [network("10.9.0.0/16", { attributes: { med: 4, origin: "incomplete", communities: ["65001:9"], localPref: 300 } })],
    [accept()],
    true,
  ],
  ["outside, under another AS number", { localAsn: 65009 }, [pods], [accept({ prepend: { asn: "self", count: 1 } })], true],
  ["inside, by default", {}, [pods, network("10.9.0.0/16", { attributes: { localPref: 300 } })], [], false],
  ["inside, by a policy", {}, [pods], [accept({ set: { localPref: 50 } })], false],
  ["outside, where nothing permits it (RFC 8212)", {}, [pods], [], true],
])("is what is sent: %s", async (_, neighbor, networks, rules, external) => {
  await compare(neighbor, networks, rules, external);
});

test("what is kept back is named with its reason", async () => {
  const rules: PolicyRule[] = [{ name: "pods", match: { prefixes: [{ prefix: "10.244.1.0/24" }] }, action: { result: "accept" } }];
  const others = network("10.8.0.0/16", { restricted: true });
  const planned = await compare({}, [pods, network("10.9.0.0/16"), others], rules);
  expect(planned.announced).toMatchObject([{ prefix: "10.244.1.0/24", kind: "pod", decidedBy: 'policy "p", rule "pods"' }]);
  expect(planned.withheld).toEqual([
    { prefix: "10.9.0.0/16", reason: "default: reject (RFC 8212)" },
    { prefix: "10.8.0.0/16", reason: "no Advertisement gives it to this neighbour" },
  ]);
});
