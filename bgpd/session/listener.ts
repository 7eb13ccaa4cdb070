/**
 * Where neighbours connect: one listening socket per address, which hands each connection to the session of the neighbour it comes from.
 * The MD5 keys of all neighbours are on the descriptor before the first SYN and follow every change of neighbours. A port that is taken is
 * a problem with a remedy and is tried again; it stops nothing else.
 */
import type { Server, Socket } from "node:net";
import { descriptorOf, listenSocket, setMd5Key, setMinTtl } from "../../kernel/index.ts";
import { type Address, familyOf, formatAddress, isLinkLocal, parseAddress, sameOctets } from "../../net/address.ts";
import type { Timer } from "../../platform/clock.ts";
import type { NeighborConfig } from "../config.ts";
import { CeaseSubcode, ErrorCode, encodeNotification } from "../message/notification.ts";
import type { Platform } from "../platform.ts";
import type { AcceptingSession } from "./session.ts";
import { BGP_TOS, hopLimits, socketAddress, tcpIncoming } from "./transport.ts";

export interface ListenerOptions {
  /** 0 = any free port (tests). */
  port: number;
  /** Default: all addresses, IPv4 and IPv6. */
  addresses?: readonly string[];
  platform: Pick<Platform, "clock" | "log">;
  /** Path of a network namespace; absent: the thread's own. */
  netns?: string;
}

/** A neighbour that may connect. */
export interface ListenerNeighbor {
  config: NeighborConfig;
  /** As this neighbour sees us. */
  localAsn: number;
  session: AcceptingSession;
}

export interface ListenerCounters {
  accepted: number;
  /** Connections from addresses that are no neighbour's. */
  unknown: number;
}

/** Seconds between attempts to open a socket that could not be opened. */
export const LISTEN_RETRY = 10;
/** Strangers are told Cease/5 at most this often per second; the others are closed without a word. */
const REFUSALS_PER_SECOND = 10;

interface Door {
  readonly address: Address;
  readonly text: string;
  server?: Server;
  fd?: number;
  port?: number;
  problem?: string;
  retry?: Timer;
  /** What is set on the descriptor: address text -> key. */
  keys: Map<string, string>;
}

export class BgpListener {
  readonly #options: ListenerOptions;
  readonly #doors: Door[];
  readonly #counters: ListenerCounters = { accepted: 0, unknown: 0 };
  #neighbors: readonly ListenerNeighbor[] = [];
  #closed = false;
  #refusals = { second: -1, count: 0 };

  constructor(options: ListenerOptions) {
    this.#options = options;
    const addresses = options.addresses ?? ["0.0.0.0", "::"];
    this.#doors = addresses.map(text => ({ text, address: parseAddress(text), keys: new Map() }));
  }

  /** Call setNeighbors() first: keys must be there before the first SYN. Never throws; see problems(). */
  start(): void {
    for (const door of this.#doors) this.#open(door);
  }

  /** All neighbours there are now; those left out are strangers from here on. Their existing connections stay. */
  setNeighbors(neighbors: readonly ListenerNeighbor[]): void {
    this.#neighbors = neighbors;
    for (const door of this.#doors) if (door.fd !== undefined) this.#updateKeys(door, door.fd);
  }

  get listening(): { address: string; port: number }[] {
    return this.#doors.flatMap(door => (door.server && door.port !== undefined ? [{ address: door.text, port: door.port }] : []));
  }

  /** One sentence for each address nobody can connect to, with the remedy. */
  problems(): string[] {
    return this.#doors.flatMap(door => door.problem ?? []);
  }

  get counters(): ListenerCounters {
    return { ...this.#counters };
  }

  /** Accepted connections stay with their sessions. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const door of this.#doors) this.#shut(door);
  }

  #open(door: Door): void {
    if (this.#closed) return;
    const { netns, port } = this.#options;
    try {
      const keys = this.#keysFor(door);
      const {
        server,
        fd,
        port: bound,
      } = listenSocket(
        {
          address: door.address,
          port,
          netns,
          ttl: 255,
          tos: BGP_TOS,
          md5: [...keys].map(([address, key]) => ({ address: parseAddress(address), key })),
        },
        socket => this.#arrived(socket),
      );
      Object.assign(door, { server, fd, port: bound, keys, problem: undefined });
      server.on("error", error => this.#failed(door, error));
      setMinTtl(fd, familyOf(door.address), this.#minTtl(familyOf(door.address)));
    } catch (error) {
      this.#failed(door, error);
    }
  }

  #failed(door: Door, error: unknown): void {
    this.#shut(door);
    if (this.#closed) return;
    const problem = explainListenFailure(error, door.text, this.#options.port);
    if (problem !== door.problem) this.#options.platform.log.error({ address: door.text }, problem);
    door.problem = problem;
    door.retry = this.#options.platform.clock.after(LISTEN_RETRY * 1000, () => this.#open(door));
  }

  #shut(door: Door): void {
    door.retry?.cancel();
    door.server?.close();
    door.server = undefined;
    door.fd = undefined;
    door.keys = new Map();
  }

  #keysFor(door: Door): Map<string, string> {
    const own = this.#neighbors.filter(({ config }) => config.password !== undefined);
    const family = familyOf(door.address);
    return new Map(
      own.map(({ config }) => [config.address, config.password!] as const).filter(([text]) => familyOf(parseAddress(text)) === family),
    );
  }

  #updateKeys(door: Door, fd: number): void {
    const wanted = this.#keysFor(door);
    for (const text of door.keys.keys()) if (!wanted.has(text)) this.#setKey(door, fd, text, undefined);
    for (const [text, key] of wanted) if (door.keys.get(text) !== key) this.#setKey(door, fd, text, key);
    setMinTtl(fd, familyOf(door.address), this.#minTtl(familyOf(door.address)));
  }

  #setKey(door: Door, fd: number, text: string, key: string | undefined): void {
    try {
      setMd5Key(fd, { address: parseAddress(text), key });
      if (key === undefined) door.keys.delete(text);
      else door.keys.set(text, key);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.platform.log.error({ address: text }, `the TCP MD5 key for ${text} cannot be set on the listening socket: ${reason}`);
    }
  }

  /** A SYN from further away than every neighbour may be is dropped by the kernel; 0 as soon as one neighbour does without GTSM. */
  #minTtl(family: 4 | 6): number {
    const own = this.#neighbors.filter(({ config }) => familyOf(parseAddress(config.address)) === family);
    const limits = own.map(({ config, localAsn }) => hopLimits(config, localAsn).minTtl ?? 0);
    return limits.length === 0 ? 0 : Math.min(...limits);
  }

  #arrived(socket: Socket): void {
    // Until somebody takes the connection its errors are nobody's.
    socket.on("error", () => {});
    const neighbor = this.#neighborOf(socket);
    if (!neighbor) {
      this.#refuseStranger(socket);
      return;
    }
    this.#counters.accepted++;
    try {
      const { config, localAsn, session } = neighbor;
      session.accept(tcpIncoming(socket, { config, localAsn, clock: this.#options.platform.clock }));
    } catch (error) {
      this.#options.platform.log.warn({ neighbor: neighbor.config.name }, `a connection was dropped: ${(error as Error).message}`);
      socket.destroy();
    }
  }

  #neighborOf(socket: Socket): ListenerNeighbor | undefined {
    if (descriptorOf(socket) === undefined || socket.remoteAddress === undefined) return undefined;
    const address = socketAddress(socket.remoteAddress);
    const zone = /%(.*)$/.exec(socket.remoteAddress)?.[1];
    return this.#neighbors.find(({ config }) => {
      if (!sameOctets(parseAddress(config.address), address)) return false;
      return !isLinkLocal(address) || zone === undefined || config.interface === zone;
    });
  }

  #refuseStranger(socket: Socket): void {
    this.#counters.unknown++;
    const second = Math.floor(this.#options.platform.clock.monotonic() / 1000);
    if (this.#refusals.second !== second) this.#refusals = { second, count: 0 };
    if (++this.#refusals.count > REFUSALS_PER_SECOND || descriptorOf(socket) === undefined) {
      socket.destroy();
      return;
    }
    const from = formatAddress(socketAddress(socket.remoteAddress));
    this.#options.platform.log.warn({ address: from }, `connection from ${from} refused: it is no neighbour's address`);
    socket.end(encodeNotification(ErrorCode.Cease, CeaseSubcode.ConnectionRejected));
    socket.resume();
    const bound = this.#options.platform.clock.after(1000, () => socket.destroy());
    socket.once("close", () => bound.cancel());
  }
}

function explainListenFailure(error: unknown, address: string, port: number): string {
  const again = `trying again every ${LISTEN_RETRY} s`;
  switch ((error as { code?: string }).code) {
    case "EADDRINUSE":
      return `port ${port} on ${address} is in use, probably by another BGP speaker: stop it, or set another listen port; ${again}`;
    case "EADDRNOTAVAIL":
      return `${address} is not an address of this node: add it, or remove it from the listen addresses; ${again}`;
    case "EACCES":
      return `port ${port} on ${address} needs CAP_NET_BIND_SERVICE: run as root, or set a listen port above 1023; ${again}`;
    case "EAFNOSUPPORT":
      return `this kernel has no ${address.includes(":") ? "IPv6" : "IPv4"}: remove ${address} from the listen addresses; ${again}`;
    default:
      return `cannot listen on ${address} port ${port}: ${error instanceof Error ? error.message : String(error)}; ${again}`;
  }
}
