/** The examples of a Policy, run through the one evaluator: one that comes out otherwise is a problem of the object. */
import { formatAsPath, formatCommunity, formatLargeCommunity, parseCommunity, parseLargeCommunity } from "../../bgpd/message/text.ts";
import { type AsPathSegment, Origin, type PathAttributes, SegmentType } from "../../bgpd/message/types.ts";
import type { PolicyInput, PolicyResult } from "../../bgpd/policy/index.ts";
import { formatAddress, parseAddress, parsePrefix } from "../../net/address.ts";
import type { Problem } from "../plan.ts";
import type { Policy } from "../resources/kinds.ts";

type Example = NonNullable<Policy["spec"]["examples"]>[number];

/** Asks the policy about a route; undefined where no rule decides. */
export type Evaluate = (input: PolicyInput) => PolicyResult | undefined;

/** One problem for each expectation that does not hold. `asn` is what `prepend: {as: Self}` puts in front. */
export function runExamples(policy: Policy, evaluate: Evaluate, asn: number): Problem[] {
  return (policy.spec.examples ?? []).flatMap((example, i) =>
    differences(example, evaluate(inputOf(example.route, asn))).map(({ field, message }) => ({
      severity: "error" as const,
      reason: "ExampleFails" as const,
      object: `Policy/${policy.metadata.name}`,
      field: `spec.examples[${i}]`,
      message: `example ${JSON.stringify(example.name)}: ${field} ${message}`,
      remedy: "correct the rules, or the example's expectation",
    })),
  );
}

/** The name by which an example's `peer` is known to the evaluator is that of the Peer. */
function inputOf(route: Example["route"], asn: number): PolicyInput {
  const prefix = parsePrefix(route.prefix);
  const [nextHop, address] = prefix.family === 4 ? ["192.0.2.1", "192.0.2.254"] : ["2001:db8::1", "2001:db8::fe"];
  const { med, localPref, communities, largeCommunities } = route;
  const attributes: PathAttributes = {
    origin: route.origin === "egp" ? Origin.Egp : route.origin === "incomplete" ? Origin.Incomplete : Origin.Igp,
    asPath: readAsPath(route.asPath ?? ""),
    nextHop: parseAddress(route.nextHop ?? nextHop),
    ...(med === undefined ? {} : { med }),
    ...(localPref === undefined ? {} : { localPref }),
    ...(communities ? { communities: known(communities.map(parseCommunity)).sort((a, b) => a - b) } : {}),
    ...(largeCommunities ? { largeCommunities: known(largeCommunities.map(parseLargeCommunity)).sort(compareLarge) } : {}),
  };
  return { prefix, attributes, neighbor: route.peer ?? "", kind: route.kind, self: { asn, address: parseAddress(address) } };
}

/** The schema lets nothing else in. */
function known<T>(values: (T | undefined)[]): T[] {
  return values.filter(value => value !== undefined);
}

const compareLarge = (a: readonly number[], b: readonly number[]) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2];

/** "65001 {65010 65011}" */
function readAsPath(text: string): AsPathSegment[] {
  const segments: AsPathSegment[] = [];
  let inSet = false;
  for (const word of text.split(" ").filter(Boolean)) {
    const asn = Number(word.replace(/[{}]/g, ""));
    const type = inSet || word.startsWith("{") ? SegmentType.AsSet : SegmentType.AsSequence;
    const last = segments.at(-1);
    if (last && last.type === type && !word.startsWith("{")) last.asns.push(asn);
    else segments.push({ type, asns: [asn] });
    inSet = (inSet || word.startsWith("{")) && !word.endsWith("}");
  }
  return segments;
}

function differences({ expect }: Example, result: PolicyResult | undefined): { field: string; message: string }[] {
  const outcome = result === undefined ? "None" : result.accepted ? "Accept" : "Reject";
  if (outcome !== expect.result) {
    return [{ field: "result", message: `is ${outcome} (${result?.decidedBy ?? "no rule decides"}), expected ${expect.result}` }];
  }
  if (!result) return [];
  const { attributes } = result;
  const pairs: [string, string | number | undefined, string | number | undefined][] = [
    ["asPath", expect.asPath, formatAsPath(attributes.asPath)],
    ["nextHop", expect.nextHop && formatAddress(parseAddress(expect.nextHop)), formatAddress(attributes.nextHop)],
    ["med", expect.med, attributes.med],
    ["localPref", expect.localPref, attributes.localPref],
    ["communities", expect.communities && sorted(expect.communities), sorted((attributes.communities ?? []).map(formatCommunity))],
    [
      "largeCommunities",
      expect.largeCommunities && sorted(expect.largeCommunities),
      sorted((attributes.largeCommunities ?? []).map(formatLargeCommunity)),
    ],
  ];
  return pairs
    .filter(([, wanted, found]) => wanted !== undefined && wanted !== found)
    .map(([field, wanted, found]) => ({ field, message: `is ${show(found)}, expected ${show(wanted)}` }));
}

function sorted(texts: readonly string[]): string {
  return [...texts].sort().join(" ");
}

function show(value: string | number | undefined): string {
  return value === undefined || value === "" ? "none" : String(value);
}
