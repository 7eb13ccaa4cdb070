/**
 * A session's TCP (RFC 4271 section 8.2.1): descriptors with all options set before the first SYN, back-pressure, and a close after
 * which the NOTIFICATION has really arrived. TTL: 1 to a directly connected external neighbour, 255 with GTSM (RFC 5082) and inside the AS.
 */
import type { Socket } from "node:net";
import { connectSocket, descriptorOf, setMd5Key, setMinTtl, setTtl, setUserTimeout } from "../../kernel/index.ts";
import { type Address, familyOf, parseAddress } from "../../net/address.ts";
import { type Clock, sliceOf } from "../../platform/clock.ts";
import type { NeighborConfig } from "../config.ts";
import { DropWatch, readDrops } from "./drops.ts";
import { sendHoldTime } from "./fsm/transitions.ts";
import type { Endpoint, IncomingWire, Transport, Wire, WireHandler } from "./wire.ts";

/** Internetwork control (CS6), as RFC 4271's routers send it. */
export const BGP_TOS = 0xc0;
/** Octets taken from one neighbour before timers and the other neighbours get their turn: libuv alone would read 2 MiB, a fifth of a second of work. */
const READ_TURN = 128 * 1024;
/** Octets that are worked on between two looks at the clock: some cost more than others, for example where a policy looks at each prefix. */
const READ_PIECE = 8192;
/** Milliseconds that a closing connection has to carry its last octets and take the neighbour's. */
const DRAIN_TIME = 2000;

export interface TransportOptions {
  config: NeighborConfig;
  /** As the neighbour sees us: decides between external and internal. */
  localAsn: number;
  clock: Clock;
  /** Path of a network namespace; absent: the thread's own. */
  netns?: string;
  /** All neighbours whose session is not up: segments that the kernel drops may be of any of them. */
  suspects?: () => readonly NeighborConfig[];
}

export function tcpTransport(options: TransportOptions): Transport {
  const { config, localAsn, clock, netns, suspects = () => [] } = options;
  const address = parseAddress(config.address);
  let { password } = config;
  return {
    rekey(next) {
      password = next;
    },
    connect(handler) {
      try {
        const socket = connectSocket({
          address,
          port: config.port,
          netns,
          interface: config.interface,
          localAddress: config.localAddress === undefined ? undefined : parseAddress(config.localAddress),
          tos: BGP_TOS,
          userTimeout: userTimeout(config),
          md5: password === undefined ? [] : [{ address, key: password }],
          ...hopLimits(config, localAsn),
        });
        return new TcpWire(socket, { address, port: config.port }, handler, clock, config);
      } catch (error) {
        throw new Error(explainFailure(error, config), { cause: error });
      }
    },
    drops: new DropWatch(config, () => readDrops(netns), suspects),
  };
}

/** TTL to send with, and the least to accept (RFC 5082 section 3). */
export function hopLimits(config: NeighborConfig, localAsn: number): { ttl: number; minTtl?: number } {
  if (config.ttlSecurity !== undefined) return { ttl: 255, minTtl: 256 - config.ttlSecurity };
  if (config.remoteAsn === "internal" || config.remoteAsn === localAsn) return { ttl: config.multihop || 255 };
  return { ttl: config.multihop || 1 };
}

/** A connection that the neighbour opened. Sets what belongs to this neighbour and not to the listening descriptor. Throws SystemCallError. */
export function tcpIncoming(socket: Socket, options: TransportOptions): IncomingWire {
  const { config, localAsn, clock } = options;
  const local = { address: socketAddress(socket.localAddress), port: socket.localPort ?? 0 };
  const remote = { address: socketAddress(socket.remoteAddress), port: socket.remotePort ?? 0 };
  const fd = descriptorOf(socket);
  if (fd === undefined) throw new Error("the neighbour closed the connection at once");
  const { ttl, minTtl } = hopLimits(config, localAsn);
  const family = familyOf(remote.address);
  setTtl(fd, family, ttl);
  if (minTtl !== undefined) setMinTtl(fd, family, minTtl);
  setUserTimeout(fd, userTimeout(config));
  const attach = (handler: WireHandler) => new TcpWire(socket, remote, handler, clock, config);
  const silent: WireHandler = { opened() {}, received() {}, writable() {}, progressed() {}, closed() {} };
  return { local, remote, attach, refuse: last => attach(silent).close(last) };
}

/** Octets of what node:net calls an address; the zone of a link-local one is cut off. */
export function socketAddress(text: string | undefined): Address {
  if (text === undefined) return new Uint8Array(4);
  return parseAddress(text.replace(/%.*$/, ""));
}

class TcpWire implements Wire {
  readonly remote: Endpoint;
  readonly #socket: Socket;
  readonly #clock: Clock;
  #handler: WireHandler | undefined;
  #closing: Promise<void> | undefined;
  /** Octets taken in this turn of the event loop, and whether its time is over. */
  #taken = 0;
  #isOver = () => false;
  /** Read from the socket, and still to be worked on in the next turn. */
  #backlog: Buffer | undefined;
  /** How the connection ended while there was a backlog. */
  #end: string | undefined;

  constructor(socket: Socket, remote: Endpoint, handler: WireHandler, clock: Clock, config: NeighborConfig) {
    this.#socket = socket;
    this.remote = remote;
    this.#handler = handler;
    this.#clock = clock;
    socket.setNoDelay(true);
    socket.on("connect", () => this.#handler?.opened());
    socket.on("data", (chunk: Buffer) => this.#received(chunk));
    socket.on("drain", () => this.#handler?.writable());
    socket.on("error", error => this.#lost(explainFailure(error, config)));
    socket.on("end", () => this.#ended("the neighbour closed the TCP connection"));
    socket.on("close", () => this.#ended("the TCP connection was closed"));
  }

  get local(): Endpoint {
    return { address: socketAddress(this.#socket.localAddress), port: this.#socket.localPort ?? 0 };
  }

  write(octets: Uint8Array): boolean {
    if (octets.length === 0) return !this.#socket.writableNeedDrain;
    return this.#socket.write(octets, error => {
      if (!error) this.#handler?.progressed();
    });
  }

  #lost(reason: string): void {
    const heard = this.#handler;
    this.#handler = undefined;
    heard?.closed(reason);
  }

  /** A paused socket tells of its end all the same; what came before it counts first. */
  #ended(reason: string): void {
    if (this.#backlog) this.#end ??= reason;
    else this.#lost(reason);
  }

  #received(chunk: Buffer): void {
    // The socket may have one more in hand when it is paused.
    if (this.#backlog) this.#backlog = Buffer.concat([this.#backlog, chunk]);
    else this.#work(chunk);
  }

  #work(chunk: Buffer): void {
    if (this.#taken === 0) {
      this.#isOver = sliceOf(this.#clock);
      setImmediate(() => this.#nextTurn());
    }
    for (let at = 0; at < chunk.length; at += READ_PIECE) {
      if (this.#taken >= READ_TURN || (this.#taken > 0 && this.#isOver())) {
        this.#backlog = chunk.subarray(at);
        this.#socket.pause();
        return;
      }
      const piece = chunk.subarray(at, at + READ_PIECE);
      this.#taken += piece.length;
      this.#handler?.received(piece);
    }
  }

  #nextTurn(): void {
    this.#taken = 0;
    const backlog = this.#backlog;
    if (!backlog) return;
    this.#backlog = undefined;
    if (!this.#handler) return;
    this.#work(backlog);
    if (this.#backlog) return;
    if (this.#end !== undefined) this.#lost(this.#end);
    else this.#socket.resume();
  }

  rekey(password: string): void {
    const fd = descriptorOf(this.#socket);
    // Without one it has ended, and says so.
    if (fd !== undefined) setMd5Key(fd, { address: this.remote.address, key: password });
  }

  close(last?: Uint8Array): Promise<void> {
    this.#handler = undefined;
    this.#closing ??= this.#close(last);
    return this.#closing;
  }

  #close(last: Uint8Array | undefined): Promise<void> {
    const socket = this.#socket;
    if (socket.destroyed || socket.connecting || last === undefined) {
      socket.destroy();
      return Promise.resolve();
    }
    return new Promise(resolve => {
      const bound = this.#clock.after(DRAIN_TIME, () => socket.destroy());
      socket.once("close", () => {
        bound.cancel();
        resolve();
      });
      socket.end(last);
      socket.resume();
    });
  }
}

/** Beyond the send hold time: it only ends what nobody else would end. Milliseconds. */
function userTimeout(config: NeighborConfig): number {
  return (sendHoldTime(config.holdTime) + 10) * 1000;
}

/** A failed attempt or a broken connection in words: what happened and where to look. */
export function explainFailure(error: unknown, config: NeighborConfig): string {
  const code = (error as { code?: string }).code ?? "";
  const to = `${config.address} port ${config.port}`;
  const from = config.localAddress ? ` from ${config.localAddress}` : "";
  const texts: Record<string, string> = {
    ECONNREFUSED: `connection refused: ${to} answers, but no BGP speaker listens there (or its firewall rejects us)`,
    EHOSTUNREACH: `no route to ${to}${from}: the host does not answer, or a router says it is unreachable`,
    ENETUNREACH: `no route to ${to}${from}: this node's table has none`,
    ETIMEDOUT: `timeout: ${to} does not acknowledge; it is down, filtered, or has another TCP MD5 key`,
    ECONNRESET: `${to} reset the TCP connection`,
    EPIPE: `${to} closed the TCP connection`,
    EADDRNOTAVAIL: `the local address ${config.localAddress ?? ""} is not on this node${config.interface ? ` (interface ${config.interface})` : ""}`,
    ENODEV: `this node has no interface "${config.interface ?? ""}"`,
    EADDRINUSE: `the local address ${config.localAddress ?? ""} has no free port towards ${to}`,
    EACCES: `connecting to ${to} is forbidden by this node's firewall or routing rules`,
    EPERM: `connecting to ${to} is forbidden by this node's firewall`,
    EINVAL: `connecting to ${to} failed: a link-local address needs an interface`,
  };
  return texts[code] ?? `TCP to ${to} failed: ${error instanceof Error ? error.message : String(error)}`;
}
