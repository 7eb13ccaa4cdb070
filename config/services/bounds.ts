/**
 * Which addresses Services may have announced. Who may write a Service may put any address into its externalIPs: without bounds it takes over that of a node,
 * of a router, of pods, or of somebody on the Internet.
 */
import {
  type Address,
  covers,
  formatPrefix,
  type IpFamily,
  maskAddress,
  type Prefix,
  parseAddress,
  parsePrefix,
} from "../../net/address.ts";
import { ReservedRanges } from "../compile/protect.ts";
import type { ServiceRule, ServicesPlan } from "./types.ts";

/** Of no use as a destination for a fabric, whatever the plan says. */
const Everywhere: NonNullable<ServicesPlan["reserved"]> = [
  ...ReservedRanges.map(({ prefix, reason }) => ({ reason, prefixes: [prefix] })),
  { reason: "loopback addresses (RFC 1122)", prefixes: ["127.0.0.0/8"] },
  { reason: "multicast addresses (RFC 5771, RFC 4291)", prefixes: ["224.0.0.0/4", "ff00::/8"] },
  { reason: "link-local addresses (RFC 4291)", prefixes: ["fe80::/10"] },
];

/** Of one plan, made once: with thousands of nodes an address is looked up length by length, and not prefix by prefix. */
export class Bounds {
  /** By prefix in its one spelling. */
  readonly #reasons = new Map<string, string>();
  /** That occur. */
  readonly #lengths: Record<IpFamily, Set<number>> = { 4: new Set(), 6: new Set() };
  readonly #ranges = new Map<string, Prefix[]>();

  constructor(plan: Pick<ServicesPlan, "rules" | "reserved"> | undefined) {
    for (const { reason, prefixes } of [...(plan?.reserved ?? []), ...Everywhere]) {
      for (const prefix of prefixes) {
        if (this.#reasons.has(prefix)) continue;
        this.#reasons.set(prefix, reason);
        this.#lengths[prefix.includes(":") ? 6 : 4].add(Number(prefix.slice(prefix.lastIndexOf("/") + 1)));
      }
    }
    for (const { source, externalRanges = [] } of plan?.rules ?? []) {
      this.#ranges.set(
        source,
        externalRanges.map(range => parsePrefix(range)),
      );
    }
  }

  /** What it is, in words. undefined: a Service may have it. */
  reserved(text: string): string | undefined {
    const address: Address = parseAddress(text);
    for (const length of this.#lengths[address.length === 4 ? 4 : 6]) {
      const prefix = formatPrefix({ address: maskAddress(address, length), length });
      const reason = this.#reasons.get(prefix);
      if (reason !== undefined) return `${text} lies in ${prefix}: ${reason}`;
    }
    return undefined;
  }

  /** All of it, within one of the ranges of this Advertisement. */
  allows({ source }: Pick<ServiceRule, "source">, prefix: Prefix): boolean {
    return (this.#ranges.get(source) ?? []).some(range => covers(range, prefix));
  }
}
