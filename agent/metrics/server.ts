/**
 * /metrics, /healthz and /readyz over HTTP or HTTPS, for Prometheus and for kubelet's probes. Whoever reaches the port may ask: requests are bounded in
 * size, number and time, and what they cost is bounded too. That the port cannot be had costs the metrics, until it can, and nothing else.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer as createTlsServer, Server as TlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import type { Faults } from "../../bgpd/faults.ts";
import { parseAddress } from "../../net/address.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import type { Problem, Reason } from "../../platform/problem.ts";
import { createServer } from "../node-http.ts";
import { type CertificatePaths, type Certificates, readCertificates, sameCertificates } from "./certificates.ts";
import type { MetricsSubject } from "./figures.ts";
import { Scraper } from "./scrape.ts";

export interface MetricsOptions {
  address: string;
  port: number;
  /** Absent: HTTP. */
  tls?: CertificatePaths;
}

export interface MetricsParts {
  clock: Clock;
  log: Logger;
  faults: Faults;
}

interface Limits {
  /** Open connections at one time: some scrapers, and kubelet's probes. One more costs whoever has most of them his oldest. */
  maxConnections: number;
  /** Milliseconds until a request must have come, and until its answer must be taken. */
  patience: number;
  /** Milliseconds between attempts to have the port. */
  retry: number;
  /** Milliseconds between looks at the certificate's files. */
  look: number;
}

const defaultLimits: Limits = { maxConnections: 32, patience: 5_000, retry: 10_000, look: 10_000 };

/** Octets of a request line with its headers. */
const MAX_HEAD = 8 * 1024;
/** Milliseconds from the begin of one scrape to that of the next, and for which it is known whether the node is ready: who asks more often waits. */
const MIN_INTERVAL = 250;

interface Answer {
  status: number;
  body: string;
  headers?: Record<string, string>;
}

export class MetricsServer {
  readonly #options: MetricsOptions;
  readonly #subject: MetricsSubject;
  readonly #parts: MetricsParts;
  readonly #limits: Limits;
  readonly #scraper: Scraper;
  #server: Server | undefined;
  /** All that are open, those in the middle of a TLS handshake included. */
  readonly #sockets = new Set<Socket>();
  #certificates: Certificates | undefined;
  #problem: Problem | undefined;
  #timer: Timer | undefined;
  #closed = false;
  /** The scrape that runs; all who ask meanwhile get its text. */
  #scraping: Promise<string> | undefined;
  #scrapedAt = Number.NEGATIVE_INFINITY;
  #readiness: { at: number; obstacle: string | undefined } | undefined;

  constructor(options: MetricsOptions, subject: MetricsSubject, parts: MetricsParts, limits: Partial<Limits> = {}) {
    this.#options = options;
    this.#subject = subject;
    this.#parts = parts;
    this.#limits = { ...defaultLimits, ...limits };
    this.#scraper = new Scraper(subject, parts.clock);
    if (!options.tls && !isLoopback(options.address))
      parts.log.warn(
        { listen: this.#place },
        "metrics are served without TLS on an address that others reach: --metrics-tls-cert and --metrics-tls-key encrypt them",
      );
    this.#open();
  }

  /** Undefined while it has no port. */
  get port(): number | undefined {
    return (this.#server?.address() as AddressInfo | null | undefined)?.port;
  }

  problems(): Problem[] {
    return this.#problem ? [this.#problem] : [];
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const closed = new Promise<void>(resolve => server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  get #place(): string {
    const { address, port } = this.#options;
    return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
  }

  #open(): void {
    if (this.#closed) return;
    const server = this.#create();
    if (server) this.#listen(server);
    else this.#later(this.#limits.retry, () => this.#open());
  }

  #listen(server: Server): void {
    server.timeout = this.#limits.patience;
    server.on("clientError", refuseUnreadable);
    server.on("connection", (socket: Socket) => this.#admit(socket));
    server.on("error", (error: NodeJS.ErrnoException) => {
      // One that listens goes on.
      if (server.listening) this.#parts.faults.note("metrics", error);
      else this.#refused(error);
    });
    server.listen({ host: this.#options.address, port: this.#options.port }, () => {
      this.#problem = undefined;
      this.#parts.log.info({ listen: this.#place, tls: this.#options.tls !== undefined }, `metrics are served on ${this.#place}`);
      if (this.#options.tls) this.#later(this.#limits.look, () => this.#lookAtCertificates());
    });
    this.#server = server;
  }

  /** Who opens more and more connections must not keep kubelet's probe out, which would end the agent. */
  #admit(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    if (this.#sockets.size <= this.#limits.maxConnections) return;
    const byAddress = Map.groupBy(this.#sockets, ({ remoteAddress = "" }) => remoteAddress);
    const [oldest] = [...byAddress.values()].reduce((most, some) => (some.length > most.length ? some : most));
    this.#sockets.delete(oldest);
    oldest.destroy();
  }

  #refused(error: NodeJS.ErrnoException): void {
    this.#server = undefined;
    const why = error.code === "EADDRINUSE" ? "another process listens there" : error.message;
    const remedy = `see who does: ss -ltnp "sport = :${this.#options.port}"; end it, or choose another --metrics-listen`;
    this.#report("ListenFailed", "--metrics-listen", `metrics are not served on ${this.#place}: ${why}`, remedy);
    this.#later(this.#limits.retry, () => this.#open());
  }

  /** Undefined: the certificate cannot be used, which is a problem. */
  #create(): Server | undefined {
    const { patience } = this.#limits;
    const bounds = {
      maxHeaderSize: MAX_HEAD,
      headersTimeout: patience,
      requestTimeout: patience,
      keepAliveTimeout: patience,
      connectionsCheckingInterval: Math.min(1_000, patience),
    };
    const handle = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
    if (!this.#options.tls) return createServer(bounds, handle);
    const certificates = this.#readCertificates();
    if (!certificates) return undefined;
    // Who has no certificate may still ask for health: kubelet's probes have none.
    const client = certificates.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: false };
    return createTlsServer({ ...bounds, ...certificates, ...client, handshakeTimeout: patience }, handle);
  }

  #readCertificates(): Certificates | undefined {
    try {
      this.#certificates = readCertificates(this.#options.tls!);
      return this.#certificates;
    } catch (error) {
      const what = this.#server ? "the certificate of before is used on" : `metrics are not served on ${this.#place}`;
      const remedy = "put a certificate and its key there, in PEM; they are looked at again and again";
      this.#report("CertificateUnusable", "--metrics-tls-cert", `${what}: ${(error as Error).message}`, remedy);
      return undefined;
    }
  }

  /** A certificate and its key are replaced one after the other: what does not fit is looked at again. */
  #lookAtCertificates(): void {
    const before = this.#certificates;
    const now = this.#readCertificates();
    if (now) this.#problem = undefined;
    if (before && now && !sameCertificates(before, now) && this.#server instanceof TlsServer) {
      this.#server.setSecureContext(now);
      this.#parts.log.info({}, "metrics are served with the new certificate");
    }
    this.#later(this.#limits.look, () => this.#lookAtCertificates());
  }

  #report(reason: Reason, field: string, message: string, remedy: string): void {
    if (this.#problem?.message !== message) this.#parts.log.error({ reason, remedy }, message);
    this.#problem = { severity: "error", reason, object: "metrics", field, message, remedy };
  }

  #later(milliseconds: number, run: () => void): void {
    this.#timer?.cancel();
    if (!this.#closed) this.#timer = this.#parts.clock.after(milliseconds, run);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let answer: Answer;
    try {
      answer = await this.#answer(request);
    } catch (error) {
      this.#parts.faults.note("metrics", error);
      answer = { status: 500, body: "a fault of podlane: see the agent's log\n" };
    }
    if (response.destroyed) return;
    response.writeHead(answer.status, {
      "content-type": "text/plain; charset=utf-8",
      "content-length": Buffer.byteLength(answer.body),
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      ...answer.headers,
    });
    response.end(request.method === "HEAD" ? undefined : answer.body);
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    if (request.method !== "GET" && request.method !== "HEAD")
      return { status: 405, body: "use GET or HEAD\n", headers: { allow: "GET, HEAD", connection: "close" } };
    if (request.headers["transfer-encoding"] !== undefined || Number(request.headers["content-length"] ?? 0) > 0)
      return { status: 413, body: "send no body\n", headers: { connection: "close" } };
    switch (request.url?.split("?")[0]) {
      case "/metrics":
        if (!this.#isAllowed(request))
          return { status: 403, body: "metrics need a client certificate of the CA of --metrics-tls-client-ca\n" };
        return { status: 200, body: await this.#scrape(), headers: { "content-type": this.#scraper.contentType } };
      case "/healthz":
        return { status: 200, body: "ok\n" };
      case "/readyz": {
        const obstacle = this.#obstacle();
        return obstacle === undefined ? { status: 200, body: "ready\n" } : { status: 503, body: `${obstacle}\n` };
      }
      default:
        return { status: 404, body: "paths: /metrics /healthz /readyz\n" };
    }
  }

  #isAllowed({ socket }: IncomingMessage): boolean {
    return this.#options.tls?.clientCa === undefined || (socket as TLSSocket).authorized;
  }

  #obstacle(): string | undefined {
    const at = this.#parts.clock.monotonic();
    if (!this.#readiness || at - this.#readiness.at >= MIN_INTERVAL) this.#readiness = { at, obstacle: this.#subject.ready() };
    return this.#readiness.obstacle;
  }

  #scrape(): Promise<string> {
    this.#scraping ??= this.#scrapeInTurn().finally(() => {
      this.#scraping = undefined;
    });
    return this.#scraping;
  }

  async #scrapeInTurn(): Promise<string> {
    const wait = this.#scrapedAt + MIN_INTERVAL - performance.now();
    if (wait > 0) await pause(wait);
    this.#scrapedAt = performance.now();
    return this.#scraper.scrape();
  }
}

function isLoopback(text: string): boolean {
  const address = parseAddress(text);
  return address.length === 4 ? address[0] === 127 : address.every((octet, at) => octet === (at === 15 ? 1 : 0));
}

/** What Node could not read as a request, or not in time, never reaches a handler. Who does not get through the TLS handshake can be told nothing. */
function refuseUnreadable({ code = "" }: Error & { code?: string }, socket: Socket): void {
  const status = unreadable[code] ?? (code.startsWith("HPE_") ? "400 Bad Request" : undefined);
  if (status === undefined || !socket.writable) socket.destroy();
  else socket.end(`HTTP/1.1 ${status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
}

const unreadable: Record<string, string> = {
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
};
