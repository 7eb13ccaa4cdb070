/**
 * TCP in memory, on a fake clock: connections between endpoints with a delay per chunk, in order per direction, that can be refused, lost
 * or cut. With it two whole sessions talk to each other without a socket, in any order of arrival that a test wants.
 */

import type { Logger } from "../../platform/log.ts";
import type { NeighborConfig } from "../config.ts";
import { MessageFramer, MessageType } from "../message/header.ts";
import type { FakeClock } from "../testing/fake-clock.ts";
import type { DownReason, Negotiated, SessionListener, SessionState } from "./types.ts";
import type { Endpoint, IncomingWire, Transport, Wire, WireHandler } from "./wire.ts";

export class MemoryNetwork {
  readonly #clock: FakeClock;
  readonly #delay: () => number;
  readonly #listeners = new Map<string, (wire: IncomingWire) => void>();
  #nextPort = 40000;
  /** SYNs vanish. */
  lost = false;
  /** Octets vanish too: an unplugged cable. */
  unplugged = false;
  connections = 0;

  /** `delay`: milliseconds for each chunk and handshake. */
  constructor(clock: FakeClock, delay: () => number = () => 1) {
    this.#clock = clock;
    this.#delay = delay;
  }

  listen(address: Uint8Array, accept: (wire: IncomingWire) => void): void {
    this.#listeners.set(String(address), accept);
  }

  transport(local: Uint8Array, remote: Uint8Array): Transport {
    return {
      connect: handler => {
        const port = this.#nextPort++;
        const end = new MemoryEnd({ address: local, port }, { address: remote, port: 179 }, this);
        end.attach(handler);
        if (this.lost || this.unplugged) return end;
        this.#clock.after(this.#delay(), () => this.#arrive(end));
        return end;
      },
    };
  }

  /** In order per direction: no chunk overtakes an earlier one. */
  deliver(from: MemoryEnd, run: () => void): void {
    if (this.unplugged) return;
    from.arrival = Math.max(from.arrival, this.#clock.monotonic() + this.#delay());
    this.#clock.after(from.arrival - this.#clock.monotonic(), run);
  }

  #arrive(end: MemoryEnd): void {
    const accept = this.#listeners.get(String(end.remote.address));
    if (!accept) {
      end.lose("connection refused");
      return;
    }
    if (end.gone) return;
    this.connections++;
    const far = new MemoryEnd(end.remote, end.local, this);
    far.peer = end;
    end.peer = far;
    this.deliver(far, () => end.handler?.opened());
    accept(far);
  }
}

export class MemoryEnd implements Wire, IncomingWire {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly #network: MemoryNetwork;
  peer: MemoryEnd | undefined;
  handler: WireHandler | undefined;
  arrival = 0;
  /** What write() answers; without room no progress is reported either. */
  room = true;
  gone = false;

  constructor(local: Endpoint, remote: Endpoint, network: MemoryNetwork) {
    this.local = local;
    this.remote = remote;
    this.#network = network;
  }

  attach(handler: WireHandler): Wire {
    this.handler = handler;
    return this;
  }

  write(octets: Uint8Array): boolean {
    if (this.gone) return false;
    this.#network.deliver(this, () => {
      this.peer?.handler?.received(octets.slice());
      if (this.room) this.handler?.progressed();
    });
    return this.room;
  }

  async close(last?: Uint8Array): Promise<void> {
    if (last) this.write(last);
    this.handler = undefined;
    this.gone = true;
    this.#network.deliver(this, () => this.peer?.lose("the neighbour closed the connection"));
  }

  refuse(last: Uint8Array): Promise<void> {
    return this.close(last);
  }

  /** The connection breaks for this side. */
  lose(reason: string): void {
    const { handler } = this;
    this.handler = undefined;
    this.gone = true;
    handler?.closed(reason);
  }
}

/** A neighbour made of octets: keeps the messages it got, sends what a test says. */
export class RawPeer implements WireHandler {
  readonly messages: Uint8Array[] = [];
  readonly #framer = new MessageFramer(65535);
  wire: Wire | undefined;
  isClosed: string | undefined;
  isOpen = false;

  opened(): void {
    this.isOpen = true;
  }
  received(chunk: Uint8Array): void {
    this.#framer.push(chunk, message => this.messages.push(message.slice()));
  }
  writable(): void {}
  progressed(): void {}
  closed(reason: string): void {
    this.isClosed = reason;
  }

  ofType(type: MessageType): Uint8Array[] {
    return this.messages.filter(message => message[18] === type);
  }

  /** "code/subcode" of the NOTIFICATIONs that came. */
  get notifications(): string[] {
    return this.ofType(MessageType.Notification).map(message => `${message[19]}/${message[20]}`);
  }
}

/** Records what a session reports. */
export class RecordingListener implements SessionListener {
  readonly states: SessionState[] = [];
  readonly reasons: string[] = [];
  readonly sessions: Negotiated[] = [];
  readonly downs: DownReason[] = [];
  readonly updates: Uint8Array[] = [];
  readonly refreshes: string[] = [];
  writables = 0;
  /** Called with each UPDATE. */
  onUpdate: (message: Uint8Array) => void = () => {};
  onWritable: () => void = () => {};
  onEvent: () => void = () => {};

  stateChanged(state: SessionState, reason: string): void {
    this.states.push(state);
    this.reasons.push(reason);
    this.onEvent();
  }
  established(negotiated: Negotiated): void {
    this.sessions.push(negotiated);
    this.onEvent();
  }
  update(message: Uint8Array): void {
    this.updates.push(message.slice());
    this.onUpdate(message);
    this.onEvent();
  }
  routeRefresh(family: string, subtype: number): void {
    this.refreshes.push(`${family}/${subtype}`);
    this.onEvent();
  }
  down(reason: DownReason): void {
    this.downs.push(reason);
    this.onEvent();
  }
  writable(): void {
    this.writables++;
    this.onWritable();
    this.onEvent();
  }
}

/** Keeps lines instead of printing them. */
export class MemoryLog implements Logger {
  readonly lines: string[];
  constructor(lines: string[] = []) {
    this.lines = lines;
  }
  debug(_fields: object, message: string): void {
    this.lines.push(`debug ${message}`);
  }
  info(_fields: object, message: string): void {
    this.lines.push(`info ${message}`);
  }
  warn(_fields: object, message: string): void {
    this.lines.push(`warn ${message}`);
  }
  error(_fields: object, message: string): void {
    this.lines.push(`error ${message}`);
  }
  child(): Logger {
    return this;
  }
}

/** A neighbour's configuration with defaults for what a test does not care about. */
export function neighborConfig(change: Partial<NeighborConfig> & { address: string }): NeighborConfig {
  const family = { importPolicies: [], exportPolicies: [], prefixLimit: 0, prefixWarning: 80, nextHopSelf: false, allowAsIn: 0 };
  return {
    name: `neighbour ${change.address}`,
    port: 179,
    remoteAsn: "external",
    passive: false,
    holdTime: 90,
    keepaliveTime: 0,
    connectRetryTime: 30,
    advertisementInterval: 0,
    families: { "ipv4-unicast": family, "ipv6-unicast": family },
    routeReflectorClient: false,
    ...change,
  };
}
