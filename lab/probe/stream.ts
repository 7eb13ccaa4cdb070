/** Pings that run while something happens: how many were sent, how many lost, and when and for how long nothing came back. */
import { type ChildProcess, spawn } from "node:child_process";
import { inNamespace } from "../engine/system.ts";

/** Packets without an answer, one after the other. */
export interface Gap {
  /** Milliseconds since the epoch at which the first of them was missed. */
  at: number;
  /** Milliseconds from the last answer before them to the first one after. */
  duration: number;
  lost: number;
}

export interface StreamResult {
  from: string;
  to: string;
  address: string;
  sent: number;
  lost: number;
  gaps: Gap[];
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
  // -O reports each packet that is unanswered when the next is due: exact counts without waiting for time-outs. -D: when. The interval is
  // what we ask for; the kernel's clock ticks decide, so no time may be reckoned from it.
  const [command, args] = inNamespace(pair.namespace, "ping", ["-n", "-O", "-D", "-i", String(interval / 1000), pair.address]);
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
      return { from: pair.from, to: pair.to, address: pair.address, ...countPackets(output) };
    },
  };
}

/** Milliseconds after which an answer is none: a packet that waited in some queue for the link's return was of no use to anybody. */
const TOO_LATE = 1000;

interface Line {
  /** Milliseconds since the epoch; undefined where ping says none. */
  at: number | undefined;
  sequence: number;
  answered: boolean;
}

/** Reads the output of `ping -O -D`. A packet is lost when it was reported unanswered, or refused on the way, and no answer came within a second. */
export function countPackets(output: string): { sent: number; lost: number; gaps: Gap[] } {
  const lines = [...readLines(output)];
  const answers = new Map(lines.filter(line => line.answered).map(line => [line.sequence, line.at]));
  const missed = new Map<number, number | undefined>();
  for (const { sequence, at } of lines) if (!answers.has(sequence) && !missed.has(sequence)) missed.set(sequence, at);
  const end = lines.findLast(line => line.at !== undefined)?.at ?? 0;
  const gaps: Gap[] = [];
  for (const first of missed.keys()) {
    if (missed.has(first - 1)) continue;
    let next = first + 1;
    while (missed.has(next)) next++;
    const before = answers.get(first - 1);
    const at = missed.get(first) ?? before ?? end;
    gaps.push({ at, duration: Math.max(0, Math.round((answers.get(next) ?? end) - (before ?? at))), lost: next - first });
  }
  return { sent: lines.reduce((highest, line) => Math.max(highest, line.sequence), 0), lost: missed.size, gaps };
}

function* readLines(output: string): Generator<Line> {
  let highest = 0;
  for (const line of output.split("\n")) {
    const field = /icmp_seq=(\d+)/.exec(line)?.[1];
    if (field === undefined) continue;
    // The field has 16 bits; nothing comes in half of them late.
    const sequence = Number(field) + Math.round((highest - Number(field)) / 65536) * 65536;
    highest = Math.max(highest, sequence);
    const time = /^\[(\d+\.\d+)\]/.exec(line)?.[1];
    const delay = Number(/time=([\d.]+) ms/.exec(line)?.[1] ?? 0);
    yield {
      at: time === undefined ? undefined : Number(time) * 1000,
      sequence,
      answered: line.includes("bytes from") && delay <= TOO_LATE,
    };
  }
}
