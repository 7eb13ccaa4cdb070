import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hexOf } from "../../net/octets.ts";
import { type FamilyIndex, FamilyIndexes, FamilyTable, forwardingFamily } from "../family.ts";
import { attributesArbitrary, prefixArbitrary } from "./arbitraries.ts";
import { buildAttributes } from "./attributes.ts";
import { fromHex, update } from "./fixtures.ts";
import { MessageFramer } from "./header.ts";
import { readUint32 } from "./octets.ts";
import type { PathAttributes } from "./types.ts";
import { UpdateDecoder } from "./update-decoder.ts";
import { UpdateWriter } from "./update-writer.ts";

const ipv4Unicast = forwardingFamily(4);
const ipv6Unicast = forwardingFamily(6);

const ipv4: PathAttributes = { origin: 0, asPath: [{ type: 2, asns: [65001] }], nextHop: fromHex("c0000201") };
const ipv6: PathAttributes = { ...ipv4, nextHop: fromHex(`20010db8${"00".repeat(11)}01`), med: 5 };

function writer(options: { fourOctetAsn?: boolean; maxMessageLength?: number } = {}): UpdateWriter {
  return new UpdateWriter({ fourOctetAsn: true, maxMessageLength: 4096, ...options });
}

function announce(to: UpdateWriter, family: FamilyIndex, attributes: PathAttributes): number {
  const octets = buildAttributes(attributes);
  return to.announce(family, octets, 0, octets.length);
}

/** One prefix given as its NLRI octets. */
function addPrefix(to: UpdateWriter, family: FamilyIndex, nlri: Uint8Array): void {
  const address = new Uint8Array(16);
  address.set(nlri.subarray(1));
  const [w0, w1, w2, w3] = [0, 4, 8, 12].map(at => readUint32(address, at));
  if (family === ipv4Unicast) to.prefix4(w0, nlri[0]);
  else to.prefix6(w0, w1, w2, w3, nlri[0]);
}

function messages(stream: Uint8Array, maxLength = 4096): Uint8Array[] {
  const list: Uint8Array[] = [];
  new MessageFramer(maxLength).push(stream, message => list.push(message));
  expect(list.reduce((sum, message) => sum + message.length, 0)).toBe(stream.length);
  return list;
}

describe("golden messages", () => {
  it("IPv4 announcement: NEXT_HOP, NLRI at the end", () => {
    const to = writer();
    announce(to, ipv4Unicast, ipv4);
    to.prefix4(0x0a000000, 8);
    to.prefix4(0x0a010200, 23);
    to.prefix4(0, 0);
    expect(to.take()).toEqual(update({ attributes: "40010100 400206 0201 0000fde9 400304 c0000201", nlri: "08 0a 17 0a0102 00" }));
  });

  it("IPv6 announcement: MP_REACH_NLRI first, no NEXT_HOP", () => {
    const to = writer();
    announce(to, ipv6Unicast, ipv6);
    to.prefix6(0x20010db8, 0, 0, 0, 32);
    to.prefix6(0x20010db8, 0x00010002, 0x00030004, 0x00050006, 128);
    const nlri = "20 20010db8 80 20010db8000100020003000400050006";
    expect(to.take()).toEqual(
      update({
        attributes: `900e 002b 0002 01 10 20010db8${"00".repeat(11)}01 00 ${nlri} 40010100 400206 0201 0000fde9 800404 00000005`,
      }),
    );
  });

  it("IPv4 with an IPv6 next hop goes into MP_REACH_NLRI (RFC 8950)", () => {
    const to = writer();
    announce(to, ipv4Unicast, { ...ipv6, med: undefined });
    to.prefix4(0x0a000000, 8);
    expect(to.take()).toEqual(
      update({ attributes: `900e 0017 0001 01 10 20010db8${"00".repeat(11)}01 00 080a 40010100 400206 0201 0000fde9` }),
    );
  });

  it("withdrawals: the classic field for IPv4, MP_UNREACH_NLRI for IPv6", () => {
    const to = writer();
    to.withdraw(ipv4Unicast);
    to.prefix4(0x0a000000, 8);
    to.withdraw(ipv4Unicast);
    to.prefix4(0x0b000000, 8);
    to.withdraw(ipv6Unicast);
    to.prefix6(0x20010db8, 0, 0, 0, 32);
    expect(to.updates).toBe(2);
    expect(messages(to.take())).toEqual([update({ withdrawn: "080a 080b" }), update({ attributes: "900f 0008 0002 01 20 20010db8" })]);
  });

  it("End-of-RIB", () => {
    const to = writer();
    to.endOfRib(ipv4Unicast);
    to.endOfRib(ipv6Unicast);
    expect([to.updates, to.octetsPending]).toEqual([2, 52]);
    expect(messages(to.take())).toEqual([update({}), update({ attributes: "800f03 0002 01" })]);
  });

  it("an attribute above 255 octets has an extended length", () => {
    const to = writer();
    announce(to, ipv4Unicast, { ...ipv4, communities: Array.from({ length: 64 }, (_, i) => i) });
    to.prefix4(0, 0);
    const values = Array.from({ length: 64 }, (_, i) => i.toString(16).padStart(8, "0")).join("");
    expect(to.take()).toEqual(update({ attributes: `40010100 400206 0201 0000fde9 400304 c0000201 d008 0100 ${values}`, nlri: "00" }));
  });

  it("2-octet session: AS_TRANS, with AS4_PATH and AS4_AGGREGATOR in their places", () => {
    const to = writer({ fourOctetAsn: false });
    announce(to, ipv4Unicast, {
      ...ipv4,
      asPath: [
        { type: 3, asns: [70000] },
        { type: 2, asns: [65001, 70000] },
      ],
      aggregator: { asn: 70001, address: fromHex("c0000209") },
      largeCommunities: [[1, 2, 3]],
    });
    to.prefix4(0, 0);
    expect(to.take()).toEqual(
      update({
        attributes: `40010100 40020a 0301 5ba0 0202 fde9 5ba0 400304 c0000201 c00706 5ba0 c0000209
          c0110a 0202 0000fde9 00011170 c01208 00011171 c0000209 c0200c 00000001 00000002 00000003`,
        nlri: "00",
      }),
    );
  });

  it("2-octet session: nothing added where 2 octets suffice, or where only a confederation needs 4", () => {
    const to = writer({ fourOctetAsn: false });
    announce(to, ipv4Unicast, { ...ipv4, asPath: [{ type: 3, asns: [70000] }, ...ipv4.asPath] });
    to.prefix4(0, 0);
    expect(to.take()).toEqual(update({ attributes: "40010100 400208 0301 5ba0 0201 fde9 400304 c0000201", nlri: "00" }));
  });
});

describe("packing", () => {
  it.each([
    [ipv4Unicast, 4096],
    [ipv4Unicast, 65535],
    [ipv6Unicast, 4096],
    [ipv6Unicast, 65535],
  ])("family %i fills messages of %i octets", (family, maxMessageLength) => {
    const to = writer({ maxMessageLength });
    const count = 40_000;
    announce(to, family, family === ipv4Unicast ? ipv4 : ipv6);
    for (let i = 0; i < count; i++) {
      if (family === ipv4Unicast) to.prefix4((i << 8) >>> 0, 24);
      else to.prefix6(0x20010000 + (i >>> 8), (i << 24) >>> 0, 0, 0, 48);
    }
    const pending = to.octetsPending;
    const updates = to.updates;
    const list = messages(to.take(), maxMessageLength);
    expect(list.length).toBe(updates);
    expect(list.reduce((sum, message) => sum + message.length, 0)).toBe(pending);
    const prefix = family === ipv4Unicast ? 4 : 7;
    for (const message of list.slice(0, -1)) expect(message.length).toBeGreaterThan(maxMessageLength - prefix);
    const decoder = new UpdateDecoder({ fourOctetAsn: true, internal: false, families: ["ipv4-unicast", "ipv6-unicast"] });
    let octets = 0;
    for (const message of list) {
      decoder.decode(message);
      octets += decoder.announcedEnd[0] - decoder.announcedStart[0];
    }
    expect(octets).toBe(count * prefix);
  });

  it("withdrawals fill messages too", () => {
    const to = writer();
    to.withdraw(ipv4Unicast);
    for (let i = 0; i < 5000; i++) to.prefix4((i << 8) >>> 0, 24);
    to.withdraw(ipv6Unicast);
    for (let i = 0; i < 5000; i++) to.prefix6(i, 0, 0, 0, 32);
    const lengths = messages(to.take()).map(message => message.length);
    expect(lengths.reduce((a, b) => a + b, 0)).toBe(5000 * 4 + 5 * 23 + 5000 * 5 + 7 * 30);
    expect(lengths.length).toBe(12);
  });

  it("goes on with the same set after take(), and writes nothing for a set without prefixes", () => {
    const to = writer();
    announce(to, ipv6Unicast, ipv6);
    announce(to, ipv4Unicast, ipv4);
    expect([to.updates, to.octetsPending, to.take().length]).toEqual([0, 0, 0]);
    to.prefix4(0x0a000000, 8);
    const first = to.take();
    to.prefix4(0x0a000000, 8);
    expect(to.take()).toEqual(first);
    expect(first.length).toBeGreaterThan(23);
  });

  it("hands over octets that later writing does not touch", () => {
    const to = writer();
    announce(to, ipv4Unicast, ipv4);
    for (let i = 0; i < 12_000; i++) to.prefix4((i << 8) >>> 0, 24);
    const taken = to.take();
    const before = hexOf(taken);
    for (let i = 0; i < 12_000; i++) to.prefix4(0xffffff00, 24);
    to.take();
    expect(hexOf(taken)).toBe(before);
  });

  it.each<[string, FamilyIndex, number, string]>([
    ["IPv4", ipv4Unicast, 4096, "00"],
    ["IPv4", ipv4Unicast, 4096, "18 0a0102"],
    ["IPv4", ipv4Unicast, 65535, "20 0a010203"],
    ["IPv6", ipv6Unicast, 4096, "00"],
    ["IPv6", ipv6Unicast, 4096, "30 20010db80001"],
    ["IPv6", ipv6Unicast, 65535, `80 20010db8${"00".repeat(12)}`],
  ])("%s (%i), %i octets: says how much room a set leaves, and fills a message to its last octet with %s", (_name, family, max, text) => {
    const nlri = fromHex(text);
    const base = family === ipv4Unicast ? ipv4 : ipv6;
    const padded = (octets: number): PathAttributes => ({ ...base, unknown: [{ flags: 0xe0, code: 99, value: new Uint8Array(octets) }] });
    for (const fourOctetAsn of [true, false]) {
      const to = writer({ fourOctetAsn, maxMessageLength: max });
      const exact = announce(to, family, padded(1000)) - nlri.length + 1000;
      expect(announce(to, family, padded(exact))).toBe(nlri.length);
      addPrefix(to, family, nlri);
      expect(to.take().length).toBe(max);
      expect(announce(to, family, padded(exact + 1))).toBe(nlri.length - 1);
      expect(() => addPrefix(to, family, nlri)).toThrow(/leaves no room/);
      expect(to.updates).toBe(0);
      to.withdraw(family);
      addPrefix(to, family, nlri);
      expect(messages(to.take(), max).length).toBe(1);
    }
  });

  it("refuses a prefix of another family, and a set without next hop", () => {
    const to = writer();
    announce(to, ipv6Unicast, ipv6);
    expect(() => to.prefix4(0, 0)).toThrow(/of its family/);
    expect(() => announce(to, ipv4Unicast, { ...ipv4, nextHop: new Uint8Array() })).toThrow(/without next hop/);
  });
});

describe("round trip", () => {
  const cases = FamilyIndexes.flatMap(family =>
    [true, false].flatMap(fourOctetAsn => [4096, 65535].map(max => [FamilyTable[family].name, family, fourOctetAsn, max] as const)),
  );

  it.each(cases)("%s (%i), 4-octet %s, %i octets: what is written is decoded", (_name, family, fourOctetAsn, maxMessageLength) => {
    const maxLength = FamilyTable[family].maxLength;
    const decoder = new UpdateDecoder({ fourOctetAsn, internal: true, families: ["ipv4-unicast", "ipv6-unicast"] });
    const to = new UpdateWriter({ fourOctetAsn, maxMessageLength });
    const sets = fc.array(fc.tuple(attributesArbitrary(family), fc.array(prefixArbitrary(maxLength), { minLength: 1, maxLength: 20 })), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(sets, fc.array(prefixArbitrary(maxLength), { maxLength: 20 }), (announced, withdrawn) => {
        const expected: string[] = [];
        for (const [attributes, prefixes] of announced) {
          announce(to, family, attributes);
          for (const prefix of prefixes) {
            addPrefix(to, family, prefix);
            expected.push(`+${hexOf(prefix)} ${hexOf(buildAttributes(attributes))}`);
          }
        }
        to.withdraw(family);
        for (const prefix of withdrawn) {
          addPrefix(to, family, prefix);
          expected.push(`-${hexOf(prefix)}`);
        }
        const got: string[] = [];
        for (const message of messages(to.take(), maxMessageLength)) got.push(...decodeAll(decoder, message, family));
        expect(got).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });
});

function decodeAll(decoder: UpdateDecoder, message: Uint8Array, family: FamilyIndex): string[] {
  decoder.decode(message);
  expect(decoder.problems).toEqual([]);
  expect(decoder.treatAsWithdraw).toBe(false);
  const list: string[] = [];
  for (let i = 0; i < decoder.withdrawnCount; i++) {
    expect(decoder.withdrawnFamily[i]).toBe(family);
    for (const prefix of walk(message, decoder.withdrawnStart[i], decoder.withdrawnEnd[i])) list.push(`-${prefix}`);
  }
  for (let i = 0; i < decoder.announcedCount; i++) {
    expect(decoder.announcedFamily[i]).toBe(family);
    decoder.canonical(i);
    const attributes = hexOf(decoder.octets.subarray(0, decoder.octetsLength));
    for (const prefix of walk(message, decoder.announcedStart[i], decoder.announcedEnd[i])) list.push(`+${prefix} ${attributes}`);
  }
  return list;
}

function walk(message: Uint8Array, start: number, end: number): string[] {
  const list: string[] = [];
  for (let at = start; at < end; ) {
    const next = at + 1 + ((message[at] + 7) >> 3);
    list.push(hexOf(message.subarray(at, next)));
    at = next;
  }
  return list;
}
