/** Against a server that answers as told, over real HTTP/2: what servers, proxies and networks do to a watch. */
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { systemClock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { ApiClient } from "./client.ts";
import { Http2Transport } from "./http2.ts";
import { ListWatch } from "./list-watch.ts";

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

interface Request {
  query: URLSearchParams;
  stream: ServerHttp2Stream;
  /** Sends one event of a watch. */
  event(type: string, name: string, version: string, more?: object): void;
  answer(status: number, body: unknown, headers?: object): void;
}

let server: Http2Server;
let sessions: ServerHttp2Session[];
let requests: Request[];
/** Of the client's pauses, which last no time here. */
let pauses: number[];
let said: string[];
let watch: ListWatch;
let client: ApiClient;

beforeEach(async () => {
  [sessions, requests, pauses, said] = [[], [], [], []];
  server = createServer();
  server.on("session", session => void sessions.push(session));
  server.on("stream", (given, headers) => {
    const stream = given as ServerHttp2Stream;
    stream.on("error", () => {});
    const url = new URL(headers[":path"] as string, "http://server");
    const event = (type: string, name: string, resourceVersion: string, more = {}) =>
      void stream.write(`${JSON.stringify({ type, object: { metadata: { name, resourceVersion, ...more } } })}\n`);
    const answer = (status: number, body: unknown, extra = {}) => {
      stream.respond({ ":status": status, ...extra });
      stream.end(typeof body === "string" ? body : JSON.stringify(body));
    };
    if (url.searchParams.get("watch")) stream.setTimeout(0);
    requests.push({ query: url.searchParams, stream, event, answer });
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  open((server.address() as AddressInfo).port);
});

afterEach(async () => {
  await watch.close();
  client.close();
  for (const session of sessions) session.destroy();
  await new Promise(resolve => server.close(resolve));
});

function open(port: number, times?: ConstructorParameters<typeof Http2Transport>[1]): void {
  const read = async () => "text";
  const credentials = { server: `http://127.0.0.1:${port}`, namespace: "default", certificateAuthority: read, token: read };
  client = new ApiClient(new Http2Transport(credentials, times), "test");
  const clock = {
    ...systemClock,
    after(milliseconds: number, run: () => void) {
      pauses.push(milliseconds);
      return systemClock.after(0, run);
    },
  };
  watch = new ListWatch(
    { path: "/things", name: "things" },
    { client, clock, log: quiet, random: () => 0.5 },
    {
      set: ({ metadata }) => void said.push(`+${metadata.name}`),
      delete: key => void said.push(`-${key}`),
      settled() {},
    },
  );
}

const next = (at: number) => vi.waitFor(() => requests[at] ?? Promise.reject(new Error(`no request ${at}`)), { interval: 5 });
const saying = (...words: string[]) => expect.poll(() => said, { interval: 5 }).toEqual(words);

/** Things `names` are there as of `version`, by the way that old servers have. */
async function listed(names: string[], version: string, from = 0): Promise<Request> {
  const first = await next(from);
  if (first.query.get("sendInitialEvents")) {
    first.answer(422, { reason: "Invalid", message: "sendInitialEvents is forbidden" });
    return listed(names, version, from + 1);
  }
  const items = names.map(name => ({ metadata: { name, resourceVersion: "1" } }));
  first.answer(200, { metadata: { resourceVersion: version }, items });
  const following = await next(from + 1);
  expect(following.query.get("resourceVersion")).toBe(version);
  following.stream.respond({ ":status": 200 });
  return following;
}

/** Says that the store is still the one of `version`, and returns the watch that goes on. */
async function sameStore(version: string, at: number): Promise<Request> {
  const asked = await next(at);
  expect(asked.query.get("limit")).toBe("1");
  asked.answer(200, { metadata: { resourceVersion: version }, items: [] });
  return next(at + 1);
}

describe("a watch", () => {
  test("begins with what is there, as events", async () => {
    watch.start();
    const { query, stream, event } = await next(0);
    expect(Object.fromEntries(query)).toMatchObject({
      sendInitialEvents: "true",
      resourceVersionMatch: "NotOlderThan",
      allowWatchBookmarks: "true",
    });
    stream.respond({ ":status": 200 });
    event("ADDED", "a", "3");
    event("ADDED", "b", "4");
    await saying("+a", "+b");
    expect(watch.synced).toBe(false);
    event("BOOKMARK", "", "9", { annotations: { "k8s.io/initial-events-end": "true" } });
    await expect.poll(() => watch.synced).toBe(true);
    stream.end();
    // It ended at once, which is no good reason to begin at once.
    expect((await sameStore("9", 1)).query.get("resourceVersion")).toBe("9");
    expect(pauses).toEqual([750]);
  });

  test("begins with pages where the server does not know that", async () => {
    watch.start();
    (await next(0)).answer(422, { reason: "Invalid", message: "sendInitialEvents is forbidden" });
    const first = await next(1);
    expect(first.query.get("limit")).toBe("500");
    first.answer(200, { metadata: { resourceVersion: "7", continue: "more" }, items: [{ metadata: { name: "a", resourceVersion: "1" } }] });
    const second = await next(2);
    expect(second.query.get("continue")).toBe("more");
    second.answer(200, { metadata: { resourceVersion: "7" }, items: [{ metadata: { name: "b", resourceVersion: "2" } }] });
    expect((await next(3)).query.get("resourceVersion")).toBe("7");
    expect(said).toEqual(["+a", "+b"]);
  });

  test("whose page expired is begun anew, and nothing is lost or said twice", async () => {
    watch.start();
    (await next(0)).answer(400, { reason: "BadRequest", message: "no such parameter" });
    (await next(1)).answer(200, {
      metadata: { resourceVersion: "7", continue: "more" },
      items: [{ metadata: { name: "a", resourceVersion: "1" } }],
    });
    (await next(2)).answer(410, { reason: "Expired", message: "The provided continue parameter is too old" });
    await listed(["a", "b"], "9", 3);
    expect(said).toEqual(["+a", "+b"]);
  });

  test("that broke in the middle of an event goes on where it was", async () => {
    watch.start();
    const { stream, event } = await listed(["a"], "5");
    event("ADDED", "b", "6");
    await saying("+a", "+b");
    stream.write('{"type":"ADDED","object":{"metadata":{"name":"c"');
    stream.close(2);
    expect((await sameStore("7", 3)).query.get("resourceVersion")).toBe("6");
    expect(said).toEqual(["+a", "+b"]);
  });

  test.each<[string, (request: Request) => void]>([
    [
      "in an event",
      ({ stream }) =>
        stream.write(
          `${JSON.stringify({ type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" } })}\n`,
        ),
    ],
    ["in an event without metadata", ({ stream }) => stream.write('{"type":"ERROR","object":{"code":410}}\n')],
  ])("that is too old, said %s, lists again, and misses no deletion", async (_, expire) => {
    watch.start();
    const request = await listed(["a", "b"], "5");
    expire(request);
    await listed(["b", "c"], "50", 3);
    expect(said).toEqual(["+a", "+b", "+c", "-a"]);
    expect(watch.failed).toBeUndefined();
  });

  test("that is too old again as soon as it was listed is begun anew after a pause", async () => {
    watch.start();
    const expire = ({ stream }: Request) => stream.write('{"type":"ERROR","object":{"code":410}}\n');
    expire(await listed(["a"], "5"));
    expire(await listed(["a"], "6", 3));
    expect(pauses).toEqual([]);
    expire(await listed(["a"], "7", 5));
    const { event } = await listed(["a"], "8", 7);
    expect(pauses).toHaveLength(2);
    event("ADDED", "b", "9");
    await saying("+a", "+b");
  });

  test("that is too old, said by its status, lists again", async () => {
    watch.start();
    const { stream } = await listed(["a"], "5");
    stream.end();
    (await sameStore("5", 3)).answer(410, { reason: "Gone", message: "too old" });
    await listed([], "50", 5);
    expect(said).toEqual(["+a", "-a"]);
  });

  test("of a store that was emptied deletes nothing until it is asked to list again", async () => {
    watch.start();
    const { stream } = await listed(["a", "b"], "500");
    stream.write(`${JSON.stringify({ type: "ERROR", object: { code: 410, message: "too old" } })}\n`);
    (await next(3)).answer(200, { metadata: { resourceVersion: "20" }, items: [{ metadata: { name: "c", resourceVersion: "1" } }] });
    // Again, as versions of that store are those of other objects.
    const again = await listed(["b", "c"], "21", 4);
    await saying("+a", "+b", "+c", "+b", "+c");
    expect([...watch.missing]).toEqual(["a"]);
    again.event("DELETED", "b", "22");
    again.event("ADDED", "d", "23");
    await saying("+a", "+b", "+c", "+b", "+c", "-b", "+d");
    watch.relist();
    await listed(["c", "d"], "24", 6);
    await expect.poll(() => [...watch.missing]).toEqual([]);
    expect(said.slice(7)).toEqual(["+d", "-a"]);
  });

  test("keeps objects of one name apart by their namespaces, in events as in lists", async () => {
    watch.start();
    (await next(0)).answer(422, { reason: "Invalid", message: "sendInitialEvents is forbidden" });
    const of = (namespace: string, resourceVersion: string) => ({ metadata: { namespace, name: "web", resourceVersion } });
    (await next(1)).answer(200, { metadata: { resourceVersion: "7" }, items: [of("a", "5"), of("b", "5"), of("c", "5")] });
    const { event, stream } = await next(2);
    event("DELETED", "web", "8", { namespace: "b" });
    await saying("+web", "+web", "+web", "-b/web");
    stream.write('{"type":"ERROR","object":{"code":410}}\n');
    (await next(3)).answer(200, { metadata: { resourceVersion: "9" }, items: [of("c", "5")] });
    await saying("+web", "+web", "+web", "-b/web", "-a/web");
    (await next(4)).stream.write('{"type":"ERROR","object":{"code":410}}\n');
    (await next(5)).answer(200, { metadata: { resourceVersion: "4" }, items: [] });
    await expect.poll(() => [...watch.missing]).toEqual(["c/web"]);
  });

  test("that was lost asks first whether the store is still the same", async () => {
    watch.start();
    const { stream } = await listed(["a"], "500");
    stream.end();
    (await next(3)).answer(503, "starting");
    (await next(4)).answer(200, { metadata: { resourceVersion: "20" }, items: [] });
    (await next(5)).answer(200, { metadata: { resourceVersion: "20" }, items: [{ metadata: { name: "b", resourceVersion: "10" } }] });
    await listed(["b"], "20", 6);
    expect([...watch.missing]).toEqual(["a"]);
    expect(said).toEqual(["+a", "+b", "+b"]);
  });

  test("that hears of an older version than it knows lists again", async () => {
    watch.start();
    const { event } = await listed(["a"], "500");
    event("MODIFIED", "a", "30");
    (await next(3)).answer(200, { metadata: { resourceVersion: "30" }, items: [{ metadata: { name: "a", resourceVersion: "30" } }] });
    await listed(["a"], "30", 4);
    await saying("+a", "+a", "+a");
  });

  test.each<[string, string | Buffer]>([
    ["no JSON", "<html>\n"],
    ["JSON that is no event", "[1]\n"],
    ["null", "null\n"],
    ["an object without metadata", '{"type":"ADDED","object":{"name":"x"}}\n'],
    ["a line without an end", Buffer.alloc((8 << 20) + 2, 32)],
  ])("that says %s is begun anew after a pause", async (_, octets) => {
    watch.start();
    const { stream } = await listed(["a"], "5");
    stream.write(octets);
    expect((await sameStore("5", 3)).query.get("resourceVersion")).toBe("5");
    expect(pauses).toHaveLength(1);
    expect(said).toEqual(["+a"]);
  });

  test("pauses longer with each failure, at most half a minute, and as long as the server asks", async () => {
    watch.start();
    for (let at = 0; at < 12; at++) (await next(at)).answer(502, `<html>${"x".repeat(10_000)}`);
    (await next(12)).answer(429, { reason: "TooManyRequests", message: "later" }, { "retry-after": "45" });
    await next(13);
    expect(pauses.slice(0, 3)).toEqual([750, 1500, 3000]);
    expect(pauses[11]).toBe(22_500);
    expect(pauses[12]).toBe(45_000 + 7_500);
    expect(watch.failed?.error.message.length).toBeLessThan(300);
    await listed(["a"], "5", 13);
    expect(watch.failed).toBeUndefined();
  });

  test("that is silent for longer than it may be is dead", async () => {
    const signal = new AbortController().signal;
    const silent = client.watch("/things", { query: {}, signal, idle: 50, event() {} });
    (await next(0)).stream.respond({ ":status": 200 });
    await expect(silent).rejects.toThrow("the watch was silent for 0.05 s");
  });

  test("goes on over another connection when the server leaves this one", async () => {
    watch.start();
    const { stream } = await listed(["a"], "5");
    sessions[0].goaway();
    stream.end();
    await sameStore("5", 3);
    expect(sessions).toHaveLength(2);
  });
});

describe("a connection", () => {
  let dead: Server;
  const sockets: Socket[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
    dead?.close();
  });

  test("to a host that accepts and says nothing is given up", async () => {
    dead = createTcpServer(socket => void sockets.push(socket.on("error", () => {})));
    await new Promise<void>(resolve => dead.listen(0, "127.0.0.1", resolve));
    await watch.close();
    client.close();
    open((dead.address() as AddressInfo).port, { ping: 20, pong: 20, connect: 1000 });
    watch.start();
    await expect.poll(() => watch.failed?.error.message, { timeout: 5000 }).toBeDefined();
    expect(watch.failed?.error.status).toBe(0);
    expect(sockets.length).toBeGreaterThan(0);
  });
});
