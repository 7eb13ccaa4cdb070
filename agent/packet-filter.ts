/** The one writer of our nftables tables, as the agent has it. */
import { openRulesetGeneration, type RulesetGeneration } from "../kernel/index.ts";
import { nft } from "../netfilter/nft.ts";
import { Writer } from "../netfilter/writer.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";

export class PacketFilter {
  readonly writer: Writer;
  #generation: RulesetGeneration | undefined;

  constructor({ clock, log, mended }: { clock: Clock; log: Logger; mended(text: string): void }) {
    this.writer = new Writer({ nft: nft(), clock, log, mended, generation: () => this.#read() });
  }

  /** The rules stay. */
  async close(): Promise<void> {
    await this.writer.close();
    this.#generation?.close();
  }

  #read(): number {
    this.#generation ??= openRulesetGeneration();
    return this.#generation.read();
  }
}
