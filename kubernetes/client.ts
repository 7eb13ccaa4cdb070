/**
 * The API server as podlane uses it: read, watch, server-side apply, create. Every answer is bounded in octets and time, and every failure is an ApiError with
 * what the server said.
 */
import {
  ApiError,
  type ApiList,
  type ApiObject,
  type Transport,
  type TransportRequest,
  type TransportResponse,
  type WatchEvent,
} from "./types.ts";

/** metadata.managedFields of all that we write. */
const FIELD_MANAGER = "podlane";

const METADATA = { accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" };

/** Milliseconds for an answer that is no watch. */
const REQUEST_TIMEOUT = 30_000;
/** Octets: a page of 500 objects at etcd's 1.5 MiB each would be more, and is none of ours. */
const MAX_ANSWER = 128 << 20;
/** Octets of one event of a watch: etcd's bound, with room for JSON. */
const MAX_LINE = 8 << 20;

export interface Query {
  [name: string]: string | number | boolean | undefined;
}

export interface WatchOptions {
  query: Query;
  signal: AbortSignal;
  /** Milliseconds without any octet after which the watch is taken for dead. */
  idle: number;
  /** The server has accepted the watch. */
  opened?(): void;
  event(event: WatchEvent): void;
}

export class ApiClient {
  readonly #transport: Transport;
  readonly #headers: Record<string, string>;
  #requests = 0;

  /** `version`: of podlane, for the server's audit log. */
  constructor(transport: Transport, version: string) {
    this.#transport = transport;
    this.#headers = { accept: "application/json", "user-agent": `podlane/${version}` };
  }

  get server(): string {
    return this.#transport.server;
  }

  /** How many were sent, watches included. */
  get requests(): number {
    return this.#requests;
  }

  async get(path: string, query: Query = {}): Promise<ApiObject> {
    return (await this.#call("GET", path, query)) as ApiObject;
  }

  /** "metadata": without spec and status, as PartialObjectMetadata. */
  async list(path: string, query: Query, what: "objects" | "metadata" = "objects", signal?: AbortSignal): Promise<ApiList> {
    const accept = what === "metadata" ? METADATA : {};
    const list = (await this.#call("GET", path, query, undefined, accept, signal)) as Partial<ApiList> | null;
    if (!Array.isArray(list?.items) || typeof list.metadata !== "object") throw new ApiError(0, "Malformed", "the answer is no list");
    return { metadata: list.metadata, items: list.items };
  }

  /** Server-side apply: what we said before and do not say any more is removed. `force`: others gave these fields values, and they are ours. */
  async apply(path: string, object: ApiObject, query: Query = {}): Promise<ApiObject> {
    const all = { fieldManager: FIELD_MANAGER, force: true, ...query };
    return (await this.#call("PATCH", path, all, { type: "application/apply-patch+yaml", value: object })) as ApiObject;
  }

  /** `application/strategic-merge-patch+json` knows lists by key, such as conditions by type; custom resources do not have it. */
  async patch(path: string, type: "merge-patch" | "strategic-merge-patch", value: object): Promise<ApiObject> {
    return (await this.#call("PATCH", path, { fieldManager: FIELD_MANAGER }, { type: `application/${type}+json`, value })) as ApiObject;
  }

  async create(path: string, value: object): Promise<ApiObject> {
    return (await this.#call("POST", path, { fieldManager: FIELD_MANAGER }, { type: "application/json", value })) as ApiObject;
  }

  /** With the resourceVersion that was read: refused with 409 where somebody else was faster. */
  async replace(path: string, value: object): Promise<ApiObject> {
    return (await this.#call("PUT", path, { fieldManager: FIELD_MANAGER }, { type: "application/json", value })) as ApiObject;
  }

  /** With `preconditions`: refused with 409 where it is another object by now, or another version of it. */
  async delete(path: string, preconditions?: { uid: string; resourceVersion: string }): Promise<void> {
    const options = preconditions && { kind: "DeleteOptions", apiVersion: "v1", preconditions };
    await this.#call("DELETE", path, {}, options && { type: "application/json", value: options });
  }

  /** Resolves when the server ends the watch, as it does after timeoutSeconds; rejects when it breaks or is silent. */
  async watch(path: string, { query, signal, idle, opened, event }: WatchOptions): Promise<void> {
    const abort = new AbortController();
    const end = () => abort.abort(signal.reason);
    signal.addEventListener("abort", end, { once: true });
    let timer: NodeJS.Timeout | undefined;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(new ApiError(0, "Silent", `the watch was silent for ${idle / 1000} s`)), idle);
    };
    try {
      signal.throwIfAborted();
      alive();
      const response = await this.#send({
        method: "GET",
        path: withQuery(path, { ...query, watch: true }),
        headers: {},
        signal: abort.signal,
      });
      if (response.status !== 200) throw refusal(response, await readAll(response.body));
      opened?.();
      for await (const line of lines(response.body, alive)) event(readEvent(line));
    } catch (error) {
      throw abort.signal.aborted ? abort.signal.reason : asApiError(error);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      abort.abort();
    }
  }

  close(): void {
    this.#transport.close();
  }

  async #call(
    method: TransportRequest["method"],
    path: string,
    query: Query,
    body?: { type: string; value: object },
    accept: Record<string, string> = {},
    ended?: AbortSignal,
  ): Promise<unknown> {
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT);
    const signal = ended ? AbortSignal.any([timeout, ended]) : timeout;
    try {
      const headers = body ? { ...accept, "content-type": body.type } : accept;
      const text = body && JSON.stringify(body.value);
      const response = await this.#send({ method, path: withQuery(path, query), headers, body: text, signal });
      const answer = await readAll(response.body);
      if (response.status >= 300) throw refusal(response, answer);
      return JSON.parse(answer);
    } catch (error) {
      if (ended?.aborted) throw ended.reason;
      throw timeout.aborted ? new ApiError(0, "Timeout", `no answer within ${REQUEST_TIMEOUT / 1000} s`) : asApiError(error);
    }
  }

  #send(request: TransportRequest): Promise<TransportResponse> {
    this.#requests++;
    return this.#transport.send({ ...request, headers: { ...this.#headers, ...request.headers } });
  }
}

function withQuery(path: string, query: Query): string {
  const entries = Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]));
  return entries.length > 0 ? `${path}?${new URLSearchParams(entries)}` : path;
}

async function readAll(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of body) {
    total += chunk.length;
    if (total > MAX_ANSWER) throw new ApiError(0, "TooLarge", `the answer has more than ${MAX_ANSWER} octets`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, total).toString("utf8");
}

/** Lines without their ends. An event may come in many chunks, and a chunk may hold many events. */
async function* lines(body: AsyncIterable<Uint8Array>, alive: () => void): AsyncGenerator<string> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    alive();
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, end));
      const line = Buffer.concat(parts).toString("utf8");
      parts = [];
      length = 0;
      start = end + 1;
      if (line.trim() !== "") yield line;
    }
    if (start === chunk.length) continue;
    parts.push(chunk.subarray(start));
    length += chunk.length - start;
    if (length > MAX_LINE) throw new ApiError(0, "TooLarge", `an event has more than ${MAX_LINE} octets`);
  }
}

function readEvent(line: string): WatchEvent {
  const value = JSON.parse(line) as Partial<WatchEvent> | null;
  const { type, object } = value ?? {};
  if (type === undefined || typeof object !== "object" || object === null)
    throw new ApiError(0, "Malformed", "what the watch sent is no event");
  if (type !== "ERROR" && typeof object.metadata !== "object") throw new ApiError(0, "Malformed", "an object of the watch has no metadata");
  return { type, object };
}

/** What metav1.Status says, or the text of whoever answered in the server's place. */
function refusal({ status, headers }: TransportResponse, text: string): ApiError {
  const seconds = Number(headers["retry-after"]);
  const retryAfter = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 60) * 1000 : undefined;
  let said: { reason?: unknown; message?: unknown } = {};
  try {
    said = JSON.parse(text);
  } catch {
    // A proxy's page.
  }
  const reason = typeof said?.reason === "string" ? said.reason : "";
  const message = typeof said?.message === "string" ? said.message : text.slice(0, 200);
  return new ApiError(status, reason, `${status} ${message}`.trim(), retryAfter);
}

function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const { message, code } = error as NodeJS.ErrnoException;
  return new ApiError(0, code ?? "", message || code || String(error));
}
