/** Load-balancer addresses out of AddressPools, with a real API server: given once, kept, taken back, whoever leads and wherever a leader ends. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { apiVersion } from "../../config/resources/common.ts";
import { ADDRESS_CONDITION } from "../../config/services/balanced.ts";
import { AddressAllocator } from "../../controller/addresses/allocator.ts";
import { ApiClient } from "../../kubernetes/client.ts";
import type { Condition } from "../../kubernetes/conditions.ts";
import { Http2Transport } from "../../kubernetes/http2.ts";
import type { Transport, TransportRequest, TransportResponse } from "../../kubernetes/types.ts";
import { systemClock } from "../../platform/clock.ts";
import { quietLog } from "../../platform/testing.ts";
import { AgentProcesses } from "./agents.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";
import { installCrds } from "./install-crds.ts";

vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const POOLS = `/apis/${apiVersion}/addresspools`;
const CLAIMS = `/apis/${apiVersion}/addressclaims`;
const SERVICES = "/api/v1/namespaces/default/services";
const LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const wait = { timeout: 120_000, interval: 50 };

interface ServiceObject {
  metadata: { name: string; namespace: string; uid: string };
  spec: { type: string; ipFamilies: string[] };
  status: { loadBalancer?: { ingress?: { ip: string }[] }; conditions?: Condition[] };
}
interface ClaimObject {
  metadata: { name: string };
  spec: { address: string; pool: string; services: { namespace: string; name: string; uid: string }[] };
}

/** Ends as a process that is killed: from its write number `writes` on nothing goes out any more. */
class Mortal implements Transport {
  readonly server: string;
  readonly #inner: Transport;
  #left: number;
  readonly #longest: number;
  readonly #dead = Promise.withResolvers<void>();
  readonly #abort = new AbortController();

  /** `longest`: milliseconds that each request is held up at most, by chance. */
  constructor(inner: Transport, writes = Number.POSITIVE_INFINITY, longest = 0) {
    this.#inner = inner;
    this.#longest = longest;
    this.server = inner.server;
    this.#left = writes;
  }

  get died(): Promise<void> {
    return this.#dead.promise;
  }

  kill(): void {
    this.#left = 0;
    this.#dead.resolve();
    this.#abort.abort(new Error("dead"));
  }

  async send(request: TransportRequest): Promise<TransportResponse> {
    if (request.method !== "GET" && this.#left-- <= 0) this.kill();
    if (this.#longest > 0) await new Promise(resolve => setTimeout(resolve, Math.random() * this.#longest));
    this.#abort.signal.throwIfAborted();
    return this.#inner.send({ ...request, signal: AbortSignal.any([request.signal, this.#abort.signal]) });
  }

  close(): void {
    this.#inner.close();
  }
}

describe("load-balancer addresses", () => {
  let server: ApiServer;
  const closing: (() => Promise<unknown>)[] = [];

  beforeEach(context => context.skip(missing !== undefined, missing));
  beforeAll(async () => {
    if (missing) return;
    server = await startApiServer({ watchCache: true, dualStack: true });
    await installCrds(server);
  });
  afterEach(async () => {
    await Promise.all(closing.splice(0).map(close => close()));
    if (missing) return;
    for (const path of [POOLS, CLAIMS]) await server.call("DELETE", path);
    for (const { metadata } of await services()) await server.call("DELETE", `${SERVICES}/${metadata.name}`);
    for (const path of [LEASES, "/api/v1/nodes", `/apis/${apiVersion}/nodestates`]) await server.call("DELETE", path);
  });
  afterAll(() => server?.stop());

  function transport(writes?: number, longest?: number): Mortal {
    return new Mortal(new Http2Transport(server.credentials()), writes, longest);
  }

  /** One that believes it leads. */
  function open(over: Mortal = transport()): AddressAllocator {
    const client = new ApiClient(over, "test");
    const parts = { client, clock: systemClock, log: quietLog, random: Math.random };
    const allocator = new AddressAllocator({ instance: "test" }, parts);
    closing.push(async () => {
      await allocator.close();
      client.close();
    });
    return allocator;
  }

  async function create(path: string, object: object): Promise<ServiceObject> {
    const { status, body } = await server.call("POST", path, object);
    expect(status, JSON.stringify(body)).toBe(201);
    return body;
  }
  const createPool = (name: string, spec: object) => create(POOLS, { apiVersion, kind: "AddressPool", metadata: { name }, spec });
  const createService = (name: string, spec: object = {}, metadata: object = {}) =>
    create(SERVICES, {
      metadata: { name, ...metadata },
      spec: { type: "LoadBalancer", ports: [{ port: 80 }], selector: { app: name }, ...spec },
    });
  const services = async (): Promise<ServiceObject[]> =>
    (await server.call("GET", SERVICES)).body.items.filter(({ metadata }: ServiceObject) => metadata.name !== "kubernetes");
  const get = async (name: string): Promise<ServiceObject> => (await server.call("GET", `${SERVICES}/${name}`)).body;
  const claims = async (): Promise<ClaimObject[]> => (await server.call("GET", CLAIMS)).body.items;
  const addressesOf = ({ status }: ServiceObject) => (status.loadBalancer?.ingress ?? []).map(({ ip }) => ip);
  const conditionOf = ({ status }: ServiceObject) => {
    const { status: is, reason, message } = status.conditions?.find(({ type }) => type === ADDRESS_CONDITION) ?? {};
    return `${is} ${reason}: ${message}`;
  };
  const setStatus = (name: string, status: object) => server.call("PATCH", `${SERVICES}/${name}/status`, { status });
  const patch = (name: string, change: object) => server.call("PATCH", `${SERVICES}/${name}`, change);

  /** Whose each address is, by the claims, which say the same as the Services' status. Throws where one is that of two. */
  async function owners(): Promise<Map<string, string[]>> {
    const [all, made] = [await services(), await claims()];
    const byAddress = new Map<string, string[]>();
    for (const one of all) for (const ip of addressesOf(one)) byAddress.set(ip, [...(byAddress.get(ip) ?? []), one.metadata.name]);
    const byClaim = new Map(made.map(({ spec }) => [spec.address, spec.services.map(({ name }) => name)]));
    for (const names of byAddress.values()) names.sort();
    for (const names of byClaim.values()) names.sort();
    expect(Object.fromEntries([...byAddress].sort())).toEqual(Object.fromEntries([...byClaim].sort()));
    return byAddress;
  }

  const has = (name: string, ...addresses: string[]) =>
    vi.waitFor(async () => expect(addressesOf(await get(name))).toEqual(addresses), wait);
  const says = (name: string, what: RegExp) => vi.waitFor(async () => expect(conditionOf(await get(name))).toMatch(what), wait);

  test("are given, the lowest first, with a condition and an Event, and are free again when the Service is gone", async () => {
    await createPool("public", { addresses: ["192.0.2.10-192.0.2.12"] });
    open();
    for (const name of ["a", "b", "c"]) {
      await createService(name);
      await says(name, /^True AddressAssigned/);
    }
    await has("b", "192.0.2.11");
    expect(conditionOf(await get("b"))).toBe("True AddressAssigned: 192.0.2.11 of AddressPool public");
    await createService("d");
    await says("d", /^False PoolExhausted: AddressPool public has no free IPv4 address/);
    await vi.waitFor(async () => {
      const { body } = await server.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events");
      const told = body.items.map(
        ({ reason, regarding }: { reason: string; regarding: { name: string } }) => `${regarding.name} ${reason}`,
      );
      expect(told).toEqual(expect.arrayContaining(["a AddressAssigned", "d PoolExhausted"]));
    }, wait);
    await server.call("DELETE", `${SERVICES}/b`);
    await has("d", "192.0.2.11");
    await owners();
    await patch("a", { spec: { type: "ClusterIP" } });
    await vi.waitFor(async () => expect([...(await owners()).keys()].sort()).toEqual(["192.0.2.11", "192.0.2.12"]), wait);
  });

  /** Of one moment: no address is in the status of two Services. */
  async function isNoneTwice(): Promise<void> {
    const all = (await services()).flatMap(addressesOf);
    expect(all.toSorted()).toEqual([...new Set(all)].sort());
  }

  test("have one owner each while two leaders believe that they lead, and Services ask for each other's addresses", async () => {
    await createPool("small", { addresses: ["198.51.100.0-198.51.100.11"] });
    // Each hears and writes late, and never both alike.
    for (let i = 0; i < 2; i++) open(transport(undefined, 40));
    const names = Array.from({ length: 10 }, (_, i) => `s${i}`);
    await Promise.all(names.map(name => createService(name)));
    let isOver = false;
    let looks = 0;
    const watching = (async () => {
      for (; !isOver; looks++) await isNoneTwice();
    })();
    for (let round = 0; round < 60; round++) {
      const name = names[Math.floor(Math.random() * names.length)];
      const chance = Math.random();
      if (chance < 0.15) {
        await server.call("DELETE", `${SERVICES}/${name}`);
        await createService(name);
      } else if (chance < 0.3) await patch(name, { spec: { type: round % 2 ? "ClusterIP" : "LoadBalancer" } });
      else await patch(name, { metadata: { annotations: { "podlane.io/addresses": `198.51.100.${Math.floor(Math.random() * 12)}` } } });
    }
    for (const name of names)
      await patch(name, { metadata: { annotations: { "podlane.io/addresses": null } }, spec: { type: "LoadBalancer" } });
    await vi.waitFor(async () => {
      expect((await services()).every(one => addressesOf(one).length === 1)).toBe(true);
      expect((await owners()).size).toBe(10);
    }, wait);
    isOver = true;
    await watching;
    expect(looks).toBeGreaterThan(10);
  });

  test("are given once wherever a leader ends: after each of its writes another one takes over", async () => {
    await createPool("public", { addresses: ["192.0.2.0/24"] });
    for (let i = 0; i < 3; i++) await createService(`s${i}`);
    await createService("wanted", {}, { annotations: { "podlane.io/addresses": "192.0.2.9" } });
    expect(await endAfterEachWrite()).toBeGreaterThan(7);
    expect(await owners()).toEqual(new Map(["192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.9"].map(ip => [ip, [expect.any(String)]])));
    await patch("wanted", { metadata: { annotations: { "podlane.io/addresses": "192.0.2.200" } } });
    await server.call("DELETE", `${SERVICES}/s1`);
    await createService("s1");
    await patch("s2", { spec: { type: "NodePort" } });
    expect(await endAfterEachWrite()).toBeGreaterThan(5);
    expect((await owners()).get("192.0.2.200")).toEqual(["wanted"]);
    expect((await owners()).size).toBe(3);
  });

  /** Leaders of one write each, until one finds nothing left to do. Returns how many there were. */
  async function endAfterEachWrite(): Promise<number> {
    for (let turn = 1; turn <= 60; turn++) {
      const over = transport(1);
      const one = open(over);
      const end = await Promise.race([over.died.then(() => "died"), idle(one).then(() => "idle")]);
      for (const close of closing.splice(0)) await close();
      // What a Service has is claimed for it at each moment.
      const claimed = new Map((await claims()).map(({ spec }) => [spec.address, spec.services.map(({ name }) => name)]));
      for (const service of await services())
        for (const ip of addressesOf(service)) expect(claimed.get(ip)).toContain(service.metadata.name);
      await isNoneTwice();
      if (end === "idle") return turn;
    }
    throw new Error("it never comes to an end");
  }

  const idle = (allocator: AddressAllocator) => vi.waitFor(() => expect(allocator.idle).toBe(true), { timeout: 60_000, interval: 20 });

  test("are those that a Service asks for, in each way of asking", async () => {
    await createPool("public", { addresses: ["192.0.2.0/24"] });
    await createPool("manual", { addresses: ["203.0.113.0/29"], autoAssign: false });
    open();
    await createService("a", { loadBalancerIP: "192.0.2.10" });
    const asking: Record<string, [Record<string, string>, string]> = {
      b: [{ "podlane.io/addresses": "192.0.2.11" }, "192.0.2.11"],
      c: [{ "metallb.io/loadBalancerIPs": "192.0.2.12" }, "192.0.2.12"],
      d: [{ "metallb.universe.tf/loadBalancerIPs": "192.0.2.13" }, "192.0.2.13"],
      e: [{ "podlane.io/address-pool": "manual" }, "203.0.113.0"],
      f: [{ "metallb.io/address-pool": "manual" }, "203.0.113.1"],
      g: [{ "metallb.universe.tf/address-pool": "manual" }, "203.0.113.2"],
    };
    for (const [name, [annotations]] of Object.entries(asking)) await createService(name, {}, { annotations });
    await has("a", "192.0.2.10");
    for (const [name, [, address]] of Object.entries(asking)) await has(name, address);
    await createService("late", { loadBalancerIP: "192.0.2.10" });
    await says("late", /^False AddressInUse: 192\.0\.2\.10 is that of Service default\/a/);
    await server.call("DELETE", `${SERVICES}/a`);
    await has("late", "192.0.2.10");
    await owners();
  });

  test("are of both families where a Service wants them and one pool has them", async () => {
    await createPool("two", { addresses: ["192.0.2.0/31", "2001:db8::/64"], priority: 1 });
    await createPool("four", { addresses: ["203.0.113.0/24"] });
    open();
    await createService("a", { ipFamilyPolicy: "RequireDualStack", ipFamilies: ["IPv6", "IPv4"] });
    await has("a", "2001:db8::", "192.0.2.0");
    await createService("b", { ipFamilyPolicy: "SingleStack", ipFamilies: ["IPv6"] });
    await has("b", "2001:db8::1");
    await createService("c", { ipFamilyPolicy: "SingleStack" });
    await has("c", "192.0.2.1");
    await createService("d", { ipFamilyPolicy: "PreferDualStack" });
    await has("d", "203.0.113.0");
    await createService("e", { ipFamilyPolicy: "RequireDualStack" });
    await says("e", /^False PoolExhausted/);
    await server.call("DELETE", `${SERVICES}/c`);
    await has("e", "192.0.2.1", "2001:db8::2");
    expect((await claims()).map(({ metadata }) => metadata.name)).toContain("2001-db8-0-0-0-0-0-2");
    await owners();
  });

  test("are shared by key, and are not taken away by a pool that shrinks or goes", async () => {
    await createPool("public", { addresses: ["192.0.2.0/24"] });
    open();
    const annotations = { "metallb.universe.tf/allow-shared-ip": "dns" };
    await createService("tcp", { ports: [{ port: 53, protocol: "TCP" }] }, { annotations });
    await has("tcp", "192.0.2.0");
    await createService("udp", { ports: [{ port: 53, protocol: "UDP" }] }, { annotations });
    await has("udp", "192.0.2.0");
    await createService("more", { ports: [{ port: 53, protocol: "UDP" }] }, { annotations });
    await has("more", "192.0.2.1");
    expect((await owners()).get("192.0.2.0")).toEqual(["tcp", "udp"]);
    await server.call("PATCH", `${POOLS}/public`, { spec: { addresses: ["192.0.2.128/25"] } });
    await says("tcp", /^True PoolChanged: 192\.0\.2\.0 of AddressPool public; no AddressPool has 192\.0\.2\.0 any more/);
    await server.call("DELETE", `${POOLS}/public`);
    await server.call("DELETE", `${SERVICES}/tcp`);
    await vi.waitFor(async () => expect((await owners()).get("192.0.2.0")).toEqual(["udp"]), wait);
    await has("more", "192.0.2.1");
  });

  test("that MetalLB gave stay where they are", async () => {
    await createService(
      "asked",
      {},
      { annotations: { "metallb.universe.tf/loadBalancerIPs": "192.0.2.77", "metallb.universe.tf/ip-allocated-from-pool": "old" } },
    );
    await createService("given", {}, { annotations: { "metallb.io/ip-allocated-from-pool": "old" } });
    await createService("shared-a", { ports: [{ port: 1 }] }, { annotations: { "metallb.io/allow-shared-ip": "k" } });
    await createService("shared-b", { ports: [{ port: 2 }] }, { annotations: { "metallb.io/allow-shared-ip": "k" } });
    const before: Record<string, string> = { asked: "192.0.2.77", given: "192.0.2.1", "shared-a": "192.0.2.2", "shared-b": "192.0.2.2" };
    for (const [name, ip] of Object.entries(before)) await setStatus(name, { loadBalancer: { ingress: [{ ip }] } });
    await createService("aaa");
    await createPool("old", { addresses: ["192.0.2.1-192.0.2.100"] });
    open();
    await has("aaa", "192.0.2.3");
    await vi.waitFor(async () => expect((await owners()).size).toBe(4), wait);
    for (const [name, ip] of Object.entries(before)) await has(name, ip);
  });

  /** The node whose agent has the Lease, also if that was killed a moment ago. */
  async function leader(): Promise<string> {
    const { body } = await server.call("GET", `${LEASES}/podlane-controller`);
    const [node] = (body.spec?.holderIdentity ?? "").split("_");
    if (!node) throw new Error("none leads");
    return node;
  }

  test("are each given once to 500 Services while the process that leads is killed", async context => {
    if (process.getuid?.() !== 0) context.skip("network namespaces need root");
    await createPool("public", { addresses: ["10.64.0.0/22", "2001:db8::/118"] });
    const names = ["n1", "n2", "n3"];
    const agents = new AgentProcesses(server);
    closing.push(() => agents.close());
    for (const name of names) await agents.start(name);
    const first = await vi.waitFor(leader, wait);
    // Every other one has two addresses, so that the leader may end between them.
    const createOne = (i: number) => createService(`s${i}`, { ipFamilyPolicy: i % 2 ? "SingleStack" : "RequireDualStack" });
    const createFrom = async (from: number, to: number) => {
      for (let i = from; i < to; i += 20) await Promise.all(Array.from({ length: 20 }, (_, j) => createOne(i + j)));
    };
    await createFrom(0, 240);
    const given = async () => (await services()).filter(one => addressesOf(one).length > 0).length;
    await vi.waitFor(async () => expect(await given()).toBeGreaterThanOrEqual(100), wait);
    await Promise.all([agents.kill(first), createFrom(240, 500)]);
    await isNoneTwice();
    const before = new Map((await services()).map(one => [one.metadata.uid, addressesOf(one)]));
    await vi.waitFor(async () => {
      const all = await services();
      expect(all.filter(({ spec, status }) => status.loadBalancer?.ingress?.length !== spec.ipFamilies.length)).toEqual([]);
    }, wait);
    await vi.waitFor(async () => expect((await owners()).size).toBe(750), wait);
    expect([...(await owners()).values()].every(({ length }) => length === 1)).toBe(true);
    for (const one of await services())
      if (before.get(one.metadata.uid)?.length) expect(addressesOf(one)).toEqual(before.get(one.metadata.uid));
    expect(names.filter(name => name !== first)).toContain(await leader());
    await vi.waitFor(async () => {
      const { status } = (await server.call("GET", `${POOLS}/public`)).body;
      const counts = { ipv4: { used: 500, free: 524 }, ipv6: { used: 250, free: 774 } };
      expect(status).toMatchObject({ ...counts, conditions: [{ type: "Accepted", status: "True" }, {}] });
    }, wait);
  });
});
