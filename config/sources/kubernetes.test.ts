/** Against a server over real HTTP/2; with a real API server: test/kubernetes/source.test.ts. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ApiClient } from "../../kubernetes/client.ts";
import { WatchServer } from "../../kubernetes/testing/watch-server.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { neededNodes } from "../compile/needs.ts";
import { apiVersion } from "../resources/common.ts";
import type { Resources } from "../resources/kinds.ts";
import { KubernetesSource } from "./kubernetes.ts";

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const own = `/apis/${apiVersion}`;
const nodes = "/api/v1/nodes";

let server: WatchServer;
let client: ApiClient;
let source: KubernetesSource;
let delivered: Resources[];

beforeEach(async () => {
  server = new WatchServer();
  client = await server.start();
  const parts = { client, clock: systemClock, log: quiet, random: () => 0 };
  source = new KubernetesSource({ node: "n1", namespace: "default", needs: neededNodes }, parts);
  delivered = [];
  server.set(nodes, { metadata: { name: "n1" }, spec: { podCIDRs: ["10.244.1.0/24"] } });
  server.set("/api/v1/namespaces", { metadata: { name: "shop", labels: { team: "a" } } });
  server.set("/api/v1/services", { metadata: { namespace: "shop", name: "web" }, spec: { clusterIPs: ["10.96.0.10"] } });
});

afterEach(async () => {
  await source.close();
  await server.stop();
});

const fabric = (type: string) =>
  server.set(`${own}/fabrics`, { metadata: { name: "default" }, spec: { asn: 65000, nodeSelector: {}, mesh: { type } } });
const advertise = (service: object) =>
  server.set(`${own}/advertisements`, {
    metadata: { name: "vips" },
    spec: { type: "Service", nodeSelector: {}, mesh: true, service: { addresses: ["ClusterIP"], selector: {}, ...service } },
  });
const advertised = () => delivered.at(-1)?.advertisements.get("vips")?.spec.service;
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: 10_000, interval: 5 });

test.each(["the selector", "the Advertisement"])("what a plan needs is known until the next one is there: without %s", async gone => {
  fabric("None");
  advertise({ namespaceSelector: { matchLabels: { team: "a" } } });
  await source.start(resources => void delivered.push(resources));
  expect(advertised()?.namespaceSelector).toBeDefined();
  expect([source.services.namespaceLabels("shop"), source.services.complete]).toEqual([{ team: "a" }, true]);

  // Other nodes are needed now, and the server fails to give them.
  server.refused.set(nodes, 500);
  const before = server.requests.length;
  fabric("Full");
  if (gone === "the selector") advertise({});
  else server.delete(`${own}/advertisements`, { metadata: { name: "vips" } });
  await eventually(() => delivered.length).toBeGreaterThan(1);
  expect(server.requests.slice(before)).toEqual([]);
  expect(advertised()?.namespaceSelector).toBeDefined();
  expect([source.services.namespaceLabels("shop"), source.services.service("shop/web")?.name]).toEqual([{ team: "a" }, "web"]);

  server.refused.clear();
  if (gone === "the selector") {
    await eventually(() => advertised()?.namespaceSelector).toBeUndefined();
    await eventually(() => server.watched).not.toContain("/api/v1/namespaces");
    expect([source.services.namespacesKnown, source.services.service("shop/web")?.name]).toEqual([false, "web"]);
  } else {
    await eventually(advertised).toBeUndefined();
    await eventually(() => server.watched).not.toContain("/api/v1/services");
    expect([source.services.complete, [...source.services.services()]]).toEqual([false, []]);
  }
});
