/**
 * A log in which no neighbour can write without end: of lines of one kind a few come through at once and then one every ten seconds, with a count of
 * those that were left out. A storm of connections and NOTIFICATIONs wrote a megabyte a second.
 */
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";

/** Lines of one kind at once. */
const BURST = 20;
/** Milliseconds until another one may come. */
const INTERVAL = 10_000;
/** Kinds that are told apart; there are some dozen. */
const MAX_KINDS = 100;

interface Kind {
  /** Milliseconds; a line costs INTERVAL of them. */
  credit: number;
  /** Clock.monotonic() of the last look. */
  at: number;
  left: number;
  since: number;
}

export function boundedLog(log: Logger, clock: Clock): Logger {
  const kinds = new Map<string, Kind>();
  const bound =
    (level: "debug" | "info" | "warn" | "error") =>
    (fields: object, message: string): void => {
      const key = `${level} ${kindOf(message)}`;
      const now = clock.monotonic();
      if (!kinds.has(key) && kinds.size >= MAX_KINDS) kinds.clear();
      const kind = kinds.get(key) ?? { credit: BURST * INTERVAL, at: now, left: 0, since: now };
      kinds.set(key, kind);
      kind.credit = Math.min(BURST * INTERVAL, kind.credit + now - kind.at);
      kind.at = now;
      if (kind.credit < INTERVAL) {
        if (kind.left++ === 0) kind.since = now;
        return;
      }
      kind.credit -= INTERVAL;
      const more = kind.left === 0 ? "" : ` (and ${kind.left} more lines like this within ${Math.ceil((now - kind.since) / 1000)} s)`;
      kind.left = 0;
      log[level](fields, message + more);
    };
  return {
    debug: bound("debug"),
    info: bound("info"),
    warn: bound("warn"),
    error: bound("error"),
    child: fields => boundedLog(log.child(fields), clock),
  };
}

/** What stands before the first detail: "session down: …", "Active: …". */
function kindOf(message: string): string {
  const end = message.search(/[:("\d]/);
  return end < 0 ? message : message.slice(0, end);
}
