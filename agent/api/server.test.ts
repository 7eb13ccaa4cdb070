/** Every kind of bad request, and what it gets, on a real socket. What the good ones answer is in test/agent. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { RouteFilter } from "../../bgpd/route-list.ts";
import type { NeighborSnapshot } from "../../bgpd/snapshot.ts";
import type { ApiBackend } from "./routes.ts";
import { type ApiServer, type Limits, startApi } from "./server.ts";
import type { PlanView } from "./views.ts";

let folder: string;
let path: string;
let server: ApiServer | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "podlane-api-"));
  path = join(folder, "run", "agent.sock");
});

afterEach(async () => {
  await server?.close(0);
  server = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const asked: {
  left?: boolean;
  filter?: RouteFilter;
  reset?: [string, string];
  refresh?: [string, string];
  cni?: { env: object; stdin: string };
  services?: object;
} = {};
const empty = { open: 0, update: 0, notification: 0, keepalive: 0, routeRefresh: 0 };
const neighbor: NeighborSnapshot = {
  name: "tor/a b",
  address: "192.0.2.1",
  asn: 65001,
  localAsn: 65000,
  state: "Idle",
  reason: "not started",
  since: "2026-01-01T00:00:00.000Z",
  families: {},
  counters: { messagesIn: empty, messagesOut: empty, octetsIn: 0, octetsOut: 0, connectAttempts: 0, establishedCount: 0 },
};

const planned: PlanView = {
  node: "node1",
  speaker: undefined,
  pods: { podCidrs: [], mode: "bridge", bridgeName: "podlane0", mtu: "auto", hairpin: true },
  problems: [],
  announcements: [],
};

const backend: ApiBackend = {
  status: () => {
    throw new Error("status is broken");
  },
  peers: () => [neighbor],
  routes: async filter => {
    asked.filter = filter;
    return { routes: [], total: 0 };
  },
  services: query => {
    asked.services = query;
    return { node: "node1", known: "source", announced: 0, counts: {}, services: [], total: 0 };
  },
  connection: connection => ({
    ...connection,
    allowed: true,
    egress: { allowed: true, by: "not-isolated" },
    ingress: { allowed: true, by: "not-isolated" },
  }),
  policies: async () => ({ enforced: true, policies: [] }),
  explain: prefix => ({
    prefix,
    matched: undefined,
    candidates: [],
    decision: "",
    passedOver: [],
    sent: [],
    kernel: { installed: false, text: "none", others: [] },
  }),
  problems: () => [],
  plan: () => planned,
  preview: async directory => ({ ...planned, node: directory }),
  attachments: () => [],
  cni: async call => {
    asked.cni = call;
    return { status: 200, body: '{"cniVersion":"1.0.0"}', code: 0 };
  },
  reload: async () => ({ actions: [], problems: [] }),
  refresh: (name, direction) => {
    asked.refresh = [name, direction];
  },
  leave: () => {
    asked.left = true;
  },
  reset: (name, reason) => {
    asked.reset = [name, reason];
  },
};

async function start(limits: Partial<Limits> = {}): Promise<void> {
  server = await startApi(path, backend, pino({ level: "silent" }), limits);
}

interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

function send(method: string, target: string, options: { headers?: Record<string, string>; body?: string } = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({ socketPath: path, method, path: target, headers: options.headers }, response => {
      let body = "";
      response.setEncoding("utf8").on("data", chunk => {
        body += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
    });
    outgoing.on("error", reject);
    outgoing.end(options.body);
  });
}

/** Octets to the socket as they are, and all that comes back until it closes. */
function raw(octets: string, onAnswer: () => void = () => {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => socket.write(octets));
    let answer = "";
    socket.setEncoding("utf8").on("data", chunk => {
      answer += chunk;
      onAnswer();
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
  });
}

describe("a bad request", () => {
  test.each<[string, string, number, string]>([
    ["GET", "/", 404, "there is no such path"],
    ["GET", "/v1/peers/", 404, "there is no such path"],
    ["GET", "/v1//status", 404, "there is no such path"],
    ["GET", "/v2/status", 404, "there is no such path"],
    ["DELETE", "/v1/status", 405, "DELETE is not possible here"],
    ["POST", "/v1/peers", 405, "POST is not possible here"],
    ["GET", "/v1/reload", 405, "GET is not possible here"],
    ["PUT", "/v1/events", 405, "PUT is not possible here"],
    ["GET", "/v1/%zz", 400, "the path has a percent sign that encodes nothing"],
    ["GET", "/v1/peers?all=1", 400, 'unknown parameter "all"'],
    ["GET", "/v1/services?limit=10001", 400, 'limit "10001" is not a whole number from 1 to 10000'],
    ["GET", "/v1/events?since=1", 400, 'unknown parameter "since"'],
    ["GET", "/v1/routes?limit=1&limit=2", 400, 'parameter "limit" is given twice'],
    ["GET", "/v1/routes?limit=0", 400, 'limit "0" is not a whole number from 1 to 10000'],
    ["GET", "/v1/routes?limit=1e3", 400, 'limit "1e3" is not a whole number from 1 to 10000'],
    ["GET", "/v1/routes?limit=10001", 400, 'limit "10001" is not a whole number from 1 to 10000'],
    ["GET", "/v1/routes?family=ipv5", 400, '"ipv5" is no family'],
    ["GET", "/v1/routes?prefix=10.0.0.1/8", 400, '"10.0.0.1/8" is neither a prefix nor an address'],
    ["GET", "/v1/routes?after=10.0.0.1", 400, '"10.0.0.1" is not a prefix'],
    ["GET", "/v1/routes?prefix=10.0.0.0/8&longer=yes", 400, '"yes" is no value of longer'],
    ["GET", "/v1/routes?prefix=", 400, '"" is neither a prefix nor an address'],
    ["GET", "/v1/routes?neighbor=nobody", 404, 'there is no neighbour "nobody"'],
    ["GET", "/v1/plan?config=objects", 400, '"objects" is not the path of a directory from the root'],
    ["GET", "/v1/explain", 400, 'parameter "prefix" is missing'],
    ["GET", "/v1/explain?prefix=fe80::1%25eth0", 400, '"fe80::1%eth0" is neither a prefix nor an address'],
    ["POST", "/v1/peers/nobody/reset", 404, 'there is no neighbour "nobody"'],
    ["POST", "/v1/peers/tor%2Fa%20b/refresh?direction=sideways", 400, '"sideways" is no direction'],
    ["POST", `/v1/peers/tor%2Fa%20b/reset?reason=${"x".repeat(256)}`, 400, "the reason has more than 255 octets"],
    ["GET", `/v1/routes?prefix=${"1".repeat(2048)}`, 414, "the request target has more than 2048 octets"],
    ["GET", "/v1/status", 500, "status is broken"],
  ])("%s %s", async (method, target, status, error) => {
    await start();
    const reply = await send(method, target);
    expect(reply.status).toBe(status);
    expect(reply.headers["content-type"]).toBe("application/json; charset=utf-8");
    const view = JSON.parse(reply.body);
    expect(view.error).toBe(error);
    expect(view.remedy).toMatch(/\S/);
  });

  test("405 says what is allowed", async () => {
    await start();
    expect((await send("PATCH", "/v1/reload")).headers.allow).toBe("POST");
  });

  test("a body where none is taken, with and without a length", async () => {
    await start();
    expect((await send("POST", "/v1/reload", { body: "{}" })).status).toBe(413);
    expect((await send("GET", "/v1/peers", { body: "{}", headers: { "transfer-encoding": "chunked" } })).status).toBe(413);
  });

  test("a bad CNI call is told so in CNI's form", async () => {
    await start();
    const long = await send("POST", "/v1/cni", { body: "a".repeat(1_100_000) });
    expect([long.status, JSON.parse(long.body)]).toMatchObject([400, { code: 6, msg: expect.stringContaining("longer than") }]);
    const percent = await send("POST", "/v1/cni", { headers: { "X-Cni-Args": "50%" } });
    expect([percent.status, JSON.parse(percent.body)]).toMatchObject([400, { code: 4, msg: expect.stringContaining("percent-encoded") }]);
  });

  test("what is not HTTP", async () => {
    await start();
    const answer = await raw("hello\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1.1 400 /);
    expect(answer).toContain("this is not an HTTP/1.1 request");
  });

  test("headers beyond 32 KiB", async () => {
    await start();
    const answer = await raw(`GET /healthz HTTP/1.1\r\nx-long: ${"a".repeat(40_000)}\r\n\r\n`).catch(error => String(error));
    expect(answer).toMatch(/^HTTP\/1.1 431 /);
    expect(answer).toContain("the headers have more than 32 KiB");
  });

  test("headers that never end", async () => {
    await start({ headersTimeout: 100, requestTimeout: 200 });
    const answer = await raw("GET /healthz HTTP/1.1\r\nhost: a\r\n");
    expect(answer).toMatch(/^HTTP\/1.1 408 /);
    expect(answer).toContain("did not come to its end in time");
  });

  test("a connection too many is closed, and the others are served", async () => {
    await start({ maxConnections: 1 });
    const first = connect(path);
    await new Promise(resolve => first.once("connect", resolve));
    await expect(send("GET", "/healthz")).rejects.toThrow(/socket hang up|ECONNRESET|EPIPE/);
    const answer = new Promise<string>(resolve => first.setEncoding("utf8").once("data", resolve));
    first.write("GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    expect(await answer).toMatch(/^HTTP\/1.1 200 /);
    first.destroy();
  });
});

describe("a good request", () => {
  test("passes its parameters on", async () => {
    await start();
    await send("GET", "/v1/routes?prefix=10.0.0.0/8&family=ipv4-unicast&neighbor=tor/a%20b&limit=7");
    expect(asked.filter).toEqual({ prefix: "10.0.0.0/8", family: "ipv4-unicast", neighbor: "tor/a b", limit: 7 });
    await send("GET", "/v1/routes");
    expect(asked.filter).toEqual({ limit: 100 });
    await send("GET", "/v1/services?name=shop/web&namespace=shop&limit=7&after=shop/a");
    expect(asked.services).toEqual({ name: "shop/web", namespace: "shop", limit: 7, after: "shop/a" });
    await send("GET", "/v1/services");
    expect(asked.services).toEqual({ limit: 100 });
    expect((await send("POST", "/v1/peers/tor%2Fa%20b/reset?reason=new%20cable")).status).toBe(200);
    expect(asked.reset).toEqual(["tor/a b", "new cable"]);
    expect((await send("POST", "/v1/peers/tor%2Fa%20b/refresh?direction=out")).status).toBe(200);
    expect(asked.refresh).toEqual(["tor/a b", "out"]);
    expect((await send("POST", "/v1/leave")).status).toBe(200);
    expect(asked.left).toBe(true);
  });

  test("turns X-Cni headers into the environment", async () => {
    await start();
    const headers = { "X-Cni-Command": "ADD", "X-Cni-Netns": "/run/netns/a%20b", "X-Cni-Args": "K=%C3%BC", "X-Other": "no" };
    const reply = await send("POST", "/v1/cni", { headers, body: '{"name":"ü"}' });
    expect(reply.body).toBe('{"cniVersion":"1.0.0"}');
    expect(asked.cni).toEqual({ env: { CNI_COMMAND: "ADD", CNI_NETNS: "/run/netns/a b", CNI_ARGS: "K=ü" }, stdin: '{"name":"ü"}' });
  });

  test("HEAD is GET without the body", async () => {
    await start();
    const reply = await send("HEAD", "/healthz");
    expect([reply.status, reply.headers["content-length"], reply.body]).toEqual([200, "3", ""]);
  });

  test("events come as lines until the server closes; a seventeenth client is refused", async () => {
    await start();
    const texts: Promise<string>[] = [];
    for (let clients = 0; clients < 16; clients++) {
      await new Promise<void>(accepted => texts.push(raw("GET /v1/events HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", accepted)));
    }
    expect((await send("GET", "/v1/events")).status).toBe(503);
    server!.events.publish({ at: "2026-01-01T00:00:00.000Z", type: "session", text: "tor-a is up" });
    await server!.close(1000);
    server = undefined;
    for (const text of await Promise.all(texts)) {
      expect(text).toContain('"text":"tor-a is up"}\n');
      expect(text).toContain('"type":"end","text":"the agent ends"}\n');
    }
  });
});

describe("the socket", () => {
  test("is for its owner only, in a folder for its owner only", async () => {
    await start();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder, "run")).mode & 0o777).toBe(0o700);
  });

  test("a living agent's is not taken", async () => {
    await start();
    await expect(startApi(path, backend, pino({ level: "silent" }))).rejects.toThrow(`another agent answers on ${path}`);
    expect((await send("GET", "/healthz")).status).toBe(200);
  });

  test("a dead agent's is taken over", async () => {
    path = join(folder, "agent.sock");
    const dying = spawn(process.execPath, [
      "-e",
      `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`,
    ]);
    await once(dying, "exit");
    expect(existsSync(path)).toBe(true);
    await start();
    expect((await send("GET", "/healthz")).status).toBe(200);
  });

  test("another file is not removed", async () => {
    path = join(folder, "agent.sock");
    writeFileSync(path, "precious");
    await expect(start()).rejects.toThrow(`${path} exists and is not a socket`);
    expect(existsSync(path)).toBe(true);
  });

  test("a path too long for the kernel is refused in words", async () => {
    path = join(folder, "a".repeat(120));
    await expect(start()).rejects.toThrow("at most 107 octets");
  });
});
