/** Test support: fast-check generators of attribute sets, prefixes and whole UPDATEs. */
import fc from "fast-check";
import { type FamilyIndex, FamilyTable } from "../family.ts";
import type { AsPathSegment, PathAttributes } from "./types.ts";

const u32 = fc.integer({ min: 0, max: 0xffffffff });
/** Half of them need 4 octets; 0 is no AS number, 23456 stands for others. */
const asn = fc.oneof(fc.integer({ min: 1, max: 0xffff }), fc.integer({ min: 0x10000, max: 0xffffffff })).filter(value => value !== 23456);

const shortAsn = fc.integer({ min: 1, max: 0xffff });

const segment = (types: (1 | 2 | 3 | 4)[], asns: fc.Arbitrary<number>): fc.Arbitrary<AsPathSegment> =>
  fc.record({ type: fc.constantFrom(...types), asns: fc.array(asns, { minLength: 1, maxLength: 8 }) });

/** Confederation segments stand in front, and have 2-octet numbers: others do not survive a 2-octet session (RFC 6793 section 4.2.2). */
const asPath = fc
  .tuple(fc.array(segment([3, 4], shortAsn), { maxLength: 1 }), fc.array(segment([1, 2], asn), { maxLength: 3 }))
  .map(([confed, others]) => [...confed, ...others]);

const octets = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const ipv4NextHop = octets(4).map(address => Uint8Array.of((address[0] % 126) + 1, ...address.subarray(1)));
const global = octets(16).map(address => Uint8Array.of(0x20, ...address.subarray(1)));
const linkLocal = octets(16).map(address => Uint8Array.of(0xfe, 0x80, ...address.subarray(2)));
const ipv6NextHop = fc.oneof(
  global,
  fc.tuple(global, linkLocal).map(([first, second]) => Uint8Array.of(...first, ...second)),
);

/** Codes without a row in the attribute table. */
const unknown = fc.uniqueArray(
  fc.record({
    flags: fc.constant(0xe0),
    code: fc.constantFrom(11, 19, 23, 29, 31, 33, 35, 128, 255),
    value: fc.uint8Array({ maxLength: 300 }),
  }),
  { maxLength: 3, selector: ({ code }) => code },
);

/** Which of its known optional transitive attributes have the Partial bit, ascending. */
function partialArbitrary(attributes: PathAttributes): fc.Arbitrary<number[]> {
  const { aggregator, communities, extendedCommunities, largeCommunities } = attributes;
  return fc.subarray([
    ...(aggregator ? [7] : []),
    ...(communities ? [8] : []),
    ...(extendedCommunities ? [16] : []),
    ...(largeCommunities ? [32] : []),
  ]);
}

/** Any attribute set with a next hop of this family, in the form parseAttributes gives. */
export function attributesArbitrary(family: FamilyIndex): fc.Arbitrary<PathAttributes> {
  return fc
    .record(
      {
        origin: fc.constantFrom(0 as const, 1 as const, 2 as const),
        asPath,
        nextHop: FamilyTable[family].ip === 4 ? ipv4NextHop : ipv6NextHop,
        med: u32,
        localPref: u32,
        atomicAggregate: fc.constant(true),
        aggregator: fc.record({ asn, address: octets(4) }),
        communities: fc.uniqueArray(u32, { minLength: 1, maxLength: 100 }).map(list => list.sort((a, b) => a - b)),
        originatorId: u32,
        clusterList: fc.array(u32, { minLength: 1, maxLength: 5 }),
        extendedCommunities: fc
          .uniqueArray(octets(8), { minLength: 1, maxLength: 40, selector: String })
          .map(list => list.sort(Buffer.compare)),
        largeCommunities: fc
          .uniqueArray(fc.tuple(u32, u32, u32), { minLength: 1, maxLength: 40, selector: String })
          .map(list => list.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2])),
        unknown,
      },
      { requiredKeys: ["origin", "asPath", "nextHop"] },
    )
    .chain(attributes => partialArbitrary(attributes).map(partial => (partial.length > 0 ? { ...attributes, partial } : attributes)))
    .map(attributes => {
      if (attributes.unknown?.length === 0) delete attributes.unknown;
      attributes.unknown?.sort((a, b) => a.code - b.code);
      return attributes;
    });
}

/** A prefix as its NLRI octets: length octet, then the address cut to it. */
export function prefixArbitrary(maxLength: number): fc.Arbitrary<Uint8Array> {
  return fc.tuple(fc.integer({ min: 0, max: maxLength }), octets(maxLength / 8)).map(([length, address]) => {
    const kept = address.slice(0, (length + 7) >> 3);
    if (length & 7) kept[kept.length - 1] &= 0xff00 >> (length & 7);
    return Uint8Array.of(length, ...kept);
  });
}
