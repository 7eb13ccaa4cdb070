/** For tests: pools and Services in few words. */
import type { AddressPool } from "../resources/kinds.ts";
import { type BalancedService, readBalanced } from "./balanced.ts";

export function pool(name: string, addresses: string[], spec: Partial<AddressPool["spec"]> = {}): AddressPool {
  return {
    apiVersion: "podlane.io/v1alpha1",
    kind: "AddressPool",
    metadata: { name, labels: {}, annotations: {} },
    spec: { addresses, autoAssign: true, avoidBuggyIPs: false, ...spec },
  };
}

export function pools(...all: AddressPool[]): Map<string, AddressPool> {
  return new Map(all.map(one => [one.metadata.name, one]));
}

interface Parts {
  metadata?: object;
  spec?: object;
  annotations?: Record<string, string>;
  has?: string[];
  /** Whole entries of its status. */
  ingress?: object[];
}

export function balanced(name: string, { metadata = {}, spec = {}, annotations = {}, has = [], ingress }: Parts = {}): BalancedService {
  return readBalanced({
    metadata: { name, namespace: "default", uid: `uid-${name}`, resourceVersion: "1", annotations, ...metadata },
    spec: { type: "LoadBalancer", ipFamilies: ["IPv4"], ports: [{ port: 80, protocol: "TCP" }], ...spec },
    status: { loadBalancer: { ingress: ingress ?? has.map(ip => ({ ip })) } },
  });
}
