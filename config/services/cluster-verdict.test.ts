import { expect, test } from "vitest";
import { checkObject } from "../resources/check-object.ts";
import { type AnyResource, collect } from "../resources/kinds.ts";
import { clusterRules, clusterVerdict } from "./cluster-verdict.ts";
import { ServiceIndex } from "./service-index.ts";
import { EXCLUDED_LABEL } from "./types.ts";

/** A field that is undefined is absent. */
const read = (object: object) => checkObject(JSON.parse(JSON.stringify(object))).object as AnyResource;
const node = (name: string, labels: Record<string, string> = {}) =>
  read({ apiVersion: "v1", kind: "Node", metadata: { name, labels: { name, ...labels } }, spec: {}, status: {} });
const advertisement = (service: object = {}, spec: object = {}) =>
  read({
    apiVersion: "podlane.io/v1alpha1",
    kind: "Advertisement",
    metadata: { name: "vips" },
    spec: {
      nodeSelector: {},
      type: "Service",
      peerSelector: {},
      service: { addresses: ["LoadBalancerIP"], selector: {}, ...service },
      ...spec,
    },
  });

const peer = (name: string, spec: object = {}) =>
  read({
    apiVersion: "podlane.io/v1alpha1",
    kind: "Peer",
    metadata: { name, labels: { name } },
    spec: { nodeSelector: {}, asn: 65000, address: "192.0.2.254", ...spec },
  });

function judged(
  objects: AnyResource[],
  service: object,
  endpoints: { node: string; ready?: boolean; terminating?: boolean }[] = [],
  labels = {},
) {
  const index = new ServiceIndex(undefined);
  const ingress = [{ ip: "192.0.2.5" }];
  index.setService({
    metadata: { name: "web", namespace: "shop", labels },
    spec: { type: "LoadBalancer", clusterIPs: ["10.96.0.9"], ...service },
    status: { loadBalancer: { ingress } },
    ...("status" in service ? { status: service.status } : {}),
  });
  index.setSlice({
    metadata: { name: "web-1", namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
    addressType: "IPv4",
    endpoints: endpoints.map(({ node: nodeName, ready = true, terminating = false }, i) => {
      const conditions = { ready, ...(terminating ? { terminating, serving: true } : {}) };
      return { addresses: [`10.244.0.${i}`], nodeName, conditions };
    }),
  });
  const [view] = index.services();
  return clusterVerdict(clusterRules(collect([peer("tor"), ...objects]).resources), index, view);
}

const nodes = [node("n1"), node("n2"), node("n3", { [EXCLUDED_LABEL]: "" })];
const here = [{ node: "n2" }, { node: "n3" }];

test("policy Cluster: from all nodes that take traffic from outside", () => {
  expect(judged([...nodes, advertisement()], {}, here)).toEqual({
    announced: true,
    reason: "Announced",
    message: "192.0.2.5 by Advertisement/vips; podlane services shop/web --all-nodes says from where",
  });
});

test("a node or an endpoint more or less does not change a word", () => {
  for (const spec of [{}, { externalTrafficPolicy: "Local" }]) {
    const other = read({ ...advertisement(), metadata: { name: "others" } });
    const [few, more] = [[nodes[1]], [...nodes, node("n4")]].map(all => judged([...all, advertisement(), other], spec, here));
    expect(more).toEqual(few);
    expect(judged([...nodes, advertisement(), other], spec, [{ node: "n1" }])).toEqual(few);
  }
});

test("policy Local: from those with ready endpoints", () => {
  expect(judged([...nodes, advertisement()], local(), here)).toMatchObject({ announced: true });
  expect(judged([...nodes, advertisement()], local(), [here[1]])).toMatchObject({ announced: false, reason: "NoEndpointHere" });
  expect(judged([...nodes, advertisement({ excludedNodes: "Ignore" })], local(), [here[1]])).toMatchObject({ announced: true });
  expect(judged([...nodes, advertisement({}, { nodeSelector: { matchLabels: { name: "n1" } } })], local(), here)).toMatchObject({
    announced: false,
    reason: "NoEndpointHere",
  });
});

test("policy Local: from those with endpoints that end but answer, where none is ready anywhere", () => {
  const ending = { node: "n1", ready: false, terminating: true };
  expect(judged([...nodes, advertisement()], local(), [ending])).toMatchObject({ announced: true });
  expect(judged([...nodes, advertisement()], local(), [{ ...ending, node: "n3" }])).toMatchObject({ reason: "NoEndpointHere" });
  expect(judged([...nodes, advertisement()], local(), [ending, { node: "n3" }])).toMatchObject({ reason: "NoEndpointHere" });
});

const byPeer = { nodeSelector: { matchLabels: { name: "n1" } } };

test.each([
  ["by a peer of its name", { peerSelector: undefined, peers: ["tor"] }, {}, "Announced"],
  ["by no peer of these labels", { peerSelector: { matchLabels: { name: "x" } } }, {}, "NoAdvertisement"],
  ["by no peer of that name", { peerSelector: undefined, peers: ["x"] }, {}, "NoAdvertisement"],
  ["by the mesh alone", { peerSelector: undefined, mesh: true }, {}, "Announced"],
  ["by a template", { peerSelector: { matchLabels: { name: "base" } } }, {}, "NoAdvertisement"],
  ["by a peer of a node with an endpoint", { peerSelector: { matchLabels: { name: "leaf" } } }, {}, "Announced"],
  ["by a peer of no node with an endpoint", { peerSelector: { matchLabels: { name: "leaf" } } }, local(), "NoEndpointHere"],
  ["by a peer of no selected node", { ...byPeer, peers: ["spine"], peerSelector: undefined }, {}, "NoAdvertisement"],
])("heard %s", (_, spec, service, reason) => {
  const base = peer("base", { template: true, nodeSelector: undefined, address: undefined });
  const others = [base, peer("leaf", byPeer), peer("spine", { nodeSelector: { matchLabels: { name: "n2" } } })];
  expect(judged([...nodes, ...others, advertisement({}, spec)], service, here)).toMatchObject({ reason });
});

function local() {
  return { externalTrafficPolicy: "Local" };
}

test.each([
  ["no endpoint is ready", [...nodes, advertisement()], {}, [{ node: "n1", ready: false }], "NoEndpoints"],
  [
    "an address that is a node's",
    [
      read({
        apiVersion: "v1",
        kind: "Node",
        metadata: { name: "n4" },
        status: { addresses: [{ type: "InternalIP", address: "192.0.2.5" }] },
      }),
      ...nodes,
      advertisement(),
    ],
    {},
    here,
    "AddressReserved",
  ],
  [
    "an external address outside the ranges",
    [...nodes, advertisement({ addresses: ["ExternalIP"], externalRanges: ["198.51.100.0/24"] })],
    { externalIPs: ["203.0.113.1"] },
    here,
    "OutsideRanges",
  ],
  ["no address", [...nodes, advertisement()], { status: {} }, here, "NoAddress"],
  ["all nodes are excluded", [nodes[2], advertisement()], {}, here, "NodeExcluded"],
  ["no Advertisement selects it", [...nodes, advertisement({ selector: { matchLabels: { app: "x" } } })], {}, here, "NoAdvertisement"],
  ["no node is selected", [...nodes, advertisement({}, { nodeSelector: { matchLabels: { name: "n9" } } })], {}, here, "NoAdvertisement"],
])("not announced: %s", (_, objects, service, endpoints, reason) => {
  expect(judged(objects, service, endpoints)).toMatchObject({ announced: false, reason });
});

test("nothing is said where nothing of the kind is announced", () => {
  expect(judged(nodes, {}, here)).toBeUndefined();
  expect(judged([...nodes, advertisement({ addresses: ["ExternalIP"], externalRanges: ["203.0.113.0/24"] })], {}, here)).toBeUndefined();
});
