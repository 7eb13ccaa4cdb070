/** Runs of prefixes as UPDATEs carry them (RFC 4271 section 4.3, RFC 4760 section 5): [length octet, ceil(length / 8) octets]… */

/** What is wrong with a run of prefixes, or undefined: after this check it can be walked blindly. */
export function nlriFault(octets: Uint8Array, start: number, end: number, maxLength: number): string | undefined {
  let at = start;
  while (at < end) {
    const length = octets[at];
    if (length > maxLength) return `prefix length ${length} is above ${maxLength}`;
    at += 1 + ((length + 7) >> 3);
  }
  return at === end ? undefined : "the last prefix is cut off";
}
