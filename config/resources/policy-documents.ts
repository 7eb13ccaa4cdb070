/**
 * Policies and the pods that they are about, from files (as `kubectl get -o yaml` writes them) and from the API server: only what decides is checked and
 * kept. They are no part of Resources: a PolicySink takes them (netfilter/policy/).
 */
import { AddressError, formatAddress, isAddress, parseAddress } from "../../net/address.ts";
import type { ClusterPolicyObject, NetworkPolicyObject, PolicyNode, PolicyPod } from "../../netfilter/policy/types.ts";
import { type ClusterPolicyKind, readClusterPolicy } from "./cluster-policy.ts";
import { isMapping, readMetadata } from "./metadata.ts";
import { type Findings, readNetworkPolicy } from "./network-policy.ts";
import { readProtocol } from "./policy-values.ts";
import { isSet, list, mapping, namespaceOf, show } from "./raw.ts";
import type { Fault } from "./validate.ts";

export type PolicyObject = { metadata: { name: string; namespace?: string } } & (
  | { kind: "Pod"; read: PolicyPod }
  | { kind: "NetworkPolicy"; read: NetworkPolicyObject }
  | { kind: ClusterPolicyKind; read: ClusterPolicyObject }
);

export interface CheckedPolicy {
  object?: PolicyObject;
  /** With faults: what can be read, which lets less through than what was written. In force only where no version of it was ever a good one. */
  closed?: PolicyObject;
  /** "NetworkPolicy/shop/web" */
  name?: string;
  faults: Fault[];
  warnings: Fault[];
}

export const POLICY_GROUP = "policy.networking.k8s.io";

/** Versions that are read, the one to prefer first. */
export const PolicyKinds: Record<PolicyObject["kind"], { apiVersions: readonly string[]; namespaced: boolean }> = {
  Pod: { apiVersions: ["v1"], namespaced: true },
  NetworkPolicy: { apiVersions: ["networking.k8s.io/v1"], namespaced: true },
  ClusterNetworkPolicy: { apiVersions: [`${POLICY_GROUP}/v1beta1`, `${POLICY_GROUP}/v1alpha2`], namespaced: false },
  AdminNetworkPolicy: { apiVersions: [`${POLICY_GROUP}/v1alpha1`], namespaced: false },
  BaselineAdminNetworkPolicy: { apiVersions: [`${POLICY_GROUP}/v1alpha1`], namespaced: false },
};

const MAX_CONTAINERS = 1000;
const MAX_PORTS = 1000;
const MAX_ADDRESSES = 16;
const MAX_NODE_ADDRESSES = 64;

/** undefined: it is of none of these kinds. */
export function checkPolicyObject(value: unknown): CheckedPolicy | undefined {
  if (!isMapping(value) || typeof value.kind !== "string" || !Object.hasOwn(PolicyKinds, value.kind)) return undefined;
  const kind = value.kind as PolicyObject["kind"];
  const { apiVersions, namespaced } = PolicyKinds[kind];
  if (!apiVersions.some(one => one === value.apiVersion)) return undefined;
  const found: Findings = { faults: [], warnings: [] };
  const { name } = readMetadata(value.metadata, found.faults) ?? {};
  const namespace = name !== undefined && namespaced ? namespaceOf(value.metadata, found.faults) : undefined;
  if (name === undefined || (namespaced && namespace === undefined)) return found;
  const metadata = { name, ...(namespace !== undefined && { namespace }) };
  const object = readAs(kind, metadata, value, found);
  const about = { name: `${kind}/${namespace === undefined ? "" : `${namespace}/`}${name}`, ...found };
  if (found.faults.length === 0) return { ...about, ...(object && { object }) };
  // What cannot be read of a pod lets nothing through either: no selector finds it.
  return { ...about, ...(object && kind !== "Pod" && { closed: object }) };
}

function readAs(
  kind: PolicyObject["kind"],
  metadata: PolicyObject["metadata"],
  value: Record<string, unknown>,
  found: Findings,
): PolicyObject | undefined {
  const { name, namespace = "" } = metadata;
  if (kind === "Pod") return { kind, metadata, read: readPod(value, found.faults) };
  if (kind === "NetworkPolicy") {
    const read = readNetworkPolicy({ key: `${namespace}/${name}`, namespace, name }, value.spec, found);
    return read && { kind, metadata, read };
  }
  const read = readClusterPolicy(kind, name, value.spec, found);
  return read && { kind, metadata, read };
}

/** Of core/v1 Pod. Its metadata has been looked at, or comes from the API server. */
export function readPod(value: Record<string, unknown>, faults: Fault[]): PolicyPod {
  const { name, namespace = "default", labels, creationTimestamp: created } = value.metadata as Record<string, unknown>;
  const uid = uidOf(value.metadata as Record<string, unknown>);
  const spec = mapping(value.spec, ["spec"], faults);
  const status = mapping(value.status, ["status"], faults);
  const { nodeName, hostNetwork } = spec;
  return {
    key: `${namespace}/${name}`,
    namespace: String(namespace),
    name: String(name),
    ...(typeof uid === "string" && { uid }),
    ...(typeof created === "string" && { created }),
    labels: (labels ?? {}) as Record<string, string>,
    ...(typeof nodeName === "string" && nodeName !== "" && { node: nodeName }),
    addresses: addressesOf(status, faults),
    hostNetwork: hostNetwork === true,
    ended: status.phase === "Succeeded" || status.phase === "Failed",
    ports: namedPorts(spec, faults),
  };
}

/** The kubelet names a static pod to the runtime by the hash of its file, and not by what the API server has of it. */
function uidOf({ uid, annotations }: Record<string, unknown>): unknown {
  return (isMapping(annotations) ? annotations["kubernetes.io/config.mirror"] : undefined) ?? uid;
}

/** Of core/v1 Node, of which some addresses are names. */
export function readPolicyNode({
  metadata: { name, labels = {} },
  status,
}: {
  metadata: PolicyNodeMetadata;
  status?: unknown;
}): PolicyNode {
  const { addresses } = isMapping(status) ? status : {};
  const texts = Array.isArray(addresses)
    ? addresses.slice(0, MAX_NODE_ADDRESSES).map(one => (isMapping(one) ? String(one.address) : ""))
    : [];
  const canonical = texts.filter(isAddress).map(text => formatAddress(parseAddress(text)));
  return { name, labels, addresses: [...new Set(canonical)] };
}

interface PolicyNodeMetadata {
  name: string;
  labels?: Readonly<Record<string, string>>;
}

function addressesOf({ podIPs, podIP }: Record<string, unknown>, faults: Fault[]): string[] {
  const all = list(podIPs, ["status", "podIPs"], MAX_ADDRESSES, faults).map(one => (isMapping(one) ? one.ip : one));
  const texts = all.length > 0 || !isSet(podIP) || podIP === "" ? all : [podIP];
  return texts.flatMap((text, i) => {
    try {
      return [formatAddress(parseAddress(String(text)))];
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      faults.push({ path: ["status", "podIPs", i], message: `${show(text)} is not an IP address`, remedy: "write - ip: 192.0.2.1" });
      return [];
    }
  });
}

/** Of its containers, and of those that start before them and stay. */
function namedPorts(spec: Record<string, unknown>, faults: Fault[]): PolicyPod["ports"] {
  const containers = list(spec.containers, ["spec", "containers"], MAX_CONTAINERS, faults);
  const first = list(spec.initContainers, ["spec", "initContainers"], MAX_CONTAINERS, faults);
  const stay = first.filter(one => isMapping(one) && one.restartPolicy === "Always");
  return [...containers, ...stay].flatMap(container => {
    const ports = isMapping(container) ? list(container.ports, ["spec", "containers", "ports"], MAX_PORTS, faults) : [];
    return ports.flatMap((one): PolicyPod["ports"][number][] => {
      if (!isMapping(one) || typeof one.name !== "string" || one.name === "" || typeof one.containerPort !== "number") return [];
      const protocol = readProtocol(one.protocol, ["spec", "containers", "ports"], faults);
      return protocol ? [{ name: one.name, protocol, port: one.containerPort }] : [];
    });
  });
}
