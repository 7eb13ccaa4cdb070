/**
 * The local API: HTTP and JSON on a Unix socket that only root may open. Requests are bounded in size, time and number; whatever is
 * wrong with one is answered with a status and `{ error, remedy }`.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Logger } from "../../platform/log.ts";
import { createServer } from "../node-http.ts";
import { ApiError } from "./error.ts";
import { EventStream } from "./events.ts";
import { readBody, readQuery, readTarget } from "./request.ts";
import { type Answer, type ApiBackend, type ApiRoute, apiRoutes, json } from "./routes.ts";
import { listenOnSocket } from "./socket.ts";
import type { ErrorView } from "./views.ts";

export interface ApiServer {
  events: EventStream;
  /** Lets requests under way end for at most `milliseconds`, then closes their connections. */
  close(milliseconds: number): Promise<void>;
}

/** Throws SocketError when another agent answers on `path`. */
export async function startApi(path: string, backend: ApiBackend, log: Logger, limits: Partial<Limits> = {}): Promise<ApiServer> {
  const { maxConnections, headersTimeout, requestTimeout } = { ...defaultLimits, ...limits };
  const events = new EventStream();
  const options = {
    // The environment of a CNI call travels in headers; CNI_ARGS and paths are a few kilobytes.
    maxHeaderSize: 32 * 1024,
    headersTimeout,
    requestTimeout,
    keepAliveTimeout: 5_000,
    connectionsCheckingInterval: Math.min(1_000, headersTimeout),
  };
  const server = createServer(options, (request, response) => void answer(request, response, backend, events, log));
  server.maxConnections = maxConnections;
  server.on("drop", () => log.warn({ maxConnections }, "local API: connection refused, too many are open"));
  server.on("clientError", refuseUnreadable);
  await listenOnSocket(server, path);
  return { events, close: milliseconds => close(server, events, milliseconds) };
}

export interface Limits {
  /** Open connections at one time. A node has some hundred pods, and each may be in a CNI call. */
  maxConnections: number;
  /** Milliseconds until the headers must have come. */
  headersTimeout: number;
  /** Milliseconds until the whole request must have come. */
  requestTimeout: number;
}

const defaultLimits: Limits = { maxConnections: 512, headersTimeout: 5_000, requestTimeout: 10_000 };

async function answer(request: IncomingMessage, response: ServerResponse, backend: ApiBackend, events: EventStream, log: Logger) {
  let result: Answer;
  let headers: Record<string, string> = {};
  try {
    result = await route(request, response, backend, events);
  } catch (error) {
    if (response.destroyed) return;
    const known = error instanceof ApiError ? error : internalError(error, request, log);
    result = json({ error: known.message, remedy: known.remedy } satisfies ErrorView, known.status);
    headers = known.headers;
  }
  if (result === "answered") return;
  response.writeHead(result.status, {
    ...headers,
    "content-type": `${result.type}; charset=utf-8`,
    "content-length": Buffer.byteLength(result.body),
    "cache-control": "no-store",
  });
  response.end(request.method === "HEAD" ? undefined : result.body);
}

async function route(request: IncomingMessage, response: ServerResponse, backend: ApiBackend, events: EventStream): Promise<Answer> {
  const target = readTarget(request.url ?? "");
  const method = request.method === "HEAD" ? "GET" : request.method;
  if (target.segments.join("/") === "v1/events") {
    if (method !== "GET") throw methodNotAllowed(request, ["GET"]);
    readQuery(target.query, []);
    await readBody(request, 0);
    events.add(response);
    return "answered";
  }
  const matching = apiRoutes.flatMap(one => {
    const parameters = match(one, target.segments);
    return parameters ? [{ one, parameters }] : [];
  });
  if (matching.length === 0) {
    throw new ApiError(404, "there is no such path", `paths: ${[...apiRoutes.map(one => one.path), "/v1/events"].join(" ")}`);
  }
  const found = matching.find(({ one }) => one.method === method);
  if (!found)
    throw methodNotAllowed(
      request,
      matching.map(({ one }) => one.method),
    );
  return found.one.handle({ request, response, ...target, parameters: found.parameters }, backend);
}

/** The segments under `*`, or undefined. */
function match(route: ApiRoute, segments: readonly string[]): string[] | undefined {
  const pattern = route.path.slice(1).split("/");
  if (pattern.length !== segments.length) return undefined;
  if (!pattern.every((part, at) => part === "*" || part === segments[at])) return undefined;
  return segments.filter((_, at) => pattern[at] === "*");
}

function methodNotAllowed(request: IncomingMessage, allowed: string[]): ApiError {
  const list = allowed.join(", ");
  return new ApiError(405, `${request.method} is not possible here`, `use ${list}`, { allow: list });
}

function internalError(error: unknown, request: IncomingMessage, log: Logger): ApiError {
  log.error({ err: error, method: request.method, url: request.url }, "local API: a request failed");
  const message = error instanceof Error ? error.message : String(error);
  return new ApiError(500, message, "see the agent's log for the stack; this is a fault of podlane");
}

/** What Node could not read as a request never reaches a handler. */
function refuseUnreadable(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable) return void socket.destroy();
  const [status, phrase, remedy] = unreadable[error.code ?? ""] ?? ["400 Bad Request", "this is not an HTTP/1.1 request", "send one"];
  const body = `${JSON.stringify({ error: phrase, remedy } satisfies ErrorView)}\n`;
  const length = Buffer.byteLength(body);
  socket.end(`HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\nconnection: close\r\n\r\n${body}`);
}

const unreadable: Record<string, [status: string, error: string, remedy: string]> = {
  HPE_HEADER_OVERFLOW: ["431 Request Header Fields Too Large", "the headers have more than 32 KiB", "send fewer or shorter headers"],
  ERR_HTTP_REQUEST_TIMEOUT: ["408 Request Timeout", "the request did not come to its end in time", "send it whole"],
};

async function close(server: Server, events: EventStream, milliseconds: number): Promise<void> {
  events.close({ at: new Date().toISOString(), type: "end", text: "the agent ends" });
  const closed = new Promise<void>(resolve => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), milliseconds);
  await closed;
  clearTimeout(timer);
}
