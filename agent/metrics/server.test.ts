/** The server itself, on loopback: who asks, how much, how long, and with which certificate. */
import { once } from "node:events";
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Faults } from "../../bgpd/faults.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import type { MetricsSubject } from "./figures.ts";
import { type MetricsOptions, MetricsServer } from "./server.ts";
import { ask, certificates, subject } from "./testing.ts";

const within = { timeout: 10_000, interval: 20 };
let server: MetricsServer | undefined;
let logged: string[] = [];
const write = (_fields: object, text: string) => void logged.push(text);
const log: Logger = { debug: write, info: write, warn: write, error: write, child: () => log };
const faults = new Faults(systemClock, log);

afterEach(async () => {
  await server?.close();
  server = undefined;
  logged = [];
});

async function start(
  options: Partial<MetricsOptions> = {},
  change: Partial<MetricsSubject> = {},
  limits: ConstructorParameters<typeof MetricsServer>[3] = {},
): Promise<number> {
  server = new MetricsServer(
    { address: "127.0.0.1", port: 0, ...options },
    await subject(change),
    { clock: systemClock, log, faults },
    limits,
  );
  await expect.poll(() => server?.port, within).toBeGreaterThan(0);
  return server.port!;
}

describe("over HTTP", () => {
  it("gives metrics, health and readiness, and nothing else", async () => {
    let obstacle: string | undefined = "no pod CIDR is assigned to this node yet";
    const port = await start({}, { ready: () => obstacle });
    const metrics = await ask(port, "/metrics?name=x");
    expect(metrics.status).toBe(200);
    expect(metrics.headers["content-type"]).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(metrics.text).toContain('podlane_build_info{version="1.2.3"');
    expect(await ask(port, "/healthz")).toMatchObject({ status: 200, text: "ok\n" });
    expect(await ask(port, "/readyz")).toMatchObject({ status: 503, text: `${obstacle}\n` });
    obstacle = undefined;
    await expect.poll(async () => (await ask(port, "/readyz")).status, within).toBe(200);
    expect(await ask(port, "/")).toMatchObject({ status: 404, text: "paths: /metrics /healthz /readyz\n" });
    expect(await ask(port, "/metrics", { method: "HEAD" })).toMatchObject({ status: 200, text: "" });
  });

  it("takes no other method and no body", async () => {
    const port = await start();
    expect(await ask(port, "/metrics", { method: "POST", body: "x" })).toMatchObject({ status: 405, headers: { allow: "GET, HEAD" } });
    expect(await ask(port, "/metrics", { headers: { "content-length": 1 }, body: "x" })).toMatchObject({ status: 413 });
    expect(await ask(port, "/metrics", { headers: { "transfer-encoding": "chunked" }, body: "x" })).toMatchObject({ status: 413 });
  });

  it.each<[string, string, RegExp]>([
    ["no HTTP", "\u0000\u0001\u0002\r\n\r\n", /^HTTP\/1\.1 400 /],
    ["the begin of TLS", "\u0016\u0003\u0001\u0002\u0000", /^HTTP\/1\.1 400 /],
    ["headers without end", `GET / HTTP/1.1\r\nhost: x\r\nx: ${"a".repeat(100_000)}`, /^(HTTP\/1\.1 431 |$)/],
    ["two lengths", "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: 1\r\n\r\n", /^HTTP\/1\.1 400 /],
    ["no host", "GET /healthz HTTP/1.1\r\n\r\n", /^HTTP\/1\.1 400 /],
    ["a whole URL", "GET http://other/healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", /^HTTP\/1\.1 404 /],
    ["percent signs", "GET /%zz%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", /^HTTP\/1\.1 404 /],
    ["CONNECT", "CONNECT 192.0.2.1:80 HTTP/1.1\r\nhost: x\r\n\r\n", /^(HTTP\/1\.1 4|$)/],
    ["an upgrade", "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n\r\n", /^HTTP\/1\.1 200 /],
  ])("survives %s", async (_what, octets, answer) => {
    const port = await start();
    expect(await raw(port, octets)).toMatch(answer);
    expect((await ask(port, "/healthz")).status).toBe(200);
    expect(faults.snapshot()).toBeUndefined();
  });

  it("closes who says nothing, and who sends slowly", async () => {
    const port = await start({}, {}, { patience: 300 });
    for (const octets of ["", "GET /metrics HTTP/1.1\r\nhost"]) expect(await raw(port, octets)).toMatch(/^(HTTP\/1\.1 408 |$)/);
  });

  it("closes who does not read its answer", async () => {
    const big = { ...(await subject()).figures(), version: "x".repeat(30_000_000) };
    const port = await start({}, { figures: () => big }, { patience: 300 });
    const deaf = connect(port, "127.0.0.1", () => deaf.write("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"));
    const closed = new Promise(resolve => deaf.on("error", () => {}).once("close", resolve));
    deaf.pause();
    await new Promise(resolve => deaf.once("connect", resolve));
    await expect.poll(() => isOpenFor(deaf.localPort!), within).toBe(false);
    deaf.resume();
    await closed;
    expect(deaf.bytesRead).toBeLessThan(30_000_000);
  });

  it("has room for so many connections: one more costs the oldest of whoever has most", async () => {
    const port = await start({}, {}, { maxConnections: 4 });
    const open = (localAddress: string) => {
      const socket = connect({ port, host: "127.0.0.1", localAddress });
      const closed = new Promise(resolve => socket.on("error", () => {}).once("close", resolve));
      return new Promise<{ socket: Socket; closed: Promise<unknown> }>(resolve =>
        socket.once("connect", () => resolve({ socket, closed })),
      );
    };
    const prober = await open("127.0.0.2");
    const crowd = [];
    for (let n = 0; n < 20; n++) crowd.push(await open("127.0.0.3"));
    await Promise.all(crowd.slice(0, 17).map(({ closed }) => closed));
    expect(await ask(port, "/healthz")).toMatchObject({ status: 200 });
    prober.socket.write("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    const [answer] = (await once(prober.socket, "data")) as [Buffer];
    expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /);
    for (const { socket } of [prober, ...crowd]) socket.destroy();
  });

  it("scrapes once for all who ask at a time", async () => {
    let count = 0;
    const made = (await subject()).figures();
    const port = await start(
      {},
      {
        figures: () => {
          count++;
          return made;
        },
      },
    );
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(port, "/metrics")));
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
    expect(count).toBeLessThan(20);
  });

  it("answers 500 where asking the agent throws, and notes it as a fault", async () => {
    const noted = new Faults(systemClock, log);
    const broken = await subject({
      figures: () => {
        throw new Error("for the test");
      },
    });
    server = new MetricsServer({ address: "127.0.0.1", port: 0 }, broken, { clock: systemClock, log, faults: noted });
    await expect.poll(() => server?.port, within).toBeGreaterThan(0);
    expect((await ask(server.port!, "/metrics")).status).toBe(500);
    expect((await ask(server.port!, "/healthz")).status).toBe(200);
    expect(noted.snapshot()).toMatchObject({ byPlace: { metrics: 1 } });
  });

  it("says that others can read along where the address is not loopback", async () => {
    await start({ address: "0.0.0.0" });
    expect(logged.join("\n")).toContain("metrics are served without TLS");
    await server!.close();
    logged = [];
    await start();
    expect(logged.join("\n")).not.toContain("without TLS");
  });
});

describe("a port that is taken", () => {
  it("is a problem until it is free", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise(resolve => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    server = new MetricsServer({ address: "127.0.0.1", port }, await subject(), { clock: systemClock, log, faults }, { retry: 20 });
    await expect
      .poll(() => server!.problems(), within)
      .toEqual([
        {
          severity: "error",
          reason: "ListenFailed",
          object: "metrics",
          field: "--metrics-listen",
          message: `metrics are not served on 127.0.0.1:${port}: another process listens there`,
          remedy: `see who does: ss -ltnp "sport = :${port}"; end it, or choose another --metrics-listen`,
        },
      ]);
    other.close();
    await expect.poll(() => server!.problems(), within).toEqual([]);
    expect((await ask(port, "/healthz")).status).toBe(200);
    expect(logged.filter(text => text.includes("are not served"))).toHaveLength(1);
  });
});

describe("over HTTPS", () => {
  let folder: string;
  beforeAll(() => {
    folder = certificates();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const at = (name: string) => join(folder, name);
  const paths = { cert: "used.crt", key: "used.key" };
  const tls = () => ({ cert: at(paths.cert), key: at(paths.key) });
  const use = (name: string) => {
    copyFileSync(at(`${name}.key`), at(paths.key));
    copyFileSync(at(`${name}.crt`), at(paths.cert));
  };
  const ca = () => readFileSync(at("ca.crt"));
  const as = (name: string) => ({ tls: true, ca: ca(), cert: readFileSync(at(`${name}.crt`)), key: readFileSync(at(`${name}.key`)) });

  it("shows the certificate, and a new one when the files change", async () => {
    use("server");
    const port = await start({ tls: tls() }, {}, { look: 20 });
    expect(await ask(port, "/metrics", { tls: true, ca: ca() })).toMatchObject({ status: 200, serial: "02" });
    await expect(ask(port, "/metrics")).rejects.toThrow();
    // The key comes first: until the certificate fits, the old one is shown.
    copyFileSync(at("renewed.key"), at(paths.key));
    await expect.poll(() => server!.problems().map(({ reason }) => reason), within).toEqual(["CertificateUnusable"]);
    expect(await ask(port, "/healthz", { tls: true, ca: ca() })).toMatchObject({ serial: "02" });
    copyFileSync(at("renewed.crt"), at(paths.cert));
    await expect.poll(async () => (await ask(port, "/healthz", { tls: true, ca: ca() })).serial, within).toBe("03");
    expect(server!.problems()).toEqual([]);
  });

  it("waits for files that are not there or no certificate", async () => {
    rmSync(at(paths.cert), { force: true });
    server = new MetricsServer(
      { address: "127.0.0.1", port: 0, tls: tls() },
      await subject(),
      { clock: systemClock, log, faults },
      { retry: 20 },
    );
    expect(server.problems()).toMatchObject([{ reason: "CertificateUnusable", message: expect.stringContaining(at(paths.cert)) }]);
    writeFileSync(at(paths.cert), "no certificate");
    await expect.poll(() => server!.problems()[0]?.message, within).toContain(`${at(paths.cert)}, ${at(paths.key)}: `);
    use("server");
    await expect.poll(() => server!.port, within).toBeGreaterThan(0);
    expect(await ask(server.port!, "/healthz", { tls: true, ca: ca() })).toMatchObject({ status: 200 });
    expect(server.problems()).toEqual([]);
  });

  it("gives metrics only to clients of the CA, and health to all", async () => {
    use("server");
    const port = await start({ tls: { ...tls(), clientCa: at("ca.crt") } });
    expect((await ask(port, "/metrics", as("client"))).status).toBe(200);
    expect(await ask(port, "/metrics", { tls: true, ca: ca() })).toMatchObject({
      status: 403,
      text: expect.stringContaining("client certificate"),
    });
    expect((await ask(port, "/metrics", as("another"))).status).toBe(403);
    expect((await ask(port, "/readyz", { tls: true, ca: ca() })).status).toBe(200);
  });

  it("survives what is no TLS, and who ends in the middle of the handshake", async () => {
    use("server");
    const port = await start({ tls: tls() }, {}, { patience: 300 });
    await raw(port, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    await raw(port, "\u0016\u0003\u0001\u0002\u0000");
    expect((await ask(port, "/healthz", { tls: true, ca: ca() })).status).toBe(200);
  });
});

/** Whether our end of the connection from this port of loopback stands, as the kernel sees it: proc_pid_net(5). The other end does not hear of it before it reads. */
function isOpenFor(port: number): boolean {
  const remote = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map(line => line.trim().split(/\s+/));
  return rows.some(row => row[2] === remote && row[3] === "01");
}

/** Sends octets and returns all that comes until the server closes the connection. */
function raw(port: number, octets: string): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(port, "127.0.0.1", () => octets && socket.write(octets, "latin1"));
    let text = "";
    socket.setEncoding("latin1").on("data", chunk => {
      text += chunk;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });
}
