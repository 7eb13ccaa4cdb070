/** The one writer of our nftables tables, as the agent has it. */
import { openRulesetGeneration, type RulesetGeneration } from "../kernel/index.ts";
import { nft } from "../netfilter/nft.ts";
import { TABLE, Writer } from "../netfilter/writer.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";

export class PacketFilter {
  readonly writer: Writer;
  readonly #nft = nft();
  #generation: RulesetGeneration | undefined;

  constructor({ clock, log, mended }: { clock: Clock; log: Logger; mended(text: string): void }) {
    this.writer = new Writer({ nft: this.#nft, clock, log, mended, generation: () => this.#read() });
  }

  /** Packets by named counter of our table. Rejects with NftError. */
  async counters(): Promise<Map<string, number>> {
    const { nftables } = JSON.parse(await this.#nft([{ list: { counters: { family: "inet", table: TABLE } } }])) as {
      nftables: { counter?: { table: string; name: string; packets: number } }[];
    };
    return new Map(nftables.flatMap(({ counter }) => (counter?.table === TABLE ? [[counter.name, counter.packets]] : [])));
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
