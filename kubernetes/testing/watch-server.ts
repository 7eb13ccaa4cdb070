/** Collections over real HTTP/2, in pages and by watches from a version on, for tests of what follows them; what a real server does is tested with one. */
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { ApiClient } from "../client.ts";
import { Http2Transport } from "../http2.ts";
import type { ApiObject } from "../types.ts";

interface Change {
  version: number;
  path: string;
  line: string;
}

export class WatchServer {
  /** "list /api/v1/services", "watch /api/v1/services?labelSelector=x", in their order. */
  readonly requests: string[] = [];
  /** What was asked to be changed. Nothing is: the test says what comes of it. */
  readonly patches: { path: string; body: Record<string, unknown> }[] = [];
  /** Status by path: what is asked there is refused. */
  readonly refused = new Map<string, number>();
  readonly #objects = new Map<string, ApiObject>();
  readonly #changes: Change[] = [];
  readonly #watches = new Map<ServerHttp2Stream, string>();
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #server: Http2Server = createServer();
  #version = 1;

  async start(): Promise<ApiClient> {
    this.#server.on("session", session => void this.#sessions.add(session));
    this.#server.on("stream", (stream, headers) => {
      const path = String(headers[":path"]);
      if (headers[":method"] === "PATCH") void this.#patch(stream as ServerHttp2Stream, path);
      else this.#answer(stream as ServerHttp2Stream, path);
    });
    await new Promise<void>(resolve => this.#server.listen(0, "127.0.0.1", resolve));
    const read = async () => "text";
    const { port } = this.#server.address() as AddressInfo;
    const credentials = { server: `http://127.0.0.1:${port}`, namespace: "default", certificateAuthority: read, token: read };
    return new ApiClient(new Http2Transport(credentials), "test");
  }

  async stop(): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    await new Promise(resolve => this.#server.close(resolve));
  }

  /** Paths that are watched now. */
  get watched(): string[] {
    return [...new Set(this.#watches.values())].sort();
  }

  set(path: string, object: ApiObject): void {
    const key = keyOf(path, object);
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.#tell(path, this.#objects.has(key) ? "MODIFIED" : "ADDED", stored);
    this.#objects.set(key, stored);
  }

  delete(path: string, object: ApiObject): void {
    const stored = this.#objects.get(keyOf(path, object));
    if (!stored) throw new Error(`there is no ${keyOf(path, object)}`);
    this.#objects.delete(keyOf(path, object));
    this.#tell(path, "DELETED", { ...stored, metadata: { ...stored.metadata, resourceVersion: String(++this.#version) } });
  }

  /** As when etcd is restored from a backup of the very beginning. */
  loseStore(): void {
    this.#version = 1;
    this.#objects.clear();
    this.#changes.length = 0;
    for (const stream of this.#watches.keys()) stream.close();
  }

  #tell(path: string, type: string, object: ApiObject): void {
    const change = { version: this.#version, path, line: `${JSON.stringify({ type, object })}\n` };
    this.#changes.push(change);
    for (const [stream, watched] of this.#watches) if (watched === path) stream.write(change.line);
  }

  async #patch(stream: ServerHttp2Stream, asked: string): Promise<void> {
    stream.on("error", () => {});
    const { pathname } = new URL(asked, "http://server");
    this.patches.push({ path: pathname, body: (await json(stream)) as Record<string, unknown> });
    stream.respond({ ":status": 200 });
    stream.end(JSON.stringify({ metadata: { name: "patched" } }));
  }

  #answer(stream: ServerHttp2Stream, asked: string): void {
    stream.on("error", () => {});
    const { pathname, searchParams } = new URL(asked, "http://server");
    const isWatch = searchParams.get("watch") !== null;
    const selector = searchParams.get("labelSelector");
    const answer = (status: number, body: object) => {
      stream.respond({ ":status": status });
      stream.end(JSON.stringify(body));
    };
    const refusal = this.refused.get(pathname);
    if (refusal !== undefined) answer(refusal, { reason: "Refused", message: `${pathname} is not for you` });
    else if (searchParams.get("sendInitialEvents")) answer(422, { reason: "Invalid", message: "sendInitialEvents is forbidden" });
    else {
      this.requests.push(`${isWatch ? "watch" : "list"} ${pathname}${selector === null ? "" : `?labelSelector=${selector}`}`);
      if (isWatch) this.#watch(stream, pathname, Number(searchParams.get("resourceVersion")));
      else answer(200, { metadata: { resourceVersion: String(this.#version) }, items: this.#items(pathname) });
    }
  }

  #items(path: string): ApiObject[] {
    return [...this.#objects].flatMap(([key, object]) => (key.startsWith(`${path} `) ? [object] : []));
  }

  #watch(stream: ServerHttp2Stream, path: string, from: number): void {
    stream.setTimeout(0);
    stream.respond({ ":status": 200 });
    for (const { version, path: of, line } of this.#changes) if (of === path && version > from) stream.write(line);
    this.#watches.set(stream, path);
    stream.on("close", () => void this.#watches.delete(stream));
  }
}

function keyOf(path: string, { metadata: { namespace, name } }: ApiObject): string {
  return `${path} ${namespace}/${name}`;
}
