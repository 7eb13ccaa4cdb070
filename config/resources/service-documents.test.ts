/** What of Services in files is taken, and what is said of what cannot be. */
import { expect, test } from "vitest";
import { formatProblem } from "../plan.ts";
import { readDocuments } from "./documents.ts";

const read = (...objects: object[]) => readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "a.yaml");
const service = (more: object = {}) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web", namespace: "shop", uid: "1", managedFields: [{}], labels: { app: "web" } },
  spec: { type: "LoadBalancer", clusterIP: "10.96.0.10", clusterIPs: ["10.96.0.10", "fd00:96::a"], externalIPs: ["203.0.113.7"] },
  status: { loadBalancer: { ingress: [{ ip: "192.0.2.5" }, { hostname: "lb.example" }] } },
  ...more,
});
const slice = (endpoints: unknown, more: object = {}) => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: "web-x", namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
  addressType: "IPv4",
  endpoints,
  ...more,
});

test("as kubectl writes them they are taken, with what is read and no more", () => {
  const endpoints = [{ addresses: ["10.244.1.2"], nodeName: "n1", conditions: { ready: true, serving: null }, targetRef: { kind: "Pod" } }];
  const { services, objects, problems } = read(
    service(),
    slice(endpoints, { ports: [{ port: 80 }] }),
    slice(null),
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: { team: "a" } }, spec: { finalizers: [] } },
    { ...service(), metadata: { name: "none" }, spec: { clusterIP: "None", clusterIPs: ["None"] }, status: { loadBalancer: {} } },
  );
  expect([problems, objects]).toEqual([[], []]);
  const { spec, status } = service();
  expect(services.map(({ object }) => object)).toEqual([
    { kind: "Service", metadata: { name: "web", namespace: "shop", uid: "1", labels: { app: "web" } }, spec, status },
    expect.objectContaining({ kind: "EndpointSlice", addressType: "IPv4", endpoints }),
    expect.not.objectContaining({ endpoints: expect.anything() }),
    { kind: "Namespace", metadata: { name: "shop", labels: { team: "a" } } },
    expect.objectContaining({ metadata: { name: "none", namespace: "default" } }),
  ]);
  expect(services[1].object).not.toHaveProperty("ports");
  expect(services[1].place).toMatch(/^a\.yaml, document 2/);
});

const endpoint = { addresses: ["10.244.1.2"] };
test.each<[string, object, string]>([
  [
    "an apiVersion that is not theirs",
    { ...slice([]), apiVersion: "v1" },
    'apiVersion: kind "EndpointSlice" with apiVersion "v1" is not known. write apiVersion: discovery.k8s.io/v1',
  ],
  ["no name", service({ metadata: { namespace: "shop" } }), "metadata.name: metadata.name is missing"],
  ["a namespace that is none", service({ metadata: { name: "web", namespace: "Shop." } }), "metadata.namespace: is not a DNS label"],
  [
    "an address that is none",
    service({ spec: { externalIPs: ["203.0.113.7", "203.0.113.700"] } }),
    'Service/shop/web spec.externalIPs[1]: "203.0.113.700" is not an IP address. write it like 192.0.2.1',
  ],
  ["a cluster address that is none", service({ spec: { clusterIP: "10.96.0" } }), 'spec.clusterIP: "10.96.0" is not an IP address'],
  [
    "an ingress that is no address",
    service({ status: { loadBalancer: { ingress: [{ ip: "vip" }] } } }),
    'status.loadBalancer.ingress[0].ip: "vip" is not an IP address',
  ],
  ["lists that are none", service({ spec: { externalIPs: "203.0.113.7" } }), "spec.externalIPs: must be a list"],
  [
    "a policy that there is not",
    service({ spec: { externalTrafficPolicy: "local" } }),
    'spec.externalTrafficPolicy: "local" is not known. write Cluster or Local',
  ],
  ["a type that there is not", service({ spec: { type: "Balancer" } }), 'spec.type: "Balancer" is not known'],
  ["a spec that is none", service({ spec: [] }), "spec: must be a mapping"],
  [
    "a slice of no Service",
    { ...slice([endpoint]), metadata: { name: "web-x" } },
    "EndpointSlice/default/web-x metadata: no label says whose endpoints these are. add the label kubernetes.io/service-name",
  ],
  ["no address family", slice([endpoint], { addressType: undefined }), "addressType null is not known. write IPv4, IPv6 or FQDN"],
  [
    "an address of the other family",
    slice([{ addresses: ["fd00::2"] }]),
    'endpoints[0].addresses[0]: "fd00::2" is not of addressType IPv4',
  ],
  ["an endpoint without an address", slice([endpoint, { addresses: [] }]), "endpoints[1]: has no address"],
  [
    "a condition that is none",
    slice([{ ...endpoint, conditions: { ready: "yes" } }]),
    'endpoints[0].conditions.ready: "yes" is no condition. write true or false',
  ],
  ["a node that is none", slice([{ ...endpoint, nodeName: 5 }]), "endpoints[0].nodeName: is not a name"],
  ["too many endpoints", slice(Array(1001).fill(endpoint)), "endpoints: has 1001 entries, at most 1000"],
])("%s is said, and the object left out", (_, object, said) => {
  const { services, problems } = read(object);
  expect(services).toEqual([]);
  expect(problems).toHaveLength(1);
  expect(formatProblem(problems[0])).toContain(said);
});
