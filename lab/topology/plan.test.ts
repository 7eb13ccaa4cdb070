import { expect, test } from "vitest";
import { topologyFile } from "../names.ts";
import { loadTopology } from "./load.ts";
import { hostAddress, labId, namespacePrefix, planLab } from "./plan.ts";

test("ids of labs", () => {
  expect(labId("rack")).toBe("rack");
  expect(labId("rack", "t1")).toBe("rack_t1");
  for (const bad of ["", "a-b", "a/b", "Rack", "x".repeat(17)]) {
    if (bad !== "") expect(() => labId("rack", bad)).toThrow(/cannot name a lab/);
    expect(() => labId(bad === "" ? "9" : bad)).toThrow(/cannot name a lab/);
  }
});

test("no lab's prefix is a prefix of another lab's namespaces", () => {
  const rack = namespacePrefix(labId("rack"));
  expect(`${namespacePrefix(labId("rack", "t1"))}node1`.startsWith(rack)).toBe(false);
  expect(`${namespacePrefix(labId("rack2"))}node1`.startsWith(rack)).toBe(false);
});

test("host numbers read the same in both families", () => {
  expect(hostAddress("172.16.1.0/24", 11)).toEqual({ address: "172.16.1.11", length: 24 });
  expect(hostAddress("fd00:172:16:1::/64", 11)).toEqual({ address: "fd00:172:16:1::11", length: 64 });
  expect(hostAddress("10.0.0.0/16", 300)).toEqual({ address: "10.0.1.44", length: 16 });
  expect(hostAddress("fd00::/64", 12345)).toEqual({ address: "fd00::1:2345", length: 64 });
});

test("the rack: switches inside their routers, two links per node", () => {
  const plan = planLab(loadTopology(topologyFile("rack")));
  expect(plan.links.map(link => [link.kind, link.bridgeNamespace])).toEqual([
    ["inside", "lab-rack-tor-a"],
    ["inside", "lab-rack-tor-b"],
  ]);
  const node1 = plan.machines.find(machine => machine.name === "node1");
  expect(node1?.interfaces.map(each => [each.interface, ...each.addresses.map(({ address }) => address)])).toEqual([
    ["eth0", "172.16.1.11", "fd00:172:16:1::11"],
    ["eth1", "172.16.2.11", "fd00:172:16:2::11"],
  ]);
  expect(plan.pods.map(pod => pod.namespace)).toContain("lab-rack-pod-node3-2");
  expect(plan.podSubnets.node2).toEqual(["10.244.2.0/24", "fd00:10:244:2::/64"]);
});
