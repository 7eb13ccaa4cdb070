import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { nodeFacts } from "./facts.ts";

const netlink = { links: () => [], addresses: () => [] } as unknown as Parameters<typeof nodeFacts>[1];

test("addresses of Services that kube-proxy puts on a device of its own are not the node's, nor are those of tunnels", () => {
  const address = (ifindex: number, text: string) => ({ ifindex, address: parseAddress(text), prefixLength: 24, scope: 0, flags: 0 });
  const links = [
    { index: 2, name: "eth0" },
    { index: 3, name: "kube-ipvs0" },
    { index: 4, name: "podlane.vx4", kind: "vxlan", alias: "podlane overlay" },
  ];
  const kernel = { links: () => links, addresses: () => [address(2, "192.0.2.1"), address(3, "192.0.2.5"), address(4, "10.244.1.1")] };
  const facts = nodeFacts("n", kernel as unknown as Parameters<typeof nodeFacts>[1], "podlane0", {});
  expect(facts.addresses).toEqual([{ interface: "eth0", address: "192.0.2.1", prefixLength: 24 }]);
});

test.each([
  ["10.96.0.1", ["10.96.0.1"]],
  ["fd00:96::1", ["fd00:96::1"]],
  ["kubernetes.default", undefined],
  [undefined, undefined],
])("the API server's service address is what a pod's environment says: %s", (host, expected) => {
  const facts = nodeFacts("n", netlink, "podlane0", { KUBERNETES_SERVICE_HOST: host });
  expect(facts.serviceAddresses).toEqual(expected);
  for (const address of facts.serviceAddresses ?? []) parseAddress(address);
});
