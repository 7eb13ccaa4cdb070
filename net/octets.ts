/** Lower-case hexadecimal, two digits for each octet. */
export function hexOf(octets: Uint8Array, separator = ""): string {
  return Array.from(octets, octet => octet.toString(16).padStart(2, "0")).join(separator);
}
