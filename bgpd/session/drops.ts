/**
 * What the kernel dropped without a word while a session did not come up: segments with a wrong TCP MD5 signature (RFC 2385) or too low a TTL (RFC 5082). Its
 * counters are those of the whole namespace, so that a neighbour is accused only where no other can be meant.
 */
import { tcpMd5Counters, tcpMinTtlDrops, withNetns } from "../../kernel/index.ts";
import type { NeighborConfig } from "../config.ts";
import type { SessionState } from "./types.ts";

export interface DropCounters {
  /** Wrong signature. */
  failure: number;
  /** Without a signature, though a key is set. */
  notFound: number;
  /** With a signature, though no key is set. */
  unexpected: number;
  /** TTL below the least that is accepted. */
  minTtl: number;
}

/** Milliseconds for which a reading is good: whoever asks about a thousand sessions at once asks about one moment. */
const FRESH = 20;
const readings = new Map<string, { at: number; counters: DropCounters }>();

export function readDrops(netns = ""): DropCounters {
  const known = readings.get(netns);
  const at = performance.now();
  if (known && at - known.at < FRESH) return known.counters;
  const read = () => ({ ...tcpMd5Counters(), minTtl: tcpMinTtlDrops() });
  const counters = netns === "" ? read() : withNetns(netns, read);
  readings.set(netns, { at, counters });
  return counters;
}

/** Neighbours that a text names, at most. */
const NAMED = 3;

export class DropWatch {
  readonly #config: NeighborConfig;
  readonly #read: () => DropCounters;
  readonly #suspects: () => readonly NeighborConfig[];
  #base: DropCounters;

  /** `suspects`: all neighbours whose session is not up. */
  constructor(config: NeighborConfig, read: () => DropCounters, suspects: () => readonly NeighborConfig[]) {
    this.#config = config;
    this.#read = read;
    this.#suspects = suspects;
    this.#base = read();
  }

  /** From here on is counted. */
  mark(): void {
    this.#base = this.#read();
  }

  /** What may keep a session in this state, in words. */
  hint(state: SessionState): string | undefined {
    if (state !== "Connect" && state !== "Active" && state !== "OpenSent") return undefined;
    const now = this.#read();
    const grown = (name: keyof DropCounters) => now[name] - this.#base[name];
    const { password, ttlSecurity } = this.#config;
    const parts: string[] = [];
    const say = (count: number, fits: (other: NeighborConfig) => boolean, text: string) => {
      if (count > 0) parts.push(`${count} ${text}${this.#orOthers(fits)}`);
    };
    // The handshake itself is signed: once it stands, the keys are the same.
    if (state !== "OpenSent") {
      const keyed = (other: NeighborConfig) => other.password !== undefined;
      if (password === undefined) {
        say(grown("unexpected"), other => !keyed(other), "with a TCP MD5 signature although no password is configured");
      } else {
        say(grown("failure"), keyed, "with a wrong TCP MD5 signature: do the passwords differ?");
        say(grown("notFound"), keyed, "without TCP MD5 signature: has the neighbour no password?");
      }
    }
    if (ttlSecurity !== undefined) {
      // A host that refuses a connection says so with its own default TTL: nothing about the hops.
      const refused = state === "OpenSent" ? "" : ", or nothing listens there, as a reset has the system's own TTL";
      const text = `with a TTL below ${256 - ttlSecurity}: the neighbour is further away or does not send 255${refused}`;
      say(grown("minTtl"), other => other.ttlSecurity !== undefined, text);
    }
    return parts.length === 0 ? undefined : `the kernel dropped segments: ${parts.join(", ")}`;
  }

  /** Who else may be meant. */
  #orOthers(fits: (other: NeighborConfig) => boolean): string {
    const names = this.#suspects().flatMap(other => (fits(other) && other.name !== this.#config.name ? [other.name] : []));
    if (names.length === 0) return "";
    const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
    return ` (they may be of ${names.slice(0, NAMED).join(", ")}${more} as well)`;
  }
}
