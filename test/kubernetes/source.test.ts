/** Objects from a real API server: what is delivered, what is kept while the server is away, and what is said about it. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { neededNodes } from "../../config/compile/needs.ts";
import type { Problem } from "../../config/plan.ts";
import { apiVersion } from "../../config/resources/common.ts";
import type { Resources } from "../../config/resources/kinds.ts";
import { KubernetesSource } from "../../config/sources/kubernetes.ts";
import { ApiClient } from "../../kubernetes/client.ts";
import type { Credentials } from "../../kubernetes/credentials.ts";
import { Http2Transport } from "../../kubernetes/http2.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";
import { installCrds, uninstallCrds } from "./install-crds.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const own = `/apis/${apiVersion}`;

interface Opened {
  source: KubernetesSource;
  deliveries: { resources: Resources; problems: Problem[] }[];
  client: ApiClient;
  start(): Promise<void>;
}

describe.each([
  ["as events, from a watch cache", true],
  ["in pages, from etcd", false],
])("objects %s", (_, watchCache) => {
  let server: ApiServer;
  const opened: Opened[] = [];

  beforeEach(context => context.skip(missing !== undefined, missing));
  beforeAll(async () => {
    if (missing) return;
    server = await startApiServer({ watchCache, tokens: ['nobody,nobody,nobody,"nobodies"'] });
    await installCrds(server);
  });
  afterEach(async () => {
    for (const { source } of opened.splice(0)) await source.close();
    if (missing) return;
    for (const plural of ["fabrics", "peers", "policies", "advertisements", "podnetworks"]) await server.call("DELETE", `${own}/${plural}`);
    await server.call("DELETE", "/api/v1/nodes");
    await server.call("DELETE", "/api/v1/namespaces/default/secrets");
  });
  afterAll(() => server?.stop());

  function open(credentials: Credentials = server.credentials(), node = "n1"): Opened {
    const client = new ApiClient(new Http2Transport(credentials), "test");
    const parts = { client, clock: systemClock, log: quiet, random: Math.random };
    const source = new KubernetesSource({ node, namespace: "default", needs: neededNodes }, parts);
    const deliveries: Opened["deliveries"] = [];
    const start = () => source.start((resources, problems) => void deliveries.push({ resources, problems }));
    const one = { source, deliveries, client, start };
    opened.push(one);
    return one;
  }

  const node = (name: string, number: number) => ({
    metadata: { name, labels: { rack: `r${number}` } },
    spec: { podCIDRs: [`10.244.${number}.0/24`, `fd00:244:${number}::/64`] },
    status: { addresses: [{ type: "InternalIP", address: `192.0.2.${number}` }] },
  });
  const peer = (name: string, spec: object) => ({ apiVersion, kind: "Peer", metadata: { name }, spec });
  const plain = { nodeSelector: {}, address: "198.51.100.1", asn: 65001 };

  async function create(path: string, object: object): Promise<void> {
    const { status, body } = await server.call("POST", path, object);
    expect(status, JSON.stringify(body)).toBe(201);
  }

  const settled = (one: Opened, check: (resources: Resources, problems: Problem[]) => void, timeout = 20_000) =>
    vi.waitFor(
      () => {
        const last = one.deliveries.at(-1);
        if (!last) throw new Error("nothing was delivered");
        check(last.resources, last.problems);
      },
      { timeout, interval: 20 },
    );

  test("come once they are all known, and follow each change", async () => {
    await create("/api/v1/nodes", node("n1", 1));
    await create("/api/v1/nodes", node("n2", 2));
    await create(`${own}/peers`, peer("tor", plain));
    const one = open();
    await one.start();
    expect(one.deliveries).toHaveLength(1);
    const [{ resources, problems }] = one.deliveries;
    expect(problems).toEqual([]);
    expect([...resources.nodes.keys()].sort()).toEqual(["n1", "n2"]);
    expect(resources.nodes.get("n2")).toMatchObject({ ...node("n2", 2), metadata: { labels: { rack: "r2" } } });
    expect(resources.peers.get("tor")?.spec).toMatchObject(plain);

    await server.call("PATCH", `${own}/peers/tor`, { spec: { asn: 65002 } });
    await settled(one, ({ peers }) => expect(peers.get("tor")?.spec.asn).toBe(65002));
    await create("/api/v1/nodes", node("n3", 3));
    await settled(one, ({ nodes }) => expect(nodes.has("n3")).toBe(true));
    await server.call("DELETE", "/api/v1/nodes/n2");
    await settled(one, ({ nodes }) => expect(nodes.has("n2")).toBe(false));
    await server.call("DELETE", `${own}/peers/tor`);
    await settled(one, ({ peers }) => expect(peers.size).toBe(0));
  });

  test("come in lists of many", async () => {
    for (let from = 0; from < 250; from += 50)
      await Promise.all(Array.from({ length: 50 }, (_, i) => create("/api/v1/nodes", node(`m${from + i}`, 1 + ((from + i) % 200)))));
    const one = open(server.credentials(), "m7");
    await one.start();
    expect(one.deliveries[0].resources.nodes.size).toBe(250);
    // A change of what is not read is none.
    const heartbeat = { status: { conditions: [{ type: "Ready", status: "True" }], images: [{ names: ["a"], sizeBytes: 1 }] } };
    await server.call("PATCH", "/api/v1/nodes/m9/status", heartbeat);
    await server.call("PATCH", "/api/v1/nodes/m8", { metadata: { labels: { rack: "other" } } });
    await settled(one, ({ nodes }) => expect(nodes.get("m8")?.metadata.labels?.rack).toBe("other"));
    expect(one.deliveries).toHaveLength(2);
    // Changes that come at once are told at once.
    await Promise.all(Array.from({ length: 100 }, (_, i) => server.call("DELETE", `/api/v1/nodes/m${i + 100}`)));
    await settled(one, ({ nodes }) => expect(nodes.size).toBe(150));
    expect(one.deliveries.length).toBeLessThan(90);
  });

  test("are kept while the server is away, and followed again when it is back", async () => {
    await create("/api/v1/nodes", node("n1", 1));
    await create(`${own}/peers`, peer("tor", plain));
    const one = open();
    await one.start();
    await server.kill();
    await settled(one, (resources, problems) => {
      expect(problems.map(({ reason, severity }) => [reason, severity])).toContainEqual(["ApiServerUnreachable", "warning"]);
      expect(resources.peers.get("tor")?.spec).toMatchObject(plain);
      expect(resources.nodes.has("n1")).toBe(true);
    });
    await server.restart();
    await create(`${own}/peers`, peer("tor-b", { ...plain, address: "198.51.100.2" }));
    await settled(
      one,
      ({ peers, nodes }, problems) => {
        expect([...peers.keys()].sort()).toEqual(["tor", "tor-b"]);
        expect(nodes.has("n1")).toBe(true);
        expect(problems).toEqual([]);
      },
      45_000,
    );
  });

  test("wait for a server that is away at the start, for its definitions and for our token", async () => {
    await server.kill();
    let token = "expired";
    const one = open(server.credentials(() => token));
    await expect(one.start()).rejects.toThrow(/cannot be followed at https:.*ECONNREFUSED/);
    await server.restart();
    await vi.waitFor(() => expect(one.start()).rejects.toThrow(/does not know us: 401/), { timeout: 20_000 });
    await uninstallCrds(server);
    token = "nobody";
    await vi.waitFor(() => expect(one.start()).rejects.toThrow(/refuses .*nodes.*cannot/s), { timeout: 20_000 });
    token = "test";
    await vi.waitFor(() => expect(one.start()).rejects.toThrow(/the API server has no (fabrics|peers|\w+)\.podlane\.io/), {
      timeout: 20_000,
    });
    expect(one.deliveries).toEqual([]);
    await installCrds(server);
    await settled(one, ({ peers }, problems) => expect([peers.size, problems]).toEqual([0, []]), 45_000);
    await one.start();
  });

  test("of a newer version are not taken in part", async () => {
    const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/peers.podlane.io";
    const definition = (await server.call("GET", path)).body;
    definition.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.colour = { type: "string" };
    expect((await server.call("PUT", path, definition)).status).toBe(200);
    await vi.waitFor(
      async () => {
        const { body } = await server.call("POST", `${own}/peers?dryRun=All`, peer("tor", { ...plain, colour: "blue" }));
        expect(body.spec.colour).toBe("blue");
      },
      { timeout: 20_000, interval: 100 },
    );
    await create(`${own}/peers`, peer("tor", plain));
    const one = open();
    await one.start();
    await server.call("PATCH", `${own}/peers/tor`, { spec: { colour: "blue", asn: 65009 } });
    await settled(one, ({ peers }, problems) => {
      expect(problems.map(({ object, field, reason }) => [object, field, reason])).toEqual([["Peer/tor", "spec.colour", "UnknownField"]]);
      expect(problems[0].message).toMatch(/last good version stays in force/);
      expect(peers.get("tor")?.spec.asn).toBe(65001);
    });
  });

  test("hold of Secrets those that the node's sessions name, and follow them", async () => {
    const secret = (name: string, password: string) => ({ metadata: { name }, stringData: { password } });
    const path = "/api/v1/namespaces/default/secrets";
    await create("/api/v1/nodes", node("n1", 1));
    await create(path, secret("ours", "first"));
    await create(path, secret("theirs", "never"));
    const withPassword = (name: string) => ({ ...plain, passwordSecretRef: { name } });
    await create(`${own}/peers`, peer("tor", withPassword("ours")));
    await create(`${own}/peers`, peer("far", { ...withPassword("theirs"), nodeSelector: { matchLabels: { rack: "r9" } } }));
    const one = open();
    await one.start();
    const passwords = ({ secrets }: Resources) =>
      Object.fromEntries([...secrets.values()].map(({ metadata, data }) => [metadata.name, data.password]));
    expect(passwords(one.deliveries[0].resources)).toEqual({ ours: "first" });
    await server.call("PATCH", `${path}/ours`, { stringData: { password: "second" } });
    await settled(one, resources => expect(passwords(resources)).toEqual({ ours: "second" }));
    await server.call("PATCH", "/api/v1/nodes/n1", { metadata: { labels: { rack: "r9" } } });
    await settled(one, resources => expect(passwords(resources)).toEqual({ ours: "second", theirs: "never" }));
    await server.call("DELETE", `${own}/peers/tor`);
    await settled(one, resources => expect(passwords(resources)).toEqual({ theirs: "never" }));
    await server.call("DELETE", `${path}/theirs`);
    await settled(one, resources => expect(passwords(resources)).toEqual({}));
  });

  test("hold of nodes those that the mesh needs, and all before the mesh needs all", async () => {
    for (const number of [1, 2, 3, 4]) await create("/api/v1/nodes", node(`n${number}`, number));
    const one = open();
    await one.start();
    const names = ({ nodes }: Resources) => [...nodes.keys()].sort();
    expect(names(one.deliveries[0].resources)).toEqual(["n1", "n2", "n3", "n4"]);
    const mesh = (type: string) => ({
      mesh:
        type === "Full" ? { type, routeReflectors: null } : { type, routeReflectors: { nodeSelector: { matchLabels: { rack: "r2" } } } },
    });
    const spec = { nodeSelector: {}, asn: 64512, ...mesh("RouteReflectors") };
    await create(`${own}/fabrics`, { apiVersion, kind: "Fabric", metadata: { name: "all" }, spec });
    await settled(one, resources => expect([names(resources), resources.partialNodes]).toEqual([["n1", "n2"], true]));
    // Another reflector appears, and is seen without another list.
    await server.call("PATCH", "/api/v1/nodes/n3", { metadata: { labels: { rack: "r2" } } });
    await settled(one, resources => expect(names(resources)).toEqual(["n1", "n2", "n3"]));
    const from = one.deliveries.length;
    await server.call("PATCH", `${own}/fabrics/all`, { spec: mesh("Full") });
    await settled(one, ({ fabrics }) => expect(fabrics.get("all")?.spec.mesh.type).toBe("Full"));
    for (const { resources } of one.deliveries.slice(from))
      if (resources.fabrics.get("all")?.spec.mesh.type === "Full") expect(names(resources)).toEqual(["n1", "n2", "n3", "n4"]);
    expect(one.deliveries.at(-1)?.resources.partialNodes).toBeUndefined();
  });

  test("are followed though a selector is one that the server does not take", async () => {
    for (const number of [1, 2]) await create("/api/v1/nodes", node(`n${number}`, number));
    const one = open();
    await one.start();
    const mesh = { type: "RouteReflectors", routeReflectors: { nodeSelector: { matchLabels: { "no key": "x" } } } };
    await create(`${own}/fabrics`, { apiVersion, kind: "Fabric", metadata: { name: "all" }, spec: { nodeSelector: {}, asn: 64512, mesh } });
    await settled(one, ({ nodes, fabrics, partialNodes }) =>
      expect([[...nodes.keys()].sort(), fabrics.size, partialNodes]).toEqual([["n1", "n2"], 1, undefined]),
    );
  });

  test("name a Secret only once it is known whether it is there", async () => {
    const one = open();
    await create("/api/v1/nodes", node("n1", 1));
    await one.start();
    await create("/api/v1/namespaces/default/secrets", { metadata: { name: "late" }, stringData: { password: "x" } });
    await create(`${own}/peers`, peer("tor", { ...plain, passwordSecretRef: { name: "late" } }));
    await settled(one, ({ peers }) => expect(peers.has("tor")).toBe(true));
    for (const { resources } of one.deliveries) if (resources.peers.has("tor")) expect([...resources.secrets.keys()]).toEqual(["late"]);
  });

  test("of Secrets in great number are all known", async () => {
    await create("/api/v1/nodes", node("n1", 1));
    const names = Array.from({ length: 70 }, (_, i) => `s${i}`);
    await Promise.all(
      names.map(async (name, i) => {
        await create("/api/v1/namespaces/default/secrets", { metadata: { name }, stringData: { password: name } });
        const spec = { ...plain, address: `198.51.100.${i}`, passwordSecretRef: { name } };
        await create(`${own}/peers`, peer(`tor-${i}`, spec));
      }),
    );
    await create("/api/v1/namespaces/default/secrets", { metadata: { name: "theirs" }, stringData: { password: "never" } });
    const one = open();
    await one.start();
    expect([...one.deliveries[0].resources.secrets.keys()].sort()).toEqual([...names].sort());
  });

  test("are listed again when asked", async () => {
    await create(`${own}/peers`, peer("tor", plain));
    const one = open();
    await one.start();
    const before = one.client.requests;
    await one.source.reload();
    expect(one.client.requests).toBeGreaterThan(before);
    expect(one.deliveries.at(-1)?.resources.peers.size).toBe(1);
    expect(one.deliveries.at(-1)?.problems).toEqual([]);
  });
});
