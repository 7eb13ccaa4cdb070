import { expect, test } from "vitest";
import type { Chain, NamedMap, NamedSet } from "../ruleset.ts";
import { PolicyIndex } from "./policy-index.ts";
import { forward } from "./testing/interpreter.ts";
import { type PodText, Scene } from "./testing/scene.ts";
import type { LabelSelector, PolicyPort, PolicyRule } from "./types.ts";

const byApp = (app: string): LabelSelector => ({ matchLabels: { app } });
const from = (...peers: Required<PolicyRule>["peers"]): PolicyRule => ({ peers });

function chains(scene: Scene): Chain[] {
  return [...scene.kernel.values()].flatMap(one => (one.kind === "chain" ? [one] : []));
}

function sets(scene: Scene, prefix: string): NamedSet[] {
  return [...scene.kernel.values()].flatMap(one => (one.kind === "set" && one.name.startsWith(prefix) ? [one] : []));
}

function verdicts(scene: Scene, name: string): string[] {
  return [...(scene.kernel.get(`inet podlane map ${name}`) as NamedMap).elements.keys()];
}

test.each<[string, PolicyPort[], string[]]>([
  ["a number", [{ protocol: "TCP", port: 80 }], ["80"]],
  ["the same of another protocol", [{ protocol: "UDP", port: 80 }], ["80/UDP"]],
  ["SCTP", [{ protocol: "SCTP", port: 80 }], ["80/SCTP"]],
  ["a whole protocol", [{ protocol: "UDP" }], ["80/UDP", "8080/UDP", "53/UDP"]],
  ["a range, both ends in", [{ protocol: "TCP", port: 80, endPort: 8080 }], ["80", "8080"]],
  ["ranges that overlap, and a number inside", [80, 81, 90].map(port => ({ protocol: "TCP", port, endPort: port + 9000 })), ["80", "8080"]],
  ["a range of one", [{ protocol: "TCP", port: 53, endPort: 53 }], ["53"]],
  ["a name", [{ protocol: "TCP", port: "http" }], ["8080"]],
  ["a name of another protocol", [{ protocol: "UDP", port: "http" }], []],
  ["a name that the pod has not", [{ protocol: "TCP", port: "metrics" }], []],
  [
    "a name beside a number",
    [
      { protocol: "TCP", port: "http" },
      { protocol: "UDP", port: 53 },
    ],
    ["8080", "53/UDP"],
  ],
  ["a number beside its whole protocol", [{ protocol: "TCP", port: 80 }, { protocol: "TCP" }], ["80", "8080", "53"]],
  ["none", [], ["80", "80/UDP", "80/SCTP", "8080", "8080/UDP", "53", "53/UDP"]],
])("ports, in both directions: %s", (_, ports, passing) => {
  const all = ["80", "80/UDP", "80/SCTP", "8080", "8080/UDP", "53", "53/UDP"].map(port => `a/client -> b/server:${port}`);
  for (const peers of [
    undefined,
    [{ namespaces: {} }],
    [{ block: { cidr: "10.0.0.0/8", except: [] } }, { block: { cidr: "fd00::/8", except: [] } }],
  ]) {
    const pods = { "a/client": {}, "b/server": { ports: { http: 8080 } } };
    const ingress = new Scene(pods).policy("b/p", { ingress: [{ peers, ports }] });
    const egress = new Scene(pods).policy("a/p", { egress: [{ peers, ports }] });
    for (const scene of [ingress, egress]) expect(scene.passing(all)).toEqual(passing.map(port => `a/client -> b/server:${port}`));
  }
});

test.each<[string, LabelSelector, string[]]>([
  ["all", {}, ["web", "db", "bare"]],
  ["a label", byApp("web"), ["web"]],
  ["In", { matchExpressions: [{ key: "app", operator: "In", values: ["web", "db"] }] }, ["web", "db"]],
  ["NotIn", { matchExpressions: [{ key: "app", operator: "NotIn", values: ["web"] }] }, ["db", "bare"]],
  ["Exists", { matchExpressions: [{ key: "app", operator: "Exists" }] }, ["web", "db"]],
  ["DoesNotExist", { matchExpressions: [{ key: "app", operator: "DoesNotExist" }] }, ["bare"]],
  ["two of them", { matchLabels: { app: "db" }, matchExpressions: [{ key: "app", operator: "NotIn", values: ["web"] }] }, ["db"]],
])("selectors, of subjects and of peers: %s", (_, pods, passing) => {
  const all = { "a/web": { labels: { app: "web" } }, "a/db": { labels: { app: "db" } }, "a/bare": {} };
  const scene = new Scene({ ...all, "x/asked": {} }).policy("x/p", { ingress: [from({ namespaces: {}, pods })] });
  expect(scene.passing(["web", "db", "bare"].map(name => `a/${name} -> x/asked:1`))).toEqual(passing.map(name => `a/${name} -> x/asked:1`));
  const shut = new Scene({ ...all, "x/asked": {} }).policy("a/p", { pods, ingress: [] });
  const open = ["web", "db", "bare"].filter(name => !passing.includes(name));
  expect(shut.passing(["web", "db", "bare"].map(name => `x/asked -> a/${name}:1`))).toEqual(open.map(name => `x/asked -> a/${name}:1`));
});

test("a named port is another number in each destination", () => {
  const pods = { "a/client": {}, "b/one": { ports: { http: 80 } }, "b/two": { ports: { http: 8080 } }, "b/none": {} };
  const ask = [80, 8080].flatMap(port => ["one", "two", "none"].map(name => `a/client -> b/${name}:${port}`));
  const ports: PolicyPort[] = [{ protocol: "TCP", port: "http" }];
  const scene = new Scene(pods).policy("a/out", { egress: [{ peers: [{ namespaces: {} }], ports }] });
  expect(scene.passing(ask)).toEqual(["a/client -> b/one:80", "a/client -> b/two:8080"]);
  expect(new Scene(pods).policy("b/in", { ingress: [{ ports }] }).passing(ask)).toEqual(["a/client -> b/one:80", "a/client -> b/two:8080"]);
  scene.pod("b/one", { ports: { http: 8080 } });
  expect(scene.settle().passing(ask)).toEqual(["a/client -> b/one:8080", "a/client -> b/two:8080"]);
});

test("blocks that overlap are one; an exception counts for its own block alone", () => {
  const blocks = [
    { cidr: "10.1.0.0/16", except: ["10.1.2.0/24", "10.1.3.0/24"] },
    { cidr: "10.1.2.128/25", except: [] },
    { cidr: "10.0.255.0/24", except: [] },
    { cidr: "fd00:1::/32", except: ["fd00:1:2::/48"] },
  ];
  const scene = new Scene({ "a/p": {} }).policy("a/in", { ingress: [from(...blocks.map(block => ({ block })))] });
  const asked = {
    ...{ "10.0.255.9": true, "10.0.254.9": false, "10.1.0.0": true, "10.1.1.255": true, "10.1.2.127": false, "10.1.2.128": true },
    ...{ "10.1.3.1": false, "10.1.4.0": true, "10.2.0.0": false, "fd00:1::1": true, "fd00:1:2::1": false, "fd00:1:3::1": true },
  };
  const texts = Object.entries(asked).map(([address, passes]) => ({ text: `${address} -> a/p:80`, passes }));
  expect(scene.passing(texts.map(({ text }) => text))).toEqual(texts.flatMap(({ text, passes }) => (passes ? [text] : [])));
  expect([...sets(scene, "np-blocks4")[0].elements.keys()]).toEqual(["10.0.255.0-10.1.1.255", "10.1.2.128/25", "10.1.4.0-10.1.255.255"]);
});

test("labels of pods and namespaces come and go, and so does what they open; a policy that is gone leaves nothing", () => {
  const scene = new Scene({ "a/server": {}, "b/client": {} }, { b: {} });
  scene.policy("a/p", { ingress: [from({ namespaces: { matchLabels: { team: "x" } }, pods: byApp("web") })] });
  const asked = "b/client -> a/server:80";
  expect(scene.passes(asked)).toBe(false);
  scene.namespace("b", { team: "x" });
  scene.pod("b/client", { labels: { app: "web" } });
  expect(scene.passes(asked)).toBe(false);
  scene.settle();
  expect(scene.passes(asked)).toBe(true);
  scene.namespace("b", { team: "y" });
  expect(scene.settle().passes(asked)).toBe(false);
  scene.index.deletePolicy("a/p");
  expect(scene.settle().passes(asked)).toBe(true);
  expect([...scene.kernel.keys()]).toEqual(["inet podlane chain np-egress", "inet podlane chain np-ingress"]);
  scene.index.setAttachments([]);
  scene.take();
  expect(scene.kernel.size).toBe(0);
});

test("a policy is replaced by another one in one step: there is no moment without", () => {
  const scene = new Scene({ "a/p": {}, "b/q": {} }).policy("a/one", { ingress: [] });
  expect(scene.passes("b/q -> a/p:80")).toBe(false);
  scene.index.deletePolicy("a/one");
  scene.attach("b/q", ["10.0.0.77"]);
  expect(scene.passes("b/q -> a/p:80")).toBe(false);
  scene.policy("a/two", { ingress: [] });
  expect(scene.passes("b/q -> a/p:80")).toBe(false);
});

test("nothing is in force before everything was told once", () => {
  const index = new PolicyIndex();
  index.setAttachment({ key: "a/p", addresses: ["10.0.0.1"], hostInterface: "v" });
  index.setPolicy({ key: "a/shut", namespace: "a", name: "shut", pods: {}, ingress: [] });
  expect([index.complete, index.knows("a/p"), index.take()]).toEqual([false, false, []]);
  index.settle();
  expect(index.complete).toBe(true);
  expect(index.take()).not.toEqual([]);
});

test("who listens hears of what was settled, and of attachments", () => {
  const scene = new Scene({ "a/p": {} });
  let heard = 0;
  scene.index.listen(() => heard++);
  scene.index.deletePod("a/p");
  expect(heard).toBe(0);
  scene.settle();
  scene.detach("a/p");
  expect(heard).toBe(2);
});

test("pods of the host network are neither selected nor found, only their node's address is", () => {
  const host: PodText = { hostNetwork: true, addresses: ["192.0.2.1"], labels: { app: "web" } };
  const scene = new Scene({ "a/server": {}, "a/host": host }).policy("a/p", {
    pods: {},
    ingress: [from({ pods: byApp("web") })],
    egress: [],
  });
  expect(scene.passing(["a/host -> a/server:80", "198.51.100.1 -> a/host:80", "a/host -> 198.51.100.1:80"])).toEqual([
    ...["198.51.100.1 -> a/host:80", "a/host -> 198.51.100.1:80"],
  ]);
  scene.policy("a/q", { ingress: [from({ block: { cidr: "192.0.2.1/32", except: [] } })] });
  expect(scene.passes("a/host -> a/server:80")).toBe(true);
});

test("a pod that has ended, and one that has no address yet, is found by nobody", () => {
  const scene = new Scene({
    "a/server": {},
    "a/job": { ended: true, labels: { app: "web" } },
    "a/young": { addresses: [], labels: { app: "web" } },
  });
  scene.policy("a/p", { pods: {}, ingress: [from({ pods: byApp("web") })] });
  expect(scene.passes("a/job -> a/server:80")).toBe(false);
  expect(sets(scene, "np-pods4")[0].elements.size).toBe(0);
  // The runtime has told nobody yet, but it is attached here.
  scene.attach("a/young", ["10.0.0.9"]);
  scene.take();
  expect([...sets(scene, "np-pods4")[0].elements.keys()]).toEqual(["10.0.0.9"]);
});

test.each<[string, PodText, PodText]>([
  ["ended", { ended: true }, {}],
  ["to be deleted", { created: "2026-01-01T00:00:00Z" }, { created: "2026-01-01T00:00:01Z" }],
])("an address is that of who got it last, when the other one is %s", (_, former, latter) => {
  const elsewhere = (key: string, app: string, text: PodText) => {
    const [namespace, name] = key.split("/");
    scene.index.setPod({
      key,
      namespace,
      name,
      labels: { app },
      hostNetwork: false,
      ended: false,
      addresses: ["10.0.9.9"],
      ...text,
      ports: [],
    });
  };
  const scene = new Scene({ "a/server": {} }).policy("a/p", { ingress: [from({ pods: byApp("old") })] });
  elsewhere("a/new", "new", latter);
  elsewhere("a/old", "old", former);
  scene.settle();
  expect(scene.passes("10.0.9.9 -> a/server:80")).toBe(false);
  scene.policy("a/p", { ingress: [from({ pods: byApp("new") })] });
  expect(scene.passes("10.0.9.9 -> a/server:80")).toBe(true);
  scene.index.deletePod("a/old");
  expect(scene.settle().passes("10.0.9.9 -> a/server:80")).toBe(true);
  scene.index.deletePod("a/new");
  expect(scene.settle().passes("10.0.9.9 -> a/server:80")).toBe(false);
});

test("an address that is attached here is no other pod's, whatever its status says", () => {
  const scene = new Scene({ "a/server": {}, "a/stale": { labels: { app: "web" }, addresses: ["10.0.0.50"] }, "a/here": {} });
  scene.policy("a/p", { ingress: [from({ pods: byApp("web") })] });
  scene.detach("a/stale");
  expect(scene.passes("10.0.0.50 -> a/server:80")).toBe(true);
  scene.attach("a/here", ["10.0.0.50"]);
  expect(scene.passes("10.0.0.50 -> a/server:80")).toBe(false);
});

test("an attachment is shut while its pod is not known, in the directions in which a policy might select it", () => {
  const scene = new Scene({ "b/q": {} }).policy("a/p", { pods: byApp("db"), ingress: [] });
  scene.attach("a/young", ["10.0.0.9"], "uid-1");
  scene.attach("c/young", ["10.0.0.8"]);
  scene.take();
  const packet = (source: string, destination: string) => ({ source, destination, protocol: "tcp" as const, port: 80 });
  const passes = (source: string, destination: string) => forward(scene.kernel.values(), packet(source, destination)).accepted;
  expect([passes("10.0.0.1", "10.0.0.9"), passes("10.0.0.9", "10.0.0.1"), passes("10.0.0.1", "10.0.0.8")]).toEqual([false, true, true]);
  expect(scene.index.counters()).toContainEqual({ name: "np-drop-in-unknown", direction: "ingress" });
  // Another one of its name, which is about to go.
  const about = { key: "a/young", namespace: "a", name: "young", addresses: [], hostNetwork: false, ended: false, labels: {}, ports: [] };
  scene.index.setPod({ ...about, uid: "uid-0" });
  scene.settle().take();
  expect([passes("10.0.0.1", "10.0.0.9"), scene.index.knows("a/young", "uid-1"), scene.index.knows("a/young")]).toEqual([
    false,
    false,
    true,
  ]);
  scene.index.setPod({ ...about, uid: "uid-1" });
  scene.settle().take();
  expect([passes("10.0.0.1", "10.0.0.9"), scene.index.knows("a/young", "uid-1")]).toEqual([true, true]);
});

test("a pod that is gone from the API is shut as before while it is attached", () => {
  const scene = new Scene({ "a/p": { labels: { app: "web" } }, "b/q": {} }).policy("a/shut", { pods: byApp("web"), ingress: [] });
  expect(scene.passes("b/q -> a/p:80")).toBe(false);
  scene.index.deletePod("a/p");
  scene.settle();
  expect(scene.take()).toEqual([]);
  scene.detach("a/p");
  scene.take();
  expect(scene.kernel.has("inet podlane map np-in4")).toBe(false);
});

test("ten thousand pods that no rule here finds change nothing", () => {
  const scene = new Scene({ "a/p": {} }).policy("a/in", { ingress: [from({ pods: byApp("web") })] });
  scene.policy("z/in", { ingress: [from({ namespaces: {} })] });
  scene.take();
  for (let at = 0; at < 10_000; at++) {
    const addresses = [`10.1.${at >> 8}.${at & 255}`];
    scene.index.setPod({
      key: `z/${at}`,
      namespace: "z",
      name: `${at}`,
      addresses,
      labels: { app: "web" },
      hostNetwork: false,
      ended: false,
      ports: [],
    });
  }
  expect(scene.settle().take()).toEqual([]);
});

test("a packet's way does not grow with the policies of others", () => {
  const scene = new Scene({ "a/p": {} }).policy("a/in", { ingress: [from({ namespaces: {} })] });
  scene.take();
  const before = new Map(scene.kernel);
  for (let at = 0; at < 100; at++) {
    scene.pod(`n${at}/p`);
    scene.policy(`n${at}/in`, { ingress: [{ ports: [{ protocol: "TCP", port: at + 1 }] }] });
  }
  scene.take();
  const own = [...before].filter(([key, object]) => object.kind === "chain" && !key.endsWith("np-egress"));
  expect(own.map(([key]) => scene.kernel.get(key))).toEqual(own.map(([, object]) => object));
});

test("pods with the same policies share a chain, rules with the same peers a set", () => {
  const scene = new Scene({ "a/one": {}, "a/two": {}, "a/db": { labels: { app: "db" } }, "b/q": {} });
  const peers = from({ namespaces: { matchLabels: { x: "y" } }, pods: { matchExpressions: [] } });
  scene.policy("a/p", {
    ingress: [{ ...peers, ports: [{ protocol: "TCP", port: 80 }] }, from({ namespaces: { matchLabels: { x: "y" } } })],
  });
  scene.policy("a/db", { pods: byApp("db"), ingress: [peers] });
  scene.take();
  expect(sets(scene, "np-pods")).toHaveLength(2);
  expect(chains(scene).filter(({ name }) => /^np-in-/.test(name))).toHaveLength(2);
  expect(verdicts(scene, "np-in4")).toEqual(["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
  const [key] = scene.policy("a/db", { pods: byApp("db"), ingress: [{ ...peers, ports: [{ protocol: "TCP", port: 1 }] }] }).take();
  expect(key).toMatch(/^inet podlane chain np-policy-in-/);
});

test("only families that pods here have are asked for", () => {
  const six = new Scene({ "a/p": { addresses: ["fd00::1"] }, "b/q": {} });
  six.detach("b/q");
  six.policy("a/in", { ingress: [from({ namespaces: {} }, { block: { cidr: "0.0.0.0/0", except: [] } })] });
  expect(six.passing(["b/q -> a/p:80", "fd00:9::1 -> a/p:80"])).toEqual(["b/q -> a/p:80"]);
  const ofFamily = (family: number) => [...six.kernel.keys()].filter(key => new RegExp(`np-[a-z]+${family}(-|$)`).test(key));
  expect([ofFamily(4), ofFamily(6).length]).toEqual([[], 3]);
  six.attach("b/q", ["10.0.0.2"]);
  six.take();
  expect(ofFamily(4)).not.toEqual([]);
});

test("each rule says whose it is, drops count for each policy that isolates, and are logged where that is wanted", () => {
  const index = new PolicyIndex({ log: { perSecond: 5, burst: 10 } });
  index.setPod({ key: "a/p", namespace: "a", name: "p", addresses: ["10.0.0.1"], labels: {}, hostNetwork: false, ended: false, ports: [] });
  index.setAttachment({ key: "a/p", addresses: ["10.0.0.1"], hostInterface: "v" });
  for (const name of ["one", "two"]) {
    index.setPolicy({ key: `a/${name}`, namespace: "a", name, pods: {}, ingress: [{ ports: [{ protocol: "TCP", port: 1 }] }] });
  }
  index.settle();
  const objects = index.take().flatMap(({ object }) => object ?? []);
  const { accepted, counted } = forward(objects, { source: "10.9.9.9", destination: "10.0.0.1", protocol: "tcp", port: 2 });
  const names = index.counters().map(({ name }) => name);
  expect([accepted, counted.sort()]).toEqual([false, names.sort()]);
  expect(index.counters().map(({ policy, direction }) => `${policy} ${direction}`)).toEqual(["a/one ingress", "a/two ingress"]);
  const rules = objects.flatMap(one => (one.kind === "chain" ? one.rules : []));
  const comments = rules.map(({ comment }) => comment);
  expect(comments).toEqual(expect.arrayContaining(["a/one ingress rule 1", "a/two ingress rule 1", "isolated by a/one, a/two"]));
  expect(rules.find(({ expressions }) => expressions.some(one => "log" in one))!.expressions).toEqual([
    { limit: { rate: 5, burst: 10, per: "second" } },
    { log: { prefix: "podlane ingress drop, a/one and 1 more: " } },
  ]);
});

test("replies, neighbour discovery and a pod's way to itself pass; a link-local address and a group do not lead around policies", () => {
  const scene = new Scene({ "a/p": {}, "b/q": {} }).policy("a/shut", { ingress: [], egress: [] });
  scene.take();
  const passes = (packet: Partial<Parameters<typeof forward>[1]>) =>
    forward(scene.kernel.values(), { source: "fd00::2", destination: "fd00::1", protocol: "tcp", port: 80, ...packet }).accepted;
  expect(passes({})).toBe(false);
  expect(passes({ state: "established" })).toBe(true);
  expect(passes({ protocol: "icmpv6", state: "related" })).toBe(true);
  expect(passes({ source: "fd00::1", destination: "fd00::1" })).toBe(true);
  expect(passes({ protocol: "icmpv6", icmpType: "nd-neighbor-solicit" })).toBe(true);
  expect(passes({ source: "fe80::2", destination: "fe80::1" })).toBe(false);
  expect(passes({ source: "fe80::1", destination: "fd00::2" })).toBe(false);
  expect(passes({ source: "fd00::2", destination: "ff02::fb", protocol: "udp", group: true })).toBe(false);
});

test("frames of other bridges are left alone where it is known which is ours, and all where pods are routed", () => {
  const scene = new Scene({ "a/p": {} }).policy("a/shut", { ingress: [] });
  const passes = (device: string) => {
    scene.take();
    const packet = { source: "fe80::2", destination: "fe80::1", protocol: "tcp" as const, port: 80, device };
    return (
      forward(scene.kernel.values(), packet).accepted &&
      forward(scene.kernel.values(), { ...packet, destination: "ff02::1", group: true }).accepted
    );
  };
  const attach = (bridge: string | null) =>
    scene.index.setAttachment({ key: "a/p", addresses: ["10.0.0.1", "fd00::1"], hostInterface: "veth-a/p", bridge });
  expect([passes("podlane0"), passes("virbr0")]).toEqual([false, false]);
  attach("podlane0");
  expect([passes("podlane0"), passes("virbr0")]).toEqual([false, true]);
  attach(null);
  expect([passes("podlane0"), passes("virbr0")]).toEqual([true, true]);
});

test("which policies select a pod", () => {
  const scene = new Scene({ "a/p": { labels: { app: "db" } }, "b/q": {} })
    .policy("a/in", { ingress: [] })
    .policy("a/db", { pods: byApp("db"), ingress: [], egress: [] })
    .clusterPolicy("all", { egress: [{ action: "Deny", peers: [{ namespaces: {} }] }] });
  expect(scene.index.selected("a/p")).toEqual({
    ingress: { admin: [], networkPolicies: ["a/db", "a/in"], baseline: [] },
    egress: { admin: ["ClusterNetworkPolicy/all"], networkPolicies: ["a/db"], baseline: [] },
  });
  expect(scene.index.policiesOf("a/p")).toEqual(["ClusterNetworkPolicy/all", "a/db", "a/in"]);
  expect([scene.index.policiesOf("b/q"), scene.index.selected("b/none")]).toEqual([["ClusterNetworkPolicy/all"], undefined]);
});

test("a policy of many short rules needs no sets, which nft would read with each change; a rule of many ports and peers has one", () => {
  const numbers = (count: number) => Array.from({ length: count }, (_, at): PolicyPort => ({ protocol: "TCP", port: 2 * at + 1 }));
  const block = (at: number) => ({ block: { cidr: `10.9.${at}.0/24`, except: [] } });
  const short = Array.from({ length: 200 }, (_, at): PolicyRule => ({ peers: [block(at)], ports: numbers(2) }));
  const written = (ingress: PolicyRule[]) => {
    const scene = new Scene({ "a/web": {} }).policy("a/p", { ingress });
    scene.take();
    const rules = chains(scene).flatMap(one => (one.name.startsWith("np-policy-") ? one.rules : []));
    return [sets(scene, "np-blocks").length, rules.length, JSON.stringify(rules).split('{"set":').length - 1];
  };
  expect(written(short)).toEqual([0, 400, 0]);
  const many = Array.from({ length: 20 }, (_, at) => ({ namespaces: byApp(String(at)) }));
  expect(written([{ peers: many, ports: numbers(20) }])).toEqual([0, 40, 40]);
});
