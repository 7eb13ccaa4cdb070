/** Against real servers on this machine's loopback. */
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { FakeClock } from "../../bgpd/testing/fake-clock.ts";
import { ServiceIndex } from "../../config/services/service-index.ts";
import { systemClock } from "../../platform/clock.ts";
import { askNode, freeAddresses, jsonOf } from "./ask.ts";
import { ProxyWatch } from "./proxy-watch.ts";

const none = () => [];
let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

async function listen(answer: (response: ServerResponse, path: string) => void, address = "127.0.0.1"): Promise<number> {
  server = createServer((request, response) => answer(response, request.url ?? ""));
  await new Promise<void>(resolve => server?.listen(0, address, resolve));
  return (server.address() as AddressInfo).port;
}

test("an answer comes with its status and text", async () => {
  const port = await listen((response, path) => response.writeHead(503).end(`{"path": "${path}"}`));
  const { status, body } = await askNode(systemClock, none)(port, "/healthz");
  expect([status, jsonOf(body)]).toEqual([503, { path: "/healthz" }]);
  expect([jsonOf("null"), jsonOf("{")]).toEqual([undefined, undefined]);
});

test("who listens on another address of the node is found there", async () => {
  const port = await listen(response => response.end("{}"), "127.0.0.3");
  const addresses = () => ["127.0.0.2", "127.0.0.3"];
  expect(await askNode(systemClock, addresses)(port, "/")).toEqual({ status: 200, body: "{}" });
  await expect(askNode(systemClock, () => ["127.0.0.2"])(port, "/")).rejects.toThrow("nothing listens there");
  expect(await askNode(systemClock, addresses)(port, "/", 4)).toMatchObject({ status: 200 });
  await expect(askNode(systemClock, addresses)(port, "/", 6)).rejects.toThrow("nothing listens there");
});

test("an address that a Service has is not asked, and none before it is known which they have", async () => {
  const port = await listen(response => response.writeHead(503).end('{"nodeEligible": false}'), "127.0.0.3");
  const index = new ServiceIndex("n1");
  const clock = new FakeClock();
  const ask = askNode(
    systemClock,
    freeAddresses(clock, index, () => ["127.0.0.3"]),
  );
  await expect(ask(port, "/healthz")).rejects.toThrow("nothing listens there");
  index.settle();
  expect(await ask(port, "/healthz")).toMatchObject({ status: 503 });
  index.setService({ metadata: { name: "web", namespace: "shop" }, spec: { clusterIPs: ["10.96.0.10"], externalIPs: ["127.0.0.3"] } });
  clock.advance(1000);
  await expect(ask(port, "/healthz")).rejects.toThrow("nothing listens there");
});

test("where nothing listens, and where an answer is too long, that is said", async () => {
  const port = await listen(response => response.end("x".repeat(1 << 20)));
  await expect(askNode(systemClock, none)(port, "/")).rejects.toThrow("more than 65536 octets");
  await new Promise(resolve => server?.close(resolve));
  await expect(askNode(systemClock, none)(port, "/")).rejects.toThrow("nothing listens there");
});

test("who does not answer, or not to the end, is left after a second", async () => {
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  const port = await listen(response => {
    response.write("half");
    resolve();
  });
  const clock = new FakeClock();
  const answer = askNode(clock, none)(port, "/");
  const outcome = expect(answer).rejects.toThrow("not answered within 1 s");
  await asked;
  clock.advance(1000);
  await outcome;
  expect(clock.pending).toBe(0);
});

test("a proxy that comes up is found by its own answer", async () => {
  let well = false;
  const port = await listen(response => response.writeHead(well ? 200 : 503).end());
  const clock = new FakeClock();
  const watch = new ProxyWatch({ clock, ask: askNode(systemClock, none), changed() {} });
  watch.follow({ rules: [], attached: [], proxyHealthPort: port, timeout: 30 });
  await expect.poll(() => watch.gates.proxy).toContain("status 503");
  well = true;
  clock.advance(1000);
  await expect.poll(() => [watch.gates, watch.state]).toEqual([{}, "Ready"]);
  watch.close();
});
