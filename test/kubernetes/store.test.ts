/** What the source does when etcd is emptied or restored from a backup under a real API server: nobody deleted what is missing then. */
import { cpSync, renameSync, rmSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { neededNodes } from "../../config/compile/needs.ts";
import type { Problem } from "../../config/plan.ts";
import { apiVersion } from "../../config/resources/common.ts";
import type { Resources } from "../../config/resources/kinds.ts";
import { KubernetesSource } from "../../config/sources/kubernetes.ts";
import { ApiClient } from "../../kubernetes/client.ts";
import { Http2Transport } from "../../kubernetes/http2.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";
import { installCrds } from "./install-crds.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const peers = `/apis/${apiVersion}/peers`;

describe("a store under an API server", () => {
  let server: ApiServer;
  let source: KubernetesSource;
  let last: { resources: Resources; problems: Problem[] };

  beforeEach(context => context.skip(missing !== undefined, missing));
  beforeAll(async () => {
    if (missing) return;
    server = await startApiServer({ watchCache: true });
    await installCrds(server);
    // An API server writes some hundred objects of its own into an empty store, and this one is to have been in use.
    await create("/api/v1/namespaces/default/configmaps", { metadata: { name: "used" } });
    for (let count = 0; count < 1000; count++)
      await server.call("PATCH", "/api/v1/namespaces/default/configmaps/used", { data: { count: `${count}` } });
    for (const number of [1, 2, 3]) await create("/api/v1/nodes", node(number));
    await create(peers, peer("tor", 65001));
    const client = new ApiClient(new Http2Transport(server.credentials()), "test");
    source = new KubernetesSource(
      { node: "n1", namespace: "default", needs: neededNodes },
      { client, clock: systemClock, log: quiet, random: Math.random },
    );
    await source.start((resources, problems) => {
      last = { resources, problems };
    });
  });
  afterAll(async () => {
    await source?.close();
    await server?.stop();
  });

  const node = (number: number) => ({
    metadata: { name: `n${number}` },
    spec: { podCIDRs: [`10.244.${number}.0/24`] },
    status: { addresses: [{ type: "InternalIP", address: `192.0.2.${number}` }] },
  });
  const peer = (name: string, asn: number) => ({
    apiVersion,
    kind: "Peer",
    metadata: { name },
    spec: { nodeSelector: {}, address: "198.51.100.1", asn },
  });

  async function create(path: string, object: object): Promise<void> {
    const { status, body } = await server.call("POST", path, object);
    expect(status, JSON.stringify(body)).toBe(201);
  }

  const eventually = (check: () => void) => vi.waitFor(check, { timeout: 60_000, interval: 50 });
  const names = () => [...last.resources.nodes.keys()].sort();
  const reasons = () => [...new Set(last.problems.map(({ reason }) => reason))];

  test("that was emptied and restored takes nothing away meanwhile", async () => {
    await server.changeStore(data => renameSync(data, `${data}.away`));
    // The definitions are gone as well; a kubelet registers its node, which has no ranges yet.
    await eventually(() => expect(reasons()).toContain("KindNotInstalled"));
    await create("/api/v1/nodes", { ...node(1), spec: {} });
    await installCrds(server);
    // Each collection is asked when its own pause is over.
    const all = "nodes n2, nodes n3, peers tor; what they said stays in force";
    await eventually(() => expect(last.problems.map(({ message }) => message)).toEqual([expect.stringContaining(all)]));
    expect(reasons()).toEqual(["StoreWentBack"]);
    expect(names()).toEqual(["n1", "n2", "n3"]);
    expect([...last.resources.peers.keys()]).toEqual(["tor"]);
    await server.changeStore(data => {
      rmSync(data, { recursive: true });
      renameSync(`${data}.away`, data);
    });
    await eventually(() => expect(reasons()).toEqual([]));
    expect(last.resources.nodes.get("n1")?.spec.podCIDRs).toEqual(["10.244.1.0/24"]);
  });

  test("that was restored from a backup is followed, and what it lacks goes when asked", async () => {
    // Taken while nobody writes.
    await server.changeStore(data => cpSync(data, `${data}.backup`, { recursive: true }));
    await create("/api/v1/nodes", node(4));
    await server.call("DELETE", "/api/v1/nodes/n3");
    await eventually(() => expect(names()).toEqual(["n1", "n2", "n4"]));
    for (let number = 0; number < 20; number++) await server.call("PATCH", `${peers}/tor`, { spec: { asn: 65100 + number } });
    await eventually(() => expect(last.resources.peers.get("tor")?.spec.asn).toBe(65119));
    await server.changeStore(data => {
      rmSync(data, { recursive: true });
      renameSync(`${data}.backup`, data);
    });
    await eventually(() => expect(last.resources.peers.get("tor")?.spec.asn).toBe(65001));
    await eventually(() => expect(reasons()).toEqual(["StoreWentBack"]));
    expect(names()).toEqual(["n1", "n2", "n3", "n4"]);
    await source.reload();
    expect(names()).toEqual(["n1", "n2", "n3"]);
    expect(last.problems).toEqual([]);
  });
});
