/** What is read of Services and their endpoints, and what a node does with them. */
import type { IpFamily } from "../../net/address.ts";
import type { Advertisement, Selector } from "../resources/kinds.ts";

/** The label by which Kubernetes keeps a node out of load balancing from outside. */
export const EXCLUDED_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers";

export type TrafficPolicy = "Cluster" | "Local";
export type AddressKind = NonNullable<Advertisement["spec"]["service"]>["addresses"][number];
export type ServiceAnnotation = NonNullable<NonNullable<Advertisement["spec"]["service"]>["annotations"]>[number];

/** core/v1 Service, as far as it is read. Addresses in the one spelling by which they are compared. */
export interface ServiceView {
  /** "namespace/name" */
  key: string;
  namespace: string;
  name: string;
  uid?: string;
  labels: Record<string, string>;
  /** Those that podlane knows. */
  annotations: Record<string, string>;
  type: "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";
  addresses: Record<AddressKind, readonly string[]>;
  /** Of its status with ipMode Proxy, and not among `addresses`: those of a balancer outside, for which kube-proxy has no rules. */
  proxied?: readonly string[];
  loadBalancerClass?: string;
  /** Of external and load-balancer addresses, and of cluster addresses. */
  externalTrafficPolicy: TrafficPolicy;
  internalTrafficPolicy: TrafficPolicy;
  /** Where kube-proxy says whether it has an endpoint of it here: of type LoadBalancer with externalTrafficPolicy Local. */
  healthCheckNodePort?: number;
}

/** Of one address family. Endpoints that stand in several slices count once. */
export interface EndpointCounts {
  /** On this node: ready (null means so); and those that still serve, terminating ones too. */
  localReady: number;
  localServing: number;
  /** Anywhere. */
  anyReady: boolean;
  anyServing: boolean;
}

export type Endpoints = Readonly<Record<IpFamily, EndpointCounts>>;

/** Who knows the Services and what their endpoints come to on this node. */
export interface ServiceLookup {
  services(): Iterable<ServiceView>;
  service(key: string): ServiceView | undefined;
  endpoints(key: string): Endpoints;
  /** undefined: there is no such namespace, or it is not known. */
  namespaceLabels(name: string): Record<string, string> | undefined;
  /** All namespaces that there are were told. */
  readonly namespacesKnown: boolean;
  /** Of other Services the first that has it as a load-balancer address. undefined: none, or this one has it so itself. */
  holder(address: string, key: string): string | undefined;
}

/** An Advertisement of type Service on a node that it selects. Plain JSON, part of the plan. */
export interface ServiceRule {
  /** "Advertisement/vips" */
  source: string;
  addresses: AddressKind[];
  /** Where external addresses must lie. Absent: none is announced. */
  externalRanges?: string[];
  selector: Selector;
  /** Absent: all namespaces. */
  namespaceSelector?: Selector;
  /** Absent: all. */
  loadBalancerClasses?: string[];
  keepWithoutEndpoints: boolean;
  /** The label of an excluded node means nothing to it. */
  ignoreExclusion: boolean;
  linkBandwidth: boolean;
  annotations: ServiceAnnotation[];
  /** Lengths of the covering prefixes that are announced in place of addresses. */
  aggregation?: { ipv4?: number; ipv6?: number };
}

/** What a node does about Services. Plain JSON, part of the plan. Absent there: no Advertisement of type Service selects the node and has a listener. */
export interface ServicesPlan {
  /** By source. */
  rules: ServiceRule[];
  /** Why the node takes no traffic from outside the cluster: it is excluded. Absent: it does. */
  excluded?: string;
  /** Connected networks of the node: a range that is attached here is never discarded. */
  attached: string[];
  /** What is no Service's address, beside what is none anywhere: prefixes in their one spelling, by what they are. */
  reserved?: { reason: string; prefixes: string[] }[];
  /** 0: not asked. */
  proxyHealthPort: number;
  /** Seconds. */
  timeout: number;
}

/** Why an address of a Service is not announced by this node; the first broken link. For programs; the words stand beside it. */
export const Links = [
  "NoAdvertisement",
  "NoAddress",
  "OutsideRanges",
  "AddressReserved",
  "AddressTaken",
  "NoEndpoints",
  "NoEndpointHere",
  "NodeExcluded",
  "ProxyNotReady",
  "NodeNotReady",
] as const;
export type Link = (typeof Links)[number];

/** What comes of one address of a Service on this node. */
export interface AddressVerdict {
  service: string;
  kind: AddressKind;
  /** "": it has none of this kind. */
  address: string;
  announced: boolean;
  /** Advertisements that announce it, by name: "Advertisement/vips". */
  sources: string[];
  /** Where it is not announced. */
  link?: Link;
  /** Why it is, or is not, in words. */
  message: string;
  /** What to do where it is not. */
  remedy?: string;
  /** What the Service's annotations say without effect. */
  notes?: string[];
}

/** What a node originates for Services. Plain JSON. */
export interface ServiceRoute {
  /** /32 or /128, or a covering prefix. */
  prefix: string;
  kind: "service" | "aggregate";
  /** Advertisements that announce it, by name. */
  sources: string[];
  /** Of the Service itself, by its annotations. */
  attributes?: { communities?: string[]; largeCommunities?: string[]; localPref?: number; med?: number; prepend?: number };
  /** In endpoints on this node: the share of traffic that it should get. */
  weight?: number;
  /** What no proxy takes of it is discarded here, as far as it comes from other machines. */
  discard: boolean;
}

/** By prefix: what to originate from now on; undefined: no more. */
export type ServiceRouteChanges = ReadonlyMap<string, ServiceRoute | undefined>;
