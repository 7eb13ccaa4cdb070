/**
 * policy.networking.k8s.io ClusterNetworkPolicy (v1beta1, v1alpha2), and of v1alpha1 AdminNetworkPolicy and BaselineAdminNetworkPolicy -> what is read of them.
 * As their API wants, a rule with something that is not understood fails closed: Accept matches nothing, the others deny all.
 */
import type { ClusterPolicyObject, PolicyPort, TierPeer, TierRule } from "../../netfilter/policy/types.ts";
import { type Findings, readNetwork } from "./network-policy.ts";
import { chosen, MAX_ENTRIES, notUnderstood, readPort, readProtocol, readRange, readSelector } from "./policy-values.ts";
import { isSet, list, mapping, show } from "./raw.ts";
import type { Fault, Path } from "./validate.ts";

export type ClusterPolicyKind = "ClusterNetworkPolicy" | "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy";
type Direction = "ingress" | "egress";

const HIGHEST_PRIORITY = 1000;
const actions = { Accept: "Accept", Allow: "Accept", Deny: "Deny", Pass: "Pass" } as const;
const everybody: readonly TierPeer[] = [{ networks: ["0.0.0.0/0", "::/0"] }];

/** undefined: it cannot be told which pods it selects, or when its turn is. With faults: what can be read, which lets less through. */
export function readClusterPolicy(kind: ClusterPolicyKind, name: string, value: unknown, found: Findings): ClusterPolicyObject | undefined {
  const spec = mapping(value, ["spec"], found.faults);
  const tier = readTier(kind, spec.tier, found.faults);
  const priority = kind === "BaselineAdminNetworkPolicy" ? 0 : readPriority(spec.priority, found.faults);
  const subject = readSubject(spec.subject, found);
  const ingress = readRules(spec.ingress, "ingress", found);
  const egress = readRules(spec.egress, "egress", found);
  if (!tier || priority === undefined || !subject) return undefined;
  return { key: `${kind}/${name}`, name, tier, priority, subject, ingress, egress };
}

function readTier(kind: ClusterPolicyKind, value: unknown, faults: Fault[]): ClusterPolicyObject["tier"] | undefined {
  if (kind !== "ClusterNetworkPolicy") return kind === "AdminNetworkPolicy" ? "Admin" : "Baseline";
  if (value === "Admin" || value === "Baseline") return value;
  faults.push({ path: ["spec", "tier"], message: `${show(value)} is not known`, remedy: "write Admin or Baseline" });
  return undefined;
}

function readPriority(value: unknown, faults: Fault[]): number | undefined {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= HIGHEST_PRIORITY) return value;
  faults.push({ path: ["spec", "priority"], message: `${show(value)} is no priority`, remedy: `write 0 to ${HIGHEST_PRIORITY}` });
  return undefined;
}

function readSubject(value: unknown, { faults }: Findings): ClusterPolicyObject["subject"] | undefined {
  const path = ["spec", "subject"];
  const field = chosen(value, ["namespaces", "pods"]);
  if (field) return readPods(field, (value as Record<string, unknown>)[field], [...path, field], faults);
  faults.push({ path, message: "says neither namespaces nor pods", remedy: "write one of them" });
  return undefined;
}

function readPods(field: string, value: unknown, path: Path, faults: Fault[]): ClusterPolicyObject["subject"] | undefined {
  if (field === "namespaces") {
    const namespaces = readSelector(value, path, faults);
    return namespaces && { namespaces };
  }
  const { namespaceSelector, podSelector } = mapping(value, path, faults);
  const namespaces = readSelector(namespaceSelector, [...path, "namespaceSelector"], faults);
  const pods = readSelector(podSelector, [...path, "podSelector"], faults);
  return namespaces && pods && { pods: { namespaces, pods } };
}

function readRules(value: unknown, direction: Direction, found: Findings): TierRule[] {
  const path = ["spec", direction];
  return list(value, path, MAX_ENTRIES, found.faults).flatMap((one, i) => readRule(one, direction, [...path, i], found) ?? []);
}

/** undefined: it lets nothing through, and that is all that it could do. */
function readRule(value: unknown, direction: Direction, path: Path, found: Findings): TierRule | undefined {
  const of = direction === "ingress" ? "from" : "to";
  const rule = mapping(value, path, found.faults);
  const { name, action: given } = rule;
  const named = typeof name === "string" && name !== "" ? { name: name.slice(0, 100) } : {};
  const action = typeof given === "string" && Object.hasOwn(actions, given) ? actions[given as keyof typeof actions] : undefined;
  if (!action)
    found.faults.push({ path: [...path, "action"], message: `${show(given)} is not known`, remedy: "write Accept, Deny or Pass" });
  const before = found.faults.length + found.warnings.length;
  const closes = action === "Accept" ? "nobody" : "everybody, whom it denies";
  const peers = readPeers(rule[of], direction, [...path, of], closes, found);
  const [field, read] = isSet(rule.protocols) ? (["protocols", readProtocols] as const) : (["ports", readAdminPort] as const);
  const ports = list(rule[field], [...path, field], MAX_ENTRIES, found.faults).flatMap((one, i) => read(one, [...path, field, i], found));
  const isUnsure = found.faults.length + found.warnings.length > before || peers.length === 0;
  if (action && action !== "Accept" && isUnsure) return { ...named, action: "Deny", peers: everybody };
  // An unknown action may have been to deny.
  if (!action) return { ...named, action: "Deny", peers: everybody };
  if (peers.length === 0 || (isSet(rule[field]) && ports.length === 0)) return undefined;
  return { ...named, action, peers, ...(ports.length > 0 && { ports }) };
}

function readPeers(value: unknown, direction: Direction, path: Path, closes: string, found: Findings): TierPeer[] {
  const all = list(value, path, MAX_ENTRIES, found.faults);
  if (all.length === 0) found.faults.push({ path, message: "is empty", remedy: "name at least one peer" });
  const known = direction === "ingress" ? ["namespaces", "pods"] : ["namespaces", "pods", "nodes", "networks"];
  return all.flatMap((one, i): TierPeer[] => {
    const field = chosen(one, known);
    if (!field) {
      found.warnings.push(notUnderstood([...path, i], one, `this peer is ${closes}`));
      return [];
    }
    const peer = readPeer(field, (one as Record<string, unknown>)[field], [...path, i, field], found.faults);
    return peer ? [peer] : [];
  });
}

function readPeer(field: string, value: unknown, path: Path, faults: Fault[]): TierPeer | undefined {
  if (field === "nodes") {
    const nodes = readSelector(value, path, faults);
    return nodes && { nodes };
  }
  if (field !== "networks") return readPods(field, value, path, faults);
  const networks = list(value, path, MAX_ENTRIES, faults).flatMap((one, i) => readNetwork(one, [...path, i], faults) ?? []);
  return networks.length > 0 ? { networks } : undefined;
}

/** ClusterNetworkPolicy: `tcp: { destinationPort: { number: 80 } }`. A name alone is that of a port of any protocol. */
function readProtocols(value: unknown, path: Path, found: Findings): PolicyPort[] {
  const field = chosen(value, ["tcp", "udp", "sctp", "destinationNamedPort"]);
  if (!field) {
    found.warnings.push(notUnderstood(path, value, "no packet is of this protocol"));
    return [];
  }
  const one = (value as Record<string, unknown>)[field];
  if (field === "destinationNamedPort") return named(one, [...path, field], found.faults);
  const protocol = readProtocol(field.toUpperCase(), [...path, field], found.faults);
  const { destinationPort, ...others } = mapping(one, [...path, field], found.faults);
  if (!protocol) return [];
  if (Object.values(others).some(isSet)) {
    found.warnings.push(notUnderstood([...path, field], one, "no packet is of this protocol"));
    return [];
  }
  if (!isSet(destinationPort)) return [{ protocol }];
  const at = [...path, field, "destinationPort"];
  const { number, range } = mapping(destinationPort, at, found.faults);
  if (isSet(range)) {
    const { start, end } = mapping(range, [...at, "range"], found.faults);
    const read = readRange(protocol, start, end, [...at, "range"], found.faults);
    return read ? [read] : [];
  }
  const port = readPort(number, [...at, "number"], found.faults);
  return port === undefined ? [] : [{ protocol, port }];
}

/** v1alpha1: `portNumber: { protocol: TCP, port: 80 }`. */
function readAdminPort(value: unknown, path: Path, found: Findings): PolicyPort[] {
  const field = chosen(value, ["portNumber", "portRange", "namedPort"]);
  if (!field) {
    found.warnings.push(notUnderstood(path, value, "no packet is to this port"));
    return [];
  }
  const one = (value as Record<string, unknown>)[field];
  if (field === "namedPort") return named(one, [...path, field], found.faults);
  const { protocol: given, port, start, end } = mapping(one, [...path, field], found.faults);
  const protocol = readProtocol(given, [...path, field, "protocol"], found.faults);
  if (!protocol) return [];
  if (field === "portRange") {
    const read = readRange(protocol, start, end, [...path, field], found.faults);
    return read ? [read] : [];
  }
  const number = readPort(port, [...path, field, "port"], found.faults);
  return number === undefined ? [] : [{ protocol, port: number }];
}

function named(value: unknown, path: Path, faults: Fault[]): PolicyPort[] {
  const port = readPort(value, path, faults);
  return port === undefined ? [] : (["TCP", "UDP", "SCTP"] as const).map(protocol => ({ protocol, port }));
}
