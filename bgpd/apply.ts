/** What a new configuration means for a running neighbour: nothing, a soft change, or a reset — and why, in words. Pure. */
import { parseAddress, parsePrefix } from "../net/address.ts";
import { Families, type NeighborConfig, type SpeakerConfig } from "./config.ts";
import { compilePolicies } from "./policy/index.ts";
import { compilePrefixList } from "./policy/prefix-list.ts";

/** A change of these ends the session: they are part of its TCP connection or of its OPEN. The text names them for people. */
const resetFields: Partial<Record<keyof NeighborConfig, string>> = {
  address: "address",
  port: "port",
  localAddress: "local address",
  interface: "interface",
  multihop: "multihop",
  ttlSecurity: "TTL security",
  remoteAsn: "remote AS",
  localAsn: "local AS",
  password: "password",
  holdTime: "hold time",
  keepaliveTime: "keepalive time",
  routeReflectorClient: "route reflector client",
  passive: "passive",
  connectRetryTime: "connect retry time",
};

/** Throws AddressError or PolicyError for what could not be carried out, before anything is. */
export function checkConfig(config: SpeakerConfig): void {
  for (const address of [config.routerId, config.clusterId, ...(config.listen.addresses ?? [])]) if (address) parseAddress(address);
  for (const { prefix } of config.protectedPrefixes) parsePrefix(prefix);
  for (const { routerId, ranges } of config.origins?.nodes ?? []) {
    parseAddress(routerId);
    for (const range of ranges) parsePrefix(range);
  }
  for (const list of Object.values(config.origins?.lists ?? {})) compilePrefixList(list);
  for (const { prefix, nextHop } of config.networks) {
    parsePrefix(prefix);
    if (nextHop !== undefined) parseAddress(nextHop);
  }
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

/** Names of what changed so that the session must be reset; empty = it may stay. */
export function resetReasons(before: NeighborConfig, after: NeighborConfig): string[] {
  const reasons = Object.entries(resetFields)
    .filter(([field]) => !same(before[field as keyof NeighborConfig], after[field as keyof NeighborConfig]))
    .map(([, text]) => `${text} changed`);
  if (!same(Object.keys(before.families).sort(), Object.keys(after.families).sort())) reasons.push("families changed");
  return reasons;
}

/** Speaker-wide changes that concern every session: the OPEN carries them. */
export function globalResetReasons(before: SpeakerConfig, after: SpeakerConfig): string[] {
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
