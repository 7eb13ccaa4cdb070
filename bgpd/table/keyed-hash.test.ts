/**
 * What a neighbour can do to the tables by choosing what it announces: nothing that chance would not. Counted are the places looked at, never seconds.
 * The chosen keys are those that met in one place under the hashes that these tables once had, which needed no key.
 */
import { describe, expect, it } from "vitest";
import type { IpFamily } from "../../net/address.ts";
import { parseAddress } from "../../net/address.ts";
import { buildAttributes } from "../message/attributes.ts";
import { attributes } from "../rib/testing.ts";
import { AttributeSets } from "./attribute-sets.ts";
import { hashOctets } from "./keyed-hash.ts";
import { PrefixTable } from "./prefix-table.ts";

const COUNT = 30_000;

function formerPrefixHash(w0: number, rest: readonly number[], length: number): number {
  let h = Math.imul(w0 ^ (length * 0x9e3779b1), 0x85ebca6b);
  if (rest.length === 3) {
    h = Math.imul(h ^ (h >>> 15) ^ rest[0], 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 13) ^ rest[1], 0x27d4eb2f);
    h = Math.imul(h ^ (h >>> 15) ^ rest[2], 0x85ebca6b);
  }
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return h ^ (h >>> 13);
}

function formerOctetsHash(octets: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const octet of octets) hash = Math.imul(hash ^ octet, 0x01000193);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** The same at every run: Marsaglia's xorshift. */
function numbers(): () => number {
  let state = 2463534242;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

type Words = [number, number, number, number];

/** Interns each, and looks each up: places looked at for one. */
function cost(ip: IpFamily, keys: readonly Words[], length: number): number {
  const table = new PrefixTable(ip);
  for (const key of keys) table.intern(...key, length);
  for (const key of keys) expect(table.find(...key, length)).not.toBe(0);
  return table.probes / keys.length;
}

function* count(from: number, step: number): Generator<number> {
  for (let n = from; ; n += step) yield n >>> 0;
}

function take<T>(source: Iterable<T>, amount: number): T[] {
  const taken: T[] = [];
  for (const one of source) {
    taken.push(one);
    if (taken.length === amount) break;
  }
  return taken;
}

describe("prefixes", () => {
  const next = numbers();
  const random4 = Array.from({ length: COUNT }, (): Words => [(next() & 0xffffff00) >>> 0, 0, 0, 0]);
  const random6 = Array.from({ length: COUNT }, (): Words => [0x20010db8, next(), 0, 0]);
  /** All in an eighth of one index: searches ran through thousands of places. */
  const met = (hash: number) => (hash & 0xffff) < 0x2000;
  const chosen4 = function* (): Generator<Words> {
    for (const n of count(0x01000000, 256)) if (met(formerPrefixHash(n, [], 24))) yield [n, 0, 0, 0];
  };
  const chosen6 = function* (): Generator<Words> {
    for (const n of count(0, 1)) if (met(formerPrefixHash(0x20010db8, [n, 0, 0], 64))) yield [0x20010db8, n, 0, 0];
  };

  it.each<[string, IpFamily, readonly Words[], number, Words[]]>([
    ["/24s that met in one place", 4, take(chosen4(), COUNT), 24, random4],
    ["/24s one after the other", 4, take(count(0x0a000000, 256), COUNT).map((n): Words => [n, 0, 0, 0]), 24, random4],
    ["/32s that end alike", 4, take(count(0x00000001, 0x10000), COUNT).map((n): Words => [n, 0, 0, 0]), 32, random4],
    ["/64s that met in one place", 6, take(chosen6(), COUNT), 64, random6],
    ["/128s one after the other", 6, take(count(0, 1), COUNT).map((n): Words => [0x20010db8, 0, 0, n]), 128, random6],
    ["/128s of equal words", 6, take(count(1, 1), COUNT).map((n): Words => [n, n, n, n]), 128, random6],
  ])("%s cost at most five times what random ones cost", (_what, ip, keys, length, random) => {
    expect(cost(ip, keys, length)).toBeLessThan(5 * cost(ip, random, length));
  });

  it("the chosen ones did meet", () => {
    const places = new Set(take(chosen4(), COUNT).map(([n]) => formerPrefixHash(n, [], 24) & 0xffff));
    expect(places.size).toBeLessThanOrEqual(0x2000);
  });

  it("an index whose key somebody found out is replaced by one with another key, and loses nothing", () => {
    let keys = 0;
    const table = new PrefixTable(4, undefined, 4096, words => {
      // Under the first key all prefixes have one place.
      if (keys++ > 0) crypto.getRandomValues(words);
    });
    const prefixes = take(count(0x0a000000, 256), 4000);
    const ids = prefixes.map(n => table.intern(n, 0, 0, 0, 24));
    expect(table.rekeyed).toBeGreaterThan(0);
    const probes = table.probes;
    expect(prefixes.map(n => table.find(n, 0, 0, 0, 24))).toEqual(ids);
    expect((table.probes - probes) / prefixes.length).toBeLessThan(5);
  });
});

describe("attribute sets", () => {
  const table = () => new AttributeSets({ trackNextHop: () => 0, releaseNextHop: () => {} });
  const sets = function* (met: (octets: Uint8Array) => boolean): Generator<Uint8Array> {
    for (const n of count(1, 1)) {
      const octets = buildAttributes(attributes({ communities: [n] }));
      if (met(octets)) yield octets;
    }
  };
  const probes = (all: readonly Uint8Array[]) => {
    const one = table();
    for (const octets of all) one.intern(octets, 0, octets.length);
    return one.probes / all.length;
  };

  it("that met in one bucket of 64 cost at most five times what others cost", () => {
    const chosen = take(
      sets(octets => (formerOctetsHash(octets) & 63) === 0),
      4000,
    );
    const any = take(
      sets(() => true),
      4000,
    );
    expect(probes(chosen)).toBeLessThan(5 * Math.max(1, probes(any)));
  });

  it("are told apart by each octet, their length and the link", () => {
    const key = Uint32Array.of(0x03020100, 0x07060504);
    const octets = parseAddress("2001:db8::1");
    const hashes = new Set<number>();
    for (let end = 0; end <= octets.length; end++) hashes.add(hashOctets(key, octets, 0, end, 0));
    for (let at = 0; at < octets.length; at++) hashes.add(hashOctets(key, octets.with(at, octets[at] ^ 1), 0, octets.length, 0));
    for (let more = 1; more < 10; more++) hashes.add(hashOctets(key, octets, 0, octets.length, more));
    expect(hashes.size).toBe(17 + 16 + 9);
    expect(hashOctets(Uint32Array.of(1, 2), octets, 0, 16, 0)).not.toBe(hashOctets(key, octets, 0, 16, 0));
  });
});
