/** What agents tell a real API server: NodeState, the Node's condition, Events, and the status of objects by one of them. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { ClusterStatus } from "../../agent/status/cluster-status.ts";
import type { NodeReport } from "../../agent/status/node-state.ts";
import { down, neighbor, nodeReport } from "../../agent/status/testing.ts";
import { neededNodes } from "../../config/compile/needs.ts";
import { apiVersion } from "../../config/resources/common.ts";
import { KubernetesSource } from "../../config/sources/kubernetes.ts";
import { ApiClient } from "../../kubernetes/client.ts";
import type { Condition } from "../../kubernetes/conditions.ts";
import { Http2Transport } from "../../kubernetes/http2.ts";
import { systemClock } from "../../platform/clock.ts";
import { quietLog } from "../../platform/testing.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";
import { installCrds, uninstallCrds } from "./install-crds.ts";

// A lease ends after 15 s, and much is written each 10 s only.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const own = `/apis/${apiVersion}`;
const LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const wait = { timeout: 90_000, interval: 50 };

interface Opened {
  status: ClusterStatus;
  source: KubernetesSource;
  client: ApiClient;
  report: NodeReport;
}

describe("an agent tells the API server", () => {
  let server: ApiServer;
  const opened: Opened[] = [];

  beforeEach(context => context.skip(missing !== undefined, missing));
  beforeAll(async () => {
    if (missing) return;
    server = await startApiServer({ watchCache: true });
    await installCrds(server);
  });
  afterEach(async () => {
    for (const { status, source } of opened.splice(0)) {
      await status.close();
      await source.close();
    }
    if (missing) return;
    for (const plural of ["fabrics", "peers", "policies", "nodestates"]) await server.call("DELETE", `${own}/${plural}`);
    for (const path of ["/api/v1/nodes", LEASES, "/apis/events.k8s.io/v1/namespaces/default/events"]) await server.call("DELETE", path);
  });
  afterAll(() => server?.stop());

  /** An agent without a speaker: what it says of itself is the test's. */
  async function open(node: string, report: NodeReport): Promise<Opened> {
    const client = new ApiClient(new Http2Transport(server.credentials()), "test");
    const parts = { client, clock: systemClock, log: quietLog, random: Math.random };
    const one = { client, report } as Opened;
    one.status = new ClusterStatus(
      { node, namespace: "default" },
      { ...parts, report: () => one.report, serving: () => one.report.status.serving },
    );
    const selfSeen = (object: Parameters<ClusterStatus["nodeSeen"]>[0]) => one.status.nodeSeen(object);
    one.source = new KubernetesSource({ node, namespace: "default", needs: neededNodes, selfSeen }, parts);
    opened.push(one);
    await one.source.start(() => {});
    one.status.start();
    return one;
  }

  async function create(path: string, object: object): Promise<void> {
    const { status, body } = await server.call("POST", path, object);
    expect(status, JSON.stringify(body)).toBe(201);
  }
  const createNode = (name: string) => create("/api/v1/nodes", { metadata: { name } });
  const get = async (path: string) => (await server.call("GET", path)).body;
  const conditionOf = (object: { status?: { conditions?: Condition[] } }, type: string) =>
    object.status?.conditions?.find(one => one.type === type);
  const stateOf = (name: string) => get(`${own}/nodestates/${name}`);

  test("of its NodeState what changes, and nothing while nothing changes", async () => {
    await createNode("n1");
    const one = await open("n1", nodeReport([neighbor("tor-a"), neighbor("tor-b")]));
    await vi.waitFor(async () => expect((await stateOf("n1")).status?.summary?.sessions).toBe("2/2"), wait);
    const first = await stateOf("n1");
    expect(first.metadata.ownerReferences).toMatchObject([{ kind: "Node", name: "n1", uid: (await get("/api/v1/nodes/n1")).metadata.uid }]);
    expect(first.status.version).toBe("1.2.3");
    for (let i = 0; i < 20; i++) one.status.happened({ at: "", type: "neighbor", text: "" });
    await vi.waitFor(async () => expect((await get(`${LEASES}/podlane-controller`)).spec?.holderIdentity).toMatch(/^n1_/), wait);
    expect((await stateOf("n1")).metadata.resourceVersion).toBe(first.metadata.resourceVersion);
    one.report = nodeReport([neighbor("tor-a"), neighbor("tor-b", down)]);
    one.status.happened({ at: "", type: "neighbor", text: "" });
    await vi.waitFor(async () => expect((await stateOf("n1")).status.summary.sessions).toBe("1/2"), wait);
    const second = await stateOf("n1");
    expect(conditionOf(second, "SessionsEstablished")).toMatchObject({ status: "False", message: "1 of 2 are established; not tor-b" });
    expect(conditionOf(second, "Ready")).toEqual(conditionOf(first, "Ready"));
    expect(second.status.sessions[1]).toMatchObject({ name: "tor-b", lastError: "hold timer expired" });
    // What somebody deletes comes back with the next change.
    await server.call("DELETE", `${own}/nodestates/n1`);
    one.report = nodeReport([neighbor("tor-a")]);
    one.status.happened({ at: "", type: "neighbor", text: "" });
    await vi.waitFor(async () => expect((await stateOf("n1")).status?.summary?.sessions).toBe("1/1"), wait);
  });

  test("of its NodeState the present one when the server and the definitions are back", async () => {
    await createNode("n1");
    const one = await open("n1", nodeReport([neighbor("a")]));
    await vi.waitFor(async () => expect((await stateOf("n1")).status?.summary?.sessions).toBe("1/1"), wait);
    await server.kill();
    one.report = nodeReport([neighbor("a", down)]);
    one.status.happened({ at: "", type: "neighbor", text: "" });
    await server.restart();
    await vi.waitFor(async () => expect((await stateOf("n1")).status.summary.sessions).toBe("0/1"), wait);
    await uninstallCrds(server);
    one.report = nodeReport([neighbor("a")]);
    one.status.happened({ at: "", type: "neighbor", text: "" });
    await installCrds(server);
    await vi.waitFor(async () => expect((await stateOf("n1")).status?.summary?.sessions).toBe("1/1"), wait);
  });

  test("whether the node's network is available, also after somebody else changed it", async () => {
    await createNode("n1");
    const one = await open("n1", nodeReport([], { ready: false }));
    const network = async () => conditionOf(await get("/api/v1/nodes/n1"), "NetworkUnavailable");
    await vi.waitFor(async () => expect(await network()).toMatchObject({ status: "True", reason: "PodlaneIsNotReady" }), wait);
    one.report = nodeReport([]);
    one.status.happened({ at: "", type: "serving", text: "this node serves pods", ready: true });
    await vi.waitFor(async () => expect(await network()).toMatchObject({ status: "False", reason: "PodlaneIsReady" }), wait);
    const conditions = [{ type: "NetworkUnavailable", status: "True", reason: "Somebody", message: "else" }];
    await server.call("PATCH", "/api/v1/nodes/n1/status", { status: { conditions } });
    await vi.waitFor(async () => expect(await network()).toMatchObject({ status: "False", reason: "PodlaneIsReady" }), wait);
  });

  test("what happened, once for much", async () => {
    await createNode("n1");
    const one = await open("n1", nodeReport([]));
    const happened = (name: string, state: string) =>
      one.status.happened({ at: "", type: "neighbor", text: "", neighbor: name, state, reason: "hold timer expired" });
    const events = async () =>
      (await get("/apis/events.k8s.io/v1/namespaces/default/events")).items.map(
        (event: { reason: string; note: string; series?: object }) => event,
      );
    for (let i = 0; i < 40; i++) happened(`node${i}`, "Established");
    for (let i = 0; i < 40; i++) happened(`node${i}`, "Idle");
    await vi.waitFor(async () => expect(await events()).toHaveLength(1), wait);
    expect((await events())[0]).toMatchObject({
      ...{ reason: "SessionLost", type: "Warning", reportingController: "podlane.io/agent", reportingInstance: "n1" },
      regarding: { kind: "NodeState", name: "n1" },
      note: expect.stringMatching(/^40 × SessionLost: session with node0 lost: hold timer expired; .*and 37 more$/),
    });
    // The same once more is a series.
    for (let i = 0; i < 40; i++) happened(`node${i}`, "Established");
    for (let i = 0; i < 40; i++) happened(`node${i}`, "Idle");
    await vi.waitFor(async () => expect((await events()).some((one: { series?: { count: number } }) => one.series)).toBe(true), wait);
  });

  test("the status of objects, by one of all, and by another one when that one is gone", async () => {
    for (const name of ["n1", "n2"]) await createNode(name);
    await create(`${own}/fabrics`, { apiVersion, kind: "Fabric", metadata: { name: "main" }, spec: { nodeSelector: {}, asn: 64512 } });
    const spec = { nodeSelector: {}, address: "192.0.2.1", asn: 65001, import: { policies: ["gone"] } };
    await create(`${own}/peers`, { apiVersion, kind: "Peer", metadata: { name: "tor-a" }, spec });
    const both = [await open("n1", nodeReport([neighbor("tor-a")])), await open("n2", nodeReport([neighbor("tor-a")], { ready: false }))];
    const peer = () => get(`${own}/peers/tor-a`);
    const fabric = async () => (await get(`${own}/fabrics/main`)).status;
    await vi.waitFor(async () => expect((await peer()).status?.sessions).toBe("2/2"), wait);
    await vi.waitFor(async () => expect(await fabric()).toMatchObject({ nodes: 2, nodesReady: 1 }), wait);
    const first = await peer();
    expect(conditionOf(first, "Accepted")).toMatchObject({ status: "False", reason: "ReferenceNotFound", observedGeneration: 1 });
    expect(conditionOf(first, "ResolvedRefs")).toMatchObject({ status: "False", reason: "ReferenceNotFound" });
    const rules = [{ result: "Accept" }];
    await create(`${own}/policies`, { apiVersion, kind: "Policy", metadata: { name: "gone" }, spec: { rules } });
    await vi.waitFor(async () => expect(conditionOf(await peer(), "ResolvedRefs")).toMatchObject({ status: "True" }), wait);
    expect(conditionOf(await peer(), "Accepted")).toMatchObject({ status: "True" });
    // Only one of them has written.
    const lease = await get(`${LEASES}/podlane-controller`);
    const leader = both.findIndex((_, i) => lease.spec.holderIdentity.startsWith(`n${i + 1}_`));
    // As a process that is killed: it says nothing more.
    both[leader].client.close();
    await vi.waitFor(async () => {
      const { spec } = await get(`${LEASES}/podlane-controller`);
      expect(spec.holderIdentity).toMatch(new RegExp(`^n${2 - leader}_`));
    }, wait);
    const other = both[1 - leader];
    other.report = nodeReport([neighbor("tor-a", down)]);
    other.status.happened({ at: "", type: "neighbor", text: "" });
    await vi.waitFor(async () => expect((await peer()).status.sessions).toBe("1/2"), wait);
    // A node whose kubelet is silent has no session, whatever its NodeState said last.
    const unknown = [{ type: "Ready", status: "Unknown", reason: "NodeStatusUnknown", message: "" }];
    await server.call("PATCH", `/api/v1/nodes/n${leader + 1}/status`, { status: { conditions: unknown } });
    await vi.waitFor(async () => expect((await peer()).status.sessions).toBe("0/2"), wait);
    // The other one serves pods.
    await vi.waitFor(async () => expect((await fabric()).nodesReady).toBe(1), wait);
  });
});
