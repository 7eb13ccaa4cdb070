/** requests.c: built with the system's C compiler, and its askers as objects, which run beside what a test does and count what is lost meanwhile. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { Daemon, Machine } from "../../lab/kubernetes/machine.ts";

/** Ways in which a request is lost, by what its connection was: never open, open until something broke it, or open to a server that said nothing. */
const Losses = {
  unopened: ["refused", "unreachable", "unanswered"],
  broken: ["reset", "cut", "unacknowledged"],
  stalled: ["stalled"],
} as const;
type Loss = (typeof Losses)[keyof typeof Losses][number];

export interface Tally extends Record<Loss, number> {
  sent: number;
  seconds: number;
  answered: number;
  /** When the first and the last lost one began, in milliseconds; from -1: none was lost. */
  from: number;
  to: number;
}

/** Static: it runs in any image. Returns the file in `folder`. Throws where there is no compiler. */
export function buildRequests(folder: string): string {
  const target = join(folder, "requests");
  const source = join(import.meta.dirname, "requests.c");
  const { status, stderr, error } = spawnSync("cc", ["-O2", "-Wall", "-Wextra", "-static", "-s", "-o", target, source], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`cannot build ${source}: ${error?.message ?? stderr}; install gcc and libc6-dev`);
  return target;
}

let made = 0;

/** Asks until it is stopped, each address in turn. */
export class Asker {
  readonly #daemon: Daemon;

  constructor(machine: Machine, program: string, rate: number, to: readonly { address: string; port: number }[]) {
    const targets = to.flatMap(({ address, port }) => [address, String(port)]);
    this.#daemon = machine.start(`requests${made++}`, [program, "ask", String(rate), ...targets]);
  }

  /** Resolves when the last request has its answer, or is lost. */
  async stop(): Promise<Tally> {
    await this.#daemon.kill("SIGINT");
    const [line = ""] = /^\{.*\}$/m.exec(this.#daemon.log()) ?? [];
    if (line === "") throw new Error(`requests: ${this.#daemon.log()}`);
    return JSON.parse(line) as Tally;
  }
}

export function lostOf({ sent, answered }: Tally): number {
  return sent - answered;
}

export function lossesOf(tally: Tally): Record<keyof typeof Losses, number> {
  const sum = (kinds: readonly Loss[]) => kinds.reduce((total, kind) => total + tally[kind], 0);
  return { unopened: sum(Losses.unopened), broken: sum(Losses.broken), stalled: sum(Losses.stalled) };
}

/** "3012 requests, 2 lost (2 refused, 410–420 ms after the start)" */
export function describeTally(tally: Tally): string {
  const lost = lostOf(tally);
  if (lost === 0) return `${tally.sent} requests, 0 lost`;
  const kinds = Object.values(Losses)
    .flat()
    .filter(kind => tally[kind] > 0);
  return `${tally.sent} requests, ${lost} lost (${kinds.map(kind => `${tally[kind]} ${kind}`).join(", ")}; ${tally.from}–${tally.to} ms from the start)`;
}
