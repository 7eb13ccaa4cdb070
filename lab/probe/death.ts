/**
 * Where packets that nobody is to answer end: counted at every machine as they come and as they go on, by nftables rules that stand for the moment. A packet that
 * wanders between router and node is counted again each time.
 */
import type { Lab } from "../engine/lab.ts";
import { runIn } from "../engine/system.ts";

/** Packets, or attempts to connect, of one probe. */
const PACKETS = 5;
/** Seconds. */
const PATIENCE = 0.9;

export interface Ending {
  from: string;
  /** An address, or an address and a port. */
  to: string;
  /** By the sender's own count: TCP may send a SYN again. */
  sent: number;
  answered: boolean;
  /** Machines that saw any of the packets, the sender left out. */
  seen: { machine: string; arrived: number; passed: number }[];
}

/** Probes to different addresses may run at once. */
export async function traceEnding(lab: Lab, from: string, address: string, port?: number): Promise<Ending> {
  const table = `podlane_lab_${address.replaceAll(/[.:]/g, "_")}`;
  const sender = { name: from, namespace: lab.namespace(from) };
  const machines = [sender, ...lab.plan.machines.filter(({ name }) => name !== from)];
  const nft = (namespace: string, stdin: string, words: string[] = ["-f", "-"]) => runIn(namespace, "nft", words, { stdin });
  await Promise.all(machines.map(({ namespace }) => nft(namespace, countersFor(table, address, port))));
  try {
    const answered = await send(sender.namespace, address, port);
    const [{ passed: sent }, ...seen] = await Promise.all(
      machines.map(async ({ name, namespace }) => ({
        machine: name,
        ...readCounters(await nft(namespace, "", ["--json", "list", "counters", "table", "inet", table])),
      })),
    );
    const to = port === undefined ? address : `${address.includes(":") ? `[${address}]` : address}:${port}`;
    return { from, to, sent, answered, seen: seen.filter(({ arrived, passed }) => arrived + passed > 0) };
  } finally {
    await Promise.all(machines.map(({ namespace }) => nft(namespace, `delete table inet ${table}\n`).catch(() => "")));
  }
}

/** Before any address is translated, and after all. */
function countersFor(table: string, address: string, port?: number): string {
  const match = `${address.includes(":") ? "ip6" : "ip"} daddr ${address} ${port === undefined ? "meta l4proto { icmp, icmpv6 }" : `tcp dport ${port}`}`;
  return `table inet ${table}
delete table inet ${table}
table inet ${table} {
  counter arrived { }
  counter passed { }
  chain arrive { type filter hook prerouting priority -310; ${match} counter name arrived; }
  chain pass { type filter hook postrouting priority 310; ${match} counter name passed; }
}
`;
}

/** Whether anybody answered, were it to refuse. */
async function send(namespace: string, address: string, port?: number): Promise<boolean> {
  const output = (command: string, args: string[]) =>
    runIn(namespace, command, args).catch(error => (error as { stdout?: string }).stdout ?? "");
  if (port === undefined)
    return (await output("ping", ["-n", "-c", String(PACKETS), "-i", "0.05", "-W", "1", address])).includes("bytes from");
  const url = `telnet://${address.includes(":") ? `[${address}]` : address}:${port}`;
  const words = ["--silent", "--connect-timeout", String(PATIENCE), "--output", "/dev/null", "--write-out", "%{time_connect}", url];
  const times = await Promise.all(Array.from({ length: PACKETS }, () => output("curl", words)));
  return times.some(time => Number(time) > 0);
}

/** Reads `nft --json list counters`. */
export function readCounters(json: string): { arrived: number; passed: number } {
  const { nftables } = JSON.parse(json) as { nftables: { counter?: { name: string; packets: number } }[] };
  const count = (name: string) => nftables.find(({ counter }) => counter?.name === name)?.counter?.packets ?? 0;
  return { arrived: count("arrived"), passed: count("passed") };
}

/** What is not as wanted, in words; empty: all is. */
export function judgeEnding({ from, to, sent, answered, seen }: Ending, wanted: { at: string[]; hops: number }): string[] {
  const what = `to ${to} from ${from}`;
  const hops = seen.reduce((sum, { arrived }) => sum + arrived, 0) / sent;
  const ended = seen.filter(({ arrived, passed }) => arrived > passed).map(({ machine }) => machine);
  const strangers = ended.filter(machine => !wanted.at.includes(machine));
  const last = seen.filter(({ machine }) => wanted.at.includes(machine));
  const went = last.reduce((sum, { passed }) => sum + passed, 0);
  return [
    ...(answered ? [`a packet ${what} is answered`] : []),
    ...(hops !== wanted.hops ? [`a packet ${what} comes to ${hops} machines, not ${wanted.hops}`] : []),
    ...(strangers.length > 0 ? [`packets ${what} end at ${strangers.join(", ")}, not at ${wanted.at.join(" or ")}`] : []),
    ...(went > 0 ? [`${last.map(({ machine }) => machine).join(", ")} passed ${went} packets ${what} on`] : []),
  ];
}

/** "tor-a passed 5 on, node2 ended 5" */
export function describeEnding({ seen }: Ending): string {
  const one = ({ machine, arrived, passed }: Ending["seen"][number]) =>
    [...(passed > 0 ? [`${machine} passed ${passed} on`] : []), ...(arrived > passed ? [`${machine} ended ${arrived - passed}`] : [])].join(
      ", ",
    );
  return [...seen]
    .sort((a, b) => b.passed - a.passed)
    .map(one)
    .join(", ");
}
