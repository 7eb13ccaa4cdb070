/**
 * The ping matrix: every pod to every other pod over each family that both have, with ICMP and with TCP. The receiver tells from which address it was
 * called, so an address translation on the way cannot hide.
 */
import type { Lab } from "../engine/lab.ts";
import { netnsPath, runIn } from "../engine/system.ts";
import { askMirror, type Listener, mirror } from "./sockets.ts";

export interface Cell {
  from: string;
  to: string;
  family: 4 | 6;
  address: string;
  /** Round trip of the ICMP echo in milliseconds; absent: no answer. */
  ping?: number;
  /** The receiver of the TCP connection saw the sender's own address. */
  untranslated: boolean;
  /** What is wrong, in words. */
  problem?: string;
}

/** Seconds for one echo. */
const PING_BOUND = 2;
const PARALLEL = 8;

/** `only`: these cells again. */
export async function pingMatrix(lab: Lab, only?: Cell[]): Promise<Cell[]> {
  const pods = lab.plan.pods.map(pod => ({
    name: pod.name,
    netns: netnsPath(pod.namespace),
    namespace: pod.namespace,
    addresses: lab.podAddresses(pod.name),
  }));
  const mirrors = new Map<string, Listener>();
  try {
    for (const pod of pods) for (const address of pod.addresses) mirrors.set(address, await mirror(pod.netns, address));
    const all = pods.flatMap(from =>
      pods.filter(to => to !== from).flatMap(to => lab.addressPairs(from.name, to.name).map(pair => ({ from, to, ...pair }))),
    );
    const asked = only && new Set(only.map(({ from, address }) => `${from} ${address}`));
    const pairs = asked === undefined ? all : all.filter(({ from, address }) => asked.has(`${from.name} ${address}`));
    return await inParallel(pairs, PARALLEL, async ({ from, to, own, address, family }) => {
      const [ping, seen] = await Promise.all([
        pingOnce(from.namespace, address),
        askMirror(from.netns, address, mirrors.get(address)?.port ?? 0, PING_BOUND * 1000).catch(error => error as Error),
      ]);
      const untranslated = seen === own;
      const problems = [
        ...(ping === undefined ? [`no echo from ${address}`] : []),
        ...(seen instanceof Error
          ? [`TCP to ${address}: ${seen.message}`]
          : untranslated
            ? []
            : [`${to.name} saw ${seen} instead of ${own}: there is NAT on the way`]),
      ];
      return {
        from: from.name,
        to: to.name,
        family,
        address,
        ping,
        untranslated,
        ...(problems.length > 0 && { problem: problems.join("; ") }),
      };
    });
  } finally {
    for (const each of mirrors.values()) each.close();
  }
}

/** Round trip in milliseconds, undefined without an answer. */
export async function pingOnce(namespace: string, address: string): Promise<number | undefined> {
  try {
    const output = await runIn(namespace, "ping", ["-n", "-c", "1", "-W", String(PING_BOUND), address]);
    const time = /time[=<]([\d.]+) ms/.exec(output)?.[1];
    return time === undefined ? undefined : Number(time);
  } catch {
    return undefined;
  }
}

/** Maps with at most `limit` at a time; results in order. */
async function inParallel<Item, Result>(items: Item[], limit: number, work: (item: Item) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
