/**
 * core/v1 Service and Namespace and discovery.k8s.io/v1 EndpointSlice from files, as `kubectl get -o yaml` writes them: only what is read is checked, and
 * nothing else is kept. They are no part of Resources: a ServiceIndex takes them (services/).
 */
import { familyOf, type IpFamily, isAddress, parseAddress } from "../../net/address.ts";
import type { Metadata } from "./core.ts";
import { isMapping, readMetadata } from "./metadata.ts";
import { isSet, list, mapping, namespaceOf, show } from "./raw.ts";
import type { Fault, Path } from "./validate.ts";

export interface ServiceObject {
  kind: "Service" | "EndpointSlice" | "Namespace";
  metadata: Metadata & { namespace?: string; uid?: string };
  [field: string]: unknown;
}

interface Row {
  apiVersion: string;
  namespaced: boolean;
  /** Fields that are kept. */
  fields: string[];
  check?(value: Record<string, unknown>, faults: Fault[]): void;
}

export const ServiceKinds: Record<ServiceObject["kind"], Row> = {
  Service: { apiVersion: "v1", namespaced: true, fields: ["spec", "status"], check: checkService },
  EndpointSlice: { apiVersion: "discovery.k8s.io/v1", namespaced: true, fields: ["addressType", "endpoints"], check: checkSlice },
  Namespace: { apiVersion: "v1", namespaced: false, fields: [] },
};

const SERVICE_LABEL = "kubernetes.io/service-name";
/** Kubernetes' own bounds of a slice and of an endpoint, and what is read of a Service's addresses. */
const MAX_ENDPOINTS = 1000;
const MAX_ENDPOINT_ADDRESSES = 100;
const MAX_ADDRESSES = 64;
const ADDRESS_REMEDY = "write it like 192.0.2.1 or 2001:db8::1";

/** undefined: it is of none of these kinds. `name`: "Service/shop/web". */
export function checkServiceObject(value: unknown): { object?: ServiceObject; name?: string; faults: Fault[] } | undefined {
  if (!isMapping(value) || typeof value.kind !== "string" || !Object.hasOwn(ServiceKinds, value.kind)) return undefined;
  const kind = value.kind as ServiceObject["kind"];
  const { apiVersion, namespaced, fields, check } = ServiceKinds[kind];
  if (value.apiVersion !== apiVersion) return undefined;
  const faults: Fault[] = [];
  const metadata = readMetadata(value.metadata, faults);
  if (!metadata) return { faults };
  const { uid } = value.metadata as Record<string, unknown>;
  const namespace = namespaced ? namespaceOf(value.metadata, faults) : undefined;
  if (namespaced && namespace === undefined) return { faults };
  const name = `${kind}/${namespace === undefined ? "" : `${namespace}/`}${metadata.name}`;
  check?.(value, faults);
  if (faults.length > 0) return { name, faults };
  const own = { ...metadata, ...(namespace === undefined ? {} : { namespace }), ...(typeof uid === "string" ? { uid } : {}) };
  const kept = Object.fromEntries(fields.flatMap(field => (isSet(value[field]) ? [[field, value[field]]] : [])));
  return { name, faults, object: { kind, metadata: own, ...kept } };
}

function checkService(value: Record<string, unknown>, faults: Fault[]): void {
  const spec = mapping(value.spec, ["spec"], faults);
  const { loadBalancer } = mapping(value.status, ["status"], faults);
  const isOneOf = (field: string, all: string[]) => {
    if (!isSet(spec[field]) || all.includes(String(spec[field]))) return;
    faults.push({ path: ["spec", field], message: `${show(spec[field])} is not known`, remedy: `write ${all.join(" or ")}` });
  };
  isOneOf("type", ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
  isOneOf("externalTrafficPolicy", ["Cluster", "Local"]);
  isOneOf("internalTrafficPolicy", ["Cluster", "Local"]);
  const isNone = (one: unknown) => one === "None" || one === "";
  if (isSet(spec.clusterIP) && !isNone(spec.clusterIP)) checkAddress(spec.clusterIP, ["spec", "clusterIP"], faults);
  for (const [i, one] of list(spec.clusterIPs, ["spec", "clusterIPs"], MAX_ADDRESSES, faults).entries())
    if (!isNone(one)) checkAddress(one, ["spec", "clusterIPs", i], faults);
  for (const [i, one] of list(spec.externalIPs, ["spec", "externalIPs"], MAX_ADDRESSES, faults).entries())
    checkAddress(one, ["spec", "externalIPs", i], faults);
  const balancer = mapping(loadBalancer, ["status", "loadBalancer"], faults);
  const ingress: Path = ["status", "loadBalancer", "ingress"];
  for (const [i, one] of list(balancer.ingress, ingress, MAX_ADDRESSES, faults).entries()) {
    const { ip } = mapping(one, [...ingress, i], faults);
    if (isSet(ip)) checkAddress(ip, [...ingress, i, "ip"], faults);
  }
}

function checkSlice(value: Record<string, unknown>, faults: Fault[]): void {
  const { labels } = value.metadata as { labels?: Record<string, unknown> };
  const { addressType, endpoints } = value;
  if (!isSet(labels?.[SERVICE_LABEL])) {
    const remedy = `add the label ${SERVICE_LABEL} with the name of the Service, or take the document out`;
    faults.push({ path: ["metadata"], message: "no label says whose endpoints these are", remedy });
  }
  if (addressType !== "IPv4" && addressType !== "IPv6" && addressType !== "FQDN") {
    const path = addressType === undefined ? [] : ["addressType"];
    faults.push({ path, message: `addressType ${show(addressType)} is not known`, remedy: "write IPv4, IPv6 or FQDN" });
    return;
  }
  const family = addressType === "IPv4" ? 4 : addressType === "IPv6" ? 6 : undefined;
  for (const [i, one] of list(endpoints, ["endpoints"], MAX_ENDPOINTS, faults).entries())
    checkEndpoint(one, ["endpoints", i], family, faults);
}

/** `family`: undefined where its addresses are names. */
function checkEndpoint(value: unknown, path: Path, family: IpFamily | undefined, faults: Fault[]): void {
  const { addresses, conditions, nodeName } = mapping(value, path, faults);
  const all = list(addresses, [...path, "addresses"], MAX_ENDPOINT_ADDRESSES, faults);
  if (all.length === 0) faults.push({ path, message: "has no address", remedy: "add addresses, a list of one address" });
  if (family) for (const [i, one] of all.entries()) checkAddress(one, [...path, "addresses", i], faults, family);
  if (isSet(nodeName) && typeof nodeName !== "string")
    faults.push({ path: [...path, "nodeName"], message: "is not a name", remedy: "write the name of the node" });
  const states = mapping(conditions, [...path, "conditions"], faults);
  for (const state of ["ready", "serving", "terminating"]) {
    if (!isSet(states[state]) || typeof states[state] === "boolean") continue;
    faults.push({ path: [...path, "conditions", state], message: `${show(states[state])} is no condition`, remedy: "write true or false" });
  }
}

function checkAddress(value: unknown, path: Path, faults: Fault[], family?: IpFamily): void {
  if (typeof value !== "string" || !isAddress(value))
    faults.push({ path, message: `${show(value)} is not an IP address`, remedy: ADDRESS_REMEDY });
  else if (family && familyOf(parseAddress(value)) !== family)
    faults.push({ path, message: `${show(value)} is not of addressType IPv${family}`, remedy: "put it into a slice of its own family" });
}
