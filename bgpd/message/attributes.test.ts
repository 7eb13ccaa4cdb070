import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hexOf } from "../../net/octets.ts";
import { FamilyIndexes } from "../family.ts";
import { attributesArbitrary } from "./arbitraries.ts";
import { asPathContains, buildAttributes, CommunityFlag, clusterListContains, noFacts, parseAttributes, readFacts } from "./attributes.ts";
import { fromHex } from "./fixtures.ts";
import { attributesView } from "./format.ts";
import type { PathAttributes } from "./types.ts";

const everything: PathAttributes = {
  origin: 1,
  asPath: [
    { type: 3, asns: [64512] },
    { type: 2, asns: [65001, 4200000000] },
    { type: 1, asns: [3, 2] },
  ],
  nextHop: Uint8Array.of(192, 0, 2, 1),
  med: 10,
  localPref: 200,
  atomicAggregate: true,
  aggregator: { asn: 70000, address: Uint8Array.of(192, 0, 2, 9) },
  communities: [0xfde90064, 0xffffff01],
  originatorId: 0x0a000001,
  clusterList: [0x0a000002, 0x0a000001],
  extendedCommunities: [fromHex("0002fde900000064"), fromHex("0103c00002010007"), fromHex("8006000000000000")],
  largeCommunities: [
    [65001, 1, 2],
    [4200000000, 0, 0],
  ],
  unknown: [{ flags: 0xe0, code: 35, value: fromHex("0000fde9") }],
};

const canonical = `
  40 01 0001 01
  40 02 001a 03 01 0000fc00 02 02 0000fde9 fa56ea00 01 02 00000003 00000002
  40 03 0004 c0000201
  80 04 0004 0000000a
  40 05 0004 000000c8
  40 06 0000
  c0 07 0008 00011170 c0000209
  c0 08 0008 fde90064 ffffff01
  80 09 0004 0a000001
  80 0a 0008 0a000002 0a000001
  c0 10 0018 0002fde900000064 0103c00002010007 8006000000000000
  c0 20 0018 0000fde9 00000001 00000002 fa56ea00 00000000 00000000
  e0 23 0004 0000fde9`.replace(/\s+/g, "");

describe("canonical octets", () => {
  it("are the attributes ascending by code", () => {
    expect(hexOf(buildAttributes(everything))).toBe(canonical);
    expect(parseAttributes(fromHex(canonical))).toEqual(everything);
  });

  it("keep the Partial bit of optional transitive attributes (RFC 4271 section 5)", () => {
    const partial = canonical.replace("c0070008", "e0070008").replace("c0200018", "e0200018");
    expect(parseAttributes(fromHex(partial))).toEqual({ ...everything, partial: [7, 32] });
    expect(hexOf(buildAttributes({ ...everything, partial: [7, 32] }))).toBe(partial);
  });

  it("are read from within a larger buffer", () => {
    const around = fromHex(`aaaa${canonical}bbbb`);
    expect(parseAttributes(around, 2, around.length - 2)).toEqual(everything);
  });

  it("are equal for equal sets: order and repeats of communities do not matter", () => {
    const shuffled: PathAttributes = {
      ...everything,
      communities: [0xffffff01, 0xfde90064, 0xffffff01],
      extendedCommunities: everything.extendedCommunities!.toReversed(),
      largeCommunities: [...everything.largeCommunities!.toReversed(), [65001, 1, 2]],
      unknown: [{ flags: 0xc0, code: 35, value: fromHex("0000fde9") }],
    };
    expect(hexOf(buildAttributes(shuffled))).toBe(canonical);
  });

  it("sort many communities as well as few", () => {
    const many = Array.from({ length: 3000 }, (_, i) => (i * 2654435761) >>> 0);
    const parsed = parseAttributes(buildAttributes({ ...everything, communities: [...many, ...many] }));
    expect(parsed.communities).toEqual([...many].sort((a, b) => a - b));
  });

  it("leave out what is empty and split a long AS_SEQUENCE", () => {
    const asns = Array.from({ length: 300 }, (_, i) => i + 1);
    const octets = buildAttributes({
      origin: 0,
      asPath: [
        { type: 1, asns: [] },
        { type: 2, asns },
      ],
      nextHop: new Uint8Array(),
      communities: [],
      clusterList: [],
      extendedCommunities: [],
      largeCommunities: [],
      unknown: [],
    });
    expect(parseAttributes(octets)).toEqual({
      origin: 0,
      asPath: [
        { type: 2, asns: asns.slice(0, 255) },
        { type: 2, asns: asns.slice(255) },
      ],
      nextHop: new Uint8Array(),
    });
  });

  it("come back from what was parsed, for any set", () => {
    fc.assert(
      fc.property(fc.oneof(...FamilyIndexes.map(attributesArbitrary)), attributes => {
        const octets = buildAttributes(attributes);
        expect(parseAttributes(octets)).toEqual(attributes);
        expect(buildAttributes(parseAttributes(octets))).toEqual(octets);
      }),
    );
  });

  it("refuse a value above 65535 octets, and lengths beyond the end", () => {
    expect(() => buildAttributes({ ...everything, clusterList: new Array(20000).fill(1) })).toThrow(/CLUSTER_LIST would have 80000 octets/);
    expect(() => parseAttributes(fromHex("40010002 01"))).toThrow(RangeError);
    expect(() => parseAttributes(fromHex("4001"))).toThrow(RangeError);
  });
});

describe("facts", () => {
  const of = (attributes: Partial<PathAttributes>) => {
    const octets = buildAttributes({ origin: 0, asPath: [], nextHop: new Uint8Array(), ...attributes });
    return readFacts(octets, 0, octets.length);
  };

  it("are all there", () => {
    const octets = fromHex(`ff${canonical}ff`);
    expect(readFacts(octets, 1, octets.length - 1)).toEqual({
      origin: 1,
      localPref: 200,
      med: 10,
      asPathLength: 3,
      neighborAs: 65001,
      hasOriginator: true,
      originatorId: 0x0a000001,
      clusterListLength: 2,
      nextHopOffset: 1 + 5 + 30 + 4,
      nextHopLength: 4,
      wellKnownCommunities: CommunityFlag.NoExport,
    });
  });

  it("of an empty set show absence, whatever was read before", () => {
    of(everything);
    expect(of({})).toEqual({ ...noFacts, origin: 0 });
  });

  it.each<[string, PathAttributes["asPath"], number, number]>([
    ["empty", [], 0, 0],
    ["an AS_SET first", [{ type: 1, asns: [7, 8] }, { type: 2, asns: [9] }], 2, 0], // biome-ignore format: a table
    ["a confederation first", [{ type: 3, asns: [7] }, { type: 4, asns: [6, 5] }, { type: 2, asns: [9, 9] }], 2, 9], // biome-ignore format: a table
    ["two sequences", [{ type: 2, asns: [1, 2] }, { type: 2, asns: [3] }], 3, 1], // biome-ignore format: a table
  ])("of a path: %s", (_what, asPath, length, neighborAs) => {
    expect(of({ asPath })).toMatchObject({ asPathLength: length, neighborAs });
  });

  it.each([
    [0xffff0000, CommunityFlag.GracefulShutdown],
    [0xffff0001, CommunityFlag.AcceptOwn],
    [0xffff0006, CommunityFlag.LlgrStale],
    [0xffff0007, CommunityFlag.NoLlgr],
    [0xffff029a, CommunityFlag.Blackhole],
    [0xffffff01, CommunityFlag.NoExport],
    [0xffffff02, CommunityFlag.NoAdvertise],
    [0xffffff03, CommunityFlag.NoExportSubconfed],
    [0xffffff04, CommunityFlag.NoPeer],
    [0xfffeff01, 0],
    [0xffff1234, 0],
  ])("flag community %i", (community, flag) => {
    expect(of({ communities: [1, community] }).wellKnownCommunities).toBe(flag);
  });

  it("count loops in path and cluster list", () => {
    const octets = buildAttributes({ ...everything, asPath: [{ type: 2, asns: [5, 6, 5] }, { type: 1, asns: [5] }] }); // biome-ignore format: a table
    expect([5, 6, 7].map(asn => asPathContains(octets, 0, octets.length, asn))).toEqual([3, 1, 0]);
    expect([0x0a000001, 0x0a000003].map(id => clusterListContains(octets, 0, octets.length, id))).toEqual([true, false]);
    const bare = buildAttributes({ origin: 0, asPath: [], nextHop: new Uint8Array() });
    expect(asPathContains(bare, 0, bare.length, 5)).toBe(0);
    expect(clusterListContains(bare, 0, bare.length, 1)).toBe(false);
  });
});

describe("view", () => {
  it("shows an attribute set as a router does", () => {
    expect(attributesView(everything)).toEqual({
      origin: "egp",
      asPath: "(64512) 65001 4200000000 {3 2}",
      nextHop: "192.0.2.1",
      med: 10,
      localPref: 200,
      atomicAggregate: true,
      aggregator: "70000 192.0.2.9",
      communities: ["65001:100", "no-export"],
      originatorId: "10.0.0.1",
      clusterList: ["10.0.0.2", "10.0.0.1"],
      extendedCommunities: ["rt:65001:100", "soo:192.0.2.1:7", "0x8006000000000000"],
      largeCommunities: ["65001:1:2", "4200000000:0:0"],
      unknown: ["35 flags 0xe0 value 0x0000fde9"],
    });
  });

  it("shows little where there is little, and both addresses of an IPv6 next hop", () => {
    const nextHop = fromHex(`20010db8${"00".repeat(11)}01 fe80${"00".repeat(13)}02`);
    expect(attributesView({ origin: 2, asPath: [], nextHop })).toEqual({
      origin: "incomplete",
      asPath: "",
      nextHop: "2001:db8::1 fe80::2",
    });
  });
});
