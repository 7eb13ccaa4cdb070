/** The agent's log: JSON lines for machines, readable lines on a terminal, on standard error, whose reader is never waited for. */
import { pino, stdTimeFunctions } from "pino";
import { prettyFactory } from "pino-pretty";
import type { Logger } from "../platform/log.ts";
import { LogSink } from "./log-sink.ts";

export const LogLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LogLevels)[number];
export const LogFormats = ["pretty", "json"] as const;
export type LogFormat = (typeof LogFormats)[number];

/** Names whose values never appear in a log, at the depths where configuration is logged. */
const secrets = ["password", "*.password", "*.*.password", "*.*.*.password"];

/** Each line is written before the call returns while its reader keeps up; see LogSink for one that does not. */
export function createLog(level: LogLevel, format: LogFormat): Logger {
  const colorize = format === "pretty" && process.stderr.isTTY && !process.env.NO_COLOR;
  const pretty = prettyFactory({ colorize, translateTime: "SYS:HH:MM:ss.l", ignore: "pid,hostname", singleLine: true });
  const dropped = (count: number): string => {
    const line = { level: 40, time: new Date().toISOString(), dropped: count, msg: `${count} log lines were dropped: nobody read them` };
    return format === "json" ? `${JSON.stringify(line)}\n` : pretty({ ...line, time: Date.parse(line.time) });
  };
  const sink = new LogSink(2, dropped);
  process.once("exit", () => sink.end());
  // Formats at once and not in a stream of its own, which would hold lines back.
  const stream = format === "json" ? sink : { write: (line: string) => sink.write(pretty(line)) };
  const timestamp = format === "json" ? stdTimeFunctions.isoTime : undefined;
  return pino({ level, base: null, redact: { paths: secrets, censor: "(hidden)" }, ...(timestamp && { timestamp }) }, stream);
}
