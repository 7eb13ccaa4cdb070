/**
 * Requests and watches of one agent over one HTTP/2 connection: ten watches of 5,000 agents are 5,000 connections, not 50,000. A connection that is silent is
 * asked by PING, as a dead one would keep its watches waiting for as long as TCP does (client-go does the same, for the same reason).
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from "node:http2";
import type { Credentials } from "./credentials.ts";
import type { Transport, TransportRequest, TransportResponse } from "./types.ts";

/** Milliseconds. */
export interface ConnectionTimes {
  /** Between two PINGs. */
  ping: number;
  /** That an answer to one may take. */
  pong: number;
  /** Until a connection is given up that does not come up. */
  connect: number;
}

const usualTimes: ConnectionTimes = { ping: 30_000, pong: 15_000, connect: 10_000 };

export class Http2Transport implements Transport {
  readonly server: string;
  readonly #credentials: Credentials;
  readonly #times: ConnectionTimes;
  #session: Promise<ClientHttp2Session> | undefined;
  #closed = false;

  constructor(credentials: Credentials, times = usualTimes) {
    this.#credentials = credentials;
    this.#times = times;
    this.server = credentials.server;
  }

  async send(request: TransportRequest): Promise<TransportResponse> {
    const token = await this.#credentials.token();
    const session = await unlessEnded(this.#connected(), request.signal);
    request.signal.throwIfAborted();
    const stream = session.request(
      {
        ...request.headers,
        [constants.HTTP2_HEADER_METHOD]: request.method,
        [constants.HTTP2_HEADER_PATH]: request.path,
        authorization: `Bearer ${token}`,
      },
      { endStream: request.body === undefined, signal: request.signal },
    );
    if (request.body !== undefined) stream.end(request.body);
    return answerOf(stream);
  }

  close(): void {
    this.#closed = true;
    void this.#session?.then(
      session => session.destroy(),
      () => {},
    );
    this.#session = undefined;
  }

  #connected(): Promise<ClientHttp2Session> {
    if (this.#closed) throw new Error("the connection was closed");
    if (this.#session) return this.#session;
    const session = this.#connect();
    this.#session = session;
    const forget = () => {
      if (this.#session === session) this.#session = undefined;
    };
    session.then(one => {
      // After GOAWAY no new request may use it; those under way end by themselves.
      one.once("goaway", forget);
      one.once("close", forget);
    }, forget);
    return session;
  }

  async #connect(): Promise<ClientHttp2Session> {
    const ca = await this.#credentials.certificateAuthority();
    const session = connect(this.server, { ca, ALPNProtocols: ["h2"] });
    // Each stream hears of it as well, and is the one to tell.
    session.on("error", () => {});
    await new Promise<void>((resolve, reject) => {
      const bound = this.#times.connect;
      const timer = setTimeout(() => session.destroy(new Error(`no connection within ${bound / 1000} s`)), bound);
      session.once("connect", () => {
        clearTimeout(timer);
        resolve();
      });
      session.once("error", (error: Error) => {
        clearTimeout(timer);
        reject(error);
      });
      session.once("close", () => {
        clearTimeout(timer);
        reject(new Error("the connection was closed"));
      });
    });
    keepAlive(session, this.#times);
    return session;
  }
}

/** Who does not want the answer any more does not wait for the connection. */
function unlessEnded<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = () => reject(signal.reason);
    if (signal.aborted) end();
    signal.addEventListener("abort", end, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", end));
  });
}

function keepAlive(session: ClientHttp2Session, { ping, pong }: ConnectionTimes): void {
  const ticker = setInterval(() => {
    const timer = setTimeout(() => session.destroy(new Error(`no answer to a PING within ${pong / 1000} s`)), pong);
    timer.unref();
    try {
      session.ping(() => clearTimeout(timer));
    } catch {
      // It is closing; its end tells.
      clearTimeout(timer);
    }
  }, ping);
  ticker.unref();
  session.once("close", () => clearInterval(ticker));
}

function answerOf(stream: ClientHttp2Stream): Promise<TransportResponse> {
  return new Promise((resolve, reject) => {
    stream.once("response", (headers: IncomingHttpHeaders & { ":status"?: number }) => {
      resolve({ status: headers[":status"] ?? 0, headers, body: stream });
    });
    stream.on("error", reject);
    stream.once("close", () => reject(new Error("the connection ended before the answer")));
  });
}
