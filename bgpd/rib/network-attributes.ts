/** What a network of ours is announced with: what it says in words, as attributes (RFC 4271 section 5). Pure. */
import { parseAddress } from "../../net/address.ts";
import { MAX_PREPEND, type NetworkAttributes, type NetworkConfig } from "../config.ts";
import { CommunityKinds, NumberKinds } from "../message/attribute-table.ts";
import { linkBandwidth } from "../message/link-bandwidth.ts";
import { Origin, type PathAttributes, SegmentType } from "../message/types.ts";

const origins = { igp: Origin.Igp, egp: Origin.Egp, incomplete: Origin.Incomplete };

/** What cannot be read was told with the configuration, and is left out. A list, as a value may be one itself. */
function readable<T>(parse: (text: string) => T, text: string): [T] | [] {
  try {
    return [parse(text)];
  } catch {
    return [];
  }
}

/**
 * What neighbours hear of a network beyond attributesOf(): it depends on who hears it, and is what their export policy is asked about. `asn`: ours
 * towards them. An internal neighbour would take our AS in front for a loop (RFC 4271 section 9.1.2), and drop the route.
 */
export function toldAttributes(
  attributes: PathAttributes,
  { prepend = 0, linkBandwidth: bandwidth }: NetworkAttributes,
  { external, asn }: { external: boolean; asn: number },
): PathAttributes {
  const count = external ? Math.min(prepend, MAX_PREPEND) : 0;
  return {
    ...attributes,
    ...(count > 0 && { asPath: [{ type: SegmentType.AsSequence, asns: Array(count).fill(asn) }, ...attributes.asPath] }),
    ...(bandwidth !== undefined && { extendedCommunities: [linkBandwidth(asn, bandwidth)] }),
  };
}

/** Those that a network starts with. */
export function attributesOf(network: NetworkConfig): PathAttributes {
  const set = network.attributes ?? {};
  return {
    origin: origins[set.origin ?? "igp"],
    asPath: [],
    nextHop: network.nextHop ? parseAddress(network.nextHop) : new Uint8Array(),
    ...Object.fromEntries(NumberKinds.map(({ field }) => [field, set[field]])),
    ...Object.fromEntries(
      CommunityKinds.map(({ attribute, parse }) => [attribute, set[attribute]?.flatMap(text => readable(parse, text))]),
    ),
  };
}
