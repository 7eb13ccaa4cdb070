/**
 * Capabilities of OPEN (RFC 5492): one row each, {code, name, decode, encode}. A capability without a row is kept in `raw` and otherwise
 * ignored; one whose value has the wrong length is an error only where a session without it would go wrong.
 */
import { type Family, FamilyTable, familyIndex, familyOf, formatFamily } from "../family.ts";
import { readUint32, uint32Octets } from "./octets.ts";
import { type Capabilities, MessageError } from "./types.ts";

/** What we announce. */
export interface LocalCapabilities {
  families: readonly Family[];
  /** RFC 6793. */
  fourOctetAsn: boolean;
  /** RFC 2918. */
  routeRefresh: boolean;
  /** RFC 7313. */
  enhancedRouteRefresh?: boolean;
  /** RFC 8654. */
  extendedMessage?: boolean;
  /** draft-walton-bgp-hostname-capability; each name is cut to 64 octets. */
  hostname?: { host: string; domain?: string };
  /** RFC 4724. */
  gracefulRestart?: LocalGracefulRestart;
}

export interface LocalGracefulRestart {
  /** R bit: we restarted; the neighbour need not wait for our End-of-RIB before it sends its routes. */
  restarted: boolean;
  /** Seconds that we ask the neighbour to keep our routes while we are away, 0..4095. */
  restartTime: number;
  /** F bit: packets are forwarded while we are away, and were while we were. */
  forwarding: boolean;
}

interface CapabilityRow {
  readonly code: number;
  readonly name: string;
  /** Throws MessageError 2/0 for a value that cannot be ignored. */
  decode(value: Uint8Array, into: Capabilities): void;
  /** Values to send, one capability each. */
  encode(local: LocalCapabilities, asn: number): number[][];
  /** What display adds to the name. */
  detail?(value: Uint8Array): string;
}

const rows: readonly CapabilityRow[] = [
  {
    code: 1,
    name: "multiprotocol",
    decode(value, into) {
      needLength(this, value, 4);
      const family = familyOf((value[0] << 8) | value[1], value[3]);
      into.families ??= [];
      if (family !== undefined && !into.families.includes(family)) into.families.push(family);
    },
    encode: local =>
      local.families.map(family => FamilyTable[familyIndex(family)]).map(({ afi, safi }) => [afi >>> 8, afi & 0xff, 0, safi]),
    detail: value => (value.length === 4 ? formatFamily((value[0] << 8) | value[1], value[3]) : ""),
  },
  {
    code: 2,
    name: "route refresh",
    decode(_value, into) {
      into.routeRefresh = true;
    },
    encode: local => (local.routeRefresh ? [[]] : []),
  },
  {
    code: 6,
    name: "extended message",
    decode(_value, into) {
      into.extendedMessage = true;
    },
    encode: local => (local.extendedMessage ? [[]] : []),
  },
  {
    code: 64,
    name: "graceful restart",
    decode(value, into) {
      if (value.length < 2 || value.length % 4 !== 2) return;
      const families = [];
      for (let i = 2; i < value.length; i += 4) {
        families.push({ afi: (value[i] << 8) | value[i + 1], safi: value[i + 2], forwarding: (value[i + 3] & 0x80) !== 0 });
      }
      into.gracefulRestart = {
        restarted: (value[0] & 0x80) !== 0,
        notification: (value[0] & 0x40) !== 0,
        restartTime: ((value[0] & 0x0f) << 8) | value[1],
        families,
      };
    },
    encode: ({ gracefulRestart, families }) => {
      if (!gracefulRestart) return [];
      const { restarted, restartTime, forwarding } = gracefulRestart;
      const entries = families.flatMap(family => {
        const { afi, safi } = FamilyTable[familyIndex(family)];
        return [afi >> 8, afi & 0xff, safi, forwarding ? 0x80 : 0];
      });
      return [[(restarted ? 0x80 : 0) | ((restartTime >> 8) & 0x0f), restartTime & 0xff, ...entries]];
    },
  },
  {
    code: 65,
    name: "4-octet AS",
    decode(value, into) {
      needLength(this, value, 4);
      into.fourOctetAsn = readUint32(value, 0);
    },
    encode: (local, asn) => (local.fourOctetAsn ? [[...uint32Octets(asn)]] : []),
    detail: value => (value.length === 4 ? String(readUint32(value, 0)) : ""),
  },
  {
    code: 70,
    name: "enhanced route refresh",
    decode(_value, into) {
      into.enhancedRouteRefresh = true;
    },
    encode: local => (local.enhancedRouteRefresh ? [[]] : []),
  },
  {
    code: 73,
    name: "hostname",
    decode(value, into) {
      const hostname = readHostname(value);
      if (hostname !== undefined) into.hostname = hostname;
    },
    encode: local => (local.hostname === undefined ? [] : [[...nameField(local.hostname.host), ...nameField(local.hostname.domain ?? "")]]),
    detail: value => readHostname(value)?.host ?? "",
  },
];

/** Names of capabilities that neighbours send and this speaker only shows: IANA "Capability Codes". */
const otherNames: Record<number, string> = {
  3: "outbound route filtering",
  5: "extended next hop",
  7: "BGPsec",
  8: "multiple labels",
  9: "role",
  66: "dynamic capability (old)",
  67: "dynamic capability",
  68: "multisession",
  69: "add-path",
  71: "long-lived graceful restart",
  75: "software version",
  76: "paths limit",
  77: "link-local next hop",
  128: "route refresh (old)",
};

/** Octets of all capabilities we announce, {code, length, value} each: less than 256, whatever is asked for. */
export function encodeCapabilities(local: LocalCapabilities, asn: number): number[] {
  return rows.flatMap(row => row.encode(local, asn).flatMap(value => [row.code, value.length, ...value]));
}

/** Adds one capability that came. Throws MessageError 2/0. */
export function decodeCapability(code: number, value: Uint8Array, into: Capabilities): void {
  into.raw.push({ code, value });
  rows.find(row => row.code === code)?.decode(value, into);
}

/** For display: "4-octet AS 65001", "add-path", "capability 200". */
export function describeCapability({ code, value }: { code: number; value: Uint8Array }): string {
  const row = rows.find(candidate => candidate.code === code);
  const name = row?.name ?? otherNames[code] ?? `capability ${code}`;
  const detail = row?.detail?.(value);
  return detail ? `${name} ${detail}` : name;
}

function needLength(row: CapabilityRow, value: Uint8Array, length: number): void {
  if (value.length === length) return;
  const data = Uint8Array.of(row.code, value.length, ...value);
  throw new MessageError(`capability ${row.name} (${row.code}) of ${value.length} octets: it has ${length}`, 2, 0, data);
}

function readHostname(value: Uint8Array): { host: string; domain: string } | undefined {
  const hostEnd = 1 + value[0];
  if (value.length < hostEnd + 1) return undefined;
  const domainEnd = hostEnd + 1 + value[hostEnd];
  if (value.length < domainEnd) return undefined;
  return { host: cleanText(value.subarray(1, hostEnd)), domain: cleanText(value.subarray(hostEnd + 1, domainEnd)) };
}

/** A neighbour's octets as text that can do no harm on a terminal. */
function cleanText(octets: Uint8Array): string {
  return new TextDecoder().decode(octets).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?");
}

function nameField(name: string): number[] {
  const octets = new Uint8Array(64);
  const { written } = new TextEncoder().encodeInto(name, octets);
  return [written, ...octets.subarray(0, written)];
}
