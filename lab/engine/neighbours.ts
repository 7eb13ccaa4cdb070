/**
 * The kernel's neighbour tables (ARP, neighbour discovery) are one for all namespaces of the machine, and bounded: by default 1024 entries, which a mesh
 * of 33 nodes fills. What does not fit is not reached, and nothing else says why.
 */
import { readFileSync } from "node:fs";

interface Fulls {
  /** How often an entry found no room since boot, by family. */
  ipv4: number;
  ipv6: number;
}

export function neighbourTableFulls(): Fulls {
  return { ipv4: fulls("arp_cache"), ipv6: fulls("ndisc_cache") };
}

/** What to do about tables that were full since `before`; none: they were not. */
export function neighbourTableAdvice(before: Fulls): string[] {
  const now = neighbourTableFulls();
  return (["ipv4", "ipv6"] as const)
    .filter(family => now[family] > before[family])
    .map(family => {
      const name = `net.${family}.neigh.default.gc_thresh3`;
      const limit = Number(readFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, "utf8"));
      const full = `this machine's table of ${family === "ipv4" ? "IPv4" : "IPv6"} neighbours, ${limit} entries for all namespaces together, was full`;
      return `${full}: make it larger (sysctl -w ${name}=${limit * 16}) or the lab smaller`;
    });
}

/** `/proc/net/stat`: a line of titles, then one of hexadecimal numbers for each processor. */
export function sumColumn(text: string, column: string): number {
  const [titles, ...rows] = text.trim().split("\n");
  const index = titles.trim().split(/\s+/).indexOf(column);
  return index < 0 ? 0 : rows.reduce((sum, row) => sum + Number.parseInt(row.trim().split(/\s+/)[index] ?? "0", 16), 0);
}

function fulls(cache: string): number {
  try {
    return sumColumn(readFileSync(`/proc/net/stat/${cache}`, "utf8"), "table_fulls");
  } catch {
    return 0;
  }
}
