/**
 * A speaker's life as plain data: everything that crosses its edges, in and out, with its time. What came in can be played to another speaker
 * (replay.ts), which must say the same: a fault seen once becomes a test. JSON can hold it.
 */
import type { KernelAccess } from "../../kernel/index.ts";
import type { KernelEvent } from "../../kernel/types.ts";
import { hexOf } from "../../net/octets.ts";
import type { Clock } from "../../platform/clock.ts";
import type { NetworkConfig, SpeakerConfig } from "../config.ts";
import type { Platform } from "../platform.ts";
import type { AcceptingSession } from "../session/session.ts";
import type { Endpoint, IncomingWire, Transport, Wire, WireHandler } from "../session/wire.ts";
import type { Doors } from "../speaker.ts";

/** `at`: milliseconds since the start. Octets as hex. `id`: of the connection, in the order in which they were made. */
export type Entry = { at: number } & (Input | Output);

/** What the world did. */
export type Input =
  | { type: "apply"; config: SpeakerConfig }
  | { type: "networks"; changes: [string, NetworkConfig | null][] }
  | { type: "accept"; id: number; neighbor: string; local: PlainEndpoint; remote: PlainEndpoint }
  | { type: "opened"; id: number; local: PlainEndpoint; remote: PlainEndpoint }
  | { type: "received"; id: number; octets: string }
  | { type: "writable" | "progressed"; id: number }
  | { type: "closed"; id: number; reason: string }
  | { type: "random"; value: number }
  | { type: "kernel"; events: unknown }
  | { type: "answer"; question: string; answer: unknown };

/** What the speaker did. */
export type Output =
  | { type: "connect"; id: number; neighbor: string }
  | { type: "written"; id: number; octets: string; room: boolean }
  | { type: "close"; id: number; octets?: string };

export interface PlainEndpoint {
  address: string;
  port: number;
}

export class Recorder {
  readonly entries: Entry[] = [];
  readonly #clock: Clock;
  readonly #start: number;
  #ids = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#start = clock.monotonic();
  }

  apply(config: SpeakerConfig): void {
    this.#note({ type: "apply", config: structuredClone(config) });
  }

  changeNetworks(changes: ReadonlyMap<string, NetworkConfig | undefined>): void {
    this.#note({ type: "networks", changes: structuredClone([...changes].map(([prefix, network]) => [prefix, network ?? null])) });
  }

  /** To be used in place of the platform. */
  platform(platform: Platform): Platform {
    const { random = Math.random, kernel } = platform;
    return {
      ...platform,
      random: () => {
        const value = random();
        this.#note({ type: "random", value });
        return value;
      },
      ...(kernel && { kernel: this.#kernel(kernel) }),
    };
  }

  /** To be used in place of the doors. */
  doors(doors: Doors): Doors {
    return {
      transport: options => {
        const transport = doors.transport(options);
        return { ...transport, connect: handler => this.#connect(options.config.name, transport, handler) };
      },
      listener: options => {
        const listener = doors.listener(options);
        return {
          get listening() {
            return listener.listening;
          },
          problems: () => listener.problems(),
          setNeighbors: list =>
            listener.setNeighbors(list.map(one => ({ ...one, session: this.#accepting(one.config.name, one.session) }))),
          start: () => listener.start(),
          close: () => listener.close(),
        };
      },
    };
  }

  #note(entry: Input | Output): void {
    this.entries.push({ at: this.#clock.monotonic() - this.#start, ...entry });
  }

  #connect(neighbor: string, transport: Transport, handler: WireHandler): Wire {
    const id = this.#ids++;
    this.#note({ type: "connect", id, neighbor });
    const wire: Wire = transport.connect(this.#handler(id, handler, () => wire));
    return this.#wire(id, wire);
  }

  #accepting(neighbor: string, session: AcceptingSession): AcceptingSession {
    const accept = (incoming: IncomingWire) => {
      const id = this.#ids++;
      this.#note({ type: "accept", id, neighbor, local: plainEnd(incoming.local), remote: plainEnd(incoming.remote) });
      session.accept({
        local: incoming.local,
        remote: incoming.remote,
        attach: handler => {
          const wire: Wire = incoming.attach(this.#handler(id, handler, () => wire));
          return this.#wire(id, wire);
        },
        refuse: last => {
          this.#note({ type: "close", id, octets: hexOf(last) });
          return incoming.refuse(last);
        },
      });
    };
    return new Proxy(session, {
      get(target, name) {
        const found = target[name as keyof AcceptingSession] as unknown;
        if (name === "accept") return accept;
        return typeof found === "function" ? found.bind(target) : found;
      },
    });
  }

  #handler(id: number, handler: WireHandler, wire: () => Wire): WireHandler {
    const pass = (entry: Input, then: () => void) => {
      this.#note(entry);
      then();
    };
    return {
      opened: () => pass({ type: "opened", id, local: plainEnd(wire().local), remote: plainEnd(wire().remote) }, () => handler.opened()),
      received: chunk => pass({ type: "received", id, octets: hexOf(chunk) }, () => handler.received(chunk)),
      writable: () => pass({ type: "writable", id }, () => handler.writable()),
      progressed: () => pass({ type: "progressed", id }, () => handler.progressed()),
      closed: reason => pass({ type: "closed", id, reason }, () => handler.closed(reason)),
    };
  }

  #wire(id: number, wire: Wire): Wire {
    return {
      get local() {
        return wire.local;
      },
      get remote() {
        return wire.remote;
      },
      write: octets => {
        // Before: what is written may be answered within the call.
        const entry = { type: "written" as const, id, octets: hexOf(octets), room: true };
        this.#note(entry);
        const noted = this.entries[this.entries.length - 1] as typeof entry;
        noted.room = wire.write(octets);
        return noted.room;
      },
      close: last => {
        this.#note({ type: "close", id, ...(last && { octets: hexOf(last) }) });
        return wire.close(last);
      },
    };
  }

  #kernel(kernel: KernelAccess): KernelAccess {
    return {
      watch: (listener, topics) =>
        kernel.watch((events: KernelEvent[]) => {
          this.#note({ type: "kernel", events: toPlain(events) });
          listener(events);
        }, topics),
      netlink: new Proxy(kernel.netlink, {
        get: (target, name) => {
          const method = target[name as keyof typeof target] as unknown;
          if (typeof method !== "function") return method;
          return (...args: unknown[]) => {
            const found = (method as (...args: unknown[]) => unknown).apply(target, args);
            // Of a dump in chunks all chunks.
            const answer = isChunked(found) ? [...found] : found;
            this.#note({ type: "answer", question: String(name), answer: toPlain(answer) });
            return answer;
          };
        },
      }),
    };
  }
}

function isChunked(value: unknown): value is Iterable<unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && Symbol.iterator in value && !(value instanceof Uint8Array);
}

export function octetsOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

function plainEnd({ address, port }: Endpoint): PlainEndpoint {
  return { address: hexOf(address), port };
}

/** Octets as {"$octets": hex}, errors as {"$error": text}; the rest as it is. */
function toPlain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $octets: hexOf(value) };
  if (value instanceof Error) return { $error: value.message };
  if (Array.isArray(value)) return value.map(toPlain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, toPlain(part)]));
}

export function fromPlain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(fromPlain);
  if (typeof value !== "object" || value === null) return value;
  if ("$octets" in value) return octetsOf(String(value.$octets));
  if ("$error" in value) return new Error(String(value.$error));
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, fromPlain(part)]));
}
