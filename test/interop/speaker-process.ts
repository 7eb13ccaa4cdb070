/**
 * The whole speaker as a program of its own, so that tests can put it into a namespace, stop it, kill it and start it again as an operator's
 * node would be: real TCP on port 179, the real kernel table. One JSON request per line on stdin, one JSON answer per line on stdout, its
 * log as JSON lines on stderr; it ends with its stdin. Its driver is speaker.ts beside it.
 */
import { createInterface } from "node:readline";
import type { NetworkConfig, SpeakerConfig } from "../../bgpd/config.ts";
import { type CloseOptions, type RouteFilter, Speaker } from "../../bgpd/speaker.ts";
import { openKernel } from "../../kernel/index.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";

export interface Request {
  id: number;
  method: keyof typeof methods;
  params: unknown[];
}

export interface Answer {
  id: number;
  result?: unknown;
  error?: string;
}

const log: Logger = logger({});
const speaker = new Speaker({
  clock: systemClock,
  log,
  kernel: openKernel({ ownEvents: true }),
});

const methods = {
  apply: (config: SpeakerConfig) => speaker.apply(config),
  changeNetworks: (changes: [string, NetworkConfig | null][]) =>
    speaker.changeNetworks(new Map(changes.map(([prefix, network]) => [prefix, network ?? undefined]))),
  snapshot: () => speaker.snapshot(),
  routes: (filter?: RouteFilter) => speaker.routes(filter),
  problems: () => speaker.problems(),
  adjRibOut: (neighbor: string, limit?: number) => speaker.adjRibOut(neighbor, limit),
  explain: (prefix: string) => speaker.explain(prefix),
  refresh: (neighbor: string, direction: "in" | "out") => speaker.refresh(neighbor, direction),
  settled: () => speaker.settled(),
  close: (options: CloseOptions) => speaker.close(options),
};

export type Methods = typeof methods;

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line) as Request;
  void answer(id, methods[method] as (...params: unknown[]) => unknown, params);
}
process.exit(0);

async function answer(id: number, method: (...params: unknown[]) => unknown, params: unknown[]): Promise<void> {
  const reply: Answer = { id };
  try {
    reply.result = (await method(...params)) ?? null;
  } catch (error) {
    reply.error = (error as Error).stack;
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

function logger(context: object): Logger {
  const at = (level: string) => (fields: object, message: string) =>
    void process.stderr.write(`${JSON.stringify({ level, ...context, ...fields, message })}\n`);
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: fields => logger({ ...context, ...fields }),
  };
}
