/** What the leader says on Services of their announcement, with a real API server. */
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { apiVersion } from "../../config/resources/common.ts";
import { ANNOUNCED_CONDITION } from "../../controller/announcements.ts";
import { Controller } from "../../controller/controller.ts";
import { ApiClient } from "../../kubernetes/client.ts";
import type { Condition } from "../../kubernetes/conditions.ts";
import { Http2Transport } from "../../kubernetes/http2.ts";
import { systemClock } from "../../platform/clock.ts";
import { quietLog } from "../../platform/testing.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";
import { installCrds } from "./install-crds.ts";

vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const SERVICES = "/api/v1/namespaces/default/services";
const SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ADVERTISEMENTS = `/apis/${apiVersion}/advertisements`;
const wait = { timeout: 60_000, interval: 100 };

describe("the leader says of a Service", () => {
  let server: ApiServer;
  let controller: Controller;
  let client: ApiClient;

  beforeEach(context => context.skip(missing !== undefined, missing));
  beforeAll(async () => {
    if (missing) return;
    server = await startApiServer({ watchCache: true });
    await installCrds(server);
    client = new ApiClient(new Http2Transport(server.credentials()), "test");
    controller = new Controller(
      { namespace: "default", identity: "n1" },
      { client, clock: systemClock, log: quietLog, random: Math.random },
    );
    controller.start();
  });
  afterAll(async () => {
    await controller?.close();
    client?.close();
    await server?.stop();
  });

  const create = async (path: string, object: object) => {
    const { status, body } = await server.call("POST", path, object);
    expect(status, JSON.stringify(body)).toBe(201);
  };
  const announced = async () => {
    const { body } = await server.call("GET", `${SERVICES}/web`);
    const conditions: Condition[] = body.status.conditions ?? [];
    return conditions.find(({ type }) => type === ANNOUNCED_CONDITION);
  };
  const slice = {
    metadata: { name: "web-1", labels: { "kubernetes.io/service-name": "web" } },
    addressType: "IPv4",
    endpoints: [{ addresses: ["10.244.1.5"], nodeName: "n1", conditions: {} }],
    ports: [],
  };

  test("that it is announced, or the first broken link in the words of its nodes, and nothing where nothing is announced", async () => {
    await create("/api/v1/nodes", { metadata: { name: "n1" } });
    await create(SERVICES, { metadata: { name: "web" }, spec: { type: "LoadBalancer", ports: [{ port: 80 }] } });
    const spec = { nodeSelector: {}, type: "Service", mesh: true, service: { addresses: ["LoadBalancerIP"], selector: {} } };
    await create(ADVERTISEMENTS, { apiVersion, kind: "Advertisement", metadata: { name: "vips" }, spec });
    await vi.waitFor(async () => expect(await announced()).toMatchObject({ status: "False", reason: "NoAddress" }), wait);

    const ready = { type: "Foreign", status: "True", reason: "Other", message: "", lastTransitionTime: "2026-01-01T00:00:00Z" };
    const status = { loadBalancer: { ingress: [{ ip: "192.0.2.7" }] }, conditions: [ready] };
    await server.call("PATCH", `${SERVICES}/web/status`, { status });
    await vi.waitFor(async () => expect(await announced()).toMatchObject({ status: "False", reason: "NoEndpoints" }), wait);

    await create(SLICES, slice);
    await vi.waitFor(async () => expect(await announced()).toMatchObject({ status: "True", reason: "Announced" }), wait);
    expect(await announced()).toMatchObject({
      message: expect.stringContaining("192.0.2.7 by Advertisement/vips; podlane services default/web"),
    });

    await server.call("DELETE", `${ADVERTISEMENTS}/vips`);
    await vi.waitFor(async () => expect(await announced()).toBeUndefined(), wait);
    expect((await server.call("GET", `${SERVICES}/web`)).body.status.loadBalancer).toEqual({
      ingress: [{ ip: "192.0.2.7", ipMode: "VIP" }],
    });
  });
});
