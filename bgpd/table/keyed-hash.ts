/**
 * Hashing with a key that nobody outside knows: a neighbour who can choose prefixes and attributes, and knows this source, can still not make them
 * meet in one place of a table. A secret seed in front of a weak mix would not do: what collides under one seed mostly collides under all.
 *
 * Prefixes have few octets: simple tabulation (Zobrist), one table of random words for each octet. It is 3-independent, and linear probing with it
 * takes a constant expected time whatever the keys (Pătraşcu and Thorup, "The Power of Simple Tabulation Hashing", 2012). Attribute sets have
 * many: HalfSipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), which Linux takes for its hash tables, too.
 */

/** Fills an array with random words; tests give their own. */
export type RandomWords = (words: Uint32Array<ArrayBuffer>) => void;

export const secretWords: RandomWords = words => {
  crypto.getRandomValues(words);
};

/** For keys of `octets` octets, the last of which is the length. */
export function tabulation(octets: number, random: RandomWords): Uint32Array {
  const tables = new Uint32Array(octets * 256);
  // getRandomValues gives at most 65,536 octets at once.
  for (let at = 0; at < tables.length; at += 4096) random(tables.subarray(at, at + 4096));
  return tables;
}

export function hashPrefix4(tables: Uint32Array, address: number, length: number): number {
  return (
    tables[address >>> 24] ^
    tables[256 + ((address >>> 16) & 255)] ^
    tables[512 + ((address >>> 8) & 255)] ^
    tables[768 + (address & 255)] ^
    tables[1024 + length]
  );
}

export function hashPrefix6(tables: Uint32Array, w0: number, w1: number, w2: number, w3: number, length: number): number {
  return (
    hashWord(tables, 0, w0) ^ hashWord(tables, 1024, w1) ^ hashWord(tables, 2048, w2) ^ hashWord(tables, 3072, w3) ^ tables[4096 + length]
  );
}

function hashWord(tables: Uint32Array, at: number, word: number): number {
  return (
    tables[at + (word >>> 24)] ^
    tables[at + 256 + ((word >>> 16) & 255)] ^
    tables[at + 512 + ((word >>> 8) & 255)] ^
    tables[at + 768 + (word & 255)]
  );
}

/** HalfSipHash-1-3 of these octets, and of one word more behind them; unsigned 32 bit. `key`: two words. */
export function hashOctets(key: Uint32Array, octets: Uint8Array, start: number, end: number, more: number): number {
  let v0 = key[0] | 0;
  let v1 = key[1] | 0;
  let v2 = 0x6c796765 ^ v0;
  let v3 = 0x74656462 ^ v1;
  const whole = end - ((end - start) & 3);
  const last = whole + 8;
  for (let at = start; at < last; at += 4) {
    let word: number;
    if (at < whole) word = octets[at] | (octets[at + 1] << 8) | (octets[at + 2] << 16) | (octets[at + 3] << 24);
    else if (at === whole) word = more;
    else {
      word = (end - start + 4) << 24;
      for (let i = whole; i < end; i++) word |= octets[i] << ((i - whole) * 8);
    }
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  v2 ^= 0xff;
  for (let round = 0; round < 3; round++) {
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
  }
  return (v1 ^ v3) >>> 0;
}
