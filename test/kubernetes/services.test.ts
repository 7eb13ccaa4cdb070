/** Services, slices and namespaces of a real API server in the index of an agent's source, and that nothing of them is followed without need. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
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

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const own = `/apis/${apiVersion}`;
const services = "/api/v1/namespaces/default/services";
const slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

let server: ApiServer;
let opened: Opened[];

class Opened {
  /** Paths with their queries. */
  readonly asked: string[] = [];
  readonly deliveries: { resources: Resources; problems: Problem[] }[] = [];
  readonly told: string[] = [];
  readonly source: KubernetesSource;

  constructor(token = "test") {
    const transport = new Http2Transport(server.credentials(() => token));
    const watched = {
      server: transport.server,
      send: (request: Parameters<typeof transport.send>[0]) => {
        this.asked.push(request.path);
        return transport.send(request);
      },
      close: () => transport.close(),
    };
    const parts = { client: new ApiClient(watched, "test"), clock: systemClock, log: quiet, random: Math.random };
    this.source = new KubernetesSource({ node: "n1", namespace: "default", needs: neededNodes }, parts);
    this.source.services.listen(changed => void this.told.push(...changed));
    opened.push(this);
  }

  async start(): Promise<this> {
    await this.source.start((resources, problems) => void this.deliveries.push({ resources, problems }));
    return this;
  }

  get problems(): Problem[] | undefined {
    return this.deliveries.at(-1)?.problems;
  }

  get index() {
    return this.source.services;
  }
}

beforeEach(context => context.skip(missing !== undefined, missing));
beforeAll(async () => {
  if (missing) return;
  server = await startApiServer({ watchCache: true, tokens: ['old,old,old,"old"'] });
  await installCrds(server);
});
beforeEach(async () => {
  opened = [];
  if (!missing) await create("/api/v1/nodes", { metadata: { name: "n1", labels: { role: "edge" } } });
});
afterEach(async () => {
  for (const { source } of opened) await source.close();
  if (missing) return;
  await server.call("DELETE", `${own}/advertisements`);
  await server.call("DELETE", "/api/v1/nodes");
  await server.call("DELETE", slices);
  for (const name of ["web", "none"]) await server.call("DELETE", `${services}/${name}`);
});
afterAll(() => server?.stop());

async function create(path: string, object: object): Promise<void> {
  const { status, body } = await server.call("POST", path, object);
  expect(status, JSON.stringify(body)).toBe(201);
}

const advertise = (more: object = {}, nodeSelector: object = {}) => {
  const service = { addresses: ["ClusterIP"], selector: {}, ...more };
  const spec = { type: "Service", nodeSelector, mesh: true, service };
  return create(`${own}/advertisements`, { apiVersion, kind: "Advertisement", metadata: { name: "vips" }, spec });
};
const createService = (name: string, more: object = {}, labels: object = {}) =>
  create(services, { metadata: { name, labels }, spec: { ports: [{ port: 80 }], ...more } });
const slice = (addresses: string[]) => ({
  metadata: { name: "web-x", labels: { "kubernetes.io/service-name": "web" } },
  addressType: "IPv4",
  ports: [{ port: 80 }],
  endpoints: addresses.map(address => ({ addresses: [address], nodeName: "n1", conditions: { ready: true } })),
});
const eventually = <T>(read: () => T, timeout = 20_000) => expect.poll(read, { timeout, interval: 10 });
const aboutServices = ({ asked }: Opened) => asked.filter(path => /services|endpointslices|namespaces\?/.test(path));

test("they are known before the first delivery, and their changes are no delivery", async () => {
  await createService("web");
  await createService("none", { clusterIP: "None" }, { "service.kubernetes.io/headless": "" });
  await create(slices, slice(["10.244.1.2", "10.244.1.3"]));
  await advertise();
  const one = await new Opened().start();
  const { index } = one;
  expect([index.service("default/web")?.addresses.ClusterIP.length, index.endpoints("default/web")[4].localReady]).toEqual([1, 2]);
  expect(index.service("default/kubernetes")).toBeDefined();
  expect(index.service("default/none")).toBeUndefined();
  expect(one.problems).toEqual([]);

  const told = () => one.told.filter(key => key === "default/web").length;
  await eventually(told).toBe(1);
  await server.call("PUT", `${slices}/web-x`, slice(["10.244.1.3"]));
  await eventually(() => index.endpoints("default/web")[4].localReady).toBe(1);
  await eventually(told).toBe(2);
  await server.call("DELETE", `${slices}/web-x`);
  await eventually(() => index.endpoints("default/web")[4].localReady).toBe(0);
  await eventually(told).toBe(3);
  // What is not read of it is no change of it.
  await server.call("PATCH", `${services}/web`, { metadata: { annotations: { other: "x" } } });
  await server.call("PATCH", `${services}/web`, { metadata: { labels: { tier: "front" } } });
  await eventually(() => index.service("default/web")?.labels).toEqual({ tier: "front" });
  await eventually(told).toBe(4);
  await server.call("DELETE", `${services}/web`);
  await eventually(() => index.service("default/web")).toBeUndefined();
  await eventually(told).toBe(5);
  expect(one.deliveries).toHaveLength(1);
});

test("they are followed only while an Advertisement of this node is for them, and namespaces only where one looks at them", async () => {
  await createService("web");
  const one = await new Opened().start();
  await advertise({}, { matchLabels: { role: "other" } });
  await eventually(() => one.deliveries.at(-1)?.resources.advertisements.size).toBe(1);
  expect([aboutServices(one), [...one.index.services()]]).toEqual([[], []]);

  await server.call("PATCH", "/api/v1/nodes/n1", { metadata: { labels: { role: "other" } } });
  await eventually(() => one.deliveries.at(-1)?.resources.nodes.get("n1")?.metadata.labels?.role).toBe("other");
  // The plan that needs them was not delivered before they were known.
  expect(one.index.service("default/web")?.name).toBe("web");
  expect(one.index.namespaceLabels("default")).toBeUndefined();

  await server.call("PATCH", `${own}/advertisements/vips`, { spec: { service: { namespaceSelector: {} } } });
  await eventually(() => one.index.namespaceLabels("default")).toEqual({ "kubernetes.io/metadata.name": "default" });
  await server.call("PATCH", "/api/v1/namespaces/default", { metadata: { labels: { team: "a" } } });
  await eventually(() => one.index.namespaceLabels("default")?.team).toBe("a");

  one.told.length = 0;
  await server.call("DELETE", `${own}/advertisements/vips`);
  await eventually(() => [...one.index.services()]).toEqual([]);
  expect(one.told).toContain("default/web");
  expect(one.index.namespaceLabels("default")).toBeUndefined();
  one.asked.length = 0;
  await one.source.reload();
  expect(one.asked.length).toBeGreaterThan(0);
  expect(aboutServices(one)).toEqual([]);
});

test("what is known stays while the server is away, and what changed then is heard", async () => {
  await createService("web");
  await create(slices, slice(["10.244.1.2"]));
  await advertise();
  const one = await new Opened().start();
  await server.kill();
  await eventually(() => one.problems?.map(({ reason }) => reason)).toContain("ApiServerUnreachable");
  expect(one.index.endpoints("default/web")[4].localReady).toBe(1);
  await server.restart();
  await server.call("DELETE", `${slices}/web-x`);
  await eventually(() => one.index.endpoints("default/web")[4].localReady, 45_000).toBe(0);
  expect(one.index.service("default/web")).toBeDefined();
  await eventually(() => one.problems, 45_000).toEqual([]);
});

test("roles of an older version, which refuse them, hold up nothing else; once they do not, they come", async () => {
  const role = (resources: [string, string[]][]) => ({
    metadata: { name: "old" },
    rules: resources.map(([group, names]) => ({ apiGroups: [group], resources: names, verbs: ["get", "list", "watch"] })),
  });
  const before: [string, string[]][] = [
    ["podlane.io", ["*"]],
    ["", ["nodes", "secrets"]],
  ];
  const roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
  await create(roles, role(before));
  await create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
    metadata: { name: "old" },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "old" },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "old" }],
  });
  await createService("web");
  await advertise({ namespaceSelector: {} });
  const one = new Opened("old");
  await eventually(() => one.start().then(() => "started", String)).toBe("started");
  expect(one.deliveries.at(-1)?.resources.advertisements.size).toBe(1);
  await eventually(() => one.problems?.map(({ reason, object }) => [reason, object])).toEqual([["AccessDenied", "API server"]]);
  expect(one.problems?.[0].message).toMatch(/refuses services, endpointslices.*, namespaces: .*; addresses of Services .* not announced/s);
  expect(one.problems?.[0].remedy).toContain("deploy/podlane.yaml");
  await server.call("PUT", `${roles}/old`, role([...before, ["", ["nodes", "services", "namespaces"]], ["discovery.k8s.io", ["*"]]]));
  await eventually(() => one.index.service("default/web")?.name, 45_000).toBe("web");
  await eventually(() => one.problems, 45_000).toEqual([]);
});
