/** What the plan says of addresses that no Service may have. */
import { expect, test } from "vitest";
import { compile } from "../compile.ts";
import type { NodeFacts } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";

const node = (name: string, podCIDRs: string[], addresses: string[]) => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name },
  spec: { podCIDRs },
  status: { addresses: addresses.map(address => ({ type: "InternalIP", address })) },
});
const podlane = (kind: string, name: string, spec: object) => ({
  apiVersion: "podlane.io/v1alpha1",
  kind,
  metadata: { name },
  spec: { nodeSelector: {}, ...spec },
});

test("addresses of nodes and neighbours and pod subnets are reserved, but none that a link has of a Service", () => {
  const objects = [
    node("n1", ["10.244.1.0/24"], ["10.0.0.1"]),
    node("n2", ["10.244.2.0/24", "FD00:2::/64"], ["10.0.0.2", "FD00:1::2"]),
    podlane("Fabric", "main", { asn: 65001, serviceCIDRs: ["10.96.0.0/16"] }),
    podlane("Peer", "tor", { address: "2001:DB8:0::1", asn: 65010, import: { default: "Reject" } }),
    podlane("Advertisement", "vips", {
      type: "Service",
      peers: ["tor"],
      service: { addresses: ["ExternalIP"], externalRanges: ["2001:DB8::/32", "192.0.2.0/24"], selector: {} },
    }),
  ];
  const facts: NodeFacts = {
    name: "n1",
    addresses: [
      { interface: "eth0", address: "10.0.0.1", prefixLength: 24 },
      { interface: "eth1", address: "172.20.3.4", prefixLength: 16 },
      { interface: "dns", address: "10.96.0.10", prefixLength: 32 },
      { interface: "nodelocaldns", address: "10.97.0.10", prefixLength: 32 },
    ],
  };
  const read = readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test");
  expect(read.problems).toEqual([]);
  const { services } = compile(collect(read.objects.map(({ object }) => object)).resources, facts);
  expect(services?.rules[0].externalRanges).toEqual(["2001:db8::/32", "192.0.2.0/24"]);
  expect(Object.fromEntries((services?.reserved ?? []).map(({ reason, prefixes }) => [reason, prefixes]))).toEqual({
    "an address of this node": ["10.0.0.1/32", "172.20.3.4/32"],
    "the InternalIP of a node": ["10.0.0.1/32", "10.0.0.2/32", "fd00:1::2/128"],
    "the address of a neighbour": ["10.0.0.2/32", "2001:db8::1/128"],
    "a pod subnet": ["10.244.1.0/24", "10.244.2.0/24", "fd00:2::/64"],
  });
});
