/** The agent's log: JSON lines for machines, readable lines on a terminal, on standard error. */
import { pino, stdTimeFunctions } from "pino";
import { prettyFactory } from "pino-pretty";
import type { Logger } from "../bgpd/platform.ts";

export const LogLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LogLevels)[number];
export const LogFormats = ["pretty", "json"] as const;
export type LogFormat = (typeof LogFormats)[number];

/** Names whose values never appear in a log, at the depths where configuration is logged. */
const secrets = ["password", "*.password", "*.*.password", "*.*.*.password"];

/** Each line is written before the call returns: nothing is lost or reordered, however the process ends. */
export function createLog(level: LogLevel, format: LogFormat): Logger {
  const destination = pino.destination({ fd: 2, sync: true });
  // A reader that has gone (a closed terminal, journald restarting) is no reason to stop routing.
  destination.on("error", () => {});
  const colorize = format === "pretty" && process.stderr.isTTY && !process.env.NO_COLOR;
  const stream = format === "json" ? destination : readable(destination, colorize);
  const timestamp = format === "json" ? stdTimeFunctions.isoTime : undefined;
  return pino({ level, base: null, redact: { paths: secrets, censor: "(hidden)" }, ...(timestamp && { timestamp }) }, stream);
}

/** Formats at once and not in a stream of its own, which would hold lines back. */
function readable(destination: { write(text: string): unknown }, colorize: boolean): { write(line: string): void } {
  const format = prettyFactory({ colorize, translateTime: "SYS:HH:MM:ss.l", ignore: "pid,hostname", singleLine: true });
  return { write: line => void destination.write(format(line)) };
}
