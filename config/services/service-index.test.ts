import { expect, test } from "vitest";
import type { RawObject } from "./read.ts";
import { ServiceIndex } from "./service-index.ts";

const service = (spec: object = {}, status: object = {}): RawObject => ({
  metadata: { name: "web", namespace: "shop", labels: { app: "web" } },
  spec: { type: "LoadBalancer", clusterIPs: ["10.96.0.10", "fd00:96::a"], ...spec },
  status: { loadBalancer: { ingress: [{ ip: "192.0.2.5" }, { hostname: "lb.example" }] }, ...status },
});
const slice = (name: string, endpoints: object[], addressType = "IPv4"): RawObject => ({
  metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
  addressType,
  endpoints,
});
const endpoint = (address: string, nodeName: string, conditions: object = {}) => ({ addresses: [address], nodeName, conditions });

function started(node: string | undefined = "n1") {
  const index = new ServiceIndex(node);
  const heard: string[][] = [];
  index.listen(changed => void heard.push([...changed]));
  return { index, heard };
}

test("endpoints of all slices count once, conditions that are null mean ready, and families are apart", () => {
  const { index } = started();
  index.setService(service());
  index.setSlice(slice("a", [endpoint("10.244.1.2", "n1", { ready: null }), endpoint("10.244.2.2", "n2", { ready: true })]));
  index.setSlice(
    slice("b", [endpoint("10.244.1.2", "n1"), endpoint("10.244.1.3", "n1", { ready: false, serving: true, terminating: true })]),
  );
  index.setSlice(slice("c", [endpoint("fd00::2", "n2", { ready: false, serving: false })], "IPv6"));
  index.setSlice(slice("d", [endpoint("shop.example", "n1")], "FQDN"));
  expect(index.endpoints("shop/web")).toEqual({
    4: { localReady: 1, localServing: 2, anyReady: true, anyServing: true },
    6: { localReady: 0, localServing: 0, anyReady: false, anyServing: false },
  });
});

test("who looks at the whole cluster sees on which nodes endpoints are ready, and on which they answer", () => {
  const index = new ServiceIndex(undefined);
  index.setSlice(slice("a", [endpoint("10.244.1.2", "n1"), endpoint("10.244.2.2", "n2"), { addresses: ["10.244.9.9"] }]));
  const ending = { ready: false, serving: true, terminating: true };
  const dead = endpoint("10.244.4.2", "n4", { ready: false });
  index.setSlice(slice("b", [endpoint("10.244.1.2", "n1"), endpoint("10.244.3.2", "n3", ending), dead]));
  expect(index.endpointNodes("shop/web", 4)).toEqual({ ready: ["n1", "n2"], serving: ["n1", "n2", "n3"] });
  expect(index.endpointNodes("shop/web", 6)).toEqual({ ready: [], serving: [] });
  expect(index.endpoints("shop/web")[4]).toEqual({ localReady: 0, localServing: 0, anyReady: true, anyServing: true });
});

test("a change that changes nothing is told to nobody", () => {
  const { index, heard } = started();
  index.setService(service());
  index.setSlice(slice("a", [endpoint("10.244.2.2", "n2")]));
  index.settle();
  index.setService({ ...service(), metadata: { ...service().metadata, resourceVersion: "9" } as RawObject["metadata"] });
  index.setSlice(slice("a", [endpoint("10.244.2.2", "n2"), endpoint("10.244.2.3", "n2"), endpoint("10.244.3.3", "n3")]));
  index.settle();
  expect(heard).toEqual([["shop/web"]]);
  index.deleteSlice("shop/a");
  index.settle();
  expect(heard).toEqual([["shop/web"], ["shop/web"]]);
  expect(index.endpoints("shop/web")[4].anyReady).toBe(false);
});

test("who looks at the whole cluster hears that endpoints are on other nodes, or answer only, and of nothing else", () => {
  const index = new ServiceIndex(undefined);
  const heard: string[][] = [];
  index.listen(changed => void heard.push([...changed]));
  const set = (...endpoints: object[]) => {
    heard.length = 0;
    index.setSlice(slice("a", endpoints));
    index.settle();
    return heard.length;
  };
  const ending = { ready: false, serving: true, terminating: true };
  index.setService(service());
  index.settle();
  expect(set(endpoint("10.244.1.2", "n1"), endpoint("10.244.2.2", "n2", ending))).toBe(1);
  expect(set(endpoint("10.244.1.3", "n1"), endpoint("10.244.1.4", "n1"), endpoint("10.244.2.2", "n2", ending))).toBe(0);
  expect(set(endpoint("10.244.3.2", "n3"), endpoint("10.244.2.2", "n2", ending))).toBe(1);
  expect(set(endpoint("10.244.3.2", "n3"), endpoint("10.244.1.2", "n1", ending))).toBe(1);
});

test("slices may come before their Service, outlive it, and change to another one", () => {
  const { index, heard } = started();
  index.setSlice(slice("a", [endpoint("10.244.1.2", "n1")]));
  index.settle();
  // Nothing but that all was told.
  expect(heard).toEqual([[]]);
  index.setService(service());
  expect(index.endpoints("shop/web")[4].localReady).toBe(1);
  index.deleteService("shop/web");
  expect([...index.services()]).toEqual([]);
  const other = slice("a", [endpoint("10.244.1.2", "n1")]);
  other.metadata.labels = { "kubernetes.io/service-name": "other" };
  index.setSlice(other);
  expect([index.endpoints("shop/web")[4].localReady, index.endpoints("shop/other")[4].localReady]).toEqual([0, 1]);
});

test("a Service is read whatever is in it", () => {
  const { index } = started();
  index.setService(service({ externalIPs: ["203.0.113.7", "nonsense", 5], externalTrafficPolicy: "Local", healthCheckNodePort: 31000 }));
  expect(index.service("shop/web")).toMatchObject({
    addresses: { ClusterIP: ["10.96.0.10", "fd00:96::a"], ExternalIP: ["203.0.113.7"], LoadBalancerIP: ["192.0.2.5"] },
    externalTrafficPolicy: "Local",
    internalTrafficPolicy: "Cluster",
    healthCheckNodePort: 31000,
  });
  index.setService({ metadata: { name: "web", namespace: "shop" }, spec: { clusterIPs: ["None"], externalIPs: "x" }, status: [] });
  expect(index.service("shop/web")?.addresses).toEqual({ ClusterIP: [], ExternalIP: [], LoadBalancerIP: [] });
});

test("labels of a namespace concern its Services", () => {
  const { index, heard } = started();
  index.setService(service());
  index.settle();
  index.setNamespace({ metadata: { name: "shop", labels: { team: "a" } } });
  index.settle();
  index.setNamespace({ metadata: { name: "shop", labels: { team: "a" } } });
  index.settle();
  expect(heard).toEqual([["shop/web"], ["shop/web"]]);
  expect(index.namespaceLabels("shop")).toEqual({ team: "a" });
});

test("what a reading of all does not have is gone", () => {
  const { index } = started();
  index.setService(service());
  index.setSlice(slice("a", [endpoint("10.244.1.2", "n1")]));
  index.setNamespace({ metadata: { name: "shop" } });
  index.keepOnly(new Set(["shop/web"]), new Set(), new Set());
  expect([index.service("shop/web")?.name, index.endpoints("shop/web")[4].localReady, index.namespaceLabels("shop")]).toEqual([
    "web",
    0,
    undefined,
  ]);
});

test("the first settling is heard even where there is nothing: from then on what is not there is known not to be", () => {
  const { index, heard } = started();
  expect(index.complete).toBe(false);
  index.settle();
  index.settle();
  expect(index.complete).toBe(true);
  expect(heard).toEqual([[]]);
});
