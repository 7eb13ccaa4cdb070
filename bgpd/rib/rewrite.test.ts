import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { buildAttributes, OversizeError, parseAttributes } from "../message/attributes.ts";
import { type AsPathSegment, Origin, type PathAttributes, SegmentType } from "../message/types.ts";
import { type Rewrite, rewriteAttributes } from "./rewrite.ts";

const sequence = (...asns: number[]): AsPathSegment => ({ type: SegmentType.AsSequence, asns });
const learned: PathAttributes = {
  origin: Origin.Egp,
  asPath: [sequence(65001, 3)],
  nextHop: Uint8Array.of(10, 0, 0, 1),
  med: 7,
  localPref: 200,
  communities: [0xfde90001],
  originatorId: 9,
  clusterList: [1, 2],
  unknown: [{ flags: 0xe0, code: 99, value: Uint8Array.of(1, 2, 3) }],
};
const external: Rewrite = {
  prepend: 65000,
  dropMed: true,
  external: true,
  localPref: 100,
  removePrivateAsn: false,
  nextHop: Uint8Array.of(192, 0, 2, 1),
};
const internal: Rewrite = { dropMed: false, external: false, localPref: 100, removePrivateAsn: false };

function rewrite(attributes: PathAttributes, how: Rewrite): PathAttributes {
  const octets = buildAttributes(attributes);
  return parseAttributes(rewriteAttributes(octets, 0, octets.length, how).slice());
}

describe("towards an external neighbour", () => {
  it("prepends the AS, sets the next hop, and keeps what is internal inside", () => {
    const { med, localPref, originatorId, clusterList, ...kept } = learned;
    expect(rewrite(learned, external)).toEqual({ ...kept, asPath: [sequence(65000, 65001, 3)], nextHop: Uint8Array.of(192, 0, 2, 1) });
    expect([med, localPref, originatorId, clusterList]).toEqual([7, 200, 9, [1, 2]]);
  });

  it("keeps a MED that it is told to keep", () => {
    expect(rewrite(learned, { ...external, dropMed: false }).med).toBe(7);
  });

  it("opens a new segment in front of a full one and of an AS_SET", () => {
    const full = sequence(...Array.from({ length: 255 }, (_, n) => n + 1));
    expect(rewrite({ ...learned, asPath: [full] }, external).asPath).toEqual([sequence(65000), full]);
    const set = { type: SegmentType.AsSet, asns: [1, 2] };
    expect(rewrite({ ...learned, asPath: [set] }, external).asPath).toEqual([sequence(65000), set]);
    expect(rewrite({ ...learned, asPath: [] }, external).asPath).toEqual([sequence(65000)]);
  });

  it("leaves confederation segments behind (RFC 5065 section 5)", () => {
    const confed = { type: SegmentType.ConfedSequence, asns: [64900, 64901] };
    const set = { type: SegmentType.ConfedSet, asns: [64902] };
    expect(rewrite({ ...learned, asPath: [confed, set, sequence(3)] }, external).asPath).toEqual([sequence(65000, 3)]);
    expect(rewrite({ ...learned, asPath: [confed] }, external).asPath).toEqual([sequence(65000)]);
    expect(rewrite({ ...learned, asPath: [confed, sequence(64513, 3)] }, { ...external, removePrivateAsn: true }).asPath).toEqual([
      sequence(65000, 3),
    ]);
    expect(rewrite({ ...learned, asPath: [confed, set, sequence(3)] }, internal).asPath).toEqual([confed, set, sequence(3)]);
  });

  it("leaves extended communities behind that are not transitive (RFC 4360 section 6), and the attribute when none is left", () => {
    const [target, bandwidth, other] = [0x00, 0x40, 0x80].map(type => Uint8Array.of(type, 4, 0xfd, 0xea, 0, 0, 0, 1));
    const extendedCommunities = [target, bandwidth, other];
    expect(rewrite({ ...learned, extendedCommunities, partial: [16] }, external)).toMatchObject({
      extendedCommunities: [target, other],
      partial: [16],
      unknown: learned.unknown,
    });
    expect(rewrite({ ...learned, extendedCommunities: [bandwidth] }, external)).not.toHaveProperty("extendedCommunities");
    expect(rewrite({ ...learned, extendedCommunities }, internal)).toMatchObject({ extendedCommunities });
  });

  it("takes private AS numbers out before it prepends", () => {
    const path = [sequence(65001, 3, 4200000000), sequence(64512)];
    expect(rewrite({ ...learned, asPath: path }, { ...external, removePrivateAsn: true }).asPath).toEqual([sequence(65000, 3)]);
  });
});

describe("towards an internal neighbour", () => {
  it("adds LOCAL_PREF where there is none, and a next hop where there is none", () => {
    const local: PathAttributes = { origin: Origin.Igp, asPath: [], nextHop: new Uint8Array() };
    const self = Uint8Array.of(10, 1, 1, 1);
    expect(rewrite(local, { ...internal, nextHop: self })).toEqual({ ...local, nextHop: self, localPref: 100 });
  });

  it("leaves what is there", () => {
    expect(rewrite(learned, internal)).toEqual(learned);
  });

  it("reflects: ORIGINATOR_ID where absent, CLUSTER_ID in front (RFC 4456)", () => {
    const { originatorId, clusterList, ...rest } = learned;
    const reflect = { originatorId: 77, clusterId: 88 };
    expect(rewrite(rest, { ...internal, reflect })).toEqual({ ...rest, originatorId: 77, clusterList: [88] });
    expect(rewrite(learned, { ...internal, reflect })).toEqual({ ...learned, originatorId, clusterList: [88, ...(clusterList ?? [])] });
  });
});

describe("an attribute near its greatest length", () => {
  it("is either written right or refused, never with a length that wraps", () => {
    const path = (octets: number): AsPathSegment[] => {
      const segments: AsPathSegment[] = [];
      for (let left = octets; left >= 6; left -= 2 + 4 * segments.at(-1)!.asns.length) {
        segments.push(sequence(...new Array(Math.min(255, (left - 2) >> 2)).fill(65001)));
      }
      return segments;
    };
    const near = fc.integer({ min: 65_400, max: 65_535 });
    const change = fc.record({ prepend: fc.option(fc.constant(65000), { nil: undefined }), reflects: fc.boolean() });
    fc.assert(
      fc.property(near, fc.integer({ min: 16_370, max: 16_383 }), change, (octets, clusters, { prepend, reflects }) => {
        const attributes = { ...learned, asPath: path(octets), clusterList: new Array(clusters).fill(7) };
        const how: Rewrite = { ...internal, prepend, ...(reflects && { reflect: { originatorId: 9, clusterId: 8 } }) };
        const first = attributes.asPath[0].asns.length;
        const asPath = buildAttributes({ ...attributes, clusterList: [] }).length;
        const grows = prepend !== undefined && pathOctets(attributes.asPath) + (first < 255 ? 4 : 6) > 65_535;
        const tooLong = grows || (reflects && 4 * (clusters + 1) > 65_535);
        expect(asPath).toBeGreaterThan(65_000);
        if (tooLong) expect(() => rewrite(attributes, how)).toThrow(OversizeError);
        else expect(rewrite(attributes, how).clusterList).toHaveLength(clusters + (reflects ? 1 : 0));
      }),
      { numRuns: 60 },
    );
  });
});

function pathOctets(path: readonly AsPathSegment[]): number {
  return path.reduce((sum, { asns }) => sum + 2 + 4 * asns.length, 0);
}
