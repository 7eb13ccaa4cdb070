/** How many packets the guard against spoofing dropped, by reason. The kernel counts in each table for itself, and begins anew where a table came anew; these sums never fall. Pure. */
import { SpoofingCounters } from "../netfilter/spoofing.ts";

export type SpoofingReason = keyof typeof SpoofingCounters;

/** A counter of one of our tables. */
export interface PacketCounter {
  family: string;
  name: string;
  packets: number;
}

const reasons = Object.keys(SpoofingCounters) as SpoofingReason[];
const byCounter = new Map(reasons.map(reason => [SpoofingCounters[reason] as string, reason]));

export class SpoofingDrops {
  /** By family and name. */
  #last = new Map<string, number>();
  readonly sums = Object.fromEntries(reasons.map(reason => [reason, 0])) as Record<SpoofingReason, number>;

  /** `counters`: all that there are now. */
  see(counters: readonly PacketCounter[]): void {
    const seen = new Map<string, number>();
    for (const { family, name, packets } of counters) {
      const reason = byCounter.get(name);
      if (!reason) continue;
      const key = `${family} ${name}`;
      const before = this.#last.get(key) ?? 0;
      this.sums[reason] += packets < before ? packets : packets - before;
      seen.set(key, packets);
    }
    this.#last = seen;
  }
}
