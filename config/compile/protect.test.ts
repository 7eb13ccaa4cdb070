/** What a node guards against every neighbour, asked as import asks it. */
import { describe, expect, test } from "vitest";
import { forwardingFamily } from "../../bgpd/family.ts";
import { Guards } from "../../bgpd/rib/guards.ts";
import { parsePrefix } from "../../net/address.ts";
import { compile } from "../compile.ts";
import type { NodeFacts } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";

const node = {
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "n" },
  spec: { podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"] },
  status: { addresses: [{ type: "InternalIP", address: "10.0.0.1" }] },
};
const facts: NodeFacts = {
  name: "n",
  addresses: [
    { interface: "eth0", address: "10.0.0.1", prefixLength: 24 },
    { interface: "eth1", address: "172.20.3.4", prefixLength: 16 },
    { interface: "eth1", address: "2001:db8:20::4", prefixLength: 64 },
    { interface: "kube-ipvs0", address: "10.96.0.10", prefixLength: 32 },
  ],
  serviceAddresses: ["10.43.0.1"],
};
const podlane = (kind: string, spec: object) => ({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name: "x" }, spec });

function reasonsOf(objects: object[], prefixes: string[]): (string | undefined)[] {
  const { objects: read, problems } = readDocuments([node, ...objects].map(one => JSON.stringify(one)).join("\n---\n"), "test");
  expect(problems).toEqual([]);
  const { speaker } = compile(collect(read.map(({ object }) => object)).resources, facts);
  const guards = new Guards((speaker?.protectedPrefixes ?? []).map(one => ({ ...one, prefix: parsePrefix(one.prefix) })));
  return prefixes.map(prefix => {
    const { family, address, length } = parsePrefix(prefix);
    return guards.find(forwardingFamily(family), address, 0, length)?.reason;
  });
}

describe("without any object but the Node", () => {
  test.each([
    ["10.244.1.128/25", "pod subnet of this node"],
    ["10.244.1.7/32", "pod subnet of this node"],
    ["fd00:10:244:1::/65", "pod subnet of this node"],
    ["0.0.0.0/0", "default route"],
    ["::/0", "default route"],
    ["0.0.0.0/1", "shorter than /8"],
    ["128.0.0.0/2", "shorter than /8"],
    ["10.0.0.0/7", "shorter than /8"],
    ["2000::/3", "shorter than /16"],
    ["8000::/1", "shorter than /16"],
    ["10.0.0.0/24", "node network"],
    ["10.0.0.128/25", "node network"],
    ["172.20.0.0/16", "connected network of eth1"],
    ["172.20.3.4/32", "connected network of eth1"],
    ["2001:db8:20::/65", "connected network of eth1"],
    ["10.96.0.10/32", "connected network of kube-ipvs0"],
    ["10.43.0.1/32", "service range"],
    ["0.1.0.0/16", 'addresses of "this network" (RFC 1122)'],
    ["169.254.169.254/32", "link-local addresses (RFC 3927)"],
    ["240.0.0.0/4", "reserved addresses (RFC 1112)"],
    ["255.1.0.0/16", "reserved addresses (RFC 1112)"],
    ["::ffff:0:0/96", "unspecified, IPv4-compatible and IPv4-mapped addresses (RFC 4291)"],
    ["fec0:1::/32", "site-local addresses (RFC 3879)"],
    ["10.0.0.0/8", undefined],
    ["10.244.0.0/16", undefined],
    ["10.96.0.0/12", undefined],
    ["fd00::/16", undefined],
    ["64:ff9b::/96", undefined],
    ["2001:db8::/32", undefined],
  ])("%s: %s", (prefix, reason) => expect(reasonsOf([], [prefix])).toEqual([reason]));
});

test("service ranges: of the fabric, and of any PodNetwork, also one for other nodes", () => {
  const fabric = podlane("Fabric", { nodeSelector: {}, asn: 65001, serviceCIDRs: ["10.96.0.0/16", "fd00:96::/108"] });
  const network = podlane("PodNetwork", { nodeSelector: { matchLabels: { other: "nodes" } }, serviceCIDRs: ["10.97.0.0/16"] });
  const asked = ["10.96.0.1/32", "10.96.0.10/32", "fd00:96::/112", "10.97.0.0/16", "10.98.0.0/16"];
  const service = "service range";
  expect(reasonsOf([fabric, network], asked)).toEqual([service, service, service, service, undefined]);
});

test("what is guarded for several reasons keeps all of it", () => {
  const fabric = podlane("Fabric", { nodeSelector: {}, asn: 65001, protectedPrefixes: [{ prefix: "0.0.0.0/1", reason: "ours" }] });
  expect(reasonsOf([fabric], ["0.0.0.0/1", "11.0.0.0/24", "128.0.0.0/1"])).toEqual(["ours", "ours", "shorter than /8"]);
});
