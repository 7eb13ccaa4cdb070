/** Reading, writing, copying and sorting octets, for the codec's inner loops: no bounds are checked here, callers have done so. */

export function readUint16(octets: Uint8Array, at: number): number {
  return (octets[at] << 8) | octets[at + 1];
}

export function readUint32(octets: Uint8Array, at: number): number {
  return ((octets[at] << 24) | (octets[at + 1] << 16) | (octets[at + 2] << 8) | octets[at + 3]) >>> 0;
}

export function writeUint16(octets: Uint8Array, at: number, value: number): void {
  octets[at] = value >>> 8;
  octets[at + 1] = value & 0xff;
}

export function writeUint32(octets: Uint8Array, at: number, value: number): void {
  octets[at] = value >>> 24;
  octets[at + 1] = (value >>> 16) & 0xff;
  octets[at + 2] = (value >>> 8) & 0xff;
  octets[at + 3] = value & 0xff;
}

export function uint32Octets(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

/** Copies and returns the end of the copy. A loop: for the few dozen octets of an attribute it beats subarray() and set(). */
export function copyOctets(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): number {
  if (end - start > 160) {
    to.set(from.subarray(start, end), at);
    return at + end - start;
  }
  let out = at;
  for (let i = start; i < end; i++) to[out++] = from[i];
  return out;
}

/**
 * Copies elements of `width` octets ascending and without repeats; returns the end of the copy. What neighbours send is nearly always
 * sorted, and short where it is not.
 */
export function copySorted(from: Uint8Array, start: number, end: number, width: number, to: Uint8Array, at: number): number {
  if (isAscending(from, start, end, width)) return copyOctets(from, start, end, to, at);
  if ((end - start) / width > 32) return copyManySorted(from, start, end, width, to, at);
  let out = at;
  for (let element = start; element < end; element += width) {
    let place = out;
    let order = -1;
    while (place > at) {
      order = compareElements(to, place - width, from, element, width);
      if (order <= 0) break;
      place -= width;
    }
    if (place > at && order === 0) continue;
    to.copyWithin(place + width, place, out);
    for (let i = 0; i < width; i++) to[place + i] = from[element + i];
    out += width;
  }
  return out;
}

function isAscending(octets: Uint8Array, start: number, end: number, width: number): boolean {
  for (let at = start + width; at < end; at += width) {
    if (compareElements(octets, at - width, octets, at, width) >= 0) return false;
  }
  return true;
}

function copyManySorted(from: Uint8Array, start: number, end: number, width: number, to: Uint8Array, at: number): number {
  const elements = Array.from({ length: (end - start) / width }, (_, i) => start + i * width);
  elements.sort((a, b) => compareElements(from, a, from, b, width));
  let out = at;
  for (let i = 0; i < elements.length; i++) {
    if (i > 0 && compareElements(from, elements[i - 1], from, elements[i], width) === 0) continue;
    out = copyOctets(from, elements[i], elements[i] + width, to, out);
  }
  return out;
}

function compareElements(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, width: number): number {
  for (let i = 0; i < width; i++) {
    const difference = a[aAt + i] - b[bAt + i];
    if (difference !== 0) return difference;
  }
  return 0;
}
