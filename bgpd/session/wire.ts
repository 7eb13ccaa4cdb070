/** What a session needs of TCP, so that tests can put octets in memory in its place (testing.ts); the real one is transport.ts. */
import type { SessionState } from "./types.ts";

export interface Endpoint {
  /** 4 or 16 octets. */
  address: Uint8Array;
  port: number;
}

export interface WireHandler {
  /** Our attempt succeeded: `local` and `remote` are known now. */
  opened(): void;
  /** Octets as they come; valid only during the call. */
  received(chunk: Uint8Array): void;
  /** After write() returned false: there is room again. */
  writable(): void;
  /** The kernel took octets that were written. */
  progressed(): void;
  /** The attempt failed or the connection ended, for this reason in words. Nothing follows. */
  closed(reason: string): void;
}

/** One TCP connection or the attempt at one. After close() its handler hears nothing more. */
export interface Wire {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** Keeps the octets until they are sent. false = no more until writable(). */
  write(octets: Uint8Array): boolean;
  /** From now on segments bear this TCP MD5 key, and none with another is taken. Throws SystemCallError. Absent: no kernel below. */
  rekey?(password: string): void;
  /** Sends `last` after all that is queued, half-closes, and takes in what still comes, so that the kernel does not discard `last` by a reset. Resolves when the connection is gone: bounded. */
  close(last?: Uint8Array): Promise<void>;
}

export interface Transport {
  /** Throws only what a wrong configuration causes; a failed attempt is reported by closed(), later. */
  connect(handler: WireHandler): Wire;
  /** Attempts from now on use this TCP MD5 key. */
  rekey?(password: string): void;
  /** What the kernel dropped without a word since mark(), where that can explain a session that stays down. */
  readonly drops?: { mark(): void; hint(state: SessionState): string | undefined };
}

/** A connection that the neighbour opened. */
export interface IncomingWire {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  attach(handler: WireHandler): Wire;
  /** Instead of attach(): sends this and closes. */
  refuse(last: Uint8Array): Promise<void>;
}
