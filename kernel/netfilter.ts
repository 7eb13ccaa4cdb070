/**
 * What the node's packet filters do with packets that are passed on: base chains at the hook forward, in nftables and in what iptables calls FORWARD.
 * Asked by the tools `nft`, `iptables` and `ip6tables`, as far as they are there: without them nothing is known, which is no error.
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";

/** Milliseconds that a tool may take, and octets that it may say. */
const PATIENCE = 10_000;
const MAXIMUM_OUTPUT = 4 << 20;
/** Seconds that iptables waits for others who use it. */
const LOCK_WAIT = "5";

export const chainFamilies = ["ip", "ip6", "inet", "bridge"] as const;

/** A base chain of type filter at the hook forward. */
export interface ForwardChain {
  family: (typeof chainFamilies)[number];
  table: string;
  name: string;
  priority: number;
  policy: "accept" | "drop";
}

/** FORWARD of the table filter, as a variant of iptables shows it. */
export interface IptablesForward {
  /** The program. */
  command: string;
  family: "ip" | "ip6";
  /** Its rules stand in nftables, as chain FORWARD of the table filter of this family; else in the kernel's older tables. */
  nft: boolean;
  policy: string;
  /** As `iptables -S` writes them: "-A FORWARD …". */
  rules: string[];
}

/** undefined: nobody can tell. */
export async function forwardChains(): Promise<ForwardChain[] | undefined> {
  const text = await run("nft", "-j", "list", "chains");
  if (text === undefined) return undefined;
  const { nftables = [] } = JSON.parse(text) as { nftables?: { chain?: Record<string, unknown> }[] };
  return nftables.flatMap(({ chain }) => {
    if (chain?.hook !== "forward" || chain.type !== "filter" || !chainFamilies.includes(chain.family as never)) return [];
    const { family, table, name, prio, policy = "accept" } = chain;
    return [{ family, table, name, priority: prio, policy } as ForwardChain];
  });
}

/** Its rules in nft's own words; undefined: nobody can tell. */
export function listChain({ family, table, name }: ForwardChain): Promise<string | undefined> {
  return run("nft", "list", "chain", family, table, name);
}

/** Absent where there is no such chain, or no program to ask. Creates nothing. */
export async function iptablesForward(family: "ip" | "ip6", nft: boolean): Promise<IptablesForward | undefined> {
  // To ask the older tables would make them.
  if (!nft && !olderTables(family).includes("filter")) return undefined;
  for (const command of commandsOf(family, nft)) {
    const text = await run(command, "-w", LOCK_WAIT, "-S", "FORWARD");
    if (text === undefined) continue;
    const lines = text.split("\n");
    const policy = lines.find(line => line.startsWith("-P FORWARD "))?.split(" ")[2];
    if (policy !== undefined) return { command, family, nft, policy, rules: lines.filter(line => line.startsWith("-A FORWARD ")) };
  }
  return undefined;
}

/** `action`: "-A" or "-D". Rejects in the program's words. */
export async function changeForward({ command }: IptablesForward, action: "-A" | "-D", rule: readonly string[]): Promise<void> {
  await execute(command, ["-w", LOCK_WAIT, action, "FORWARD", ...rule]);
}

/** Which of its two kinds the plain name is depends on the distribution; only where there is no other it is asked. */
function commandsOf(family: "ip" | "ip6", nft: boolean): string[] {
  const name = family === "ip" ? "iptables" : "ip6tables";
  return nft ? [`${name}-nft`, name] : [`${name}-legacy`, name];
}

function olderTables(family: "ip" | "ip6"): string[] {
  try {
    return readFileSync(`/proc/thread-self/net/${family}_tables_names`, "utf8").trim().split("\n");
  } catch {
    return [];
  }
}

/** undefined: it is not there, or cannot tell. */
async function run(program: string, ...args: string[]): Promise<string | undefined> {
  try {
    return await execute(program, args);
  } catch {
    return undefined;
  }
}

function execute(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: PATIENCE, maxBuffer: MAXIMUM_OUTPUT }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program}: ${stderr.trim().split("\n")[0] || error.message}`));
      else resolve(stdout);
    });
  });
}
