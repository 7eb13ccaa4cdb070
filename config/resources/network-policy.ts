/** networking.k8s.io/v1 NetworkPolicy -> what is read of it. A policy only lets through: what cannot be read of it lets nothing through. */
import { AddressError, formatPrefix, parsePrefix } from "../../net/address.ts";
import type { NetworkPolicyObject, PolicyBlock, PolicyPeer, PolicyPort, PolicyRule } from "../../netfilter/policy/types.ts";
import { MAX_ENTRIES, notUnderstood, readPort, readProtocol, readRange, readSelector } from "./policy-values.ts";
import { isSet, list, mapping, show } from "./raw.ts";
import type { Fault, Path } from "./validate.ts";

/** What is wrong, and what is not understood. */
export interface Findings {
  faults: Fault[];
  warnings: Fault[];
}

type Name = Pick<NetworkPolicyObject, "key" | "namespace" | "name">;

/** undefined: it cannot be told which pods it selects. With faults: what can be read, which lets less through. */
export function readNetworkPolicy(name: Name, value: unknown, found: Findings): NetworkPolicyObject | undefined {
  const { faults } = found;
  const spec = mapping(value, ["spec"], faults);
  const pods = readSelector(spec.podSelector, ["spec", "podSelector"], faults);
  const types = list(spec.policyTypes, ["spec", "policyTypes"], MAX_ENTRIES, faults);
  for (const [i, type] of types.entries())
    if (type !== "Ingress" && type !== "Egress")
      faults.push({ path: ["spec", "policyTypes", i], message: `${show(type)} is not known`, remedy: "write Ingress or Egress" });
  // What it isolates must not depend on what cannot be read.
  const unsure =
    !types.every(type => type === "Ingress" || type === "Egress") || (isSet(spec.policyTypes) && !Array.isArray(spec.policyTypes));
  const isolates = (type: "Ingress" | "Egress") =>
    unsure || (types.length > 0 ? types.includes(type) : type === "Ingress" || list(spec.egress, [], MAX_ENTRIES, []).length > 0);
  const ingress = readRules(spec.ingress, "ingress", "from", found);
  const egress = readRules(spec.egress, "egress", "to", found);
  return pods && { ...name, pods, ...(isolates("Ingress") && { ingress }), ...(isolates("Egress") && { egress }) };
}

function readRules(value: unknown, direction: "ingress" | "egress", of: "from" | "to", found: Findings): PolicyRule[] {
  const path = ["spec", direction];
  return list(value, path, MAX_ENTRIES, found.faults).flatMap((one, i): PolicyRule[] => {
    const rule = mapping(one, [...path, i], found.faults);
    if (Object.keys(rule).some(field => field !== of && field !== "ports" && isSet(rule[field]))) {
      found.warnings.push(notUnderstood([...path, i], rule, "the rule lets nothing through"));
      return [];
    }
    const peers = readAll(rule[of], [...path, i, of], found, readPeer);
    const ports = readAll(rule.ports, [...path, i, "ports"], found, readPolicyPort);
    if (!peers || !ports) return [];
    return [{ ...(peers.length > 0 && { peers }), ...(ports.length > 0 && { ports }) }];
  });
}

/** Empty: everybody, or every port. undefined: something is said, and nothing of it can be read, which must not become everybody. */
function readAll<T>(value: unknown, path: Path, found: Findings, read: (one: unknown, path: Path, found: Findings) => T | undefined) {
  const all = list(value, path, MAX_ENTRIES, found.faults);
  const good = all.flatMap((one, i): T[] => {
    const entry = read(one, [...path, i], found);
    return entry === undefined ? [] : [entry];
  });
  const isEmpty = !isSet(value) || (Array.isArray(value) && all.length === 0);
  return good.length > 0 || isEmpty ? good : undefined;
}

function readPeer(value: unknown, path: Path, found: Findings): PolicyPeer | undefined {
  const { podSelector, namespaceSelector, ipBlock, ...others } = mapping(value, path, found.faults);
  const isSelector = isSet(podSelector) || isSet(namespaceSelector);
  if (isSet(ipBlock) === isSelector || Object.values(others).some(isSet)) {
    if (isSelector && isSet(ipBlock))
      found.faults.push({ path, message: "has both ipBlock and a selector", remedy: "make two entries of it" });
    else found.warnings.push(notUnderstood(path, value, "this peer is nobody"));
    return undefined;
  }
  if (isSet(ipBlock)) {
    const block = readBlock(ipBlock, [...path, "ipBlock"], found.faults);
    return block && { block };
  }
  const before = found.faults.length;
  const pods = isSet(podSelector) ? readSelector(podSelector, [...path, "podSelector"], found.faults) : undefined;
  const namespaces = isSet(namespaceSelector) ? readSelector(namespaceSelector, [...path, "namespaceSelector"], found.faults) : undefined;
  return found.faults.length > before ? undefined : { ...(pods && { pods }), ...(namespaces && { namespaces }) };
}

function readBlock(value: unknown, path: Path, faults: Fault[]): PolicyBlock | undefined {
  const { cidr, except } = mapping(value, path, faults);
  const before = faults.length;
  const network = readNetwork(cidr, [...path, "cidr"], faults);
  const excepted = list(except, [...path, "except"], MAX_ENTRIES, faults).map((one, i) => readNetwork(one, [...path, "except", i], faults));
  // Without one of its exceptions it would let more through.
  return network === undefined || faults.length > before ? undefined : { cidr: network, except: excepted as string[] };
}

/** Canonical. The API server takes bits beyond the length, and means the network. */
export function readNetwork(value: unknown, path: Path, faults: Fault[]): string | undefined {
  try {
    return formatPrefix(parsePrefix(String(value), "clear"));
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    faults.push({ path, message: `${show(value)} is no address block`, remedy: "write it like 192.0.2.0/24 or 2001:db8::/32" });
    return undefined;
  }
}

function readPolicyPort(value: unknown, path: Path, found: Findings): PolicyPort | undefined {
  const { faults, warnings } = found;
  const { protocol: given, port, endPort, ...others } = mapping(value, path, faults);
  if (Object.values(others).some(isSet)) {
    warnings.push(notUnderstood(path, value, "this port is none"));
    return undefined;
  }
  const before = faults.length;
  const protocol = readProtocol(given, [...path, "protocol"], faults);
  const number = isSet(port) ? readPort(port, [...path, "port"], faults) : undefined;
  if (!protocol || faults.length > before) return undefined;
  if (isSet(endPort)) return readRange(protocol, number, endPort, [...path, "endPort"], faults);
  return { protocol, ...(number !== undefined && { port: number }) };
}
