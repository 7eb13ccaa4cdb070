/** Services over a restart of the agent, as a real speaker tells it to a neighbour in graceful restart (RFC 4724). */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Faults } from "../bgpd/faults.ts";
import { type MemorySpeaker, MemoryWorld, neighborAt } from "../bgpd/testing/memory-speakers.ts";
import { ServiceIndex } from "../config/services/service-index.ts";
import type { ServicesPlan } from "../config/services/types.ts";
import type { Logger } from "../platform/log.ts";
import { ServiceMemory } from "./services/memory.ts";
import { Services } from "./services.ts";

const [TOR, NODE] = ["10.0.0.1", "10.0.0.2"];
const ASN = 65000;
const ROUTE = "192.0.2.5/32";
const quiet = { debug() {}, info() {}, warn() {}, error() {} } as unknown as Logger;
const source = "Advertisement/vips";
const flags = { keepWithoutEndpoints: false, ignoreExclusion: false, linkBandwidth: false, annotations: [] };
const plan: ServicesPlan = {
  rules: [{ source, addresses: ["LoadBalancerIP"], selector: {}, ...flags }],
  attached: [],
  proxyHealthPort: 10256,
  timeout: 30,
};

let folder: string;
let world: MemoryWorld;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "podlane-services-"));
  world = new MemoryWorld();
});
afterEach(async () => {
  await world.close();
  rmSync(folder, { recursive: true, force: true });
});

/** As an agent starts them: the speaker gets its configuration, then its Services. */
function startAgent(ready: boolean): { node: MemorySpeaker; services: Services; index: ServiceIndex; serving: { ready: boolean } } {
  const node = world.speaker(NODE, { asn: ASN, neighbors: [neighborAt(TOR, ASN, { hears: [source] })] });
  const index = new ServiceIndex("n1");
  const state = { node: "n1", stateDirectory: folder };
  const serving = { ready, reason: "0 of 1 sessions", limited: false };
  const services = new Services(state, {
    clock: world.clock,
    log: quiet,
    faults: new Faults(world.clock, quiet),
    index,
    speaker: () => node.speaker,
    serving: () => serving,
    ask: async () => ({ status: 200, body: "{}" }),
    memory: new ServiceMemory(state, "boot-1"),
  });
  node.apply();
  services.apply(plan);
  return { node, services, index, serving };
}

function fill(index: ServiceIndex): void {
  const metadata = { name: "web", namespace: "shop" };
  index.setService({ metadata, spec: { type: "LoadBalancer" }, status: { loadBalancer: { ingress: [{ ip: "192.0.2.5" }] } } });
  const labels = { "kubernetes.io/service-name": "web" };
  const endpoints = [{ addresses: ["10.244.2.2"], nodeName: "n2", conditions: {} }];
  index.setSlice({ metadata: { ...metadata, labels }, addressType: "IPv4", endpoints });
  index.settle();
}

test("a neighbour loses no address of a Service while the agent is replaced, whether or not the API server answers the new one", async () => {
  const tor = world.speaker(TOR, { asn: ASN, neighbors: [neighborAt(NODE, ASN, { passive: true })] });
  tor.apply();
  const first = startAgent(true);
  fill(first.index);
  await world.run(10);
  expect(Object.keys(tor.best)).toEqual([ROUTE]);

  first.services.close();
  void first.node.speaker.close({ graceful: false, flush: false });
  await world.run(0.1);
  expect(Object.keys(tor.best)).toEqual([ROUTE]);
  const next = startAgent(false);
  // End-of-RIB of the new session, and the restart time of the old one, are over.
  for (let seconds = 0; seconds < 20; seconds++) {
    await world.run(1);
    expect(Object.keys(tor.best)).toEqual([ROUTE]);
  }
  next.serving.ready = true;
  next.services.look();
  await world.run(200);
  expect(Object.keys(tor.best)).toEqual([ROUTE]);
  fill(next.index);
  await world.run(1);
  expect(Object.keys(tor.best)).toEqual([ROUTE]);
  next.index.deleteService("shop/web");
  next.index.settle();
  await world.run(1);
  expect(tor.best).toEqual({});
  next.services.close();
});
