/** Services of real agents, from files: announced, moved, kept over a restart without the files, and explained. Needs root on Linux. */
import { execFileSync, spawn } from "node:child_process";
import { renameSync } from "node:fs";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { ExplainView, RoutesView, ServicesView, StatusView } from "./api/views.ts";
import { Pair } from "./testing/agents.ts";

// Several waits, each for a real daemon.
vi.setConfig({ testTimeout: 120_000 });
const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 30_000, interval: 100 };
const VIP = "198.51.100.5";
const PROXY = 10256;
/** kernel table of what is discarded for packets of others alone. */
const DISCARDS = "20179";

let pair: Pair;
const stop: (() => void)[] = [];
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
});
afterEach(async () => {
  for (const one of stop.splice(0)) one();
  await pair?.close();
});

const objects = (proxy: number) => `
apiVersion: podlane.io/v1alpha1
kind: Fabric
metadata: { name: all }
spec: { nodeSelector: {}, asn: 64512, services: { proxyHealthPort: ${proxy}, timeout: 600 } }
---
apiVersion: podlane.io/v1alpha1
kind: Advertisement
metadata: { name: vips }
spec: { type: Service, nodeSelector: {}, mesh: true, service: { addresses: [LoadBalancerIP], selector: {} } }
---
apiVersion: podlane.io/v1alpha1
kind: AddressPool
metadata: { name: public }
spec: { addresses: [198.51.100.0/24] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { type: LoadBalancer, externalTrafficPolicy: Local, selector: { app: web }, ports: [{ port: 80 }] }
status: { loadBalancer: { ingress: [{ ip: ${VIP} }] } }
`;
const slice = (node: string) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ port: 80 }]
endpoints: [{ addresses: [10.244.1.2], nodeName: ${node}, conditions: { ready: true } }]
`;

/** The candidates for the address at a node, by from whom they are. */
async function from(at: 0 | 1): Promise<string[]> {
  const { routes = [] } = (await pair.ask<RoutesView>(at, "routes", `${VIP}/32`)) ?? {};
  return routes.map(one => one.from);
}

const services = (at: 0 | 1) => pair.ask<ServicesView>(at, "services", "shop/web");
const links = async (at: 0 | 1) => (await services(at))?.services[0]?.verdicts.map(({ announced, link }) => link ?? announced);

/** What kube-proxy is to the agent: a health port on the loopback of a node. */
function startProxy(at: 0 | 1): void {
  const code = `require("node:http").createServer((_, response) => response.end("{}")).listen(${PROXY}, "127.0.0.1")`;
  const child = spawn("ip", ["netns", "exec", pair.names[at], process.execPath, "-e", code], { stdio: "ignore" });
  stop.push(() => void child.kill());
}

test("an address is announced where its endpoint is, moves with it, and stays while agent and files are gone", async () => {
  pair.write("objects.yaml", objects(0));
  pair.write("slice.yaml", slice("node1"));
  const first = pair.start(0);
  pair.start(1);
  await expect.poll(() => from(1), within).toEqual(["node1/ipv4"]);
  expect(await from(0)).toEqual(["Advertisement/vips"]);
  expect([await links(0), await links(1)]).toEqual([[true], ["NoEndpointHere"]]);
  expect((await services(0))?.services[0].routes).toMatchObject([
    { prefix: `${VIP}/32`, sent: [{ neighbor: "node2/ipv4", advertised: true }] },
  ]);
  expect(await pair.ask<ExplainView>(1, "explain", VIP)).toMatchObject({
    services: [{ service: "shop/web", link: "NoEndpointHere" }],
    pools: [{ pool: "public", range: "198.51.100.0/24" }],
  });
  const discards = () => execFileSync("ip", ["-n", pair.names[0], "route", "show", "table", DISCARDS], { encoding: "utf8" });
  await expect.poll(discards, within).toContain(`blackhole ${VIP}`);

  pair.write("slice.yaml", slice("node2"));
  await expect.poll(() => from(0), within).toEqual(["node2/ipv4"]);
  expect([await links(0), await links(1)]).toEqual([["NoEndpointHere"], [true]]);
  pair.write("slice.yaml", slice("node1"));
  await expect.poll(() => from(1), within).toEqual(["node1/ipv4"]);
  await expect.poll(async () => (await pair.ask<StatusView>(0, "status"))?.services).toBe(1);

  first.process.kill("SIGTERM");
  await first.ended;
  renameSync(pair.config, `${pair.config}.away`);
  pair.start(0);
  await expect.poll(async () => (await pair.ask<ServicesView>(0, "services"))?.known, within).toBe("saved");
  await expect.poll(() => from(0), within).toEqual(["Advertisement/vips"]);
  await expect.poll(async () => (await pair.ask<StatusView>(0, "status"))?.speaker?.sessions.established, within).toBe(1);
  expect(await from(1)).toEqual(["node1/ipv4"]);
  renameSync(`${pair.config}.away`, pair.config);
  await expect.poll(() => links(0), within).toEqual([true]);
  expect(await from(1)).toEqual(["node1/ipv4"]);
});

test("nothing is announced before the node's proxy answers", async () => {
  pair.write("objects.yaml", objects(PROXY));
  pair.write("slice.yaml", slice("node1"));
  startProxy(1);
  pair.start(0);
  pair.start(1);
  await expect.poll(() => links(0), within).toEqual(["ProxyNotReady"]);
  await expect.poll(async () => (await pair.ask<StatusView>(0, "status"))?.serving.ready, within).toBe(true);
  expect([await links(0), await from(1)]).toEqual([["ProxyNotReady"], []]);
  startProxy(0);
  await expect.poll(() => from(1), within).toEqual(["node1/ipv4"]);
  expect(await links(0)).toEqual([true]);
});
