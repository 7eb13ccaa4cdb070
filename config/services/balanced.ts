/** core/v1 Service -> what decides which load-balancer addresses it gets. The API server has checked it; what cannot be read counts as absent. */
import { formatAddress, type IpFamily, isAddress, parseAddress } from "../../net/address.ts";
import { keyOf, type RawObject, readService } from "./read.ts";

export type FamilyPolicy = "SingleStack" | "PreferDualStack" | "RequireDualStack";

/** What a Service asks for. */
export interface AddressRequest {
  /** As they are written; empty: none in particular. */
  addresses: readonly string[];
  /** Name of an AddressPool. */
  pool?: string;
  sharingKey?: string;
  /** Where the addresses stand, for people. */
  field?: string;
}

export interface BalancedService {
  /** "namespace/name" */
  key: string;
  namespace: string;
  name: string;
  uid: string;
  resourceVersion: string;
  labels: Record<string, string>;
  loadBalancerClass?: string;
  /** It is of type LoadBalancer. */
  balanced: boolean;
  /** It is being deleted: it keeps what it has, and gets nothing more. */
  ending: boolean;
  /** In its order. */
  families: readonly IpFamily[];
  policy: FamilyPolicy;
  /** "TCP/80" */
  ports: readonly string[];
  /** What has to be the same where an address is shared: nothing of policy Cluster, the endpoints of policy Local. */
  backend: string;
  request: AddressRequest;
  /** Of its status, in its order. */
  ingress: readonly Ingress[];
  /** Those of `ingress`. */
  addresses: readonly string[];
  condition?: AddressCondition;
}

/** An entry of status.loadBalancer.ingress. */
export interface Ingress {
  /** Absent: somebody has given it a name in place of an address. */
  address?: string;
  /** All of it, such as ipMode and ports that others have said. */
  entry: Record<string, unknown>;
}

/** The condition podlane.io/AddressAssigned, as far as it is compared. */
export interface AddressCondition {
  status: "True" | "False";
  reason: string;
  message: string;
}

export const ADDRESS_CONDITION = "podlane.io/AddressAssigned";

/** Prefixes of annotations in the order in which they count, and what each calls the addresses. */
const AddressAnnotations = ["podlane.io/addresses", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"];
const PoolAnnotations = ["podlane.io/address-pool", "metallb.io/address-pool", "metallb.universe.tf/address-pool"];
const SharingAnnotations = ["podlane.io/allow-shared-ip", "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];

/** Ports of a Service that are read, and addresses that are asked for. */
const MAX_PORTS = 1024;
const MAX_REQUESTED = 8;

export function readBalanced(object: RawObject & { metadata: { resourceVersion?: unknown } }): BalancedService {
  const view = readService(object);
  const {
    namespace,
    name,
    labels,
    annotations,
    loadBalancerClass,
    type,
    addresses: { ClusterIP },
  } = view;
  const { uid, resourceVersion, deletionTimestamp } = object.metadata;
  const spec = mapping(object.spec);
  const status = mapping(object.status);
  const condition = readCondition(status.conditions);
  // All of them, and also of a Service that is no longer of the type: what of it is not ours goes back as it was when something is written.
  const ingress = ingressOf(status);
  return {
    ...{ key: keyOf(object), namespace, name, uid: uid ?? "", resourceVersion: text(resourceVersion) ?? "", labels },
    ...(loadBalancerClass !== undefined && { loadBalancerClass }),
    balanced: type === "LoadBalancer",
    ending: deletionTimestamp !== undefined,
    families: familiesOf(spec.ipFamilies, ClusterIP),
    policy: policyOf(spec.ipFamilyPolicy),
    ports: portsOf(spec.ports),
    backend: view.externalTrafficPolicy === "Local" ? JSON.stringify(Object.entries(mapping(spec.selector)).sort()) : "",
    request: readRequest(spec.loadBalancerIP, annotations),
    ingress,
    addresses: [...new Set(ingress.flatMap(({ address }) => address ?? []))],
    ...(condition && { condition }),
  };
}

function readRequest(loadBalancerIP: unknown, annotations: Record<string, string>): AddressRequest {
  const pool = firstOf(PoolAnnotations, annotations)?.value;
  const sharingKey = firstOf(SharingAnnotations, annotations)?.value;
  const annotated = firstOf(AddressAnnotations, annotations);
  const own = text(loadBalancerIP);
  const [list, field] = own ? [own, "spec.loadBalancerIP"] : [annotated?.value ?? "", annotated?.key];
  const addresses = list
    .split(",")
    .map(one => one.trim())
    .filter(one => one !== "")
    .slice(0, MAX_REQUESTED);
  return {
    addresses,
    ...(addresses.length > 0 && field !== undefined && { field }),
    ...(pool !== undefined && { pool }),
    ...(sharingKey !== undefined && { sharingKey }),
  };
}

/** An empty one says nothing. */
function firstOf(keys: readonly string[], annotations: Record<string, string>): { key: string; value: string } | undefined {
  const key = keys.find(one => (annotations[one] ?? "").trim() !== "");
  return key === undefined ? undefined : { key, value: annotations[key].trim() };
}

/** Absent in files and in old objects: the families of its cluster addresses. */
function familiesOf(value: unknown, clusterIPs: readonly string[]): IpFamily[] {
  const said = Array.isArray(value) ? value.flatMap((one): IpFamily[] => (one === "IPv4" ? [4] : one === "IPv6" ? [6] : [])) : [];
  const found = said.length > 0 ? said : clusterIPs.map(one => (one.includes(":") ? 6 : 4));
  return found.length > 0 ? [...new Set(found)] : [4];
}

function policyOf(value: unknown): FamilyPolicy {
  return value === "PreferDualStack" || value === "RequireDualStack" ? value : "SingleStack";
}

function portsOf(value: unknown): string[] {
  const all = Array.isArray(value) ? value.slice(0, MAX_PORTS).map(mapping) : [];
  return all.map(({ protocol, port }) => `${text(protocol) ?? "TCP"}/${Number(port)}`);
}

function ingressOf(status: Record<string, unknown>): Ingress[] {
  const { ingress } = mapping(status.loadBalancer);
  return (Array.isArray(ingress) ? ingress.map(mapping) : []).map(entry => {
    const { ip } = entry;
    return typeof ip === "string" && isAddress(ip) ? { address: formatAddress(parseAddress(ip)), entry } : { entry };
  });
}

/** Names of `ingress` that stand in place of addresses. */
export function namesOf({ ingress }: BalancedService): string[] {
  return ingress.flatMap(({ address, entry }) => (address === undefined ? (text(entry.hostname) ?? "a name") : []));
}

function readCondition(value: unknown): AddressCondition | undefined {
  const found = (Array.isArray(value) ? value.map(mapping) : []).find(({ type }) => type === ADDRESS_CONDITION);
  if (!found) return undefined;
  const { status, reason, message } = found;
  return { status: status === "True" ? "True" : "False", reason: text(reason) ?? "", message: text(message) ?? "" };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function mapping(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
