/**
 * What a configuration announces to each neighbour of what this speaker originates, without a session: the networks that a neighbour may hear, after its
 * export policies, with the attributes that it gets. What is learned from others and passed on is not in it. Pure.
 */
import { parsePrefix } from "../net/address.ts";
import type { NeighborConfig, NetworkConfig, SpeakerConfig } from "./config.ts";
import { Families, type Family, FamilyTable, familyIndex, forwardingFamily } from "./family.ts";
import { DEFAULT_LOCAL_PREF } from "./message/attribute-table.ts";
import { attributesView } from "./message/format.ts";
import type { AttributesView } from "./message/types.ts";
import { type AsPathSegment, type PathAttributes, SegmentType } from "./message/types.ts";
import { compilePolicies } from "./policy/index.ts";
import type { CompiledPolicy } from "./policy/types.ts";
import { mayBeTold, sourcesOf } from "./rib/local-routes.ts";
import { attributesOf, toldAttributes } from "./rib/network-attributes.ts";

export interface PlannedExport {
  neighbor: string;
  family: Family;
  /** By prefix. `nextHop` is "self": the address of the session. */
  announced: { prefix: string; kind: string; source: string; attributes: Omit<AttributesView, "nextHop">; decidedBy: string }[];
  /** Originated here and not told to it, with what keeps it. */
  withheld: { prefix: string; reason: string }[];
}

/**
 * One for each neighbour and family, in the order of the configuration. `beside`: networks that are announced besides (Speaker.changeNetworks). Throws PolicyError for policies that
 * compile() would not make.
 */
export function plannedExports(config: SpeakerConfig, beside: readonly NetworkConfig[] = []): PlannedExport[] {
  const taken = new Set(config.networks.map(({ prefix }) => prefix));
  const networks = [...config.networks, ...beside.filter(({ prefix }) => !taken.has(prefix))];
  return config.neighbors.flatMap(neighbor =>
    Families.filter(family => neighbor.families[family]).map(family => {
      const announced: PlannedExport["announced"] = [];
      const withheld: PlannedExport["withheld"] = [];
      const external = isExternal(neighbor, config);
      const policy = policyOf(config, neighbor, family, external);
      for (const network of networks) {
        if (forwardingFamily(network.prefix.includes(":") ? 6 : 4) !== familyIndex(family)) continue;
        const { prefix, kind, source } = network;
        if (!mayBeTold(network, neighbor.hears)) {
          withheld.push({ prefix, reason: "no Advertisement gives it to this neighbour" });
          continue;
        }
        const asn = neighbor.localAsn ?? config.asn;
        const result = policy.evaluate({
          prefix: parsePrefix(prefix),
          attributes: toldAttributes(attributesOf(network), network.attributes ?? {}, { external, asn }),
          neighbor: neighbor.name,
          kind,
          sources: sourcesOf(network),
          self: { asn, address: new Uint8Array(FamilyTable[familyIndex(family)].octets) },
        });
        if (!result.accepted) withheld.push({ prefix, reason: result.decidedBy });
        else announced.push({ prefix, kind, source, attributes: sent(result.attributes, external, asn), decidedBy: result.decidedBy });
      }
      return { neighbor: neighbor.name, family, announced, withheld };
    }),
  );
}

function isExternal({ remoteAsn, localAsn }: NeighborConfig, { asn }: SpeakerConfig): boolean {
  return typeof remoteAsn === "number" ? remoteAsn !== (localAsn ?? asn) : remoteAsn === "external";
}

function policyOf(config: SpeakerConfig, neighbor: NeighborConfig, family: Family, external: boolean): CompiledPolicy {
  const { exportPolicies = [], exportDefault } = neighbor.families[family] ?? {};
  const action = exportDefault ?? (external ? "reject" : "accept");
  const text = `default: ${action}${exportDefault || !external ? "" : " (RFC 8212)"}`;
  return compilePolicies({ names: exportPolicies, policies: config.policies, default: { action, text }, family });
}

/** As RFC 4271 section 5.1 has it for a route of our own: inside with LOCAL_PREF, outside with our AS in front. */
function sent(attributes: PathAttributes, external: boolean, asn: number): Omit<AttributesView, "nextHop"> {
  const { nextHop: _, ...view } = attributesView({
    ...attributes,
    nextHop: new Uint8Array(4),
    asPath: external ? withOwn(attributes.asPath, asn) : attributes.asPath,
    localPref: external ? undefined : (attributes.localPref ?? DEFAULT_LOCAL_PREF),
  });
  return view;
}

function withOwn([first, ...rest]: readonly AsPathSegment[], asn: number): AsPathSegment[] {
  if (first?.type === SegmentType.AsSequence) return [{ ...first, asns: [asn, ...first.asns] }, ...rest];
  return [{ type: SegmentType.AsSequence, asns: [asn] }, ...(first ? [first, ...rest] : [])];
}
