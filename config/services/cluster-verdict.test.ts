import { expect, test } from "vitest";
import { checkObject } from "../resources/documents.ts";
import { type AnyResource, collect } from "../resources/kinds.ts";
import { clusterRules, clusterVerdict } from "./cluster-verdict.ts";
import { ServiceIndex } from "./service-index.ts";
import { EXCLUDED_LABEL } from "./types.ts";

const read = (object: object) => checkObject(object).object as AnyResource;
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

function judged(objects: AnyResource[], service: object, endpoints: { node: string; ready?: boolean }[] = [], labels = {}) {
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
    endpoints: endpoints.map(({ node: nodeName, ready = true }, i) => ({ addresses: [`10.244.0.${i}`], nodeName, conditions: { ready } })),
  });
  const [view] = index.services();
  return clusterVerdict(clusterRules(collect(objects).resources), index, view);
}

const nodes = [node("n1"), node("n2"), node("n3", { [EXCLUDED_LABEL]: "" })];
const here = [{ node: "n2" }, { node: "n3" }];

test("policy Cluster: from all nodes that take traffic from outside", () => {
  expect(judged([...nodes, advertisement()], {}, here)).toEqual({
    announced: true,
    reason: "Announced",
    message: "192.0.2.5 by Advertisement/vips from 2 nodes, where these are ready (podlane services shop/web)",
  });
});

test("policy Local: from those with ready endpoints", () => {
  const local = { externalTrafficPolicy: "Local" };
  expect(judged([...nodes, advertisement()], local, here)?.message).toContain("from n2, where");
  expect(judged([...nodes, advertisement({ excludedNodes: "Ignore" })], local, here)?.message).toContain("from n2, n3, where");
  expect(judged([...nodes, advertisement({}, { nodeSelector: { matchLabels: { name: "n1" } } })], local, here)).toMatchObject({
    announced: false,
    reason: "NoEndpointHere",
  });
});

test.each([
  ["no endpoint is ready", [...nodes, advertisement()], {}, [{ node: "n1", ready: false }], "NoEndpoints"],
  ["no address", [...nodes, advertisement()], { status: {} }, here, "NoAddress"],
  ["all nodes are excluded", [nodes[2], advertisement()], {}, here, "NodeExcluded"],
  ["no Advertisement selects it", [...nodes, advertisement({ selector: { matchLabels: { app: "x" } } })], {}, here, "NoAdvertisement"],
  ["no node is selected", [...nodes, advertisement({}, { nodeSelector: { matchLabels: { name: "n9" } } })], {}, here, "NoAdvertisement"],
])("not announced: %s", (_, objects, service, endpoints, reason) => {
  expect(judged(objects, service, endpoints)).toMatchObject({ announced: false, reason });
});

test("nothing is said where nothing of the kind is announced", () => {
  expect(judged(nodes, {}, here)).toBeUndefined();
  expect(judged([...nodes, advertisement({ addresses: ["ExternalIP"] })], {}, here)).toBeUndefined();
});
