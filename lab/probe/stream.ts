/** Pings that run while something happens: how many were sent, how many lost, and how long the longest gap was. */
import { type ChildProcess, spawn } from "node:child_process";
import { inNamespace } from "../engine/system.ts";

export interface StreamResult {
  from: string;
  to: string;
  address: string;
  sent: number;
  lost: number;
  /** Milliseconds of the longest run of unanswered packets. */
  longestGap: number;
}

export interface Stream {
  stop(): Promise<StreamResult>;
}

export interface StreamPair {
  from: string;
  to: string;
  namespace: string;
  address: string;
}

/** Starts one ping; resolves when its first answer is there. Throws when none comes within 5 s. */
export async function startStream(pair: StreamPair, interval: number): Promise<Stream> {
  // -O reports each packet that is unanswered when the next is due: exact counts without waiting for time-outs.
  const [command, args] = inNamespace(pair.namespace, "ping", ["-n", "-O", "-i", String(interval / 1000), pair.address]);
  const child: ChildProcess = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, LC_ALL: "C" } });
  let output = "";
  const ended = new Promise<void>(resolve => child.on("close", () => resolve()));
  const first = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no first answer from ${pair.address} to ${pair.from} within 5 s: ${output.slice(-200)}`)),
      5000,
    );
    child.on("error", reject);
    child.stdout?.on("data", (chunk: Buffer) => {
      output += chunk.toString("latin1");
      if (!output.includes("bytes from")) return;
      clearTimeout(timer);
      resolve();
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      output += chunk.toString("latin1");
    });
  });
  try {
    await first;
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
  return {
    async stop() {
      child.kill("SIGINT");
      await ended;
      return { from: pair.from, to: pair.to, address: pair.address, ...countPackets(output, interval) };
    },
  };
}

/** Reads the output of `ping -O`. A packet counts as lost when it was reported unanswered, or refused on the way, and no answer came later. */
export function countPackets(output: string, interval: number): { sent: number; lost: number; longestGap: number } {
  const answered = new Set<number>();
  const missing = new Set<number>();
  let highest = 0;
  for (const line of output.split("\n")) {
    const sequence = Number(/icmp_seq=(\d+)/.exec(line)?.[1] ?? 0);
    if (sequence === 0) continue;
    highest = Math.max(highest, sequence);
    if (line.includes("bytes from")) answered.add(sequence);
    else missing.add(sequence);
  }
  const lost = [...missing].filter(sequence => !answered.has(sequence)).sort((a, b) => a - b);
  let longest = 0;
  let length = 0;
  for (const [index, sequence] of lost.entries()) {
    length = index > 0 && lost[index - 1] === sequence - 1 ? length + 1 : 1;
    longest = Math.max(longest, length);
  }
  return { sent: highest, lost: lost.length, longestGap: longest * interval };
}
