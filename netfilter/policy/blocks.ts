/**
 * Address blocks as ranges: what several blocks come to, each without its exceptions, in order and apart from each other, as the interval sets of nftables
 * want it. Pure.
 */
import { formatAddress, type IpFamily, parsePrefix } from "../../net/address.ts";
import type { PolicyBlock } from "./types.ts";

/** Inclusive. */
export interface Range {
  first: bigint;
  last: bigint;
}

export type Ranges = Readonly<Record<IpFamily, readonly Range[]>>;

const Bits: Readonly<Record<IpFamily, number>> = { 4: 32, 6: 128 };

/** An exception counts for its own block alone: what another block has is in. */
export function rangesOf(blocks: readonly PolicyBlock[]): Ranges {
  const found: Record<IpFamily, Range[]> = { 4: [], 6: [] };
  for (const { cidr, except } of blocks) {
    const { family, range } = read(cidr);
    const without = except.map(read).filter(one => one.family === family);
    found[family].push(
      ...subtract(
        range,
        without.map(one => one.range),
      ),
    );
  }
  return { 4: joined(found[4]), 6: joined(found[6]) };
}

/** Every address of the family. */
export function isWhole(ranges: readonly Range[], family: IpFamily): boolean {
  return ranges.length === 1 && ranges[0].first === 0n && ranges[0].last === (1n << BigInt(Bits[family])) - 1n;
}

/** Elements of an interval set, as nft itself would list them. */
export function rangeElements(ranges: readonly Range[], family: IpFamily): Map<string, unknown> {
  const elements = new Map<string, unknown>();
  for (const { first, last } of ranges) {
    const [from, to] = [addressOf(first, family), addressOf(last, family)];
    const size = last - first + 1n;
    const len = Bits[family] - (size.toString(2).length - 1);
    const isPrefix = (size & (size - 1n)) === 0n && first % size === 0n;
    if (first === last) elements.set(from, from);
    else if (isPrefix) elements.set(`${from}/${len}`, { prefix: { addr: from, len } });
    else elements.set(`${from}-${to}`, { range: [from, to] });
  }
  return elements;
}

/** In order, those that meet or touch made one. */
export function joined<T extends { first: bigint; last: bigint }>(ranges: readonly T[]): Range[] {
  const ordered = [...ranges].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const result: Range[] = [];
  for (const { first, last } of ordered) {
    const before = result.at(-1);
    if (!before || first > before.last + 1n) result.push({ first, last });
    else if (last > before.last) before.last = last;
  }
  return result;
}

function subtract(range: Range, holes: readonly Range[]): Range[] {
  const result: Range[] = [];
  let { first } = range;
  for (const hole of joined(holes)) {
    if (hole.last < first) continue;
    if (hole.first > range.last) break;
    if (hole.first > first) result.push({ first, last: hole.first - 1n });
    first = hole.last + 1n;
  }
  if (first <= range.last) result.push({ first, last: range.last });
  return result;
}

function read(text: string): { family: IpFamily; range: Range } {
  // Kubernetes takes bits beyond the length, and reads the network.
  const { family, address, length } = parsePrefix(text, "clear");
  const first = address.reduce((value, octet) => (value << 8n) | BigInt(octet), 0n);
  return { family, range: { first, last: first + (1n << BigInt(Bits[family] - length)) - 1n } };
}

function addressOf(value: bigint, family: IpFamily): string {
  const octets = new Uint8Array(Bits[family] / 8);
  for (let at = octets.length - 1, rest = value; at >= 0; at--, rest >>= 8n) octets[at] = Number(rest & 0xffn);
  return formatAddress(octets);
}
