/** The agent's log: JSON lines for machines, readable lines on a terminal, on standard error, whose reader is never waited for. */
import { pino, stdTimeFunctions } from "pino";
import type { Logger } from "../platform/log.ts";
import { LogSink } from "./log-sink.ts";

export const LogLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LogLevels)[number];
export const LogFormats = ["pretty", "json"] as const;
export type LogFormat = (typeof LogFormats)[number];

/** Names whose values never appear in a log, at the depths where configuration is logged. */
const secrets = ["password", "*.password", "*.*.password", "*.*.*.password"];

/** Each line is written before the call returns while its reader keeps up; see LogSink for one that does not. */
export async function createLog(level: LogLevel, format: LogFormat): Promise<Logger> {
  const pretty = format === "pretty" ? await prettyLines() : undefined;
  const dropped = (count: number): string => {
    const line = { level: 40, time: new Date().toISOString(), dropped: count, msg: `${count} log lines were dropped: nobody read them` };
    return pretty ? pretty({ ...line, time: Date.parse(line.time) }) : `${JSON.stringify(line)}\n`;
  };
  const sink = new LogSink(2, dropped);
  process.once("exit", () => sink.end());
  // Formats at once and not in a stream of its own, which would hold lines back.
  const stream = pretty ? { write: (line: string) => sink.write(pretty(line)) } : sink;
  const timestamp = format === "json" ? stdTimeFunctions.isoTime : undefined;
  const logger: Logger = pino(
    { level, base: null, redact: { paths: secrets, censor: "(hidden)" }, ...(timestamp && { timestamp }) },
    stream,
  );
  return logger;
}

/** Loaded for who reads it: a daemon's log is JSON. */
async function prettyLines() {
  const { prettyFactory } = await import("pino-pretty");
  const colorize = process.stderr.isTTY && !process.env.NO_COLOR;
  return prettyFactory({ colorize, translateTime: "SYS:HH:MM:ss.l", ignore: "pid,hostname", singleLine: true });
}
