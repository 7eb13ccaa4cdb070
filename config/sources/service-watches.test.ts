/** Against a server over real HTTP/2; with a real API server: test/kubernetes/services.test.ts. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { FakeClock } from "../../bgpd/testing/fake-clock.ts";
import type { ApiClient } from "../../kubernetes/client.ts";
import { WatchServer } from "../../kubernetes/testing/watch-server.ts";
import type { ApiObject } from "../../kubernetes/types.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { ServiceIndex } from "../services/service-index.ts";
import { ServiceWatches } from "./service-watches.ts";

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const services = "/api/v1/services";
const slices = "/apis/discovery.k8s.io/v1/endpointslices";
const namespaces = "/api/v1/namespaces";

let server: WatchServer;
let client: ApiClient;
let index: ServiceIndex;
let told: string[][];
let watches: ServiceWatches | undefined;

beforeEach(async () => {
  server = new WatchServer();
  client = await server.start();
  index = new ServiceIndex("n1");
  told = [];
  index.listen(changed => void told.push([...changed].sort()));
});

afterEach(async () => {
  await watches?.close();
  watches = undefined;
  client.close();
  await server.stop();
});

const service = (namespace: string, name: string, address = "10.96.0.10"): ApiObject => ({
  metadata: { namespace, name, managedFields: [{ manager: "kubectl" }] },
  spec: { type: "ClusterIP", clusterIPs: [address] },
});
const slice = (namespace: string, name: string, addresses: string[]): ApiObject => ({
  metadata: { namespace, name: `${name}-x`, labels: { "kubernetes.io/service-name": name } },
  addressType: "IPv4",
  endpoints: addresses.map(address => ({ addresses: [address], nodeName: "n1", conditions: {} })),
});
const namespace = (name: string, team: string): ApiObject => ({ metadata: { name, labels: { team } } });
const clock = { ...systemClock, after: (milliseconds: number, run: () => void) => systemClock.after(Math.min(milliseconds, 20), run) };

function start(options = { namespaces: false }): ServiceWatches {
  watches = new ServiceWatches(index, { client, clock, log: quiet, random: () => 0.5 }, options);
  watches.start();
  return watches;
}

const eventually = <T>(read: () => T) => expect.poll(read, { timeout: 10_000, interval: 5 });
const keys = () => [...index.services()].map(({ key }) => key).sort();

test("all that is there is told at once, then what changes, of each namespace its own", async () => {
  for (const name of ["a", "b"]) {
    server.set(services, service(name, "web"));
    server.set(slices, slice(name, "web", ["10.244.1.2"]));
  }
  const started = start();
  await eventually(() => told).toEqual([["a/web", "b/web"]]);
  expect([started.synced, started.ready, started.failures]).toEqual([true, true, []]);
  expect(server.watched).toEqual([services, slices]);
  expect(server.requests).toContain(`list ${slices}?labelSelector=!service.kubernetes.io/headless`);
  expect(index.endpoints("b/web")[4].localReady).toBe(1);
  server.set(slices, slice("b", "web", []));
  await eventually(() => told.slice(1)).toEqual([["b/web"]]);
  expect([index.endpoints("a/web")[4].localReady, index.endpoints("b/web")[4].localReady]).toEqual([1, 0]);
  server.delete(services, service("a", "web"));
  await eventually(() => told.at(-1)).toEqual(["a/web"]);
  expect(keys()).toEqual(["b/web"]);
  server.set(services, { ...service("b", "web"), metadata: { namespace: "b", name: "web", annotations: { other: "x" } } });
  server.set(services, service("c", "web"));
  await eventually(() => told.at(-1)).toEqual(["c/web"]);
});

test("nothing is told before slices are known too, though nothing else waits for what is refused", async () => {
  server.set(services, service("a", "web"));
  server.set(slices, slice("a", "web", ["10.244.1.2"]));
  server.refused.set(slices, 500);
  let changes = 0;
  const started = new ServiceWatches(
    index,
    { client, clock: systemClock, log: quiet, random: () => 0.5 },
    { namespaces: false, changed: () => changes++ },
  );
  watches = started;
  started.start();
  await eventually(() => started.failures.map(({ error }) => error.status)).toEqual([500]);
  await eventually(keys).toEqual(["a/web"]);
  expect([started.ready, told]).toEqual([false, []]);
  server.refused.set(slices, 403);
  await eventually(() => started.ready).toBe(true);
  // That there are none is not known.
  expect([started.synced, told, index.complete]).toEqual([false, [], false]);
  const before = changes;
  server.refused.clear();
  await eventually(() => told).toEqual([["a/web"]]);
  expect(index.endpoints("a/web")[4].localReady).toBe(1);
  expect([started.synced, started.failures, changes > before]).toEqual([true, [], true]);
});

test.each([
  ["services", services, 500],
  ["slices", slices, 429],
])(
  "a server that goes on failing to give %s is not waited for without end, and what it does not say is not known",
  async (_, path, status) => {
    server.set(services, service("a", "web"));
    server.set(slices, slice("a", "web", ["10.244.1.2"]));
    server.refused.set(path, status);
    const started = start();
    await eventually(() => started.ready).toBe(true);
    expect([told, index.complete]).toEqual([[], false]);
    server.refused.clear();
    await eventually(() => told).toEqual([["a/web"]]);
  },
);

test("without namespaces the rest is known, and that they are not; each time they are waited for anew", async () => {
  server.set(services, service("a", "web"));
  server.set(namespaces, namespace("a", "red"));
  server.refused.set(namespaces, 500);
  const clock = new FakeClock();
  watches = new ServiceWatches(index, { client, clock, log: quiet, random: () => 0.5 }, { namespaces: false });
  const started = watches;
  started.start();
  const advanced = <T>(milliseconds: number, read: () => T) =>
    eventually(() => {
      clock.advance(milliseconds);
      return read();
    });
  await advanced(5, () => told).toEqual([["a/web"]]);
  clock.advance(3_600_000);
  started.setNamespaces(true);
  await eventually(() => started.failures.map(({ error }) => error.status)).toEqual([500]);
  expect([started.ready, index.namespacesKnown]).toEqual([false, false]);
  clock.advance(10_000);
  expect([started.ready, index.namespacesKnown, index.complete]).toEqual([true, false, true]);
  server.refused.clear();
  await advanced(1000, () => index.namespacesKnown).toBe(true);
  await advanced(5, () => told).toEqual([["a/web"], ["a/web"]]);
});

test("slices that a restored store lacks stay until it has others of their Service and family", async () => {
  const six = (one: ApiObject) => ({ ...one, metadata: { ...one.metadata, name: "six" }, addressType: "IPv6" });
  const [web, other] = [slice("a", "web", ["10.244.1.2"]), slice("a", "other", ["10.244.1.3"])];
  for (const name of ["web", "other"]) server.set(services, service("a", name));
  for (const one of [web, six(slice("a", "web", ["fd00::2"])), other]) server.set(slices, one);
  const started = start();
  await eventually(() => index.complete).toBe(true);

  server.loseStore();
  for (const name of ["web", "other"]) server.set(services, service("a", name));
  const [, watch] = started.watches;
  await eventually(() => [...watch.missing].sort()).toEqual(["a/other-x", "a/six", "a/web-x"]);
  const here = (key: string) => ([4, 6] as const).map(family => index.endpoints(key)[family].localReady);
  expect([here("a/web"), here("a/other")]).toEqual([
    [1, 1],
    [1, 0],
  ]);
  // Its controller finds none, and makes one with a name of its own.
  const made = slice("a", "web", []);
  server.set(slices, { ...made, metadata: { ...made.metadata, name: "web-y" } });
  await eventually(() => here("a/web")).toEqual([0, 1]);
  expect([here("a/other"), [...watch.missing].sort()]).toEqual([
    [1, 0],
    ["a/other-x", "a/six"],
  ]);
});

test("slices of a restored store count from the first listing on", async () => {
  server.set(services, service("a", "web"));
  const named = (name: string) => ({ ...slice("a", "web", ["10.244.1.2"]), metadata: { ...slice("a", "web", []).metadata, name } });
  server.set(slices, named("before"));
  server.set(slices, named("after"));
  const started = start();
  await eventually(() => index.complete).toBe(true);
  server.loseStore();
  server.set(slices, { ...named("before"), endpoints: [] });
  await eventually(() => index.endpoints("a/web")[4].localReady).toBe(0);
  expect(started.watches[1].missing.size).toBe(0);
});

test("namespaces are followed while they are looked at", async () => {
  server.set(services, service("a", "web"));
  server.set(namespaces, namespace("a", "red"));
  const started = start();
  await eventually(() => told.length).toBe(1);
  expect(server.watched).not.toContain(namespaces);
  started.setNamespaces(true);
  await eventually(() => index.namespaceLabels("a")).toEqual({ team: "red" });
  await eventually(() => told.slice(1)).toEqual([["a/web"]]);
  server.set(namespaces, namespace("a", "blue"));
  await eventually(() => index.namespaceLabels("a")).toEqual({ team: "blue" });
  await eventually(() => told.slice(2)).toEqual([["a/web"]]);
  started.setNamespaces(false);
  await eventually(() => server.watched).toEqual([services, slices]);
  expect(index.namespaceLabels("a")).toBeUndefined();
  await eventually(() => told.length).toBe(4);
});

test("what is known stays when it is closed", async () => {
  server.set(services, service("a", "web"));
  const started = start();
  await eventually(() => started.synced).toBe(true);
  await started.close();
  expect(keys()).toEqual(["a/web"]);
  await eventually(() => server.watched).toEqual([]);
});
