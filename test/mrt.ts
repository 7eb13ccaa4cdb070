/**
 * Reads BGP sessions recorded as MRT (RFC 6396: BGP4MP and BGP4MP_ET; RFC 8050 is not needed). Test support: it holds the whole file and
 * throws at the first record that does not fit.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { sharedFile } from "./shared.ts";

const BGP4MP = 16;
const BGP4MP_ET = 17;
/** Subtypes that hold a message: plain, AS4, and the same sent by the collector itself. */
const messageSubtypes = new Map([
  [1, 2],
  [4, 4],
  [6, 2],
  [7, 4],
]);

export interface MrtMessage {
  /** Microseconds since the epoch. */
  time: number;
  peerAs: number;
  localAs: number;
  peerAddress: Uint8Array;
  localAddress: Uint8Array;
  /** Recorded with 4-octet AS numbers in AS_PATH. */
  fourOctetAsn: boolean;
  /** The BGP message with its header; part of the file's octets. */
  message: Uint8Array;
}

/** The octets of a file, unpacked when it is gzip. */
export function readMrtFile(path: string): Uint8Array {
  const octets = readFileSync(path);
  return octets[0] === 0x1f && octets[1] === 0x8b ? gunzipSync(octets) : octets;
}

/** All BGP messages; records of other kinds (state changes, tables) are passed over. */
export function* mrtMessages(file: Uint8Array): Generator<MrtMessage> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  for (let at = 0; at < file.length; ) {
    const type = view.getUint16(at + 4);
    const subtype = view.getUint16(at + 6);
    const end = at + 12 + view.getUint32(at + 8);
    if (end > file.length) throw new Error(`MRT record at ${at} ends at ${end}, the file at ${file.length}`);
    const asnWidth = messageSubtypes.get(subtype);
    if ((type === BGP4MP || type === BGP4MP_ET) && asnWidth !== undefined) {
      const extended = type === BGP4MP_ET;
      const time = view.getUint32(at) * 1e6 + (extended ? view.getUint32(at + 12) : 0);
      yield { time, ...readMessage(file, view, at + (extended ? 16 : 12), end, asnWidth) };
    }
    at = end;
  }
}

function readMessage(file: Uint8Array, view: DataView, start: number, end: number, asnWidth: number): Omit<MrtMessage, "time"> {
  const asn = (at: number) => (asnWidth === 4 ? view.getUint32(at) : view.getUint16(at));
  const afiAt = start + 2 * asnWidth + 2;
  const addressLength = view.getUint16(afiAt) === 1 ? 4 : 16;
  const peer = afiAt + 2;
  const local = peer + addressLength;
  return {
    peerAs: asn(start),
    localAs: asn(start + asnWidth),
    peerAddress: file.subarray(peer, local),
    localAddress: file.subarray(local, local + addressLength),
    fourOctetAsn: asnWidth === 4,
    message: file.subarray(local + addressLength, end),
  };
}

/** One real session of 89,679 UPDATEs: 577,737 announcements, 577,703 prefixes at the end. */
export function recordedSession(): { path: string; exists: boolean } {
  return sharedFile("vectors", "session-2015", "session.mrt.gz");
}
