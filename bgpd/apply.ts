/** What a new configuration means for a running neighbour: nothing, a soft change, or a reset — and why, in words. Pure. */
import { parseAddress, parsePrefix } from "../net/address.ts";
import type { NeighborConfig, NetworkConfig, SpeakerConfig } from "./config.ts";
import { Families, type Family } from "./family.ts";
import { compilePolicies } from "./policy/index.ts";
import { compilePrefixList } from "./policy/prefix-list.ts";
import type { Negotiated } from "./session/types.ts";

/**
 * What a change of each field means for a session: a name, for people, where it is part of the TCP connection or of the OPEN, so that the session ends;
 * "attempts" where it concerns how the next session is made; "live" where it is taken over as it runs. A new field is sorted in here, or does not compile.
 */
const fields: Record<keyof NeighborConfig, { resets: string } | { attempts: string } | "live"> = {
  name: "live",
  source: "live",
  description: "live",
  address: { resets: "address" },
  port: { resets: "port" },
  localAddress: { resets: "local address" },
  interface: { resets: "interface" },
  multihop: { resets: "multihop" },
  ttlSecurity: { resets: "TTL security" },
  remoteAsn: { resets: "remote AS" },
  localAsn: { resets: "local AS" },
  // One for another is taken over as it runs: isRekey().
  password: { resets: "password" },
  passive: { attempts: "passive" },
  holdTime: { resets: "hold time" },
  keepaliveTime: { attempts: "keepalive time" },
  restartTime: { attempts: "restart time" },
  connectRetryTime: { attempts: "connect retry time" },
  advertisementInterval: "live",
  // Of these, which there are: resetReasons().
  families: "live",
  attributeOctetsLimit: "live",
  allowAsSets: "live",
  enforceFirstAs: "live",
  origin: "live",
  hears: "live",
  mesh: "live",
  routeReflectorClient: "live",
  shutdown: "live",
};
const fieldNames = Object.keys(fields) as (keyof NeighborConfig)[];

/** Throws AddressError or PolicyError for what could not be carried out, before anything is. */
export function checkConfig(config: SpeakerConfig): void {
  for (const address of [config.routerId, config.clusterId, ...(config.listen.addresses ?? [])]) if (address) parseAddress(address);
  for (const { prefix } of config.protectedPrefixes) parsePrefix(prefix);
  for (const { routerId, ranges } of config.origins?.nodes ?? []) {
    parseAddress(routerId);
    for (const range of ranges) parsePrefix(range);
  }
  for (const list of Object.values(config.origins?.lists ?? {})) compilePrefixList(list);
  for (const network of config.networks) checkNetwork(network);
  for (const { address, localAddress, families } of config.neighbors) {
    parseAddress(address);
    if (localAddress !== undefined) parseAddress(localAddress);
    for (const family of Families) {
      for (const names of [families[family]?.importPolicies, families[family]?.exportPolicies]) {
        if (names) compilePolicies({ names, policies: config.policies, default: { action: "reject", text: "" }, family });
      }
    }
  }
}

/** Throws AddressError. */
export function checkNetwork({ prefix, nextHop }: Pick<NetworkConfig, "prefix" | "nextHop">): void {
  parsePrefix(prefix);
  if (nextHop !== undefined) parseAddress(nextHop);
}

/** Names of what changed so that the session must be reset; empty = it may stay. `session`: the one there is. */
export function resetReasons(
  before: NeighborConfig,
  after: NeighborConfig,
  session?: Pick<Negotiated, "remoteAsn" | "internal">,
): string[] {
  const reasons = fieldNames.flatMap(name => {
    const field = fields[name];
    if (field === "live" || same(before[name], after[name])) return [];
    if (name === "password" && session && isRekey(before, after)) return [];
    // While there is no session there is nothing to lose.
    if ("attempts" in field) return session ? [] : [`${field.attempts} changed`];
    return name === "remoteAsn" && session && isExpected(after.remoteAsn, session) ? [] : [`${field.resets} changed`];
  });
  if (!same(Object.keys(before.families).sort(), Object.keys(after.families).sort())) reasons.push("families changed");
  return reasons;
}

/** TCP MD5 can change its key in a running connection, and cannot begin or end there. */
export function isRekey(before: Pick<NeighborConfig, "password">, after: Pick<NeighborConfig, "password">): boolean {
  return before.password !== undefined && after.password !== undefined && before.password !== after.password;
}

/** The OPEN that came is right by the new configuration as well. */
function isExpected(wanted: NeighborConfig["remoteAsn"], { remoteAsn, internal }: Pick<Negotiated, "remoteAsn" | "internal">): boolean {
  return typeof wanted === "number" ? wanted === remoteAsn : internal === (wanted === "internal");
}

/** The new configuration as far as a session can have it that is not reset yet. */
export function withoutResets(before: NeighborConfig, after: NeighborConfig): NeighborConfig {
  const isKept = (name: keyof NeighborConfig) =>
    fields[name] !== "live" && "resets" in (fields[name] as object) && !(name === "password" && isRekey(before, after));
  const kept = fieldNames.flatMap(name => (isKept(name) ? [[name, before[name]]] : []));
  const families = Object.entries(before.families).map(([family, settings]) => [family, after.families[family as Family] ?? settings]);
  return { ...after, ...Object.fromEntries(kept), families: Object.fromEntries(families) };
}

/** What the OPEN carries of the speaker itself. */
export type OpenedWith = Pick<SpeakerConfig, "asn" | "routerId">;

/** Speaker-wide changes that concern every session. */
export function globalResetReasons(before: OpenedWith, after: OpenedWith): string[] {
  const reasons: string[] = [];
  if (before.asn !== after.asn) reasons.push(`AS number changed from ${before.asn} to ${after.asn}`);
  if (before.routerId !== after.routerId) reasons.push(`router id changed from ${before.routerId} to ${after.routerId}`);
  return reasons;
}

/** Which policies, with their content, judge routes in a direction: equal text, equal verdicts. */
export function policyKey(config: SpeakerConfig, neighbor: NeighborConfig, direction: "import" | "export"): string {
  return JSON.stringify([
    direction === "import" ? [neighbor.allowAsSets ?? false, neighbor.enforceFirstAs ?? true, neighbor.origin] : [],
    Object.entries(neighbor.families).map(([family, settings]) => {
      const names = direction === "import" ? settings.importPolicies : settings.exportPolicies;
      const last = direction === "import" ? settings.importDefault : settings.exportDefault;
      return [family, last, names.map(name => [name, config.policies[name]?.rules]), direction === "import" ? settings.allowAsIn : 0];
    }),
  ]);
}

export function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
