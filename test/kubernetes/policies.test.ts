/** What of policies, pods and namespaces is followed at a real API server, and when. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { PolicyWatches } from "../../config/sources/policy-watches.ts";
import { ApiClient } from "../../kubernetes/client.ts";
import { Http2Transport } from "../../kubernetes/http2.ts";
import type { PolicyPod, PolicySink } from "../../netfilter/policy/types.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const NAMESPACES = "/api/v1/namespaces";
const policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
const podsOf = (namespace: string) => `/api/v1/namespaces/${namespace}/pods`;

/** What was said, as of the last settle(). */
class Recorder implements PolicySink {
  readonly pods = new Map<string, PolicyPod>();
  readonly namespaces = new Map<string, object>();
  readonly nodes = new Map<string, object>();
  readonly policies = new Map<string, object>();
  settled = 0;
  setPod = (pod: PolicyPod) => void this.pods.set(pod.key, pod);
  deletePod = (key: string) => void this.pods.delete(key);
  setNamespace = ({ name, labels }: { name: string; labels: object }) => void this.namespaces.set(name, labels);
  deleteNamespace = (name: string) => void this.namespaces.delete(name);
  setNode = (node: { name: string }) => void this.nodes.set(node.name, node);
  deleteNode = (name: string) => void this.nodes.delete(name);
  setPolicy = (policy: { key: string }) => void this.policies.set(policy.key, policy);
  deletePolicy = (key: string) => void this.policies.delete(key);
  setClusterPolicy = (policy: { key: string }) => void this.policies.set(policy.key, policy);
  deleteClusterPolicy = (key: string) => void this.policies.delete(key);
  settle = () => void this.settled++;
}

let server: ApiServer;
let client: ApiClient;
let watches: PolicyWatches;
let sink: Recorder;

beforeAll(async () => {
  if (missing) return;
  server = await startApiServer({ watchCache: true, tokens: ['nobody,nobody,nobody,"nobodies"'] });
  await call("POST", NAMESPACES, { metadata: { name: "shop", labels: { team: "a" } } });
  // No controller makes them here, and no pod is taken without.
  for (const namespace of ["default", "shop"])
    await call("POST", `${NAMESPACES}/${namespace}/serviceaccounts`, { metadata: { name: "default" } });
});
afterAll(() => server?.stop());
beforeEach(context => {
  context.skip(missing !== undefined, missing);
  follow("test");
});
afterEach(async () => {
  await watches?.close();
  client?.close();
  for (const path of [policies, podsOf("default"), podsOf("shop")])
    for (const { metadata } of (await server.call("GET", path)).body.items)
      await server.call("DELETE", `${path}/${metadata.name}?gracePeriodSeconds=0`);
});

function follow(token: string): void {
  client = new ApiClient(new Http2Transport(server.credentials(() => token)), "test");
  watches = new PolicyWatches({ client, clock: systemClock, log: quiet, random: () => 0.5 }, { node: "n1", changed() {} });
  sink = new Recorder();
  watches.follow(sink);
}

// biome-ignore lint/suspicious/noExplicitAny: objects as the API server gives them.
async function call(method: string, path: string, body?: object): Promise<any> {
  const answer = await server.call(method, path, body);
  expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
  return answer.body;
}

const pod = (name: string, nodeName: string | undefined, more: object = {}) => ({
  metadata: { name, labels: { app: name } },
  spec: {
    ...(nodeName && { nodeName }),
    containers: [{ name: "c", image: "i", ports: [{ name: "http", containerPort: 80 }] }],
    serviceAccountName: "default",
    automountServiceAccountToken: false,
    ...more,
  },
});
const deny = { metadata: { name: "deny" }, spec: { podSelector: {}, policyTypes: ["Ingress"] } };
const eventually = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 10 });
const keys = () => [...sink.pods.keys()].sort();

test("without a policy this node's pods alone are followed; with one, the others, by address and labels, and namespaces", async () => {
  await call("POST", podsOf("default"), pod("mine", "n1"));
  await call("POST", podsOf("default"), pod("theirs", "n2"));
  await call("POST", podsOf("default"), pod("waiting", undefined));
  await call("POST", podsOf("default"), pod("host", "n2", { hostNetwork: true }));
  await call("POST", podsOf("default"), pod("ended", "n2"));
  await call("PATCH", `${podsOf("default")}/ended/status`, { status: { phase: "Succeeded" } });
  await eventually(() => expect([keys(), watches.missing()]).toEqual([["default/mine"], undefined]));
  await eventually(() => expect(sink.settled).toBeGreaterThan(0));
  expect(watches.watches.map(({ collection }) => collection.name).sort()).toEqual(["networkpolicies.networking.k8s.io", "pods of n1"]);
  expect(sink.pods.get("default/mine")).toMatchObject({ node: "n1", labels: { app: "mine" }, ports: [{ name: "http", port: 80 }] });

  await call("POST", policies, deny);
  await eventually(() => expect([keys(), watches.missing()]).toEqual([["default/mine", "default/theirs"], undefined]));
  expect(sink.namespaces.get("shop")).toMatchObject({ team: "a" });
  await call("PATCH", `${podsOf("default")}/theirs/status`, {
    status: { phase: "Running", podIP: "10.244.2.2", podIPs: [{ ip: "10.244.2.2" }] },
  });
  await eventually(() => expect(sink.pods.get("default/theirs")?.addresses).toEqual(["10.244.2.2"]));
  await call("PATCH", `${podsOf("default")}/theirs`, { metadata: { labels: { app: "other" } } });
  await eventually(() => expect(sink.pods.get("default/theirs")?.labels).toEqual({ app: "other" }));
  await call("PATCH", `${podsOf("default")}/theirs/status`, { status: { phase: "Failed" } });
  await eventually(() => expect(keys()).toEqual(["default/mine"]));
});

test("a pod that is created anew on another node is known there, whichever watch tells first", async () => {
  await call("POST", policies, deny);
  await call("POST", podsOf("shop"), pod("set-0", "n2"));
  await eventually(() => expect(sink.pods.get("shop/set-0")?.node).toBe("n2"));
  for (const node of ["n1", "n2", "n1"]) {
    await call("DELETE", `${podsOf("shop")}/set-0?gracePeriodSeconds=0`);
    const { metadata } = await call("POST", podsOf("shop"), pod("set-0", node));
    await eventually(() => expect(sink.pods.get("shop/set-0")).toMatchObject({ node, uid: metadata.uid }));
  }
});

test("cluster policies are looked for, and followed once their definition is there", async () => {
  await eventually(() => expect(watches.missing()).toBeUndefined());
  const definition = {
    metadata: {
      name: "clusternetworkpolicies.policy.networking.k8s.io",
      annotations: { "api-approved.kubernetes.io": "unapproved, for a test" },
    },
    spec: {
      group: "policy.networking.k8s.io",
      scope: "Cluster",
      names: { kind: "ClusterNetworkPolicy", plural: "clusternetworkpolicies", singular: "clusternetworkpolicy" },
      versions: ["v1alpha2", "v1beta1"].map(name => ({
        name,
        served: true,
        storage: name === "v1beta1",
        schema: {
          openAPIV3Schema: { type: "object", properties: { spec: { type: "object", "x-kubernetes-preserve-unknown-fields": true } } },
        },
      })),
    },
  };
  await call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
  const path = "/apis/policy.networking.k8s.io/v1beta1/clusternetworkpolicies";
  const spec = { tier: "Admin", priority: 1, subject: { namespaces: {} }, egress: [{ action: "Deny", to: [{ nodes: {} }] }] };
  const object = { apiVersion: "policy.networking.k8s.io/v1beta1", kind: "ClusterNetworkPolicy", metadata: { name: "c" }, spec };
  await vi.waitFor(async () => expect((await server.call("POST", path, object)).status).toBe(201), { timeout: 20_000, interval: 100 });
  await call("POST", "/api/v1/nodes", { metadata: { name: "n2" }, status: { addresses: [{ type: "InternalIP", address: "192.0.2.2" }] } });
  watches.relook();
  await eventually(() => expect([...sink.policies.keys()]).toEqual(["ClusterNetworkPolicy/c"]));
  // It names nodes, and all of them are needed for it.
  await eventually(() => expect(sink.nodes.get("n2")).toMatchObject({ addresses: ["192.0.2.2"] }));
  await call("PATCH", `${path}/c`, { spec: { ...spec, tier: "admin" } });
  await eventually(() =>
    expect(watches.problems()).toEqual([expect.objectContaining({ object: "ClusterNetworkPolicy/c", severity: "error" })]),
  );
  expect(sink.policies.get("ClusterNetworkPolicy/c")).toMatchObject({ tier: "Admin" });
  // A version that is served no more, and an object that goes meanwhile.
  const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  const [older, newer] = definition.spec.versions;
  const later = { ...newer, served: false };
  await call("PATCH", `${definitions}/${definition.metadata.name}`, { spec: { versions: [older, later] } });
  await call("DELETE", `${path.replace("v1beta1", "v1alpha2")}/c`);
  watches.relook();
  await eventually(() => expect([sink.policies.size, watches.problems()]).toEqual([0, []]));
});

test("who may not read them settles nothing, and says why", async () => {
  await watches.close();
  client.close();
  follow("nobody");
  await eventually(() => expect(watches.missing()).toMatch(/networkpolicies.networking.k8s.io: 403 .*; pods of n1: 403/));
  expect(sink.settled).toBe(0);
});
