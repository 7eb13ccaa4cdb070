/**
 * What the keys of the hash tables cost: prefixes and attribute sets hashed with and without one, and 110,000 prefixes taken into a table, by chance
 * and chosen so that they met under the hash without a key. The best of several rounds counts.
 */
import { buildAttributes } from "../bgpd/message/attributes.ts";
import { hashOctets, hashPrefix4, hashPrefix6, secretWords, tabulation } from "../bgpd/table/keyed-hash.ts";
import { PrefixTable } from "../bgpd/table/prefix-table.ts";
import { count, describeMachine, machine, printTable, program, round, type Values } from "./common.ts";

const USAGE = `usage: npm run bench -- hash [--rounds N] [--json]

  --rounds   how often each is measured, 1..1000; default 10
  --json     one JSON object instead of a table`;

const KEYS = 1_000_000;
const PREFIXES = 110_000;

interface Figure {
  what: string;
  /** Nanoseconds for one, with a key. */
  keyed: number;
  /** Without one, as the tables were before: only the hash, where a table is measured. */
  former?: number;
}

/** So that nothing is optimised away. */
const sink = new Uint32Array(1);

function main(values: Values): void {
  const rounds = count(values, "rounds", 10, 1000);
  const facts = machine();
  const words = crypto.getRandomValues(new Uint32Array(16_384));
  const octets = buildAttributes({
    origin: 0,
    asPath: [{ type: 2, asns: [65001, 3356, 1299, 64496] }],
    nextHop: Uint8Array.of(192, 0, 2, 1),
    communities: [1, 2, 3],
  });
  const key4 = tabulation(5, secretWords);
  const key6 = tabulation(17, secretWords);
  const key = crypto.getRandomValues(new Uint32Array(2));
  const each = (work: (n: number) => number) => () => {
    for (let n = 0; n < KEYS; n++) sink[0] ^= work(n);
  };
  const nanoseconds = (work: () => void, amount: number) => round((best(work, rounds) * 1e6) / amount, 1);
  const word = (n: number) => words[n & 16_383];
  const figures: Figure[] = [
    {
      what: "hash of an IPv4 prefix",
      former: nanoseconds(
        each(n => former(word(n), 0, 0, 0, 24, false)),
        KEYS,
      ),
      keyed: nanoseconds(
        each(n => hashPrefix4(key4, word(n), 24)),
        KEYS,
      ),
    },
    {
      what: "hash of an IPv6 prefix",
      former: nanoseconds(
        each(n => former(0x20010db8, word(n), word(n + 1), 0, 64, true)),
        KEYS,
      ),
      keyed: nanoseconds(
        each(n => hashPrefix6(key6, 0x20010db8, word(n), word(n + 1), 0, 64)),
        KEYS,
      ),
    },
    {
      what: `hash of an attribute set of ${octets.length} octets`,
      former: nanoseconds(
        each(n => formerOctets(octets, n)),
        KEYS,
      ),
      keyed: nanoseconds(
        each(n => hashOctets(key, octets, 0, octets.length, n)),
        KEYS,
      ),
    },
    { what: `${PREFIXES} prefixes by chance into a table`, keyed: nanoseconds(() => fill(byChance()), PREFIXES) },
    { what: `${PREFIXES} chosen prefixes into a table`, keyed: nanoseconds(() => fill(chosen()), PREFIXES) },
  ];
  if (values.json) console.log(JSON.stringify({ bench: "hash", machine: facts, rounds, figures }));
  else {
    console.log(`${describeMachine(facts)}\n`);
    const rows = figures.map(figure => [figure.what, figure.former?.toFixed(1) ?? "", figure.keyed.toFixed(1)]);
    printTable(["nanoseconds for one", "without a key", "with a key"], rows);
  }
}

/** Milliseconds. */
function best(work: () => void, rounds: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let turn = 0; turn < rounds; turn++) {
    const begin = performance.now();
    work();
    least = Math.min(least, performance.now() - begin);
  }
  return least;
}

function fill(prefixes: Uint32Array): void {
  const table = new PrefixTable(4);
  for (const prefix of prefixes) sink[0] ^= table.intern(prefix, 0, 0, 0, 24);
}

let random: Uint32Array | undefined;
function byChance(): Uint32Array {
  if (random) return random;
  const words = new Uint32Array(PREFIXES);
  for (let at = 0; at < PREFIXES; at += 16_384) crypto.getRandomValues(words.subarray(at, at + 16_384));
  random = words.map(value => value & 0xffffff00);
  return random;
}

let met: Uint32Array | undefined;
/** All in a hundredth of an index of 2^18 places. */
function chosen(): Uint32Array {
  if (met) return met;
  met = new Uint32Array(PREFIXES);
  let at = 0;
  for (let n = 1; at < PREFIXES; n++) {
    const prefix = (n << 8) >>> 0;
    if ((former(prefix, 0, 0, 0, 24, false) & 0x3ffff) < 2048) met[at++] = prefix;
    if (n === 0xffffff) break;
  }
  return met.subarray(0, at);
}

function former(w0: number, w1: number, w2: number, w3: number, length: number, ipv6: boolean): number {
  let h = Math.imul(w0 ^ (length * 0x9e3779b1), 0x85ebca6b);
  if (ipv6) {
    h = Math.imul(h ^ (h >>> 15) ^ w1, 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 13) ^ w2, 0x27d4eb2f);
    h = Math.imul(h ^ (h >>> 15) ^ w3, 0x85ebca6b);
  }
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return h ^ (h >>> 13);
}

function formerOctets(octets: Uint8Array, more: number): number {
  let hash = 0x811c9dc5 ^ more;
  for (let i = 0; i < octets.length; i++) hash = Math.imul(hash ^ octets[i], 0x01000193);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}

if (import.meta.main) await program("hash", USAGE, { rounds: { type: "string" } }, main);
