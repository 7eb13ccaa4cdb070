/** Policy rule messages (rtnetlink(7) RTM_*RULE, linux/fib_rules.h): bytes <-> Rule. Pure. */
import { type IpFamily, maskAddress } from "../net/address.ts";
import * as C from "./constants.ts";
import { type Bytes, forEachAttribute, type Message, type MessageWriter, readAddress, readText, readU32 } from "./message.ts";
import type { Rule } from "./types.ts";

/** struct fib_rule_hdr. */
const FIB_RULE_HDR = 12;
/** -1 as the kernel tells it. */
const NOT_SUPPRESSED = 0xffffffff;

/** Selectors that are not read. */
const otherSelectors = new Set([C.FRA_TUN_ID, C.FRA_L3MDEV, C.FRA_UID_RANGE, C.FRA_IP_PROTO, C.FRA_SPORT_RANGE, C.FRA_DPORT_RANGE]);

/** undefined for a message of another family. A rule without a table (goto, unreachable, …) has table 0. */
export function decodeRule(message: Message): Rule | undefined {
  const { bytes, start, end } = message;
  if (end - start < FIB_RULE_HDR) return undefined;
  const family = bytes.u8[start] === C.AF_INET ? 4 : bytes.u8[start] === C.AF_INET6 ? 6 : undefined;
  if (family === undefined) return undefined;
  const toTable = bytes.u8[start + 7] === C.FR_ACT_TO_TBL;
  const rule: Rule = { family, priority: 0, table: toTable ? bytes.u8[start + 4] : 0 };
  if ((bytes.view.getUint32(start + 8, true) & C.FIB_RULE_INVERT) !== 0) rule.inverted = true;
  if (bytes.u8[start + 3] !== 0) rule.otherSelectors = true;
  forEachAttribute(bytes, start + FIB_RULE_HDR, end, (type, from, to) => {
    decodeRuleAttribute(rule, message, type, from, to);
  });
  if (!toTable) rule.table = 0;
  return rule;
}

function decodeRuleAttribute(rule: Rule, message: Message, type: number, from: number, to: number): void {
  const { bytes, start } = message;
  if (type === C.FRA_PRIORITY) rule.priority = readU32(bytes, from, to);
  else if (type === C.FRA_TABLE) rule.table = readU32(bytes, from, to);
  else if (type === C.FRA_FWMARK) rule.mark = readU32(bytes, from, to);
  else if (type === C.FRA_IIFNAME) rule.inputInterface = readText(bytes, from, to);
  else if (type === C.FRA_OIFNAME) rule.outputInterface = readText(bytes, from, to);
  else if (type === C.FRA_PROTOCOL && to > from) rule.protocol = bytes.u8[from];
  else if (type === C.FRA_SUPPRESS_PREFIXLEN) {
    const length = readU32(bytes, from, to);
    if (length !== NOT_SUPPRESSED) rule.suppressPrefixLength = length;
  } else if (otherSelectors.has(type)) rule.otherSelectors = true;
  else if (type === C.FRA_SRC) rule.source = decodeSelector(bytes, rule.family, from, to, bytes.u8[start + 2]);
  else if (type === C.FRA_DST) rule.destination = decodeSelector(bytes, rule.family, from, to, bytes.u8[start + 1]);
}

function decodeSelector(bytes: Bytes, family: IpFamily, from: number, to: number, length: number): Rule["source"] {
  const address = readAddress(bytes, from, to);
  return address?.length === (family === 4 ? 4 : 16) && length <= address.length * 8 ? { address, length } : undefined;
}

/** Body of RTM_NEWRULE and RTM_DELRULE. */
export function encodeRule(writer: MessageWriter, rule: Rule): void {
  encodeHeader(writer, rule.family, {
    dst: rule.destination?.length,
    src: rule.source?.length,
    table: rule.table < 256 ? rule.table : C.RT_TABLE_COMPAT,
    action: C.FR_ACT_TO_TBL,
    flags: rule.inverted ? C.FIB_RULE_INVERT : 0,
  });
  writer.attributeU32(C.FRA_PRIORITY, rule.priority);
  writer.attributeU32(C.FRA_TABLE, rule.table);
  if (rule.source !== undefined) writer.attribute(C.FRA_SRC, maskAddress(rule.source.address, rule.source.length));
  if (rule.destination !== undefined) writer.attribute(C.FRA_DST, maskAddress(rule.destination.address, rule.destination.length));
  if (rule.inputInterface !== undefined) writer.attributeText(C.FRA_IIFNAME, rule.inputInterface);
  if (rule.outputInterface !== undefined) writer.attributeText(C.FRA_OIFNAME, rule.outputInterface);
  if (rule.mark !== undefined) writer.attributeU32(C.FRA_FWMARK, rule.mark);
  if (rule.suppressPrefixLength !== undefined) writer.attributeU32(C.FRA_SUPPRESS_PREFIXLEN, rule.suppressPrefixLength);
  if (rule.protocol !== undefined) writer.attributeU8(C.FRA_PROTOCOL, rule.protocol);
}

/** Body of a dump. */
export function encodeRuleDump(writer: MessageWriter, family: IpFamily): void {
  encodeHeader(writer, family, {});
}

type Header = Partial<Record<"dst" | "src" | "table" | "action" | "flags", number>>;

function encodeHeader(writer: MessageWriter, family: IpFamily, { dst = 0, src = 0, table = 0, action = 0, flags = 0 }: Header): void {
  writer.u8(family === 4 ? C.AF_INET : C.AF_INET6);
  writer.u8(dst);
  writer.u8(src);
  writer.u8(0);
  writer.u8(table);
  writer.u8(0);
  writer.u8(0);
  writer.u8(action);
  writer.u32(flags);
}
