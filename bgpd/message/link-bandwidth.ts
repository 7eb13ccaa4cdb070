/**
 * The link bandwidth extended community (draft-ietf-idr-link-bandwidth section 2): type 0x40 or 0x00, subtype 0x04, an AS number of 2 octets and
 * octets per second as an IEEE 754 number of 32 bits. Pure.
 */
import { AS_TRANS } from "./as-path.ts";

const SUBTYPE = 0x04;
/** RFC 4360 section 3: what ends at the border of the AS. */
const NON_TRANSITIVE = 0x40;

/**
 * The transitive form, for internal neighbours as well: FRR 8 weighs by either, FRR 10 shows the other one and shares alike
 * (test/interop/link-bandwidth.test.ts).
 */
export function linkBandwidth(asn: number, octetsPerSecond: number): Uint8Array {
  const octets = new Uint8Array(8);
  const view = new DataView(octets.buffer);
  octets[1] = SUBTYPE;
  view.setUint16(2, asn > 0xffff ? AS_TRANS : asn);
  view.setFloat32(4, octetsPerSecond);
  return octets;
}

/** "lb:65001:125000" for one of either kind; undefined for another community. */
export function formatLinkBandwidth(octets: Uint8Array): string | undefined {
  if ((octets[0] & ~NON_TRANSITIVE) !== 0 || octets[1] !== SUBTYPE) return undefined;
  const view = new DataView(octets.buffer, octets.byteOffset);
  return `lb:${view.getUint16(2)}:${view.getFloat32(4)}`;
}
