import fc from "fast-check";
import { expect, test } from "vitest";
import { ServiceAnnotations } from "../resources/advertisement.ts";
import { ServiceAnnouncer } from "./announcer.ts";
import type { RawObject } from "./read.ts";
import { ServiceIndex } from "./service-index.ts";
import { Texts } from "./texts.ts";
import { Links, type ServiceRoute, type ServiceRule, type ServicesPlan } from "./types.ts";
import type { Gates } from "./verdicts.ts";

const rule = (more: Partial<ServiceRule> = {}): ServiceRule => ({
  source: "Advertisement/vips",
  addresses: ["LoadBalancerIP", "ExternalIP", "ClusterIP"],
  externalRanges: ["192.0.2.0/24", "2001:db8::/64"],
  selector: {},
  keepWithoutEndpoints: false,
  ignoreExclusion: false,
  linkBandwidth: false,
  annotations: [],
  ...more,
});
const plan = (rules: ServiceRule[] = [rule()], more: Partial<ServicesPlan> = {}): ServicesPlan => ({
  rules,
  attached: ["10.0.0.0/24"],
  proxyHealthPort: 10256,
  timeout: 30,
  ...more,
});
const open: Gates = { confirmed: () => true };

interface Given {
  name?: string;
  spec?: object;
  ips?: string[];
  labels?: object;
  annotations?: object;
}

const service = ({ name = "web", spec = {}, ips = ["192.0.2.5"], labels = { app: "web" }, annotations = {} }: Given = {}): RawObject => ({
  metadata: { name, namespace: "shop", labels, annotations },
  spec: { type: "LoadBalancer", ...spec },
  status: { loadBalancer: { ingress: ips.map(ip => ({ ip })) } },
});
const ready = {};
const ending = { ready: false, serving: true, terminating: true };
const unready = { ready: false };

/** [node, conditions] of each endpoint. */
function slice(name: string, endpoints: [string, object][], addressType = "IPv4"): RawObject {
  const addresses = (at: number) => [addressType === "IPv4" ? `10.244.1.${at + 2}` : `fd00::${at + 2}`];
  return {
    metadata: { name: `${name}-${addressType}`, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
    addressType,
    endpoints: endpoints.map(([nodeName, conditions], at) => ({ addresses: addresses(at), nodeName, conditions })),
  };
}

function index(...objects: RawObject[]): ServiceIndex {
  const made = new ServiceIndex("n1");
  put(made, ...objects);
  return made;
}

function put(made: ServiceIndex, ...objects: RawObject[]): void {
  for (const object of objects) {
    if (object.addressType) made.setSlice(object);
    else if (object.spec) made.setService(object);
    else made.setNamespace(object);
  }
}

function started(lookup: ServiceIndex, rules = plan(), gates = open) {
  const announcer = new ServiceAnnouncer(lookup);
  const changes = announcer.use(rules, gates);
  return { announcer, changes, prefixes: [...changes.keys()].sort() };
}

const said = (announcer: ServiceAnnouncer, key = "shop/web") =>
  announcer.verdicts(key).map(({ address, announced, link }) => `${address} ${announced ? "announced" : link}`);

const Local = { externalTrafficPolicy: "Local", internalTrafficPolicy: "Local" };

const cases: [what: string, spec: object, endpoints: [string, object][], rules: Partial<ServiceRule>, outcome: string][] = [
  ["Cluster: ready elsewhere", {}, [["n2", ready]], {}, "announced"],
  ["Cluster: null conditions are ready", {}, [["n2", { ready: null, serving: null, terminating: null }]], {}, "announced"],
  [
    "Local: ends here, and is ready all the same: publishNotReadyAddresses",
    Local,
    [["n1", { ready: true, terminating: true }]],
    {},
    "announced",
  ],
  ["Cluster: none ready, one ends and serves", {}, [["n2", ending]], {}, "announced"],
  ["Cluster: none ready", {}, [["n2", unready]], {}, "NoEndpoints"],
  ["Cluster: none at all", {}, [], {}, "NoEndpoints"],
  ["Cluster: none at all, and kept", {}, [], { keepWithoutEndpoints: true }, "announced"],
  ["Local: ready here", Local, [["n1", ready]], {}, "announced"],
  ["Local: ready elsewhere", Local, [["n2", ready]], {}, "NoEndpointHere"],
  [
    "Local: ends here, ready elsewhere",
    Local,
    [
      ["n1", ending],
      ["n2", ready],
    ],
    {},
    "NoEndpointHere",
  ],
  [
    "Local: ends here, none ready anywhere",
    Local,
    [
      ["n1", ending],
      ["n2", unready],
    ],
    {},
    "announced",
  ],
  ["Local: ends elsewhere, none ready anywhere", Local, [["n2", ending]], {}, "NoEndpointHere"],
  ["Local: none at all", Local, [], {}, "NoEndpoints"],
  ["Local: none at all, and kept: the policy decides", Local, [], { keepWithoutEndpoints: true }, "NoEndpoints"],
  ["another kind", {}, [["n1", ready]], { addresses: ["ExternalIP"] }, "NoAdvertisement"],
  ["another label", {}, [["n1", ready]], { selector: { matchLabels: { app: "db" } } }, "NoAdvertisement"],
  ["a namespace that is not known", {}, [["n1", ready]], { namespaceSelector: {} }, "NoAdvertisement"],
  ["another class", {}, [["n1", ready]], { loadBalancerClasses: ["a.example/b"] }, "NoAdvertisement"],
  ["its class", { loadBalancerClass: "a.example/b" }, [["n1", ready]], { loadBalancerClasses: ["a.example/b"] }, "announced"],
];

test.each(cases)("%s", (_what, spec, endpoints, rules, outcome) => {
  const { announcer, prefixes } = started(index(service({ spec }), slice("web", endpoints)), plan([rule(rules)]));
  expect(said(announcer)).toEqual([`192.0.2.5 ${outcome}`]);
  expect(prefixes).toEqual(outcome === "announced" ? ["192.0.2.5/32"] : []);
});

test("families are judged apart, cluster addresses by the internal policy", () => {
  const spec = { clusterIPs: ["10.96.0.10", "fd00:96::a"], externalTrafficPolicy: "Local" };
  const lookup = index(
    service({ spec, ips: ["192.0.2.5", "2001:db8::5"] }),
    slice("web", [["n1", ready]]),
    slice("web", [["n2", ready]], "IPv6"),
  );
  const { announcer } = started(lookup);
  expect(said(announcer)).toEqual(["192.0.2.5 announced", "2001:db8::5 NoEndpointHere", "10.96.0.10 announced", "fd00:96::a announced"]);
});

test("namespaces are selected by their labels, as these come and go", () => {
  const lookup = index(service(), slice("web", [["n1", ready]]));
  const { announcer } = started(lookup, plan([rule({ namespaceSelector: { matchLabels: { public: "yes" } } })]));
  lookup.listen(changed => void announcer.change(changed));
  expect(said(announcer)).toEqual(["192.0.2.5 NoAdvertisement"]);
  put(lookup, { metadata: { name: "shop", labels: { public: "yes" } } });
  lookup.settle();
  expect([...announcer.routes().keys()]).toEqual(["192.0.2.5/32"]);
});

test.each([
  ["excluded", { excluded: "it has the label" }, {}, ["192.0.2.5 NodeExcluded", "10.96.0.1 announced"]],
  ["excluded, and ignored", { excluded: "it has the label" }, { ignoreExclusion: true }, ["192.0.2.5 announced", "10.96.0.1 announced"]],
] as const)("a node that is %s", (_what, more, rules, outcome) => {
  const lookup = index(service({ spec: { clusterIPs: ["10.96.0.1"] } }), slice("web", [["n1", ready]]));
  expect(said(started(lookup, plan([rule(rules)], more)).announcer)).toEqual(outcome);
});

test.each([
  ["the node", { node: "no session" }, "NodeNotReady", "NodeNotReady"],
  ["the proxy", { proxy: "it does not answer" }, "ProxyNotReady", "ProxyNotReady"],
  ["the proxy before the node", { proxy: "x", node: "y" }, "ProxyNotReady", "ProxyNotReady"],
  ["what the proxy says of the node, for policy Cluster", { ineligible: "nodeEligible: false" }, "NodeExcluded", "announced"],
])("nothing is announced against %s", (_what, gates, cluster, local) => {
  const lookup = index(
    service(),
    slice("web", [["n1", ready]]),
    service({ name: "local", spec: Local, ips: ["192.0.2.6"] }),
    slice("local", [["n1", ready]]),
  );
  const { announcer } = started(lookup, plan(), { ...open, ...gates });
  expect(said(announcer)).toEqual([`192.0.2.5 ${cluster}`]);
  expect(said(announcer, "shop/local")).toEqual([`192.0.2.6 ${local}`]);
  // All at once, when it opens.
  expect(announcer.use(plan(), open).size).toBe(local === "announced" ? 1 : 2);
  expect(announcer.use(plan(), open).size).toBe(0);
});

test("a Service that waits for the proxy's word is known with its port, and announced once it has it", () => {
  const lookup = index(
    service({ spec: { ...Local, healthCheckNodePort: 30123, clusterIPs: ["10.96.0.1"] } }),
    slice("web", [["n1", ready]]),
  );
  const confirmed = new Set<string>();
  const { announcer } = started(lookup, plan(), { confirmed: key => confirmed.has(key) });
  expect(said(announcer)).toEqual(["192.0.2.5 ProxyNotReady", "10.96.0.1 announced"]);
  expect(announcer.verdicts("shop/web")[0].message).toContain("30123");
  expect([...announcer.waiting()]).toEqual([["shop/web", 30123]]);
  confirmed.add("shop/web");
  expect([...announcer.change(["shop/web"]).keys()]).toEqual(["192.0.2.5/32"]);
  expect(announcer.waiting().size).toBe(0);
  put(lookup, slice("web", [["n2", ready]]));
  expect([...announcer.change(["shop/web"])]).toEqual([
    ["192.0.2.5/32", undefined],
    ["10.96.0.1/32", undefined],
  ]);
});

test("the broken link that is told is that of the Advertisement that came furthest", () => {
  const lookup = index(service({ spec: Local }), slice("web", [["n1", ready]]));
  const rules = [rule({ source: "Advertisement/a" }), rule({ source: "Advertisement/b", ignoreExclusion: true })];
  const { announcer } = started(lookup, plan(rules, { excluded: "label" }), { ...open, node: "no session" });
  expect(said(announcer)).toEqual(["192.0.2.5 NodeNotReady"]);
  const { announcer: serving } = started(lookup, plan(rules, { excluded: "label" }));
  expect(serving.verdicts("shop/web")[0]).toMatchObject({ announced: true, sources: ["Advertisement/b"] });
});

test("without an address, a plan or a Service there is something to say all the same", () => {
  const lookup = index(
    service({ ips: [] }),
    service({ name: "headless", spec: { type: "ClusterIP", clusterIP: "None" }, ips: [] }),
    service({ name: "named", spec: { type: "ExternalName" }, ips: [] }),
  );
  const { announcer } = started(lookup);
  expect(said(announcer)).toEqual([" NoAddress"]);
  expect(announcer.verdicts("shop/headless")[0].message).toContain("headless");
  expect(announcer.verdicts("shop/named")[0].message).toContain("a name");
  expect(announcer.verdicts("shop/none")).toEqual([]);
  const { announcer: idle } = started(index(service()), plan([]));
  expect(said(idle)).toEqual(["192.0.2.5 NoAdvertisement"]);
  const bare = new ServiceAnnouncer(index(service()));
  expect(bare.verdicts("shop/web")[0].message).toContain("no Advertisement of type Service selects this node");
});

test("an address with ipMode Proxy is a balancer's outside: it is not announced, and that is said", () => {
  const lookup = index(
    {
      ...service(),
      status: {
        loadBalancer: { ingress: [{ ip: "192.0.2.5", ipMode: "Proxy" }, { ip: "192.0.2.6", ipMode: "VIP" }, { ip: "192.0.2.7" }] },
      },
    },
    slice("web", [["n1", ready]]),
  );
  const { announcer, prefixes } = started(lookup);
  expect(prefixes).toEqual(["192.0.2.6/32", "192.0.2.7/32"]);
  expect(said(announcer)).toEqual(["192.0.2.6 announced", "192.0.2.7 announced", "192.0.2.5 NoAddress"]);
  expect(announcer.verdicts("shop/web")[2].message).toContain("ipMode Proxy");
  put(lookup, { ...service(), status: { loadBalancer: { ingress: [{ ip: "192.0.2.5", ipMode: "Proxy" }] } } });
  expect([...announcer.change(["shop/web"]).values()]).toEqual([undefined, undefined]);
  expect(said(announcer)).toEqual(["192.0.2.5 NoAddress"]);
});

const external = (externalIPs: string[], more: object = {}, name = "web") =>
  service({ name, spec: { type: "ClusterIP", externalIPs, ...more }, ips: [] });

test("external addresses are announced inside the ranges of the Advertisement alone", () => {
  const ips = ["192.0.2.7", "8.8.8.8", "2001:db8::7", "2001:db8:1::7"];
  const lookup = index(external(ips), slice("web", [["n2", ready]]), slice("web", [["n2", ready]], "IPv6"));
  const { announcer, prefixes } = started(lookup);
  expect(prefixes).toEqual(["192.0.2.7/32", "2001:db8::7/128"]);
  expect(said(announcer)).toEqual(["192.0.2.7 announced", "8.8.8.8 OutsideRanges", "2001:db8::7 announced", "2001:db8:1::7 OutsideRanges"]);
  expect(announcer.verdicts("shop/web")[1].message).toContain("Advertisement/vips has 192.0.2.0/24, 2001:db8::/64");
  const { externalRanges: _, ...bare } = rule();
  expect(started(lookup, plan([bare])).prefixes).toEqual([]);
  // Each Advertisement by its own.
  const two = [rule(), rule({ source: "Advertisement/other", externalRanges: ["8.8.8.8/32"] })];
  expect(started(lookup, plan(two)).changes.get("8.8.8.8/32")?.sources).toEqual(["Advertisement/other"]);
});

test.each([
  ["224.0.0.5", "multicast"],
  ["255.255.255.255", "reserved"],
  ["127.0.0.1", "loopback"],
  ["169.254.1.1", "link-local"],
  ["0.0.0.0", "this network"],
  ["ff02::1", "multicast"],
  ["fe80::1", "link-local"],
  ["::1", "unspecified"],
  ["10.0.0.2", "the InternalIP of a node"],
  ["fd00:1::2", "the InternalIP of a node"],
  ["10.244.3.9", "a pod subnet"],
])("%s is announced as no address of a Service: %s", (address, reason) => {
  const reserved = [
    { reason: "the InternalIP of a node", prefixes: ["10.0.0.2/32", "fd00:1::2/128"] },
    { reason: "a pod subnet", prefixes: ["10.244.3.0/24"] },
  ];
  const lookup = index(
    service({ spec: { externalIPs: [address], clusterIPs: [address] }, ips: [address] }),
    slice("web", [["n1", ready]]),
    slice("web", [["n1", ready]], "IPv6"),
  );
  const all = plan([rule({ externalRanges: ["0.0.0.0/0", "::/0"], aggregation: { ipv4: 24 } })], { reserved });
  const { announcer, prefixes } = started(lookup, all);
  expect(prefixes).toEqual([]);
  expect(said(announcer)).toEqual(Array.from({ length: 3 }, () => `${address} AddressReserved`));
  expect(announcer.verdicts("shop/web")[0].message).toContain(reason);
});

test("what the plan reserves counts from when it says so", () => {
  const { announcer } = started(index(service(), slice("web", [["n1", ready]])));
  const reserved = [{ reason: "an address of this node", prefixes: ["192.0.2.5/32"] }];
  expect([...announcer.use(plan(undefined, { reserved }), open)]).toEqual([["192.0.2.5/32", undefined]]);
  expect([...announcer.use(plan(), open).keys()]).toEqual(["192.0.2.5/32"]);
});

test("an external address makes no covering prefix be announced that is not wholly in a range", () => {
  const rules = plan([rule({ externalRanges: ["192.0.2.0/25", "198.51.100.0/24"], aggregation: { ipv4: 24 } })]);
  const lookup = index(external(["192.0.2.7", "198.51.100.7"]), slice("web", [["n2", ready]]));
  const { announcer, prefixes } = started(lookup, rules);
  expect(prefixes).toEqual(["192.0.2.7/32", "198.51.100.0/24"]);
  const [first, second] = announcer.verdicts("shop/web");
  expect(first.message).toContain("announced: ");
  expect(first.notes).toEqual(["it does not make 192.0.2.0/24 be announced: no range of Advertisement/vips has all of that"]);
  expect(second.message).toContain("as part of 198.51.100.0/24");
  // A load-balancer address does.
  put(lookup, service({ name: "balanced", ips: ["192.0.2.9"] }), slice("balanced", [["n2", ready]]));
  expect([...announcer.change(["shop/balanced"]).keys()]).toEqual(["192.0.2.0/24"]);
});

test("who has a load-balancer address has it alone: another one's external address draws nothing", () => {
  const lookup = index(
    service({ name: "victim", spec: Local }),
    slice("victim", [["n2", ready]]),
    external(["192.0.2.5"], {}, "thief"),
    slice("thief", [["n1", ready]]),
  );
  const { announcer, prefixes } = started(lookup);
  lookup.listen(changed => void announcer.change(changed));
  lookup.settle();
  expect(prefixes).toEqual([]);
  expect(said(announcer, "shop/thief")).toEqual(["192.0.2.5 AddressTaken"]);
  expect(announcer.verdicts("shop/thief")[0].message).toContain("shop/victim");
  // It is free when the other one goes, and not when it comes back.
  lookup.deleteService("shop/victim");
  lookup.settle();
  expect([...announcer.routes().keys()]).toEqual(["192.0.2.5/32"]);
  put(lookup, service({ name: "victim", spec: Local }));
  lookup.settle();
  expect([...announcer.routes().keys()]).toEqual([]);
  // Its own is no theft.
  put(lookup, service({ name: "both", spec: { externalIPs: ["192.0.2.6"] }, ips: ["192.0.2.6"] }), slice("both", [["n1", ready]]));
  lookup.settle();
  expect(said(announcer, "shop/both")).toEqual(["192.0.2.6 announced", "192.0.2.6 announced"]);
});

test("a covering prefix stands for addresses of policy Cluster, and beside those of Local, from where these are", () => {
  const aggregation = { ipv4: 24, ipv6: 64 };
  const lookup = index(
    service({ ips: ["192.0.2.5", "2001:db8::5"] }),
    slice("web", [["n2", ready]]),
    service({ name: "local", spec: Local, ips: ["192.0.2.6"] }),
    slice("local", [["n1", ready]]),
  );
  const { announcer, changes } = started(lookup, plan([rule({ aggregation })]));
  const sources = ["Advertisement/vips"];
  expect([...changes.values()]).toEqual([
    { prefix: "192.0.2.0/24", kind: "aggregate", sources, discard: true },
    { prefix: "192.0.2.6/32", kind: "service", sources, discard: true },
  ]);
  expect(announcer.verdicts("shop/web")[0].message).toContain("as part of 192.0.2.0/24");
  expect(announcer.prefixes("shop/local")).toEqual(["192.0.2.0/24", "192.0.2.6/32"]);
  // Of Cluster the last one goes: Local's keep the aggregate where they are.
  put(lookup, slice("web", []));
  expect(announcer.change(["shop/web"]).size).toBe(0);
  put(lookup, slice("local", [["n2", ready]]));
  expect([...announcer.change(["shop/local"])]).toEqual([
    ["192.0.2.0/24", undefined],
    ["192.0.2.6/32", undefined],
  ]);
  put(lookup, slice("web", [["n2", ready]]));
  expect([...announcer.change(["shop/web"]).keys()]).toEqual(["192.0.2.0/24"]);
});

test("one Advertisement with and one without aggregation: both prefixes, each with its own source", () => {
  const rules = [
    rule({ source: "Advertisement/a", aggregation: { ipv4: 24 } }),
    rule({ source: "Advertisement/b", aggregation: { ipv4: 32 } }),
  ];
  const { changes } = started(index(service(), slice("web", [["n2", ready]])), plan(rules));
  expect([...changes.values()].map(route => route && [route.prefix, route.kind, ...route.sources])).toEqual([
    ["192.0.2.0/24", "aggregate", "Advertisement/a"],
    ["192.0.2.5/32", "service", "Advertisement/b"],
  ]);
});

test("what the node is attached to is never discarded", () => {
  const attached = ["192.0.2.128/25", "198.51.100.7/32"];
  const lookup = index(service({ ips: ["192.0.2.5", "192.0.2.130", "198.51.100.7", "198.51.100.8"] }), slice("web", [["n1", ready]]));
  const discards = (aggregation?: { ipv4: number }) =>
    [
      ...started(lookup, plan([rule({ aggregation })], { attached }))
        .announcer.routes()
        .values(),
    ].map(({ prefix, discard }) => `${prefix} ${discard}`);
  expect(discards()).toEqual(["192.0.2.5/32 true", "192.0.2.130/32 false", "198.51.100.7/32 false", "198.51.100.8/32 true"]);
  expect(discards({ ipv4: 24 })).toEqual(["192.0.2.0/24 false", "198.51.100.0/24 true"]);
  expect(discards({ ipv4: 26 })).toEqual(["192.0.2.0/26 true", "192.0.2.128/26 false", "198.51.100.0/26 true"]);
  const { announcer } = started(lookup, plan([rule({ aggregation: { ipv4: 24 } })]));
  expect([...announcer.use(plan([rule({ aggregation: { ipv4: 24 } })], { attached }), open).keys()]).toEqual(["192.0.2.0/24"]);
  expect(announcer.attachedAggregates().map(({ prefix }) => prefix)).toEqual(["192.0.2.0/24"]);
});

test("an address that two Services share is announced while one of them is; the first by name speaks for both", () => {
  const annotated = (name: string, med: string) => service({ name, spec: Local, annotations: { "podlane.io/med": med } });
  const lookup = index(
    annotated("a", "1"),
    annotated("b", "2"),
    slice("a", [["n1", ready]]),
    slice("b", [
      ["n1", ready],
      ["n1", ready],
    ]),
  );
  const { announcer, changes } = started(lookup, plan([rule({ linkBandwidth: true, annotations: ["MED"] })]));
  expect(changes.get("192.0.2.5/32")).toMatchObject({ weight: 3, attributes: { med: 1 } });
  put(lookup, slice("a", [["n2", ready]]));
  expect(announcer.change(["shop/a"]).get("192.0.2.5/32")).toMatchObject({ weight: 2, attributes: { med: 2 } });
  lookup.deleteService("shop/b");
  expect([...announcer.change(["shop/b"])]).toEqual([["192.0.2.5/32", undefined]]);
});

test("only routes of policy Local have a weight: behind Cluster all endpoints are reached from everywhere", () => {
  const rules = plan([rule({ linkBandwidth: true })]);
  const weightOf = (spec: object, endpoints: [string, object][]) =>
    started(index(service({ spec }), slice("web", endpoints)), rules).changes.get("192.0.2.5/32")?.weight;
  expect(weightOf({}, [["n1", ready]])).toBeUndefined();
  expect(
    weightOf(Local, [
      ["n1", ready],
      ["n1", ready],
      ["n1", ending],
      ["n2", ready],
    ]),
  ).toBe(2);
  expect(weightOf(Local, [["n1", ending]])).toBe(1);
});

const annotations = (values: Record<string, string>) =>
  Object.fromEntries(Object.entries(values).map(([name, text]) => [`podlane.io/${name}`, text]));

test.each([
  [
    "all that may be said",
    { communities: "65001:1, no-export", "large-communities": "65001:1:2", "local-pref": "0", med: "4294967295", prepend: "16" },
    ServiceAnnotations,
    { communities: ["65001:1", "no-export"], largeCommunities: ["65001:1:2"], localPref: 0, med: 4294967295, prepend: 16 },
    0,
  ],
  ["what is not allowed", { med: "1", prepend: "2" }, ["Prepend"], { prepend: 2 }, 1],
  ["a community that is none", { communities: "65536:1" }, ServiceAnnotations, undefined, 1],
  ["an empty list", { communities: "" }, ServiceAnnotations, undefined, 1],
  ["too many", { communities: Array.from({ length: 33 }, (_, i) => `1:${i}`).join(",") }, ServiceAnnotations, undefined, 1],
  ["numbers out of range", { "local-pref": "4294967296", med: "-1", prepend: "17" }, ServiceAnnotations, undefined, 3],
  ["no number", { prepend: "0", med: "1e3", "large-communities": "1:2" }, ServiceAnnotations, undefined, 3],
] as const)("annotations: %s", (_what, values, allowed, attributes, notes) => {
  const lookup = index(service({ annotations: annotations(values) }), slice("web", [["n1", ready]]));
  const { announcer, changes } = started(lookup, plan([rule({ annotations: [...allowed] })]));
  expect(changes.get("192.0.2.5/32")?.attributes).toEqual(attributes);
  expect(announcer.verdicts("shop/web")[0].notes ?? []).toHaveLength(notes);
});

test("annotations that one of the Advertisements does not allow are ignored, as the route is the same for all neighbours", () => {
  const lookup = index(service({ annotations: annotations({ med: "7" }) }), slice("web", [["n1", ready]]));
  const rules = [rule({ annotations: ["MED"] }), rule({ source: "Advertisement/other" })];
  const { announcer, changes } = started(lookup, plan(rules));
  expect(changes.get("192.0.2.5/32")?.attributes).toBeUndefined();
  expect(announcer.verdicts("shop/web")[0].notes?.[0]).toContain("Advertisement/other would have to name MED");
  const aggregated = started(lookup, plan([rule({ annotations: ["MED"], aggregation: { ipv4: 24 } })])).announcer;
  expect(aggregated.verdicts("shop/web")[0].notes?.[0]).toContain("have no effect");
});

test("each link has words, and a remedy", () => {
  for (const link of Links) {
    const { message, remedy } = Texts[link]({ kind: "LoadBalancerIP", family: 6, detail: "X" });
    expect(message.length * remedy.length).toBeGreaterThan(0);
  }
});

test("counts follow", () => {
  const lookup = index(service(), service({ name: "b" }), slice("web", [["n1", ready]]));
  const { announcer } = started(lookup);
  expect(Object.fromEntries(announcer.counts())).toEqual({ announced: 1, NoEndpoints: 1 });
  lookup.deleteService("shop/b");
  announcer.change(["shop/b"]);
  expect(Object.fromEntries(announcer.counts())).toEqual({ announced: 1 });
});

const names = ["a", "b", "c"];
const conditions = [ready, ending, unready];
const addresses = ["192.0.2.1", "192.0.2.2", "192.0.3.1", "2001:db8::1"];
const step = fc.oneof(
  fc.record({
    do: fc.constant("service" as const),
    name: fc.constantFrom(...names),
    local: fc.boolean(),
    port: fc.boolean(),
    ips: fc.uniqueArray(fc.constantFrom(...addresses), { maxLength: 3 }),
    external: fc.uniqueArray(fc.constantFrom(...addresses), { maxLength: 2 }),
    med: fc.option(fc.constantFrom("1", "bad")),
  }),
  fc.record({ do: fc.constant("delete" as const), name: fc.constantFrom(...names) }),
  fc.record({
    do: fc.constant("slice" as const),
    name: fc.constantFrom(...names),
    v6: fc.boolean(),
    endpoints: fc.array(fc.tuple(fc.constantFrom("n1", "n2"), fc.constantFrom(...conditions)), { maxLength: 3 }),
  }),
  fc.record({ do: fc.constant("confirm" as const), name: fc.constantFrom(...names), yes: fc.boolean() }),
  fc.record({ do: fc.constant("gates" as const), proxy: fc.boolean(), node: fc.constantFrom("", "y", "z") }),
  fc.record({
    do: fc.constant("plan" as const),
    excluded: fc.boolean(),
    attached: fc.boolean(),
    lengths: fc.array(fc.option(fc.constantFrom(23, 24, 32)), { maxLength: 2 }),
    keep: fc.boolean(),
    ranges: fc.uniqueArray(fc.constantFrom("192.0.2.0/24", "192.0.2.1/32", "192.0.2.0/23", "2001:db8::/64")),
    reserved: fc.subarray(["192.0.2.2/32", "2001:db8::/64"]),
    proxy: fc.boolean(),
    node: fc.boolean(),
  }),
);

test("in small steps it comes to the same as from scratch, and tells nothing that is so already", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), steps => {
      const lookup = new ServiceIndex("n1");
      const announcer = new ServiceAnnouncer(lookup);
      const confirmed = new Set<string>();
      let [rules, gates]: [ServicesPlan, Gates] = [plan(), { confirmed: key => confirmed.has(key) }];
      const told = new Map<string, ServiceRoute>();
      const take = (changes: ReadonlyMap<string, ServiceRoute | undefined>) => {
        for (const [prefix, route] of changes) {
          expect(route).not.toEqual(told.get(prefix));
          if (route) told.set(prefix, route);
          else told.delete(prefix);
        }
      };
      take(announcer.use(rules, gates));
      lookup.listen(changed => take(announcer.change(changed)));
      for (const one of steps) {
        if (one.do === "service") {
          const spec = { externalIPs: one.external, ...(one.local ? Local : {}), ...(one.port ? { healthCheckNodePort: 30000 } : {}) };
          lookup.setService(service({ name: one.name, spec, ips: one.ips, annotations: one.med ? { "podlane.io/med": one.med } : {} }));
        } else if (one.do === "delete") lookup.deleteService(`shop/${one.name}`);
        else if (one.do === "slice") lookup.setSlice(slice(one.name, one.endpoints, one.v6 ? "IPv6" : "IPv4"));
        else if (one.do === "confirm") {
          if (one.yes) confirmed.add(`shop/${one.name}`);
          else confirmed.delete(`shop/${one.name}`);
          take(announcer.change([`shop/${one.name}`]));
        } else if (one.do === "plan") {
          const made = one.lengths.map((length, i) =>
            rule({
              source: `Advertisement/${i}`,
              externalRanges: one.ranges,
              keepWithoutEndpoints: one.keep,
              linkBandwidth: one.keep,
              annotations: ["MED"],
              ...(length ? { aggregation: { ipv4: length } } : {}),
            }),
          );
          rules = plan(made, {
            ...(one.excluded ? { excluded: "label" } : {}),
            attached: one.attached ? ["192.0.3.0/25"] : [],
            reserved: [{ reason: "x", prefixes: one.reserved }],
          });
          gates = { confirmed: key => confirmed.has(key), ...(one.proxy ? { proxy: "x" } : {}), ...(one.node ? { node: "y" } : {}) };
          // The plan at once; what the data path says of itself Service by Service.
          take(announcer.use(rules, gates));
        }
        if (one.do === "gates") {
          gates = { confirmed: key => confirmed.has(key), ...(one.proxy ? { proxy: "x" } : {}), ...(one.node ? { node: one.node } : {}) };
          for (const key of announcer.open(gates)) take(announcer.change([key]));
        }
        lookup.settle();
        const anew = started(lookup, rules, gates).announcer;
        const sorted = (routes: Map<string, ServiceRoute>) => [...routes].sort(([a], [b]) => (a < b ? -1 : 1));
        expect(sorted(told)).toEqual(sorted(anew.routes()));
        expect(sorted(announcer.routes())).toEqual(sorted(anew.routes()));
        expect(new Map(announcer.waiting())).toEqual(new Map(anew.waiting()));
        expect(new Map(announcer.counts())).toEqual(new Map(anew.counts()));
      }
    }),
    { numRuns: 300 },
  );
});
