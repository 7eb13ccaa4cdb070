/** Queueing disciplines (rtnetlink(7) RTM_*QDISC, linux/pkt_sched.h), of which only the token bucket, tc-tbf(8), at the root of a link: bytes <-> TokenBucket. Pure. */
import * as C from "./constants.ts";
import { forEachAttribute, type Message, type MessageWriter, readText, readU32 } from "./message.ts";
import type { TokenBucket } from "./types.ts";

/** struct tcmsg. */
const TCMSG = 20;
/** struct tc_tbf_qopt: two struct tc_ratespec of 12 octets, limit, buffer, mtu. */
const TBF_QOPT = 36;
const RATE = 8;
const LIMIT = 24;
const KIND = "tbf";
const MAX_U32 = 0xffffffff;

/** Body of RTM_NEWQDISC. Beyond 32 bits a rate has an attribute of its own. */
export function encodeTokenBucket(writer: MessageWriter, ifindex: number, { rate, burst, limit }: TokenBucket): void {
  encodeRoot(writer, ifindex);
  writer.attributeText(C.TCA_KIND, KIND);
  const options = writer.open(C.TCA_OPTIONS);
  const parameters = new Uint8Array(TBF_QOPT);
  const view = new DataView(parameters.buffer);
  // The kernel would else want a table of times.
  parameters[1] = C.TC_LINKLAYER_ETHERNET;
  view.setUint32(RATE, Math.min(rate, MAX_U32), true);
  view.setUint32(LIMIT, Math.min(limit, MAX_U32), true);
  writer.attribute(C.TCA_TBF_PARMS, parameters);
  if (rate > MAX_U32) {
    const octets = new Uint8Array(8);
    new DataView(octets.buffer).setBigUint64(0, BigInt(rate), true);
    writer.attribute(C.TCA_TBF_RATE64, octets);
  }
  writer.attributeU32(C.TCA_TBF_BURST, Math.min(burst, MAX_U32));
  writer.close(options);
}

/** Body of RTM_GETQDISC. */
export function encodeRoot(writer: MessageWriter, ifindex: number): void {
  writer.u32(C.AF_UNSPEC);
  writer.u32(ifindex);
  writer.u32(0);
  writer.u32(C.TC_H_ROOT);
  writer.u32(0);
}

/** undefined for another discipline. The kernel tells no burst. */
export function decodeTokenBucket({ bytes, start, end }: Message): Omit<TokenBucket, "burst"> | undefined {
  if (end - start < TCMSG) return undefined;
  let kind = "";
  let found: Omit<TokenBucket, "burst"> | undefined;
  forEachAttribute(bytes, start + TCMSG, end, (type, from, to) => {
    if (type === C.TCA_KIND) kind = readText(bytes, from, to);
    if (type !== C.TCA_OPTIONS || kind !== KIND) return;
    const bucket = { rate: 0, limit: 0 };
    let rate64: number | undefined;
    forEachAttribute(bytes, from, to, (option, first, last) => {
      if (option === C.TCA_TBF_PARMS && last - first >= TBF_QOPT) {
        bucket.rate = readU32(bytes, first + RATE, last);
        bucket.limit = readU32(bytes, first + LIMIT, last);
      } else if (option === C.TCA_TBF_RATE64 && last - first >= 8) rate64 = Number(bytes.view.getBigUint64(first, true));
    });
    found = { ...bucket, rate: rate64 ?? bucket.rate };
  });
  return found;
}
