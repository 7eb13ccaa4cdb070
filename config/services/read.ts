/**
 * core/v1 Service, discovery.k8s.io/v1 EndpointSlice and core/v1 Namespace -> what is read of them. The API server has checked them; files were written by
 * people: what cannot be read is left out, and never throws.
 */
import { formatAddress, type IpFamily, isAddress, parseAddress } from "../../net/address.ts";
import type { ServiceView, TrafficPolicy } from "./types.ts";

/** metadata, spec and status of an object as it comes. */
export interface RawObject {
  metadata: { name: string; namespace?: string; uid?: string; labels?: unknown; annotations?: unknown; deletionTimestamp?: unknown };
  spec?: unknown;
  status?: unknown;
  [field: string]: unknown;
}

/** Whose annotations say something to podlane: our own, and those that clusters coming from MetalLB have. */
const AnnotationPrefixes = ["podlane.io/", "metallb.io/", "metallb.universe.tf/"];
/** Characters of an annotation, and addresses of a kind, that are read. */
const MAX_ANNOTATION = 1024;
const MAX_ADDRESSES = 64;

export function keyOf({ metadata: { namespace = "default", name } }: RawObject): string {
  return `${namespace}/${name}`;
}

export function readService(object: RawObject): ServiceView {
  const { metadata } = object;
  const { namespace = "default", name, uid } = metadata;
  const spec = mapping(object.spec);
  const { ingress } = mapping(mapping(object.status).loadBalancer);
  const type = oneOf(spec.type, ["NodePort", "LoadBalancer", "ExternalName"], "ClusterIP" as const);
  const clusterIPs = Array.isArray(spec.clusterIPs) ? spec.clusterIPs : [spec.clusterIP];
  const balanced = type === "LoadBalancer" && Array.isArray(ingress) ? ingress.map(mapping) : [];
  const proxied = addressesOf(balanced.filter(({ ipMode }) => ipMode === "Proxy").map(({ ip }) => ip));
  const isName = type === "ExternalName";
  const port = spec.healthCheckNodePort;
  return {
    key: keyOf(object),
    namespace,
    name,
    ...(typeof uid === "string" ? { uid } : {}),
    labels: textMap(metadata.labels),
    annotations: Object.fromEntries(
      Object.entries(textMap(metadata.annotations)).filter(
        ([key, text]) => text.length <= MAX_ANNOTATION && AnnotationPrefixes.some(prefix => key.startsWith(prefix)),
      ),
    ),
    type,
    addresses: {
      ClusterIP: isName ? [] : addressesOf(clusterIPs),
      ExternalIP: isName ? [] : addressesOf(spec.externalIPs),
      LoadBalancerIP: addressesOf(balanced.filter(({ ipMode }) => ipMode !== "Proxy").map(({ ip }) => ip)),
    },
    ...(proxied.length > 0 ? { proxied } : {}),
    ...(typeof spec.loadBalancerClass === "string" ? { loadBalancerClass: spec.loadBalancerClass } : {}),
    externalTrafficPolicy: trafficPolicy(spec.externalTrafficPolicy),
    internalTrafficPolicy: trafficPolicy(spec.internalTrafficPolicy),
    ...(type === "LoadBalancer" && typeof port === "number" && port > 0 && port < 65536 ? { healthCheckNodePort: port } : {}),
  };
}

/** One endpoint of a slice. */
export interface EndpointView {
  /** What tells it from others: its first address. */
  address: string;
  /** Absent: on no node. */
  node?: string;
  /** Takes new connections. With publishNotReadyAddresses also while it ends, as kube-proxy has it. */
  ready: boolean;
  /** Answers, though it may be about to end. */
  serving: boolean;
}

export interface SliceView {
  /** Of the Service. */
  service: string;
  family: IpFamily;
  endpoints: EndpointView[];
}

const SERVICE_LABEL = "kubernetes.io/service-name";
/** Kubernetes' own bound. */
const MAX_ENDPOINTS = 1000;

/** undefined: of no Service, or of names (FQDN), to which no address leads. */
export function readSlice(object: RawObject): SliceView | undefined {
  const { addressType, endpoints, metadata } = object;
  const name = textMap(metadata.labels)[SERVICE_LABEL];
  if (name === undefined || (addressType !== "IPv4" && addressType !== "IPv6")) return undefined;
  const family = addressType === "IPv4" ? 4 : 6;
  const all = Array.isArray(endpoints) ? endpoints.slice(0, MAX_ENDPOINTS) : [];
  return { service: `${metadata.namespace ?? "default"}/${name}`, family, endpoints: all.flatMap(readEndpoint) };
}

/** Conditions that are null or absent: it is ready; it serves if it is ready. What ends is not ready, by who writes the slice. */
function readEndpoint(value: unknown): EndpointView | [] {
  const { addresses, conditions, nodeName } = mapping(value);
  const address = Array.isArray(addresses) ? addresses[0] : undefined;
  if (typeof address !== "string") return [];
  const { ready, serving } = mapping(conditions);
  return {
    address,
    ...(typeof nodeName === "string" ? { node: nodeName } : {}),
    ready: ready !== false,
    serving: typeof serving === "boolean" ? serving : ready !== false,
  };
}

export function readLabels({ metadata }: RawObject): Record<string, string> {
  return textMap(metadata.labels);
}

function addressesOf(value: unknown): string[] {
  const all = Array.isArray(value) ? value.slice(0, MAX_ADDRESSES) : [];
  return [...new Set(all.flatMap(text => (typeof text === "string" && isAddress(text) ? formatAddress(parseAddress(text)) : [])))];
}

function trafficPolicy(value: unknown): TrafficPolicy {
  return value === "Local" ? "Local" : "Cluster";
}

function oneOf<const Value extends string, const Default extends string>(
  value: unknown,
  all: Value[],
  otherwise: Default,
): Value | Default {
  return all.find(one => one === value) ?? otherwise;
}

function textMap(value: unknown): Record<string, string> {
  return Object.fromEntries(Object.entries(mapping(value)).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

function mapping(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
