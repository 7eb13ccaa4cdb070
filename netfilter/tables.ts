/** The tables that are ours, by their name. */
import { deleteTable } from "./json.ts";
import type { Nft } from "./nft.ts";
import type { TableFamily } from "./ruleset.ts";

export const TABLE = "podlane";

const families: readonly TableFamily[] = ["inet", "bridge", "netdev", "arp"];

/** Families that have one. Rejects with NftError. */
export async function listTables(nft: Nft): Promise<TableFamily[]> {
  const { nftables } = JSON.parse(await nft([{ list: { tables: {} } }])) as { nftables: { table?: { family: string; name: string } }[] };
  const found = nftables.flatMap(({ table }) => (table?.name === TABLE ? [table.family] : []));
  return families.filter(family => found.includes(family));
}

/** Takes all away, in one step, and says in words which there were. Rejects with NftError. */
export async function removeTables(nft: Nft, dryRun: boolean): Promise<string[]> {
  const found = await listTables(nft);
  if (found.length > 0 && !dryRun) await nft(found.map(family => deleteTable(family, TABLE)));
  return found.map(family => `nftables table ${family} ${TABLE}`);
}
