/** Processes of a benchmark: started in a namespace, read line by line, accounted for from /proc, and ended with the benchmark. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A line of JSON that a program printed. */
export interface Event {
  event: string;
  [field: string]: unknown;
}

/** A program that is driven by lines and answers with one JSON object a line. */
export class Driven {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #events: Event[] = [];
  readonly #ended: Promise<void>;
  #wake: () => void = () => {};
  #errors = "";
  #gone = false;

  constructor(name: string, namespace: string, command: string[], env: Record<string, string> = {}) {
    this.#name = name;
    // "ip netns exec" becomes the program: the pid is its own.
    this.#child = spawn("ip", ["netns", "exec", namespace, ...command], { env: { ...process.env, ...env }, stdio: "pipe" });
    running.add(this.#child);
    // A write to a program that has just ended is reported by its end.
    this.#child.stdin?.on("error", () => {});
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-4096);
    });
    createInterface({ input: this.#child.stdout! }).on("line", line => {
      this.#events.push(JSON.parse(line) as Event);
      this.#wake();
    });
    this.#ended = new Promise(resolve => {
      const end = () => {
        this.#gone = true;
        running.delete(this.#child);
        this.#wake();
        resolve();
      };
      this.#child.once("close", end);
      this.#child.once("error", end);
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** What it printed to standard error, the end of it. */
  get errors(): string {
    return this.#errors.trim();
  }

  tell(command: string): void {
    this.#child.stdin?.write(`${command}\n`);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** The next event of this name; those of other names before it are passed over. Rejects when the program ends or `limit` (ms since start, performance.now()) is over. */
  async next(event: string, limit: number): Promise<Event> {
    for (;;) {
      for (let first = this.#events.shift(); first; first = this.#events.shift()) if (first.event === event) return first;
      if (this.#gone) throw new Error(`${this.#name} ended before "${event}": ${this.errors || "no reason given"}`);
      const left = limit - performance.now();
      if (left <= 0) throw new Error(`${this.#name}: no "${event}" in time`);
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** SIGTERM, and SIGKILL 5 s later. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5000);
    await this.#ended;
    clearTimeout(timer);
  }
}

export interface Usage {
  /** User and system time, all processes and threads, seconds. */
  cpuSeconds: number;
  /** Sum of the processes' largest resident sets (VmHWM), MB = 2^20 octets. Pages that processes share count for each. */
  peakMB: number;
}

/** Of a process and its descendants. */
export function usage(pid: number): Usage {
  const total = { cpuSeconds: 0, peakMB: 0 };
  for (const one of [pid, ...descendants(pid)]) {
    try {
      const fields = statFields(one);
      // Fields 14 and 15 of proc(5), in ticks of 10 ms (USER_HZ is 100 on all architectures that Node runs on).
      total.cpuSeconds += (Number(fields[11]) + Number(fields[12])) / 100;
      total.peakMB += Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${one}/status`, "utf8"))?.[1] ?? 0) / 1024;
    } catch {
      // It ended in between.
    }
  }
  return total;
}

function descendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const parent = Number(statFields(Number(name))[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    } catch {
      // It ended in between.
    }
  }
  const below = (one: number): number[] => (children.get(one) ?? []).flatMap(child => [child, ...below(child)]);
  return below(pid);
}

/** From field 3 (state) on: the name before may hold blanks and parentheses. */
function statFields(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}
