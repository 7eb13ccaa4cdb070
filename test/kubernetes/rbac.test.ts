/**
 * What the agents' ServiceAccount may do: a real API server is asked of each resource that it has and each verb, in the agents' namespace, in default and in another
 * one. What any ServiceAccount may do anyway does not count.
 */
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { parseAllDocuments } from "yaml";
import { manifest } from "../../deploy/manifests.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";

// Some thousand questions, beside others.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
const namespaces = ["podlane-system", "default", "kube-system"];
const kinds = ["fabrics", "podnetworks", "peers", "policies", "advertisements", "addresspools"];
const clusterPolicies = ["clusternetworkpolicies", "adminnetworkpolicies", "baselineadminnetworkpolicies"];
const read = ["list", "watch"];

/** All of it: "namespace group/resource[/subresource]" -> verbs; "" for what has no namespace. */
const expected: Record<string, string[]> = {
  ...Object.fromEntries(
    kinds.flatMap(kind => [[` podlane.io/${kind}`, read] as const, [` podlane.io/${kind}/status`, ["patch"]] as const]),
  ),
  " podlane.io/nodestates": [...read, "create", "patch"],
  " podlane.io/nodestates/status": ["patch"],
  " /nodes": read,
  " /nodes/status": ["patch"],
  "podlane-system /secrets": read,
  "podlane-system coordination.k8s.io/leases": ["get", "create", "update"],
  ...Object.fromEntries(
    namespaces.flatMap(namespace => [
      [`${namespace} events.k8s.io/events`, ["create", "patch"]] as const,
      [`${namespace} /services`, ["get", ...read]] as const,
      [`${namespace} /services/status`, ["patch"]] as const,
      [`${namespace} discovery.k8s.io/endpointslices`, read] as const,
      [`${namespace} networking.k8s.io/networkpolicies`, read] as const,
      [`${namespace} /pods`, read] as const,
    ]),
  ),
  " /namespaces": read,
  ...Object.fromEntries(clusterPolicies.map(kind => [` policy.networking.k8s.io/${kind}`, read] as const)),
  " podlane.io/addressclaims": ["get", ...read, "create", "update", "delete"],
};

const paths: Record<string, string> = {
  Namespace: "/api/v1/namespaces",
  CustomResourceDefinition: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
  ServiceAccount: "/api/v1/namespaces/NAMESPACE/serviceaccounts",
  ClusterRole: "/apis/rbac.authorization.k8s.io/v1/clusterroles",
  ClusterRoleBinding: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
  Role: "/apis/rbac.authorization.k8s.io/v1/namespaces/NAMESPACE/roles",
  RoleBinding: "/apis/rbac.authorization.k8s.io/v1/namespaces/NAMESPACE/rolebindings",
  ValidatingAdmissionPolicy: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
  ValidatingAdmissionPolicyBinding: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
  DaemonSet: "/apis/apps/v1/namespaces/NAMESPACE/daemonsets",
};

let server: ApiServer;

beforeAll(async () => {
  if (missing) return;
  server = await startApiServer();
  for (const document of parseAllDocuments(manifest())) {
    const object = document.toJS();
    const path = paths[object.kind].replace("NAMESPACE", object.metadata.namespace);
    const { status, body } = await server.call("POST", `${path}?fieldValidation=Strict`, object);
    if (status !== 201) throw new Error(`${object.kind} ${object.metadata.name}: ${status} ${JSON.stringify(body)}`);
  }
});
afterAll(() => server?.stop());
beforeEach(context => context.skip(missing !== undefined, missing));

interface Resource {
  group: string;
  resource: string;
  subresource: string;
  namespaced: boolean;
}

/** What the API server has, and our kinds whether it serves them yet or not. */
async function resources(): Promise<Resource[]> {
  const { groups } = (await server.call("GET", "/apis")).body;
  const lists = [
    "/api/v1",
    ...groups.map((one: { preferredVersion: { groupVersion: string } }) => `/apis/${one.preferredVersion.groupVersion}`),
  ];
  const found = new Map<string, Resource>();
  for (const path of lists) {
    const group = path === "/api/v1" ? "" : path.split("/")[2];
    for (const { name, namespaced } of (await server.call("GET", path)).body.resources ?? []) {
      const [resource, subresource = ""] = name.split("/");
      found.set(`${group}/${name}`, { group, resource, subresource, namespaced });
    }
  }
  for (const resource of [...kinds, "addressclaims", "nodestates"])
    for (const subresource of ["", "status"])
      found.set(`podlane.io/${resource}/${subresource}`, { group: "podlane.io", resource, subresource, namespaced: false });
  for (const resource of clusterPolicies)
    found.set(`policy.networking.k8s.io/${resource}`, { group: "policy.networking.k8s.io", resource, subresource: "", namespaced: false });
  return [...new Map([...found.values()].map(one => [`${one.group}/${one.resource}/${one.subresource}`, one])).values()];
}

async function may(account: string, resource: Resource, verb: string, namespace: string): Promise<boolean> {
  const spec = {
    user: `system:serviceaccount:podlane-system:${account}`,
    groups: ["system:serviceaccounts", "system:serviceaccounts:podlane-system", "system:authenticated"],
    resourceAttributes: { group: resource.group, resource: resource.resource, subresource: resource.subresource, verb, namespace },
  };
  const { status, body } = await server.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", { spec });
  if (status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`);
  return body.status.allowed;
}

test("is what the agents need, and nothing else", async () => {
  const all = await resources();
  expect(all.length).toBeGreaterThan(60);
  const found: Record<string, string[]> = {};
  for (const resource of all) {
    for (const namespace of resource.namespaced ? namespaces : [""]) {
      const asked = verbs.map(async verb => {
        const allowed = await may("podlane", resource, verb, namespace);
        return allowed && !(await may("default", resource, verb, namespace)) ? verb : undefined;
      });
      const allowed = (await Promise.all(asked)).filter(verb => verb !== undefined);
      const { group, resource: name, subresource } = resource;
      if (allowed.length > 0) found[`${namespace} ${group}/${name}${subresource && `/${subresource}`}`] = allowed;
    }
  }
  const sorted = (table: Record<string, string[]>) =>
    Object.fromEntries(Object.entries(table).map(([key, value]) => [key, [...value].sort()]));
  expect(sorted(found)).toEqual(sorted(expected));
});

test("is not to read a Secret of another namespace, to make a pod or to remove a node", async () => {
  const core = { group: "", subresource: "", namespaced: true };
  expect(await may("podlane", { ...core, resource: "secrets" }, "list", "kube-system")).toBe(false);
  expect(await may("podlane", { ...core, resource: "pods" }, "create", "podlane-system")).toBe(false);
  expect(await may("podlane", { ...core, resource: "nodes" }, "delete", "")).toBe(false);
  expect(await may("podlane", { ...core, resource: "secrets" }, "list", "podlane-system")).toBe(true);
});
