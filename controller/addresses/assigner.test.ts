/**
 * Two leaders that both believe in themselves, at one API server: its requests, answers and events come in whatever order a seed says, leaders end with requests
 * under way, and Services change all the time. After each write no address has two owners.
 */
import { expect, test } from "vitest";
import { AddressBook, keyOf } from "../../config/services/address-book.ts";
import { readBalanced } from "../../config/services/balanced.ts";
import { addressOfClaim, claimName, readClaim } from "../../config/services/claims.ts";
import { pool, pools } from "../../config/services/testing.ts";
import { ApiError, type ApiObject } from "../../kubernetes/types.ts";
import { systemClock } from "../../platform/clock.ts";
import { Assigner, type AssignerParts } from "./assigner.ts";

const SERVICES = "/api/v1/namespaces/default/services/";
const CLAIMS = "/apis/podlane.io/v1alpha1/addressclaims";
/** Of IPv6 there is one for two that need both families. */
const range = pools(pool("p", ["192.0.2.0-192.0.2.4", "2001:db8::7/128"]));

/** Objects with optimistic concurrency, as the API server has them. */
class Server {
  readonly objects = new Map<string, ApiObject>();
  readonly hearers = new Set<(path: string, object: ApiObject | undefined) => void>();
  #version = 0;

  put(path: string, object: ApiObject): ApiObject {
    const { uid = `uid-${this.#version}` } = object.metadata;
    const stored = { ...object, metadata: { ...object.metadata, uid, resourceVersion: String(++this.#version) } };
    this.objects.set(path, stored);
    this.#tell(path, stored);
    return stored;
  }

  remove(path: string): void {
    if (this.objects.delete(path)) this.#tell(path, undefined);
  }

  /** Who wrote it would not tell. */
  fault: unknown;

  #tell(path: string, object: ApiObject | undefined): void {
    try {
      this.check();
    } catch (error) {
      this.fault ??= error;
    }
    for (const hear of this.hearers) hear(path, object);
  }

  read(path: string): ApiObject {
    const object = this.objects.get(path);
    if (!object) throw new ApiError(404, "NotFound", path);
    return object;
  }

  match(path: string, wanted: { uid?: unknown; resourceVersion?: unknown } | undefined): ApiObject {
    const object = this.read(path);
    const { uid, resourceVersion } = object.metadata;
    if (wanted?.uid !== undefined && wanted.uid !== uid) throw new ApiError(409, "Conflict", "another object");
    if (wanted?.resourceVersion !== undefined && wanted.resourceVersion !== resourceVersion)
      throw new ApiError(409, "Conflict", "another version");
    return object;
  }

  /** What a Service has is claimed for it, and so never that of two. */
  check(): void {
    for (const service of this.services()) {
      if (!service.balanced) continue;
      for (const address of service.addresses) {
        const claim = this.objects.get(`${CLAIMS}/${claimName(address)}`);
        expect(claim && readClaim(claim)?.services.map(({ uid }) => uid)).toEqual([service.uid]);
      }
    }
  }

  services() {
    return [...this.objects].filter(([path]) => path.startsWith(SERVICES)).map(([, object]) => readBalanced(object));
  }
}

class World {
  readonly server = new Server();
  readonly #pending: (() => void)[] = [];
  #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Each time another second. */
  now(): number {
    this.#time += 1000;
    return this.#time;
  }
  #time = 0;

  /** Below `bound`. */
  random(bound: number): number {
    this.#seed = (this.#seed * 48271) % 2147483647;
    return this.#seed % bound;
  }

  /** Goes on when it is its turn. */
  turn(): Promise<void> {
    return new Promise(resolve => this.#pending.push(resolve));
  }

  /** Lets one of what is under way go on. False: nothing is. */
  async step(): Promise<boolean> {
    const [next] = this.#pending.length > 0 ? this.#pending.splice(this.random(this.#pending.length), 1) : [];
    next?.();
    await new Promise(resolve => setImmediate(resolve));
    return next !== undefined;
  }

  /** A leader's way to the server: a request waits before it is served, and its answer after that. */
  client(): AssignerParts["client"] {
    const { server } = this;
    const call = async (serve: () => ApiObject | undefined) => {
      await this.turn();
      let answer: () => ApiObject | undefined;
      try {
        const object = serve();
        answer = () => object;
      } catch (error) {
        answer = () => {
          throw error;
        };
      }
      await this.turn();
      return answer() as ApiObject;
    };
    return {
      get: path => call(() => server.read(path)),
      create: (path, value) =>
        call(() => {
          const object = value as ApiObject;
          const at = `${path}/${object.metadata.name}`;
          if (server.objects.has(at)) throw new ApiError(409, "AlreadyExists", at);
          return server.put(at, object);
        }),
      replace: (path, value) =>
        call(() => {
          const object = value as ApiObject;
          server.match(path, object.metadata);
          return server.put(path, object);
        }),
      patch: (path, _type, value) =>
        call(() => {
          const at = path.replace(/\/status$/, "");
          const { metadata, status } = value as { metadata: object; status: object };
          const object = server.match(at, metadata);
          const next = { ...object, status: { ...(object.status as object), ...status } };
          return JSON.stringify(next) === JSON.stringify(object) ? object : server.put(at, next);
        }),
      delete: async (path, preconditions) => {
        await call(() => {
          server.match(path, preconditions);
          server.remove(path);
          return undefined;
        });
      },
    };
  }
}

class Leader {
  readonly #world: World;
  readonly #book = new AddressBook();
  readonly #assigner: Assigner;
  /** Events that have not come yet, in their order. */
  readonly #events: [string, ApiObject | undefined][] = [];
  readonly #queued = new Set<string>();
  readonly #running = new Set<string>();
  readonly #hear = (path: string, object: ApiObject | undefined) => void this.#events.push([path, object]);

  constructor(world: World) {
    this.#world = world;
    this.#book.setPools(range);
    this.#assigner = new Assigner(this.#book, {
      client: world.client(),
      clock: { ...systemClock, now: () => world.now(), monotonic: () => world.now() },
      later: key => !this.#isOver && this.#queued.add(key),
      written() {},
    });
    for (const [path, object] of world.server.objects) this.#apply(path, object);
    world.server.hearers.add(this.#hear);
    for (const key of this.#book.keys()) this.#queued.add(key);
    this.work();
  }

  get rests(): boolean {
    return this.#events.length + this.#queued.size + this.#running.size === 0;
  }

  hearOne(): void {
    const event = this.#events.shift();
    if (event) this.#apply(...event);
    this.work();
  }

  work(): void {
    for (const key of this.#queued) {
      if (this.#running.has(key)) continue;
      this.#queued.delete(key);
      this.#running.add(key);
      this.#assigner
        .settle(key)
        .then(
          decision => decision?.waits === true && !this.#isOver && this.#events.length > 0 && this.#queued.add(key),
          () => this.#queued.add(key),
        )
        .finally(() => this.#running.delete(key));
    }
  }

  lookAgain(): void {
    for (const key of this.#book.keys()) this.#queued.add(key);
    this.work();
  }
  #isOver = false;

  /** What it has sent is still under way. */
  end(): void {
    this.#isOver = true;
    this.#assigner.close();
    this.#queued.clear();
    this.#world.server.hearers.delete(this.#hear);
  }

  #apply(path: string, object: ApiObject | undefined): void {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const keys = [`default/${name}`];
    if (path.startsWith(CLAIMS)) {
      const address = addressOfClaim(name)!;
      keys.splice(0, 1, ...(this.#book.claim(address)?.services.map(keyOf) ?? []));
      const claim = object && readClaim(object);
      if (claim) this.#book.setClaim(claim);
      else this.#book.deleteClaim(address);
      keys.push(...(claim?.services.map(keyOf) ?? []));
    } else if (object) this.#book.setService(readBalanced(object));
    else this.#book.deleteService(`default/${name}`);
    for (const key of keys) this.#queued.add(key);
  }
}

/** Somebody changes a Service. */
function change(world: World): void {
  const path = `${SERVICES}s${world.random(4)}`;
  const name = path.slice(SERVICES.length);
  const object = world.server.objects.get(path);
  if (!object) {
    const both = { ipFamilies: ["IPv4", "IPv6"], ipFamilyPolicy: "RequireDualStack" };
    const families = name < "s2" ? { ipFamilies: ["IPv4"] } : both;
    world.server.put(path, { metadata: { name, namespace: "default" }, spec: { type: "LoadBalancer", ...families }, status: {} });
    return;
  }
  const kind = world.random(6);
  if (kind === 0) world.server.remove(path);
  else if (kind === 1) {
    const type = (object.spec as { type: string }).type === "LoadBalancer" ? "ClusterIP" : "LoadBalancer";
    world.server.put(path, { ...object, spec: { ...(object.spec as object), type } });
  } else {
    const annotations: Record<string, string> = kind < 5 ? { "podlane.io/addresses": `192.0.2.${world.random(5)}` } : {};
    world.server.put(path, { ...object, metadata: { ...object.metadata, annotations } });
  }
}

async function live(seed: number): Promise<void> {
  const world = new World(seed);
  for (let i = 0; i < 4; i++) change(world);
  const leaders = [new Leader(world), new Leader(world)];
  for (let i = 0; i < 150; i++) {
    const what = world.random(16);
    if (what === 0) change(world);
    else if (what === 1 && world.random(4) === 0) {
      // One that does not end goes on with what it has begun, and hears of nothing more.
      const at = world.random(2);
      if (world.random(2) === 0) leaders[at].end();
      leaders[at] = new Leader(world);
    } else if (what < 7) leaders[world.random(2)].hearOne();
    else await world.step();
    for (const leader of leaders) leader.work();
    if (world.server.fault) throw world.server.fault;
  }
  await rest(world, leaders);
  if (world.server.fault) throw world.server.fault;
}

/** Nobody changes anything any more: all comes to rest, with an address for each Service that asks for none in particular. */
async function rest(world: World, leaders: Leader[]): Promise<void> {
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 5_000; i++) {
      for (const leader of leaders) leader.hearOne();
      const moved = await world.step();
      if (!moved && leaders.every(({ rests }) => rests)) break;
    }
    for (const leader of leaders) leader.lookAgain();
  }
  const { server } = world;
  for (const one of server.services()) {
    if (one.balanced && one.families.length === 1 && one.request.addresses.length === 0) expect(one.addresses).toHaveLength(1);
  }
  const given = server.services().flatMap(one => (one.balanced ? one.addresses.map(claimName) : []));
  const claimed = [...server.objects.keys()].filter(path => path.startsWith(CLAIMS)).map(path => path.slice(CLAIMS.length + 1));
  expect(claimed.sort(), JSON.stringify([...world.server.objects], null, 1)).toEqual(given.sort());
}

test("no address ever has two owners, in whatever order things happen", async () => {
  for (let seed = 1; seed <= 300; seed++) {
    try {
      await live(seed);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});

/** One leader that hears at once what the server has, and another controller that has its own mind. */
function alone() {
  const server = new Server();
  const book = new AddressBook();
  book.setPools(range);
  server.check = () => {};
  let time = 0;
  const later: number[] = [];
  const writes: object[] = [];
  const client: AssignerParts["client"] = {
    get: async path => server.read(path),
    create: async (path, value) => server.put(`${path}/${(value as ApiObject).metadata.name}`, value as ApiObject),
    replace: async (path, value) => server.put(path, value as ApiObject),
    patch: async (path, _type, value) => {
      const { metadata, status } = value as { metadata: object; status: { loadBalancer?: { ingress: object[] } } };
      const at = path.replace(/\/status$/, "");
      const object = server.match(at, metadata);
      if (status.loadBalancer) writes.push(status.loadBalancer.ingress);
      return server.put(at, { ...object, status: { ...(object.status as object), ...status } });
    },
    delete: async path => server.remove(path),
  };
  const clock = { ...systemClock, monotonic: () => time };
  const assigner = new Assigner(book, { client, clock, later: (_key, milliseconds) => void later.push(milliseconds), written() {} });
  const settle = async (ingress: object[], annotations: Record<string, string>) => {
    const spec = { type: "LoadBalancer", ipFamilies: ["IPv4"] };
    const metadata = { name: "web", namespace: "default", uid: "u", annotations };
    const object = server.put(`${SERVICES}web`, { metadata, spec, status: { loadBalancer: { ingress } } });
    book.setService(readBalanced(object));
    await assigner.settle("default/web");
  };
  return { settle, writes, later, wait: (milliseconds: number) => (time += milliseconds) };
}

test("what others gave it goes back whole", async () => {
  const { settle, writes } = alone();
  const theirs = [{ ip: "10.0.0.1", ipMode: "Proxy", ports: [{ port: 80, protocol: "TCP" }] }, { hostname: "lb.example" }];
  await settle(theirs, {});
  await settle([...theirs, { ip: "192.0.2.1", ipMode: "VIP" }], {});
  expect(writes).toEqual([]);
  // One that is that of nobody goes, as a Service has one of each family.
  await settle([...theirs, { ip: "192.0.2.1", ipMode: "VIP" }, { ip: "192.0.2.2" }], {});
  expect(writes).toEqual([[theirs[0], { ip: "192.0.2.1", ipMode: "VIP" }, theirs[1]]]);
});

test("who always puts back his own costs two writes at once, and then one each 10 s", async () => {
  const { settle, writes, later, wait } = alone();
  const fight = () => settle([{ hostname: "lb.example" }], { "metallb.io/address-pool": "p" });
  for (let i = 0; i < 20; i++) await fight();
  expect(writes).toEqual([[{ ip: "192.0.2.0" }], [{ ip: "192.0.2.0" }]]);
  expect(later).toEqual(Array.from({ length: 18 }, () => 10_000));
  wait(10_000);
  for (let i = 0; i < 20; i++) await fight();
  expect(writes).toHaveLength(3);
  // All was quiet for long.
  wait(60_000);
  for (let i = 0; i < 20; i++) await fight();
  expect(writes).toHaveLength(5);
});
