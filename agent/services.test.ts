import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { NetworkConfig } from "../bgpd/config.ts";
import { Faults } from "../bgpd/faults.ts";
import { FakeClock } from "../bgpd/testing/fake-clock.ts";
import type { RawObject } from "../config/services/read.ts";
import { ServiceIndex } from "../config/services/service-index.ts";
import type { ServiceRule, ServicesPlan } from "../config/services/types.ts";
import type { Logger } from "../platform/log.ts";
import type { HttpAnswer } from "./services/ask.ts";
import { ServiceMemory } from "./services/memory.ts";
import { Services } from "./services.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} } as unknown as Logger;
const PROXY = 10256;
const rule: ServiceRule = {
  source: "Advertisement/vips",
  addresses: ["LoadBalancerIP"],
  selector: {},
  keepWithoutEndpoints: false,
  ignoreExclusion: false,
  linkBandwidth: false,
  annotations: [],
};
const plan: ServicesPlan = { rules: [rule], attached: [], proxyHealthPort: PROXY, timeout: 30 };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "podlane-services-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const ok: HttpAnswer = { status: 200, body: "{}" };
const service = (name: string, ip: string, spec: object = {}): RawObject => ({
  metadata: { name, namespace: "shop" },
  spec: { type: "LoadBalancer", ...spec },
  status: { loadBalancer: { ingress: [{ ip }] } },
});
const slice = (name: string, nodes: string[]): RawObject => ({
  metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
  addressType: "IPv4",
  endpoints: nodes.map((nodeName, at) => ({ addresses: [`10.244.0.${at}`], nodeName, conditions: {} })),
});
const Local = { externalTrafficPolicy: "Local", healthCheckNodePort: 30001 };

/** An agent's Services with its surroundings, which the test moves. */
function start({ boot = "boot-1", index = new ServiceIndex("n1"), ready = true } = {}) {
  const clock = new FakeClock();
  /** What the network of this node would answer; an Error where nothing does. */
  const answers = new Map<number, HttpAnswer | Error>();
  const asked: number[] = [];
  const networks = new Map<string, NetworkConfig>();
  let changes = 0;
  const serving = { ready, reason: "0 of 1 sessions", limited: false };
  const speaker = {
    changeNetworks(changed: ReadonlyMap<string, NetworkConfig | undefined>) {
      changes++;
      for (const [prefix, network] of changed) {
        if (network) networks.set(prefix, network);
        else networks.delete(prefix);
      }
    },
  };
  const state = { node: "n1", stateDirectory: folder };
  const services = new Services(state, {
    clock,
    log: quiet,
    faults: new Faults(clock, quiet),
    index,
    speaker: () => speaker,
    serving: () => serving,
    memory: new ServiceMemory(state, boot),
    ask: async port => {
      asked.push(port);
      const answer = answers.get(port) ?? new Error("nothing listens there");
      if (answer instanceof Error) throw answer;
      return answer;
    },
  });
  /** Answers come in turns of the event loop, timers by the clock. */
  const pass = async (milliseconds: number) => {
    for (let left = milliseconds; left > 0; left -= 50) {
      await new Promise(setImmediate);
      clock.advance(Math.min(50, left));
      await new Promise(setImmediate);
    }
  };
  return {
    services,
    index,
    clock,
    answers,
    asked,
    serving,
    speaker,
    pass,
    prefixes: () => [...networks.keys()].sort(),
    networks,
    changes: () => changes,
  };
}

function fill(index: ServiceIndex, ...objects: RawObject[]): void {
  for (const object of objects) {
    if (object.addressType) index.setSlice(object);
    else index.setService(object);
  }
  index.settle();
}

const reasons = ({ services }: ReturnType<typeof start>) => services.problems().map(({ reason }) => reason);

test("what is announced waits for the proxy, and then follows each change by itself", async () => {
  const one = start();
  one.services.apply(plan);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  await one.pass(2000);
  expect([one.prefixes(), one.services.figures()]).toEqual([[], { addresses: { ProxyNotReady: 1 }, proxy: "Waiting" }]);
  one.answers.set(PROXY, ok);
  await one.pass(1100);
  expect(one.services.figures()).toEqual({ addresses: { announced: 1 }, proxy: "Ready" });
  expect(one.networks.get("192.0.2.5/32")).toEqual({
    prefix: "192.0.2.5/32",
    kind: "service",
    source: "Advertisement/vips",
    sources: ["Advertisement/vips"],
    restricted: true,
    discard: "transit",
  });
  const before = one.changes();
  fill(one.index, slice("web", ["n2", "n3"]));
  expect(one.changes()).toBe(before);
  fill(one.index, slice("web", []));
  expect(one.prefixes()).toEqual([]);
  one.services.close();
});

test("a proxy that does not answer is waited for no longer than it may be, and then it is a problem", async () => {
  const one = start();
  one.services.apply(plan);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  await one.pass(29_900);
  expect([one.prefixes(), reasons(one)]).toEqual([[], []]);
  await one.pass(200);
  expect([one.prefixes(), reasons(one)]).toEqual([["192.0.2.5/32"], ["ProxyUnreachable"]]);
  one.answers.set(PROXY, ok);
  await one.pass(1100);
  expect(reasons(one)).toEqual([]);
  // Once it was good it takes nothing back.
  one.answers.set(PROXY, { status: 503, body: "no" });
  await one.pass(10_100);
  expect([one.prefixes(), reasons(one)]).toEqual([["192.0.2.5/32"], ["ProxyUnhealthy"]]);
  one.services.close();
});

test("port 0: nobody is asked", async () => {
  const one = start();
  one.services.apply({ ...plan, proxyHealthPort: 0 });
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  await one.pass(100);
  expect([one.prefixes(), one.asked]).toEqual([["192.0.2.5/32"], []]);
  one.services.close();
});

test("a node that the proxy finds not eligible any more takes back what others can take", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  one.answers.set(30001, { status: 200, body: '{"localEndpoints": 1}' });
  one.services.apply(plan);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]), service("local", "192.0.2.6", Local), slice("local", ["n1"]));
  await one.pass(200);
  expect(one.prefixes()).toEqual(["192.0.2.5/32", "192.0.2.6/32"]);
  one.answers.set(PROXY, { status: 503, body: '{"nodeEligible": false}' });
  await one.pass(10_100);
  expect([one.prefixes(), one.services.figures()?.proxy, reasons(one)]).toEqual([["192.0.2.6/32"], "Ineligible", []]);
  one.answers.set(PROXY, ok);
  await one.pass(10_100);
  expect(one.prefixes()).toEqual(["192.0.2.5/32", "192.0.2.6/32"]);
  one.services.close();
});

test("an endpoint of policy Local is announced when the proxy has it, and withdrawn at once", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  one.answers.set(30001, { status: 503, body: '{"localEndpoints": 0}' });
  one.services.apply(plan);
  fill(one.index, service("local", "192.0.2.6", Local), slice("local", ["n1"]));
  await one.pass(500);
  expect(one.prefixes()).toEqual([]);
  expect(one.asked.filter(port => port === 30001).length).toBeGreaterThan(5);
  one.answers.set(30001, { status: 200, body: '{"localEndpoints": 1}' });
  await one.pass(100);
  expect(one.prefixes()).toEqual(["192.0.2.6/32"]);
  fill(one.index, slice("local", ["n2"]));
  expect(one.prefixes()).toEqual([]);
  // The next one is another endpoint.
  one.answers.set(30001, { status: 503, body: '{"localEndpoints": 0}' });
  fill(one.index, slice("local", ["n1"]));
  await one.pass(500);
  expect(one.prefixes()).toEqual([]);
  await one.pass(29_700);
  expect([one.prefixes(), reasons(one)]).toEqual([["192.0.2.6/32"], ["ProxyUnreachable"]]);
  one.services.close();
});

test("an endpoint for which the proxy was waited for in vain stays announced while the agent is replaced, and stays a problem", async () => {
  const first = start();
  first.answers.set(PROXY, ok);
  first.services.apply(plan);
  fill(first.index, service("local", "192.0.2.6", Local), slice("local", ["n1"]));
  await first.pass(30_100);
  expect([first.prefixes(), reasons(first)]).toEqual([["192.0.2.6/32"], ["ProxyUnreachable"]]);
  first.services.close();

  const next = start();
  next.answers.set(PROXY, ok);
  next.services.apply(plan);
  fill(next.index, service("local", "192.0.2.6", Local), slice("local", ["n1"]));
  expect([next.prefixes(), reasons(next)]).toEqual([["192.0.2.6/32"], ["ProxyUnreachable"]]);
  next.services.close();
});

test.each(["while this agent saves", "while no agent is here"])("an endpoint that went %s is not taken for the next one", async when => {
  const first = start();
  first.answers.set(PROXY, ok);
  first.answers.set(30001, { status: 200, body: '{"localEndpoints": 1}' });
  first.services.apply(plan);
  fill(first.index, service("local", "192.0.2.6", Local), slice("local", ["n1"]));
  await first.pass(200);
  expect(first.prefixes()).toEqual(["192.0.2.6/32"]);
  if (when === "while this agent saves") {
    // Withdrawn while it ends, and saved so, before it is gone.
    const ending = { addresses: ["10.244.0.0"], nodeName: "n1", conditions: { ready: false, serving: true, terminating: true } };
    const other = { addresses: ["10.244.0.1"], nodeName: "n2", conditions: {} };
    fill(first.index, Object.assign(slice("local", []), { endpoints: [ending, other] }));
    expect(first.prefixes()).toEqual([]);
    await first.pass(10_100);
    fill(first.index, slice("local", ["n2"]));
  }
  first.services.close();

  const next = start();
  next.answers.set(PROXY, ok);
  next.services.apply(plan);
  fill(next.index, service("local", "192.0.2.6", Local), slice("local", ["n2"]));
  fill(next.index, slice("local", ["n1"]));
  await next.pass(500);
  expect(next.prefixes()).toEqual([]);
  next.services.close();
});

test.each(["while the agent runs", "while no agent is here"])(
  "a Service that is deleted and made again %s does not inherit the proxy's word",
  async when => {
    const made = (uid: string, ip: string, healthCheckNodePort: number) => {
      const one = service("local", ip, { ...Local, healthCheckNodePort });
      return { ...one, metadata: { ...one.metadata, uid } };
    };
    const first = start();
    first.answers.set(PROXY, ok);
    first.answers.set(30001, { status: 200, body: '{"localEndpoints": 1}' });
    first.services.apply(plan);
    fill(first.index, made("u1", "192.0.2.6", 30001), slice("local", ["n1"]));
    await first.pass(200);
    expect(first.prefixes()).toEqual(["192.0.2.6/32"]);
    if (when === "while no agent is here") first.services.close();

    const one = when === "while no agent is here" ? start() : first;
    one.answers.set(PROXY, ok);
    one.services.apply(plan);
    one.answers.set(30002, { status: 503, body: '{"localEndpoints": 0}' });
    one.index.deleteService("shop/local");
    fill(one.index, made("u2", "192.0.2.7", 30002), slice("local", ["n1"]));
    await one.pass(200);
    expect([one.prefixes(), one.asked.includes(30002)]).toEqual([[], true]);
    one.answers.set(30002, { status: 200, body: '{"localEndpoints": 1}' });
    await one.pass(200);
    expect(one.prefixes()).toEqual(["192.0.2.7/32"]);
    one.services.close();
  },
);

test("a Service of both families whose endpoints of the other family come later is asked about these, and keeps what it has", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  one.answers.set(30001, { status: 200, body: '{"localEndpoints": 1}' });
  one.services.apply(plan);
  const dual = { ...service("local", "", Local), status: { loadBalancer: { ingress: [{ ip: "192.0.2.6" }, { ip: "2001:db8::6" }] } } };
  const six = (nodes: string[]) => {
    const all = slice("local", nodes);
    return { ...all, metadata: { ...all.metadata, name: "six" }, addressType: "IPv6" };
  };
  fill(one.index, dual, slice("local", ["n1"]));
  await one.pass(200);
  expect(one.prefixes()).toEqual(["192.0.2.6/32"]);
  for (let times = 0; times < 2; times++) {
    one.answers.set(30001, { status: 503, body: '{"localEndpoints": 0}' });
    fill(one.index, six(["n1"]));
    await one.pass(200);
    expect(one.prefixes()).toEqual(["192.0.2.6/32"]);
    one.answers.set(30001, { status: 200, body: '{"localEndpoints": 1}' });
    await one.pass(200);
    expect(one.prefixes()).toEqual(["192.0.2.6/32", "2001:db8::6/128"]);
    // Fewer take nothing from the others.
    fill(one.index, six([]));
    expect(one.prefixes()).toEqual(["192.0.2.6/32"]);
  }
  one.services.close();
});

test("what was taken back is not brought back by a crash a second later", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  one.services.apply(plan);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]), service("other", "192.0.2.6"), slice("other", ["n2"]));
  await one.pass(10_200);
  const saved = () => new ServiceMemory({ node: "n1", stateDirectory: folder }, "boot-1").load()?.routes.map(({ prefix }) => prefix);
  expect(saved()).toEqual(["192.0.2.5/32", "192.0.2.6/32"]);
  fill(one.index, slice("web", []));
  await one.pass(1_000);
  expect(saved()).toEqual(["192.0.2.6/32"]);
  one.services.close();
});

test("no more than sixteen questions are under way at once", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  let [now, most] = [0, 0];
  const { promise, resolve } = Promise.withResolvers<HttpAnswer>();
  const clock = new FakeClock();
  const index = new ServiceIndex("n1");
  const services = new Services(
    { node: "n1", stateDirectory: folder },
    {
      clock,
      log: quiet,
      faults: new Faults(clock, quiet),
      index,
      speaker: () => one.speaker,
      serving: () => one.serving,
      ask: async () => {
        most = Math.max(most, ++now);
        return promise.finally(() => now--);
      },
    },
  );
  services.apply({ ...plan, proxyHealthPort: 0 });
  for (let i = 0; i < 50; i++) {
    index.setService(service(`s${i}`, `192.0.2.${i}`, { ...Local, healthCheckNodePort: 30000 + i }));
    index.setSlice(slice(`s${i}`, ["n1"]));
  }
  index.settle();
  expect(now).toBe(16);
  resolve({ status: 200, body: '{"localEndpoints": 3}' });
  await expect
    .poll(() => {
      clock.advance(1);
      return one.prefixes().length;
    })
    .toBe(50);
  expect(most).toBe(16);
  services.close();
  one.services.close();
});

test("a node that does not serve announces nothing, and takes back what it announced when it stops", async () => {
  const one = start({ ready: false });
  one.answers.set(PROXY, ok);
  one.services.apply(plan);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  await one.pass(100);
  expect(one.prefixes()).toEqual([]);
  one.serving.ready = true;
  one.services.look();
  expect(one.prefixes()).toEqual(["192.0.2.5/32"]);
  one.serving.ready = false;
  one.services.look();
  expect(one.prefixes()).toEqual([]);
  one.services.close();
});

test.each(["the source goes on", "the agent is replaced"])(
  "labels of namespaces that are not known take nothing back, and add nothing: %s",
  async how => {
    const objects = ["web", "other"].flatMap((name, at) => [service(name, `192.0.2.${5 + at}`), slice(name, ["n2"])]);
    const first = start();
    first.answers.set(PROXY, ok);
    first.services.apply(plan);
    fill(first.index, ...objects);
    await first.pass(100);
    if (how === "the agent is replaced") first.services.close();

    const one = how === "the agent is replaced" ? start() : first;
    one.index.forgetNamespaces();
    one.services.apply({ ...plan, rules: [{ ...rule, namespaceSelector: { matchLabels: { team: "a" } } }] });
    fill(one.index, ...objects, service("new", "192.0.2.7"), slice("new", ["n2"]));
    expect(one.prefixes()).toEqual(["192.0.2.5/32", "192.0.2.6/32"]);
    expect(one.services.subject?.announcer.verdicts("shop/new")[0].message).toContain("not known yet");
    // What is known counts.
    fill(one.index, slice("other", []));
    expect(one.prefixes()).toEqual(["192.0.2.5/32"]);
    fill(one.index, slice("other", ["n2"]));
    expect(one.prefixes()).toEqual(["192.0.2.5/32", "192.0.2.6/32"]);
    one.index.setNamespace({ metadata: { name: "shop", labels: { team: "a" } } });
    one.index.knowNamespaces();
    one.index.settle();
    expect(one.prefixes()).toEqual(["192.0.2.5/32", "192.0.2.6/32", "192.0.2.7/32"]);
    one.index.deleteNamespace("shop");
    one.index.settle();
    expect(one.prefixes()).toEqual([]);
    one.services.close();
  },
);

test("what the source lets go of stays announced while the plan that needs it is in force", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  one.services.apply(plan);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]), service("gone", "192.0.2.6"), slice("gone", ["n2"]));
  await one.pass(100);
  one.index.forget();
  await one.pass(100);
  expect(one.prefixes()).toEqual(["192.0.2.5/32", "192.0.2.6/32"]);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  expect(one.prefixes()).toEqual(["192.0.2.5/32"]);
  one.index.forget();
  one.services.apply(undefined);
  expect(one.prefixes()).toEqual([]);
  one.services.close();
});

test("a plan without rules takes all back, one with others changes at once, another speaker hears all", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  one.services.apply(plan);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  await one.pass(100);
  one.services.apply({ ...plan, rules: [{ ...rule, source: "Advertisement/b", aggregation: { ipv4: 24 } }], attached: ["192.0.2.0/25"] });
  expect(one.networks.get("192.0.2.0/24")).toMatchObject({ kind: "aggregate", sources: ["Advertisement/b"], discard: false });
  expect([one.prefixes(), reasons(one)]).toEqual([["192.0.2.0/24"], ["AttachedRange"]]);
  one.services.apply(undefined);
  expect([one.prefixes(), one.services.problems()]).toEqual([[], []]);
  expect(one.services.subject?.announcer.verdicts("shop/web")[0].link).toBe("NoAdvertisement");
  one.services.close();
});

test("the next agent goes on with what this one announced, says so while nothing is known, and then follows the truth", async () => {
  const first = start();
  first.answers.set(PROXY, ok);
  first.answers.set(30001, { status: 200, body: '{"localEndpoints": 1}' });
  first.services.apply(plan);
  fill(first.index, service("web", "192.0.2.5"), slice("web", ["n2"]), service("local", "192.0.2.6", Local), slice("local", ["n1"]));
  await first.pass(200);
  first.services.close();
  expect(first.prefixes()).toHaveLength(2);

  const next = start({ ready: false });
  next.services.apply(plan);
  // At once: neither sessions nor proxy have said anything yet.
  expect(next.prefixes()).toEqual(["192.0.2.5/32", "192.0.2.6/32"]);
  expect(next.services.subject?.known).toBe("saved");
  await next.pass(1000);
  next.serving.ready = true;
  next.services.look();
  await next.pass(60_000);
  expect(next.prefixes()).toHaveLength(2);
  expect(reasons(next)).toContain("ServicesHeld");
  const before = next.changes();
  fill(next.index, service("web", "192.0.2.5"), slice("web", ["n2"]), service("local", "192.0.2.6", Local), slice("local", ["n1"]));
  expect([next.prefixes().length, next.changes()]).toEqual([2, before]);
  expect(reasons(next)).not.toContain("ServicesHeld");
  fill(next.index, slice("web", []));
  expect(next.prefixes()).toEqual(["192.0.2.6/32"]);
  next.services.close();
});

test("an agent that never comes to serve does not go on for ever", async () => {
  const first = start();
  first.answers.set(PROXY, ok);
  first.services.apply(plan);
  fill(first.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  await first.pass(100);
  first.services.close();
  const next = start({ ready: false });
  // Who does not want to wait for the proxy has sessions to wait for all the same.
  next.services.apply({ ...plan, timeout: 0 });
  expect(next.prefixes()).toHaveLength(1);
  await next.pass(30_100);
  expect(next.prefixes()).toEqual([]);
  next.services.close();
});

test("after another start of the machine nothing is announced before the proxy answers, though nothing is known yet", async () => {
  const first = start();
  first.answers.set(PROXY, ok);
  first.services.apply(plan);
  fill(first.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  await first.pass(100);
  first.services.close();
  const next = start({ boot: "boot-2" });
  next.services.apply(plan);
  await next.pass(1500);
  expect(next.prefixes()).toEqual([]);
  next.answers.set(PROXY, ok);
  await next.pass(1100);
  expect(next.prefixes()).toEqual(["192.0.2.5/32"]);
  next.services.close();
});

test("what is announced is written at the end of a while, not with each change", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  one.services.apply(plan);
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  const saved = () => new ServiceMemory({ node: "n1", stateDirectory: folder }, "boot-1").load()?.routes.length;
  await one.pass(5000);
  expect(saved()).toBeUndefined();
  await one.pass(6000);
  expect(saved()).toBe(1);
  expect(new ServiceMemory({ node: "n2", stateDirectory: folder }, "boot-1").load()).toBeUndefined();
  one.services.close();
});

test("a state directory that cannot be written is a problem, and nothing else", async () => {
  const one = start();
  one.answers.set(PROXY, ok);
  one.services.apply(plan);
  rmSync(folder, { recursive: true });
  fill(one.index, service("web", "192.0.2.5"), slice("web", ["n2"]));
  await one.pass(11_000);
  expect([one.prefixes(), reasons(one)]).toEqual([["192.0.2.5/32"], ["ServicesUnsaved"]]);
  one.services.close();
});
