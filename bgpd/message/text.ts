/**
 * Text forms of attribute values, as an operator reads and writes them on a router. Well-known communities by the names of the IANA
 * registry "BGP Well-known Communities" (RFC 1997, 3765, 7611, 7999, 8326, 9494).
 */
import { hexOf } from "../../net/octets.ts";
import { formatLinkBandwidth } from "./link-bandwidth.ts";
import { readUint16, readUint32 } from "./octets.ts";
import { type AsPathSegment, type Origin, SegmentType } from "./types.ts";

export const WellKnownCommunity = {
  "graceful-shutdown": 0xffff0000,
  "accept-own": 0xffff0001,
  "llgr-stale": 0xffff0006,
  "no-llgr": 0xffff0007,
  blackhole: 0xffff029a,
  "no-export": 0xffffff01,
  "no-advertise": 0xffffff02,
  "no-export-subconfed": 0xffffff03,
  nopeer: 0xffffff04,
} as const;

const communityNames = new Map<number, string>(Object.entries(WellKnownCommunity).map(([name, value]) => [value, name]));
const communityValues = new Map<string, number>(Object.entries(WellKnownCommunity));

const DECIMAL = "(0|[1-9]\\d{0,9})";
const communityText = new RegExp(`^${DECIMAL}:${DECIMAL}$`);
const largeCommunityText = new RegExp(`^${DECIMAL}:${DECIMAL}:${DECIMAL}$`);

export function formatOrigin(origin: Origin): "igp" | "egp" | "incomplete" {
  return origin === 0 ? "igp" : origin === 1 ? "egp" : "incomplete";
}

/** "65001 65002 {65003 65004}"; confederation segments as "(65001 65002)" and "[65001 65002]"; the empty path is "". */
export function formatAsPath(path: readonly AsPathSegment[]): string {
  return path.map(formatSegment).join(" ");
}

function formatSegment({ type, asns }: AsPathSegment): string {
  const list = asns.join(" ");
  if (type === SegmentType.AsSequence) return list;
  if (type === SegmentType.AsSet) return `{${list}}`;
  return type === SegmentType.ConfedSequence ? `(${list})` : `[${list}]`;
}

/** "65001:100", or the name of a well-known one. */
export function formatCommunity(community: number): string {
  return communityNames.get(community) ?? `${community >>> 16}:${community & 0xffff}`;
}

/** Unsigned 32 bit, or undefined for what is neither a name nor "0..65535:0..65535". */
export function parseCommunity(text: string): number | undefined {
  const named = communityValues.get(text);
  if (named !== undefined) return named;
  const fields = communityText.exec(text)?.slice(1).map(Number);
  if (fields === undefined || fields.some(field => field > 0xffff)) return undefined;
  return ((fields[0] << 16) | fields[1]) >>> 0;
}

export function formatLargeCommunity(community: readonly [number, number, number]): string {
  return community.join(":");
}

/** Three unsigned 32-bit numbers, or undefined for what is not "65001:1:2" (RFC 8092 section 5). */
export function parseLargeCommunity(text: string): [number, number, number] | undefined {
  const fields = largeCommunityText.exec(text)?.slice(1).map(Number);
  if (fields === undefined || fields.some(field => field > 0xffffffff)) return undefined;
  return [fields[0], fields[1], fields[2]];
}

/** "rt:65001:100", "soo:192.0.2.1:7", "lb:65001:125000" where the kind is known, else "0x" and 16 digits (RFC 4360, RFC 5668). */
export function formatExtendedCommunity(octets: Uint8Array): string {
  const bandwidth = formatLinkBandwidth(octets);
  if (bandwidth) return bandwidth;
  const kind = extendedKind(octets[1]);
  switch (octets[0] & 0xbf) {
    case 0x00:
      if (kind) return `${kind}:${readUint16(octets, 2)}:${readUint32(octets, 4)}`;
      break;
    case 0x01:
      if (kind) return `${kind}:${octets[2]}.${octets[3]}.${octets[4]}.${octets[5]}:${readUint16(octets, 6)}`;
      break;
    case 0x02:
      if (kind) return `${kind}:${readUint32(octets, 2)}:${readUint16(octets, 6)}`;
      break;
  }
  return `0x${hexOf(octets)}`;
}

function extendedKind(subtype: number): string {
  return subtype === 2 ? "rt" : subtype === 3 ? "soo" : "";
}

/** Unsigned 32 bit as a dotted quad: router and cluster ids. */
export function formatId(id: number): string {
  return `${id >>> 24}.${(id >>> 16) & 0xff}.${(id >>> 8) & 0xff}.${id & 0xff}`;
}
