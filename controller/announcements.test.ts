/** What the leader says on Services of their announcement, at a server of this process. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { checkObject } from "../config/resources/check-object.ts";
import { type AnyResource, collect } from "../config/resources/kinds.ts";
import type { ApiClient } from "../kubernetes/client.ts";
import { WatchServer } from "../kubernetes/testing/watch-server.ts";
import { systemClock } from "../platform/clock.ts";
import { quietLog } from "../platform/testing.ts";
import { ANNOUNCED_CONDITION, Announcements } from "./announcements.ts";

const SERVICES = "/api/v1/services";
const wait = { timeout: 10_000, interval: 10 };
/** Ten seconds between two writes are 0.1 s. */
const SPEED = 100;
const fastClock = {
  ...systemClock,
  monotonic: () => systemClock.monotonic() * SPEED,
  after: (milliseconds: number, then: () => void) => systemClock.after(milliseconds / SPEED, then),
};

let server: WatchServer;
let client: ApiClient;
let announcements: Announcements;
const warned: string[] = [];

beforeEach(async () => {
  server = new WatchServer();
  client = await server.start();
  warned.length = 0;
  const log = { ...quietLog, warn: (_: object, text: string) => void warned.push(text) };
  announcements = new Announcements({ client, clock: fastClock, log, random: () => 0 });
});
afterEach(async () => {
  await announcements.close();
  client.close();
  await server.stop();
});

const old = { type: ANNOUNCED_CONDITION, status: "True", reason: "Announced", message: "old" };
const service = (name: string, conditions: object[] = []) => ({
  metadata: { name, namespace: "shop", uid: name },
  spec: { type: "LoadBalancer", clusterIPs: ["10.96.0.9"] },
  status: { loadBalancer: { ingress: [{ ip: "192.0.2.5" }] }, conditions },
});
const read = (object: object) => checkObject(object).object as AnyResource;
const advertisement = read({
  apiVersion: "podlane.io/v1alpha1",
  kind: "Advertisement",
  metadata: { name: "vips" },
  spec: { nodeSelector: {}, type: "Service", mesh: true, service: { addresses: ["LoadBalancerIP"], selector: {} } },
});
const node = (name: string) => read({ apiVersion: "v1", kind: "Node", metadata: { name }, spec: {}, status: {} });
const use = (...objects: AnyResource[]) => announcements.use(collect(objects).resources);
/** What of it was written. */
const written = (name: string) =>
  server.patches
    .filter(({ path }) => path === `/api/v1/namespaces/shop/services/${name}/status`)
    .flatMap(({ body }) => (body.status as { conditions: Record<string, string>[] }).conditions);

test("a new leader takes back what one before has said where nothing of the kind is announced any more", async () => {
  server.set(SERVICES, service("a", [old]));
  server.set(SERVICES, service("b"));
  use(node("n1"));
  await vi.waitFor(() => expect(written("a")).toEqual([{ type: ANNOUNCED_CONDITION, $patch: "delete" }]), wait);
  expect(written("b")).toEqual([]);
});

test("a new leader that finds none looks once, also where it is refused at first, and follows nothing", async () => {
  server.set(SERVICES, service("a"));
  server.refused.set(SERVICES, 403);
  use(node("n1"));
  await vi.waitFor(() => expect(warned[0]).toContain("are not looked for"), wait);
  server.refused.clear();
  await vi.waitFor(() => expect(server.requests).toEqual([`list ${SERVICES}`]), wait);
  use(node("n1"), node("n2"));
  // It is at work all the same.
  use(node("n1"), advertisement);
  await vi.waitFor(() => expect(written("a")).toMatchObject([{ status: "False", reason: "NoEndpoints" }]), wait);
  expect(server.requests.filter(one => one === `list ${SERVICES}`)).toHaveLength(1);
});

test("what somebody else changes or takes away is put back", async () => {
  server.set(SERVICES, service("a"));
  use(node("n1"), advertisement);
  await vi.waitFor(() => expect(written("a")).toHaveLength(1), wait);
  const [said] = written("a");
  server.set(SERVICES, service("a", [said]));
  server.set(SERVICES, service("a"));
  await vi.waitFor(() => expect(written("a")).toHaveLength(2), wait);
  server.set(SERVICES, service("a", [{ ...said, message: "nonsense" }]));
  await vi.waitFor(() => expect(written("a")).toHaveLength(3), wait);
  expect(written("a").map(({ message }) => message)).toEqual([said.message, said.message, said.message]);
});
