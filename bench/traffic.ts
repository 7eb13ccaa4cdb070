/** The two ends of traffic.c as objects: built with the system's C compiler, one session that feeds a table and the sessions that receive it. */
import { spawnSync } from "node:child_process";
import { compile, programPath } from "./compile.ts";
import { Driven, type Event } from "./processes.ts";

const program = programPath("traffic");

/** Who talks to whom; the speaker under test is AS 65000 at 10.0.1.1 and accepts connections only. */
export const addresses = {
  speaker: "10.0.1.1",
  feed: { address: "10.0.1.2", asn: 65001 },
  sink: (index: number) => ({ address: `10.0.1.${11 + index}`, asn: 65101 + index }),
  maxSinks: 60,
};

export interface Table {
  prefixes: number;
  /** Different attribute sets. */
  sets: number;
  seed: number;
}

/** Throws where the program cannot be built. */
export function buildTraffic(): void {
  compile("traffic");
}

/** The table's prefixes, in the order in which they are fed. */
export function listTable({ prefixes, sets, seed }: Table): string[] {
  const { stdout, stderr, status } = spawnSync(program, ["list", ...[prefixes, sets, seed].map(String)], {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(stderr);
  return stdout.trimEnd().split("\n");
}

/** The session that announces the table and withdraws it. */
export class Feed {
  readonly #driven: Driven;
  /** What a receiver that has the whole table must have counted: its prefixes, and its prefixes with their paths. */
  sums = { sum: "", paths: "" };

  constructor(namespace: string, { prefixes, sets, seed }: Table) {
    const { address, asn } = addresses.feed;
    const table = [prefixes, sets, seed].map(String);
    this.#driven = new Driven("the feed", namespace, [program, "feed", address, addresses.speaker, String(asn), ...table]);
  }

  async established(limit: number): Promise<void> {
    const { sum, paths } = await this.#driven.next("established", limit);
    this.sums = { sum: sum as string, paths: paths as string };
  }

  /** Begins; resolves with the time of the first octet, CLOCK_MONOTONIC seconds. */
  async start(what: "announce" | "withdraw", limit: number): Promise<number> {
    this.#driven.tell(what);
    return (await this.#driven.next("started", limit)).time as number;
  }

  stop(): Promise<void> {
    return this.#driven.stop();
  }
}

/** The receivers. */
export class Sinks {
  readonly #driven: Driven;
  readonly #count: number;

  constructor(namespace: string, count: number, prefixes: number) {
    const sessions = Array.from({ length: count }, (_, i) => `${addresses.sink(i).address}/${addresses.sink(i).asn}`);
    this.#driven = new Driven("the receivers", namespace, [program, "sink", addresses.speaker, String(prefixes), ...sessions]);
    this.#count = count;
  }

  established(limit: number): Promise<Event> {
    return this.#driven.next("established", limit);
  }

  /** Waits for all; the time of the last. Rejects when one has as many prefixes as the table but not the table, and tells how far each came when time is over. */
  async all(event: "announced" | "withdrawn", fed: Feed["sums"], limit: number): Promise<{ time: number; updates: number }> {
    let last = { time: 0, updates: 0 };
    for (let done = 0; done < this.#count; done++) {
      const one = await this.#driven.next(event, limit).catch(async error => {
        throw new Error(`${(error as Error).message} (${done} of ${this.#count} receivers complete${await this.#progress()})`);
      });
      if (one.sum !== (event === "announced" ? fed.sum : "0".repeat(16))) {
        throw new Error(`receiver ${one.sink} counts ${one.held} prefixes, but they are not the table's`);
      }
      if (one.paths !== fed.paths) throw new Error(`receiver ${one.sink} has the table, but not with the paths it was fed with`);
      last = { time: Math.max(last.time, one.time as number), updates: one.updates as number };
    }
    return last;
  }

  stop(): Promise<void> {
    return this.#driven.stop();
  }

  async #progress(): Promise<string> {
    try {
      this.#driven.tell("count");
      const limit = performance.now() + 2000;
      const held: unknown[] = [];
      for (let i = 0; i < this.#count; i++) held.push((await this.#driven.next("count", limit)).held);
      return `; they hold ${held.join(", ")}`;
    } catch {
      return "";
    }
  }
}
