/** The agent's log: JSON lines for machines, readable lines on a terminal, on standard error. */
import { pino, stdTimeFunctions } from "pino";
import pretty from "pino-pretty";
import type { Logger } from "../bgpd/platform.ts";

export const LogLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LogLevels)[number];
export const LogFormats = ["pretty", "json"] as const;
export type LogFormat = (typeof LogFormats)[number];

export interface Log {
  logger: Logger;
  /** Writes what still waits; for the last moment of the process. */
  flush(): void;
}

/** Names whose values never appear in a log, at the depths where configuration is logged. */
const secrets = ["password", "*.password", "*.*.password", "*.*.*.password"];

/** `stderr` is asynchronous, so that a slow reader of the log does not hold up a keepalive. */
export function createLog(level: LogLevel, format: LogFormat): Log {
  const destination = pino.destination({ fd: 2, sync: false, minLength: 0 });
  // A reader that has gone (a closed terminal, journald restarting) is no reason to stop routing.
  destination.on("error", () => {});
  const colorize = format === "pretty" && process.stderr.isTTY && !process.env.NO_COLOR;
  const stream =
    format === "json"
      ? destination
      : pretty({ destination, colorize, translateTime: "SYS:HH:MM:ss.l", ignore: "pid,hostname", singleLine: true });
  const timestamp = format === "json" ? stdTimeFunctions.isoTime : undefined;
  const logger = pino({ level, base: null, redact: { paths: secrets, censor: "(hidden)" }, ...(timestamp && { timestamp }) }, stream);
  return { logger, flush: () => destination.flushSync() };
}
